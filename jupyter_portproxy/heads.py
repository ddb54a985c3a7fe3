"""How long a connection may take to send the head of a request, the time that it is idle before it included.

Rule of this file: one timer for all connections. Tornado's own (`header_timeout`) is set for each request, and that is a
twentieth of what a small request costs.
"""

from __future__ import annotations

import asyncio
import weakref

from tornado.http1connection import HTTP1ServerConnection


class Heads:
    """The connections that owe a head; those that are late are closed.

    Args:
        loop: in which they are served.
        timeout: seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self._loop, self._timeout = loop, timeout
        # By the connection's id, which is used again when it is gone; who has waited longest comes first.
        self._owed: dict[int, tuple[float, weakref.ref[HTTP1ServerConnection]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def await_from(self, connection: HTTP1ServerConnection) -> int:
        """Its time begins; `came` wants what this returns."""
        due, key = self._loop.time() + self._timeout, id(connection)
        self._owed.pop(key, None)
        self._owed[key] = due, weakref.ref(connection)
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._close_late)
        return key

    def came(self, key: int) -> None:
        """The head is there."""
        self._owed.pop(key, None)

    def stop(self) -> None:
        """Close nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _close_late(self) -> None:
        self._timer = None
        now = self._loop.time()
        for key, (due, known) in list(self._owed.items()):
            if due > now:
                self._timer = self._loop.call_at(due, self._close_late)
                return
            del self._owed[key]
            connection = known()
            if connection is not None:
                connection.stream.close()
