"""Sockets that another library opens and closes, watched by Tornado's event loop on its behalf.

Rule of this file: it knows descriptors and events, and nothing of what goes over them. READ and WRITE have the values that
libcurl gives them (CURL_POLL_IN and CURL_CSELECT_IN, and the same for OUT).
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from collections.abc import Callable

from tornado.ioloop import IOLoop

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

READ, WRITE = 1, 2
_EVENTS_AT_ONCE = 32
_RESERVED = 64
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def keep_alive(sock: socket.socket) -> None:
    """Let the kernel ask every now and then whether the other end is still there (RFC 9293 3.8.4): one that has vanished
    without a word is given up after two minutes, however long nobody has anything to send. TCP only."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def keep_descriptor_alive(fd: int) -> None:
    """The same for a descriptor that another library has just opened."""
    with contextlib.suppress(OSError):  # Windows tells nothing of a socket that has no address yet
        sock = socket.socket(fileno=fd)
        try:
            keep_alive(sock)
        finally:
            sock.detach()


def is_scarce(fd: int) -> bool:
    """True for a descriptor among the last that this process may have: those are for Jupyter itself.

    POSIX gives out the lowest number that is free, so a number near the limit tells that nearly all below it are taken.
    """
    limit = _limit()
    return limit is not None and fd >= limit - min(_RESERVED, limit // 4)


def affordable(most: int) -> int:
    """How many connections may be kept for later: an eighth of the descriptors that this process may have, at most `most`."""
    limit = _limit()
    return most if limit is None else min(most, limit // 8)


def _limit() -> int | None:
    if resource is None:
        return None
    limit: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def none_left() -> bool:
    """True if this process, or this machine, has no descriptor left."""
    try:
        socket.socket().close()
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False


def sockets_of(io_loop: IOLoop, on_ready: Callable[[int, int], None]) -> EpollSockets | LoopSockets:
    """The best watcher of this system; `on_ready` is called with a descriptor and READ, WRITE or both."""
    return (EpollSockets if hasattr(select, "epoll") else LoopSockets)(io_loop, on_ready)


class LoopSockets:
    """libcurl's sockets in the event loop, one by one."""

    def __init__(self, io_loop: IOLoop, on_ready: Callable[[int, int], None]) -> None:
        self._io_loop, self._on_ready = io_loop, on_ready
        self._watched: dict[int, int] = {}

    def opened(self, fd: int) -> None:
        """A new socket has that number. Nothing: whoever had it before was let go of."""

    def watch(self, fd: int, event: int) -> None:
        """`event` is READ, WRITE or both; 0 for no more."""
        known = self._watched.get(fd, 0)
        if event == known:
            return
        if not event:
            del self._watched[fd]
            self._io_loop.remove_handler(fd)
            return
        events = (IOLoop.READ if event & READ else 0) | (IOLoop.WRITE if event & WRITE else 0)
        self._watched[fd] = event
        if known:
            self._io_loop.update_handler(fd, events)
        else:
            self._io_loop.add_handler(fd, self._on_event, events)

    def close(self) -> None:
        for fd in list(self._watched):
            self.watch(fd, 0)

    def _on_event(self, fd: int, events: int) -> None:
        readable = READ if events & IOLoop.READ else 0
        writable = WRITE if events & IOLoop.WRITE else 0
        self._on_ready(fd, readable | writable)


class EpollSockets:
    """Linux: libcurl's sockets in an epoll of their own, which the event loop sees as one descriptor.

    libcurl lets go of a kept-alive connection after each request and takes it up for the next; here it stays registered in
    between, which saves a tenth of a small request. The kernel forgets a socket that is closed, and nobody tells of that: what
    is known of a number holds until `opened` says that another socket has it.
    """

    def __init__(self, io_loop: IOLoop, on_ready: Callable[[int, int], None]) -> None:
        self._io_loop, self._on_ready = io_loop, on_ready
        self._epoll = select.epoll()
        self._watched: dict[int, int] = {}
        self._registered: dict[int, int] = {}  # what the kernel was asked for; of closed ones, too
        io_loop.add_handler(self._epoll.fileno(), self._on_events, IOLoop.READ)

    def opened(self, fd: int) -> None:
        """A new socket has that number."""
        self._registered.pop(fd, None)

    def watch(self, fd: int, event: int) -> None:
        if not event:
            self._watched.pop(fd, None)
            return
        self._watched[fd] = event
        before = self._registered.get(fd)
        if before == event:
            return
        self._registered[fd] = event
        mask = (select.EPOLLIN if event & READ else 0) | (select.EPOLLOUT if event & WRITE else 0)
        if before is None:
            self._epoll.register(fd, mask)
        else:
            self._epoll.modify(fd, mask)

    def close(self) -> None:
        self._io_loop.remove_handler(self._epoll.fileno())
        self._epoll.close()

    def _on_events(self, _: int, __: int) -> None:
        for fd, events in self._epoll.poll(0, _EVENTS_AT_ONCE):
            if fd not in self._watched:
                self._registered.pop(fd, None)
                with contextlib.suppress(OSError):
                    self._epoll.unregister(fd)  # a kept-alive connection that its upstream has closed
                continue
            readable = READ if events & ~select.EPOLLOUT else 0  # errors wake readers and writers
            writable = WRITE if events & ~select.EPOLLIN else 0
            self._on_ready(fd, readable | writable)
