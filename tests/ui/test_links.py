"""Links to localhost that a real kernel and a real terminal print: what a click opens, and what 10,000 of them cost.

JupyterLab's private names that terminals need are checked here, where JupyterLab runs; CONTRIBUTING.md lists them.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from ..support.hub import PASSWORD, jupyterhub
from ..support.jupyter_processes import TOKEN, jupyter_server
from ..support.upstreams import free_port
from .apps import HTML, running
from .conftest import watch_errors, without_news
from .test_lab import listener, open_lab, picture

ROOT = Path(__file__).parents[2]
BASE = "/a/b/"
MANY = 10_000
# The cell of the port that a terminal shows at a text, from xterm's public API.
FIND_IN_TERMINAL = """text => {
  const term = jupyterapp.shell.currentWidget.content._term;
  const buffer = term.buffer.active;
  let found = null;
  for (let y = 0; y < buffer.length; y++) {
    const x = buffer.getLine(y).translateToString().lastIndexOf(text);
    if (x >= 0) found = { x, y: y - buffer.viewportY };
  }
  const box = term.element.querySelector('.xterm-screen').getBoundingClientRect();
  return found && { x: box.x + (found.x + 1.5) * box.width / term.cols, y: box.y + (found.y + 0.5) * box.height / term.rows };
}"""


def service(method, path, content, fields):
    return 200, HTML, f"<title>printed</title><h1>{path}</h1>".encode()


def notebook(*sources: str, markdown: str = "") -> str:
    cells = [{"cell_type": "code", "id": f"c{n}", "metadata": {}, "execution_count": None, "outputs": [], "source": source}
             for n, source in enumerate(sources)]  # fmt: skip
    cells += [{"cell_type": "markdown", "id": "m", "metadata": {}, "source": markdown}]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return json.dumps({"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture(scope="module")
def links_server(tmp_path_factory):
    home = tmp_path_factory.mktemp("links")
    without_news(home)
    (home / "files").mkdir()
    arguments = [f"--ServerApp.root_dir={home / 'files'}", "--LabApp.expose_app_in_browser=True"]
    with jupyter_server(home, *arguments, base=BASE, more={"SHELL": "/bin/sh", "PS1": "$ "}) as server:
        server.home, server.files = home, home / "files"
        yield server
        assert "jupyter_portproxy/" not in server.log, server.log  # no traceback leads through the package


@contextlib.contextmanager
def lab_page(context, log_in):
    """JupyterLab. What the page throws fails the test."""
    page = context.new_page()
    page.set_default_timeout(10_000)
    errors = watch_errors(page)
    log_in(page)
    page.wait_for_selector(".jp-LauncherCard", timeout=30_000)
    yield page
    picture(page, "links-last")
    page.evaluate("async () => void (await jupyterapp.serviceManager.sessions.shutdownAll())")
    page.close()
    assert errors == []


@pytest.fixture
def page(context, links_server):
    with lab_page(context, lambda page: open_lab(page, f"{links_server.url}lab?token={TOKEN}&reset")) as page:
        yield page


def command(page: Page, name: str, **arguments: str) -> None:
    """Starts a command. Its result, often a widget, is not for Playwright."""
    page.evaluate("([name, args]) => void jupyterapp.commands.execute(name, args)", [name, arguments])


def run_notebook(page: Page, files: Path, *sources: str, markdown: str = "") -> None:
    (files / "links.ipynb").write_text(notebook(*sources, markdown=markdown))
    show_notebook(page)
    page.wait_for_function("jupyterapp.shell.currentWidget?.context?.sessionContext.isReady")
    command(page, "notebook:run-all-cells")


def set_links(page: Page, server, is_on: bool) -> None:
    """Saves the setting and loads JupyterLab again."""
    folder = server.home / ".jupyter" / "lab" / "user-settings" / "jupyter-portproxy"
    folder.mkdir(exist_ok=True)
    (folder / "plugin.jupyterlab-settings").write_text(json.dumps({"links": is_on}))
    open_lab(page, f"{server.url}lab?reset")


def wait_for_port(page: Page, port: int) -> None:
    """Until the panel lists it: a link to a port of the browser's own machine that is not listed is left alone."""
    page.wait_for_selector(f'.jp-PortProxy-row[data-port="{port}"]', state="attached")


def visible_frame(page: Page):
    return page.locator(".jp-PortProxy-frame iframe").and_(page.locator(":visible")).content_frame


