"""One upgraded connection: bytes relayed both ways, with back-pressure.

Nothing is changed, and nothing is parsed but the length of frames (to find frame boundaries): compression, subprotocol,
fragmentation, pings, close codes and sizes are end to end.

A tunnel has two ends, the client's and the upstream's. The state of an end is changed by its own transport alone:

    OPEN    bytes may arrive
    ENDED   the peer has sent the end of its stream (FIN); bytes still go to the peer
    CLOSED  the connection is gone

What the tunnel does at each transition:

    OPEN -> ENDED    the end of stream goes to the other end. When that one has ended too, or after `linger` seconds, both close
    OPEN -> CLOSED   the other end is aborted after an error (a cut must not look whole), else closed after all is written
    ENDED -> CLOSED  the other end is still read to its end, and closes by its own transition
    both CLOSED      the close callbacks run

Events that arrive before both ends exist are kept and replayed. Back-pressure: an end whose write buffer is full pauses reading
at the other end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import Any, cast

from tornado.iostream import IOStream, SSLIOStream, StreamClosedError

from ..protocol.websocket_frames import FrameCursor
from .closable import Closable, CloseCode
from .connect import prepare_socket

LINGER = 10.0
_READ_SIZE = 65536


class EndState(Enum):
    OPEN = auto()
    ENDED = auto()
    CLOSED = auto()


class Tunnel(Closable):
    """A relay between a client and an upstream.

    Args:
        on_data: called with the size of each piece that is relayed, in bytes.
        linger: seconds that a half-closed tunnel stays open, as for a close handshake; None: until the other end has ended, too.
        on_message: called when the client has sent data, and not for its pings, pongs and close frames.
    """

    def __init__(
        self, on_data: Callable[[int], None], linger: float | None = LINGER, on_message: Callable[[], None] | None = None
    ) -> None:
        self.on_data, self.on_message = on_data, on_message
        self._linger = linger
        self._linger_timer: asyncio.TimerHandle | None = None
        self._client: TunnelEnd | None = None  # both only while connected
        self._upstream: TunnelEnd | None = None
        self._early_shut_down: CloseCode | None = None

    async def connect(self, client: IOStream, upstream: IOStream, first: bytes) -> None:
        """Take both streams over and relay until they close; `first` is written to the client before all else.

        Both are closed if that fails.
        """
        one, other = self._make_ends()
        try:
            await _take_over(client, one)
            await _take_over(upstream, other)
        except BaseException:
            for end, stream in ((one, client), (other, upstream)):
                end.abort() if end.transport is not None else stream.close()
            self.run_close_callbacks()
            raise
        self._client, self._upstream = one, other
        one.write_head(first)
        one.other, other.other = other, one
        one.replay_early_events()
        other.replay_early_events()
        if self._early_shut_down is not None:
            self.shut_down(self._early_shut_down)

    def _make_ends(self) -> tuple[TunnelEnd, TunnelEnd]:
        """The client's end and the upstream's."""
        return TunnelEnd(self) if self.on_message is None else _CountedEnd(self, self.on_message), TunnelEnd(self)

    def shut_down(self, code: CloseCode = CloseCode.GOING_AWAY) -> None:
        """Close both ends. A peer that is at a frame boundary gets a close frame first (RFC 6455 5.5.1)."""
        client, upstream = self._client, self._upstream
        if code == CloseCode.BAD_GATEWAY:
            return
        if client is None or upstream is None:
            self._early_shut_down = code
            return
        if upstream.state is EndState.OPEN and upstream.frames.at_boundary:
            client.write(b"\x88\x02" + code.to_bytes(2, "big"))
        if client.state is EndState.OPEN and client.frames.at_boundary:
            upstream.write(b"\x88\x82\0\0\0\0" + code.to_bytes(2, "big"))
        self._close_both()

    def end_of_stream(self, other: TunnelEnd) -> None:
        """The end opposite to `other` is ENDED now."""
        other.write_eof()
        if other.state is not EndState.OPEN:
            self._close_both()
        elif self._linger_timer is None and self._linger is not None:
            self._linger_timer = asyncio.get_running_loop().call_later(self._linger, self._close_both)

    def both_closed(self) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        self._client = self._upstream = None
        self.run_close_callbacks()

    def _close_both(self) -> None:
        for end in (self._client, self._upstream):
            if end is not None:
                end.close()


class TunnelEnd(asyncio.Protocol):
    """One end: what its transport calls, and what the tunnel and the other end call."""

    __slots__ = ("_early_events", "frames", "other", "state", "transport", "tunnel")

    def __init__(self, tunnel: Tunnel) -> None:
        self.tunnel = tunnel
        self.other: TunnelEnd | None = None
        self.state = EndState.OPEN
        self.frames = FrameCursor()
        self.transport: asyncio.Transport | None = None  # None before the connection is taken over and after its loss
        self._early_events: list[Callable[[], object]] = []

    # ---- called by the transport ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        other = self.other
        if other is None:
            self._early_events.append(partial(self.data_received, data))
            return
        self.relay(data, other)

    def relay(self, data: bytes, other: TunnelEnd) -> None:
        """Pass on what has arrived."""
        self.frames.feed(data)
        other.write(data)
        self.tunnel.on_data(len(data))

    def eof_received(self) -> bool:
        if self.other is None:
            self._early_events.append(self.eof_received)
        else:
            self.state = EndState.ENDED
            self.tunnel.end_of_stream(self.other)
        return True  # the transport stays open for writing

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport, other = None, self.other
        if other is None:
            self._early_events.append(partial(self.connection_lost, exc))
            return
        self.end_other(other, exc)
        self.state = EndState.CLOSED
        if other.state is EndState.CLOSED:
            self.tunnel.both_closed()

    def end_other(self, other: TunnelEnd, exc: Exception | None) -> None:
        """This connection is gone; `self.state` is still what it was before."""
        if self.state is EndState.ENDED:
            # An error after the end of the stream only means that what was sent to this peer came too late. Closing the other
            # connection with its bytes unread would reset it, and so lose what it was sent (RFC 9112 9.6).
            other.resume()
        elif exc is not None:
            other.abort()
        else:
            other.close()

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.pause()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.resume()

    # ---- called by the tunnel and by the other end ----

    def replay_early_events(self) -> None:
        events, self._early_events = self._early_events, []
        for event in events:
            event()

    def write_head(self, data: bytes) -> None:
        """Write what precedes the relayed bytes, as it is."""
        if self.transport is not None:
            self.transport.write(data)

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def write_eof(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write_eof()

    def pause(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class _CountedEnd(TunnelEnd):
    """The client's end of a tunnel that reports its messages."""

    __slots__ = ("_on_message",)

    def __init__(self, tunnel: Tunnel, on_message: Callable[[], None]) -> None:
        super().__init__(tunnel)
        self._on_message = on_message

    def relay(self, data: bytes, other: TunnelEnd) -> None:
        before = self.frames.data_frames
        super().relay(data, other)
        if self.frames.data_frames != before:
            self._on_message()


