"""Raw TCP in bulk, against a server in a process of its own: what many connections cost, and what is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from ..support.jupyter_processes import TOKEN, Server, debugged, jupyter_server
from ..support.raw_clients import UPGRADE, Wire, frame
from ..support.upstreams import serve

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is Linux's"),
    pytest.mark.timeout(180),
]
CONNECTIONS = 1000
MAX_IDLE = 20 << 10  # bytes of memory for an idle connection
MAX_OPENING = 64 << 10  # bytes for one of many that are opened at once
MAX_SLOW = 1 << 20  # bytes for one whose reader is slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home: Path = tmp_path_factory.mktemp("tcp")
    with jupyter_server(home, *debugged(home)) as running:
        yield running


async def state(server: Server) -> dict:
    _, text = await asyncio.to_thread(server.get, "debug/state")
    return json.loads(text)


async def closed(server: Server, seconds: float = 15) -> dict:
    """The state once no tunnel is left."""
    until = time.monotonic() + seconds
    while (now := await state(server))["tunnels"] or now["slots"] != [0, 0]:
        assert time.monotonic() < until, now
        await asyncio.sleep(0.2)
    return now


def assert_nothing_is_left(before: dict, after: dict) -> None:
    """Of Jupyter's own some may have ended."""
    assert after["descriptors"] <= before["descriptors"]
    for kind in ("tasks", "objects"):
        assert Counter(after[kind]) <= Counter(before[kind]), (kind, before[kind], after[kind])


async def opened(server: Server, port: int) -> Wire:
    own = int(server.url.rstrip("/").rpartition(":")[2])
    wire = await Wire.open(own, limit=1 << 16)
    lines = [f"GET /proxy/tcp/{port} HTTP/1.1", f"Host: 127.0.0.1:{own}", f"Authorization: token {TOKEN}", *UPGRADE]
    await wire.send("\r\n".join([*lines, "", ""]).encode())
    assert (await asyncio.wait_for(wire.head(), 60)).status == 101
    return wire


async def waits(connection) -> None:
    await connection.until_closed()


@pytest.mark.parametrize("at_once, limit", [(10, MAX_IDLE), (CONNECTIONS, MAX_OPENING)])
async def test_a_thousand_idle_connections_cost_little_and_leave_nothing(server, at_once, limit):
    """Handshakes cost more than open connections: the limit for as many at once is another one."""
    async with serve(waits) as up:
        for wire in await asyncio.gather(*(opened(server, up.port) for _ in range(20))):  # warms up what is made once
            wire.writer.close()
        before, wires = await closed(server), []
        try:
            for _ in range(CONNECTIONS // at_once):
                wires += await asyncio.gather(*(opened(server, up.port) for _ in range(at_once)))
            during = await state(server)
        finally:
            for number, wire in enumerate(wires):
                wire.writer.transport.abort() if number % 2 else wire.writer.close()
        assert during["tunnels"] == CONNECTIONS
        assert (during["memory"] - before["memory"]) / CONNECTIONS < limit
        after = await closed(server)
        assert_nothing_is_left(before, after)


async def test_a_service_that_does_not_read_costs_little(server):
    """The client's bytes wait in the kernel, and at the client."""
    stop = asyncio.Event()

    async def never_reads(connection) -> None:
        connection.reader._transport.pause_reading()
        await stop.wait()

    async with serve(never_reads) as up:
        before = await closed(server)
        wires = [await opened(server, up.port) for _ in range(8)]
        for wire in wires:
            wire.writer.write(frame(2, bytes(1 << 19)) * 64)  # 32 MiB
        await asyncio.sleep(2)
        during = await state(server)
        assert (during["memory"] - before["memory"]) / len(wires) < MAX_SLOW
        assert min(wire.writer.transport.get_write_buffer_size() for wire in wires) > 8 << 20  # not taken
        for wire in wires:
            wire.writer.transport.abort()
        stop.set()
        after = await closed(server)
        assert_nothing_is_left(before, after)


async def test_a_client_that_does_not_read_costs_little(server):
    sent = 0

    async def floods(connection) -> None:
        nonlocal sent
        with contextlib.suppress(asyncio.TimeoutError):  # the list of ports of another test sends a request
            await asyncio.wait_for(connection.reader.read(1), 0.3)
            return
        while True:
            await connection.write(bytes(1 << 16))
            sent += 1 << 16

    async with serve(floods) as up:
        before = await closed(server)
        wires = [await opened(server, up.port) for _ in range(8)]
        await asyncio.sleep(2)
        during, so_far = await state(server), sent
        assert (during["memory"] - before["memory"]) / len(wires) < MAX_SLOW
        await asyncio.sleep(0.5)
        assert sent == so_far < 8 * (16 << 20)  # it stands still
        for wire in wires:
            wire.writer.transport.abort()
        after = await closed(server)
        assert_nothing_is_left(before, after)


async def test_pings_do_not_fill_the_memory_for_a_client_that_does_not_read(server):
    async with serve(waits) as up:
        before = await closed(server)
        wire = await opened(server, up.port)
        for _ in range(400):
            wire.writer.write(frame(9, bytes(125)) * 1000)
        await asyncio.sleep(2)
        assert (await state(server))["memory"] - before["memory"] < MAX_SLOW
        wire.writer.transport.abort()
        await closed(server)
