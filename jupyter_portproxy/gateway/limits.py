"""Limits of concurrency and of a request's head: exchanges and tunnels in all, per user and per port, and header fields.

Every acquired slot is released exactly once, when its exchange or tunnel has ended. Keys whose count is zero are removed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from ..config import PortProxy
from ..errors import FieldsTooLarge, TooMany
from ..protocol.headers import Fields


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of one kind of slot; 0: no limit."""

    in_all: int = 0
    per_user: int = 0
    per_port: int = 0


class Slot:
    """One acquired slot of a `Limiter`. Further calls of `release` do nothing."""

    __slots__ = ("_limiter", "port", "user")

    def __init__(self, limiter: Limiter, user: str, port: Hashable) -> None:
        self._limiter: Limiter | None = limiter
        self.user, self.port = user, port

    def release(self) -> None:
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter.remove(self)


class Limiter:
    """Counts the acquired slots of one kind, and refuses those above its bounds.

    Args:
        kind: "exchanges" or "tunnels": the limits are the settings `max_KIND`, `max_KIND_per_user` and `max_KIND_per_port`.
        on_refused: called with the setting's name for each refusal.
    """

    def __init__(self, kind: str, bounds: Bounds, on_refused: Callable[[str], None]) -> None:
        self.kind, self.bounds = kind, bounds
        self.in_all = 0
        self.of_user: dict[Hashable, int] = {}
        self.of_port: dict[Hashable, int] = {}
        self._on_refused = on_refused

    def acquire(self, user: str, port: Hashable) -> Slot:
        """Acquire a slot.

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

    def remove(self, slot: Slot) -> None:
        """Called by `Slot.release`."""
        self.in_all -= 1
        _decrement(self.of_user, slot.user)
        _decrement(self.of_port, slot.port)

    def _refusal(self, suffix: str, limit: int) -> TooMany:
        self._on_refused(f"max_{self.kind}{suffix}")
        return TooMany.at_once(self.kind, suffix, limit)


class Limits:
    """The limits of one gateway.

    Args:
        on_refused: called with the setting's name for each refusal.
    """

    def __init__(self, settings: PortProxy, on_refused: Callable[[str], None]) -> None:
        bounds = Bounds(settings.max_exchanges, settings.max_exchanges_per_user, settings.max_exchanges_per_port)
        self.exchanges = Limiter("exchanges", bounds, on_refused)
        bounds = Bounds(settings.max_tunnels, settings.max_tunnels_per_user, settings.max_tunnels_per_port)
        self.tunnels = Limiter("tunnels", bounds, on_refused)
        self._max_fields, self._max_field_size, self._on_refused = settings.max_fields, settings.max_field_size, on_refused

    def check_fields(self, fields: Fields) -> None:
        """Refuse a request's head that is larger than the settings allow. Raises: FieldsTooLarge"""
        if self._max_fields and len(fields) > self._max_fields:
            self._on_refused("max_fields")
            raise FieldsTooLarge.number(len(fields), self._max_fields)
        if self._max_field_size:
            for name, value in fields:
                if len(value) > self._max_field_size:
                    self._on_refused("max_field_size")
                    raise FieldsTooLarge.size(name, len(value), self._max_field_size)


def _decrement(counts: dict[Hashable, int], key: Hashable) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]
