"""A byte stream through a WebSocket: one end of the tunnel speaks WebSocket, the other is a plain connection.

Raw TCP (`proxy/tcp/N`) has such a tunnel at both sides: the server's, and that of the program that forwards a port. Binary
messages are the bytes; an empty one is the end of that direction's stream (a half-close). A connection that is reset or lost
closes the WebSocket with a code other than 1000, and such a code resets the plain connection: a cut never looks like an end.

The ends have the states of `tunnel`. The WebSocket end also has a close handshake (RFC 6455 7.1.1), because closing a socket to
which the peer still sends resets it, and loses what the peer has not read:

    OPEN   messages may be sent
    SENT   a close frame has been sent: the connection closes when the peer's arrives, or after `_CLOSE_TIMEOUT` seconds
    DONE   the peer's close frame has arrived, or it has violated the protocol: the connection closes when all is written
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from enum import Enum, auto
from functools import lru_cache
from types import BuiltinFunctionType
from typing import cast

from tornado.iostream import IOStream
from tornado.util import _websocket_mask

from ..protocol.websocket_frames import FrameError, FrameParser, Mask, Opcode, mask_by_integers, print_frame
from .closable import CloseCode
from .connect import reset_on_close, was_cut
from .tunnel import EndState, Tunnel, TunnelEnd

# Tornado's, if it has its C extension.
MASK: Mask = _websocket_mask if isinstance(_websocket_mask, BuiltinFunctionType) else mask_by_integers
PING_INTERVAL = 25.0  # s; reverse proxies close connections that are idle for 60 s
_CLOSE_TIMEOUT = 10.0  # s
_NORMAL, _CUT = 1000, 1011  # close codes (RFC 6455 7.4.1)
_FREED_BLOCK = 1 << 20  # bytes


class CloseHandshake(Enum):
    OPEN = auto()
    SENT = auto()
    DONE = auto()


class ByteTunnel(Tunnel):
    """A relay between a WebSocket (the client's end of `Tunnel`, at both sides) and a plain connection (the upstream's).

    Args:
        on_data: called with the size of each piece that is relayed, in bytes.
        on_message: called when the WebSocket's peer has sent bytes.
        dials: True at the side that has opened the WebSocket: it masks its frames, and sends pings.
        ping_interval: seconds between two pings. If nothing arrives between them, the connection is cut.
        idle_timeout: seconds without a byte either way, after which both ends are closed; 0: no limit.

    Attributes:
        close_code: of the peer's close frame, or of its violation of the protocol; None if it has closed without.
        was_cut: True if one of the streams was lost before its end.
        is_heard: True if anything has arrived from the WebSocket's peer since the last ping.
    """

    def __init__(
        self,
        on_data: Callable[[int], None] = lambda size: None,
        on_message: Callable[[], None] | None = None,
        *,
        dials: bool,
        ping_interval: float = PING_INTERVAL,
        idle_timeout: float = 0.0,
    ) -> None:
        super().__init__(on_data, None, on_message)
        self.close_code: int | None = None
        self.dials, self.was_cut, self.is_heard = dials, False, True
        self._has_moved = True
        self._ping_interval, self._idle_timeout = ping_interval, idle_timeout
        self._timers: set[asyncio.TimerHandle] = set()

    async def connect(self, client: IOStream, upstream: IOStream, first: bytes = b"") -> None:
        """Take both streams over and relay until they close; see `Tunnel.connect`. `client` has done its handshake."""
        _raise_trim_threshold()
        await super().connect(client, upstream, first)
        if self._client is None:
            return
        if self.dials:
            self.call_later(self._ping_interval, self._ping)
        if self._idle_timeout:
            self.call_later(self._idle_timeout, self._check_idle)

    def _make_ends(self) -> tuple[TunnelEnd, TunnelEnd]:
        return WebSocketEnd(self), PlainEnd(self)

    def shut_down(self, code: CloseCode = CloseCode.GOING_AWAY) -> None:
        """Cut the plain connection, and close the WebSocket with this code."""
        if code == CloseCode.BAD_GATEWAY:
            return
        if self._client is None or self._upstream is None:
            self._early_shut_down = code
            return
        self.was_cut = True
        cast(WebSocketEnd, self._client).send_close(code)
        self._upstream.abort()

    def count(self, size: int) -> None:
        """Count relayed bytes."""
        self._has_moved = True
        self.on_data(size)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back, unless both ends have closed by then."""

        def run() -> None:
            self._timers.discard(timer)
            callback()

        timer = asyncio.get_running_loop().call_later(seconds, run)
        self._timers.add(timer)

    def both_closed(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        super().both_closed()

    def _ping(self) -> None:
        client = cast(WebSocketEnd, self._client)
        if not self.is_heard:
            client.drop()
            return
        self.is_heard = False
        client.ping()
        self.call_later(self._ping_interval, self._ping)

    def _check_idle(self) -> None:
        if not self._has_moved:
            self.shut_down()
            return
        self._has_moved = False
        self.call_later(self._idle_timeout, self._check_idle)


class PlainEnd(TunnelEnd):
    __slots__ = ("_is_cut",)
    tunnel: ByteTunnel

    def __init__(self, tunnel: ByteTunnel) -> None:
        super().__init__(tunnel)
        self._is_cut = False

    def relay(self, data: bytes, other: TunnelEnd) -> None:
        other.write(data)
        self.tunnel.count(len(data))

    def eof_received(self) -> bool:
        sock = self.transport.get_extra_info("socket") if self.transport is not None else None
        if self.other is None or sock is None or not was_cut(sock):
            return super().eof_received()
        self._is_cut = True
        super().abort()
        return True

    def end_other(self, other: TunnelEnd, exc: Exception | None) -> None:
        if exc is not None or self._is_cut:
            other.abort()
        else:
            other.close()

    def abort(self) -> None:
        """Reset the connection, so that its peer does not take the cut for an end."""
        sock = self.transport.get_extra_info("socket") if self.transport is not None else None
        if sock is not None:
            reset_on_close(sock)
        super().abort()


class WebSocketEnd(TunnelEnd):
    """Reading stands still while the other end is full (`_is_held`), and while the parser is behind."""

    __slots__ = ("_handshake", "_is_held", "_is_paused", "_parser")
    takes_text = False
    tunnel: ByteTunnel

    def __init__(self, tunnel: ByteTunnel) -> None:
        super().__init__(tunnel)
        self._parser = FrameParser(MASK, masked=not tunnel.dials, takes_text=self.takes_text)
        self._handshake = CloseHandshake.OPEN
        self._is_held = self._is_paused = False

    # ---- called by the transport ----

    def relay(self, data: bytes, other: TunnelEnd) -> None:
        self.tunnel.is_heard = True
        if self._handshake is CloseHandshake.DONE:
            return
        was_behind = self._parser.is_behind
        try:
            self._take(self._parser.feed(data), other)
        except FrameError as error:
            self.tunnel.close_code = error.code
            self.send_close(error.code)
            self._finish(other, is_complete=False)
            return
        if self._parser.is_behind and not was_behind:
            super().pause()
            asyncio.get_running_loop().call_soon(self._catch_up)

    def eof_received(self) -> bool:
        """The peer's end of stream, which is complete after a close frame alone."""
        if self.other is None:
            return super().eof_received()
        if self.transport is not None:
            self.transport.close()
        return True

    def end_other(self, other: TunnelEnd, exc: Exception | None) -> None:
        if self._handshake is CloseHandshake.OPEN:
            self._end(other, is_complete=False)

    def _catch_up(self) -> None:
        """Parse some more of what has arrived; the rest of the program runs in between."""
        other = self.other
        if other is None or self.transport is None:
            return
        self._parser.is_behind = False
        self.relay(b"", other)
        if not self._parser.is_behind and not self._is_held:
            super().resume()

    def pause_writing(self) -> None:
        self._is_paused = True
        super().pause_writing()

    def resume_writing(self) -> None:
        self._is_paused = False
        super().resume_writing()

    # ---- called by the tunnel and by the other end ----

    def pause(self) -> None:
        self._is_held = True
        super().pause()

    def resume(self) -> None:
        self._is_held = False
        if not self._parser.is_behind:
            super().resume()

    def write(self, data: bytes) -> None:
        self._send(Opcode.BINARY, data)

    def write_eof(self) -> None:
        self._send(Opcode.BINARY)

    def close(self) -> None:
        """Both streams have ended."""
        self.send_close(_NORMAL)

    def abort(self) -> None:
        """The other end was cut."""
        self.tunnel.was_cut = True
        self.send_close(_CUT)

    def ping(self) -> None:
        self._send(Opcode.PING)

    def drop(self) -> None:
        """Close the connection without a handshake: the peer does not answer."""
        super().abort()

    def send_close(self, code: int) -> None:
        if self._handshake is not CloseHandshake.OPEN:
            return
        self._send(Opcode.CLOSE, code.to_bytes(2, "big"))
        self._handshake = CloseHandshake.SENT
        self.resume()  # the peer's close frame may stand behind data
        self.tunnel.call_later(_CLOSE_TIMEOUT, self.drop)

    # ---- frames ----

    def _send(self, opcode: Opcode, content: bytes = b"") -> None:
        if self.transport is None or self._handshake is not CloseHandshake.OPEN:
            return
        frame = print_frame(opcode, content, os.urandom(4), MASK) if self.tunnel.dials else print_frame(opcode, content)
        self.transport.write(frame)

    def _take(self, events: list[tuple[Opcode, bytes]], other: TunnelEnd) -> None:
        """Pass on what was parsed: pieces at once, and one pong for all pings, as each write is a system call."""
        pieces: list[bytes] = []
        ping: bytes | None = None
        for opcode, content in events:
            if opcode is Opcode.BINARY and content:
                pieces.append(content)
            elif opcode is Opcode.PING:
                ping = content  # the last one is enough (RFC 6455 5.5.3)
            elif opcode is not Opcode.PONG:
                self._receive_pieces(pieces, other)
                if opcode is Opcode.CLOSE:
                    self._receive_close(content, other)
                    return
                self._receive(b"", other)
        self._receive_pieces(pieces, other)
        if ping is not None and not self._is_paused:  # else the peer reads nothing
            self._send(Opcode.PONG, ping)

    def _receive_pieces(self, pieces: list[bytes], other: TunnelEnd) -> None:
        if pieces:
            self._receive(pieces[0] if len(pieces) == 1 else b"".join(pieces), other)
            pieces.clear()

    def _receive(self, content: bytes, other: TunnelEnd) -> None:
        """A piece of the peer's stream; if empty, its end."""
        if self._handshake is not CloseHandshake.OPEN or other.state is EndState.CLOSED:
            return
        if self.state is EndState.ENDED:
            raise FrameError(1002, "a message follows the end of the stream")
        if content:
            other.write(content)
            self.tunnel.count(len(content))
            if self.tunnel.on_message is not None:
                self.tunnel.on_message()
        else:
            self.state = EndState.ENDED
            self.tunnel.end_of_stream(other)

    def _receive_close(self, content: bytes, other: TunnelEnd) -> None:
        code = int.from_bytes(content[:2], "big") if len(content) >= 2 else _NORMAL
        self.tunnel.close_code = code
        self.send_close(code)
        self._finish(other, is_complete=code == _NORMAL)

    def _finish(self, other: TunnelEnd, *, is_complete: bool) -> None:
        """Nothing more is expected of the peer."""
        self._handshake = CloseHandshake.DONE
        if self.transport is not None:
            self.transport.close()
        self._end(other, is_complete=is_complete)

    def _end(self, other: TunnelEnd, *, is_complete: bool) -> None:
        """End the plain connection; reset it unless the peer's stream is complete."""
        if is_complete or self.state is EndState.ENDED:
            other.close()
        else:
            self.tunnel.was_cut = True
            other.abort()


@lru_cache(maxsize=1)
def _raise_trim_threshold() -> None:
    """Let glibc keep freed memory of up to twice `_FREED_BLOCK` (mallopt(3), M_TRIM_THRESHOLD).

    It returns 128 KiB and more to the system at once, unless the process has freed a larger block before. Each piece of a bulk
    transfer is copied a few times, so that three system calls and the page faults after them took half of its CPU time.
    """
    bytearray(_FREED_BLOCK)
