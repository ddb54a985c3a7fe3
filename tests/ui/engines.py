"""Browser engines behind one interface: Chromium by Playwright, Firefox by WebDriver BiDi, WebKitGTK by WebDriver.

Firefox and WebKitGTK are Debian's: Playwright drives only builds of its own. Both protocols are JSON, over a WebSocket or over
HTTP, so that their clients need no package beyond Jupyter's own. As a program, installs what is missing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, Page

# Of each Debian package, the programs of which one is needed. Xvfb is the display of WebKitGTK, which has no headless mode.
PACKAGES = {
    "firefox-esr": ("firefox-esr", "firefox"),
    "webkit2gtk-driver": ("WebKitWebDriver",),
    "xvfb": ("Xvfb",),
}
FONTS = "fonts-dejavu-core"
WIDTH, HEIGHT = 1280, 800
PARTIAL = (".part", ".wkdownload")  # of files that Firefox and WebKit are saving
TEXT = "selector => document.querySelector(selector)?.textContent?.trim() ?? null"
VISIBLE = "selector => [...document.querySelectorAll(selector)].some(element => element.getClientRects().length > 0)"


class ScriptFailed(Exception):
    """A script in the page has thrown, or there is no such element or frame."""


class Window(ABC):
    """A tab of a browser. `frame` is the selector of a frame in its page; without one, the page itself is meant.

    `evaluate` calls a JavaScript function with arguments that JSON can carry, and returns what its promise becomes.
    """

    @abstractmethod
    def open(self, url: str) -> None: ...

    @abstractmethod
    def evaluate(self, function: str, *arguments: object, frame: str = "") -> Any:
        """Raises: ScriptFailed"""

    @abstractmethod
    def press(self, selector: str, frame: str = "") -> None:
        """A click of the mouse on an element that is there."""

    @abstractmethod
    def choose_file(self, selector: str, file: Path, frame: str = "") -> None: ...

    @abstractmethod
    def screenshot(self, file: Path) -> None: ...

    @abstractmethod
    def others(self) -> list[Window]:
        """The other windows of this browser."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def download(self, selector: str, frame: str = "") -> tuple[str, bytes]:
        """Clicks a link; returns the name and the content of the file that was saved."""

    def wait(self, function: str, *arguments: object, frame: str = "", timeout: float = 30) -> Any:
        """The first result of the function that is true."""
        until, last = time.monotonic() + timeout, None
        while time.monotonic() < until:
            try:
                last = self.evaluate(function, *arguments, frame=frame)
                if last:
                    return last
            except ScriptFailed as error:  # while a page is replaced
                last = error
            time.sleep(0.05)
        raise AssertionError(f"Still {last!r} after {timeout} s: {function} {arguments}")

    def wait_for_text(self, selector: str, text: str, frame: str = "", timeout: float = 30) -> None:
        function = f"(selector, text) => ({TEXT})(selector)?.includes(text)"
        try:
            self.wait(function, selector, text, frame=frame, timeout=timeout)
        except AssertionError as error:
            found = self.evaluate("() => [location.href, document.body.innerText]", frame=frame)
            raise AssertionError(f"No {text!r} in {selector}. The page: {found}") from error

    def click(self, selector: str, frame: str = "") -> None:
        until = time.monotonic() + 30
        while True:
            self.wait(VISIBLE, selector, frame=frame)
            try:
                return self.press(selector, frame)
            except ScriptFailed:  # it is covered, or moves
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def opened_by(self, action: Callable[[], None]) -> Window:
        """The window that appears after an action."""
        action()
        until = time.monotonic() + 10
        while not (others := self.others()):
            assert time.monotonic() < until, "No window was opened."
            time.sleep(0.05)
        return others[0]


class ChromiumWindow(Window):
    """A page of Playwright's."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def _place(self, frame: str) -> Any:
        if not frame:
            return self._page
        element = self._page.query_selector(frame)
        if element is None or (place := element.content_frame()) is None:
            raise ScriptFailed(f"No frame {frame}")
        return place

    def open(self, url: str) -> None:
        self._page.goto(url)

    def evaluate(self, function: str, *arguments: object, frame: str = "") -> Any:
        try:
            return self._place(frame).evaluate(f"given => ({function})(...given)", list(arguments))
        except Error as error:
            raise ScriptFailed(error.message) from error

    def press(self, selector: str, frame: str = "") -> None:
        self._place(frame).click(selector)

    def choose_file(self, selector: str, file: Path, frame: str = "") -> None:
        self._place(frame).set_input_files(selector, file)

    def screenshot(self, file: Path) -> None:
        self._page.screenshot(path=file)

    def others(self) -> list[Window]:
        self._page.wait_for_timeout(50)  # Playwright handles its events meanwhile
        return [ChromiumWindow(page) for page in self._page.context.pages if page != self._page]

    def close(self) -> None:
        self._page.close()

    def download(self, selector: str, frame: str = "") -> tuple[str, bytes]:
        with self._page.expect_download() as started:
            self.click(selector, frame)
        return started.value.suggested_filename, Path(started.value.path()).read_bytes()


def take_saved_file(folder: Path) -> tuple[str, bytes]:
    """Name and content of the file in a folder, when the browser has finished it; it is removed."""
    until, size = time.monotonic() + 20, 0
    while time.monotonic() < until:
        files = list(folder.iterdir())
        before, size = size, files[0].stat().st_size if len(files) == 1 else 0
        if size and size == before and files[0].suffix not in PARTIAL:
            content = files[0].read_bytes()
            files[0].unlink()
            return files[0].name, content
        time.sleep(0.1)
    raise AssertionError(f"Nothing was saved: {list(folder.iterdir())}")


@contextlib.contextmanager
def process(command: list[str], environment: dict[str, str] | None = None, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program until the end of the block."""
    started = subprocess.Popen(command, env={**os.environ, **(environment or {})}, **options)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(5)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def program(*names: str) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    return found or sys.exit(f"{names[0]} is missing: `make browser` installs it.")


def missing() -> list[str]:
    return [package for package, names in PACKAGES.items() if not any(map(shutil.which, names))]


def main() -> None:
    if not (packages := missing()):
        return
    if not (shutil.which("apt-get") and os.getuid() == 0):
        sys.exit(
            f"The browser tests need Debian's packages {' '.join(packages)}: Firefox and WebKitGTK are tested beside Chromium. "
            "Install them; `make browser` does it for root on Debian. On macOS and Windows, use a container of Debian."
        )
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    subprocess.run(
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", FONTS, *packages], check=True, stdout=sys.stderr
    )
    if packages := missing():
        sys.exit(f"Debian's packages brought no programs: {' '.join(packages)}")


if __name__ == "__main__":
    main()
