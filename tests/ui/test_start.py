"""From a click or an address to a service's page, with services that take their time, in Chromium."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from ..support.jupyter_processes import jupyter_server
from .conftest import log_in, watch_errors

PICTURES = Path(__file__).parents[2] / "build" / "screenshots"
AXE = Path(__file__).parents[2] / "labextension" / "node_modules" / "axe-core" / "axe.min.js"
SLOW = """
import http.server, sys, time
for part in range(int(sys.argv[2])):
    print("part", part, "<b>of</b> the model", flush=True); time.sleep(1)
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Type", "text/html"); self.end_headers()
        self.wfile.write(("<title>There</title><p id=there>" + self.path + "</p>").encode())
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""
FAILS = """
import os, sys, time
print("reads the model", flush=True); time.sleep(2)
if not os.path.exists("model"): raise FileNotFoundError("no model <i>here</i>")
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], sys.argv[1], "1"])
"""
PYTHON = [sys.executable, "-c"]
TEMPLATES = {
    "slow": {"command": [*PYTHON, SLOW, "{port}", "8"], "title": "A slow one", "start_on_open": True, "stop_timeout": 1},
    "lab": {"command": [*PYTHON, SLOW, "{port}", "4"], "title": "A tab in Lab", "stop_timeout": 1},
    "asks": {
        "command": [*PYTHON, SLOW, "{port}", "{parts}"],
        "title": "It asks",
        "arguments": [{"name": "parts", "default": "3", "kind": "number"}],
        "stop_timeout": 1,
    },
    "outside": {"command": [*PYTHON, SLOW, "{port}", "3"], "title": "A browser tab", "open_in": "browser", "stop_timeout": 1},
    "fails": {"command": [*PYTHON, FAILS, "{port}", SLOW], "title": "A broken one", "start_on_open": True, "stop_timeout": 1},
}


@pytest.fixture(scope="module")
def start_server(tmp_path_factory):
    home = tmp_path_factory.mktemp("start")
    config = home / ".jupyter" / "jupyter_portproxy.d"
    config.mkdir(parents=True)
    (config / "mine.json").write_text(json.dumps(TEMPLATES))
    with jupyter_server(home, f"--ServerApp.root_dir={home}") as running:
        running.home = home
        yield running
        assert "Traceback" not in running.log, running.log


@pytest.fixture
def tab(chromium, start_server):
    """A browser tab that is logged in. What its pages throw fails the test."""
    context = chromium.new_context(viewport={"width": 1000, "height": 700})
    log_in(context, start_server.url)
    page = context.new_page()
    errors = watch_errors(page)
    yield page
    for name in TEMPLATES:
        start_server.call("DELETE", f"proxy/api/services/{name}")
    context.close()
    assert errors == []


