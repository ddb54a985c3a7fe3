"""One visit to an application in a browser, and its failures.

This module handles pages and frames only; the URL of the application is an argument.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import ConsoleMessage, Error, Frame, Page, Request, Response

from .app import App

PATIENCE = 20_000  # ms for a step, on a machine that has other things to do
SETTLE = 1000  # ms in which a page that is up may still fail
OK = "ok"

Show = Callable[[str], Frame]
"""Shows an address below the application's own (with what follows it), and returns the frame that it is in."""


@dataclass
class Visit:
    """What came of it: check -> "ok" or the reason why not; and what the browser complained of."""

    results: dict[str, str] = field(default_factory=dict)
    complaints: set[str] = field(default_factory=set)


def visit(app: App, page: Page, address: str, show: Show) -> Visit:
    """Every check of an application whose first page is at `address` + `app.start`."""
    made = Visit()
    page.set_default_timeout(PATIENCE)
    with _listening(page, address, made.complaints):
        made.results["page"] = _tried(lambda: _opened(app, show))
        for name, step in app.steps.items():
            made.results[name] = _tried(lambda step=step: step(_opened(app, show)))  # type: ignore[misc]
        if app.deep is not None:
            made.results["deep link"] = _tried(lambda: _reloaded(app, show))
    return made


def _opened(app: App, show: Show) -> Frame:
    frame = show(app.start)
    frame.locator(app.ready).first.wait_for(state="visible")
    frame.page.wait_for_timeout(SETTLE)
    return frame


def _reloaded(app: App, show: Show) -> None:
    assert app.deep is not None
    path, selector = app.deep
    frame = show(path)
    frame.locator(selector).first.wait_for(state="visible")
    with frame.expect_navigation(wait_until="commit"):
        frame.evaluate("() => { setTimeout(() => location.reload(), 0) }")
    frame.locator(selector).first.wait_for(state="visible")


def _tried(check: Callable[[], object]) -> str:
    try:
        check()
    except (Error, AssertionError) as error:
        return str(error).strip().splitlines()[0][:200] or type(error).__name__
    return OK


@contextmanager
def _listening(page: Page, address: str, complaints: set[str]) -> Iterator[None]:
    """Notes failed requests and errors in words that do not tell where the application is."""
    origin, prefix = re.match(r"(https?://[^/]+)(.*)", address).groups()  # type: ignore[union-attr]

    def note(text: str) -> None:
        plain = text.replace(address.rstrip("/"), "").replace(origin, "").replace(prefix.rstrip("/") or "\0", "")
        plain = re.sub(r"https?://(localhost|127\.0\.0\.1|p[a-z0-9-]+\.localhost):\d+", "", plain)
        plain = re.sub(r"/proxy/(service|enter)/[a-z-]+", "", plain)
        plain = re.sub(r"/tmp/tmp\w+", "/tmp/N", plain)
        complaints.add(re.sub(r"[0-9a-f]{8,}|\d{4,}", "N", plain)[:300])

    def answered(response: Response) -> None:
        if response.status >= 400:
            note(f"{response.request.method} {response.url} {response.status}")

    def failed(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # a page that is left gives up what it was loading
            note(f"{request.method} {request.url} {request.failure}")

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:  # told above
            note(message.text)

    def threw(error: Error) -> None:
        note(str(error).splitlines()[0])

    page.on("response", answered)
    page.on("requestfailed", failed)
    page.on("console", on_console)
    page.on("pageerror", threw)
    try:
        yield
    finally:
        page.remove_listener("response", answered)
        page.remove_listener("requestfailed", failed)
        page.remove_listener("console", on_console)
        page.remove_listener("pageerror", threw)
