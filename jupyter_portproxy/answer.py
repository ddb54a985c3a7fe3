"""The answer to a request, on its way to the client.

Rule of this file: each piece is flushed before the next is read, and an answer that is not whole ends with its connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine, format_timestamp

from . import fields as f
from .gateway import Destination, PortProxy
from .named import Journey
from .tunnel import GOING_AWAY


class Answer:
    """Writes a relayed answer to the client.

    Args:
        cookies: the fields of a login that has just begun.
        log: told the status when the answer has ended.
    """

    def __init__(
        self,
        request: HTTPServerRequest,
        gateway: PortProxy,
        destination: Destination,
        client: f.Client,
        cookies: f.Fields,
        log: Callable[[int], None],
    ) -> None:
        self._request, self._gateway, self._client, self._cookies, self._log = request, gateway, client, cookies, log
        self._route, self._upstream = destination.route, destination.upstream
        self.journey = _journey(destination, client)
        self._connection: HTTP1Connection = request.connection  # type: ignore[assignment]
        self._until_close = False
        self._sandbox = "" if client.isolated else gateway.sandbox_policy
        self._status = 0

    @property
    def started(self) -> bool:
        """Something of it has been written."""
        return self._status != 0

    def headers(self, fields: f.Fields) -> HTTPHeaders:
        out = self.fields_of(fields)
        if self.journey is not None:
            out = self.journey.answer(out)
        headers = _headers(out + self._cookies)
        if self._sandbox:  # beside the service's own: browsers obey each of several policies
            headers.add("Content-Security-Policy", self._sandbox)
        if "Date" not in headers:  # RFC 9110 6.6.1: a gateway adds what the upstream left out
            headers["Date"] = _date(int(time.time()))
        return headers

    def fields_of(self, fields: f.Fields) -> f.Fields:
        """The fields of an answer that concern the client."""
        return f.to_client(fields, self._route, self._upstream, self._client)

    async def start(self, status: int, reason: str, fields: f.Fields, first: bytes | None = None) -> None:
        headers = self.headers(fields)
        self._until_close = self._request.version == "HTTP/1.0" and "Content-Length" not in headers
        self._status = status
        self._gateway.counts.bytes_to_client += len(first or b"")
        await self._connection.write_headers(ResponseStartLine("HTTP/1.1", status, reason), headers, first)

    async def write(self, data: bytes) -> None:
        self._gateway.counts.bytes_to_client += len(data)
        await self._connection.write(data)

    def finish(self) -> None:
        self._connection.finish()
        if self._until_close:
            self._connection.close()
        self._log(self._status)

    def cut(self) -> None:
        """End the connection, so that what was sent cannot look whole."""
        self._connection.close()
        self._log(self._status)


class Underway:
    """An answer that is being relayed, for those who may have to end it; `end` is told why, by a WebSocket's close code."""

    def __init__(self, end: Callable[[int], None]) -> None:
        self._end = end
        self.on_closed: Callable[[Underway], None] = lambda underway: None

    def shut_down(self, code: int = GOING_AWAY) -> None:
        self._end(code)


def _headers(fields: f.Fields) -> HTTPHeaders:
    """`HTTPHeaders.add` looks at each name and value once more, which costs as much as all else that is done to an answer's
    head; whoever read the head has."""
    headers = HTTPHeaders()
    for name, value in fields:
        if name in headers:
            headers.add(name, value)
        else:
            headers[name] = value
    return headers


def _journey(destination: Destination, client: f.Client) -> Journey | None:
    """For a service that the client spells in its own way."""
    alias, route = destination.alias, destination.route
    return Journey(alias, route.target[len(alias.inside) :], client) if alias is not None else None


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    """The Date of all answers of one second."""
    return format_timestamp(second)
