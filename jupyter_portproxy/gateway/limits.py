"""PURE. How much may be under way at once: exchanges and tunnels in all, per user and per port.

Rule of this file: plain counts. Whoever takes a slot gives it back, once, whatever the end of what it was taken for; a name
whose count is zero is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from ..errors import TooMany


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most of one kind at once; 0 is no limit."""

    in_all: int = 0
    per_user: int = 0
    per_port: int = 0


class Slot:
    """One place among those that there are. `release` may be called more than once."""

    __slots__ = ("_counts", "port", "user")

    def __init__(self, counts: Counts, user: str, port: Hashable) -> None:
        self._counts: Counts | None = counts
        self.user, self.port = user, port

    def release(self) -> None:
        counts, self._counts = self._counts, None
        if counts is not None:
            counts.give_back(self)


class Counts:
    """What is under way of one kind.

    Args:
        kind: "exchanges" or "tunnels": the limits are the settings `max_KIND`, `max_KIND_per_user` and `max_KIND_per_port`.
        on_refused: told the setting's name, each time that one says no.
    """

    def __init__(self, kind: str, bounds: Bounds, on_refused: Callable[[str], None]) -> None:
        self.kind, self.bounds = kind, bounds
        self.in_all = 0
        self.of_user: dict[Hashable, int] = {}
        self.of_port: dict[Hashable, int] = {}
        self._on_refused = on_refused

    def take(self, user: str, port: Hashable) -> Slot:
        """A slot, to be released when what it is for has ended.

        Raises:
            TooMany: a limit is reached; it names the setting.
        """
        bounds = self.bounds
        users, ports = self.of_user.get(user, 0), self.of_port.get(port, 0)
        if bounds.in_all and self.in_all >= bounds.in_all:
            raise self._refusal("", bounds.in_all)
        if bounds.per_user and users >= bounds.per_user:
            raise self._refusal("_per_user", bounds.per_user)
        if bounds.per_port and ports >= bounds.per_port:
            raise self._refusal("_per_port", bounds.per_port)
        self.in_all += 1
        self.of_user[user] = users + 1
        self.of_port[port] = ports + 1
        return Slot(self, user, port)

    def give_back(self, slot: Slot) -> None:
        """`Slot.release` calls it."""
        self.in_all -= 1
        _one_less(self.of_user, slot.user)
        _one_less(self.of_port, slot.port)

    def _refusal(self, suffix: str, most: int) -> TooMany:
        self._on_refused(f"max_{self.kind}{suffix}")
        return TooMany.at_once(self.kind, suffix, most)


def _one_less(counts: dict[Hashable, int], key: Hashable) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]
