"""Firefox by WebDriver BiDi, which it speaks itself: a WebSocket with JSON. https://w3c.github.io/webdriver-bidi/"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import websocket

from .engines import HEIGHT, WIDTH, ScriptFailed, Window, process, program, take_saved_file

# As its users have it, but for the place of downloads: the remote agent else switches the blocking of popups off.
PREFERENCES = {
    "app.update.disabledForTesting": True,
    "browser.download.folderList": 2,
    "browser.download.start_downloads_in_tmp_dir": False,
    "dom.disable_open_during_load": True,
    "datareporting.policy.dataSubmissionEnabled": False,
}


class Connection:
    """Commands of a session and their results. Events are not subscribed to."""

    def __init__(self, url: str) -> None:
        self._socket = websocket.create_connection(f"{url}/session", suppress_origin=True, timeout=60)
        self._numbers = itertools.count(1)
        self.version = self.call("session.new", capabilities={})["capabilities"]["browserVersion"]

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Raises: ScriptFailed"""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == number:
                break
        if answer["type"] == "error":
            raise ScriptFailed(f"{method}: {answer['error']}: {answer['message']}")
        return answer["result"]

    def close(self) -> None:
        self._socket.close()


class FirefoxWindow(Window):
    def __init__(self, connection: Connection, context: str, downloads: Path) -> None:
        self._connection, self._context, self._downloads = connection, context, downloads

    def _call(self, context: str, function: str) -> dict[str, Any]:
        """The result of a function as a remote value."""
        answer = self._connection.call(
            "script.callFunction",
            functionDeclaration=function,
            awaitPromise=True,
            target={"context": context},
            userActivation=False,
        )
        if answer["type"] == "exception":
            raise ScriptFailed(answer["exceptionDetails"]["text"])
        return answer["result"]

    def _place(self, frame: str) -> str:
        """The browsing context of a frame."""
        if not frame:
            return self._context
        found = self._call(self._context, f"() => document.querySelector({json.dumps(frame)})?.contentWindow")
        if found["type"] != "window":
            raise ScriptFailed(f"No frame {frame}")
        return found["value"]["context"]

    def _element(self, context: str, selector: str) -> dict[str, str]:
        found = self._call(
            context,
            f"() => {{ const e = document.querySelector({json.dumps(selector)}); e?.scrollIntoViewIfNeeded?.(); return e; }}",
        )
        if found["type"] != "node":
            raise ScriptFailed(f"No element {selector}")
        return {"sharedId": found["sharedId"]}

    def open(self, url: str) -> None:
        self._connection.call("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, function: str, *arguments: object, frame: str = "") -> Any:
        calling = f"async () => JSON.stringify(await ({function})(...{json.dumps(arguments)}))"
        return json.loads(self._call(self._place(frame), calling).get("value") or "null")

    def press(self, selector: str, frame: str = "") -> None:
        context = self._place(frame)
        origin = {"type": "element", "element": self._element(context, selector)}
        steps = [
            {"type": "pointerMove", "x": 0, "y": 0, "origin": origin},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self._connection.call(
            "input.performActions", context=context, actions=[{"type": "pointer", "id": "mouse", "actions": steps}]
        )

    def choose_file(self, selector: str, file: Path, frame: str = "") -> None:
        context = self._place(frame)
        self._connection.call("input.setFiles", context=context, element=self._element(context, selector), files=[str(file)])

    def screenshot(self, file: Path) -> None:
        file.write_bytes(
            base64.b64decode(self._connection.call("browsingContext.captureScreenshot", context=self._context)["data"])
        )

    def others(self) -> list[Window]:
        contexts = [context["context"] for context in self._connection.call("browsingContext.getTree")["contexts"]]
        return [FirefoxWindow(self._connection, context, self._downloads) for context in contexts if context != self._context]

    def close(self) -> None:
        self._connection.call("browsingContext.close", context=self._context)

    def download(self, selector: str, frame: str = "") -> tuple[str, bytes]:
        self.click(selector, frame)
        return take_saved_file(self._downloads)


@contextlib.contextmanager
def firefox(home: Path) -> Iterator[tuple[str, Window]]:
    """A Firefox with a profile of its own: its version and its window."""
    downloads, log = home / "downloads", home / "stderr"
    downloads.mkdir()
    wanted = {**PREFERENCES, "browser.download.dir": str(downloads)}
    (home / "user.js").write_text(
        "".join(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in wanted.items())
    )
    command = [
        program("firefox-esr", "firefox"),
        "--headless",
        "--no-remote",
        "--profile",
        str(home),
        "--remote-debugging-port",
        "0",
    ]
    with log.open("w") as output, process(command, {"HOME": str(home)}, stdout=output, stderr=output) as started:
        until = time.monotonic() + 30
        while not (found := re.search(r"WebDriver BiDi listening on (ws://\S+)\n", log.read_text())):
            assert time.monotonic() < until and started.poll() is None, log.read_text()
            time.sleep(0.05)
        connection = Connection(found[1])
        context = connection.call("browsingContext.getTree")["contexts"][0]["context"]
        connection.call("browsingContext.setViewport", context=context, viewport={"width": WIDTH, "height": HEIGHT})
        yield connection.version, FirefoxWindow(connection, context, downloads)
        connection.call("browser.close")
        started.wait(20)
        connection.close()
