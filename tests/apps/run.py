"""Real applications, each in real Chromium: alone, at the path-based URL, at an isolated origin, in a JupyterLab tab, and through
jupyter-server-proxy.

    python -m tests.apps.run                          all but heavy ones; writes tests/apps/results.json and docs/apps.md
    python -m tests.apps.run streamlit dash --ways direct,path --no-report

To be run by a Python that has the applications, as `make apps` does. Results are observations only; an application that could
not be started is reported as such.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Error, Frame, sync_playwright

from ..support.jupyter_processes import TOKEN, Server
from ..ui.chromium import launch_options
from . import programs
from .app import App
from .report import version_of, write_report
from .visits import OK, PATIENCE, SETTLE, Visit, visit

HERE = Path(__file__).resolve().parent
WAYS = ["direct", "path", "origin", "lab", "incumbent"]
Results = dict[str, dict[str, dict[str, str]]]


def main() -> int:
    options = parser().parse_args()
    apps = [app for app in all_apps() if (app.name in options.names if options.names else not app.heavy)]
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launch_options(playwright.chromium))
        desk = programs.Desk(Path(home), apps)
        results: Results = {}
        for app, of_app in run(desk, apps, options.ways.split(","), browser):
            results[app.name] = of_app
            if not options.no_report:
                report(app, of_app)
        browser.close()
    news = [line for app in apps for line in unexpected(app, results[app.name])]
    print("\n".join(news) or "Everything is as it was known.", file=sys.stderr)
    return 1 if news else 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("names", nargs="*", help="of applications; none is all but the heavy ones")
    made.add_argument("--ways", default=",".join(WAYS), help="with commas")
    made.add_argument("--no-report", action="store_true", help="leave results.json and docs/ as they are")
    return made


def report(app: App, results: Mapping[str, dict[str, str]]) -> None:
    """Puts these results in the place of those that the application had in the same ways."""
    kept = HERE / "results.json"
    made = json.loads(kept.read_text()) if kept.exists() else {"versions": {}, "results": {}}
    if (version := version_of(app)) != made["versions"].get(app.name):  # what another one did is no news
        made["versions"][app.name], made["results"][app.name] = version, {}
    made["results"][app.name].update(results)
    kept.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
    write_report([app for app in all_apps() if app.name in made["results"]], made, HERE.parents[1] / "docs" / "apps.md")


def unexpected(app: App, results: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What fails and is not known to, or is known to and does not; jupyter-server-proxy may do as it likes."""
    seen = {f"{way}: {check}": why for way, checks in results.items() if way != "incumbent" for check, why in checks.items()}
    bad = [f"{app.name}, {place}: {why}" for place, why in seen.items() if why != OK and place not in app.known]
    return bad + [f"{app.name}, {place}: holds" for place in app.known if seen.get(place) == OK]


@cache
def all_apps() -> list[App]:
    """Of this folder: what each module calls APP."""
    modules = (importlib.import_module(f"{__package__}.{found.name}") for found in pkgutil.iter_modules([str(HERE)]))
    return sorted((module.APP for module in modules if hasattr(module, "APP")), key=lambda app: app.title.lower())


def run(
    desk: programs.Desk, apps: list[App], ways: list[str], browser: Browser
) -> Iterator[tuple[App, dict[str, dict[str, str]]]]:
    """One application after the other, with way -> check -> result."""
    with desk.jupyter() as server, desk.incumbent() as incumbent:
        servers = {way: incumbent if way == "incumbent" else server for way in WAYS if way in ways}
        for app in apps:
            yield app, in_all_ways(desk, app, servers, browser)


