"""First contact: clicks and seconds from a program that listens at its own default port to its page, in real Chromium.

    python -m tests.apps.first_contact                prints a table
    python -m tests.apps.first_contact flask vite

To be run by a Python that has the applications, as `make first-contact` does. A JupyterLab with default settings runs for each
program; the command is typed in one of its terminals. Ways: the Ports panel, the address typed by hand, the link that the program
prints, and a restart with another `allowed_ports`, which a server without live permission needs.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Error, FrameLocator, Page, sync_playwright

from ..support.jupyter_processes import TOKEN, Server, jupyter_server
from ..ui.chromium import launch_options
from . import programs, vite_dev

START_TIMEOUT = 120_000  # ms; MLflow's first start makes its database
PAGE_TIMEOUT = 60_000  # ms
FLASK = 'from flask import Flask\napp = Flask(__name__)\n@app.get("/")\ndef index():\n    return "<h1>first page</h1>"\n'
# Without news, and without the offer of a build, which JupyterLab makes for the extension that Dash installs.
SETTINGS = {
    ".jupyter/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings": json.dumps(
        {"fetchNews": "false", "checkForUpdates": False}
    ),
    ".jupyter/labconfig/page_config.json": json.dumps({"buildCheck": False}),
}
STREAMLIT = 'import streamlit as st\nst.title("first page")\n'


@dataclass(frozen=True)
class Program:
    """A program at its default port.

    Attributes:
        ready: a selector of its page.
        form: of its URL. Streamlit without `server.baseUrlPath` opens a WebSocket at the root, which works at an isolated origin.
    """

    command: str
    port: int
    ready: str
    files: dict[str, str] = field(default_factory=dict)
    form: str = "proxy/port/"


PROGRAMS = {
    "flask": Program("flask run", 5000, "text=first page", {"app.py": FLASK}),
    "streamlit": Program(
        "streamlit run site.py --server.headless true --browser.gatherUsageStats false",
        8501,
        "text=first page",
        {"site.py": STREAMLIT},
        "proxy/enter/",
    ),
    "tensorboard": Program("tensorboard --logdir .", 6006, "text=No dashboards are active"),
    "mlflow": Program("mlflow ui", 5000, "#root *"),
    "vite": Program("cd front && node_modules/.bin/vite", 5173, "text=version", vite_dev.APP.files),
}


Way = Callable[..., object]


class Clicks:
    """The clicks of one way, with the seconds since the way began."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._times: list[float] = []

    def click(self, page: Page, selector: str, *, hover: str = "") -> None:
        if hover:
            page.hover(hover)
        page.click(selector, timeout=PAGE_TIMEOUT)
        self.count()

    def count(self) -> None:
        self._times.append(time.monotonic() - self._begin)

    def __str__(self) -> str:
        times = ", ".join(f"{seconds:.1f}" for seconds in self._times)
        number = "1 click" if len(self._times) == 1 else f"{len(self._times)} clicks"
        return f"{number} ({times} s), page after {time.monotonic() - self._begin:.1f} s"


def main() -> int:
    names = sys.argv[1:] or list(PROGRAMS)
    print("| Program | Way | Clicks and times |\n|---|---|---|")
    failed = False
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launch_options(playwright.chromium))
        for name in names:
            for way, take in WAYS.items():
                try:
                    result = measure(browser, PROGRAMS[name], take)
                except (Error, RuntimeError) as error:
                    result, failed = f"failed: {str(error).splitlines()[0]}", True
                print(f"| `{PROGRAMS[name].command}` | {way} | {result} |", flush=True)
        browser.close()
    return int(failed)


def measure(browser: Browser, program: Program, take: Way) -> str:
    """The result of one way, in words."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if take is by_restart:
            return by_restart(browser, program, home)
        with lab(home, program) as server, lab_page(browser, server) as page:
            start(page, program, home / "files")
            return str(take(page, address_of(server), program))


@contextlib.contextmanager
def lab(home: Path, program: Program, *options: str) -> Iterator[Server]:
    """A JupyterLab with default settings but for SETTINGS; at the end, the programs of its terminals are killed."""
    root = home / "files"
    write_files(home, SETTINGS)
    write_files(root, program.files)
    if "front/index.html" in program.files and not (root / "front/node_modules").exists():
        (root / "front/node_modules").symlink_to(Path(__file__).parents[2] / ".venv/apps/node/node_modules")
    root.mkdir(exist_ok=True)
    where = [f"--ServerApp.root_dir={root}", "--LabApp.expose_app_in_browser=True", *options]
    with jupyter_server(home, *where, more=programs.variables(), module="jupyterlab") as server:
        try:
            yield server
        finally:  # Streamlit ignores the end of its terminal
            for process in psutil.Process(server.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def address_of(server: Server) -> str:
    """Its URL with the name that people use."""
    return server.url.replace("127.0.0.1", "localhost")


@contextlib.contextmanager
def lab_page(browser: Browser, server: Server) -> Iterator[Page]:
    """JupyterLab in a new window, logged in."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        context.request.get(f"{address_of(server)}api/status?token={TOKEN}")  # its cookies are the context's
        page = context.new_page()
        open_lab(page, address_of(server))
        yield page
    finally:
        context.close()


def open_lab(page: Page, url: str) -> None:
    """JupyterLab of the server with this base URL."""
    page.goto(f"{url}lab?reset", wait_until="commit")
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=PAGE_TIMEOUT)
    page.wait_for_function("window.jupyterapp?.commands.hasCommand('portproxy:open-in-lab')", timeout=PAGE_TIMEOUT)


