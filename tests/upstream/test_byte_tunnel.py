"""Bytes through a WebSocket between two tunnels, over real sockets: all bytes, half-closes, resets, pings and violations."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from tornado.iostream import IOStream

from jupyter_portproxy.upstream.byte_tunnel import ByteTunnel
from jupyter_portproxy.upstream.closable import CloseCode
from jupyter_portproxy.upstream.tunnel import EndState

from ..support.raw_clients import frame
from ..support.waiting import eventually


@dataclass
class Plain:
    """A plain connection's other end."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read(self, size: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), 10)

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), 10)

    def reset(self) -> None:
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()


@dataclass
class Chain:
    """A program - its tunnel - WebSocket - the server's tunnel - a service."""

    program: Plain
    service: Plain
    dialling: ByteTunnel
    serving: ByteTunnel
    closed: list[object] = field(default_factory=list)


async def connected() -> tuple[IOStream, socket.socket]:
    """Two ends of one TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    return IOStream(accepted), client


async def plain_end(send_buffer: int = 0) -> tuple[IOStream, Plain]:
    """The tunnel's stream and its other end; with a `send_buffer` in bytes, what is written there waits in the tunnel."""
    if send_buffer:
        one, client = socket.socketpair()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        stream = IOStream(one)
    else:
        stream, client = await connected()
    return stream, Plain(*await asyncio.open_connection(sock=client, limit=1 << 16))


@contextlib.asynccontextmanager
async def chain(send_buffer: int = 0, **options: float) -> AsyncIterator[Chain]:
    """Both tunnels; at the end they have closed, each once."""
    (program_stream, program), (service_stream, service) = await plain_end(send_buffer), await plain_end()
    websocket, sock = await connected()
    tunnels = ByteTunnel(dials=True, **options), ByteTunnel(dials=False, **options)
    linked = Chain(program, service, *tunnels)
    for one in tunnels:
        one.add_close_callback(linked.closed.append)
    await tunnels[1].connect(websocket, service_stream)
    await tunnels[0].connect(IOStream(sock), program_stream)
    try:
        yield linked
        for end in (program, service):
            end.writer.transport.abort()
        await eventually(lambda: len(linked.closed) == 2, 12)
        assert {id(one) for one in linked.closed} == {id(one) for one in tunnels}
    finally:
        for end in (program, service):
            end.writer.transport.abort()
        await asyncio.sleep(0)


async def test_5_mb_cross_in_both_directions_exactly():
    data = random.Random(5).randbytes(5_000_000)
    async with chain() as linked:
        await asyncio.gather(
            linked.program.send(data),
            linked.service.send(data[::-1]),
            check(linked.service, data),
            check(linked.program, data[::-1]),
        )


async def check(end: Plain, data: bytes) -> None:
    assert await end.read(len(data)) == data


async def test_each_direction_ends_by_itself():
    async with chain() as linked:
        await linked.program.send(b"question")
        linked.program.writer.write_eof()
        assert await linked.service.rest() == b"question"
        await asyncio.sleep(0.2)
        assert linked.closed == []
        await linked.service.send(b"answer")
        linked.service.writer.write_eof()
        assert await linked.program.rest() == b"answer"
        await eventually(lambda: len(linked.closed) == 2)
        assert (linked.dialling.close_code, linked.serving.close_code) == (1000, 1000)
        assert not linked.dialling.was_cut and not linked.serving.was_cut


@pytest.mark.parametrize("early", ["program", "service"])
async def test_an_end_before_the_tunnel_ends_its_own_direction_alone(early):
    """As of a program that sends all that it has while the handshake is under way."""
    (program_stream, program), (service_stream, service) = await plain_end(), await plain_end()
    one, other = (program, service) if early == "program" else (service, program)
    await one.send(b"question")
    one.writer.write_eof()
    await asyncio.sleep(0.1)
    websocket, sock = await connected()
    await ByteTunnel(dials=False).connect(websocket, service_stream)
    await ByteTunnel(dials=True).connect(IOStream(sock), program_stream)
    assert await other.rest() == b"question"
    await other.send(b"answer")
    other.writer.write_eof()
    assert await one.rest() == b"answer"
    for end in (program, service):
        end.writer.transport.abort()


@pytest.mark.parametrize("by", ["program", "service"])
async def test_a_reset_is_a_reset_at_the_other_side(by):
    async with chain() as linked:
        one, other = (linked.program, linked.service) if by == "program" else (linked.service, linked.program)
        await one.send(b"half")
        assert await other.read(4) == b"half"
        one.reset()
        with pytest.raises(ConnectionResetError):
            await other.rest()
        await eventually(lambda: len(linked.closed) == 2)
        assert linked.dialling.was_cut and linked.serving.was_cut


async def test_a_lost_websocket_is_a_reset_at_both_sides():
    async with chain() as linked:
        await linked.program.send(b"x")
        assert await linked.service.read(1) == b"x"
        linked.serving._client.drop()
        for end in (linked.program, linked.service):
            with pytest.raises(ConnectionResetError):
                await end.rest()
        assert (linked.dialling.close_code, linked.serving.close_code) == (None, None)
        assert linked.dialling.was_cut and linked.serving.was_cut


async def test_a_shutdown_resets_and_sends_its_code():
    async with chain() as linked:
        linked.serving.shut_down(CloseCode.POLICY_VIOLATION)
        for end in (linked.program, linked.service):
            with pytest.raises(ConnectionResetError):
                await end.rest()
        await eventually(lambda: len(linked.closed) == 2)
        assert linked.dialling.close_code == 1008
        assert linked.dialling.was_cut and linked.serving.was_cut