def show_notebook(page: Page) -> None:
    command(page, "docmanager:open", path="links.ipynb")


def open_terminal(page: Page, script: Path, text: str) -> None:
    """A terminal that runs a script of shell commands."""
    script.write_text(text)
    command(page, "terminal:create-new")
    page.wait_for_function("jupyterapp.shell.currentWidget.content._term?.element")
    page.locator(".xterm-helper-textarea:visible").focus()
    page.keyboard.type(f"clear; . {script}\n")


def click_in_terminal(page: Page, text: str, **options) -> None:
    place = page.wait_for_function(FIND_IN_TERMINAL, arg=text).json_value()
    link, end = page.locator(".xterm-cursor-pointer:visible"), time.monotonic() + 10
    while True:  # xterm looks for a link when the pointer comes to another cell, once per line, and not while it draws
        page.mouse.move(place["x"], place["y"] - 40)
        page.mouse.move(place["x"], place["y"])
        page.wait_for_timeout(100)
        if link.count():
            break
        assert time.monotonic() < end, f"the pointer finds no link at {text!r}"
    page.mouse.click(place["x"], place["y"], **options)


def test_a_link_in_an_output_opens_a_tab(page, links_server):
    with running(service) as port:
        wait_for_port(page, port)
        url = f"http://localhost:{port}/deep/er?q=%2F&x=1#part"
        run_notebook(page, links_server.files, f"print('Running on {url}')", markdown=f"[mine]({url})")
        anchor = page.locator(".jp-OutputArea-output a")
        expect(anchor).to_have_attribute("href", url)
        tabs = len(page.context.pages)
        anchor.click()
        expect(visible_frame(page).locator("h1")).to_have_text("/deep/er?q=%2F&x=1")
        expect(page.locator(".jp-PortProxy-address input:visible")).to_have_value("/deep/er?q=%2F&x=1#part")
        assert len(page.context.pages) == tabs  # and no new one
        picture(page, "link-output")
        show_notebook(page)
        expect(anchor).to_have_text(url)
        with page.context.expect_page() as opened:
            anchor.click(modifiers=["Control"])
        expect(opened.value.locator("h1")).to_have_text("/deep/er?q=%2F&x=1")
        assert urlsplit(opened.value.url).port == urlsplit(links_server.url).port
        opened.value.close()
        written = page.locator(".jp-MarkdownOutput a")
        written.hover()
        assert written.get_attribute("href") == url  # the author's


def test_the_keyboard_opens_a_link_and_a_tab_that_is_open_shows_its_page(page, links_server):
    with running(service) as port:
        wait_for_port(page, port)
        html = f"from IPython.display import HTML\nHTML('<a href=\\'http://0.0.0.0:{port}/two\\'>two</a>')"
        run_notebook(page, links_server.files, f"print('http://127.0.0.1:{port}/one')", html)
        for name in ("one", "two"):
            anchor = page.locator(".jp-OutputArea-output a", has_text=name)
            expect(anchor).to_be_visible()  # a hidden one has no focus
            anchor.focus()
            expect(anchor).to_have_attribute("href", re.compile(rf"/a/b/proxy/enter/{port}/{name}$"))
            page.keyboard.press("Enter")
            expect(visible_frame(page).locator("h1")).to_have_text(f"/{name}")
            show_notebook(page)
        assert page.locator(".lm-TabBar-tab", has_text="printed").count() == 1


def test_a_port_that_is_not_allowed_is_allowed_in_its_tab(page, links_server):
    with listener(port=free_port(range(21000, 29000))) as port:
        wait_for_port(page, port)
        run_notebook(page, links_server.files, f"print('http://localhost:{port}/')")
        page.locator(".jp-OutputArea-output a").click()
        frame = visible_frame(page)
        expect(frame.locator("body")).to_contain_text(f"Port {port} is outside allowed range (10000-20000)")
        picture(page, "link-not-allowed")
        frame.locator("button", has_text="Allow").click()
        expect(page.locator(f'.jp-PortProxy-row[data-port="{port}"] .jp-PortProxy-label')).to_have_text("A stranger")


