"""The core in three browser engines against a real JupyterLab: panel, tabs by both forms, WebSocket, upload, download, logins."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from ..support.jupyter_processes import TOKEN, jupyter_server
from .account_app import Account, account
from .conftest import without_news
from .engines import HEIGHT, VISIBLE, WIDTH, ChromiumWindow, Window
from .firefox import firefox
from .webkit import webkit

PICTURES = Path(__file__).parents[2] / "artifacts"
ADD_FRAME = """url => {
  const frame = document.createElement("iframe");
  frame.id = "control";
  frame.src = url;
  document.body.append(frame);
}"""
FRAME = ".jp-PortProxy-frame iframe"


@dataclass(frozen=True)
class Expected:
    """What an engine does on http://localhost.

    Attributes:
        keeps_session: a frame of an isolated origin keeps the session's cookie: tabs of JupyterLab are at isolated origins.
        cookies: those of the service's login that the browser keeps, wherever the page is.
    """

    keeps_session: bool
    cookies: str


# WebKit drops `Secure` cookies of http://localhost, also without a proxy.
EXPECTED = {
    "chromium": Expected(keeps_session=True, cookies="lax_login secure_login"),
    "firefox": Expected(keeps_session=True, cookies="lax_login secure_login"),
    "webkit": Expected(keeps_session=False, cookies="lax_login"),
}
USUAL, PATH_BASED = "usual settings", "path-based URLs"
pytestmark = pytest.mark.timeout(120)


@dataclass(frozen=True)
class Tab:
    """A tab of JupyterLab that shows the service. `is_path_wanted`: the user has switched isolated origins off."""

    lab: Window
    expected: Expected
    service: Account
    jupyter: str
    is_path_wanted: bool

    @property
    def path_based(self) -> str:
        return f"{self.jupyter}proxy/port/{self.service.port}/"

    @property
    def isolated(self) -> str:
        return f"http://p{self.service.port}.localhost:{urlsplit(self.jupyter).port}/"

    @property
    def frame_url(self) -> str:
        return self.isolated if self.expected.keeps_session and not self.is_path_wanted else self.path_based

    @property
    def outside_url(self) -> str:
        """The URL that a browser tab must have."""
        return self.path_based if self.is_path_wanted else self.isolated


@pytest.fixture(scope="module")
def service():
    with account() as running:
        yield running


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    home = tmp_path_factory.mktemp("engines")
    without_news(home)
    with jupyter_server(home, f"--ServerApp.root_dir={home}") as running:
        yield running


def open_lab(lab: Window, url: str) -> None:
    lab.open(url)
    lab.wait(
        "() => Boolean(document.querySelector('#jp-left-stack')) && !document.querySelector('#jupyterlab-splash')", timeout=60
    )


@contextlib.contextmanager
def chromium_window(browser: Browser) -> Iterator[tuple[str, Window]]:
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    yield browser.version, ChromiumWindow(context.new_page())
    context.close()


@pytest.fixture(scope="module", params=itertools.product(EXPECTED, (USUAL, PATH_BASED)), ids="-".join)
def tab(request, chromium, jupyter, service, tmp_path_factory):
    """Opened from the panel, where the service is listed by the title of its page, in a browser that knows nothing yet."""
    engine, form = request.param
    raw = json.dumps({"isolate": False} if form == PATH_BASED else {})
    assert jupyter.call("PUT", "lab/api/settings/jupyter-portproxy:plugin", {"raw": raw})[0] == 204
    url = jupyter.url.replace("127.0.0.1", "localhost")
    home = tmp_path_factory.mktemp(engine)
    window = {"chromium": lambda: chromium_window(chromium), "firefox": lambda: firefox(home), "webkit": lambda: webkit(home)}
    with window[engine]() as (version, lab):
        print(f"{engine} {version}")
        open_lab(lab, f"{url}lab?token={TOKEN}&reset")
        row = f'.jp-PortProxy-row[data-port="{service.port}"]'
        lab.click('[data-id="jp-portproxy-panel"]')
        lab.wait_for_text(f"{row} .jp-PortProxy-label", "Account")
        lab.click(f"{row} .jp-PortProxy-name")
        yield Tab(lab, EXPECTED[engine], service, url, form == PATH_BASED)
        PICTURES.mkdir(exist_ok=True)
        lab.screenshot(PICTURES / f"{engine}-{form.replace(' ', '-')}.png")


OPEN_MENU = """selector => {
  const row = document.querySelector(selector);
  const { x, y } = row.getBoundingClientRect();
  row.dispatchEvent(new MouseEvent("contextmenu", { bubbles: true, cancelable: true, clientX: x + 9, clientY: y + 9 }));
}"""
CHOOSE = """selector => {
  const item = document.querySelector(selector);
  const { x, y } = item.getBoundingClientRect();
  for (const type of ["pointermove", "pointerup"]) {
    item.dispatchEvent(new PointerEvent(type, { bubbles: true, clientX: x + 5, clientY: y + 5 }));
  }
}"""
PRESS = """(selector, text) => {
  const found = [...document.querySelectorAll(selector)].find(element => element.textContent.includes(text));
  found?.click();
  return Boolean(found);
}"""


def address(window: Window, frame: str = "") -> str:
    return window.evaluate("() => location.href", frame=frame)


def check_socket(window: Window, frame: str = "") -> None:
    window.wait_for_text("#text", "echo: hello", frame)
    window.wait_for_text("#bytes", "100000 bytes", frame)


def log_in(window: Window, cookies: str, frame: str = "") -> None:
    """By a form, which leads back to the page; what it has set is there after a reload, too."""
    window.click("form button", frame)
    window.wait_for_text("#cookies", cookies, frame)
    window.evaluate("() => { window.isOld = true; location.reload(); }", frame=frame)
    window.wait("() => !window.isOld && document.querySelector('#cookies') !== null", frame=frame)
    window.wait_for_text("#cookies", cookies, frame)
    assert window.evaluate("() => document.querySelector('#cookies').textContent", frame=frame) == cookies


def test_a_tab_shows_the_service_at_the_address_that_works_there(tab):
    tab.lab.wait_for_text("h1", "Account", FRAME)
    assert address(tab.lab, FRAME) == tab.frame_url


def test_a_websocket_echoes(tab):
    check_socket(tab.lab, FRAME)


def test_an_upload_arrives_byte_by_byte(tab, tmp_path):
    tab.service.uploads.clear()
    file = tmp_path / "file.bin"
    file.write_bytes(tab.service.content)
    tab.lab.choose_file("#file", file, FRAME)
    tab.lab.wait_for_text("#upload", f"{len(tab.service.content)} bytes arrived", FRAME)
    assert tab.service.uploads == [tab.service.content]


def test_a_download_is_saved_and_the_page_stays(tab):
    assert tab.lab.download("#save", FRAME) == ("saved.bin", tab.service.content)
    assert address(tab.lab, FRAME) == tab.frame_url


def test_logins_are_kept(tab):
    """The service's, and the session of the isolated origin."""
    log_in(tab.lab, tab.expected.cookies, FRAME)
    assert address(tab.lab, FRAME) == tab.frame_url


