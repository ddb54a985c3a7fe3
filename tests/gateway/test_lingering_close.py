"""Responses to clients that still send: they arrive, and the connection ends without a reset."""

from __future__ import annotations

import asyncio

import pytest

from jupyter_portproxy.gateway import lingering_close
from jupyter_portproxy.gateway.lingering_close import LingeringClose

from ..conftest import TOKEN
from ..support.upstreams import free_port, serve
from ..support.waiting import eventually

SIZE = 16 << 20  # more than the buffers of a connection take
RESPONSES = {
    "sized": b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig",
    "chunked": b"HTTP/1.1 413 Too Large\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbig\r\n0\r\n\r\n",
}


def at_once(response):
    """A service that reads no content."""

    async def script(connection):
        await connection.head()
        await connection.write(response)
        await connection.until_closed()

    return script


def upload(head_of, port, *fields, login=f"token {TOKEN}"):
    return head_of("PUT", port, login) + "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n"


@pytest.mark.parametrize("framing", [f"Content-Length: {SIZE}", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize(
    ("kind", "status"), [("sized", 413), ("chunked", 413), ("dead", 502), ("forbidden", 403), ("no login", 403)]
)
async def test_a_client_that_sends_on_after_the_response_gets_it_and_the_end(wire, head_of, gateway, kind, status, framing):
    async with serve(at_once(RESPONSES.get(kind, b""))) as up, await wire() as connection:
        port = {"dead": free_port(), "forbidden": 9}.get(kind, up.port)
        login = "token wrong" if kind == "no login" else f"token {TOKEN}"
        await connection.send(upload(head_of, port, framing, login=login))
        piece = bytes(1 << 20) if "Length" in framing else b"%x\r\n%b\r\n" % (1 << 20, bytes(1 << 20))
        for _ in range(SIZE >> 20):
            await asyncio.wait_for(connection.send(piece), 20)
        answer = await asyncio.wait_for(connection.answer(), 20)
        assert (answer.status, answer.whole) == (status, True)
        assert answer.content == b"big" if status == 413 else answer.one("Connection") == "close"
        assert await asyncio.wait_for(connection.closed(), 20)
    await eventually(lambda: not gateway.lingering_close._timers)


async def test_a_client_that_sends_no_more_sees_the_end_at_once(wire, head_of, gateway):
    async with serve(at_once(RESPONSES["chunked"])) as up:
        for port, fields in ((up.port, []), (free_port(), []), (free_port(), ["Expect: 100-continue"])):
            async with await wire() as connection:
                await connection.send(upload(head_of, port, "Content-Length: 100", *fields))
                assert (await connection.answer()).whole and await asyncio.wait_for(connection.closed(), 5)
                assert len(gateway.lingering_close._timers) == 1
            await eventually(lambda: not gateway.lingering_close._timers)


async def test_the_rest_of_a_request_is_read_for_a_limited_time(wire, head_of, gateway):
    gateway.lingering_close = LingeringClose(linger=0.3)
    async with await wire() as connection:
        await connection.send(upload(head_of, free_port(), "Content-Length: 100"))
        await connection.answer()
        await eventually(lambda: not gateway.lingering_close._timers)
        with pytest.raises(ConnectionError):
            for _ in range(100):
                await connection.send(b"x")
                await asyncio.sleep(0.01)


async def test_more_connections_than_the_limit_are_closed_at_once(wire, head_of, gateway, monkeypatch):
    monkeypatch.setattr(lingering_close, "MAX_LINGERING", 2)
    connections = [await wire() for _ in range(4)]
    for connection in connections:
        await connection.send(upload(head_of, free_port(), "Content-Length: 100"))
        assert (await connection.answer()).status == 502
        assert await asyncio.wait_for(connection.closed(), 5)
    assert len(gateway.lingering_close._timers) == 2
    gateway.lingering_close.close()
    assert not gateway.lingering_close._timers
    for connection in connections:
        connection.writer.close()
