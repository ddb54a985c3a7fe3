"""Where people look for services besides the panel: the running sessions, menus, toolbars, a shortcut and the command of
jupyter-server-proxy; in JupyterLab and in Notebook."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from ..support.jupyter_processes import jupyter_server
from .apps import HTML, running
from .conftest import log_in, watch_errors, without_news
from .test_lab import TEMPLATES, listener, open_lab, picture

INCUMBENT = Path(sys.prefix, "incumbent")
EXPOSED = ["--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"]
SHOWN = {"toolbar": [{"name": "portproxy", "disabled": False}]}
SETTINGS = {
    "application-extension/top-bar": SHOWN,
    "notebook-extension/panel": SHOWN,
}
# Notebook 7.6 itself, also without any extension.
NOTEBOOKS_OWN = "Cannot read properties of undefined (reading 'schema')"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """With two templates, a server of a package that was made for jupyter-server-proxy, and the toolbars' items switched on."""
    home = tmp_path_factory.mktemp("menus")
    config = home / ".jupyter" / "jupyter_portproxy.d"
    config.mkdir(parents=True)
    (config / "mine.json").write_text(json.dumps({name: TEMPLATES[name] for name in ("demo", "pictured")}))
    without_news(home)
    for name, settings in SETTINGS.items():
        file = home / ".jupyter" / "lab" / "user-settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    (home / "files").mkdir()
    (home / "files" / "a.ipynb").write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    more = {"PYTHONPATH": str(INCUMBENT)}
    with jupyter_server(home, f"--ServerApp.root_dir={home / 'files'}", *EXPOSED, more=more) as started:
        started.home = home
        yield started
        assert "Traceback" not in started.log, started.log


@pytest.fixture
def page(context, server):
    """A page of a browser that is logged in. What the page throws or logs as an error fails the test."""
    log_in(context, server.url)
    page = context.new_page()
    page.set_default_timeout(8000)
    page.problems = watch_errors(page, console=True)
    yield page
    picture(page, "last")
    page.close()
    for name in ("demo", "other", "hello"):
        server.call("DELETE", f"proxy/api/services/{name}")
    # The browser reports a page that is still starting as 503.
    assert [text for text in page.problems if text != NOTEBOOKS_OWN and not re.search(r"//p[a-z0-9-]+\.localhost:", text)] == []


@pytest.fixture
def lab(page, server):
    open_lab(page, f"{server.url}lab?reset")
    page.wait_for_selector(".jp-LauncherCard", timeout=30_000)
    return page


@pytest.fixture
def tree(page, server):
    """The first page of Notebook."""
    page.goto(f"{server.url}tree")
    page.wait_for_selector(".jp-DirListing-item", timeout=30_000)
    return page


def start(server, *names: str) -> None:
    for name in names:
        assert server.call("POST", "proxy/api/services", {"template": "demo", "name": name})[0] in (200, 201)
        wait_for(server, name, "up")


def service(server, name: str) -> dict:
    return json.loads(server.get(f"proxy/api/services/{name}")[1])


def wait_for(server, name: str, *states: str) -> None:
    until = time.monotonic() + 20
    while service(server, name).get("state") not in states:
        assert time.monotonic() < until, service(server, name)
        time.sleep(0.1)


def session(page: Page, name: str):
    return page.locator(f'.jp-RunningSessions-item[data-context="portproxy:{name}"]:visible')


def menu(page: Page, *path: str):
    """Opens a menu of the menu bar and its submenus; the items of the last."""
    page.click(f'.lm-MenuBar-itemLabel:text-is("{path[0]}")')
    for label in path[1:]:
        page.hover(f'.lm-Menu-itemLabel:text-is("{label}")')
    return page.locator(".lm-Menu").nth(len(path) - 1).locator(".lm-Menu-item:not(.lm-mod-hidden)")


def labels(items) -> list[str]:
    return items.locator(".lm-Menu-itemLabel").all_inner_texts()


def execute(page: Page, command: str, **arguments) -> None:
    page.evaluate("([id, args]) => void window.jupyterapp.commands.execute(id, args)", [command, arguments])


