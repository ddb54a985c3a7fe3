"""Fixtures: a Jupyter server of its own process, and a page in a real Chromium."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request

import pytest
from playwright.sync_api import sync_playwright

from ..upstreams import free_port

TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Base URL of a running Jupyter server with the extension."""
    home = tmp_path_factory.mktemp("home")
    port = free_port(range(21000, 29000))
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--ServerApp.port={port}"]
    environment = {**os.environ, "HOME": str(home), "JUPYTER_TOKEN": TOKEN}
    process = subprocess.Popen([*command, f"--ServerApp.root_dir={home}"], env=environment, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/"
    until = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(f"{url}api", timeout=1).close()
            break
        except OSError:
            assert time.monotonic() < until and process.poll() is None, "the Jupyter server did not start"
            time.sleep(0.1)
    yield url
    process.terminate()
    assert process.wait(15) == 0


@pytest.fixture(scope="session")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or None, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, server):
    """A page of a browser that is logged in."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{server}tree?token={TOKEN}", wait_until="commit")
    yield page
    context.close()