def in_all_ways(desk: programs.Desk, app: App, servers: dict[str, Server], browser: Browser) -> dict[str, dict[str, str]]:
    """Way -> check -> result; `servers` has for each way the one that it needs. What fails alone, too, is no fault of a way."""
    results: dict[str, dict[str, str]] = {}
    usual: set[str] = set()
    for way, server in servers.items():
        begin = time.monotonic()
        try:
            seen = look(desk, app, way, server, browser)
        except (RuntimeError, Error) as error:
            results[way] = {"start": str(error).splitlines()[0]}
        else:
            usual = seen.complaints if way == "direct" else usual
            more = sorted(seen.complaints - usual)
            results[way] = {**seen.results, "nothing fails": "; ".join(more)[:600] or OK}
        bad = {check: why for check, why in results[way].items() if why != OK}
        print(f"{app.name} {way} {time.monotonic() - begin:.0f} s: {bad or 'all well'}", file=sys.stderr, flush=True)
    return results


def look(desk: programs.Desk, app: App, way: str, server: Server, browser: Browser) -> Visit:
    """Start it, look at it, stop it."""
    if way in ("direct", "incumbent"):
        base = urlsplit(server.url).path
        prefix = {"direct": "", "incumbent": f"{base}proxy/{'absolute/' if desk.keeps_prefix(app) else ''}{{port}}"}[way]
        with desk.program(app, prefix) as port, _logged_in(browser, server) as context:
            address = f"http://localhost:{port}/" if way == "direct" else _at(server, prefix.replace("{port}", str(port)))
            return _visited(app, context, address)
    programs.start(server, app)
    try:
        with _logged_in(browser, server) as context:
            if way == "lab":
                return _visited_in_lab(app, context, server)
            below = "service" if way == "path" else "enter"
            return _visited(app, context, f"{_at(server, f'/proxy/{below}/{app.name}')}")
    finally:
        programs.stop(server, app)


def _at(server: Server, path: str) -> str:
    """By the name that people use."""
    return f"{server.url.replace('127.0.0.1', 'localhost').rstrip('/')}{path}/"


@contextmanager
def _logged_in(browser: Browser, server: Server) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.request.get(f"{_at(server, '')}api/status?token={TOKEN}")  # its cookies are the context's
    try:
        yield context
    finally:
        context.close()


def _visited(app: App, context: BrowserContext, address: str) -> Visit:
    page = context.new_page()

    def show(path: str) -> Frame:
        page.goto("about:blank")
        page.goto(address + path, wait_until="commit")
        return page.main_frame

    return visit(app, page, address, show)


def _visited_in_lab(app: App, context: BrowserContext, server: Server) -> Visit:
    page = context.new_page()
    question = page.locator("dialog.jp-Dialog")  # Dash brings an extension for which Lab wants to be built
    page.add_locator_handler(question, lambda: question.get_by_role("button", name="Cancel").click())
    page.goto(f"{_at(server, '')}lab?reset", wait_until="commit")
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=60_000)
    page.wait_for_function("window.jupyterapp?.commands.hasCommand('portproxy:open-in-lab')", timeout=60_000)
    page.evaluate("name => window.jupyterapp.commands.execute('portproxy:open-in-lab', { service: name })", app.name)
    frame = _framed(page.frames, lambda: page.wait_for_timeout(200), lambda: page.frames)
    below = re.match(rf"https?://[^/]+(?:/proxy/service/{re.escape(app.name)}(?![^/?#]))?", frame.url)
    assert below is not None, frame.url
    address = f"{below[0]}/"
    with suppress(Error):  # what is wrong with it is told by the visit
        frame.locator(app.ready).first.wait_for(state="visible", timeout=PATIENCE)
        page.wait_for_timeout(3 * SETTLE)  # a page that is left while it loads complains

    def show(path: str) -> Frame:
        frame.goto("about:blank")
        frame.goto(address + path, wait_until="commit")
        return frame

    return visit(app, page, address, show)


def _framed(frames: list[Frame], wait: Callable[[], None], again: Callable[[], list[Frame]]) -> Frame:
    """The frame of the tab, once it has gone to its page."""
    for _ in range(300):  # a minute
        found = [frame for frame in frames if frame.parent_frame is not None and frame.url.startswith("http")]
        if found and "/proxy/enter/" not in found[0].url and "/.well-known/" not in found[0].url:
            return found[0]
        wait()
        frames = again()
    raise RuntimeError("no tab has opened")


if __name__ == "__main__":
    sys.exit(main())
