"""The diagnosis of a page and its recorded requests in JupyterLab, in a real Chromium."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import threading

import pytest
from playwright.sync_api import Page, expect

from ..support.jupyter_processes import TOKEN, jupyter_server
from ..support.upstreams import free_port
from .conftest import log_in, watch_errors, without_news
from .test_lab import AXE, open_lab, picture

BROKEN = b"""<!doctype html><title>Broken</title><meta name="referrer" content="no-referrer">
<script src="/static/app.js"></script>
<script src="one.js"></script><img src="two.png"><link rel="stylesheet" href="three.css">"""

CONTENT = {
    "/": (BROKEN, "text/html"),
    "/static/app.js": (b"window.isLoaded = true", "text/javascript"),
    "/healthy": (b"<!doctype html><html lang=en><title>Healthy</title>fine</html>", "text/html"),
}


class Pages(http.server.BaseHTTPRequestHandler):
    """A page that loads a script from the root, and whose other parts are missing.

    /healthy has nothing wrong, /garbled is no HTTP.
    """

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if self.path.startswith("/garbled"):
            self.wfile.write(b"SSH-2.0-OpenSSH_9\r\n")
            self.close_connection = True
            return
        body, kind = CONTENT.get(self.path.partition("?")[0], (b"", "text/html"))
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@contextlib.contextmanager
def broken_app(requests: list[str] | None = None):
    """The service; its port. Targets of requests are appended to `requests`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Pages)
    server.requests = [] if requests is None else requests
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def lab_server(tmp_path_factory):
    home = tmp_path_factory.mktemp("diagnosis")
    without_news(home)
    (home / "a.ipynb").write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    with jupyter_server(home, f"--ServerApp.root_dir={home}") as running:
        yield running
        assert "Traceback" not in running.log, running.log


@pytest.fixture
def lab(context, lab_server):
    page = context.new_page()
    page.set_default_timeout(8000)
    errors = watch_errors(page, console=True)
    open_lab(page, f"{lab_server.url}lab?token={TOKEN}&reset")
    page.click('[data-id="jp-portproxy-panel"]')
    yield page
    picture(page, "last-diagnosis")
    page.close()
    # What the broken page itself logs is not JupyterLab's.
    assert [error for error in errors if not re.search(r"/proxy/(port|enter)/|//p\d+\.localhost:", error)] == []


@pytest.fixture
def browser_tab(context, lab_server):
    """A page of a browser that is logged in, without JupyterLab."""
    log_in(context, lab_server.url)
    page = context.new_page()
    page.set_default_timeout(15_000)
    yield page
    picture(page, "last-error-page")


def row(page: Page, port: int):
    return page.locator(f'.jp-PortProxy-row[data-port="{port}"]')


def set_theme(lab: Page, scheme: str) -> None:
    lab.click('.lm-MenuBar-itemLabel:text-is("Settings")')
    lab.hover('.lm-Menu-itemLabel:text-is("Theme")')
    lab.click(f'.lm-Menu-itemLabel:text-is("JupyterLab {scheme.title()}")')
    expect(lab.locator("body")).to_have_attribute("data-jp-theme-light", str(scheme == "light").lower(), timeout=10_000)


def check_axe(page: Page, selector: str) -> None:
    page.add_script_tag(path=AXE)
    found = page.evaluate(
        """async selector => (await axe.run(selector, {iframes: false})).violations
             .map(v => [v.id, v.nodes.map(n => n.html.slice(0, 120))])""",
        selector,
    )
    assert found == [], selector


