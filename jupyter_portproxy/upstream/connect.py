"""Connections for upgrades: dial an upstream's addresses, have the connection approved, add TLS.

`approve` sees a connection before the first byte is sent on it; the TLS handshake comes after that. Errors of sockets and of
`ssl` become GatewayErrors here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import socket
import ssl
import struct
import sys

from tornado.iostream import IOStream, SSLIOStream

from ..errors import Distrusted, NoDescriptors, Unreachable, UpstreamTimeout
from ..protocol.urls import Upstream
from ..system.descriptors import is_scarce, keep_alive
from ..system.tls import SYSTEM_TRUST, Trust
from .exchange import Approve

_cut_names: set[bytes] = set()  # of Unix sockets whose peer in this process has cut the connection
_DESCRIPTOR = b"\0portproxy-"  # the beginning of the abstract name of a Unix socket (unix(7)); its descriptor's number follows
_RESET_ON_CLOSE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


async def dial(upstream: Upstream, approve: Approve, timeout: float, trust: Trust = SYSTEM_TRUST) -> IOStream:
    """Connect to the first of the upstream's addresses that accepts.

    Args:
        timeout: seconds for each connection, and again for the TLS handshake.

    Raises:
        Unreachable, NoDescriptors, UpstreamTimeout, Distrusted, and what `approve` raises.
    """
    unix_socket = upstream.unix_socket
    for address in [unix_socket] if unix_socket else upstream.addresses:
        try:
            stream = IOStream(_open_socket(address))
        except OSError:  # this machine has no addresses of that family
            continue
        try:
            if unix_socket and upstream.scheme == "tcp":
                _name_socket(stream.socket)
            await _connect(stream, address if unix_socket else (address, upstream.port), timeout)
            if stream.socket is None:  # the peer has closed the connection already
                raise ConnectionResetError
            prepare_socket(stream.socket)
            local, port = (("", 0), 0) if unix_socket else (stream.socket.getsockname(), upstream.port)
            approve(local[0], local[1], address, port, stream.socket.fileno())
            return stream if upstream.scheme != "https" else await _start_tls(stream, upstream.host, timeout, trust)
        except OSError:
            stream.close()
        except BaseException:
            stream.close()
            raise
    raise unreachable(upstream)


async def connect(upstream: Upstream, approve: Approve, timeout: float) -> None:
    """Connect to the first of the upstream's addresses that accepts, and close: a health check, far cheaper than `dial`.

    Args:
        timeout: seconds for each connection.

    Raises:
        Unreachable, NoDescriptors, UpstreamTimeout, and what `approve` raises.
    """
    unix_socket = upstream.unix_socket
    for address in [unix_socket] if unix_socket else upstream.addresses:
        try:
            sock = _open_socket(address)
        except OSError:  # this machine has no addresses of that family
            continue
        with sock:
            sock.setblocking(False)
            connected = asyncio.get_running_loop().sock_connect(sock, address if unix_socket else (address, upstream.port))
            try:
                await asyncio.wait_for(connected, timeout)
                local, port = (("", 0), 0) if unix_socket else (sock.getsockname(), upstream.port)
                approve(local[0], local[1], address, port, sock.fileno())
                return
            except asyncio.TimeoutError:  # before OSError, its base class from Python 3.11 on
                raise UpstreamTimeout.connect(timeout) from None
            except OSError:
                continue
    raise unreachable(upstream)


def unreachable(upstream: Upstream) -> Unreachable:
    """The error for an upstream none of whose addresses accepts a connection."""
    if upstream.host == "localhost":
        return Unreachable.port(upstream.port, is_http=upstream.scheme != "tcp")
    return Unreachable.host(upstream.authority)


def prepare_socket(sock: socket.socket) -> None:
    """Switch Nagle's algorithm off (RFC 1122 4.2.3.4) and TCP keep-alive on; no effect on other sockets."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(sock)