def picture(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")


def violations(page: Page) -> list[object]:
    """What axe finds, of any impact. Playwright's evaluation is not subject to the page's Content-Security-Policy."""
    page.evaluate(AXE.read_text())
    found: list[object] = page.evaluate("async () => (await axe.run()).violations.map(v => [v.id, v.nodes.map(n => n.html)])")
    return found


@pytest.mark.parametrize(
    ("path", "end"),
    [
        ("proxy/service/slow/a%2Fb?c=d#e", "proxy/service/slow/a%2Fb?c=d#e"),
        ("proxy/enter/slow/a%2Fb?c=d#e", "/a%2Fb?c=d#e"),
    ],
    ids=["path-based", "isolated"],
)
def test_an_address_shows_the_steps_and_then_the_page_that_was_opened(tab, start_server, path, end):
    statuses: list[int] = []
    tab.on("response", lambda response: statuses.append(response.status) if response.request.is_navigation_request() else None)
    begin = time.monotonic()
    tab.goto(start_server.url + path, wait_until="commit")
    expect(tab.locator("h1")).to_have_text("A slow one is starting")
    first = time.monotonic() - begin
    expect(tab.locator("[aria-current=step]")).to_contain_text("Waiting for port 1")
    expect(tab.locator("li.done")).to_have_text("Starting the program")
    expect(tab.locator("#lines")).to_contain_text("part 0 <b>of</b> the model")
    expect(tab.locator("#lines")).to_contain_text("part 1 <b>of</b> the model")
    expect(tab.locator("#time")).to_have_text(re.compile("[2-9] s since the start"))
    picture(tab, "start-page")
    assert violations(tab) == []
    log, services = (tab.get_by_role("link", name=name).evaluate("a => a.href") for name in ("Its whole log", "All services"))
    assert "part 0" in tab.context.request.get(log.partition("?")[0]).text()
    assert "A slow one" in tab.context.request.get(services).text()
    expect(tab.locator("#there")).to_be_visible(timeout=15_000)
    print(f"{path}: first step after {first:.2f} s, the page after {time.monotonic() - begin:.2f} s")
    assert tab.url.endswith(end) and first < 2
    assert [status for status in statuses if status != 302] == [503, 200]  # no page was loaded in between


def test_a_failure_shows_why_and_starts_again(tab, start_server):
    tab.emulate_media(color_scheme="dark")
    tab.goto(f"{start_server.url}proxy/service/fails/#x")
    expect(tab.locator("h1")).to_have_text("A broken one is starting")
    expect(tab.locator("h1")).to_have_text("A broken one has failed", timeout=10_000)
    expect(tab.locator("#message")).to_contain_text("It ended with exit code 1 before it was ready.")
    expect(tab.locator("#lines")).to_contain_text("FileNotFoundError: no model <i>here</i>")
    expect(tab.locator("#steps")).to_be_hidden()
    picture(tab, "start-page-failed-dark")
    assert violations(tab) == []
    (start_server.home / "model").touch()
    tab.get_by_role("button", name="Start again").press("Enter")
    expect(tab.locator("h1")).to_have_text("A broken one is starting")
    expect(tab.locator("#there")).to_be_visible(timeout=15_000)
    (start_server.home / "model").unlink()


def test_a_page_that_is_away_while_it_starts_goes_on(tab, start_server):
    tab.goto(f"{start_server.url}proxy/service/slow/")
    tab.context.set_offline(True)
    expect(tab.locator("#message")).to_have_text("The Jupyter server does not answer. Trying again…")
    tab.context.set_offline(False)
    expect(tab.locator("#there")).to_be_visible(timeout=15_000)


@pytest.fixture
def lab(tab, start_server):
    tab.goto(f"{start_server.url}lab?reset", wait_until="commit")
    tab.wait_for_selector("#jupyterlab-splash", state="detached", timeout=60_000)
    tab.wait_for_selector(".jp-LauncherCard", timeout=30_000)
    return tab


def tile(lab: Page, title: str):
    return lab.locator(f'.jp-LauncherCard:has(p:text-is("{title}"))')


def test_a_tile_opens_a_tab_with_the_steps_that_becomes_the_page(lab):
    begin = time.monotonic()
    tile(lab, "A tab in Lab").click()
    notice = lab.locator(".jp-PortProxy-message")
    expect(notice).to_contain_text("A tab in Lab: Starting.")
    first = time.monotonic() - begin
    expect(notice.locator("[aria-current=step]")).to_contain_text("Waiting for port 1")
    expect(notice.locator("pre")).to_contain_text("part 0 <b>of</b> the model")
    expect(notice.locator("pre")).to_contain_text("part 2 <b>of</b> the model")
    picture(lab, "start-tab-light")
    lab.add_script_tag(path=AXE)
    found = "async () => (await axe.run('.jp-PortProxy-message')).violations.map(v => [v.id, v.nodes.map(n => n.html)])"
    assert lab.evaluate(found) == []
    expect(lab.frame_locator(".jp-PortProxy-frame iframe").locator("#there")).to_be_visible(timeout=15_000)
    print(f"tile: first step after {first:.2f} s, the page after {time.monotonic() - begin:.2f} s, one click")
    assert first < 2


def test_the_form_leads_to_the_page_too(lab):
    tile(lab, "It asks").click()
    lab.click('.jp-Dialog-button:has-text("Start")')
    expect(lab.locator(".jp-PortProxy-message [aria-current=step]")).to_contain_text("Waiting for port 1")
    expect(lab.frame_locator(".jp-PortProxy-frame iframe").locator("#there")).to_be_visible(timeout=15_000)


def test_a_tile_opens_a_browser_tab_in_the_click(lab):
    begin = time.monotonic()
    with lab.context.expect_page() as opened:
        tile(lab, "A browser tab").click()
    page = opened.value
    expect(page.locator("h1")).to_have_text("A browser tab is starting")
    first = time.monotonic() - begin
    picture(page, "start-browser-tab")
    assert page.evaluate("window.opener") is None
    expect(page.locator("#there")).to_be_visible(timeout=15_000)
    print(f"tile of a browser tab: first step after {first:.2f} s, the page after {time.monotonic() - begin:.2f} s, one click")
    assert len(lab.context.pages) == 2


def test_an_error_page_at_a_fragment_loads_itself_again(tab, start_server):
    tab.goto(f"{start_server.url}proxy/port/19999/#part")
    expect(tab.locator("h1")).to_have_text("The service does not answer")
    assert violations(tab) == []
    with tab.expect_response(lambda response: response.request.is_navigation_request(), timeout=6000):
        pass
    expect(tab.locator("h1")).to_have_text("The service does not answer")
    assert tab.url.endswith("#part")
