"""YAML as Compose and Gitpod read it: version 1.2's types, with the merge keys of 1.1.

PyYAML parses it; the values are made here of its events: its own loaders read `22:22` as a number and `on` as true, take the last
of two equal keys, recurse, and need memory for merge keys that grows exponentially with the size of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from .document import MAX_LOCATED, MAX_NESTING, ParsedDocument, Path, UnreadableFile

MAX_MERGED = 100_000  # entries that merge keys add
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # both parse; the one in C takes a twentieth of the time
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z", re.ASCII)
_PREFIXED = re.compile(r"0(?:o[0-7]{1,20}|x[0-9a-fA-F]{1,16})\Z", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,20}|(?:0|[1-9][0-9]{0,20})(?:\.[0-9]{0,20})?)(?:[eE][-+]?[0-9]{1,2})?\Z", re.ASCII)
_CONSTANTS = {
    text: value
    for word, value in (("null", None), ("true", True), ("false", False))
    for text in (word, word.capitalize(), word.upper())
} | {"~": None, "": None}
_YAML = "tag:yaml.org,2002:"


class Tagged(NamedTuple):
    """A value with one of the tags of Compose, `!reset` or `!override`."""

    tag: str
    value: Any


class _Open:
    """A list or mapping whose end has not come yet. `key` is that of a mapping's next value; None if a key comes next."""

    def __init__(self, value: Any, tag: str | None, anchor: str | None, path: Path) -> None:
        self.value, self.tag, self.anchor, self.path = value, tag, anchor, path
        self.key: str | None = None
        self.merged: list[tuple[Any, int]] = []  # values of `<<` with their lines


def parse(text: str) -> list[ParsedDocument]:
    """The documents of a stream, mostly one.

    Raises:
        UnreadableFile
    """
    try:
        return list(_Builder().build(text))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        where = f" in line {line}" if line else ""
        raise UnreadableFile(
            f"It is not YAML: {(error.problem or 'it cannot be parsed').strip()}{where}.", "Correct it.", line
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else None
        raise UnreadableFile(
            f"It is not YAML: the character {chr(error.character)!r} is not allowed.", "Remove it.", line
        ) from None
    except yaml.YAMLError:
        raise UnreadableFile("It is not YAML.", "Correct it.") from None


class _Builder:
    """Makes values of events. An anchor's value is shared by its aliases, never copied."""

    def __init__(self) -> None:
        self._stack: list[_Open] = []
        self._anchors: dict[str, Any] = {}
        self._lines: dict[Path, int] = {}
        self._repeated: list[tuple[Path, int]] = []
        self._merged = 0
        self._root: Any = None

    def build(self, text: str) -> Iterator[ParsedDocument]:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.DocumentStartEvent):
                self._stack, self._anchors, self._lines, self._repeated, self._root = [], {}, {}, [], None
            elif isinstance(event, yaml.DocumentEndEvent):
                yield ParsedDocument(self._root, self._lines, tuple(self._repeated))
            elif isinstance(event, yaml.AliasEvent):
                self._add(self._resolve(event), event)
            elif isinstance(event, yaml.ScalarEvent):
                self._add_scalar(event)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._open(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._close(event)

    def _resolve(self, event: Any) -> Any:
        line = event.start_mark.line + 1
        if event.anchor not in self._anchors:
            raise UnreadableFile(f"'*{event.anchor}' in line {line} is the alias of nothing.", "Correct it.", line)
        if any(opened.anchor == event.anchor for opened in self._stack):
            raise UnreadableFile(f"'*{event.anchor}' in line {line} is within what it stands for.", "Correct it.", line)
        return self._anchors[event.anchor]

    def _add_scalar(self, event: Any) -> None:
        top = self._stack[-1] if self._stack else None
        is_key = top is not None and isinstance(top.value, dict) and top.key is None
        is_plain = event.implicit[0]
        value = event.value if is_key else _scalar(event.value, event.tag, is_plain)
        if event.anchor:
            self._anchors[event.anchor] = value
        if is_key and top is not None:
            top.key = event.value
            path = (*top.path, event.value)
            if event.value in top.value:
                self._repeated.append((path[:MAX_LOCATED], event.start_mark.line + 1))
            self._locate(path, event)
        else:
            self._add(value, event)

    def _locate(self, path: Path, event: Any) -> None:
        if len(path) <= MAX_LOCATED:
            self._lines.setdefault(path, event.start_mark.line + 1)

    def _path(self, event: Any) -> Path:
        """The path of the value that comes next."""
        if not self._stack:
            return ()
        top = self._stack[-1]
        if isinstance(top.value, list):
            return (*top.path, len(top.value))
        if top.key is None:
            line = event.start_mark.line + 1
            raise UnreadableFile(f"A key in line {line} is not a text.", "Correct it.", line)
        return (*top.path, top.key)

    def _open(self, event: Any) -> None:
        line = event.start_mark.line + 1
        if len(self._stack) >= MAX_NESTING:
            raise UnreadableFile(f"Line {line} is nested too deep.", "Simplify it.", line)
        path = self._path(event)
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        if event.anchor:
            self._anchors[event.anchor] = value
        if path and isinstance(path[-1], int):
            self._locate(path, event)
        self._stack.append(_Open(value, event.tag, event.anchor, path))

    def _close(self, event: Any) -> None:
        opened = self._stack.pop()
        for source, line in opened.merged:
            for mapping in source if isinstance(source, list) else [source]:
                self._merge(opened.value, mapping, line)
        self._add(_tag(opened.value, opened.tag), event)

    def _merge(self, target: dict[str, Any], mapping: Any, line: int) -> None:
        if not isinstance(mapping, dict):
            raise UnreadableFile(f"'<<' in line {line} merges what is not a mapping.", "Correct it.", line)
        self._merged += len(mapping)
        if self._merged > MAX_MERGED:
            raise UnreadableFile("Its merge keys ('<<') add too many entries.", "Simplify it.", line)
        for key, value in mapping.items():
            target.setdefault(key, value)

    def _add(self, value: Any, event: Any) -> None:
        """Put a value where it belongs. The first of two equal keys counts; both are an error for Compose."""
        path = self._path(event)
        if not path:
            self._root = value
            return
        top = self._stack[-1]
        if isinstance(top.value, list):
            self._locate(path, event)
            top.value.append(value)
        elif top.key == "<<":
            top.merged.append((value, self._lines.get((*top.path, "<<"), event.start_mark.line + 1)))
        else:
            top.value.setdefault(str(top.key), value)
        top.key = None


def _scalar(text: str, tag: str | None, is_plain: bool) -> Any:
    if tag in ("!reset", "!override"):
        return Tagged(tag, text)
    if not is_plain or tag == f"{_YAML}str":
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.match(text):
        return int(text)
    if _PREFIXED.match(text):
        return int(text, 0)
    return float(text) if _FLOAT.match(text) else text


def _tag(value: Any, tag: str | None) -> Any:
    return Tagged(tag, value) if tag in ("!reset", "!override") else value
