"""One upgraded connection: a tornado.websocket protocol that dials first and then relays bytes, both ways.

Rule of this file: after the 101 nothing is parsed but the length of frames (to know where one ends), and nothing is
changed: compression, subprotocol, fragmentation, pings, close codes and sizes are end to end.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream, SSLIOStream, StreamClosedError
from tornado.websocket import WebSocketHandler, WebSocketProtocol

from ..errors import BadUpstream, Distrusted, GatewayError, NoDescriptors, Unreachable, UpstreamTimeout
from ..protocol import framing
from ..protocol.headers import Fields
from ..protocol.urls import Upstream
from ..protocol.websocket_frames import FrameCursor
from ..system.descriptors import is_scarce, keep_alive
from ..system.tls import BY_THE_SYSTEM, Trust
from .closable import Closable, CloseCode
from .exchange import Approve

_MAX_HEAD = 65536
_NO_LIMIT = 1 << 62
_PIECE = 65536
_PIECES_READ_AHEAD = 4
_LINGER = 10.0
_SECOND_LOOK = 0.1


class Refusal(Protocol):
    """Where an answer that is no 101 goes: the client, as plain HTTP."""

    def start(self, status: int, reason: str, fields: Fields) -> Awaitable[None]:
        """A GatewayError that it raises is what the client is answered with instead."""

    def write(self, data: bytes) -> Awaitable[None]: ...
    def finish(self) -> None: ...
    def cut(self) -> None: ...


class DialFirst(WebSocketProtocol):
    """The protocol of a tunnel's handler: `accept` does the work, the rest of Tornado's interface has no meaning here."""

    def __init__(self, handler: WebSocketHandler, accept: Callable[[], Awaitable[None]], abandon: Callable[[], None]) -> None:
        super().__init__(handler)
        self._accept, self._abandon = accept, abandon

    async def accept_connection(self, handler: WebSocketHandler) -> None:
        await self._accept()

    def on_connection_close(self) -> None:
        """The client went away before the tunnel stood."""
        self._abandon()

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        self._abandon()

    def is_closing(self) -> bool:
        return False

    @property
    def selected_subprotocol(self) -> str | None:
        return None

    def write_message(self, message: Any, binary: bool = False) -> Any:
        raise _no_messages()

    def write_ping(self, data: bytes) -> None:
        raise _no_messages()

    def _process_server_headers(self, key: str | bytes, headers: HTTPHeaders) -> None:
        raise _no_messages()

    def start_pinging(self) -> None:
        raise _no_messages()

    async def _receive_frame_loop(self) -> None:
        raise _no_messages()

    def set_nodelay(self, x: bool) -> None:
        raise _no_messages()


async def dial(upstream: Upstream, approve: Approve, timeout: float, trust: Trust = BY_THE_SYSTEM) -> IOStream:
    """Connect to the first of the upstream's addresses that accepts; `approve` sees the connection before any byte does.

    Args:
        trust: how the certificate of an https upstream is checked.

    Raises:
        Unreachable, UpstreamTimeout (after `timeout` seconds), Distrusted, and what `approve` raises.
    """
    stream = await _dial_plain(upstream, approve, timeout)
    return stream if upstream.scheme == "http" else await _with_tls(stream, upstream.host, timeout, trust)


async def _with_tls(plain: IOStream, name: str, timeout: float, trust: Trust) -> IOStream:
    """A TLS client's stream on the connection of another, which is of no use any more."""
    plain.io_loop.remove_handler(plain.socket)
    stream = SSLIOStream(trust.context.wrap_socket(plain.socket, server_hostname=name, do_handshake_on_connect=False))
    try:
        # Shielded: Tornado 6.5 cannot close a stream whose future has been cancelled.
        return await asyncio.wait_for(asyncio.shield(stream.wait_for_handshake()), timeout)
    except asyncio.TimeoutError:
        stream.close()
        raise UpstreamTimeout.connect(timeout) from None
    except ssl.SSLCertVerificationError:
        raise Distrusted.certificate() from None
    except (StreamClosedError, OSError):
        raise Distrusted.no_tls() from None
    except BaseException:
        stream.close()
        raise


async def _dial_plain(upstream: Upstream, approve: Approve, timeout: float) -> IOStream:
    for address in [upstream.unix_socket] if upstream.unix_socket else upstream.addresses:
        try:
            sock = _socket_for(address)
        except OSError:
            continue
        stream = IOStream(sock)
        try:
            await _connect(stream, address, upstream.port, timeout)
            _prepare(sock)
            local = ("", 0) if upstream.unix_socket else sock.getsockname()
            approve(local[0], local[1], address, 0 if upstream.unix_socket else upstream.port, sock.fileno())
            return stream
        except asyncio.TimeoutError:  # before OSError, of which it is one from Python 3.11 on
            stream.close()
            raise UpstreamTimeout.connect(timeout) from None
        except (StreamClosedError, OSError):
            stream.close()
        except BaseException:
            stream.close()
            raise
    if upstream.host == "localhost":
        raise Unreachable.port(upstream.port)
    raise Unreachable.host(upstream.authority)


