"""`devcontainer.json`: `forwardPorts`, `appPort`, `portsAttributes` and `otherPortsAttributes`.

This machine stands for the dev container: a port within the container is one of this machine. As in VS Code, the attributes of a
port's own number count before those of ranges, by their starts, and of patterns; `otherPortsAttributes` are for all other ports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..protocol.urls import parse_ports, print_ports
from . import jsonc
from .document import ParsedDocument, Path, UnreadableFile, print_path, quote, suggest
from .entries import Entries, WrongEntry, clean_label

_ON_AUTO_FORWARD = {
    "notify": "notify",
    "openBrowser": "open",
    "openBrowserOnce": "open_once",
    "openPreview": "preview",
    "silent": "silent",
    "ignore": "ignore",
}
_WITHOUT_MEANING = {
    "requireLocalPort": "the browser's machine gets no port",
    "elevateIfNeeded": "the browser's machine gets no port",
    "visibility": "a folder shares nothing",  # read by some clouds
}
ATTRIBUTES = ("label", "onAutoForward", "protocol", *_WITHOUT_MEANING)
_COMMANDS = tuple(
    f"{step}Command" for step in ("initialize", "onCreate", "updateContent", "postCreate", "postStart", "postAttach")
)
_OWN_HOSTS = frozenset({"localhost", "127.0.0.1", "0.0.0.0", "::1", "[::1]"})  # noqa: S104
_PORT = re.compile(r"[0-9]{1,5}\Z", re.ASCII)
_RANGE = re.compile(r"[0-9]{1,5}-[0-9]{1,5}\Z", re.ASCII)
_HOST_AND_PORT = re.compile(r"([A-Za-z0-9_.\[\]:-]+):([0-9]{1,5})\Z", re.ASCII)
_VARIABLE = re.compile(r"\$\{([A-Za-z]+)(?::[^:{}]*(?::([^{}]*))?)?\}")
_ANY_PROCESS = "."  # a pattern that matches each
_LAST_PORT = 65535


@dataclass(frozen=True)
class ComposeUse:
    """What the file says of Compose.

    Attributes:
        files: of `dockerComposeFile`, relative to the file's folder.
        services: that are started, with what they depend on; empty for all.
    """

    files: tuple[str, ...]
    services: tuple[str, ...]


def read(text: str, entries: Entries, folder: str) -> ComposeUse | None:
    """Add what the file says.

    Args:
        folder: its real path, for variables.

    Returns:
        the use of Compose, if there is any.

    Raises:
        UnreadableFile
    """
    document = jsonc.parse(text)
    data = document.value
    if not isinstance(data, dict):
        raise UnreadableFile("It is not an object of keys and values.", 'Begin it with {"forwardPorts": [3000]}.')
    reader = _Reader(document, entries, folder)
    reader.read()
    commands = [key for key in _COMMANDS if data.get(key)]
    if commands:
        names = " and ".join(filter(None, [", ".join(f"'{key}'" for key in commands[:-1]), f"'{commands[-1]}'"]))
        verb = "is" if len(commands) == 1 else "are"
        entries.add_note(document.line(commands[0]), f"{names} {verb} left out: no command of this file is run.")
    return reader.find_compose()


class _Reader:
    """Reads one file. What applies to the same port, by several keys, becomes one rule."""

    def __init__(self, document: ParsedDocument, entries: Entries, folder: str) -> None:
        self._document, self._entries, self._data = document, entries, document.value
        name = folder.rpartition("/")[2]
        folders = {"localWorkspaceFolder": folder, "containerWorkspaceFolder": folder}
        self._variables = {**folders, **{f"{key}Basename": name for key in folders}}

    def read(self) -> None:
        forwarded = dict(self._forwarded())
        found = list(self._attributed())
        ports = [match["ports"] for _, match, _ in found if "ports" in match]
        others = self._read_attributes(("otherPortsAttributes",)) if self._data.get("otherPortsAttributes") else {}
        patterns = [entry for entry in found if "process" in entry[1]]
        for path, match, values in self._in_order(found):
            is_pinned = forwarded.pop(match.get("ports", ""), None) is not None
            if patterns and others.get("on_appear"):  # its pattern, for all processes, matches these ports, too
                values = {**values, "on_appear": values["on_appear"] or "notify"}
            if "process" in match and values["scheme"]:
                line = self._document.line(*path, "protocol")
                self._entries.add_note(line, f"'protocol' of {path[-1]} is left out: it can only be set for ports.")
                values = {**values, "scheme": None}
            self._add(path, {**match, **values, "pinned": is_pinned})
        for port, path in forwarded.items():
            self._add(path, {"ports": port, "pinned": True})
        if others:
            self._add_others(others, ports, bool(patterns))

    def find_compose(self) -> ComposeUse | None:
        names = self._data.get("dockerComposeFile")
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return None
        running = self._data.get("runServices")
        services = [self._data.get("service"), *running] if isinstance(running, list) and running else []
        return ComposeUse(tuple(map(self._expand, names)), tuple(name for name in services if isinstance(name, str)))

    @staticmethod
    def _in_order(found: list[tuple[Path, dict[str, str], dict[str, Any]]]) -> list[tuple[Path, dict[str, str], dict[str, Any]]]:
        """Single ports and ranges by their first port; patterns as they come."""

        def position(entry: tuple[Path, dict[str, str], dict[str, Any]]) -> tuple[int, int]:
            ports = entry[1].get("ports", "")
            return (0 if _PORT.match(ports) else 1 if ports else 2, int(ports.partition("-")[0] or 0))

        return sorted(found, key=position)

    def _add(self, path: Path, values: Mapping[str, object]) -> None:
        self._entries.add_port(self._document.line(*path), print_path(path), values)

    def _problem(self, path: Path, message: str, hint: str) -> None:
        self._entries.add_problem(self._document.line(*path), print_path(path), message, hint)

    def _expand(self, text: str) -> str:
        """The text with its variables; those of environments have their defaults, as no environment is read."""
        return _VARIABLE.sub(lambda match: self._variables.get(match[1], match[2] or ""), text)

    # ---- ports that are forwarded ----

    def _forwarded(self) -> Iterator[tuple[str, Path]]:
        """Ports of `forwardPorts` and `appPort`, each with its path in the file."""
        ports = self._data.get("forwardPorts", [])
        if isinstance(ports, list):
            yield from self._ports_of("forwardPorts", ports)
        else:
            self._problem(("forwardPorts",), f"'forwardPorts' is not a list: {quote(ports)}.", "Write a list, such as [3000].")
        published = self._data.get("appPort", [])
        yield from self._ports_of("appPort", published if isinstance(published, list) else [published])

    def _ports_of(self, key: str, items: list[Any]) -> Iterator[tuple[str, Path]]:
        for index, item in enumerate(items):
            path = (key, index)
            text = self._expand(str(item)) if isinstance(item, (int, str)) and not isinstance(item, bool) else ""
            if key == "appPort" and text.endswith("/udp"):
                self._entries.add_note(self._document.line(*path), f"The port {quote(item)} is left out: UDP is not proxied.")
                continue
            if key == "appPort":  # of the form [HOST:][PORT:]PORT[/tcp]; the last one is the container's
                text = text.removesuffix("/tcp").rpartition(":")[2]
            port = self._own_port(text, path)
            if port is None and not _HOST_AND_PORT.match(text):
                self._problem(path, f"{quote(item)} is not a port.", "Write a port, such as 3000.")
            elif port is not None:
                yield port, path

    def _own_port(self, text: str, path: Path) -> str | None:
        """The port of `port` or `host:port`, if the host is the dev container itself."""
        match = _HOST_AND_PORT.match(text)
        if match is None or match[1] in _OWN_HOSTS or match[1] == self._data.get("service"):
            text = match[2] if match else text
            return str(int(text)) if _PORT.match(text) else None
        self._entries.add_note(self._document.line(*path), f"'{text}' is left out: it is a port of another container.")
        return None

    # ---- attributes ----

    def _attributed(self) -> Iterator[tuple[Path, dict[str, str], dict[str, Any]]]:
        """Of `portsAttributes`: path in the file, ports or process, values of a rule."""
        attributes = self._data.get("portsAttributes", {})
        if not isinstance(attributes, dict):
            message = f"'portsAttributes' is not an object: {quote(attributes)}."
            return self._problem(("portsAttributes",), message, 'Write {"3000": {"label": "..."}}.')
        for key in attributes:
            path = ("portsAttributes", key)
            match = self._match(self._expand(key), path)
            if match is not None:
                yield path, match, self._read_attributes(path)

    def _match(self, key: str, path: Path) -> dict[str, str] | None:
        if _RANGE.match(key):
            return {"ports": key}
        if _PORT.match(key) or _HOST_AND_PORT.match(key):
            port = self._own_port(key, path)
            return None if port is None else {"ports": port}
        return {"process": widen_pattern(key)}

    def _read_attributes(self, path: tuple[str, ...]) -> dict[str, Any]:
        """The values of a rule; what is wrong is left out."""
        value = self._data
        for part in path:
            value = value[part]
        values: dict[str, Any] = {"label": None, "on_appear": None, "scheme": None}
        if not isinstance(value, dict):
            self._problem(path, f"{quote(value)} is not an object.", 'Write {"label": "..."}.')
            return values
        for key in value:
            try:
                values |= self._read_attribute(key, value[key], path)
            except WrongEntry as error:
                self._problem((*path, error.key), error.message, error.hint)
        return values

    def _read_attribute(self, key: str, value: Any, path: tuple[str, ...]) -> dict[str, Any]:
        """Raises: WrongEntry"""
        if key not in ATTRIBUTES:
            raise WrongEntry(key, f"There is no attribute '{key[:80]}' of a port.", suggest(key, ATTRIBUTES))
        if key in _WITHOUT_MEANING:
            if value and value != "private":
                line = self._document.line(*path, key)
                self._entries.add_note(line, f"'{key}' of {path[-1][:80]} is left out: {_WITHOUT_MEANING[key]}.")
            return {}
        if key == "label":
            return {"label": clean_label(self._expand(value) if isinstance(value, str) else value)}
        if key == "protocol" and value not in ("http", "https"):
            raise WrongEntry(key, f"'protocol' is {quote(value)}.", "Write http or https.")
        if key == "onAutoForward" and (not isinstance(value, str) or value not in _ON_AUTO_FORWARD):
            raise WrongEntry(key, f"'onAutoForward' is {quote(value)}.", f"Write one of {', '.join(_ON_AUTO_FORWARD)}.")
        return {"scheme": value} if key == "protocol" else {"on_appear": _ON_AUTO_FORWARD[value]}

    def _add_others(self, others: dict[str, Any], ports: Iterable[str], has_patterns: bool) -> None:
        """Add rules for all ports that have no attributes. Patterns count after ranges, so next to them a pattern is needed."""
        path = ("otherPortsAttributes",)
        if has_patterns and others["on_appear"]:
            self._add(path, {"process": _ANY_PROCESS, "on_appear": others["on_appear"]})
            others = {**others, "on_appear": None}
        if any(others.values()):
            for gap in _gaps(ports):
                self._add(path, {"ports": gap, **others})


def _gaps(ports: Iterable[str]) -> Iterator[str]:
    """The ranges between these."""
    first = 1
    for taken in sorted(_parse(ports), key=lambda taken: taken.start):
        if first < taken.start:
            yield print_ports([range(first, taken.start)])
        first = max(first, taken.stop)
    if first <= _LAST_PORT:
        yield print_ports([range(first, _LAST_PORT + 1)])


def _parse(ports: Iterable[str]) -> Iterator[range]:
    for text in ports:
        try:
            yield parse_ports([text])[0]
        except ValueError:  # it is a problem of its own
            continue


def widen_pattern(pattern: str) -> str:
    """A pattern for command lines as one for a process's name and command line, which is what rules match."""
    return f"^(?:[^ ]+ )?{pattern[1:]}" if pattern.startswith("^") and "|" not in pattern else pattern
