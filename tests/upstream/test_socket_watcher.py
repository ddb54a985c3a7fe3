"""Both watchers report the same events, and keep nothing of a socket that is closed."""

from __future__ import annotations

import asyncio
import select
import socket

import pytest
from tornado.ioloop import IOLoop

from jupyter_portproxy.upstream.socket_watcher import READ, WRITE, EpollWatcher, LoopWatcher, watch_sockets


@pytest.fixture(params=[EpollWatcher, LoopWatcher])
def watched(request, jp_asyncio_loop):
    """A watcher, and the events that it has reported."""
    events: list[tuple[int, int]] = []

    async def make():
        return request.param(IOLoop.current(), lambda fd, ready: events.append((fd, ready)))

    sockets = jp_asyncio_loop.run_until_complete(make())
    yield sockets, events
    jp_asyncio_loop.run_until_complete(asyncio.sleep(0))
    sockets.close()


async def test_it_reports_ready_sockets_that_are_watched(watched):
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
            sockets.opened(number)
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


async def test_a_kept_socket_that_is_taken_up_again_is_heard(watched):
    sockets, events = watched
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sockets.opened(ours.fileno())
        for wanted in (READ, READ, WRITE, READ | WRITE, READ):
            events.clear()
            sockets.watch(ours.fileno(), wanted)
            theirs.send(b"x")
            await asyncio.sleep(0.02)
            assert {fd for fd, _ in events} == {ours.fileno()}
            assert sum({ready for _, ready in events}) == wanted  # the loop reports READ and WRITE separately
            ours.recv(1)
            sockets.watch(ours.fileno(), 0)


async def test_one_whose_peer_has_spoken_meanwhile_is_heard_when_it_is_taken_up_again(watched):
    sockets, events = watched
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sockets.watch(ours.fileno(), READ)
        sockets.watch(ours.fileno(), 0)
        theirs.send(b"x")
        await asyncio.sleep(0.05)
        assert events == []
        sockets.watch(ours.fileno(), READ)
        await asyncio.sleep(0.02)
        assert set(events) == {(ours.fileno(), READ)}


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="Linux only")
async def test_registrations_are_kept_only_if_configured():
    for keep, kind in ((True, EpollWatcher), (False, LoopWatcher)):
        watcher = watch_sockets(IOLoop.current(), lambda fd, ready: None, keep_registrations=keep)
        assert isinstance(watcher, kind)
        watcher.close()


async def test_a_system_without_epoll_uses_the_loop(monkeypatch):
    monkeypatch.delattr("jupyter_portproxy.upstream.socket_watcher.select.epoll", raising=False)
    assert isinstance(watch_sockets(IOLoop.current(), lambda fd, ready: None, keep_registrations=True), LoopWatcher)
