"""WebSocket handshakes and tunnels through a real Jupyter server. Bytes in, bytes out, on raw sockets."""

from __future__ import annotations

import asyncio

import pytest

from ..conftest import TOKEN
from ..support import upstreams as u
from ..support.raw_clients import UPGRADE, frame
from ..support.upstreams import answers, free_port, mirror, says, serve
from ..support.waiting import eventually

# ---- tunnels ----


async def upgraded(wire, origin, jp_base_url, port, extra=()):
    connection = await wire()
    lines = [
        f"GET {jp_base_url}proxy/port/{port}/ws HTTP/1.1",
        f"Host: {origin}",
        f"Authorization: token {TOKEN}",
        *UPGRADE,
        *extra,
    ]
    await connection.send("\r\n".join([*lines, "", ""]).encode())
    return connection, await connection.head()


async def test_a_tunnel_carries_frames_byte_for_byte(wire, origin, jp_base_url, gateway):
    async with serve(u.echo_frames) as up:
        extra = ["Sec-WebSocket-Protocol: a, v1.token.websocket.jupyter.org, b", "Sec-WebSocket-Extensions: permessage-deflate"]
        connection, head = await upgraded(wire, origin, jp_base_url, up.port, extra)
        assert (head.status, gateway.tunnels) == (101, 1)
        assert up.last.one("Sec-WebSocket-Protocol") == "a, b"
        assert up.last.one("Sec-WebSocket-Extensions") == "permessage-deflate"
        assert up.last.one("Sec-WebSocket-Key") == "dGhlIHNhbXBsZSBub25jZQ=="
        sent = frame(1, b"hello") + frame(9, b"ping") + frame(2, bytes(200000)) + frame(1, b"a", fin=False) + b"\xff\x80junk"
        await connection.send(sent)
        assert await asyncio.wait_for(connection.reader.readexactly(len(sent)), 5) == sent
        assert bytes(up.received) == sent
        connection.writer.close()
        await eventually(lambda: gateway.tunnels == 0)


async def test_close_codes_of_the_service_arrive(wire, origin, jp_base_url):
    async with serve(u.closes_tunnel(4001)) as up:
        connection, _ = await upgraded(wire, origin, jp_base_url, up.port)
        assert await connection.reader.readexactly(4) == b"\x88\x02\x0f\xa1"
        connection.writer.close()


@pytest.mark.parametrize("status", [b"403 Forbidden", b"401 Unauthorized", b"302 Found", b"502 Bad Gateway", b"200 OK"])
async def test_a_refused_upgrade_is_the_answer_that_it_is(call, status):
    raw = b"HTTP/1.1 %b\r\nX-Why: because\r\nContent-Length: 4\r\n\r\nnope" % status
    async with serve(says(raw)) as up:
        answer = await call(f"proxy/port/{up.port}/ws", fields=UPGRADE)
    assert f"{answer.status} {answer.reason}".encode() == status
    assert (answer.one("X-Why"), answer.content) == ("because", b"nope")


async def test_a_refused_upgrade_leaves_no_connection(call):
    async with serve(answers(b"no WebSocket here")) as up:
        assert (await call(f"proxy/port/{up.port}/ws", fields=UPGRADE)).text == "no WebSocket here"
        await asyncio.wait_for(up.gone.wait(), 1)


async def test_an_upgrade_to_a_dead_port_is_a_502(call):
    answer = await call(f"proxy/port/{free_port()}/ws", fields=UPGRADE)
    assert (answer.status, answer.text.startswith("Failed to connect")) == (502, True)


async def test_an_upgrade_without_a_key_is_a_400(call):
    async with serve(u.echo_frames) as up:
        assert (await call(f"proxy/port/{up.port}/ws", fields=UPGRADE[:3])).status == 400
        assert up.connections == 0


async def test_any_other_upgrade_is_served_as_if_it_were_not_asked(call):
    async with serve(mirror) as up:
        assert (await call(f"proxy/port/{up.port}/", fields=["Connection: Upgrade", "Upgrade: h2c"])).status == 200
    assert up.last.one("Upgrade") is None


async def test_close_tells_open_tunnels_1001(wire, origin, jp_base_url, gateway):
    async with serve(u.echo_frames) as up:
        connection, _ = await upgraded(wire, origin, jp_base_url, up.port)
        gateway.close()
        assert await asyncio.wait_for(connection.reader.readexactly(4), 2) == b"\x88\x02\x03\xe9"
        assert await connection.closed()
        await eventually(lambda: bytes(up.received) == b"\x88\x82\0\0\0\0\x03\xe9")
        connection.writer.close()


@pytest.mark.parametrize("seconds", [0.0, 0.2])
async def test_a_client_that_goes_away_during_the_handshake_ends_it(wire, head_of, gateway, seconds):
    async with serve(u.never_answers) as up:
        async with await wire() as connection:
            await connection.send(head_of("GET", up.port) + "".join(f"{line}\r\n" for line in UPGRADE).encode() + b"\r\n")
            await asyncio.sleep(seconds)
        await eventually(lambda: gateway.limits.tunnels.in_all == 0)
