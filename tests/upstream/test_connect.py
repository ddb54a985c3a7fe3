"""Dialling over real sockets: addresses in order, approval before the first byte, timeouts, descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time

import pytest

from jupyter_portproxy.errors import Forbidden, Unreachable, UpstreamTimeout
from jupyter_portproxy.protocol.urls import Upstream
from jupyter_portproxy.upstream.connect import connect, dial, name_descriptor, reset_on_close, was_cut

from ..support.upstreams import Connection, echo_frames, free_port, serve


def upstream(port: int, addresses=("127.0.0.1", "::1"), host="localhost") -> Upstream:
    return Upstream(host, port, addresses)


def approve(*ends) -> None:
    pass


async def test_dial_connects_to_the_first_address_that_accepts_and_has_it_approved():
    checks = []
    async with serve(echo_frames, "::1") as seen:
        stream = await dial(upstream(seen.port), lambda *ends: checks.append((ends, seen.received)), 5)
        assert stream.socket.getpeername()[:2] == ("::1", seen.port)
        assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert checks == [((*stream.socket.getsockname()[:2], "::1", seen.port, stream.socket.fileno()), b"")]
        stream.close()


async def test_dial_to_a_dead_port_is_unreachable_at_once():
    port, start = free_port(), time.monotonic()
    with pytest.raises(Unreachable, match=f"service on port {port}"):
        await dial(upstream(port), approve, 5)
    with pytest.raises(Unreachable, match=f"Failed to connect to example.org:{port}"):
        await dial(upstream(port, host="example.org"), approve, 5)
    assert time.monotonic() - start < 1


async def test_dial_sends_nothing_where_approval_is_refused_and_closes():
    def refuse(*ends) -> None:
        raise Forbidden("no")

    async def script(connection: Connection) -> None:
        await connection.until_closed()
        connection.seen.gone.set()

    async with serve(script) as seen:
        with pytest.raises(Forbidden):
            await dial(upstream(seen.port), refuse, 5)
        await asyncio.wait_for(seen.gone.wait(), 1)
        assert (seen.connections, seen.received) == (1, b"")


async def test_dial_gives_up_in_time():
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # now its queue is full, and the kernel lets further connections wait
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        start, before = time.monotonic(), len(os.listdir("/dev/fd"))
        with pytest.raises(UpstreamTimeout, match=r"within 0\.3 s"):
            await dial(upstream(listener.getsockname()[1]), approve, 0.3)
        assert 0.2 < time.monotonic() - start < 2
        assert len(os.listdir("/dev/fd")) == before


@pytest.mark.skipif(sys.platform != "linux", reason="Unix sockets have names of their own on Linux alone")
@pytest.mark.parametrize("scheme", ["tcp", "http"])
async def test_the_cut_of_a_unix_socket_is_told_once(tmp_path, scheme):
    path = str(tmp_path / "a.sock")
    at_socket = Upstream("localhost", 80, ("127.0.0.1",), path, scheme)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        streams = [await dial(at_socket, approve, 5) for _ in range(2)]
        accepted = [listening.accept()[0] for _ in streams]
        reset_on_close(accepted[0])
        expected = [scheme == "tcp", False, False]
        assert [was_cut(streams[0].socket), was_cut(streams[0].socket), was_cut(streams[1].socket)] == expected
        for each in (*streams, *accepted):
            each.close()


@pytest.mark.skipif(sys.platform != "linux", reason="Unix sockets have names of their own on Linux alone")
@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_unix_socket_of_a_library_is_reset_by_its_name(tmp_path, is_replaced):
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as own:
        listening.bind(str(tmp_path / "a.sock"))
        listening.listen()
        name_descriptor(own.fileno())
        own.connect(str(tmp_path / "a.sock"))
        accepted = listening.accept()[0]
        accepted.sendall(b"the last bytes")
        kept, other = own.dup(), socket.socketpair()
        if is_replaced:  # the library has moved its socket, and another one has the number now
            os.dup2(other[0].fileno(), own.fileno())
        reset_on_close(accepted)
        accepted.close()
        assert kept.recv(64) == b"the last bytes"
        if is_replaced:
            assert kept.recv(64) == b""
        else:
            with pytest.raises(ConnectionResetError):
                kept.recv(64)
        other[1].setblocking(False)
        with pytest.raises(BlockingIOError):
            other[1].recv(1)
        for each in (kept, *other):
            each.close()


async def test_a_connection_that_is_only_tried_is_approved_and_closed():
    checks = []

    async def script(connection: Connection) -> None:
        await connection.until_closed()
        connection.seen.gone.set()

    async with serve(script, "::1") as seen:
        await connect(upstream(seen.port), lambda *ends: checks.append(ends[2:4]), 5)
        await asyncio.wait_for(seen.gone.wait(), 1)
        assert (checks, seen.connections, seen.received) == ([("::1", seen.port)], 1, b"")

        def refuse(*ends) -> None:
            raise Forbidden("no")

        with pytest.raises(Forbidden):
            await connect(upstream(seen.port), refuse, 5)
    with pytest.raises(Unreachable, match=f"service on port {seen.port}"):
        await connect(upstream(seen.port), approve, 5)


async def test_a_peer_that_closes_at_once_is_unreachable_or_gives_a_stream():
    """Tornado's stream has no socket any more when it sees the end of the connection before its beginning."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)

        async def close_all() -> None:
            while True:
                connection, _ = await asyncio.get_running_loop().sock_accept(server)
                connection.close()

        closing = asyncio.ensure_future(close_all())
        for _ in range(50):
            with contextlib.suppress(Unreachable):
                (await dial(upstream(server.getsockname()[1], ["127.0.0.1"]), approve, 5)).close()
        closing.cancel()