def reset_on_close(sock: socket.socket) -> None:
    """Let the close of a connection reset it, so that its peer does not take a cut for an end (RFC 9293 3.10.4).

    Linux resets a Unix socket that is closed before all is read, so the peer is made to send a byte, if it is one of this process
    that `name_descriptor` has named. If it is one that `dial` has named, which may have ended its stream, `was_cut` tells it.
    """
    with contextlib.suppress(OSError):  # it is not connected any more
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        elif isinstance(name := sock.getpeername(), bytes):
            if name.startswith(_DESCRIPTOR):
                _send_from(name)
            else:
                _cut_names.add(name)


def was_cut(sock: socket.socket) -> bool:
    """True if the end of stream at a Unix socket is a cut by `reset_on_close`; once for each connection."""
    with contextlib.suppress(OSError):
        name = sock.getsockname() if sock.family == getattr(socket, "AF_UNIX", None) else ""
        if isinstance(name, bytes) and name in _cut_names:
            _cut_names.discard(name)
            return True
    return False


def name_descriptor(fd: int) -> None:
    """Name a new Unix socket that another library owns, so that `reset_on_close` finds it. Linux only."""
    if sys.platform == "linux":
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, os.dup(fd)) as sock, contextlib.suppress(OSError):
            sock.bind(b"%b%d-%b" % (_DESCRIPTOR, fd, secrets.token_hex(8).encode()))


def _send_from(name: bytes) -> None:
    """Send a byte from the socket with this name, which contains its descriptor, unless another one has that by now."""
    number = name[len(_DESCRIPTOR) :].partition(b"-")[0]
    with contextlib.suppress(OSError, ValueError), socket.socket(fileno=os.dup(int(number))) as sock:
        if sock.getsockname() == name:
            sock.send(b"\0", socket.MSG_DONTWAIT)


def _name_socket(sock: socket.socket) -> None:
    """Give a Unix socket a name of its own, by which its peer in this process finds it (unix(7), autobind). Linux only."""
    if sys.platform == "linux":
        sock.bind("")
        _cut_names.discard(sock.getsockname())  # of an earlier connection, which was gone before it saw the cut


def _open_socket(address: str) -> socket.socket:
    """A socket for an IP literal, or for the path of a Unix socket.

    Raises:
        NoDescriptors
        OSError: this machine does not have the address family.
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


async def _connect(stream: IOStream, address: str | tuple[str, int], timeout: float) -> None:
    """Connect within `timeout` seconds. A connection that was ready in time counts, even if the loop was blocked meanwhile.

    Raises:
        UpstreamTimeout, OSError
    """
    connected = asyncio.ensure_future(stream.connect(address))
    connected.add_done_callback(lambda future: future.cancelled() or future.exception())  # retrieved, even after a timeout
    await asyncio.wait({connected}, timeout=timeout)
    if not connected.done():
        raise UpstreamTimeout.connect(timeout)
    await connected


async def _start_tls(plain: IOStream, host: str, timeout: float, trust: Trust) -> IOStream:
    """Raises: UpstreamTimeout, Distrusted."""
    try:
        return await start_tls(plain, host, timeout, trust)
    except asyncio.TimeoutError:  # before OSError, its base class from Python 3.11 on
        raise UpstreamTimeout.connect(timeout) from None
    except ssl.SSLCertVerificationError:
        raise Distrusted.certificate() from None
    except OSError:
        raise Distrusted.no_tls() from None


async def start_tls(plain: IOStream, host: str, timeout: float, trust: Trust) -> IOStream:
    """Move the connection to a TLS client's stream; the plain stream cannot be used afterwards.

    Raises:
        asyncio.TimeoutError, ssl.SSLError, OSError
    """
    plain.io_loop.remove_handler(plain.socket)
    stream = SSLIOStream(trust.context.wrap_socket(plain.socket, server_hostname=host, do_handshake_on_connect=False))
    try:
        # Shielded: Tornado 6.5 cannot close a stream whose future has been cancelled.
        return await asyncio.wait_for(asyncio.shield(stream.wait_for_handshake()), timeout)
    except BaseException:
        stream.close()
        raise
