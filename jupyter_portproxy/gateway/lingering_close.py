"""Closes connections whose client still sends, without losing the response that it was sent (RFC 9112 9.6).

A connection that is closed with unread data is reset, and many clients then report that in place of the response:
configurable-http-proxy answers 503 for the 413 of a service. So the gateway ends its own direction, which the client sees as the
end of the connection, and reads and drops what still comes for a limited time.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.ioloop import IOLoop

from ..protocol.framing import announces_content

LINGER = 30.0  # s
MAX_LINGERING = 200  # connections; any more are closed at once
_POLL = 0.05  # s, until the response is written
_PIECE = 65536  # bytes


class LingeringClose:
    """The connections of a server that are read to their end.

    Args:
        linger: seconds for which a connection is read.
    """

    def __init__(self, linger: float = LINGER) -> None:
        self._linger = linger
        self._timers: dict[socket.socket, object] = {}

    def finish(self, request: HTTPServerRequest) -> None:
        """End the response. If the content was not read, Tornado closes the connection as soon as it has written all."""
        connection: Any = request.connection
        if not is_read(request) and announces_content(request.headers) and len(self._timers) < MAX_LINGERING:
            self._keep(connection.stream)
        connection.finish()

    def close(self) -> None:
        for sock in list(self._timers):
            self._drop(sock)

    def _keep(self, stream: Any) -> None:
        """A second descriptor keeps the connection open when Tornado closes the first."""
        with contextlib.suppress(OSError, AttributeError):  # no descriptors are left, or the client has gone
            sock = socket.fromfd(stream.socket.fileno(), stream.socket.family, stream.socket.type)
            sock.setblocking(False)
            loop = IOLoop.current()
            self._timers[sock] = loop.call_later(self._linger, self._drop, sock)
            loop.add_callback(self._read_when_closed, stream, sock)

    def _read_when_closed(self, stream: Any, sock: socket.socket) -> None:
        if sock not in self._timers:
            return
        loop = IOLoop.current()
        if not stream.closed():
            loop.call_later(_POLL, self._read_when_closed, stream, sock)
            return
        try:
            sock.shutdown(socket.SHUT_WR)
            loop.add_handler(sock, self._read, IOLoop.READ)
        except OSError:  # the client has reset it
            self._drop(sock)

    def _read(self, sock: socket.socket, _: int) -> None:
        try:
            data = sock.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(sock)

    def _drop(self, sock: socket.socket) -> None:
        loop = IOLoop.current()
        loop.remove_timeout(self._timers.pop(sock))
        loop.remove_handler(sock)
        sock.close()


def is_read(request: HTTPServerRequest) -> bool:
    """True if the request was read to its end."""
    return bool(getattr(request.connection, "_read_finished", True))
