"""Folders with project files in JupyterLab: consent to what they start, in a real Chromium."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from ..support.jupyter_processes import TOKEN, Server, jupyter_server
from .conftest import watch_errors, without_news
from .test_lab import AXE, LISTENS, open_lab, picture, row
from .test_pages import DEMO

SHOP = """
[services.web]
command = [{python}, {demo}, "{{port}}", "<b>", "a\\u202eb"]
depends_on = ["db"]
autostart = "ask"
stop_timeout = 1

[services.db]
command = [{python}, "-c", {listens}, "{{port}}"]
protocol = "tcp"
autostart = "ask"
stop_timeout = 1
environment = {{ LEVEL = "{level}" }}

[services.broken]
restart = "daily"

[[ports]]
port = 3000
label = "Vite"
on_appear = "open-once"
"""


def shop(level: int) -> str:
    return SHOP.format(python=json.dumps(sys.executable), demo=json.dumps(str(DEMO)), listens=json.dumps(LISTENS[2]), level=level)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def lab_server(tmp_path_factory, files):
    home = tmp_path_factory.mktemp("folders")
    without_news(home)
    (files / "shop").mkdir()
    with jupyter_server(home, f"--ServerApp.root_dir={files}") as running:
        yield running
        assert "Traceback" not in running.log, running.log


@contextlib.contextmanager
def jupyterlab(context: BrowserContext, server: Server):
    """JupyterLab, with the folder `shop` in its file browser. What the page throws or logs fails."""
    page = context.new_page()
    page.set_default_timeout(8000)
    errors = page.problems = watch_errors(page, console=True)
    open_lab(page, f"{server.url}lab/tree/shop?token={TOKEN}&reset")
    page.wait_for_selector(".jp-LauncherCard", timeout=30_000)
    yield page
    picture(page, "last-folders")
    page.close()
    assert errors == []


@pytest.fixture
def lab(context, lab_server, files):
    (files / "shop" / "portproxy.toml").write_text(shop(1))
    with jupyterlab(context, lab_server) as page:
        yield page
    lab_server.call("DELETE", "proxy/api/folders/consent?path=shop")


def services(server: Server) -> dict[str, str]:
    return {item["name"]: item["state"] for item in json.loads(server.get("proxy/api/services")[1])}


def folder(page: Page):
    return page.locator('.jp-PortProxy-folder[data-folder$="/shop"]')


def toast(page: Page, text: str):
    return page.locator(".jp-toast-message", has_text=text)


def show_panel(page: Page) -> None:
    page.click('[data-id="jp-portproxy-panel"]')


def button(page: Page, label: str):
    return page.locator(f'.jp-Dialog-button:has-text("{label}")').last


def tab_to(page: Page, label: str) -> None:
    """Moves the focus by the keyboard to a button of the dialog, and presses it."""
    focused = page.locator(".jp-Dialog-button:focus")
    for _ in range(8):
        if focused.count() and focused.inner_text() == label:
            break
        page.keyboard.press("Tab")
    expect(focused).to_have_text(label)
    page.keyboard.press("Enter")


def test_nothing_starts_before_a_person_has_allowed_this_very_content(lab, lab_server, files):
    expect(toast(lab, "shop has 2 services to start.")).to_be_visible(timeout=10_000)
    expect(lab.locator(".jp-Dialog")).to_have_count(0)
    expect(lab.locator("#jp-portproxy-panel")).to_be_hidden()
    expect(lab.locator(".jp-FileBrowser:visible")).to_have_count(1)
    show_panel(lab)
    expect(folder(lab)).to_contain_text("shop has 2 services to start.")
    assert services(lab_server) == {}
    folder(lab).get_by_role("button", name="Review…").focus()
    lab.keyboard.press("Enter")
    review = lab.locator(".jp-Dialog .jp-PortProxy-review")
    expect(review).to_be_focused()
    web = review.locator("code").last
    expect(web).to_contain_text(f"{sys.executable} {DEMO} {{port}} '<b>' 'aU+202Eb'")
    expect(review.locator("li", has_text="db").first).to_contain_text("LEVEL=1")
    expect(review).to_contain_text(re.compile(r"portproxy\.toml:\d+: services\.broken"))
    expect(review).to_contain_text("3000: Vite")
    (files / "shop" / "portproxy.toml").write_text(shop(2))
    tab_to(lab, "Allow and start")
    expect(lab.locator(".jp-Dialog [role=alert]")).to_contain_text("The files have changed while this dialog was open.")
    expect(review.locator("li", has_text="db").first).to_contain_text("LEVEL=2")
    assert services(lab_server) == {}
    lab.problems[:] = [text for text in lab.problems if "409" not in text]
    picture(lab, "folder-changed-meanwhile")
    expect(button(lab, "Allow and start")).to_be_enabled()
    tab_to(lab, "Allow and start")
    expect(lab.locator(".jp-Dialog")).to_have_count(0)
    expect(folder(lab)).to_contain_text("2 of 2 run", timeout=15_000)
    expect(lab.locator(".jp-toast-message")).to_have_count(0)
    expect(row(lab, "web").locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Up", timeout=15_000)
    lab.click(".jp-PortProxy-rules summary")
    expect(lab.locator(".jp-PortProxy-rules")).to_contain_text("by the folder shop")
    picture(lab, "folder-runs")
    (files / "shop" / "portproxy.toml").write_text(shop(3))
    expect(folder(lab)).to_contain_text("portproxy.toml has changed.", timeout=15_000)
    expect(lab.locator(".jp-PortProxy-rules")).to_have_count(0)
    assert services(lab_server) == {"db": "up", "web": "up"}
    folder(lab).get_by_role("button", name="Stop all: shop").focus()
    lab.keyboard.press("Enter")
    expect(row(lab, "db").locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Stopped", timeout=15_000)
    assert services(lab_server) == {"db": "down", "web": "down"}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_in_a_folder(lab, lab_server, theme):
    show_panel(lab)
    if theme == "dark":
        lab.click('.lm-MenuBar-itemLabel:text-is("Settings")')
        lab.hover('.lm-Menu-itemLabel:text-is("Theme")')
        lab.click('.lm-Menu-itemLabel:text-is("JupyterLab Dark")')
        expect(lab.locator("body")).to_have_attribute("data-jp-theme-light", "false", timeout=10_000)
    lab.add_script_tag(path=AXE)

    def check(name: str) -> None:
        lab.wait_for_timeout(300)  # JupyterLab's dialogs fade in
        picture(lab, f"{name}-{theme}")
        found = lab.evaluate(
            """async () => (await axe.run({include: [['.jp-PortProxy-panel'], ['.jp-Dialog-content']].filter(([s]) =>
                 document.querySelector(s))}, {iframes: false})).violations
                 .map(v => [v.id, v.nodes.map(n => n.html.slice(0, 120))])"""
        )
        assert found == [], name

    folder(lab).get_by_role("button", name="Review…").click()
    expect(lab.locator(".jp-PortProxy-review")).to_be_visible()
    check("folder-review")
    button(lab, "Allow").click() if theme == "light" else button(lab, "Not now").click()
    expect(lab.locator(".jp-Dialog")).to_have_count(0)
    check("folder-row")
