"""Services in the environment of a kernel, and the notice of one that fails, in a real Chromium."""

from __future__ import annotations

import json
import os
import signal
import sys
import venv
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from ..support.jupyter_processes import Server, jupyter_server
from .conftest import log_in, watch_errors, without_news
from .test_diagnosis import check_axe
from .test_lab import act, open_lab, picture, row, tile

TOOL = """import http.server, os, sys
print("The model is loaded from", sys.prefix, os.getpid(), flush=True)
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")"""
TEMPLATES = {
    "demo": {"title": "Demonstration", "command": [sys.executable, "-c", TOOL, "{port}"], "stop_timeout": 1},
    "tool": {
        "title": "Shop tool",
        "command": ["shop-tool", "{port}"],
        "requires": {"program": "shop-tool", "hint": "pip install shop-tool"},
        "stop_timeout": 1,
    },
}


@pytest.fixture(scope="module")
def lab_server(tmp_path_factory):
    home = tmp_path_factory.mktemp("environments")
    without_news(home)
    templates = home / ".jupyter" / "jupyter_portproxy.d" / "mine.json"
    templates.parent.mkdir(parents=True)
    templates.write_text(json.dumps(TEMPLATES))
    install_kernel(home)
    (home / "files").mkdir()
    with jupyter_server(home, f"--ServerApp.root_dir={home / 'files'}") as running:
        yield running
        assert "Traceback" not in running.log, running.log


def install_kernel(home: Path) -> None:
    """The kernel "Shop" in an environment of its own, with the program `shop-tool`."""
    prefix = home / "shop"
    venv.create(prefix, symlinks=True)
    tool = prefix / "bin" / "shop-tool"
    tool.write_text(f"#!{prefix}/bin/python\n{TOOL}\n")
    tool.chmod(0o755)
    spec = home / ".local" / "share" / "jupyter" / "kernels" / "shop" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": [f"{prefix}/bin/python", "-m", "x"], "display_name": "Shop", "language": "python"}))


@pytest.fixture
def lab(context, lab_server):
    """JupyterLab without its Ports panel. What the page throws or logs as an error fails the test."""
    log_in(context, lab_server.url)
    page = context.new_page()
    page.set_default_timeout(8000)
    errors = watch_errors(page, console=True)
    open_lab(page, f"{lab_server.url}lab?reset")
    page.wait_for_selector(".jp-LauncherCard", timeout=30_000)
    yield page
    picture(page, "last-environments")
    page.close()  # first: a tab of a service that is gone logs an error
    for name in ("demo", "other", "tool"):
        lab_server.call("DELETE", f"proxy/api/services/{name}")
    assert [error for error in errors if "/proxy/service/" not in error and ".localhost:" not in error] == []


def service(server: Server, name: str) -> dict:
    return json.loads(server.get(f"proxy/api/services/{name}")[1])


def kill(server: Server, name: str) -> None:
    """Kills the process of a service, which has written its number into its log."""
    log = server.get(f"proxy/api/services/{name}/logs")[1]
    os.kill(int(log.split("The model is loaded from ")[-1].split()[1]), signal.SIGKILL)


def toast(page: Page, text: str):
    return page.locator(".Toastify__toast", has_text=text)


def test_a_service_that_fails_later_has_a_notice_once(lab, lab_server):
    tile(lab, "Demonstration").click()
    expect(toast(lab, "Demonstration is up.")).to_be_visible(timeout=20_000)
    lab_server.call("POST", "proxy/api/services", {"template": "demo", "name": "other"})  # a program does, not this person
    expect(lab.locator("#jp-portproxy-panel")).to_be_hidden()
    lab.click('[data-id="jp-portproxy-panel"]')
    expect(row(lab, "other").locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Up", timeout=20_000)
    lab.click('[data-id="filebrowser"]')
    kill(lab_server, "other")
    kill(lab_server, "demo")
    notice = toast(lab, "Demonstration has failed.")
    expect(notice).to_contain_text("GET / HTTP/1.1", timeout=10_000)  # the end of its log
    expect(toast(lab, "(other)")).to_have_count(0)
    picture(lab, "notice-failed")
    check_axe(lab, ".Toastify__toast")
    notice.get_by_role("button", name="Show log").click()
    expect(lab.locator(".jp-PortProxy-log")).to_contain_text("The model is loaded from")
    lab.reload()
    lab.wait_for_selector("#jupyterlab-splash", state="detached", timeout=60_000)
    lab.click('[data-id="jp-portproxy-panel"]')
    expect(row(lab, "demo").locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Failed", timeout=10_000)
    act(lab, "demo", "Start")
    expect(toast(lab, "Demonstration is up.")).to_be_visible(timeout=20_000)
    kill(lab_server, "demo")
    expect(notice).to_be_visible(timeout=10_000)
    notice.get_by_role("button", name="Restart").click()
    expect(toast(lab, "Demonstration is up.")).to_be_visible(timeout=20_000)
    expect(notice).to_have_count(0)


def test_a_service_runs_in_the_environment_of_a_kernel(lab, lab_server):
    lab.click('[data-id="jp-portproxy-panel"]')
    lab.click('.jp-PortProxy-panel [title="Start a service…"] >> visible=true')
    choice = lab.get_by_role("combobox", name="Environment")
    services = lab.get_by_role("combobox", name="Service", exact=True)
    expect(choice.locator("option")).to_have_text(["This server's Python", "Shop"])
    expect(services.locator("option", has_text="Shop tool")).to_have_count(0)
    choice.select_option("Shop")
    expect(services.locator("option", has_text="Shop tool")).to_have_count(1)
    services.select_option("tool")
    lab.wait_for_timeout(300)  # JupyterLab's dialogs fade in
    picture(lab, "form-kernel")
    check_axe(lab, ".jp-Dialog-content")
    lab.keyboard.press("Enter")
    expect(row(lab, "tool").locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Up", timeout=20_000)
    assert service(lab_server, "tool")["kernel"] == "shop"
    act(lab, "tool", "Stop")
    expect(row(lab, "tool").locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Stopped", timeout=20_000)
    act(lab, "tool", "Edit and start…")
    expect(choice).to_have_value("shop")
    choice.select_option("")
    expect(lab.locator(".jp-Dialog [role=alert]")).to_have_text("pip install shop-tool")
    expect(lab.locator('.jp-Dialog-button:has-text("Start")')).to_be_disabled()
    lab.keyboard.press("Escape")
