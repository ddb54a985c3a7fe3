"""A parsed file with the lines of its keys, and the checks that all forms of files have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from ..errors import print_value

Path = tuple[str | int, ...]
MAX_NESTING = 50  # levels of lists and mappings
MAX_LOCATED = 6  # parts of a path whose line is remembered


class UnreadableFile(Exception):
    """A file, or one that it names, cannot be read at all. The texts are shown to users.

    Args:
        message: a sentence.
        hint: a sentence: what to do.
        line: where it is wrong; the first is 1.
    """

    def __init__(self, message: str, hint: str = "", line: int | None = None) -> None:
        super().__init__(message)
        self.message, self.hint, self.line = message, hint, line


class ParsedDocument(NamedTuple):
    """The value of a file.

    Attributes:
        value: of dicts with text keys, lists, texts, numbers, booleans and None.
        lines: path of keys and indexes -> line; the first is 1.
        repeated: the paths of keys that are there again, with their lines. The value is that of the first.
    """

    value: Any
    lines: Mapping[Path, int]
    repeated: tuple[tuple[Path, int], ...] = ()

    def line(self, *path: str | int) -> int | None:
        """The line of a key or an item; that of what it is in, if its own is unknown."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[:-1]
        return None


def decode(content: bytes) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        UnreadableFile
    """
    hint = "Save it as UTF-8."
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:4]:
        raise UnreadableFile("It is not UTF-8: it looks like UTF-16 or UTF-32.", hint)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableFile(f"It is not UTF-8: the byte 0x{content[error.start]:02x} in line {line}.", hint, line) from None


def quote(value: object) -> str:
    """A value as a message quotes it: short, and in one line."""
    text = repr(value) if isinstance(value, str) else print_value(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def suggest(word: str, known: Iterable[str]) -> str:
    """A hint for an unknown word: the nearest of those that there are, or all of them."""
    by_form = {_plain(each): each for each in known}
    nearest = get_close_matches(_plain(word[:100]), by_form, n=1, cutoff=0.6)
    return f"Did you mean '{by_form[nearest[0]]}'?" if nearest else f"There are {', '.join(sorted(by_form.values()))}."


def _plain(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "")


def print_path(path: Path) -> str:
    """A path as messages have it: `portsAttributes.3000.label`, `forwardPorts[1]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part[:80]}" for part in path).lstrip(".")
