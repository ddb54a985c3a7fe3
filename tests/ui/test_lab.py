"""JupyterLab as a person uses it: tiles, the panel, tabs, logs and notices, in a real Chromium against a real server."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import re
import socket
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from ..support.forwarding import service as tcp_service
from ..support.jupyter_processes import TOKEN, jupyter_server
from ..support.upstreams import free_port
from .apps import HTML, caching, running
from .conftest import watch_errors, without_news
from .test_pages import DEMO

ROOT = Path(__file__).parents[2]
AXE = ROOT / "labextension" / "node_modules" / "axe-core" / "axe.min.js"
PICTURES = ROOT / "artifacts"
SCRIPTS = "/lab/extensions/jupyter-portproxy/static/"
MAX_SCRIPTS = 35_000  # bytes, compressed: what each page with the panel loads
MARKUP = "<img src=x onerror=\"document.title='owned'\">"
FILES = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1"]
OPENS = """import http.server, os, sys
os.stat(sys.argv[2])
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")"""
LISTENS = [
    *(sys.executable, "-c"),
    "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)",
    "{port}",
]
TEMPLATES = {
    "demo": {"title": "Demonstration", "command": [sys.executable, str(DEMO), "{port}"], "stop_timeout": 1},
    "asks": {
        "title": "Folder",
        "command": [*FILES, "-d", "{folder}", "{port}"],
        "arguments": [
            {"name": "folder", "label": "Folder", "default": ".", "kind": "path"},
            {"name": "level", "label": "Level", "kind": "number"},
        ],
        "stop_timeout": 1,
    },
    **{
        f"axe-{theme}": {"title": f"A {theme} one", "command": [sys.executable, str(DEMO), "{port}"], "stop_timeout": 1}
        for theme in ("light", "dark")
    },
    "pictured": {"title": "Pictured", "icon": "/static/favicons/favicon.ico?of=pictured", "command": [sys.executable, "-c", ""]},
    "database": {"title": "Database", "command": LISTENS, "protocol": "tcp", "stop_timeout": 1},
    "fails": {"title": "Broken", "command": [sys.executable, "-c", "print('this is why'); raise SystemExit(3)"]},
    "opens": {
        "title": "Opens a file",
        "command": [sys.executable, "-c", OPENS, "{port}", "{file}"],
        "arguments": [{"name": "file", "label": "File"}],
        "stop_timeout": 1,
    },
    "markup": {
        "title": MARKUP,
        "command": [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"],
        "stop_timeout": 1,
    },
}


@pytest.fixture(scope="module")
def lab_server(tmp_path_factory):
    home = tmp_path_factory.mktemp("lab")
    config = home / ".jupyter" / "jupyter_portproxy.d"
    config.mkdir(parents=True)
    (config / "mine.json").write_text(json.dumps(TEMPLATES))
    without_news(home)
    (home / "files").mkdir()
    (home / "files" / "data").mkdir()
    with jupyter_server(home, f"--ServerApp.root_dir={home / 'files'}") as running:
        yield running
        assert "Traceback" not in running.log, running.log


def open_lab(page: Page, url: str) -> None:
    page.goto(url, wait_until="commit")
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=60_000)
    page.wait_for_selector("#jp-left-stack, .jp-LauncherCard", state="attached", timeout=30_000)


@pytest.fixture
def lab(context, lab_server):
    """JupyterLab with its Ports panel open. What the page throws or logs as an error fails the test."""
    page = context.new_page()
    page.set_default_timeout(8000)
    errors = page.problems = watch_errors(page, console=True)
    page.scripts = scripts_of(page)
    open_lab(page, f"{lab_server.url}lab?token={TOKEN}&reset")
    page.wait_for_selector(".jp-LauncherCard", timeout=30_000)
    page.click('[data-id="jp-portproxy-panel"]')
    yield page
    picture(page, "last")  # for whoever looks into a failure
    for name in TEMPLATES:
        lab_server.call("DELETE", f"proxy/api/services/{name}")
    page.close()
    # What a framed service's own requests meet when it is stopped is the service's.
    assert [error for error in errors if not re.search(r"/proxy/(service|port|enter)/|//p[a-z0-9-]+\.localhost:", error)] == []


def scripts_of(page: Page) -> list[str]:
    """The URLs of the panel's scripts that the page loads from now on."""
    scripts: list[str] = []
    page.on("request", lambda request: scripts.append(request.url) if SCRIPTS in request.url else None)
    return scripts