def test_a_tab_is_there_again_after_a_reload_of_jupyterlab(tab):
    tab.lab.wait("async url => (await (await fetch(url)).text()).includes('portproxy-tabs:')", "/lab/api/workspaces/default")
    open_lab(tab.lab, f"{tab.jupyter}lab")
    check_socket(tab.lab, FRAME)
    assert address(tab.lab, FRAME) == tab.frame_url


def test_a_browser_tab_keeps_the_session_in_every_engine(tab):
    other = tab.lab.opened_by(lambda: tab.lab.click('[title="Open in a browser tab"]'))
    check_socket(other)
    log_in(other, tab.expected.cookies)
    assert address(other) == tab.outside_url
    other.close()


def test_a_frame_that_loses_the_session_says_so(tab):
    """The positive control for the choice of the address: a frame that is at the isolated origin whatever the engine does."""
    tab.lab.evaluate(ADD_FRAME, f"{tab.jupyter}proxy/enter/{tab.service.port}/")
    host = urlsplit(tab.isolated).netloc
    text = "Cookies:" if tab.expected.keeps_session else f"Your browser keeps no cookie of {host}."
    tab.lab.wait_for_text("body", text, "#control")
    tab.lab.evaluate("() => document.getElementById('control').remove()")


@pytest.mark.parametrize("tab", [(engine, USUAL) for engine in EXPECTED], indirect=True, ids="-".join)
def test_a_page_is_diagnosed_and_its_requests_are_recorded(tab):
    """By the link of the error page, and from the context menu of a row; a recording is saved as a file."""
    tab.lab.wait_for_text("h1", "Account", FRAME)
    open_lab(tab.lab, f"{tab.jupyter}lab?portproxy-diagnose={tab.service.port}&reset")
    view, service = ".jp-PortProxy-inspection", f"/proxy/port/{tab.service.port}/"
    tab.lab.wait_for_text(view, "is requested when you press Diagnose.")
    tab.lab.wait(PRESS, f"{view} button", "Diagnose")
    tab.lab.wait_for_text(f"{view} [role=status]", "Nothing wrong was found.")
    tab.lab.click('[data-id="jp-portproxy-panel"]')
    row = f'.jp-PortProxy-row[data-port="{tab.service.port}"]'
    tab.lab.wait_for_text(f"{row} .jp-PortProxy-label", "Account")
    tab.lab.evaluate(OPEN_MENU, row)
    item = '.lm-Menu-item[data-command="portproxy:show-requests"]'
    tab.lab.wait(VISIBLE, item)
    tab.lab.evaluate(CHOOSE, item)
    table = ".jp-PortProxy-requests"
    tab.lab.wait_for_text(f"{view}:has([type=search])", "Save as HAR")
    query = type(tab.lab).__name__  # what another engine has recorded is still there
    tab.lab.evaluate("async url => (await fetch(url)).status", f"{service}?{query}=planted")
    tab.lab.wait_for_text(table, f"?{query}=***")
    tab.lab.wait(PRESS, f"{table} button", f"?{query}=***")
    tab.lab.wait_for_text(table, "Content-Type: text/html")
    tab.lab.wait(PRESS, f"{table} button", "Copy as curl")
    tab.lab.wait_for_text(table, "Copied")
    name, archive = tab.lab.download(".jp-PortProxy-inspectionBar:has([type=search]) button")
    assert name == f"{tab.service.port}.har"
    assert json.loads(archive)["log"]["entries"][-1]["response"]["status"] == 200
