"""Both watchers tell of the same events, and keep nothing of a socket that is closed."""

from __future__ import annotations

import asyncio
import socket

import pytest
from tornado.ioloop import IOLoop

from jupyter_portproxy.sockets import READ, WRITE, EpollSockets, LoopSockets, sockets_of


@pytest.fixture(params=[EpollSockets, LoopSockets])
def watched(request, jp_asyncio_loop):
    """A watcher, and the events that it has told of."""
    events: list[tuple[int, int]] = []

    async def make():
        return request.param(IOLoop.current(), lambda fd, ready: events.append((fd, ready)))

    sockets = jp_asyncio_loop.run_until_complete(make())
    yield sockets, events
    jp_asyncio_loop.run_until_complete(asyncio.sleep(0))
    sockets.close()


async def test_it_tells_what_is_ready_and_what_was_asked_for(watched):
    sockets, events = watched
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sockets.watch(ours.fileno(), READ)
        await asyncio.sleep(0.02)
        assert events == []
        theirs.send(b"x")
        await asyncio.sleep(0.02)
        assert set(events) == {(ours.fileno(), READ)}
        ours.recv(1)
        await asyncio.sleep(0.02)
        events.clear()
        sockets.watch(ours.fileno(), READ | WRITE)
        await asyncio.sleep(0.02)
        assert set(events) == {(ours.fileno(), WRITE)}
        sockets.watch(ours.fileno(), 0)
        await asyncio.sleep(0)
        events.clear()
        theirs.send(b"x")
        await asyncio.sleep(0.02)
        assert events == []


async def test_a_descriptor_that_comes_again_is_another_socket(watched):
    """libcurl lets go of a connection, closes it, and the system gives its number to the next one."""
    sockets, events = watched
    for _ in range(3):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            number = ours.fileno()
            sockets.watch(number, READ)
            theirs.send(b"x")
            await asyncio.sleep(0.02)
            assert (number, READ) in events
            sockets.watch(number, 0)
        events.clear()


async def test_a_kept_socket_whose_peer_closes_makes_no_noise(watched):
    sockets, events = watched
    ours, theirs = socket.socketpair()
    with ours:
        sockets.watch(ours.fileno(), READ)
        sockets.watch(ours.fileno(), 0)
        theirs.close()
        await asyncio.sleep(0.05)
        assert events == []


async def test_a_system_without_epoll_uses_the_loop(monkeypatch):
    monkeypatch.delattr("jupyter_portproxy.sockets.select.epoll", raising=False)
    assert isinstance(sockets_of(IOLoop.current(), lambda fd, ready: None), LoopSockets)