def start(page: Page, program: Program, folder: Path) -> None:
    """Type the command in a new terminal and wait until the program listens."""
    page.evaluate("() => window.jupyterapp.commands.execute('terminal:create-new')")
    page.wait_for_selector(".jp-Terminal .xterm-screen", timeout=PAGE_TIMEOUT)
    page.wait_for_timeout(1500)  # the shell's prompt
    page.click(".jp-Terminal .xterm-screen")
    path = programs.variables()["PATH"]  # a login shell sets its own
    page.keyboard.type(f"PATH={shlex.quote(path)}; cd {folder}; clear\n{program.command}\n")
    listed = """async port => {
      const xsrf = /\\b_xsrf=([^;]*)/.exec(document.cookie)?.[1] ?? '';  // JupyterHub reads it with GET too
      const url = window.jupyterapp.serviceManager.serverSettings.baseUrl + 'proxy/api/ports';
      const answer = await fetch(url, { headers: { 'X-XSRFToken': xsrf } });
      return (await answer.json()).some(item => item.port === port);
    }"""
    for _ in range(START_TIMEOUT // 500):
        if page.evaluate(listed, program.port):
            return
        page.wait_for_timeout(500)
    raise RuntimeError(f"{program.command} does not listen on port {program.port}")


def by_panel(page: Page, url: str, program: Program) -> Clicks:
    row, clicks = f'.jp-PortProxy-row[data-port="{program.port}"]', Clicks()
    clicks.click(page, '.jp-SideBar [data-id="jp-portproxy-panel"]')
    clicks.click(page, f'{row} button[title="Allow this port"]', hover=row)
    page.wait_for_selector(f"{row}:not(.jp-mod-dimmed)", timeout=PAGE_TIMEOUT)
    clicks.click(page, f"{row} .jp-PortProxy-name")
    page_of_tab(page).locator(program.ready).first.wait_for(state="visible", timeout=PAGE_TIMEOUT)
    return clicks


def by_address(page: Page, url: str, program: Program) -> Clicks:
    clicks = Clicks()
    page.goto(f"{url}{program.form}{program.port}/")
    clicks.click(page, "button:has-text('Allow')")
    page.locator(program.ready).first.wait_for(state="visible", timeout=PAGE_TIMEOUT)
    return clicks


def by_link(page: Page, url: str, program: Program) -> Clicks:
    """A click on the address that the program has printed in its terminal, then *Allow* in the tab."""
    x, y = find_in_terminal(page, rf"http://(localhost|127\.0\.0\.1):{program.port}")
    clicks = Clicks()
    page.mouse.move(x, y)
    page.wait_for_timeout(300)  # the terminal looks for links after the pointer has moved
    page.mouse.click(x, y)
    clicks.count()
    page_of_tab(page).locator("button:has-text('Allow')").click(timeout=PAGE_TIMEOUT)
    clicks.count()
    page_of_tab(page).locator(program.ready).first.wait_for(state="visible", timeout=PAGE_TIMEOUT)
    return clicks


def by_restart(browser: Browser, program: Program, home: Path) -> str:
    """The only way where users may allow nothing: from the refusal to the page, with another configuration and a restart."""
    with lab(home, program, "--PortProxy.users_may_allow=[]") as server, lab_page(browser, server) as page:
        start(page, program, home / "files")
        page.goto(f"{address_of(server)}{program.form}{program.port}/")
        if page.locator("button:has-text('Allow')").count():
            raise RuntimeError("the page offers to allow the port")
        begin = time.monotonic()
    with lab(home, program, f"--PortProxy.allowed_ports={program.port}") as server, lab_page(browser, server) as page:
        start(page, program, home / "files")
        page.goto(f"{address_of(server)}{program.form}{program.port}/")
        page.locator(program.ready).first.wait_for(state="visible", timeout=PAGE_TIMEOUT)
    return f"a restart, which ends kernels and terminals; page after {time.monotonic() - begin:.1f} s"


def page_of_tab(page: Page) -> FrameLocator:
    return page.frame_locator(".jp-PortProxy-frame iframe")


def find_in_terminal(page: Page, pattern: str) -> tuple[float, float]:
    """The middle of the first match on the screen of the terminal, in pixels of the page."""
    look = """pattern => {
          const terminal = [...window.jupyterapp.shell.widgets('main')].find(widget => widget.content?._term).content;
          const { buffer, cols, rows } = terminal._term;
          const box = terminal.node.querySelector('.xterm-screen').getBoundingClientRect();
          for (let row = 0; row < rows; row++) {
            const text = buffer.active.getLine(buffer.active.viewportY + row)?.translateToString() ?? '';
            const match = new RegExp(pattern).exec(text);
            if (match) {
              const column = match.index + match[0].length / 2;
              return [box.x + (column * box.width) / cols, box.y + ((row + 0.5) * box.height) / rows];
            }
          }
          return null;
        }"""
    for _ in range(40):  # a program may print its address after it listens
        if found := page.evaluate(look, pattern):
            return found[0], found[1]
        page.wait_for_timeout(250)
    raise RuntimeError(f"no text in the terminal matches {pattern}")


WAYS: dict[str, Way] = {
    "panel": by_panel,
    "address typed by hand": by_address,
    "printed link": by_link,
    "restart with other `allowed_ports`": by_restart,
}

if __name__ == "__main__":
    sys.exit(main())