async def test_back_pressure_reaches_the_sender_and_ends():
    block, total = bytes(65536), 1024  # 64 MiB: more than the buffers of the kernel and of both tunnels
    async with chain() as linked:
        sending = asyncio.create_task(send_all(linked.service, block, total))
        done, _ = await asyncio.wait({sending}, timeout=1.5)
        assert not done
        assert len(await linked.program.rest()) == total * len(block)
        await sending
        linked.program.writer.write_eof()
        await eventually(lambda: len(linked.closed) == 2)


async def send_all(end: Plain, block: bytes, total: int) -> None:
    for _ in range(total):
        await end.send(block)
    end.writer.write_eof()


async def test_a_reset_behind_unread_data_is_not_waited_for():
    async with chain() as linked:
        linked.program.writer.transport.pause_reading()
        sending = asyncio.create_task(send_all(linked.service, bytes(65536), 1024))
        done, _ = await asyncio.wait({sending}, timeout=1)
        assert not done
        linked.program.reset()
        with pytest.raises(ConnectionError):
            await sending
        await eventually(lambda: len(linked.closed) == 2, 5)  # the close handshake's own limit is 10 s


async def test_a_stream_that_has_ended_arrives_whole_after_a_reset_of_the_other_direction():
    async with chain(send_buffer=4096) as linked:
        linked.program.writer.transport.pause_reading()
        await linked.service.send(bytes(60_000))
        linked.service.writer.write_eof()
        await eventually(lambda: linked.dialling._client.state is EndState.ENDED)
        assert linked.dialling._upstream.transport.get_write_buffer_size() > 0
        linked.service.reset()
        await linked.program.send(b"too late")
        await eventually(lambda: linked.dialling.close_code == 1011)
        linked.program.writer.transport.resume_reading()
        assert await linked.program.rest() == bytes(60_000)


async def test_pings_are_answered_and_silence_is_a_cut():
    async with chain(ping_interval=0.1) as linked:
        await asyncio.sleep(0.5)
        assert linked.closed == []
        linked.serving._client.transport.pause_reading()
        with pytest.raises(ConnectionResetError):
            await linked.program.rest()
        linked.serving._client.transport.resume_reading()


async def test_an_idle_connection_is_closed():
    async with chain(idle_timeout=0.4) as linked:
        for _ in range(4):
            await linked.program.send(b".")
            await asyncio.sleep(0.2)
        assert linked.closed == []
        with pytest.raises(ConnectionResetError):
            await linked.program.rest()


@pytest.mark.parametrize(
    ("data", "code"),
    [(frame(1, b"text"), 1003), (frame(2, b"a", masked=False), 1002), (frame(2, b"") + frame(2, b"more"), 1002)],
)
async def test_a_violation_closes_with_its_code(data, code):
    service_stream, service = await plain_end()
    websocket, sock = await connected()
    tunnel, closed = ByteTunnel(dials=False), []
    tunnel.add_close_callback(closed.append)
    await tunnel.connect(websocket, service_stream, b"HTTP/1.1 101 First\r\n\r\n")
    client = Plain(*await asyncio.open_connection(sock=sock))
    await client.send(data)
    assert await client.rest() == b"HTTP/1.1 101 First\r\n\r\n\x88\x02" + code.to_bytes(2, "big")
    client.writer.transport.abort()
    with contextlib.suppress(ConnectionResetError):
        assert await service.rest() == b""
    service.writer.transport.abort()
    await eventually(lambda: closed)
    assert tunnel.close_code == code


async def test_a_client_that_closes_without_an_empty_message_ends_the_stream():
    service_stream, service = await plain_end()
    websocket, sock = await connected()
    tunnel, closed = ByteTunnel(dials=False), []
    tunnel.add_close_callback(closed.append)
    await tunnel.connect(websocket, service_stream)
    client = Plain(*await asyncio.open_connection(sock=sock))
    await client.send(frame(2, b"all") + frame(8, b"\x03\xe8"))
    assert await service.rest() == b"all"
    assert await client.rest() == b"\x88\x02\x03\xe8"
    for end in (client, service):
        end.writer.transport.abort()
    await eventually(lambda: closed)
    await asyncio.sleep(0)


async def test_a_flood_of_tiny_frames_leaves_time_for_others():
    """The bytes stay exact, and one pong responds to many pings: each write is a system call."""
    service_stream, service = await plain_end()
    websocket, sock = await connected()
    tunnel, turns, pong = ByteTunnel(dials=False), 0, frame(10, b"p", masked=False)

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    content = bytes(number % 251 for number in range(20_000))
    flood = b"".join(frame(2, content[at : at + 1]) + frame(9, b"p") for at in range(len(content)))
    with sock:
        sending = asyncio.get_running_loop().run_in_executor(None, sock.sendall, flood + frame(2, b""))
        await asyncio.sleep(0.2)
        others = asyncio.ensure_future(take_turns())
        await tunnel.connect(websocket, service_stream)
        assert await service.rest() == content
        assert turns >= 2 * len(content) // 1024
        others.cancel()
        await sending
        service.writer.close()
        received = b""
        while data := await asyncio.get_running_loop().run_in_executor(None, sock.recv, 1 << 16):
            received += data
            if received.endswith(b"\x88\x02\x03\xe8"):
                sock.sendall(frame(8, b"\x03\xe8"))
    pongs = received.count(pong)
    assert 1 <= pongs < 2000 and received == pongs * pong + frame(2, b"", masked=False) + b"\x88\x02\x03\xe8"
