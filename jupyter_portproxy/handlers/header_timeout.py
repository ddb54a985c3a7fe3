"""How long a connection may be idle, and how long the head of a request may take to arrive.

Tornado's own `header_timeout` cannot do this: it runs from the end of the response before, so that a limit for slow heads would
close idle connections, which load balancers keep for minutes; and it sets a timer for each request, which is a twentieth of the
cost of a small one. Here one timer serves all connections. It detects the first byte of a head by
`stream._read_buffer_size`, a private attribute of Tornado.

A connection is in one of three states, in `_waiting` unless it is busy:

- idle: `start_request` begins it, when the connection is new or the response before has ended; `idle` seconds at most.
- head: the timer begins it, when it finds a first byte in the buffer; `timeout` seconds at most.
- busy: the head has arrived. This timer does not limit it.
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
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.web import Application

_MIN_PERIOD, _MAX_PERIOD = 0.05, 15.0  # s between two checks of the connections
_IDLE = 3600.0  # s: Tornado's default


class HeaderTimeout(HTTPServerConnectionDelegate):
    """Stands between a server and its application, and closes connections that wait too long for a head.

    Args:
        timeout: seconds from the first byte of a head to its end; up to a quarter more may pass.
    """

    def __init__(self, application: Application, timeout: float) -> None:
        self._application, self._timeout, self._idle = application, timeout, _IDLE
        self._period = min(max(timeout / 8, _MIN_PERIOD), _MAX_PERIOD)
        # By the connection's id, which is used again when it is gone: since when it waits, and if that is for the rest of a head.
        self._waiting: dict[int, tuple[float, bool, weakref.ref[HTTP1ServerConnection]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def mount(self, server: HTTPServer) -> None:
        """Take the place of the application, and of the server's own timers."""
        server.request_callback = self
        self._idle = server.conn_params.header_timeout or _IDLE
        server.conn_params.header_timeout = None

    def __len__(self) -> int:
        """Connections that wait for a head."""
        return len(self._waiting)

    @property
    def is_running(self) -> bool:
        return self._timer is not None

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        assert isinstance(server_conn, HTTP1ServerConnection)
        loop, key = asyncio.get_running_loop(), id(server_conn)
        self._waiting[key] = loop.time(), False, weakref.ref(server_conn)
        if self._timer is None:
            self._timer = loop.call_later(self._period, self._check)
        return _RequestHead(self, key, self._application, server_conn, request_conn)

    def head_arrived(self, key: int) -> None:
        """The connection of that key is busy from now on."""
        self._waiting.pop(key, None)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        """Forget the connections that are gone, and close those that have waited too long."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for key, (since, has_begun, reference) in list(self._waiting.items()):
            connection = reference()
            if connection is None or connection.stream.closed():
                del self._waiting[key]
            elif not has_begun and connection.stream._read_buffer_size:
                self._waiting[key] = now, True, reference
            elif now - since >= (self._timeout if has_begun else self._idle):
                del self._waiting[key]
                connection.stream.close()
        self._timer = loop.call_later(self._period, self._check) if self._waiting else None


class _RequestHead(HTTPMessageDelegate):
    """Notes the arrival of a head, and passes everything on to the delegate that the application chooses by it.

    It does what the delegate of `Application.start_request` does, which would be one more layer for each request.
    """

    __slots__ = ("_application", "_connection", "_delegate", "_key", "_server_connection", "_timeout")

    def __init__(
        self,
        timeout: HeaderTimeout,
        key: int,
        application: Application,
        server_connection: HTTP1ServerConnection,
        connection: HTTPConnection,
    ) -> None:
        self._timeout, self._key, self._application = timeout, key, application
        self._server_connection, self._connection = server_connection, connection
        self._delegate: HTTPMessageDelegate | None = None

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> Awaitable[None] | None:
        assert isinstance(start_line, RequestStartLine)
        self._timeout.head_arrived(self._key)
        request = HTTPServerRequest(
            start_line=start_line, headers=headers, connection=self._connection, server_connection=self._server_connection
        )
        self._delegate = self._application.find_handler(request)
        return self._delegate.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        assert self._delegate is not None  # the head comes first
        return self._delegate.data_received(chunk)

    def finish(self) -> None:
        assert self._delegate is not None
        self._delegate.finish()

    def on_connection_close(self) -> None:
        if self._delegate is not None:
            self._delegate.on_connection_close()
