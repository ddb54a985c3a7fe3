"""What people see in their browser: the demonstration service through the gateway, the error page, and the list."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..support.upstreams import free_port
from .apps import build, running

PICTURES = Path(__file__).parents[2] / "artifacts"
DEMO = Path(__file__).parent / "demo_app.py"
AXE = Path(__file__).parents[2] / "labextension" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture
def start_demo():
    """Starts the demonstration service on a port."""
    running = []

    def start(port: int) -> None:
        running.append(subprocess.Popen([sys.executable, str(DEMO), str(port)], stderr=subprocess.DEVNULL))

    yield start
    for process in running:
        process.kill()
        process.wait()


def test_the_error_page_retries_until_the_service_is_up(page, server, start_demo):
    port = free_port()
    answer = page.goto(f"{server}proxy/port/{port}/")
    assert answer.status == 502
    assert f"Failed to connect to service on port {port}." in page.inner_text("main")
    start_demo(port)
    page.wait_for_selector("text=It works", timeout=10_000)


def test_the_error_page_of_a_port_outside_the_range_allows_it(page, server, start_demo):
    port = free_port(range(21000, 29000))
    start_demo(port)
    assert page.goto(f"{server}proxy/port/{port}/?q=1").status == 403
    assert f"Port {port} is outside allowed range (10000-20000)" in page.inner_text("main")
    page.screenshot(path=PICTURES / "error-allow.png")
    page.click(f"button:text-is('Allow port {port}')")
    page.wait_for_selector("#socket:has-text('the service echoed: hello')", timeout=5_000)
    assert page.url == f"{server}proxy/port/{port}/?q=1"
    page.goto(f"{server}proxy/")
    page.screenshot(path=PICTURES / "page-allowed.png", full_page=True)
    page.evaluate(AXE.read_text())
    assert page.evaluate("async () => (await axe.run()).violations.map(one => one.id)") == []
    page.click(f"button[aria-label='Take back port {port}']")
    page.wait_for_selector(f"button[aria-label='Allow port {port}']", timeout=5_000)
    assert page.goto(f"{server}proxy/port/{port}/").status == 403


def test_the_error_page_of_an_isolated_origin_allows_the_port_and_leads_there(page, server, start_demo):
    port = free_port(range(21000, 29000))
    start_demo(port)
    assert page.goto(f"{server}proxy/enter/{port}/?q=1").status == 403
    page.click(f"button:text-is('Allow port {port}')")
    page.wait_for_selector("#socket:has-text('the service echoed: hello')", timeout=5_000)
    assert page.url.startswith(f"http://p{port}.localhost:") and page.url.endswith("/?q=1")
    page.goto(f"{server}proxy/")
    page.click(f"button[aria-label='Take back port {port}']")
    page.wait_for_selector(f"button[aria-label='Allow port {port}']", timeout=5_000)


def test_a_page_its_events_and_its_websocket_pass(page, server, start_demo, tmp_path):
    port = free_port()
    start_demo(port)
    page.goto(f"{server}proxy/port/{port}")
    page.wait_for_selector("text=It works", timeout=10_000)
    assert page.url == f"{server}proxy/port/{port}/"
    page.wait_for_selector("#events:has-text('it is')", timeout=5_000)
    page.wait_for_selector("#socket:has-text('the service echoed: hello')", timeout=5_000)
    file = tmp_path / "file.bin"
    file.write_bytes(bytes(3_000_000))
    page.set_input_files("#file", file)
    page.wait_for_selector("#upload:has-text('3000000 bytes arrived')", timeout=5_000)


def test_without_a_login_the_browser_sees_the_login_page(chromium, server, start_demo):
    port = free_port()
    start_demo(port)
    page = chromium.new_page()
    page.goto(f"{server}proxy/port/{port}/x")
    assert "/login?next=" in page.url
    page.close()


@pytest.mark.parametrize("form", ["port", "enter"])
def test_a_manifest_is_no_error_in_the_console(page, server, form):
    """Chromium asks for it without cookies; it reports here what it would write into the console."""
    with running(build) as port:
        page.goto(f"{server}proxy/{form}/{port}/")
        page.wait_for_selector("text=/^route/")
        manifest = page.context.new_cdp_session(page).send("Page.getAppManifest")
    assert (manifest["url"].rpartition("/")[2], manifest["errors"]) == ("manifest.json", [])


def test_a_page_of_another_site_reaches_no_service(page, server, start_demo, chromium):
    """A page on `localhost` is another site than the server on `127.0.0.1`; its browser holds the login cookie."""
    mine, theirs = free_port(), free_port()
    start_demo(mine)
    start_demo(theirs)
    page.goto(f"{server}proxy/port/{mine}/")
    page.wait_for_selector("text=It works", timeout=10_000)
    page.goto(f"http://localhost:{theirs}/")
    outcome = page.evaluate(
        """async url => {
          const socket = await new Promise(done => {
            const ws = new WebSocket(url.replace(/^http/, "ws") + "socket");
            ws.onopen = () => done("open");
            ws.onclose = () => done("refused");
          });
          const fetched = await fetch(url, { credentials: "include", mode: "no-cors" }).then(a => a.type, () => "failed");
          const image = await new Promise(done => {
            const img = new Image();
            img.onload = () => done("loaded");
            img.onerror = () => done("refused");
            img.src = url;
          });
          return [socket, fetched, image];
        }""",
        f"{server}proxy/port/{mine}/",
    )
    assert outcome == ["refused", "opaque", "refused"]


def test_a_service_is_started_opened_and_stopped_without_jupyterlab(page, server):
    messages = []
    page.on("console", lambda message: messages.append(message.text))
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"{server}proxy/")
    page.get_by_text("Static files").click()
    page.get_by_label("Name (optional)").locator("visible=true").fill("files")
    page.get_by_role("button", name="Start http-server", exact=True).click()
    page.wait_for_selector("text=/^up for/", timeout=20_000)  # it reloads itself
    assert page.url == f"{server}proxy/"
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.get_by_role("link", name="Reload").bounding_box()["height"] < 50  # one line
    targets = page.locator("a, button, summary, input").locator("visible=true").all()
    assert min(target.bounding_box()["height"] for target in targets) >= 44
    page.get_by_role("link", name="Open files").click()
    page.wait_for_selector("text=Directory listing for /")
    assert re.fullmatch(r"http://pfiles\.localhost:[0-9]+/", page.url)  # an origin of its own
    page.go_back()
    page.get_by_role("button", name="Stop files").click()
    page.wait_for_selector("text=/^down for/", timeout=20_000)
    page.get_by_role("button", name="Delete files").click()
    page.wait_for_selector("text=Nothing has been started.")
    assert [text for text in messages if "Content Security Policy" in text] == []


def test_a_port_gets_a_rule_and_is_added_without_jupyterlab(page, server, start_demo):
    port, later = free_port(), free_port()
    start_demo(port)
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"{server}proxy/port/{port}/")
    page.wait_for_selector("#socket:has-text('the service echoed: hello')", timeout=15_000)
    page.goto(f"{server}proxy/")
    page.get_by_text(f"Rule (port {port})").click()
    form = page.get_by_role("form", name=f"Rule for port {port}")
    form.get_by_label("Label").fill("<b>My app</b> 🙂")
    form.get_by_label("Protocol").select_option("tcp")
    form.get_by_role("button", name=f"Save the rule for port {port}").click()
    page.wait_for_selector("h3:text-is('<b>My app</b> 🙂')")
    assert page.get_by_role("link", name=f"Open port {port}").count() == 0
    page.get_by_text(f"Rule: TCP (port {port})").click()
    page.get_by_role("button", name=f"Remove the rule for port {port}").click()
    page.get_by_role("link", name=f"Open port {port}").wait_for()
    page.get_by_text("Add a port").click()
    page.get_by_role("form", name="Add a port").get_by_label("Port", exact=True).fill(str(later))
    page.get_by_role("button", name="Add", exact=True).click()
    page.wait_for_selector(f"text=port {later}")
    page.locator("summary").last.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    targets = page.locator("a, button, summary, input, select").locator("visible=true").all()
    assert min(target.bounding_box()["height"] for target in targets) >= 44
    page.evaluate(AXE.read_text())
    assert page.evaluate("async () => (await axe.run()).violations.map(one => one.id)") == []
    page.screenshot(path=PICTURES / "page-rules.png", full_page=True)
