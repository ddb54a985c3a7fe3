"""File descriptors: how many are left, and TCP keep-alive."""

from __future__ import annotations

import contextlib
import errno
import socket

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

_RESERVED, _ENOUGH = 64, 1 << 16  # descriptors
# Seconds, seconds, and a number of probes: a peer that has vanished is given up after two minutes.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def keep_alive(sock: socket.socket) -> None:
    """Let the kernel probe an idle peer (RFC 9293 3.8.4); no effect on sockets other than TCP."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def keep_descriptor_alive(fd: int) -> None:
    """`keep_alive` for a descriptor that another library owns."""
    with contextlib.suppress(OSError):  # Windows: the family of an unconnected socket cannot be read
        sock = socket.socket(fileno=fd)
        try:
            keep_alive(sock)
        finally:
            sock.detach()


def is_scarce(fd: int) -> bool:
    """True for one of the last descriptors below the limit, which are reserved for Jupyter itself.

    POSIX assigns the lowest free number, so a number near the limit means that nearly all below it are in use.
    """
    limit = _limit()
    return limit is not None and fd >= limit - min(_RESERVED, limit // 4)


def affordable(maximum: int) -> int:
    """How many idle connections may be kept: an eighth of the descriptor limit, at most `maximum`."""
    limit = _limit()
    return maximum if limit is None else min(maximum, limit // 8)


def none_left() -> bool:
    """True if this process or this machine has no descriptor left."""
    try:
        socket.socket().close()
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False


def raise_limit() -> None:
    """Let this process have as many descriptors as it may, at most `_ENOUGH`; it may have had 256 or 1,024."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(_ENOUGH, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _limit() -> int | None:
    if resource is None:
        return None
    limit: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit
