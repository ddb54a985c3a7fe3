"""The upgrade request to the upstream, and its response.

States of the response, which this module alone changes:

    WAITING   no final head yet; 1xx responses do not count
    UPGRADED  101: the stream carries frames from here on
    RELAYING  the head of any other status has gone to the client, its content follows
    COMPLETE  that response has ended where its framing says
    FAILED    nothing has gone to the client, and `error` says why

A response left in RELAYING was cut off by the upstream, one left in WAITING never came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from enum import Enum, auto
from typing import Protocol, cast

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError

from ..errors import BadUpstream, GatewayError, UpstreamTimeout
from ..protocol import framing
from ..protocol.framing import Fields

_MAX_HEAD = 65536
_NO_LIMIT = 1 << 62
_TIMEOUT_GRACE = 0.1


class ResponseWriter(Protocol):
    """Where a response other than 101 goes: the client, as plain HTTP."""

    def start(self, status: int, reason: str, fields: Fields) -> Awaitable[None]:
        """Write the head. A GatewayError that it raises replaces the response."""

    def write(self, data: bytes) -> Awaitable[None]: ...
    def finish(self) -> None: ...
    def cut(self) -> None: ...


async def request_upgrade(stream: IOStream, head: bytes, writer: ResponseWriter, timeout: float = 0) -> Fields | None:
    """Send an upgrade request; the response must begin within `timeout` seconds (0: no limit).

    Returns:
        The fields of the 101; `stream` then carries frames. None for any other status: that response has been relayed.

    Raises:
        BadUpstream: the response is not HTTP, or there is none.
        UpstreamTimeout, and what `writer.start` raises.
    """
    parameters = HTTP1ConnectionParameters(no_keep_alive=True, max_header_size=_MAX_HEAD, max_body_size=_NO_LIMIT)
    connection = HTTP1Connection(stream, True, parameters)
    response = _UpgradeResponse(connection, writer)
    response.start_timer(timeout)
    try:
        await stream.write(head)
        connection.finish()  # read_response waits for the end of the request too
        await connection.read_response(response)
    except StreamClosedError:
        pass
    finally:
        response.stop_timer()
    if response.state is ResponseState.UPGRADED:
        return response.fields
    stream.close()
    if response.error is not None:
        raise response.error
    if response.state is ResponseState.WAITING:
        raise BadUpstream("it closed the connection without a response")
    if response.state is ResponseState.RELAYING:
        writer.cut()
    return None


class ResponseState(Enum):
    WAITING = auto()
    UPGRADED = auto()
    RELAYING = auto()
    COMPLETE = auto()
    FAILED = auto()


class _UpgradeResponse(HTTPMessageDelegate):
    """Receives the response from Tornado's HTTP/1.1 reader."""

    def __init__(self, connection: HTTP1Connection, writer: ResponseWriter) -> None:
        self._connection, self._writer = connection, writer
        self.state = ResponseState.WAITING
        self.fields: Fields = []
        self.error: GatewayError | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        line = cast(ResponseStartLine, start_line)
        self.fields = list(headers.get_all())
        try:
            framing.check_head(self.fields)
            if line.code == 101:
                self._connection.detach()
                self.state = ResponseState.UPGRADED
            elif line.code >= 200:
                self.state = ResponseState.RELAYING
                await self._writer.start(line.code, line.reason, self.fields)
        except GatewayError as error:
            self._fail(error)

    async def data_received(self, chunk: bytes) -> None:
        if self.state is ResponseState.RELAYING:
            await self._writer.write(chunk)

    def finish(self) -> None:
        if self.state is ResponseState.RELAYING:
            self.state = ResponseState.COMPLETE
            self._writer.finish()

    def start_timer(self, seconds: float) -> None:
        """Fail the response if it has not begun in time; 0 never does."""
        if seconds:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._extend_timer, seconds)

    def stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _extend_timer(self, seconds: float) -> None:
        """If the loop was blocked, what arrived in time is read before the second timer fires."""
        self._timer = asyncio.get_running_loop().call_later(_TIMEOUT_GRACE, self._expire, seconds)

    def _expire(self, seconds: float) -> None:
        if self.state is ResponseState.WAITING:
            self._fail(UpstreamTimeout.first_byte(seconds))

    def _fail(self, error: GatewayError) -> None:
        self.state, self.error = ResponseState.FAILED, error
        self._connection.close()
