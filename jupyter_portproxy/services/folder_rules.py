"""The rules for ports of folders whose content the user has allowed; the user's own rules count before them (gateway.policy)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256

from .port_rules import PortAttributes, PortRule, RuleIndex


class FolderRules:
    """The rules by folder.

    Attributes:
        version: another number after each change; it only grows.
    """

    def __init__(self) -> None:
        self._by_folder: dict[str, tuple[PortRule, ...]] = {}
        self._index = RuleIndex()
        self.version = 0

    def list(self) -> list[tuple[str, PortRule]]:
        """Each rule with its folder. Its `id` is unlike that of the user's rule with the same match."""
        return [(folder, rule) for folder, rules in self._by_folder.items() for rule in rules]

    def find(self, port: int) -> PortAttributes:
        """The attributes of a port by the rules that have ports."""
        return self._index.find(port)

    def put(self, folder: str, rules: Iterable[PortRule]) -> None:
        """Replace the rules of a folder; without rules it has none any more."""
        own = tuple(
            replace(rule, id=sha256(f"{folder}\n{rule.id}".encode("utf-8", "surrogateescape")).hexdigest()[:12]) for rule in rules
        )
        if own == self._by_folder.get(folder, ()):
            return
        self._by_folder[folder] = own
        if not own:
            del self._by_folder[folder]
        self._index = RuleIndex(rule for _, rule in self.list())
        self.version += 1