async def shake_hands(stream: IOStream, head: bytes, refusal: Refusal, timeout: float = 0) -> Fields | None:
    """Send the client's handshake to the upstream; its answer must begin within `timeout` seconds, if that is not 0.

    Returns:
        The fields of the 101; `stream` then carries frames. None if the upstream refused: its answer has been relayed.

    Raises:
        BadUpstream: no HTTP came back.
        UpstreamTimeout
    """
    parameters = HTTP1ConnectionParameters(no_keep_alive=True, max_header_size=_MAX_HEAD, max_body_size=_NO_LIMIT)
    connection = HTTP1Connection(stream, True, parameters)
    answer = _Answer(connection, refusal)
    answer.wait_at_most(timeout)
    try:
        await stream.write(head)
        connection.finish()  # all is sent: read_response waits for this too
        await connection.read_response(answer)
    except StreamClosedError:
        pass
    finally:
        answer.wait_no_more()
    if answer.granted is None:
        stream.close()
    if answer.error is not None:
        raise answer.error
    if answer.granted is None and not answer.whole:
        if not answer.started:
            raise BadUpstream("it closed the connection without an answer")
        refusal.cut()
    return answer.granted


class Tunnel(Closable):
    """Two ends that relay to each other; closed when both are gone. `on_data` is called with the number of bytes relayed."""

    def __init__(self, on_data: Callable[[int], None]) -> None:
        self.on_data = on_data
        self._client: _End | None = None
        self._upstream: _End | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._open = 2
        self._half_closed = 0

    async def connect(self, client: IOStream, upstream: IOStream, first: bytes) -> None:
        """Take both streams over and relay until they close; `first` goes to the client ahead of all else."""
        self._client = await _take(client, _End(self))
        self._upstream = await _take(upstream, _End(self))
        self._client.write(first)
        self._client.other, self._upstream.other = self._upstream, self._client
        self._client.start()
        self._upstream.start()

    def shut_down(self, code: CloseCode = CloseCode.GOING_AWAY) -> None:
        """Close with a code (RFC 6455 7.4.1) towards whoever stands at a frame boundary."""
        if self._client is None or self._upstream is None or code == CloseCode.BAD_GATEWAY:
            return
        if self._upstream.frames.at_boundary:
            self._client.write(b"\x88\x02" + code.to_bytes(2, "big"))
        if self._client.frames.at_boundary:
            self._upstream.write(b"\x88\x82\0\0\0\0" + code.to_bytes(2, "big"))
        self._client.close()
        self._upstream.close()

    def half_closed(self, end: _End) -> None:
        """One side has sent all it will; the other may go on for a while, as a close handshake does."""
        if end.other is not None:
            end.other.write_eof()
        self._half_closed += 1
        if self._half_closed == 2:
            self._close_both()
        elif self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(_LINGER, self._close_both)

    def lost(self, end: _End, failed: bool) -> None:
        """One side is gone. Cut in the middle, so is the other; else that one still gets all, and is read until it ends.

        A reset after the end of a stream only says that what was sent to it meanwhile came too late; to close the other side
        with its bytes unread would be answered with a reset too, which takes away what it was sent (RFC 9112 9.6).
        """
        if end.other is not None:
            if end.ended:
                end.other.resume()
            elif failed:
                end.other.abort()
            else:
                end.other.close()
        self._open -= 1
        if self._open == 0:
            if self._linger is not None:
                self._linger.cancel()
            self._client = self._upstream = None
            self.run_close_callbacks()

    def _close_both(self) -> None:
        for end in (self._client, self._upstream):
            if end is not None:
                end.close()


class _End(asyncio.Protocol):
    """One side of a tunnel on a plain socket."""

    __slots__ = ("_early", "_failed", "_lost", "_shut", "ended", "frames", "other", "transport", "tunnel")

    def __init__(self, tunnel: Tunnel) -> None:
        self.tunnel = tunnel
        self.other: _End | None = None
        self.frames = FrameCursor()
        self.transport: asyncio.Transport | None = None
        self.ended = False
        self._lost = self._failed = self._shut = False
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        other = self.other
        if other is None:
            self._early.append(data)
            return
        self.frames.feed(data)
        other.write(data)
        self.tunnel.on_data(len(data))

    def eof_received(self) -> bool:
        self.ended = True
        if self.other is not None:
            self.tunnel.half_closed(self)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport, self._lost, self._failed = None, True, exc is not None
        if self.other is not None:
            self.tunnel.lost(self, self._failed)

    def start(self) -> None:
        """Relay what came before the other end was known."""
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)
        if self.ended:
            self.tunnel.half_closed(self)
        if self._lost:
            self.tunnel.lost(self, self._failed)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.pause()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.resume()

    # ---- what the other end does to this one ----

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self._shut:
            self.transport.write(data)

    def write_eof(self) -> None:
        self._shut = True
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