class _StreamTransport(asyncio.Transport):
    """An asyncio transport over an IOStream: for TLS, where Tornado does the encryption and the socket has no plain bytes.

    Its write buffer is full above `_READ_SIZE` bytes, and no longer full below a quarter of that. `close` takes effect when all
    is written.
    """

    def __init__(self, stream: IOStream, end: TunnelEnd) -> None:
        super().__init__()
        self._stream, self._end = stream, end
        self._closing = False
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._unsent = 0  # bytes
        self._full = False
        self._task = asyncio.get_running_loop().create_task(self._relay(), name="portproxy tls tunnel")

    async def _relay(self) -> None:
        try:
            while True:
                self._end.data_received(await self._stream.read_bytes(_READ_SIZE, partial=True))
                await self._may_read.wait()
        except StreamClosedError as error:
            self._end.connection_lost(error.real_error if isinstance(error.real_error, Exception) else None)
        finally:
            self._stream.close()

    def write(self, data: Any) -> None:
        if self._stream.closed() or not data:
            return
        size = len(data)
        self._unsent += size
        self._stream.write(data).add_done_callback(lambda future: self._sent(size, future))
        if self._unsent > _READ_SIZE and not self._full:
            self._full = True
            self._end.pause_writing()

    def _sent(self, size: int, future: asyncio.Future[None]) -> None:
        future.cancelled() or future.exception()
        self._unsent -= size
        if self._full and self._unsent <= _READ_SIZE // 4:
            self._full = False
            self._end.resume_writing()
        if self._closing and not self._unsent:
            self.abort()

    def write_eof(self) -> None:
        self.close()  # Tornado's TLS streams have no half-close

    def is_closing(self) -> bool:
        return self._closing or self._stream.closed()

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    def close(self) -> None:
        self._closing = True
        if not self._unsent:
            self.abort()

    def abort(self) -> None:
        self._closing = True
        self._stream.close()
        self._may_read.set()  # the next read of `_relay` fails


async def _take_over(stream: IOStream, end: TunnelEnd) -> None:
    """Move a stream's connection to `end`, with the bytes that the stream has read already.

    Nothing more is read through the stream: it would close both directions at the end of one.
    """
    try:
        while stream._read_buffer_size:
            end.data_received(await stream.read_bytes(_READ_SIZE, partial=True))
        if stream.closed():
            raise StreamClosedError(stream.error)
        sock = stream.socket
        prepare_socket(sock)
    except OSError:
        stream.close()
        end.eof_received()
        end.connection_lost(None)
        return
    if isinstance(stream, SSLIOStream):
        end.connection_made(_StreamTransport(stream, end))
        return
    stream.io_loop.remove_handler(sock)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: end, sock)