def test_running_services_are_among_the_running_sessions(lab, server):
    start(server, "demo", "other")
    lab.keyboard.press("Control+Shift+B")
    expect(session(lab, "demo").locator(".jp-RunningSessions-itemLabel")).to_have_text("Demonstration")
    expect(session(lab, "demo").locator("svg rect")).to_have_count(1)  # its letter
    session(lab, "other").locator(".jp-RunningSessions-itemLabel").click()
    expect(lab.frame_locator(".jp-PortProxy-frame iframe").locator("#socket")).to_contain_text("echoed", timeout=10_000)

    since = service(server, "demo")["since"]
    session(lab, "demo").click(button="right")
    picture(lab, "running-menu")
    lab.click('.lm-Menu-itemLabel:text-is("Restart Service")')
    until = time.monotonic() + 20
    while service(server, "demo")["since"] == since:
        assert time.monotonic() < until
        time.sleep(0.1)
    wait_for(server, "demo", "up")

    session(lab, "other").hover()
    session(lab, "other").locator(".jp-RunningSessions-itemShutdown").click()
    expect(session(lab, "other")).to_have_count(0, timeout=10_000)
    wait_for(server, "other", "down")
    assert service(server, "demo")["state"] == "up"


def test_all_running_services_are_stopped_after_a_question(lab, server):
    start(server, "demo", "other")
    lab.keyboard.press("Control+Shift+B")
    expect(session(lab, "other")).to_be_visible()
    lab.locator(".jp-RunningSessions-shutdownAll:visible", has_text="Stop All").click()
    expect(lab.locator(".jp-Dialog-body")).to_have_text("Stop all services?")
    picture(lab, "running-stop-all")
    lab.click(".jp-Dialog-button.jp-mod-warn")
    expect(lab.locator('.jp-RunningSessions-item[data-context^="portproxy:"]')).to_have_count(0, timeout=10_000)
    for name in ("demo", "other"):
        wait_for(server, name, "down")


def test_file_new_lists_templates_and_servers_of_packages(lab, server):
    items = menu(lab, "File", "New", "Service")
    expect(items.filter(has_text="Demonstration")).to_be_visible()
    assert labels(items)[:1] == ["Start a Service…"]
    assert {"Demonstration", "Pictured", "hello"} <= set(labels(items))
    expect(items.filter(has_text="Pictured").locator("image")).to_have_count(1)
    picture(lab, "menu-file-new")
    items.filter(has_text="Demonstration").click()
    wait_for(server, "demo", "up")
    menu(lab, "File", "New", "Service").filter(has_text="Start a Service").click()
    expect(lab.locator(".jp-Dialog-header")).to_have_text("Start a service")
    lab.click('.jp-Dialog-button:has-text("Cancel")')


def test_the_panel_is_in_the_view_menu_and_the_documentation_in_the_help_menu(lab):
    lab.click('[data-id="filebrowser"]')
    item = menu(lab, "View").filter(has_text="Ports and Services")
    expect(item.locator(".lm-Menu-itemShortcut")).to_have_text("Ctrl+Shift+Y")
    item.click()
    expect(lab.locator(".jp-PortProxy-panel")).to_be_visible()
    with lab.context.expect_page() as opened:
        lab.context.route("https://*.readthedocs.io/**", lambda route: route.fulfill(body="the documentation"))
        menu(lab, "Help").filter(has_text="Ports and Services").click()
    expect(opened.value.locator("body")).to_have_text("the documentation")


def test_a_shortcut_shows_the_panel_and_collides_with_no_other(lab, server):
    lab.click('[data-id="filebrowser"]')
    expect(lab.locator(".jp-PortProxy-panel")).to_be_hidden()
    lab.keyboard.press("Control+Shift+Y")
    expect(lab.locator(".jp-PortProxy-panel")).to_be_visible()
    bindings = lab.evaluate("window.jupyterapp.commands.keyBindings.map(({command, keys}) => [command, keys])")
    assert len(bindings) > 100
    assert [command for command, keys in bindings if keys[0] == "Ctrl Shift Y"] == ["portproxy:show-panel"]
    plugins = json.loads(server.get("lab/api/settings")[1])["settings"]
    defaults = [each for plugin in plugins for each in plugin["schema"].get("jupyter.lab.shortcuts", [])]
    keys = [keys[0] for each in defaults for name, keys in each.items() if name.lower().endswith("keys") and keys]
    taken = {"Accel Shift Y", "Ctrl Shift Y", "Cmd Shift Y"}  # also on systems other than this one
    assert [each for each in keys if each in taken] == ["Accel Shift Y"]