def tile(page: Page, title: str):
    return page.locator(f'.jp-LauncherCard:has(p:text-is("{title}"))')


def row(page: Page, name: str):
    return page.locator(f'.jp-PortProxy-row[data-service="{name}"]')


def act(page: Page, name: str, action: str) -> None:
    row(page, name).hover()
    row(page, name).locator(f'button[title="{action}"]').click()


def picture(page: Page, name: str) -> None:
    PICTURES.mkdir(exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")


@contextlib.contextmanager
def listener(title: str = "A stranger", port: int = 0):
    """A web server of this test's process; its port."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = f"<title>{title}</title>".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port or free_port()), Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def origin_of_tab(lab: Page, lab_server) -> str:
    """The host of the page that a tab shows."""
    frames = [urlsplit(frame.url) for frame in lab.frames if frame != lab.main_frame and frame.url.startswith("http")]
    assert {str(frame.port) for frame in frames} == {str(urlsplit(lab_server.url).port)}
    return frames[0].hostname or ""


def test_a_service_from_its_tile_to_its_end(lab, lab_server):
    tile(lab, "Demonstration").click()
    lab.wait_for_selector("text=Demonstration is up.", timeout=15_000)
    expect(row(lab, "demo").locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Up")
    lab.click('.jp-toast-button:text-is("Open")')
    frame = lab.frame_locator(".jp-PortProxy-frame iframe")
    expect(frame.locator("#socket")).to_have_text("the service echoed: hello", timeout=10_000)
    expect(frame.locator("#events")).to_contain_text("it is", timeout=10_000)
    expect(lab.locator(".jp-PortProxy-address input")).to_have_value("/")
    assert origin_of_tab(lab, lab_server) == "pdemo.localhost"
    expect(lab.locator(".lm-TabBar-tab.jp-mod-current .lm-TabBar-tabLabel").first).to_have_text("Demonstration")
    row(lab, "demo").hover()
    picture(lab, "tab-light")

    act(lab, "demo", "Show log")
    expect(lab.locator(".jp-PortProxy-log")).to_contain_text("GET /socket", timeout=10_000)
    lab.click('.lm-TabBar-tabLabel:text-is("Demonstration")')

    act(lab, "demo", "Stop")
    expect(lab.locator(".jp-PortProxy-message")).to_contain_text("Demonstration: Stopped.", timeout=10_000)
    lab.click('.jp-PortProxy-message button:text-is("Start")')
    expect(frame.locator("#socket")).to_have_text("the service echoed: hello", timeout=15_000)

    until = time.monotonic() + 10  # JupyterLab saves what is open a while after the last change
    while "portproxy-tabs:" not in lab_server.get("lab/api/workspaces/default")[1]:
        assert time.monotonic() < until
        lab.wait_for_timeout(100)
    open_lab(lab, f"{lab_server.url}lab")
    expect(frame.locator("#socket")).to_have_text("the service echoed: hello", timeout=20_000)
    assert origin_of_tab(lab, lab_server) == "pdemo.localhost"


def test_what_speaks_no_http_has_the_command_that_reaches_it(lab, lab_server):
    """In the notification, in the row and in its menu; nothing opens a tab."""

    def copied() -> str:
        return lab.evaluate("navigator.clipboard.readText()")

    lab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    command = f"jupyter portproxy forward {{}} --server {lab_server.url}"
    tile(lab, "Database").click()
    lab.wait_for_selector("text=Database is up.", timeout=15_000)
    lab.click('.jp-toast-button:text-is("Copy forward command")')
    assert copied() == command.format("database")
    row(lab, "database").hover()
    titles = row(lab, "database").locator(".jp-PortProxy-action").evaluate_all("all => all.map(button => button.title)")
    assert titles == ["Copy forward command", "Show log", "Restart", "Stop"]
    picture(lab, "tcp")
    lab.evaluate("navigator.clipboard.writeText('')")
    row(lab, "database").locator(".jp-PortProxy-name").click()
    assert copied() == command.format("database")
    expect(lab.locator(".jp-PortProxy-frame")).to_have_count(0)

    def answers(connection: socket.socket) -> None:
        connection.sendall(b"RFB 003.008\n")

    with tcp_service(answers) as port:
        other = lab.locator(f'.jp-PortProxy-row[data-port="{port}"]')
        other.wait_for(timeout=10_000)
        other.click(button="right")
        expect(lab.locator('.lm-Menu-item:has-text("Open in a Lab Tab")')).to_have_class(re.compile("lm-mod-disabled"))
        lab.click('.lm-Menu-itemLabel:text-is("Copy Forward Command")')
        assert copied() == command.format(port)
    act(lab, "database", "Stop")
    expect(row(lab, "database").locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Stopped", timeout=10_000)


def test_the_form_asks_and_completes_paths(lab):
    tile(lab, "Folder").click()
    field = lab.locator('.jp-Dialog label:has-text("Folder") input')
    field.fill("da")
    expect(lab.locator("datalist option")).to_have_attribute("value", "data/")
    field.fill("")
    field.fill("data")
    lab.fill('.jp-Dialog label:has-text("Level") input', "5")
    lab.fill('.jp-Dialog label:has-text("Name") input', "asks")
    picture(lab, "form-light")
    lab.click('.jp-Dialog-button:has-text("Start")')
    lab.wait_for_selector("text=Folder is up.", timeout=15_000)
    expect(row(lab, "asks")).to_be_visible()


def test_the_form_stays_while_something_is_missing(lab):
    tile(lab, "Folder").click()
    field = lab.locator('.jp-Dialog label:has-text("Level") input')
    expect(lab.locator('.jp-Dialog label:has-text("Folder") input')).to_be_focused()
    lab.keyboard.press("Enter")
    expect(field).to_be_focused()  # it is pointed to
    field.fill("5")
    lab.keyboard.press("Enter")
    expect(lab.locator(".jp-Dialog")).to_have_count(0)
    lab.wait_for_selector("text=Folder is up.", timeout=15_000)


def test_a_tile_has_the_picture_of_its_template(lab):
    picture = tile(lab, "Pictured").locator("svg image")
    expect(picture).to_have_attribute("href", re.compile(r"^http.*/static/favicons/favicon\.ico\?of=pictured$"))
    loaded = "performance.getEntriesByType('resource').find(entry => entry.name.endsWith('?of=pictured'))?.responseStatus"
    assert lab.evaluate(loaded) == 200


def test_the_menu_offers_what_a_service_can(lab):
    tile(lab, "Broken").click()
    expect(row(lab, "fails").locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Failed", timeout=15_000)
    row(lab, "fails").click(button="right")
    offered = lab.locator(".lm-Menu-item:not(.lm-mod-disabled) .lm-Menu-itemLabel")
    expect(offered.filter(has_text="Start Service")).to_be_visible()
    assert {"Show Service Log", "Start Service", "Remove Service"} <= set(offered.all_inner_texts())
    assert not {"Open in a Lab Tab", "Open in a Browser Tab", "Stop Service"} & set(offered.all_inner_texts())
    lab.keyboard.press("Escape")
    lab.click('.lm-TabBar-tabLabel:text-is("Launcher")')
    lab.keyboard.press("Control+Shift+C")
    lab.keyboard.type("Service")
    expect(lab.locator(".lm-CommandPalette-itemLabel", has_text="Start a Service")).to_be_visible()
    expect(lab.locator(".lm-CommandPalette-itemLabel", has_text="Remove Service")).to_be_hidden()  # no service is in front
    lab.keyboard.press("Escape")


def test_the_page_of_a_stopped_service_asks_for_nothing(lab):
    tile(lab, "Demonstration").click()
    lab.click('.jp-toast-button:text-is("Open"):near(:text("Demonstration is up."))', timeout=20_000)
    frame = lab.frame_locator(".jp-PortProxy-frame iframe")
    expect(frame.locator("#events")).to_contain_text("it is", timeout=10_000)
    act(lab, "demo", "Stop")
    expect(lab.locator(".jp-PortProxy-message")).to_contain_text("Demonstration: Stopped.", timeout=10_000)
    lab.wait_for_timeout(200)
    seen: list[str] = []
    lab.on("request", lambda request: seen.append(request.url) if "//pdemo." in request.url else None)
    lab.wait_for_timeout(5000)  # its event stream would try again after three seconds
    assert seen == []
    lab.click('.jp-PortProxy-message button:text-is("Start")')
    expect(frame.locator("#socket")).to_have_text("the service echoed: hello", timeout=15_000)


def test_a_service_that_fails_says_why(lab):
    tile(lab, "Broken").click()
    lab.wait_for_selector("text=Broken did not start. It ended with exit code 3 before it was ready.", timeout=15_000)
    lab.click('.jp-toast-button:text-is("Show log")')
    expect(lab.locator(".jp-PortProxy-log")).to_contain_text("this is why")
    expect(row(lab, "fails").locator(".jp-PortProxy-note")).to_contain_text("exit code 3")


def test_what_the_server_refuses_keeps_the_form_and_what_was_typed(lab, lab_server):
    tile(lab, "Folder").click()
    name, level = (lab.locator(f'.jp-Dialog label:has-text("{label}") input') for label in ("Name", "Level"))
    level.fill("5")
    name.fill("a/b")
    lab.click('.jp-Dialog-button:has-text("Start")')
    expect(lab.locator(".jp-Dialog .jp-PortProxy-problem")).to_contain_text("name")
    picture(lab, "form-problem-light")
    expect(name).to_have_value("a/b")
    name.fill("mine")
    lab.keyboard.press("Enter")
    expect(lab.locator(".jp-Dialog")).to_have_count(0)
    lab.wait_for_selector("text=Folder (mine) is up.", timeout=15_000)
    lab_server.call("DELETE", "proxy/api/services/mine")
    lab.problems[:] = [text for text in lab.problems if "400" not in text]  # the browser's own line about the answer


def test_what_is_typed_before_the_browser_is_idle_goes_where_it_was_typed(lab):
    lab.evaluate("requestIdleCallback = call => setTimeout(call, 500)")  # it is late where the machine is busy
    tile(lab, "Folder").click()
    level = lab.locator('.jp-Dialog label:has-text("Level") input')
    level.press_sequentially("0123456789", delay=100)
    expect(level).to_have_value("0123456789")
    lab.click('.jp-Dialog-button:has-text("Cancel")')


def test_a_failed_service_is_edited_and_started_again(lab):
    tile(lab, "Opens a file").click()
    file = lab.locator('.jp-Dialog label:has-text("File") input')
    file.fill("nothing.csv")
    lab.click('.jp-Dialog-button:has-text("Start")')
    lab.wait_for_selector("text=Opens a file did not start. It ended with exit code 1", timeout=15_000)
    expect(row(lab, "opens").locator(".jp-PortProxy-note")).to_contain_text("exit code 1")
    act(lab, "opens", "Edit and start…")
    expect(file).to_have_value("nothing.csv")
    file.fill("data")
    lab.click('.jp-Dialog-button:has-text("Start")')
    expect(row(lab, "opens").locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Up", timeout=15_000)


def test_a_row_that_moves_under_the_pointer_has_its_actions(lab, lab_server):
    for name in ("first", "second"):
        lab_server.call("POST", "proxy/api/services", {"template": "fails", "name": name})
        expect(row(lab, name).locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Failed", timeout=15_000)
    act(lab, "first", "Remove")
    expect(row(lab, "first")).to_have_count(0)
    row(lab, "second").locator('button[title="Remove"]').click(timeout=3000)  # where the pointer is
    expect(row(lab, "second")).to_have_count(0)


def test_a_strangers_port_comes_and_goes_within_three_seconds(lab):
    with listener() as port:
        appeared = time.monotonic()
        found = lab.locator(f'.jp-PortProxy-row[data-port="{port}"]')
        expect(found).to_be_visible(timeout=3000)
        expect(found.locator(".jp-PortProxy-label")).to_have_text("A stranger")
        lab.wait_for_selector(f"text=A service is running on port {port} (A stranger)", timeout=3000)
        assert time.monotonic() - appeared < 4
        picture(lab, "panel-light")
        found.locator(".jp-PortProxy-name").click()
        expect(lab.locator(".jp-PortProxy-frame iframe")).to_be_visible()
    expect(found).to_have_count(0, timeout=3000)
    expect(lab.locator(f"text=A service is running on port {port}")).to_have_count(0, timeout=3000)
    expect(lab.locator(".jp-PortProxy-message")).to_have_text(f"No program listens on port {port}.")


def test_a_port_outside_the_range_is_allowed_in_its_row_and_taken_back(lab):
    with listener(port=free_port(range(21000, 29000))) as port:
        found = lab.locator(f'.jp-PortProxy-row[data-port="{port}"]')
        expect(found.locator(".jp-PortProxy-note")).to_contain_text("is outside allowed range (10000-20000)", timeout=5000)
        found.hover()
        picture(lab, "panel-allow")
        found.locator('button[title="Allow this port"]').click()
        expect(found.locator(".jp-PortProxy-label")).to_have_text("A stranger", timeout=3000)
        found.locator(".jp-PortProxy-name").click()
        frame = lab.frame_locator(".jp-PortProxy-frame iframe")
        expect(frame.locator("body")).to_be_visible(timeout=10_000)
        found.hover()
        found.locator('button[title="Do not allow this port any more"]').click()
        expect(found.locator(".jp-PortProxy-note")).to_contain_text("is outside allowed range", timeout=3000)


PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj "
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]>>endobj trailer<</Root 1 0 R>>\n%%EOF"
)
ABLE = b"<title>able</title><h1>hello</h1><a id=pdf href=a.pdf>pdf</a> <a id=window href=coop target=_blank>window</a>"
FORBIDS = {
    "X-Frame-Options": [("DENY", False), ("SAMEORIGIN", True), ("SAMEORIGIN, DENY", False), ("ALLOWALL", True)],
    "Content-Security-Policy": [("frame-ancestors 'none'", False), ("frame-ancestors https://portal.example", False)],
}


def able(method, path, content, fields):
    """A PDF, and a page that asks for a browsing context group of its own, which no browser shows in a sandbox."""
    if path == "/a.pdf":
        return 200, {"Content-Type": "application/pdf"}, PDF
    return 200, {**HTML, **({"Cross-Origin-Opener-Policy": "same-origin"} if path == "/coop" else {})}, ABLE


def buster(method, path, content, fields):
    return 200, HTML, b"<h1>hello</h1><script>if (top !== self) top.location = self.location</script>"


def long_page(method, path, content, fields):
    text = b"<p id=data>%s</p><a href=/other>other</a><p style='height: 3000px'>long</p>"
    return 200, HTML, text % path.encode()


@pytest.fixture(params=[True, False], ids=["origin", "path"])
def isolated(request, context):
    """Whether the browser finds isolated origins; comes before `lab`, which asks for them when it loads."""
    if not request.param:
        answer = {"isolate": "auto", "probe": None, "origin": None}
        context.route(re.compile("proxy/api/origins"), lambda route: route.fulfill(json=answer))
    return request.param


def open_port(lab: Page, port: int):
    """A tab of a port, by the panel; its frame."""
    lab.locator(f'.jp-PortProxy-row[data-port="{port}"] .jp-PortProxy-name').click(timeout=20_000)
    return lab.locator(".jp-PortProxy-frame iframe").and_(lab.locator(":visible"))


def tab_of(lab: Page, port: int):
    return lab.locator(f'.lm-TabBar-tab[data-id*="{port}"]')


USES_STORAGE = "(() => { try { localStorage.mine = '1'; return localStorage.mine === '1'; } catch { return false; } })()"


def test_a_tab_has_storage(isolated, lab):
    with listener() as port:
        element = open_port(lab, port)
        expect(element.content_frame.locator("body")).to_be_visible(timeout=10_000)
        frame = element.element_handle().content_frame()
        assert (urlsplit(frame.url).hostname == f"p{port}.localhost") is isolated
        assert frame.evaluate(USES_STORAGE)


def test_a_tab_is_path_based_in_a_browser_without_storage_in_frames(chromium_without_frame_storage, lab_server):
    """The arrow in its toolbar still leads to the isolated origin: a browser tab has storage there."""
    context = chromium_without_frame_storage.new_context()
    lab = context.new_page()
    open_lab(lab, f"{lab_server.url}lab?token={TOKEN}&reset")
    lab.click('[data-id="jp-portproxy-panel"]')
    with listener() as port:
        element = open_port(lab, port)
        expect(element.content_frame.locator("body")).to_be_visible(timeout=10_000)
        frame = element.element_handle().content_frame()
        assert urlsplit(frame.url).path.endswith(f"/proxy/port/{port}/")
        assert frame.evaluate(USES_STORAGE)
        with context.expect_page() as opened:
            lab.locator('[title="Open in a browser tab"]:visible').last.click()
        opened.value.wait_for_url(f"http://p{port}.localhost:*/**")
        assert opened.value.evaluate(USES_STORAGE)
    context.close()


def test_a_tab_may_do_what_a_browser_tab_may(isolated, lab):
    with running(able) as port:
        element = open_port(lab, port)
        frame = element.content_frame
        expect(frame.locator("h1")).to_have_text("hello", timeout=10_000)
        inside = element.element_handle().content_frame()
        assert (urlsplit(inside.url).hostname == f"p{port}.localhost") is isolated
        features = lab.evaluate("document.featurePolicy.allowedFeatures()")
        assert {"clipboard-write", "fullscreen", "camera", "display-capture", "publickey-credentials-get"} <= set(features)
        assert inside.evaluate("wanted => wanted.filter(name => !document.featurePolicy.allowsFeature(name))", features) == []
        with lab.context.expect_page() as opened:
            frame.locator("#window").click()
        expect(opened.value.locator("h1")).to_have_text("hello")
        opened.value.close()
        frame.locator("#pdf").click()
        until = time.monotonic() + 10
        while not any(shown.url.startswith("chrome-extension:") for shown in lab.frames):
            assert time.monotonic() < until, [shown.url for shown in lab.frames]
            lab.wait_for_timeout(100)
        picture(lab, f"tab-pdf-{'origin' if isolated else 'path'}")


def test_a_page_that_forbids_frames_is_said_to_and_opened_outside(isolated, lab):
    cases = [(name, *case) for name, values in FORBIDS.items() for case in values]
    for name, value, shown in cases:
        with running(lambda *request_parts, field={name: value}: (200, {**HTML, **field}, b"<h1>hello</h1>")) as port:
            element = open_port(lab, port)
            if shown:
                expect(element.content_frame.locator("h1")).to_have_text("hello", timeout=10_000)
            else:
                message = lab.locator(".jp-PortProxy-message:visible")
                expect(message).to_contain_text("does not allow its page in a frame", timeout=10_000)
                expect(element).to_have_count(0)
                with lab.context.expect_page() as opened:
                    message.locator('button:text-is("Open in a browser tab")').click()
                expect(opened.value.locator("h1")).to_have_text("hello")
                opened.value.close()
                picture(lab, "tab-forbids-frames")
    lab.problems[:] = [text for text in lab.problems if "403" not in text and "frame" not in text.lower()]


def test_a_page_cannot_say_where_outside_it_is_opened(lab):
    """In Jupyter's origin it would be Jupyter."""
    lying = b"<script>for (const path of ['//', '/../../port/PORT/lab/%2e%2e/x?y'])"
    lying += b" parent.postMessage({ portproxyNotFramed: path }, '*')</script>"
    seen: list[str] = []
    with running(lambda method, path, *_: (seen.append(path) or 200, HTML, lying)) as port:
        open_port(lab, port)
        with lab.context.expect_page() as opened:
            lab.locator(".jp-PortProxy-message:visible .jp-mod-accept").click()
        opened.value.wait_for_load_state()
        assert urlsplit(opened.value.url).hostname == f"p{port}.localhost"
        assert "/port/PORT/x?y" in seen
        opened.value.close()


def test_a_page_that_wants_the_whole_window_does_not_get_it_by_itself(isolated, lab):
    with running(buster) as port:
        expect(open_port(lab, port).content_frame.locator("h1")).to_have_text("hello", timeout=10_000)
        lab.wait_for_timeout(500)
        assert urlsplit(lab.url).path.startswith("/lab")
    lab.problems[:] = [text for text in lab.problems if "Unsafe attempt" not in text and "navigat" not in text]


def test_a_page_that_has_lost_its_session_enters_again(lab):
    """Also where a service worker answers all navigations."""
    for app, text in ((long_page, "/other"), (caching, "/other data")):
        with running(app) as port:
            frame = open_port(lab, port).content_frame
            expect(frame.locator("a")).to_be_visible(timeout=10_000)
            if app is caching:
                lab.frame(url=re.compile(rf"p{port}\.")).wait_for_function("navigator.serviceWorker.controller !== null")
            lab.context.clear_cookies(domain=f"p{port}.localhost")  # as after a restart of the server
            frame.locator("a").click()
            expect(frame.locator("#data")).to_have_text(text, timeout=20_000)
    lab.problems[:] = [text for text in lab.problems if "403" not in text]


def test_a_page_keeps_its_place_and_its_tab_follows_it(isolated, lab, lab_server):
    """Its scroll position stays while another tab hides it. A click in it makes its tab the current one."""
    beside = free_port()
    assert lab_server.call("PUT", "proxy/api/port-rules", {"ports": str(beside), "on_appear": "preview"})[0] == 200
    with running(long_page) as port:
        element = open_port(lab, port).element_handle()
        frame = element.content_frame()
        frame.wait_for_selector("#data")
        frame.evaluate("scrollTo(0, 700)")
        lab.locator(".lm-TabBar-tab", has_text="Launcher").first.click()
        expect(lab.locator(".jp-LauncherCard").first).to_be_visible()
        assert not element.is_visible()
        tab_of(lab, port).click()
        assert frame.evaluate("scrollY") == 700
        if not isolated:
            frame.evaluate("history.pushState({}, '', 'spa/1?q#h')")
            expect(lab.get_by_label("Address below the prefix")).to_have_value("/spa/1?q#h")
        with running(long_page, beside):
            expect(tab_of(lab, beside)).to_be_visible(timeout=10_000)
            page_beside = lab.frame_locator(f'.jp-PortProxy-frame iframe[src*="{beside}"]')
            page_beside.locator("p").last.click(position={"x": 5, "y": 300})
            lab.wait_for_timeout(800)
            picture(lab, "tabs-beside-each-other")
            lab.click('.lm-MenuBar-itemLabel:text-is("File")')
            lab.click('.lm-Menu-itemLabel:text-is("Close Tab")')
            expect(tab_of(lab, beside)).to_have_count(0)
            expect(tab_of(lab, port)).to_be_visible()


def test_markup_is_text_everywhere(lab):
    tile(lab, MARKUP.replace('"', '\\"')).click()
    expect(row(lab, "markup").locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Up", timeout=15_000)
    with listener(MARKUP.replace("<", "&lt;")) as port:
        expect(lab.locator(f'.jp-PortProxy-row[data-port="{port}"] .jp-PortProxy-label')).to_have_text(MARKUP, timeout=3000)
        lab.wait_for_timeout(500)
    row(lab, "markup").locator(".jp-PortProxy-name").click()
    lab.wait_for_timeout(1000)
    assert "owned" not in lab.title()
    assert lab.locator("img[src=x]").count() == 0


def test_two_windows_agree(lab, lab_server):
    other = lab.context.new_page()
    open_lab(other, f"{lab_server.url}lab/workspaces/other")
    other.click('[data-id="jp-portproxy-panel"]')
    tile(lab, "Demonstration").click()
    expect(row(other, "demo").locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Up", timeout=15_000)
    act(other, "demo", "Stop")
    expect(row(lab, "demo").locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Stopped", timeout=10_000)
    act(lab, "demo", "Remove")
    expect(row(other, "demo")).to_have_count(0, timeout=10_000)
    other.close()


def test_commands_are_in_the_palette_and_in_the_context_menu(lab):
    lab.keyboard.press("Control+Shift+C")
    lab.keyboard.type("Start a Service")
    lab.keyboard.press("Enter")
    expect(lab.locator(".jp-Dialog-header")).to_have_text("Start a service")
    lab.click('.jp-Dialog-button:has-text("Cancel")')
    tile(lab, "Demonstration").click()
    expect(row(lab, "demo").locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Up", timeout=15_000)
    row(lab, "demo").click(button="right")
    lab.click('.lm-Menu-itemLabel:text-is("Stop Service")')
    expect(row(lab, "demo").locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Stopped", timeout=10_000)


def test_the_keyboard_is_enough(lab):
    tile(lab, "Demonstration").click()
    expect(row(lab, "demo").locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Up", timeout=15_000)
    lab.focus(".jp-PortProxy-filter")
    for _ in range(20):
        lab.keyboard.press("Tab")
        if lab.evaluate("document.activeElement.getAttribute('aria-label')") == "Stop: Demonstration":
            break
    lab.keyboard.press("Enter")
    expect(row(lab, "demo").locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Stopped", timeout=10_000)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(lab, theme):
    name = f"axe-{theme}"
    assert AXE.is_file(), f"{AXE} is missing: `make test` installs it"
    if theme == "dark":
        lab.click('.lm-MenuBar-itemLabel:text-is("Settings")')
        lab.hover('.lm-Menu-itemLabel:text-is("Theme")')
        lab.click('.lm-Menu-itemLabel:text-is("JupyterLab Dark")')
        expect(lab.locator("body")).to_have_attribute("data-jp-theme-light", "false", timeout=10_000)
    tile(lab, "Broken").click()
    expect(lab.locator(".jp-PortProxy-message")).to_contain_text("Broken: ")
    lab.click('.lm-TabBar-tabLabel:text-is("Launcher")')
    tile(lab, f"A {theme} one").click()
    lab.wait_for_selector(f"text=A {theme} one is up.", timeout=15_000)
    act(lab, name, "Open in a Lab tab")
    act(lab, name, "Show log")
    with listener():
        lab.wait_for_timeout(2500)
        row(lab, name).hover()
        picture(lab, f"panel-services-{theme}")
        lab.add_script_tag(path=AXE)
        found = lab.evaluate(
            """async () => (await axe.run(
                   {include: [['.jp-PortProxy-panel'], ['.jp-PortProxy-log']]}, {iframes: false}
                 )).violations.filter(v => ['serious', 'critical'].includes(v.impact))
                 .map(v => [v.id, v.nodes.map(n => n.html.slice(0, 120))])"""
        )
    if theme == "dark":
        lab.click('.lm-MenuBar-itemLabel:text-is("Settings")')
        lab.hover('.lm-Menu-itemLabel:text-is("Theme")')
        lab.click('.lm-Menu-itemLabel:text-is("JupyterLab Light")')
    assert found == []


def test_a_server_that_is_gone_is_reported(chromium, tmp_path):
    with jupyter_server(tmp_path) as server:
        page = chromium.new_context().new_page()
        errors = watch_errors(page)
        open_lab(page, f"{server.url}lab?token={TOKEN}")
        page.click('[data-id="jp-portproxy-panel"]')
        expect(page.locator(".jp-PortProxy-empty").first).to_be_visible()
        page.wait_for_timeout(1000)
    expect(page.locator(".jp-PortProxy-problem")).to_contain_text("The Jupyter server does not answer.", timeout=20_000)
    assert errors == []
    page.context.close()


@pytest.mark.timeout(180)  # two servers, and JupyterLab
def test_a_tab_outlives_its_server_and_starts_its_service_again(chromium, tmp_path):
    config = tmp_path / ".jupyter" / "jupyter_portproxy.d"
    config.mkdir(parents=True)
    (config / "mine.json").write_text(json.dumps({"demo": TEMPLATES["demo"]}))
    page = chromium.new_context().new_page()
    with jupyter_server(tmp_path) as server:
        open_lab(page, f"{server.url}lab?token={TOKEN}")
        page.click('[data-id="jp-portproxy-panel"]')
        server.call("POST", "proxy/api/services", {"template": "demo"})
        row(page, "demo").locator(".jp-PortProxy-name").click(timeout=15_000)
        socket = page.frame_locator(".jp-PortProxy-frame iframe").locator("#socket")
        expect(socket).to_have_text("the service echoed: hello", timeout=15_000)
    message = page.locator(".jp-PortProxy-message")
    expect(message).to_contain_text("The Jupyter server does not answer.", timeout=10_000)
    picture(page, "tab-server-away")
    with jupyter_server(tmp_path, port=urlsplit(server.url).port or 0):
        expect(message).to_contain_text("The service demo no longer exists.", timeout=20_000)
        # JupyterLab's own dialog about the server stands before it, or comes.
        page.add_locator_handler(page.locator(".jp-Dialog"), lambda dialog: dialog.locator("button").last.click())
        message.locator('button:text-is("Start")').click()
        expect(socket).to_have_text("the service echoed: hello", timeout=20_000)
    page.context.close()


def test_a_login_that_has_ended_is_reported(lab):
    lab.context.clear_cookies()
    lab.route(re.compile("proxy/api/"), lambda route: route.fulfill(status=403, body="{}"))
    lab.get_by_role("region", name="Ports and services").get_by_role("button", name="Refresh").click()
    expect(lab.locator(".jp-PortProxy-problem, .jp-toast-message, .Toastify__toast").first).to_contain_text(
        "Your login has ended.", timeout=10_000
    )
    lab.problems[:] = [text for text in lab.problems if "403" not in text]


def test_the_panel_loads_little_and_its_dialogs_when_they_are_shown(lab):
    def size() -> int:
        static = ROOT / "jupyter_portproxy" / "labextension" / "static"
        names = {url.partition(SCRIPTS)[2].partition("?")[0] for url in lab.scripts}
        return sum(len(gzip.compress((static / name).read_bytes())) for name in names)

    before = size()
    assert 10_000 < before <= MAX_SCRIPTS, lab.scripts
    lab.click('.jp-PortProxy-panel [title="Start a service…"] >> visible=true')
    expect(lab.locator(".jp-Dialog-header")).to_have_text("Start a service")
    assert size() > before
    lab.keyboard.press("Escape")


def test_the_panel_costs_no_requests_while_nothing_changes(lab):
    seen: list[str] = []
    lab.on("request", lambda request: seen.append(request.url) if "/proxy/" in request.url else None)
    lab.wait_for_timeout(8000)
    assert seen == []
