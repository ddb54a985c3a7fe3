"""Before Tornado's routing: late heads, and requests that are admitted already.

Rule of this file: it stands where every request of the server passes, so it does next to nothing. Whatever is not a request
like one that was let in a moment ago goes to the application, untouched.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

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

from ..gateway.gateway import Gateway
from .decision_cache import Admissions
from .header_timeout import Heads
from .http import PortExchange

_IDLE = 3600.0  # s: Tornado's default


class Front(HTTPServerConnectionDelegate):
    """Stands between a server and its application."""

    def __init__(self, application: Application, gateway: Gateway, admissions: Admissions) -> None:
        self.application, self.gateway, self.admissions = application, gateway, admissions
        self.heads: Heads | None = None

    def mount(self, server: HTTPServer, loop: asyncio.AbstractEventLoop) -> None:
        """Take the application's place, and that of the server's own timers if there is a limit for heads."""
        server.request_callback = self
        if self.gateway.settings.head_timeout:
            self.heads = Heads(loop, self.gateway.settings.head_timeout, server.conn_params.header_timeout or _IDLE)
            server.conn_params.header_timeout = None

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        assert isinstance(server_conn, HTTP1ServerConnection)
        return _Request(self, server_conn, request_conn)

    def stop(self) -> None:
        """Watch no heads any more."""
        if self.heads is not None:
            self.heads.stop()


class _Request(HTTPMessageDelegate):
    """Chooses by the head who serves a request, and passes on all that comes."""

    __slots__ = ("_connection", "_front", "_key", "_server_conn", "_to")

    def __init__(self, front: Front, server_conn: HTTP1ServerConnection, connection: HTTPConnection) -> None:
        self._front, self._server_conn, self._connection = front, server_conn, connection
        self._to: HTTPMessageDelegate | None = None
        self._key = front.heads.await_from(server_conn) if front.heads is not None else 0

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> Awaitable[None] | None:
        assert isinstance(start_line, RequestStartLine)
        front = self._front
        if front.heads is not None:
            front.heads.came(self._key)
        admission = front.admissions.find(self._server_conn.context, start_line.method, start_line.path, headers)
        if admission is None:
            self._to = front.application.start_request(self._server_conn, self._connection)
        else:
            request = Arrived(self._server_conn, self._connection, start_line, headers)
            self._to = PortExchange(front.application, request, front.gateway, admission, admissions=front.admissions)
        return self._to.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        assert self._to is not None  # the head comes first
        return self._to.data_received(chunk)

    def finish(self) -> None:
        assert self._to is not None
        self._to.finish()

    def on_connection_close(self) -> None:
        if self._to is not None:
            self._to.on_connection_close()


class Arrived(HTTPServerRequest):
    """A request of which little is looked at; all else that Tornado makes of each is made when somebody looks for it."""

    def __init__(
        self, server_conn: object, connection: HTTPConnection, start_line: RequestStartLine, headers: HTTPHeaders
    ) -> None:
        self.server_connection, self.connection, self.headers = server_conn, connection, headers
        self.method, self.uri, self.version = start_line
        self.path, _, self.query = start_line.path.partition("?")  # Tornado 6.5 has them as None in the class
        self._start_line, self._begun = start_line, time.monotonic()

    def __getattr__(self, name: str) -> Any:
        if name in ("arguments", "query_arguments") and not self.query:  # an identity provider looks for a token there
            return self.__dict__.setdefault(name, {})
        if "host_name" in self.__dict__:
            raise AttributeError(name)
        super().__init__(
            start_line=self._start_line,
            headers=self.headers,
            connection=self.connection,
            server_connection=self.server_connection,
        )
        return getattr(self, name)

    def request_time(self) -> float:
        """Seconds since its head came."""
        return time.monotonic() - self._begun
