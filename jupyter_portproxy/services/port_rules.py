"""The user's rules for ports, in a file of their data folder: label, what happens when a port appears, scheme, Host, activity.

A rule is for a port, a range of ports, or the processes that match a pattern. The server applies rules for ports alone; browsers
match patterns. For each attribute the rule of the port counts before those of ranges, the narrowest first; of equal ranges, the
older rule.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, cast

from ..errors import BadInput, NotFound
from ..protocol import activity
from ..protocol.urls import parse_ports, print_ports
from .process_pattern import check_pattern
from .user_file import UserDataFile, find_entries

MAX_RULES = 500
MAX_LABEL = 100  # characters
MAX_PATTERN = 200  # characters
ON_APPEAR = ("open", "open_once", "preview", "notify", "silent", "ignore")
SCHEMES = ("http", "https", "tcp")
KEYS = ("ports", "process", "label", "on_appear", "scheme", "keep_host", "pinned", "activity")
_CONTROL = ("Cc", "Cs", "Zl", "Zp")  # categories of Unicode: control characters, surrogates, line and paragraph separators
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # would reorder the text around the label


@dataclass(frozen=True, slots=True)
class PortRule:
    """One rule, as in the API and the file. An attribute that is None or empty is not set by it.

    Attributes:
        id: of its match.
        ports: "8501" or "8000-8999"; None if it has a pattern.
        process: a regular expression for the name and command line of a process; None if it has ports.
        label: the name of the port.
        on_appear: one of `ON_APPEAR`.
        scheme: one of `SCHEMES`.
        keep_host: the service gets the browser's own Host.
        pinned: the port is listed even while no program listens.
        activity: which requests are activity of the Jupyter server, one of `activity.KINDS`.
    """

    id: str
    ports: str | None
    process: str | None
    label: str = ""
    on_appear: str | None = None
    scheme: str | None = None
    keep_host: bool | None = None
    pinned: bool = False
    activity: str | None = None


class PortAttributes(NamedTuple):
    """The attributes of one port by all rules for it; see `PortRule`."""

    label: str = ""
    on_appear: str | None = None
    scheme: str | None = None
    keep_host: bool | None = None
    activity: str | None = None


class RuleIndex:
    """The attributes of ports: each of the narrowest rule that has ports and sets it; of equal ranges, of the first."""

    def __init__(self, rules: Iterable[PortRule] = ()) -> None:
        by_ports = [(parse_ports([rule.ports])[0], rule) for rule in rules if rule.ports is not None]
        self._by_width = sorted(by_ports, key=lambda rule: len(rule[0]))
        self._attributes: dict[int, PortAttributes] = {}  # of ports that were looked up

    def find(self, port: int) -> PortAttributes:
        """The attributes of a port."""
        attributes = self._attributes.get(port)
        if attributes is None:
            attributes = self._attributes[port] = _merge([rule for ports, rule in self._by_width if port in ports])
        return attributes


class PortRules:
    """The rules in one file. Methods that change them raise BadInput if it cannot be used."""

    def __init__(self, path: Path, log: logging.Logger) -> None:
        self._file = UserDataFile(path, "port rules", _load, _dump, log)
        self._version, self._index = -1, RuleIndex()

    @property
    def version(self) -> int:
        """Another number after each change of the rules."""
        self._file.read()
        return self._file.version

    def list(self) -> list[PortRule]:
        """All rules, the oldest first."""
        return list(self._file.read().values())

    def find(self, port: int) -> PortAttributes:
        """The attributes of a port by the rules that have ports."""
        version = self.version
        if version != self._version:
            self._version, self._index = version, RuleIndex(self.list())
        return self._index.find(port)

    def put(self, values: Mapping[str, object]) -> PortRule:
        """Make the rule with these values, or replace the one with the same match. Args and Raises: see `change`."""
        return self.change({**dict.fromkeys(KEYS), **values})

    def change(self, values: Mapping[str, object]) -> PortRule:
        """Change the given attributes of the rule with the same match, or make a rule with them.

        Args:
            values: by the names in `KEYS`.

        Raises:
            BadInput: a value is invalid, or there are too many rules.
        """
        rule = parse_rule(values)
        if rule.process is not None:
            check_pattern(rule.process)
        with self._file.change() as rules:
            before = rules.get(rule.id, rule)
            rules[rule.id] = rule = replace(before, **{key: getattr(rule, key) for key in values})
            if len(rules) > MAX_RULES:
                raise BadInput(f"There are {MAX_RULES} rules for ports already.", "Remove one that you do not need.")
        return rule

    def remove(self, id_: str) -> PortRule:
        """Remove a rule and return it. Raises: NotFound"""
        with self._file.change() as rules:
            removed = rules.pop(id_, None)
            if removed is None:
                raise NotFound(id_, "port rule")
        return removed


def identify(ports: str | None, process: str | None) -> str:
    """The id of the rule with this match."""
    return sha256(f"process:{process}".encode() if ports is None else f"ports:{ports}".encode()).hexdigest()[:12]


def parse_rule(values: Mapping[str, object]) -> PortRule:
    """The rule of a JSON object. The syntax of its pattern is not checked: to compile 500 of them takes half a second.

    Raises:
        BadInput
    """
    if (values.get("ports") is None) == (values.get("process") is None):
        raise BadInput("A rule has either 'ports' or 'process'.", "Send one of them.")
    ports = _parse_range(values["ports"]) if values.get("ports") is not None else None
    process = _parse_pattern(values["process"]) if ports is None else None
    rule = PortRule(
        id=identify(ports, process),
        ports=ports,
        process=process,
        label=_parse_label(values.get("label")),
        on_appear=_parse_choice("on_appear", values.get("on_appear"), ON_APPEAR),
        scheme=_parse_choice("scheme", values.get("scheme"), SCHEMES),
        keep_host=_parse_choice("keep_host", values.get("keep_host"), (True, False)),
        pinned=bool(_parse_choice("pinned", values.get("pinned"), (True, False))),
        activity=_parse_choice("activity", values.get("activity"), activity.KINDS),
    )
    if rule.process is not None and any(value is not None for value in (rule.scheme, rule.keep_host, rule.activity)):
        raise BadInput("A rule for processes has no 'scheme', no 'keep_host' and no 'activity'.", "Make a rule for the port.")
    if rule.pinned and (rule.ports is None or "-" in rule.ports):
        raise BadInput("Only a single port can be added ('pinned').", "Write one port, such as 8501.")
    return rule


def _parse_range(ports: object) -> str:
    try:
        return print_ports(parse_ports([ports if isinstance(ports, str) else ""]))
    except ValueError:
        raise BadInput.value("ports", ports, "Write a port or a range, such as 8501 or 8000-8999, within 1-65535.") from None


def _parse_pattern(process: object) -> str:
    pattern = _parse_text("pattern", process, MAX_PATTERN)
    if not pattern:
        raise BadInput("The pattern is empty.", "Write a regular expression, such as streamlit.")
    return pattern


def _parse_label(label: object) -> str:
    return "" if label is None else _parse_text("label", label, MAX_LABEL).strip()


def _parse_text(name: str, text: object, limit: int) -> str:
    if not isinstance(text, str):
        raise BadInput.value(name, text, "Send a text.")
    if len(text) > limit:
        raise BadInput(f"The {name} has {len(text)} characters.", f"Use at most {limit}.")
    if any(unicodedata.category(character) in _CONTROL or character in _DIRECTION for character in text):
        raise BadInput(f"The {name} {text[:80]!r} has a control character.", "Remove it.")
    return text


def _parse_choice(name: str, value: object, choices: tuple[Any, ...]) -> Any:
    """One of the choices, or None."""
    if value is None or any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        return value
    raise BadInput.value(name, value, f"Send one of {', '.join(str(choice).lower() for choice in choices)}, or null.")


def _merge(rules: list[PortRule]) -> PortAttributes:
    """The attributes, each of the first rule that sets it."""
    attributes: dict[str, Any] = {}
    for rule in reversed(rules):
        for name in PortAttributes._fields:
            if (value := getattr(rule, name)) not in (None, ""):
                attributes[name] = value
    return PortAttributes(**attributes)


def _load(data: Any) -> dict[str, PortRule]:
    """Raises: ValueError"""
    rules = {}
    for entry in find_entries(data, "rules", list, MAX_RULES):
        if not isinstance(entry, dict) or not entry.keys() <= {*KEYS, "id"}:
            raise ValueError(f"invalid entry {str(entry)[:80]!r}")
        try:
            rule = parse_rule(cast("dict[str, object]", entry))
        except BadInput as error:
            raise ValueError(error.message) from None
        rules[rule.id] = rule
    return rules


def _dump(rules: dict[str, PortRule]) -> object:
    return {"rules": [asdict(rule) for rule in rules.values()]}
