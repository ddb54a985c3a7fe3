"""Limits for connections that wait for the head of a request: how long they may be idle, and how long a head may take to arrive.

Rule of this file: one timer for all connections. Tornado's own (`header_timeout`) is set for each request, which is a twentieth
of what a small request costs, and does not tell an idle connection from a late head. A waiting connection is idle until the timer
finds a first byte in its buffer; from then on it is late after `timeout`.
"""

from __future__ import annotations

import asyncio
import weakref

from tornado.http1connection import HTTP1ServerConnection

_MIN_PERIOD, _MAX_PERIOD = 0.05, 15.0  # s between two looks at the connections


class Heads:
    """The connections that wait for a head.

    Args:
        loop: in which they are served.
        timeout: seconds from the first byte of a head to its end; up to a quarter more may pass.
        idle: seconds without a byte.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float, idle: float) -> None:
        self._loop, self._timeout, self._idle = loop, timeout, idle
        self._period = min(max(timeout / 8, _MIN_PERIOD), _MAX_PERIOD)
        # By the connection's id, which is used again when it is gone: since when it waits, and if that is for the rest of a head.
        self._waiting: dict[int, tuple[float, bool, weakref.ref[HTTP1ServerConnection]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def await_from(self, connection: HTTP1ServerConnection) -> int:
        """The connection is idle from now on. Returns the key for `came`."""
        now, key = self._loop.time(), id(connection)
        self._waiting[key] = now, False, weakref.ref(connection)
        if self._timer is None:
            self._timer = self._loop.call_at(now + self._period, self._look)
        return key

    def came(self, key: int) -> None:
        """The head is there."""
        self._waiting.pop(key, None)

    def stop(self) -> None:
        """Close nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """Forget the connections that are gone, and close those that have waited too long."""
        now = self._loop.time()
        for key, (since, begun, known) in list(self._waiting.items()):
            connection = known()
            if connection is None or connection.stream.closed():
                del self._waiting[key]
            elif not begun and connection.stream._read_buffer_size:
                self._waiting[key] = now, True, known
            elif now - since >= (self._timeout if begun else self._idle):
                del self._waiting[key]
                connection.stream.close()
        self._timer = self._loop.call_at(now + self._period, self._look) if self._waiting else None
