"""WebSocket handshakes and tunnels through a real Jupyter server. Bytes in, bytes out, on raw sockets."""

from __future__ import annotations

import asyncio
import gc

import pytest
from jupyter_server.auth import Authorizer

from jupyter_portproxy.handlers.websocket import TunnelHandler

from ..conftest import TOKEN
from ..support import upstreams
from ..support.identity_providers import configured
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
    async with serve(upstreams.echo_frames) as up:
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


async def test_fields_of_websocket_are_spelled_as_in_its_standard(wire, origin, jp_base_url):
    """MicroPython's websocket_helper, for one, compares `Sec-WebSocket-Key` byte for byte."""
    async with serve(upstreams.echo_frames) as up:
        connection, head = await upgraded(wire, origin, jp_base_url, up.port, ["Sec-WebSocket-Protocol: a"])
        connection.writer.close()
    for fields, names in (up.last.fields, {"Key", "Version", "Protocol"}), (head.fields, {"Accept"}):
        sent = {name for name, _ in fields if name.lower().startswith("sec-")}
        assert sent >= {f"Sec-WebSocket-{name}" for name in names}, sent
        assert all(name.startswith("Sec-WebSocket-") for name in sent)


async def test_close_codes_of_the_service_arrive(wire, origin, jp_base_url):
    async with serve(upstreams.closes_tunnel(4001)) as up:
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
    async with serve(upstreams.echo_frames) as up:
        assert (await call(f"proxy/port/{up.port}/ws", fields=UPGRADE[:3])).status == 400
        assert up.connections == 0


@pytest.mark.parametrize("version", [[], ["Sec-WebSocket-Version: 6"]])
async def test_an_upgrade_to_another_version_is_tornados_426(call, gateway, version):
    async with serve(upstreams.echo_frames) as up:
        answer = await call(f"proxy/port/{up.port}/ws", fields=[*UPGRADE[:2], UPGRADE[3], *version])
        assert (answer.status, answer.one("Sec-WebSocket-Version")[-2:], answer.content) == (426, "13", b"")
        assert (up.connections, gateway.limits.tunnels.in_all) == (0, 0)
        assert (await call(f"proxy/port/{up.port}/ws", fields=[*UPGRADE[:2], *version], token=None)).status == 403


@pytest.mark.parametrize("size", [1, 1 << 20])
async def test_an_upgrade_with_content_is_a_400_and_is_not_kept_in_memory(wire, head_of, size):
    async with serve(upstreams.echo_frames) as up, await wire() as connection:
        fields = "\r\n".join([*UPGRADE, f"Content-Length: {size}", "", ""]).encode()
        await connection.send(head_of("GET", up.port) + fields)
        if size == 1:
            await connection.send(b"x")
        assert (await connection.head()).status == 400  # of the larger content nothing is read
        assert up.connections == 0


async def test_any_other_upgrade_is_ignored(call):
    async with serve(mirror) as up:
        assert (await call(f"proxy/port/{up.port}/", fields=["Connection: Upgrade", "Upgrade: h2c"])).status == 200
    assert up.last.one("Upgrade") is None


async def test_close_sends_1001_to_open_tunnels(wire, origin, jp_base_url, gateway):
    async with serve(upstreams.echo_frames) as up:
        connection, _ = await upgraded(wire, origin, jp_base_url, up.port)
        gateway.close()
        assert await asyncio.wait_for(connection.reader.readexactly(4), 2) == b"\x88\x02\x03\xe9"
        assert await connection.closed()
        await eventually(lambda: bytes(up.received) == b"\x88\x82\0\0\0\0\x03\xe9")
        connection.writer.close()


@pytest.mark.parametrize("seconds", [0.0, 0.2])
async def test_a_client_that_goes_away_during_the_handshake_ends_it(wire, head_of, gateway, seconds):
    async with serve(upstreams.never_answers) as up:
        async with await wire() as connection:
            await connection.send(head_of("GET", up.port) + "".join(f"{line}\r\n" for line in UPGRADE).encode() + b"\r\n")
            await asyncio.sleep(seconds)
        await eventually(lambda: gateway.limits.tunnels.in_all == 0)


class Permits(Authorizer):
    """Not Jupyter's default: what it has let pass is watched."""

    def is_authorized(self, handler, user, action, resource):
        return True


@pytest.mark.parametrize("jp_server_config", [configured(authorizer_class=Permits)])
async def test_a_tunnel_that_cannot_be_watched_is_not_left_open(call, gateway, monkeypatch, jp_server_config):
    def fails(key, make_check, open_):
        raise ValueError("a fault")

    async def grants(connection):
        await upstreams.echo_frames(connection)
        connection.seen.gone.set()

    monkeypatch.setattr(gateway.logins, "watch", fails)
    async with serve(grants) as up:
        assert (await call(f"proxy/port/{up.port}/ws", fields=UPGRADE)).status == 500
        await asyncio.wait_for(up.gone.wait(), 1)
    await eventually(lambda: (gateway.tunnels, gateway.limits.tunnels.in_all) == (0, 0))


async def test_a_handshake_is_freed_without_the_garbage_collector(wire, origin, jp_base_url, call):
    async with serve(upstreams.echo_frames) as up, serve(answers(b"no WebSocket here")) as refuses:
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                connection, _head = await upgraded(wire, origin, jp_base_url, up.port)
                await call(f"proxy/port/{refuses.port}/ws", fields=UPGRADE)
                await call(f"proxy/port/{refuses.port}/ws", fields=UPGRADE[:3])
                connection.writer.close()
            await asyncio.sleep(0.1)
            assert sum(isinstance(known, TunnelHandler) for known in gc.get_objects()) <= 1
        finally:
            gc.enable()