def test_a_broken_page_is_diagnosed_by_the_keyboard(lab):
    with broken_app() as port:
        expect(row(lab, port)).to_be_visible(timeout=15_000)
        row(lab, port).locator(".jp-PortProxy-name").focus()
        lab.keyboard.press("Shift+F10")
        item = lab.locator(".lm-Menu-item", has_text="Diagnose the Page")
        expect(item).to_be_visible()
        for _ in range(lab.locator(".lm-Menu-item").count()):
            if "lm-mod-active" not in (item.get_attribute("class") or ""):
                lab.keyboard.press("ArrowDown")
        lab.keyboard.press("Enter")
        view = lab.locator(".jp-PortProxy-inspection")
        worst = view.locator(".jp-PortProxy-findings > li").first
        expect(worst).to_contain_text("/static/app.js", timeout=20_000)
        expect(worst.locator(".jp-PortProxy-severity")).to_have_text("Error")
        expect(worst).to_contain_text("at /:2")
        expect(worst.locator("a").first).to_have_attribute("href", re.compile(rf"^http://.*{port}/$"))
        picture(lab, "diagnosis-light")
        check_axe(lab, ".jp-PortProxy-inspection")
        view.get_by_label("Page").fill("/healthy")
        lab.keyboard.press("Enter")
        expect(view.get_by_role("status")).to_contain_text("Nothing wrong was found.", timeout=20_000)
        expect(view.get_by_role("status")).to_contain_text(f"/proxy/port/{port}/healthy")
        expect(view.get_by_label("Page")).to_be_focused()
        row(lab, port).click(button="right")
        lab.click('.lm-Menu-itemLabel:text-is("Show Requests")')
        table = lab.locator(".jp-PortProxy-requests")
        expect(lab.locator("text=are recorded from now on")).to_be_visible()
        answer = lab.request.get(f"{lab.url.partition('/lab')[0]}/proxy/port/{port}/healthy?secret=planted")
        assert answer.ok
        path = table.get_by_role("button", name=f"/proxy/port/{port}/healthy?secret=***")
        expect(path).to_be_visible()
        path.focus()
        lab.keyboard.press("Enter")
        expect(table).to_contain_text("Content-Type: text/html")
        assert "planted" not in lab.content()
        picture(lab, "requests-light")
        check_axe(lab, ".jp-PortProxy-inspection:has(.jp-PortProxy-requests)")
        with lab.expect_download() as download:
            lab.get_by_role("button", name="Save as HAR").click()
        archive = json.loads(download.value.path().read_text())
        assert archive["log"]["entries"][0]["response"]["status"] == 200
        lab.get_by_role("button", name="Clear").click()
        expect(table).to_have_count(0)


def test_failed_requests_of_a_page_lead_to_its_diagnosis_in_the_dark_theme(lab):
    set_theme(lab, "dark")
    with broken_app() as port:
        row(lab, port).locator(".jp-PortProxy-name").click(timeout=15_000)
        notice = lab.locator(".Toastify__toast", has_text="requests of Broken have failed.")
        expect(notice).to_have_count(1, timeout=15_000)
        picture(lab, "failed-requests")
        notice.get_by_role("button", name="Diagnose").click()
        view = lab.locator(".jp-PortProxy-inspection")
        expect(view.locator(".jp-PortProxy-findings > li").first).to_contain_text("/static/app.js", timeout=20_000)
        picture(lab, "diagnosis-dark")
        check_axe(lab, ".jp-PortProxy-inspection")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_error_page_leads_to_the_diagnosis_which_waits_for_its_button(browser_tab, lab_server, scheme):
    browser_tab.emulate_media(color_scheme=scheme)
    requests: list[str] = []
    with broken_app(requests) as port:
        other = browser_tab.context.new_page()  # a second JupyterLab gets a workspace of its own
        open_lab(other, f"{lab_server.url}lab?reset")
        set_theme(other, scheme)
        browser_tab.goto(f"{lab_server.url}proxy/port/{port}/garbled/page?secret=planted")
        browser_tab.evaluate(AXE.read_text())
        assert browser_tab.evaluate("async () => (await axe.run()).violations.map(one => one.id)") == []
        picture(browser_tab, f"error-diagnose-{scheme}")
        browser_tab.keyboard.press("Tab")
        expect(browser_tab.get_by_role("link", name="Diagnose this page")).to_be_focused()
        with browser_tab.context.expect_page() as opened:
            browser_tab.keyboard.press("Enter")
        lab = opened.value
        view = lab.locator(".jp-PortProxy-inspection")
        expect(view.get_by_role("status")).to_contain_text("is requested when you press Diagnose.", timeout=40_000)
        expect(view.get_by_label("Page")).to_have_value("/garbled/page")
        lab.wait_for_function("!location.search && location.pathname.includes('/lab')")
        picture(lab, f"diagnosis-linked-{scheme}")
        check_axe(lab, ".jp-PortProxy-inspection")
        assert "/garbled/page" not in requests
        lab.keyboard.press("Tab")
        lab.keyboard.press("Tab")
        expect(view.get_by_role("button", name="Diagnose")).to_be_focused()
        lab.keyboard.press("Enter")
        expect(view.get_by_role("status")).to_contain_text("does not answer in HTTP", timeout=20_000)
        assert "/garbled/page" in requests
        lab.reload()
        lab.wait_for_selector("#jupyterlab-splash", state="detached", timeout=60_000)
        expect(lab.locator(".jp-LauncherCard").first).to_be_visible(timeout=30_000)
        expect(view).to_have_count(0)