def test_toolbars_have_an_item_that_shows_the_panel(lab, server):
    lab.click('[data-id="filebrowser"]')
    lab.click('#jp-top-bar [data-jp-item-name="portproxy"]')
    expect(lab.locator(".jp-PortProxy-panel")).to_be_visible()
    lab.click('[data-id="filebrowser"]')
    lab.dblclick('.jp-DirListing-itemText:has-text("a.ipynb")')
    lab.click('.jp-Dialog-button:has-text("No Kernel")', timeout=20_000)
    lab.click('.jp-NotebookPanel-toolbar [data-jp-item-name="portproxy"]', timeout=20_000)
    expect(lab.locator(".jp-PortProxy-panel")).to_be_visible()
    picture(lab, "toolbars")


def test_server_proxy_open_shows_a_service_or_port_in_its_tab(lab, server):
    frame = lab.locator(".jp-PortProxy-frame iframe:visible")
    execute(lab, "server-proxy:open", id="server-proxy:hello", title="Hello there", url="/hello/", newBrowserTab=False)
    expect(frame.content_frame.locator("body")).to_contain_text("Hello", timeout=15_000)
    expect(lab.locator(".lm-TabBar-tab.jp-mod-current .lm-TabBar-tabLabel").first).to_have_text("Hello there")
    wait_for(server, "hello", "up")
    seen: list[str] = []
    with running(lambda method, path, *_: (seen.append(path) or 200, HTML, b"<h1>mine</h1>")) as port:
        execute(lab, "server-proxy:open", id="x", title="Mine", url=f"/proxy/{port}/deep/page?q=1", newBrowserTab=False)
        expect(frame.content_frame.locator("h1")).to_have_text("mine", timeout=15_000)
        assert "/deep/page?q=1" in seen
        assert urlsplit(frame.element_handle().content_frame().url).hostname == f"p{port}.localhost"
        with lab.context.expect_page() as opened:
            execute(lab, "server-proxy:open", id="x", title="Mine", url=f"/proxy/{port}/outside", newBrowserTab=True)
        expect(opened.value.locator("h1")).to_have_text("mine", timeout=10_000)
        assert urlsplit(opened.value.url)[1:3] == (f"p{port}.localhost:{urlsplit(server.url).port}", "/outside")


def test_server_proxy_open_frames_other_pages_of_the_server_alone(lab, server):
    tab = lab.locator('[id^="jp-portproxy-page-"] iframe:visible')
    execute(lab, "server-proxy:open", id="the list", title="The list", url="/proxy/", newBrowserTab=False)
    expect(tab.content_frame.locator("h1")).to_be_visible(timeout=10_000)
    execute(lab, "server-proxy:open", id="the list", title="The list", url="/proxy/", newBrowserTab=False)
    expect(tab).to_have_count(1)
    with listener("elsewhere") as port, lab.context.expect_page() as opened:
        execute(lab, "server-proxy:open", id="y", title="Foreign", url=f"http://127.0.0.1:{port}/", newBrowserTab=False)
    expect(tab).to_have_count(1)
    assert urlsplit(opened.value.url).port == port
    execute(lab, "server-proxy:open", id="z", title="Script", url="javascript:document.title='owned'", newBrowserTab=False)
    lab.wait_for_selector("text=Cannot open 'javascript:document.title='owned'': it is not an http or https address.")
    assert lab.title() != "owned"

    until = time.monotonic() + 10  # JupyterLab saves what is open a while after the last change
    while "portproxy-pages:" not in server.get("lab/api/workspaces/default")[1]:
        assert time.monotonic() < until
        lab.wait_for_timeout(100)
    open_lab(lab, f"{server.url}lab")
    expect(tab.content_frame.locator("h1")).to_be_visible(timeout=20_000)


