"""`.gitpod.yml`: its `ports`. Tasks, images and the rest describe a workspace of Gitpod, and are left out."""

from __future__ import annotations

from typing import Any

from . import yaml_text
from .document import ParsedDocument, Path, UnreadableFile, print_path, quote, suggest
from .entries import Entries, WrongEntry, clean_label

_ON_OPEN = {  # `ignore` keeps the port in Gitpod's list, `ignore-completely` does not
    "open-browser": "open",
    "open-preview": "preview",
    "notify": "notify",
    "ignore": "silent",
    "ignore-completely": "ignore",
}
_PROTOCOLS = {"http": None, "https": "https", "tcp": "tcp"}  # None: what it speaks is found out, as without the key
KEYS = ("port", "onOpen", "visibility", "name", "description", "protocol")
_LEFT_OUT = ("tasks", "image")


def read(text: str, entries: Entries) -> None:
    """Add what the file says. Raises: UnreadableFile"""
    document = next(iter(yaml_text.parse(text)), ParsedDocument(None, {}))
    data = document.value
    if data is None:
        return
    if not isinstance(data, dict):
        raise UnreadableFile("It is not a mapping of keys to values.", "Begin it with 'ports:'.")
    for key in _LEFT_OUT:
        if key in data:
            entries.add_note(
                document.line(key), f"'{key}' is left out: only 'ports' is read, and no command of this file is run."
            )
    for path, line in document.repeated:
        entries.add_problem(
            line, print_path(path), f"'{str(path[-1])[:80]}' is there twice; the first one counts.", "Remove one of them."
        )
    ports = data.get("ports") or []
    if not isinstance(ports, list):
        hint = "Write a list: '- port: 3000'."
        return entries.add_problem(document.line("ports"), "ports", f"'ports' is not a list: {quote(ports)}.", hint)
    for index, item in enumerate(ports):
        if entries.is_full:
            return
        port = item.get("port") if isinstance(item, dict) else None
        if isinstance(port, (int, str)) and not isinstance(port, bool):
            _read_port(str(port).replace(":", "-"), item, ("ports", index), document, entries)
        else:
            message = f"{quote(item)} has no 'port'."
            entries.add_problem(document.line("ports", index), f"ports[{index}]", message, "Write '- port: 3000'.")


def _read_port(port: str, item: dict[str, Any], path: Path, document: ParsedDocument, entries: Entries) -> None:
    """Add a rule with what is right of an entry."""
    values: dict[str, object] = {"ports": port, "label": clean_label(item.get("name") or item.get("description"))}
    for key, value in item.items():
        line = document.line(*path, key)
        if key == "visibility" and value == "public":
            entries.add_note(line, f"'visibility: public' of {port[:20]} is left out: a folder shares nothing.")
        if key == "protocol" and isinstance(value, str) and value.lower() == "udp":
            return entries.add_note(line, f"The port {port[:20]} is left out: UDP is not proxied.")
        try:
            values |= _read_key(key, value)
        except WrongEntry as error:
            entries.add_problem(line, print_path((*path, key)), error.message, error.hint)
    entries.add_port(document.line(*path), print_path(path), values)


def _read_key(key: str, value: Any) -> dict[str, object]:
    """The values of a rule by one key. Raises: WrongEntry"""
    if key not in KEYS:
        raise WrongEntry(key, f"There is no key '{key[:80]}' for a port.", suggest(key, KEYS))
    if key == "onOpen" and value is not None:
        if not isinstance(value, str) or value not in _ON_OPEN:
            raise WrongEntry(key, f"'onOpen' is {quote(value)}.", f"Write one of {', '.join(_ON_OPEN)}.")
        return {"on_appear": _ON_OPEN[value]}
    if key == "protocol" and value is not None:
        if not isinstance(value, str) or value.lower() not in _PROTOCOLS:
            raise WrongEntry(key, f"'protocol' is {quote(value)}.", "Write http or https.")
        return {"scheme": _PROTOCOLS[value.lower()]}
    return {}
