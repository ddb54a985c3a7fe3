"""WebKitGTK by WebDriver: its driver starts the small browser that is beside it. https://www.w3.org/TR/webdriver2/"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..support.upstreams import free_port
from .engines import HEIGHT, WIDTH, ScriptFailed, Window, process, program, take_saved_file

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of a reference to an element: WebDriver, 12.2


class Session:
    """Commands of a session. `window` and `frame` are those that the next command is meant for."""

    def __init__(self, address: str) -> None:
        self._address, self._session = address, ""
        begun = self.call("POST", "/session", capabilities={})
        self._session, self.version = f"/session/{begun['sessionId']}", begun["capabilities"]["browserVersion"]

    def call(self, method: str, path: str, **parameters: object) -> Any:
        """Raises: ScriptFailed"""
        body = json.dumps(parameters).encode() if method == "POST" else None
        url = self._address + self._session + path
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, method=method), timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                problem = json.load(error)["value"]
            raise ScriptFailed(f"{path}: {problem['error']}: {problem['message']}") from error

    def element(self, selector: str) -> str:
        return self.call("POST", "/element", using="css selector", value=selector)[ELEMENT]

    def enter(self, window: str, frame: str) -> None:
        self.call("POST", "/window", handle=window)
        self.call("POST", "/frame", id=None)
        if frame:
            self.call("POST", "/frame", id={ELEMENT: self.element(frame)})


class WebKitWindow(Window):
    def __init__(self, session: Session, handle: str, downloads: Path) -> None:
        self._session, self._handle, self._downloads = session, handle, downloads

    def open(self, url: str) -> None:
        self._session.enter(self._handle, "")
        self._session.call("POST", "/url", url=url)

    def evaluate(self, function: str, *arguments: object, frame: str = "") -> Any:
        until = time.monotonic() + 5
        while True:
            self._session.enter(self._handle, frame)
            try:
                return self._session.call("POST", "/execute/sync", script=f"return ({function})(...arguments)", args=arguments)
            except ScriptFailed as error:  # nothing ran: a link to a download takes its frame from the driver for a moment
                if "no such window" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def press(self, selector: str, frame: str = "") -> None:
        self._session.enter(self._handle, frame)
        self._session.call("POST", f"/element/{self._session.element(selector)}/click")

    def choose_file(self, selector: str, file: Path, frame: str = "") -> None:
        self._session.enter(self._handle, frame)
        self._session.call("POST", f"/element/{self._session.element(selector)}/value", text=str(file))

    def screenshot(self, file: Path) -> None:
        self._session.enter(self._handle, "")
        file.write_bytes(base64.b64decode(self._session.call("GET", "/screenshot")))

    def others(self) -> list[Window]:
        handles = self._session.call("GET", "/window/handles")
        return [WebKitWindow(self._session, handle, self._downloads) for handle in handles if handle != self._handle]

    def close(self) -> None:
        self._session.enter(self._handle, "")
        self._session.call("DELETE", "/window")

    def download(self, selector: str, frame: str = "") -> tuple[str, bytes]:
        self.click(selector, frame)
        return take_saved_file(self._downloads)


@contextlib.contextmanager
def display() -> Iterator[str]:
    """A display of the X server that draws into memory."""
    reading, writing = os.pipe()
    command = [program("Xvfb"), "-displayfd", str(writing), "-screen", "0", f"{WIDTH}x{HEIGHT + 100}x24", "-nolisten", "tcp"]
    with process(command, pass_fds=[writing], stderr=subprocess.DEVNULL), os.fdopen(reading) as output:
        os.close(writing)
        number = output.readline().strip()
        assert number, "Xvfb has ended."
        yield f":{number}"


@contextlib.contextmanager
def webkit(home: Path) -> Iterator[tuple[str, Window]]:
    """A WebKitGTK with a home of its own: its version and its window."""
    downloads, port = home / "Downloads", free_port(range(21000, 29000))
    downloads.mkdir()
    (home / ".config").mkdir()
    (home / ".config" / "user-dirs.dirs").write_text('XDG_DOWNLOAD_DIR="$HOME/Downloads"\n')
    with display() as screen:
        # Its sandbox needs user namespaces, which containers and root rarely have.
        own = {"HOME": str(home), "DISPLAY": screen, "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1"}
        with process([program("WebKitWebDriver"), f"--port={port}"], own, stderr=subprocess.DEVNULL) as driver:
            session = start_session(f"http://127.0.0.1:{port}", driver)
            session.call("POST", "/window/rect", width=WIDTH, height=HEIGHT + 38)
            yield session.version, WebKitWindow(session, session.call("GET", "/window"), downloads)
            session.call("DELETE", "")


def start_session(address: str, driver: subprocess.Popen[bytes]) -> Session:
    until = time.monotonic() + 20
    while True:
        try:
            return Session(address)
        except urllib.error.URLError:
            assert time.monotonic() < until and driver.poll() is None, "WebKitWebDriver does not answer."
            time.sleep(0.05)
