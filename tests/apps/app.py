"""The description of an application for the runner: data, and steps on one page of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from playwright.sync_api import Frame

Step = Callable[[Frame], None]


@dataclass(frozen=True)
class App:
    """An application as people have it.

    Attributes:
        pip: packages to install into the applications' environment.
        npm: packages to install into a folder beside it: `.venv/apps/node`, for `links`.
        debian: packages of Debian, installed where `make apps` runs as root there.
        template: the shipped template's name; or, with `recipe`, its own.
        recipe: a template's data, where none is shipped.
        arguments: what the user fills in; paths are below the server's root.
        files: what there must be below the server's root: path -> text. A text that ends in a Python program is no data of ours.
        links: more of that: path -> a folder, of this project or anywhere, that a symbolic link there leads to.
        directly: recipe keys that differ where it is started without a prefix, or has to listen on a port.
        start: where its first page is, below its address.
        ready: a selector that is visible once the page is up.
        steps: name -> what to do and what must change: "live", "upload", "download", "link", "form". Each begins on the first
            page.
        deep: a path below its address that is reloaded, and the selector that must then be visible.
        known: "way: check" that cannot hold -> the reason, and what to do instead. A run fails if it does hold.
        how: what a user has to know, for the documentation.
        light: quick, and installed with the tests: a part of every CI run.
        heavy: takes minutes to install: only where it is named.
    """

    name: str
    title: str
    template: str
    ready: str
    pip: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    debian: tuple[str, ...] = ()
    recipe: Mapping[str, object] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    directly: Mapping[str, object] = field(default_factory=dict)
    start: str = ""
    steps: Mapping[str, Step] = field(default_factory=dict)
    deep: tuple[str, str] | None = None
    known: Mapping[str, str] = field(default_factory=dict)
    how: str = ""
    light: bool = False
    heavy: bool = False


def see(frame: Frame, selector: str) -> None:
    """Waits until it is visible."""
    frame.locator(selector).first.wait_for(state="visible")


def download(selector: str, part: bytes) -> Step:
    """A click on it saves a file with these bytes in it."""

    def step(frame: Frame) -> None:
        with frame.page.expect_download() as started:
            frame.locator(selector).first.click()
        with open(started.value.path(), "rb") as file:
            assert part in file.read(), "the file has other contents"

    return step


def upload(selector: str, shown: str) -> Step:
    """A file of 12 bytes, chosen in this input, makes this visible."""

    def step(frame: Frame) -> None:
        frame.locator(selector).first.set_input_files({"name": "up.txt", "mimeType": "text/plain", "buffer": b"hello upload"})
        see(frame, shown)

    return step


def click(selector: str, shown: str) -> Step:
    """A click on it makes something else visible."""

    def step(frame: Frame) -> None:
        frame.locator(selector).first.click()
        see(frame, shown)

    return step


def fill(selector: str, text: str, shown: str, press: str = "Enter") -> Step:
    """A text typed into it, and a key, make something visible."""

    def step(frame: Frame) -> None:
        frame.locator(selector).first.fill(text)
        frame.locator(selector).first.press(press)
        see(frame, shown)

    return step
