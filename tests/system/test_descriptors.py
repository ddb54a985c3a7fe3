"""Both watchers tell of the same events, and keep nothing of a socket that is closed."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

import pytest
from tornado.ioloop import IOLoop

from jupyter_portproxy.system.descriptors import (
    READ,
    WRITE,
    EpollSockets,
    LoopSockets,
    keep_alive,
    keep_descriptor_alive,
    sockets_of,
)


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
            assert sum({ready for _, ready in events}) == wanted  # the loop tells of READ and of WRITE one by one
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


async def test_a_system_without_epoll_uses_the_loop(monkeypatch):
    monkeypatch.delattr("jupyter_portproxy.system.descriptors.select.epoll", raising=False)
    assert isinstance(sockets_of(IOLoop.current(), lambda fd, ready: None), LoopSockets)


def test_the_last_descriptors_are_scarce():
    code = """
import os, resource, socket
from jupyter_portproxy.system.descriptors import affordable, is_scarce, none_left
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
assert not is_scarce(149) and is_scarce(150) and not none_left()
assert (affordable(1024), affordable(10)) == (25, 10)
socks = []
try:
    while True:
        socks.append(socket.socket())
except OSError:
    assert none_left()
print("good")
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "good\n", done.stderr


def test_only_tcp_is_kept_alive():
    one, other = socket.socketpair()
    with one, other, socket.socket() as tcp:
        keep_alive(one)
        keep_alive(tcp)
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_a_descriptor_is_kept_alive_and_stays_its_owners():
    with socket.socket() as tcp:
        keep_descriptor_alive(tcp.fileno())
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert tcp.fileno() != -1 and tcp.getsockname()
        if hasattr(socket, "TCP_KEEPCNT"):
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 4
