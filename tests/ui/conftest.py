"""Fixtures: a Jupyter server of its own process, and a page in a real Chromium."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

from ..support.jupyter_processes import TOKEN, jupyter_server
from .chromium import launch_options

STORED = "local_storage,indexeddb,service_workers,cache_storage,file_systems"  # not the HTTP cache


def without_news(home: Path) -> None:
    """Switches off JupyterLab's question whether to fetch news, which covers a corner of its page."""
    folder = home / ".jupyter" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    folder.mkdir(parents=True)
    (folder / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Base URL of a running Jupyter server with the extension."""
    home = tmp_path_factory.mktemp("home")
    with jupyter_server(home, f"--ServerApp.root_dir={home}") as running:
        yield running.url


@pytest.fixture(scope="session")
def playwright():
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def chromium(playwright):
    browser = playwright.chromium.launch(**launch_options(playwright.chromium))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def profile(playwright, tmp_path_factory):
    """A browser with a folder, as a person's: compiled scripts are kept, and JupyterLab loads with two thirds of the work."""
    folder, size = tmp_path_factory.mktemp("profile"), {"width": 1280, "height": 800}
    context = playwright.chromium.launch_persistent_context(folder, viewport=size, **launch_options(playwright.chromium))
    yield context
    context.close()


@pytest.fixture
def context(profile):
    """The browser with a folder, without cookies and without anything that a site has stored."""
    addresses = set()

    def watch(page: Page) -> None:
        page.on("framenavigated", lambda frame: addresses.add(frame.url))

    profile.on("page", watch)
    yield profile
    profile.remove_listener("page", watch)
    blank, *pages = profile.pages
    for page in pages:
        page.close()
    profile.unroute_all()
    profile.clear_permissions()
    profile.clear_cookies()
    devtools = profile.new_cdp_session(blank)
    for origin in {f"{url.scheme}://{url.netloc}" for url in map(urlsplit, addresses) if url.netloc}:
        devtools.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": STORED})
    devtools.detach()


@pytest.fixture
def chromium_without_frame_storage(playwright):
    """With the flags of Playwright, which make the browser deny storage to frames of other sites."""
    browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or None, args=["--no-sandbox"])
    yield browser
    browser.close()


def watch_errors(page: Page, *, console: bool = False) -> list[str]:
    """What the page throws from now on, and with `console` also what it logs as an error."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    if console:
        page.on("console", lambda line: errors.append(f"{line.text} {line.location}") if line.type == "error" else None)
    return errors


def log_in(context: BrowserContext, server: str) -> None:
    """Gives the context the server's cookies. No page does it: one that is closed while it loads may hang Chromium."""
    assert context.request.get(f"{server}proxy/?token={TOKEN}").ok


@pytest.fixture
def page(chromium, server):
    """A page of a browser that is logged in."""
    context = chromium.new_context()
    log_in(context, server)
    yield context.new_page()
    context.close()
