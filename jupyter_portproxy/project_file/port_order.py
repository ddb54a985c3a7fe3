"""Rules for ports in an order of precedence, as rules that do not depend on an order.

Of several rules for a port, the narrowest counts before the others (`services.port_rules`). Where a wider one comes first, as of
another file, ranges are cut so that each port still gets the attributes of the first rule that has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

from ..protocol.urls import parse_ports, print_ports
from ..services.port_rules import PortRule, identify

_ATTRIBUTES = tuple(each.name for each in fields(PortRule) if each.name not in ("id", "ports", "process", "pinned"))


def resolve(rules: Sequence[PortRule]) -> list[PortRule]:
    """The rules that give each port what these give it, if for each attribute the first rule that sets it counts."""
    same: dict[str, list[PortRule]] = {}
    for rule in rules:
        same.setdefault(rule.id, []).append(rule)
    merged = [_merge(each) for each in same.values()]
    of_ports = [(parse_ports([rule.ports])[0], rule) for rule in rules if rule.ports is not None]
    if any(_is_hidden(first, second) for index, second in enumerate(of_ports) for first in of_ports[:index]):
        ordered = _cut(of_ports)
    else:
        ordered = [rule for rule in merged if rule.ports is not None]
    return [*ordered, *(rule for rule in merged if rule.ports is None)]


def _merge(rules: Sequence[PortRule]) -> PortRule:
    """The first rule, with the attributes of the others that it does not set."""
    values = {name: next((value for rule in rules if _is_set(value := getattr(rule, name))), None) for name in _ATTRIBUTES}
    pinned = any(rule.pinned for rule in rules)  # of a single port
    return replace(rules[0], **{name: value for name, value in values.items() if value is not None}, pinned=pinned)


def _is_set(value: Any) -> bool:
    return value not in (None, "")


def _is_hidden(first: tuple[range, PortRule], second: tuple[range, PortRule]) -> bool:
    """True if the second one, as it is not wider, could count before the first."""
    (ports, rule), (others, other) = first, second
    if len(ports) < len(others) or ports == others or ports.stop <= others.start or others.stop <= ports.start:
        return False
    return any(
        _is_set(value := getattr(rule, name)) and _is_set(hidden := getattr(other, name)) and value != hidden
        for name in _ATTRIBUTES
    )


def _cut(of_ports: Sequence[tuple[range, PortRule]]) -> list[PortRule]:
    """Rules for ranges that do not overlap, by their ports."""
    bounds = sorted({bound for ports, _ in of_ports for bound in (ports.start, ports.stop)})
    pieces: list[tuple[range, PortRule]] = []
    for start, stop in pairwise(bounds):
        matching = [rule for ports, rule in of_ports if ports.start <= start and stop <= ports.stop]
        if not matching:
            continue
        rule = replace(_merge(matching), id="", ports=None)
        if pieces and pieces[-1][0].stop == start and pieces[-1][1] == rule and not rule.pinned:
            start = pieces.pop()[0].start
        pieces.append((range(start, stop), rule))
    texts = [print_ports([ports]) for ports, _ in pieces]
    return [replace(rule, id=identify(text, None), ports=text) for text, (_, rule) in zip(texts, pieces, strict=True)]