def test_a_port_that_is_not_listed_yet_is_found_when_the_pointer_reaches_its_link(page, links_server):
    """The list of ports is seconds behind; here it never comes."""
    page.context.route("**/proxy/api/events*", lambda route: route.abort())
    open_lab(page, f"{links_server.url}lab?reset")
    with running(service) as port:
        run_notebook(page, links_server.files, f"print('http://localhost:{port}/new')")
        anchor = page.locator(".jp-OutputArea-output a")
        with page.expect_response(re.compile(r"/a/b/proxy/api/ports(\?|$)")):
            anchor.hover()
        with page.context.expect_page() as opened:
            anchor.click(modifiers=["Control"])
        expect(opened.value.locator("h1")).to_have_text("/new")
        assert urlsplit(opened.value.url).port == urlsplit(links_server.url).port


def test_of_ten_thousand_links_only_the_one_under_the_pointer_is_touched(page, links_server):
    with running(service) as port:
        wait_for_port(page, port)
        run_notebook(page, links_server.files, f"print('\\n'.join(f'http://localhost:{port}/{{n}}' for n in range({MANY})))")
        page.wait_for_function(f"document.querySelectorAll('.jp-OutputArea-output a').length === {MANY}", timeout=60_000)
        touched = page.locator(f'.jp-OutputArea-output a:not([href^="http://localhost:{port}/"])')
        assert touched.count() == 0
        page.locator(".jp-OutputArea-output a").nth(7).hover()
        assert touched.count() == 1
        touched.click()
        expect(visible_frame(page).locator("h1")).to_have_text("/7")


HOSTILE = [
    "http://localhost:{port}@evil.example/",
    "http://localhost:70000/",
    "http://localhost:{port}.evil.example/",
    "http://localhost:{port}/..%2f..%2f..%2fapi/contents",
    "javascript://localhost:{port}/%0aalert(1)",
]


def test_hostile_links_are_left_alone_and_none_leaves_the_prefix_of_its_port(page, links_server):
    with running(service) as port:
        wait_for_port(page, port)
        hostile = [url.format(port=port) for url in HOSTILE]
        climbing = f"http://localhost:{port}/../../../%2e%2e/api/contents"
        run_notebook(page, links_server.files, f"print({chr(10).join([*hostile, climbing])!r})")
        anchors = page.locator(".jp-OutputArea-output a")
        expect(anchors.last).to_have_text(climbing)
        for anchor in anchors.all()[:-1]:
            before = anchor.evaluate("a => a.href")
            anchor.hover()
            assert anchor.evaluate("a => a.href") == before
        anchors.last.hover()
        assert urlsplit(anchors.last.evaluate("a => a.href")).path == f"{BASE}proxy/enter/{port}/api/contents"
        anchors.last.click()
        expect(visible_frame(page).locator("h1")).to_have_text("/api/contents")  # the service's


def test_links_in_a_terminal_open_a_tab_whole_if_they_wrap(page, links_server, tmp_path):
    with running(service) as port:
        wait_for_port(page, port)
        long = "/".join(f"part{n}" for n in range(60)) + "?end=1"
        script = f"echo 'Dash is running on http://127.0.0.1:{port}/one'; echo http://localhost:{port}/{long}"
        open_terminal(page, tmp_path / "s", f"{script}; echo 'http://localhost:{port}@evil.example/'")
        terminal = page.evaluate("jupyterapp.shell.currentWidget.id")
        click_in_terminal(page, "//127.0.0.1")
        expect(visible_frame(page).locator("h1")).to_have_text("/one")
        page.evaluate("id => void jupyterapp.shell.activateById(id)", terminal)
        for text in ("/part1/", "/part25/", "?end=1"):  # in the first line, in the middle, and the end
            click_in_terminal(page, text)
            expect(visible_frame(page).locator("h1")).to_have_text(f"/{long}")
            page.evaluate("id => void jupyterapp.shell.activateById(id)", terminal)
        with page.context.expect_page() as opened:
            click_in_terminal(page, "//127.0.0.1", button="middle")
        expect(opened.value.locator("h1")).to_have_text("/one")
        assert urlsplit(opened.value.url).port == urlsplit(links_server.url).port
        opened.value.close()
        picture(page, "link-terminal")
        page.context.route("**/*evil.example/**", lambda route: route.fulfill(body="elsewhere"))
        with page.context.expect_page() as opened:
            click_in_terminal(page, "@evil")
        opened.value.wait_for_url("http://*evil.example/")  # as JupyterLab opens it
        opened.value.close()


