"""Pages of programs in a notebook's cell and by their printed links, at a server with a base URL and under JupyterHub.

    python -m tests.apps.notebook_links               prints a table; exit code 1 if a page does not show
    python -m tests.apps.notebook_links tensorboard   also: dask, flask

To be run by a Python that has the applications, as `make notebook-links` does. TensorBoard, Dask and Flask run as their
documentation says, at their default ports. These are outside the allowed range, so each page is reached through *Allow*, in real
Chromium. Times begin when the cell is run, or when the program in the terminal listens.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from nbformat import v4, writes
from playwright.sync_api import Browser, Error, Page, sync_playwright

from ..support.hub import PASSWORD, jupyterhub
from ..support.jupyter_processes import TOKEN, jupyter_server
from ..ui.chromium import launch_options
from . import programs
from .first_contact import PAGE_TIMEOUT, PROGRAMS, SETTINGS, Clicks, address_of, by_link, open_lab, start, write_files

BASE = "/a%20b/"
PORTS_TIMEOUT = 30.0  # s; for the programs of another run to end
CELL_TIMEOUT = 120_000  # ms; for the first start of TensorBoard and of Dask's workers
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
PACKAGES = ("jupyterlab", "jupyterhub", "jupyter_server", "tensorboard", "distributed", "bokeh", "flask")


@dataclass(frozen=True)
class Place:
    """A running server. `url` is its base URL in the browser, `folder` its root folder."""

    url: str
    folder: Path
    log_in: Callable[[Page], object]


def main() -> int:
    names = sys.argv[1:] or list(LINKS)
    print("| Server | Program | Clicks and times |\n|---|---|---|")
    failed = False
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launch_options(playwright.chromium))
        for where, place in PLACES.items():
            with tempfile.TemporaryDirectory() as folder, place(Path(folder)) as server:
                for name in names:
                    what, port, take = LINKS[name]
                    try:
                        result = measure(browser, server, port, take)
                    except (Error, RuntimeError) as error:
                        result, failed = f"failed: {str(error).splitlines()[0]}", True
                    print(f"| {where} | {what} | {result} |", flush=True)
        versions = [f"{package} {metadata.version(package)}" for package in PACKAGES]
        print(f"\n{', '.join(versions)}, Chromium {browser.version}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        browser.close()
    return int(failed)


def measure(browser: Browser, place: Place, port: int, take: Callable[[Page, Place], Clicks]) -> str:
    """The result of one link, in words, in a new window."""
    wait_until_free(port)
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = context.new_page()
        place.log_in(page)
        open_lab(page, place.url)
        try:
            return str(take(page, place))
        finally:  # the programs that kernels have started end with them
            page.evaluate("async () => void (await window.jupyterapp.serviceManager.sessions.shutdownAll())")
    finally:
        context.close()


def wait_until_free(port: int) -> None:
    until = time.monotonic() + PORTS_TIMEOUT
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return
        if time.monotonic() > until:
            raise RuntimeError(f"a program listens on port {port} already: end it first")
        time.sleep(0.5)


@contextlib.contextmanager
def server_with_base_url(home: Path) -> Iterator[Place]:
    root = home / "files"
    write_files(home, SETTINGS)
    root.mkdir()
    options = [f"--ServerApp.root_dir={root}", "--LabApp.expose_app_in_browser=True"]
    with jupyter_server(home, *options, more=programs.variables(), base=BASE, module="jupyterlab") as server:
        url = address_of(server)
        yield Place(url, root, lambda page: page.context.request.get(f"{url}api/status?token={TOKEN}"))


@contextlib.contextmanager
def server_of_hub(home: Path) -> Iterator[Place]:
    """Of the user Ada, behind configurable-http-proxy, at a host name that is not localhost."""
    path = f"c.Spawner.environment['PATH'] = {programs.variables()['PATH']!r}\n"
    with jupyterhub(home, "c.LabApp.expose_app_in_browser = True", "ada", more=path) as hub:
        write_files(home / "ada", SETTINGS)
        url = f"{hub.origin.replace('127.0.0.1', 'hub.localhost')}/user/ada/"

        def log_in(page: Page) -> None:
            page.goto(f"{url}lab", wait_until="commit")
            page.fill('input[name="username"]', "ada")
            page.fill('input[name="password"]', PASSWORD)
            page.click("#login_submit")
            page.wait_for_url(f"{url}lab**", wait_until="commit")

        yield Place(url, home / "ada", log_in)


def tensorboard_in_cell(page: Page, place: Place) -> Clicks:
    clicks = run_cells(page, place, "%load_ext tensorboard", "%tensorboard --logdir .")
    frame = page.frame_locator(".jp-OutputArea-output iframe")
    frame.locator("button:has-text('Allow')").click(timeout=CELL_TIMEOUT)
    clicks.count()
    frame.locator("text=No dashboards are active").wait_for(state="visible", timeout=PAGE_TIMEOUT)  # after its own requests
    return clicks


def link_of_dask(page: Page, place: Place) -> Clicks:
    clicks = run_cells(page, place, "from dask.distributed import Client\nclient = Client()\nclient")
    link = page.locator(".jp-OutputArea-output a[href$='/status']").first
    with page.expect_popup(timeout=CELL_TIMEOUT) as opened:
        link.click(timeout=CELL_TIMEOUT)
        clicks.count()
    clicks.click(opened.value, "button:has-text('Allow')")
    opened.value.locator("canvas").first.wait_for(state="visible", timeout=PAGE_TIMEOUT)  # drawn from a WebSocket's messages
    return clicks


def link_in_terminal(page: Page, place: Place) -> Clicks:
    program = PROGRAMS["flask"]
    write_files(place.folder, program.files)
    start(page, program, place.folder)
    return by_link(page, place.url, program)


def run_cells(page: Page, place: Place, *sources: str) -> Clicks:
    """Run these cells in a new notebook, as soon as its kernel is ready."""
    cells = [v4.new_code_cell(source) for source in sources]
    (place.folder / "links.ipynb").write_text(writes(v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})))
    page.evaluate("() => void window.jupyterapp.commands.execute('docmanager:open', { path: 'links.ipynb' })")
    page.wait_for_function(
        "window.jupyterapp.shell.currentWidget?.context?.sessionContext.session?.kernel?.status === 'idle'", timeout=PAGE_TIMEOUT
    )
    page.evaluate("() => void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    return Clicks()


PLACES: dict[str, Callable[[Path], contextlib.AbstractContextManager[Place]]] = {
    f"base URL `{BASE}`": server_with_base_url,
    "JupyterHub": server_of_hub,
}
# The program in words, its port, and the way to its page.
LINKS: dict[str, tuple[str, int, Callable[[Page, Place], Clicks]]] = {
    "tensorboard": ("`%tensorboard --logdir .`, in the cell", 6006, tensorboard_in_cell),
    "dask": ("`Client()` of Dask, link of the dashboard", 8787, link_of_dask),
    "flask": ("`flask run` in a terminal, printed link", PROGRAMS["flask"].port, link_in_terminal),
}

if __name__ == "__main__":
    sys.exit(main())
