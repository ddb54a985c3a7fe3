"""Takes the pictures of README and docs again, into docs/pictures; best where no other program listens on a port.

    CHROMIUM=/usr/bin/chromium python -m tests.ui.pictures

A picture shows what a user would see, not what a test needs.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from ..support.jupyter_processes import TOKEN, Server, jupyter_server
from .chromium import launch_options
from .test_diagnosis import broken_app
from .test_lab import act, listener, open_lab, row, tile
from .test_pages import DEMO

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
SERVES = [sys.executable, str(DEMO), "{port}"]
FAILS = "print('Loading model.pt'); raise SystemExit(\"FileNotFoundError: model.pt\")"
TEMPLATES = {
    "dashboard": {"title": "Sales dashboard", "command": SERVES, "stop_timeout": 1},
    "api": {"title": "Feature API", "command": SERVES, "stop_timeout": 1},
    "training": {"title": "Training monitor", "command": [sys.executable, "-c", FAILS]},
    "report": {
        "title": "Report",
        "command": [*SERVES, "{folder}", "{level}"],
        "arguments": [
            {"name": "folder", "label": "Folder", "kind": "path", "default": "."},
            {"name": "level", "label": "Detail", "kind": "choice", "choices": ["daily", "weekly"], "default": "weekly"},
        ],
    },
}


SHOP = """
[services.db]
command = ["postgres", "-D", "data", "-p", "{port}"]
protocol = "tcp"

[services.web]
command = ["npm", "run", "dev", "--", "--port", "{port}"]
cwd = "web"
environment_file = ".env"
depends_on = ["db"]
autostart = "ask"

[[ports]]
port = 9229
label = "Debugger of Node"
on_appear = "silent"
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        furnish(home)
        browser = playwright.chromium.launch(**launch_options(playwright.chromium))
        with jupyter_server(home, f"--ServerApp.root_dir={home / 'files'}") as server:
            take_inspection(browser.new_page(viewport={"width": 1280, "height": 720}), server)
            take_folder(browser.new_page(viewport={"width": 1280, "height": 720}), server)
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            open_lab(page, f"{server.url}lab?token={TOKEN}")
            page.click('[data-id="jp-portproxy-panel"]')
            take(page, server)
        browser.close()


def furnish(home: Path) -> None:
    """Templates, files, and no news of Jupyter's."""
    for path, content in {
        ".jupyter/jupyter_portproxy.d/mine.json": TEMPLATES,
        ".jupyter/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings": {
            "fetchNews": "false",
            "checkForUpdates": False,
        },
    }.items():
        (home / path).parent.mkdir(parents=True)
        (home / path).write_text(json.dumps(content))
    for folder in ("reports", "shop/web"):
        (home / "files" / folder).mkdir(parents=True)
    (home / "files" / "shop" / ".env").write_text("DEBUG=1\n")
    (home / "files" / "shop" / "portproxy.toml").write_text(SHOP)


def take(page: Page, server: Server) -> None:
    tile(page, "Report").click()
    page.fill('.jp-Dialog label:has-text("Folder") input', "reports")
    page.screenshot(path=PICTURES / "form-light.png")
    page.keyboard.press("Escape")
    for name in ("api", "dashboard", "training"):
        server.call("POST", "proxy/api/services", {"template": name})
    expect(row(page, "training").locator(".jp-PortProxy-note")).to_be_visible(timeout=15_000)
    expect(row(page, "dashboard").locator(".jp-mod-up")).to_be_visible(timeout=15_000)
    act(page, "dashboard", "Open in a Lab tab")
    frame = page.frame_locator(".jp-PortProxy-frame iframe")
    expect(frame.locator("#socket")).to_have_text("the service echoed: hello", timeout=15_000)
    with listener("Streamlit tutorial"):
        page.wait_for_selector("text=A service is running on port", timeout=10_000)
        page.wait_for_timeout(1500)  # the note has moved in
        row(page, "dashboard").hover()
        page.screenshot(path=PICTURES / "tab-light.png")
        page.click('.lm-MenuBar-itemLabel:text-is("Settings")')
        page.hover('.lm-Menu-itemLabel:text-is("Theme")')
        page.click('.lm-Menu-itemLabel:text-is("JupyterLab Dark")')
        act(page, "training", "Show log")
        expect(page.locator(".jp-PortProxy-log")).to_contain_text("FileNotFoundError")
        page.wait_for_timeout(1000)
        page.screenshot(path=PICTURES / "panel-dark.png")


def take_folder(page: Page, server: Server) -> None:
    open_lab(page, f"{server.url}lab/workspaces/folder/tree/shop?token={TOKEN}")
    page.click('[data-id="jp-portproxy-panel"]')
    page.locator(".jp-PortProxy-folder").get_by_role("button", name="Review…").click()
    page.wait_for_timeout(2500)  # the notice has moved out
    page.screenshot(path=PICTURES / "folder-light.png")
    page.close()


def take_inspection(page: Page, server: Server) -> None:
    """The diagnosis of a page, and its requests."""
    open_lab(page, f"{server.url}lab/workspaces/inspection?token={TOKEN}")
    page.click('[data-id="jp-portproxy-panel"]')
    with broken_app() as port:
        run(page, port, "Diagnose the Page")
        expect(page.locator(".jp-PortProxy-findings > li").first).to_be_visible(timeout=20_000)
        dismiss_notices(page)
        page.screenshot(path=PICTURES / "diagnosis-light.png")
        run(page, port, "Show Requests")
        expect(page.locator("text=are recorded from now on")).to_be_visible()
        for path in ("", "one.js", "two.png?size=2", "healthy"):
            page.request.get(f"{server.url}proxy/port/{port}/{path}", headers={"Authorization": f"token {TOKEN}"})
        page.locator(".jp-PortProxy-requests button", has_text="two.png").click()
        page.wait_for_timeout(1000)
        page.screenshot(path=PICTURES / "requests-light.png")
    page.close()


def dismiss_notices(page: Page) -> None:
    """Wait for the notices of a new port and of failed requests, and dismiss them."""
    page.wait_for_timeout(4000)
    notices = page.locator(".Toastify__toast")
    while count := notices.count():
        notices.first.locator(".jp-toast-button, button").last.click()
        expect(notices).to_have_count(count - 1)


def run(page: Page, port: int, command: str) -> None:
    page.locator(f'.jp-PortProxy-row[data-port="{port}"] .jp-PortProxy-name').click(button="right", timeout=20_000)
    page.click(f'.lm-Menu-itemLabel:text-is("{command}")')


if __name__ == "__main__":
    main()
