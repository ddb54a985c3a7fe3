"""What is open and may be ended early: a tunnel, a raw socket, a response in flight.

A `Closable` is open from its construction until it calls `run_close_callbacks`; there is no way back. Only its owner closes it;
`shut_down` requests that. Whatever tracks open connections (the gateway, logins, chains of hops) registers a callback.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum


class CloseCode(IntEnum):
    """The WebSocket close codes in use (RFC 6455 7.4.1 and IANA's registry)."""

    GOING_AWAY = 1001
    POLICY_VIOLATION = 1008  # reconnecting does not help
    SERVICE_RESTART = 1012  # reconnecting leads to the new location
    BAD_GATEWAY = 1014  # the next hop does not respond; never sent, and data that flows is left alone


class Closable:
    """Base of everything that may be ended early. Callbacks run once, in the order in which they were added."""

    _close_callbacks: tuple[Callable[[Closable], object], ...] = ()

    def add_close_callback(self, callback: Callable[[Closable], object]) -> None:
        """Call `callback` with this object when it has closed."""
        self._close_callbacks = (*self._close_callbacks, callback)

    def shut_down(self, code: CloseCode = CloseCode.GOING_AWAY) -> None:
        """End it early; on a WebSocket with this close code."""
        raise NotImplementedError

    def run_close_callbacks(self) -> None:
        """Run the callbacks; its owner calls this when it has closed."""
        callbacks, self._close_callbacks = self._close_callbacks, ()
        for callback in callbacks:
            callback(self)