def test_a_link_of_another_site_starts_no_diagnosis(browser_tab, lab_server):
    requests: list[str] = []
    with broken_app(requests) as port:
        target = f"{lab_server.url}lab?portproxy-diagnose={port}%2Fgarbled%2Fdelete&amp;reset"
        page = f'<a href="{target}">x</a>'
        browser_tab.route("http://evil.example/", lambda route: route.fulfill(content_type="text/html", body=page))
        browser_tab.goto("http://evil.example/")
        browser_tab.get_by_role("link").click()
        view = browser_tab.locator(".jp-PortProxy-inspection")
        expect(view.get_by_role("button", name="Diagnose", exact=True)).to_be_visible(timeout=40_000)
        browser_tab.wait_for_timeout(1000)
        assert "/garbled/delete" not in requests
        for wrong in ("70000", "a%2Fb%0A", "%3Cimg%20src=x%3E"):
            browser_tab.goto(f"{lab_server.url}lab?portproxy-diagnose={wrong}&reset")
            expect(browser_tab.locator(".jp-LauncherCard").first).to_be_visible(timeout=40_000)
            browser_tab.wait_for_function("!location.search")
            expect(view).to_have_count(0)


def test_the_link_of_an_error_page_in_a_tab_diagnoses_in_the_same_window(chromium, lab_server):
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    log_in(context, lab_server.url)
    lab = context.new_page()
    lab.route(  # no isolated origins
        re.compile("proxy/api/origins"),
        lambda route: route.fulfill(json={"isolate": "auto", "probe": None, "origin": None, "features": []}),
    )
    open_lab(lab, f"{lab_server.url}lab?reset")
    lab.click('[data-id="jp-portproxy-panel"]')
    with broken_app() as port:
        row(lab, port).locator(".jp-PortProxy-name").click(timeout=15_000)
        address = lab.get_by_label("Address below the prefix")
        address.fill("/garbled/x")
        address.press("Enter")
        lab.frame_locator(".jp-PortProxy-frame iframe").get_by_role("link", name="Diagnose this page").click(timeout=15_000)
        view = lab.locator(".jp-PortProxy-inspection")
        expect(view.get_by_role("status")).to_contain_text("does not answer in HTTP", timeout=20_000)
        expect(view.get_by_label("Page")).to_have_value("/garbled/x")
        assert len(context.pages) == 1
    context.close()


@pytest.mark.parametrize("path", ["tree", "notebooks/a.ipynb"])
def test_notebook_shows_both_in_a_dialog_by_the_keyboard(browser_tab, lab_server, path):
    browser_tab.goto(f"{lab_server.url}{path}")
    dialog, kind = browser_tab.locator(".jp-Dialog"), path.partition("/")[0]
    if kind == "tree":
        browser_tab.wait_for_selector(".jp-DirListing-item", timeout=40_000)
    else:
        dialog.get_by_role("button", name="Select Kernel").press("Escape", timeout=40_000)
    with broken_app() as port:
        browser_tab.keyboard.press("Control+Shift+Y")

        def run(command: str) -> None:
            row(browser_tab, port).locator(".jp-PortProxy-name").focus(timeout=20_000)
            browser_tab.keyboard.press("Shift+F10")
            browser_tab.click(f'.lm-Menu-itemLabel:text-is("{command}")')

        run("Diagnose the Page")
        expect(dialog.locator(".jp-PortProxy-findings > li").first).to_contain_text("/static/app.js", timeout=20_000)
        expect(dialog.get_by_label("Page")).to_be_focused()
        picture(browser_tab, f"{kind}-diagnosis")
        check_axe(browser_tab, ".jp-Dialog")
        browser_tab.keyboard.press("Control+A")
        browser_tab.keyboard.type("/healthy")
        browser_tab.keyboard.press("Enter")
        expect(dialog.get_by_role("status")).to_contain_text("Nothing wrong was found.", timeout=20_000)
        browser_tab.keyboard.press("Escape")
        expect(dialog).to_have_count(0)

        run("Show Requests")
        expect(dialog).to_contain_text("are recorded from now on")
        expect(dialog.get_by_label("Filter")).to_be_focused()
        assert browser_tab.request.get(f"{lab_server.url}proxy/port/{port}/healthy").ok
        dialog.get_by_role("button", name=f"/proxy/port/{port}/healthy").press("Enter")
        expect(dialog).to_contain_text("Content-Type: text/html")
        picture(browser_tab, f"{kind}-requests")
        check_axe(browser_tab, ".jp-Dialog")
        browser_tab.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
