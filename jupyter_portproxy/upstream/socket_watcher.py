"""Sockets that libcurl opens and closes, watched by Tornado's event loop.

READ and WRITE have libcurl's values (CURL_POLL_IN and CURL_CSELECT_IN, and the same for OUT). `opened` and `watch` are called
by the transport alone.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable

from tornado.ioloop import IOLoop

READ, WRITE = 1, 2
_EVENTS_AT_ONCE = 32
OnReady = Callable[[int, int], None]


def watch_sockets(io_loop: IOLoop, on_ready: OnReady, *, keep_registrations: bool) -> EpollWatcher | LoopWatcher:
    """A watcher that calls `on_ready` with a descriptor and READ, WRITE or both; only Linux can keep registrations."""
    return (EpollWatcher if keep_registrations and hasattr(select, "epoll") else LoopWatcher)(io_loop, on_ready)


class LoopWatcher:
    """Registers each socket with the event loop while libcurl watches it."""

    def __init__(self, io_loop: IOLoop, on_ready: OnReady) -> None:
        self._io_loop, self._on_ready = io_loop, on_ready
        self._watched: dict[int, int] = {}

    def opened(self, fd: int) -> None:
        """A new socket has that descriptor. No effect: nothing is kept of earlier ones."""

    def watch(self, fd: int, event: int) -> None:
        """Watch for READ, WRITE or both; 0 ends it."""
        before = self._watched.get(fd, 0)
        if event == before:
            return
        if not event:
            del self._watched[fd]
            self._io_loop.remove_handler(fd)
            return
        events = (IOLoop.READ if event & READ else 0) | (IOLoop.WRITE if event & WRITE else 0)
        self._watched[fd] = event
        if before:
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


class EpollWatcher:
    """Linux: libcurl's sockets in a separate epoll, which the event loop sees as one descriptor.

    libcurl stops watching a kept-alive connection after each request and starts again with the next; here the socket stays
    registered in between, which saves a tenth of a small request. The kernel drops a registration when its socket is closed,
    without notice: `_registered` is valid for a descriptor until `opened` reports a new socket there.
    """

    def __init__(self, io_loop: IOLoop, on_ready: OnReady) -> None:
        self._io_loop, self._on_ready = io_loop, on_ready
        self._epoll = select.epoll()
        self._watched: dict[int, int] = {}
        self._registered: dict[int, int] = {}  # with the kernel; may include closed sockets
        io_loop.add_handler(self._epoll.fileno(), self._on_events, IOLoop.READ)

    def opened(self, fd: int) -> None:
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
