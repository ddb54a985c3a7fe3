"""One HTTP request and its response in flight, with flow control both ways.

The gateway awaits `send`, `head` and `read`; the transport calls the `on_...` methods from within libcurl's work. State:

    head        pending until `on_header` has the final head, or until `end`
    receiving   the transport is paused when `RECEIVE_BUFFER` bytes wait (`on_content`), resumed by a `read` that finds none
    sending     OPEN -> STARVED, the transport paused, when `on_send_ready` finds nothing to send; -> OPEN, resumed, by `send`;
                -> ENDED by `end_content`. `send` waits while `_SEND_BUFFER` bytes wait
    ended       by `end`, once; `error` is None if the response is whole
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from ..errors import BadUpstream, GatewayError
from ..protocol.framing import Content, Fields, parse_content_length, parse_head
from ..protocol.urls import Upstream
from ..system.tls import SYSTEM_TRUST, Trust

if TYPE_CHECKING:
    from .curl import CurlTransport

# Bytes of a response that wait for the client, and of a request that wait for the upstream. The client's connection buffers as
# much again: a client that does not read costs less than 300 KB.
RECEIVE_BUFFER = 160 * 1024
_SEND_BUFFER = 512 * 1024
_MAX_HEAD_LINES = 1100

Approve = Callable[[str, int, str, int, int], None]


@dataclass(slots=True)
class Head:
    """The head of an upstream's final response (1xx are not passed on); `dropped`: names of fields that cannot be passed on."""

    status: int
    reason: str
    fields: Fields
    dropped: list[str]


@dataclass(slots=True)
class Outbound:
    """One request to send; immutable but for `header_lines`.

    Attributes:
        approve: called with (local address, local port, remote address, remote port, descriptor) of a fresh connection before
            anything is sent on it; a GatewayError that it raises ends the exchange.
        content: framing of the content that `Exchange.send` will carry; None for none.
        connect_timeout: seconds.
        header_lines: the transport's printed form of the fields, kept for further requests with the same fields.
    """

    method: str
    upstream: Upstream
    target: str
    fields: Fields
    content: Content | None = None
    connect_timeout: float = 5.0
    approve: Approve | None = None
    trust: Trust = SYSTEM_TRUST
    header_lines: list[bytes] | None = None

    def with_target(self, target: str) -> Outbound:
        content, timeout, approve = self.content, self.connect_timeout, self.approve
        return Outbound(self.method, self.upstream, target, self.fields, content, timeout, approve, self.trust, self.header_lines)


class Sending(Enum):
    OPEN = auto()
    STARVED = auto()
    ENDED = auto()


