"""One request and its response in flight, with flow control both ways.

Rule of this file: who awaits (`send`, `head`, `read`) and who carries (the `on_...` methods) meet here and nowhere else; it
knows neither libcurl nor Tornado.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..errors import BadUpstream, GatewayError
from ..protocol.framing import Content, Fields, parse_content_length, parse_head
from ..protocol.urls import Upstream
from ..system.tls import SYSTEM_TRUST, Trust

# What is held of the response before the upstream has to wait, and of the request before the client has to; bytes. The client's
# connection holds as much again: a client that does not read costs less than 300 KB.
RECEIVE_BUFFER = 160 * 1024
_SEND_BUFFER = 512 * 1024
_MAX_HEAD_LINES = 1100

Approve = Callable[[str, int, str, int, int], None]


class Carrier(Protocol):
    """What an exchange asks of its transport."""

    loop: asyncio.AbstractEventLoop
    pauses_at_once: bool  # else it may bring some more first

    def pause(self, exchange: Exchange) -> None:
        """Read no more of its answer until it is resumed."""

    def resume(self, exchange: Exchange) -> None:
        """Go on where the exchange has made it wait."""

    def complete(self, exchange: Exchange) -> None:
        """End it: its answer is whole."""

    def abandon(self, exchange: Exchange) -> None:
        """Give it up."""


@dataclass(slots=True)
class Head:
    """The head of an upstream's final answer (1xx are not passed on); `dropped`: names of fields that cannot pass."""

    status: int
    reason: str
    fields: Fields
    dropped: list[str]


@dataclass(slots=True)
class Outbound:
    """One request to send; not to be changed.

    Attributes:
        approve: called with (local address, local port, remote address, remote port, descriptor) of the connection before
            anything is sent on it; a GatewayError that it raises ends the exchange.
        content: framing of the content that `Exchange.send` will carry; None for none.
        connect_timeout: seconds.
        trust: how the certificate of an https upstream is checked.
        made: the fields as the transport sends them, once it has made that.
    """

    method: str
    upstream: Upstream
    target: str
    fields: Fields
    content: Content | None = None
    connect_timeout: float = 5.0
    approve: Approve | None = None
    trust: Trust = SYSTEM_TRUST
    made: list[bytes] | None = None

    def at(self, target: str) -> Outbound:
        """The same for another target."""
        return Outbound(
            self.method,
            self.upstream,
            target,
            self.fields,
            self.content,
            self.connect_timeout,
            self.approve,
            self.trust,
            self.made,
        )