@pytest.mark.timeout(120)
def test_the_extension_of_jupyter_server_proxy_keeps_its_command(chromium, tmp_path):
    more = {"PYTHONPATH": str(INCUMBENT), "JUPYTER_PATH": str(INCUMBENT / "share" / "jupyter")}
    with jupyter_server(tmp_path, *EXPOSED, more=more) as server:
        context = chromium.new_context()
        log_in(context, server.url)
        lab = context.new_page()
        problems = watch_errors(lab, console=True)
        open_lab(lab, f"{server.url}lab")
        lab.wait_for_function("window.jupyterapp.commands.hasCommand('server-proxy:open')")
        execute(lab, "server-proxy:open", id="x", title="X", url=f"{server.url}proxy/", newBrowserTab=False)
        expect(lab.locator(".jp-ServerProxy iframe").first).to_be_visible()
        execute(lab, "portproxy:open-url", id="x", title="X", url=f"{server.url}proxy/")
        expect(lab.locator('[id^="jp-portproxy-page-"] iframe')).to_be_visible()
        assert [text for text in problems if "already registered" in text or "activate" in text] == []
        context.close()


# ---- Notebook ----


def new_menu(tree: Page):
    tree.click(".jp-DropdownMenu .lm-MenuBar-itemLabel")
    return tree.locator(".lm-Menu .lm-Menu-item:not(.lm-mod-hidden)")


def test_notebooks_new_menu_lists_templates_and_servers_of_packages(tree, server):
    items = new_menu(tree)
    expect(items.filter(has_text="Demonstration")).to_be_visible()
    before = labels(items)
    assert before[:1] == ["Python 3 (ipykernel)"]
    assert {"Start a Service…", "Demonstration", "Pictured", "hello"} <= set(before)
    picture(tree, "notebook-new")
    items.filter(has_text="hello").click()
    wait_for(server, "hello", "up")

    kernel = Path(server.home) / ".local" / "share" / "jupyter" / "kernels" / "second"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps({"argv": ["true"], "display_name": "Second kernel", "language": "none"}))
    tree.evaluate("window.jupyterapp.serviceManager.kernelspecs.refreshSpecs()")
    items = new_menu(tree)
    expect(items.filter(has_text="Second kernel")).to_be_visible()
    assert sorted(labels(items)) == sorted([*before, "Second kernel"])
    items.filter(has_text="Start a Service").click()
    expect(tree.locator(".jp-Dialog-header")).to_have_text("Start a service")
    tree.click('.jp-Dialog-button:has-text("Cancel")')


def test_notebook_has_the_running_services_and_the_menus(tree, server):
    start(server, "demo")
    tree.click('.lm-TabBar-tabLabel:text-is("Running")')
    with tree.context.expect_page() as opened:
        session(tree, "demo").locator(".jp-RunningSessions-itemLabel").click()
    expect(opened.value.locator("#socket")).to_contain_text("echoed", timeout=10_000)
    session(tree, "demo").hover()
    session(tree, "demo").locator(".jp-RunningSessions-itemShutdown").click()
    wait_for(server, "demo", "down")
    expect(menu(tree, "File", "New", "Service").filter(has_text="Demonstration")).to_be_visible()
    tree.keyboard.press("Escape")
    tree.goto(f"{server.url}notebooks/a.ipynb")
    tree.wait_for_function("window.jupyterapp?.commands.hasCommand('server-proxy:open')", timeout=20_000)
    tree.wait_for_selector(".jp-Notebook")
    seen: list[str] = []
    with running(lambda method, path, *_: (seen.append(path) or 200, HTML, b"<h1>mine</h1>")) as port:
        with tree.context.expect_page() as opened:
            execute(tree, "server-proxy:open", id="x", title="X", url=f"/proxy/{port}/deep", newBrowserTab=False)
        expect(opened.value.locator("h1")).to_have_text("mine", timeout=10_000)
        assert "/deep" in seen