class Exchange:
    """One request and its response in flight. Awaited by one sender (`send`) and one reader (`head`, `read`)."""

    def __init__(self, transport: CurlTransport, outbound: Outbound) -> None:
        self.outbound = outbound
        self.error: GatewayError | None = None
        self.last_sent = transport.loop.time()  # when it began, connected, or content went out last
        self.head: asyncio.Future[Head] = transport.loop.create_future()
        self._transport = transport
        self._addresses = list(outbound.upstream.addresses)
        self._ended = False
        self._lines: list[bytes] = []
        self._received: list[bytes] = []
        self._received_size = 0
        self._missing: int | None = None  # bytes of the response's content, if known and while the request is still being sent
        self._receive_paused = False
        self._reader: asyncio.Future[None] | None = None
        self._to_send: deque[bytes] = deque()
        self._to_send_size = 0
        self._sending = Sending.OPEN if outbound.content is not None else Sending.ENDED
        self._sender: asyncio.Future[None] | None = None

    # ---- for the gateway ----

    async def send(self, data: bytes) -> None:
        """Send a piece of the request's content; returns when more can be buffered.

        Dropped if the exchange has ended: the upstream has responded already.
        """
        if self._ended or not data:
            return
        self._to_send.append(data)
        self._to_send_size += len(data)
        if self._sending is Sending.STARVED:
            self._sending = Sending.OPEN
            self._transport.resume(self)
        while self._to_send_size >= _SEND_BUFFER and not self._ended:
            self._sender = self._transport.loop.create_future()
            await self._sender

    def end_content(self) -> None:
        before, self._sending = self._sending, Sending.ENDED
        if before is Sending.STARVED:
            self._transport.resume(self)

    async def read(self) -> bytes:
        """The next piece of the response's content; empty at its end.

        Raises:
            GatewayError: the content was cut off.
        """
        while not self._received:
            if self._ended:
                if self.error is not None:
                    raise self.error
                return b""
            if self._receive_paused:
                self._receive_paused = False
                self._transport.resume(self)
            self._reader = self._transport.loop.create_future()
            await self._reader
        data = self._received.pop() if len(self._received) == 1 else b"".join(self._received)
        self._received.clear()
        self._received_size = 0
        return data

    @property
    def whole(self) -> bool:
        """True if the response is complete; what is left of it can be read without waiting."""
        return self._ended and self.error is None

    @property
    def drained(self) -> bool:
        """True if the response is complete and has been read."""
        return self.whole and not self._received

    @property
    def readable(self) -> bool:
        """True if `read` returns or raises without waiting."""
        return bool(self._received) or self._ended

    def abort(self) -> None:
        """End the exchange early; its connection is closed."""
        self._transport.abort(self)

    @property
    def ends_with_head(self) -> bool:
        """True for HEAD with content: libcurl, which sends the content, would wait for content in the response."""
        return self.outbound.method == "HEAD" and self.outbound.content is not None

    # ---- called by the transport, within libcurl's work: these only move data. False stops the transfer, None pauses it ----

    def on_header(self, line: bytes) -> bool:
        if self.head.done():
            return True  # a trailer field (RFC 9110 6.5): not passed on
        line = line.rstrip(b"\r\n")
        if line:
            self._lines.append(line)
            return len(self._lines) <= _MAX_HEAD_LINES
        return self._on_head_end()

    def _on_head_end(self) -> bool:
        dropped: list[str] = []
        try:
            status, reason, fields = parse_head(self._lines, dropped)
        except (BadUpstream, IndexError) as error:
            self.error = error if isinstance(error, BadUpstream) else BadUpstream()
            return False
        self._lines.clear()
        if status == 101:
            self.error = BadUpstream("it changed the protocol although the request was no upgrade")
            return False
        if status < 200:
            return True
        self.head.set_result(Head(status, reason, fields, dropped))
        if self.ends_with_head:
            return False
        if self._sending is not Sending.ENDED or self._to_send:
            self._missing = parse_content_length(self.outbound.method, status, fields)
            self._check_early_end()
        return True

    def on_content(self, data: bytes) -> bool:
        if self._receive_paused and self._transport.pauses_at_once:
            return False
        self._received.append(data)
        self._received_size += len(data)
        # Paused at once: if the next piece were refused instead, libcurl would buffer as much again.
        if self._received_size >= RECEIVE_BUFFER and not self._receive_paused:
            self._receive_paused = True
            self._transport.pause(self)
        _wake(self._reader)
        if self._missing is not None:
            self._missing -= len(data)
            self._check_early_end()
        return True

    def _check_early_end(self) -> None:
        """A whole response to a request that is still being sent ends the exchange (RFC 9112 9.3); libcurl would continue."""
        if self._missing == 0 and (self._to_send or self._sending is not Sending.ENDED):
            self._transport.loop.call_soon(self._transport.complete, self)

    def on_send_ready(self, size: int) -> bytes | None:
        """At most `size` bytes of content; empty at its end."""
        if not self._to_send:
            if self._sending is Sending.ENDED:
                return b""
            self._sending = Sending.STARVED
            return None
        data = self._to_send.popleft()
        if len(data) > size:
            self._to_send.appendleft(data[size:])
            data = data[:size]
        self._to_send_size -= len(data)
        self.last_sent = self._transport.loop.time()
        if self._to_send_size < _SEND_BUFFER:
            _wake(self._sender)
        return data

    def on_connected(self, remote: str, local: str, remote_port: int, local_port: int, fd: int) -> bool:
        """A fresh connection is established, nothing has been sent. False if it is not approved."""
        self.last_sent = self._transport.loop.time()
        if self.outbound.approve is not None:
            try:
                self.outbound.approve(local, local_port, remote, remote_port, fd)
            except GatewayError as error:
                self.error = error
                return False
        return True

    # ---- called by the transport ----

    def restart(self) -> None:
        """The request is sent again: discard what has arrived of the response's head."""
        self._lines.clear()

    def next_address(self) -> str | None:
        return self._addresses.pop(0) if self._addresses else None

    def end(self, error: GatewayError | None) -> None:
        """The transfer is over: wake the sender and the reader."""
        if self._ended:
            return
        self._ended = True
        self.error = self.error or error
        if not self.head.done():
            self.head.set_exception(self.error or BadUpstream())
            self.head.exception()  # retrieved: an aborted exchange has no reader
        self._to_send.clear()
        _wake(self._reader)
        _wake(self._sender)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