class _StreamTransport(asyncio.Transport):
    """An IOStream as an asyncio transport: for TLS, where Tornado holds the cipher and the socket carries no plain bytes."""

    def __init__(self, stream: IOStream, end: _End, reading: Awaitable[bytes] | None) -> None:
        super().__init__()
        self._stream, self._end = stream, end
        self._closing = False
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._unsent = 0
        self._full = False
        self._task = asyncio.get_running_loop().create_task(self._relay(reading), name="portproxy tls tunnel")

    async def _relay(self, reading: Awaitable[bytes] | None) -> None:
        try:
            while True:
                self._end.data_received(await (reading or self._stream.read_bytes(_PIECE, partial=True)))
                await self._may_read.wait()
                reading = None
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
        if self._unsent > _PIECE and not self._full:
            self._full = True
            self._end.pause_writing()

    def _sent(self, size: int, future: asyncio.Future[None]) -> None:
        future.cancelled() or future.exception()
        self._unsent -= size
        if self._full and self._unsent <= _PIECE // 4:
            self._full = False
            self._end.resume_writing()
        if self._closing and not self._unsent:
            self.abort()

    def write_eof(self) -> None:
        self.close()  # TLS as Tornado speaks it has no half-close

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
        self._may_read.set()  # the next read tells `_relay` of the end


async def _take(stream: IOStream, end: _End) -> _End:
    """Hand a stream's connection over to `end`, with the bytes that had been read already."""
    reading: asyncio.Future[bytes] | None = None
    try:
        # The stream has read one piece at most beyond the head; what an upstream that floods sends meanwhile can wait.
        for _ in range(_PIECES_READ_AHEAD):
            reading = asyncio.ensure_future(stream.read_bytes(_PIECE, partial=True))
            if not reading.done():
                break
            end.data_received(reading.result())
            reading = None
        sock = stream.socket
        _prepare(sock)
    except (StreamClosedError, OSError):
        end.eof_received()
        end.connection_lost(None)
        return end
    if isinstance(stream, SSLIOStream):
        end.connection_made(_StreamTransport(stream, end, reading))
        return end
    stream.io_loop.remove_handler(sock)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: end, sock)
    return end


class _Answer(HTTPMessageDelegate):
    """The upstream's answer to the handshake, as Tornado's HTTP/1.1 reader tells it."""

    def __init__(self, connection: HTTP1Connection, refusal: Refusal) -> None:
        self._connection, self._refusal = connection, refusal
        self.granted: Fields | None = None
        self.error: GatewayError | None = None
        self.started = self.whole = False
        self._patience: asyncio.TimerHandle | None = None

    async def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        line = cast(ResponseStartLine, start_line)
        fields = list(headers.get_all())
        try:
            framing.check_head(fields)
        except BadUpstream as error:
            self.error = error
            self._connection.close()
            return
        if line.code == 101:
            self._connection.detach()
            self.granted = fields
        elif line.code >= 200:
            self.started = True
            try:
                await self._refusal.start(line.code, line.reason, fields)
            except GatewayError as error:
                self.started, self.error = False, error
                self._connection.close()

    async def data_received(self, chunk: bytes) -> None:
        if self.started:
            await self._refusal.write(chunk)

    def finish(self) -> None:
        if self.started:
            self.whole = True
            self._refusal.finish()

    def on_connection_close(self) -> None:
        """Cut: `whole` stays False."""

    def wait_at_most(self, seconds: float) -> None:
        """Give up after that time; 0 never does."""
        if seconds:
            self._patience = asyncio.get_running_loop().call_later(seconds, self._look_again, seconds)

    def wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()

    def _look_again(self, seconds: float) -> None:
        """In two steps: what came in time is read first, if something else has held the loop up."""
        self._patience = asyncio.get_running_loop().call_later(_SECOND_LOOK, self._give_up, seconds)

    def _give_up(self, seconds: float) -> None:
        """Too late, unless the answer has begun."""
        if not self.started and self.granted is None and self.error is None:
            self.error = UpstreamTimeout.first_byte(seconds)
            self._connection.close()


def _socket_for(address: str) -> socket.socket:
    """For an IP literal, or for the path of a Unix socket.

    Raises:
        NoDescriptors
        OSError: this machine has no such addresses.
    """
    family = socket.AF_UNIX if "/" in address else socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise NoDescriptors() from None
        raise
    if is_scarce(sock.fileno()):
        sock.close()
        raise NoDescriptors()
    return sock


def _prepare(sock: socket.socket) -> None:
    """No waiting for more to send (Nagle's algorithm, RFC 1122 4.2.3.4), and an end if the peer vanishes; for TCP only."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(sock)


async def _connect(stream: IOStream, address: str, port: int, timeout: float) -> None:
    """Raises: asyncio.TimeoutError, but not where something else has held the loop up and the connection stands."""
    connected = asyncio.ensure_future(stream.connect(address if "/" in address else (address, port)))
    connected.add_done_callback(lambda future: future.cancelled() or future.exception())  # whoever is still here to ask
    await asyncio.wait({connected}, timeout=timeout)
    if not connected.done():
        raise asyncio.TimeoutError()
    await connected


def _no_messages() -> TypeError:
    return TypeError("a tunnel relays bytes; it has no messages of its own")