def test_the_setting_turns_it_off(page, links_server, tmp_path):
    with running(service) as port:
        set_links(page, links_server, False)
        wait_for_port(page, port)
        url = f"http://localhost:{port}/as-printed"
        run_notebook(page, links_server.files, f"print('{url}')")
        open_terminal(page, tmp_path / "s", f"echo {url}")
        with page.context.expect_page() as opened:
            click_in_terminal(page, "as-printed")
        opened.value.wait_for_url(url)
        opened.value.close()
        show_notebook(page)
        with page.context.expect_page() as opened:
            page.locator(".jp-OutputArea-output a").click()
        opened.value.wait_for_url(url)
        opened.value.close()
        set_links(page, links_server, True)


@pytest.mark.timeout(180)  # a hub, a server and JupyterLab
def test_under_jupyterhub(context, tmp_path):
    """At a host name that is not localhost: links to ports that are not listed are proxied too, but not Jupyter's own."""

    def log_in(page: Page) -> None:
        page.goto(f"{at}/user/ada/lab", wait_until="commit")
        page.fill('input[name="username"]', "ada")
        page.fill('input[name="password"]', PASSWORD)
        page.click("#login_submit")
        open_lab(page, f"{at}/user/ada/lab")

    with running(service) as port, jupyterhub(tmp_path, "c.LabApp.expose_app_in_browser = True", "ada") as hub:
        at = hub.origin.replace("127.0.0.1", "hub.localhost")
        with lab_page(context, log_in) as page:
            own, gone = "http://127.0.0.1:40123/user/ada/lab?token=abc", free_port()
            printed = [f"http://localhost:{port}/one?x#y", f"http://localhost:{gone}/", own]
            run_notebook(page, tmp_path / "ada", f"print({chr(10).join(printed)!r})")
            anchors = page.locator(".jp-OutputArea-output a")
            anchors.last.hover()
            expect(anchors.last).to_have_attribute("href", own)
            anchors.first.hover()
            assert re.match(rf"{at}/user/ada/proxy/(port|enter)/{port}/one\?x#y$", anchors.first.evaluate("a => a.href"))
            anchors.first.click()
            expect(visible_frame(page).locator("h1")).to_have_text("/one?x")
            show_notebook(page)
            anchors.nth(1).click()
            expect(page.locator(".jp-PortProxy-message:visible")).to_have_text(f"No program listens on port {gone}.")
            open_terminal(page, tmp_path / "s", f"echo http://127.0.0.1:{port}/two")
            click_in_terminal(page, "//127.0.0.1")
            expect(visible_frame(page).locator("h1")).to_have_text("/two")
            picture(page, "link-hub")


def test_the_private_names_of_jupyterlab_and_xterm_are_there(page, tmp_path):
    """Where this fails, links in terminals open as JupyterLab opens them: src/links.ts needs the new names."""
    open_terminal(page, tmp_path / "s", "")
    widget = "jupyterapp.shell.currentWidget.content"
    assert page.evaluate(f"{widget}.ready instanceof Promise")
    names = ["_term", "_core", "_linkProviderService", "linkProviders"]
    for depth in range(1, len(names) + 1):
        assert page.evaluate(f"{'.'.join([widget, *names[:depth]])} !== undefined"), f"{names[depth - 1]} is gone"
    providers = ".".join([widget, *names])
    assert page.evaluate(f"{providers}.length >= 2 && {providers}.every(each => typeof each.provideLinks === 'function')")
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "CONTRIBUTING.md").read_text().partition("### In the browser")[2], re.MULTILINE)
    assert rows == sorted(names)


# ---- links that programs make of the kernel's environment ----


DASK = """from dask.distributed import Client
client = Client(processes=False, n_workers=1, dashboard_address="127.0.0.1:0")
client"""


def test_dasks_link_leads_to_its_dashboard(page, links_server):
    """Through the page of a port that is not allowed yet. Without Bokeh, the dashboard is one sentence."""
    run_notebook(page, links_server.files, DASK)
    link = page.locator(".jp-OutputArea a[href$='/status']").first
    expect(link).to_have_attribute("href", re.compile(f"^{BASE}proxy/port/[0-9]+/status$"), timeout=60_000)
    with page.expect_popup() as opened:
        link.click()
    opened.value.get_by_role("button", name="Allow").click()
    expect(opened.value.locator("body")).to_contain_text(re.compile("dask|bokeh", re.IGNORECASE))
    assert urlsplit(opened.value.url).path == link.get_attribute("href")