class Exchange:
    """One request and its response in flight. Awaited by one sender (`send`) and one reader (`head`, `read`)."""

    def __init__(self, carrier: Carrier, outbound: Outbound) -> None:
        self.outbound = outbound
        self.error: GatewayError | None = None
        self.moved = carrier.loop.time()  # when it began, connected, or content went out last
        self.head: asyncio.Future[Head] = carrier.loop.create_future()
        self._carrier = carrier
        self._addresses = list(outbound.upstream.addresses)
        self._ended = False
        self._lines: list[bytes] = []
        self._received: list[bytes] = []
        self._received_size = 0
        self._left: int | None = None  # of the response's content, where its head tells and the request is still being sent
        self._receive_paused = False
        self._reader: asyncio.Future[None] | None = None
        self._to_send: deque[bytes] = deque()
        self._to_send_size = 0
        self._send_paused = False
        self._send_ended = outbound.content is None
        self._sender: asyncio.Future[None] | None = None

    # ---- for the gateway ----

    async def send(self, data: bytes) -> None:
        """Hand on a piece of the request's content; returns when there is room for more.

        Content that the upstream no longer wants (it has answered already) is dropped.
        """
        if self._ended or not data:
            return
        self._to_send.append(data)
        self._to_send_size += len(data)
        self._resume_sending()
        while self._to_send_size >= _SEND_BUFFER and not self._ended:
            self._sender = self._carrier.loop.create_future()
            await self._sender

    def end_content(self) -> None:
        """The request's content is complete."""
        if not self._send_ended:
            self._send_ended = True
            self._resume_sending()

    async def read(self) -> bytes:
        """The next piece of the response's content; empty at its proper end.

        What comes after it stays with the kernel until the next call.

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
                self._carrier.resume(self)
            self._reader = self._carrier.loop.create_future()
            await self._reader
        data = self._received.pop() if len(self._received) == 1 else b"".join(self._received)
        self._received.clear()
        self._received_size = 0
        return data

    @property
    def whole(self) -> bool:
        """True if the response has ended well and all that is left of it can be read at once."""
        return self._ended and self.error is None

    @property
    def drained(self) -> bool:
        """True if the response has ended well and all of it has been read."""
        return self._ended and self.error is None and not self._received

    @property
    def readable(self) -> bool:
        """True if `read` has something to tell at once."""
        return bool(self._received) or self._ended

    def abort(self) -> None:
        """Give the exchange up; its connection is closed, so that the upstream sees it."""
        self._carrier.abandon(self)

    @property
    def ends_with_head(self) -> bool:
        """True for HEAD with content: libcurl, made to send content, would wait for content to come back."""
        return self.outbound.method == "HEAD" and self.outbound.content is not None

    # ---- for the transport, within the other library's work: these only move data; False or None asks it to stop or wait ----

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
            self.error = BadUpstream("it changed the protocol without being asked")
            return False
        if status < 200:
            return True
        self.head.set_result(Head(status, reason, fields, dropped))
        if self.ends_with_head:
            return False
        if not self._send_ended or self._to_send:
            self._left = parse_content_length(self.outbound.method, status, fields)
            self._check_early_end()
        return True

    def on_content(self, data: bytes) -> bool:
        if self._receive_paused and self._carrier.pauses_at_once:
            return False
        self._received.append(data)
        self._received_size += len(data)
        if (
            self._received_size >= RECEIVE_BUFFER and not self._receive_paused
        ):  # said at once: asked with the next piece, libcurl would hold as much again
            self._receive_paused = True
            self._carrier.pause(self)
        _wake(self._reader)
        if self._left is not None:
            self._left -= len(data)
            self._check_early_end()
        return True

    def _check_early_end(self) -> None:
        """A whole answer to a request that is still being sent ends the exchange (RFC 9112 9.3); libcurl would send on."""
        if self._left == 0 and (self._to_send or not self._send_ended):
            self._carrier.loop.call_soon(self._carrier.complete, self)

    def on_wanted(self, size: int) -> bytes | None:
        if not self._to_send:
            if self._send_ended:
                return b""
            self._send_paused = True
            return None
        data = self._to_send.popleft()
        if len(data) > size:
            self._to_send.appendleft(data[size:])
            data = data[:size]
        self._to_send_size -= len(data)
        self.moved = self._carrier.loop.time()
        if self._to_send_size < _SEND_BUFFER:
            _wake(self._sender)
        return data

    def on_connected(self, remote: str, local: str, remote_port: int, local_port: int, fd: int) -> bool:
        """The connection is fresh and stands, nothing has been sent."""
        self.moved = self._carrier.loop.time()
        if self.outbound.approve is not None:
            try:
                self.outbound.approve(local, local_port, remote, remote_port, fd)
            except GatewayError as error:
                self.error = error
                return False
        return True

    # ---- for the transport ----

    def begin_again(self) -> None:
        """The same request is sent once more: what came of its answer's head is void."""
        self._lines.clear()

    def next_address(self) -> str | None:
        return self._addresses.pop(0) if self._addresses else None

    def end(self, error: GatewayError | None) -> None:
        """The transfer is over: everybody who waits learns it."""
        if self._ended:
            return
        self._ended = True
        self.error = self.error or error
        if not self.head.done():
            self.head.set_exception(self.error or BadUpstream())
            self.head.exception()  # marked as seen: an aborted exchange has no reader
        self._to_send.clear()
        _wake(self._reader)
        _wake(self._sender)

    def _resume_sending(self) -> None:
        if self._send_paused:
            self._send_paused = False
            self._carrier.resume(self)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
