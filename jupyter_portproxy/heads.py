"""How long a connection may take to send the head of a request, the time that it is idle before it included.

Rule of this file: one timer for all connections. Tornado's own (`header_timeout`) is set for each request, and that is a
twentieth of what a small request costs.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable

from tornado.http1connection import HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.web import Application

_Awaited = dict[int, tuple[float, weakref.ref[HTTP1ServerConnection]]]


class Heads(HTTPServerConnectionDelegate):
    """Stands between a server and its application, and closes the connections whose head is late.

    Args:
        timeout: seconds.
    """

    def __init__(self, server: HTTPServer, application: Application, timeout: float) -> None:
        self._application, self._timeout = application, timeout
        self._loop = asyncio.get_running_loop()
        # By the connection's id, which is used again when it is gone; who has waited longest comes first.
        self._awaited: _Awaited = {}
        self._timer: asyncio.TimerHandle | None = None
        server.conn_params.header_timeout = None
        server.request_callback = self

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        assert isinstance(server_conn, HTTP1ServerConnection)
        due, key = self._loop.time() + self._timeout, id(server_conn)
        self._awaited.pop(key, None)
        self._awaited[key] = due, weakref.ref(server_conn)
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._close_late)
        return _Head(self._awaited, key, self._application.start_request(server_conn, request_conn))

    def stop(self) -> None:
        """Close nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _close_late(self) -> None:
        self._timer = None
        now = self._loop.time()
        for key, (due, known) in list(self._awaited.items()):
            if due > now:
                self._timer = self._loop.call_at(due, self._close_late)
                return
            del self._awaited[key]
            connection = known()
            if connection is not None:
                connection.stream.close()


class _Head(HTTPMessageDelegate):
    """Passes a request on, and notes that its head has come."""

    __slots__ = ("_awaited", "_key", "_to")

    def __init__(self, awaited: _Awaited, key: int, to: HTTPMessageDelegate) -> None:
        self._awaited, self._key, self._to = awaited, key, to

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> Awaitable[None] | None:
        self._awaited.pop(self._key, None)
        return self._to.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._to.data_received(chunk)

    def finish(self) -> None:
        self._to.finish()

    def on_connection_close(self) -> None:
        self._to.on_connection_close()
