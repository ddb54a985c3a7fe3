"""Late heads: a plain Tornado server whose connections are watched, and clients that take their time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from jupyter_portproxy.handlers.header_timeout import HeaderTimeout

from ..support.raw_clients import Wire
from ..support.waiting import eventually

TIMEOUT = 0.6
ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Slow(RequestHandler):
    async def get(self) -> None:
        await asyncio.sleep(float(self.get_query_argument("wait", "0")))
        self.write("here")

    def post(self) -> None:
        self.write(str(len(self.request.body)))


@contextlib.asynccontextmanager
async def served(idle: float = 60) -> AsyncIterator[tuple[int, HeaderTimeout]]:
    """A server's port, and what watches its connections."""
    application = Application([("/", Slow)])
    server = HTTPServer(application, idle_connection_timeout=idle)
    header_timeout = HeaderTimeout(application, TIMEOUT)
    header_timeout.mount(server)
    sock, port = bind_unused_port()
    server.add_socket(sock)
    yield port, header_timeout
    header_timeout.stop()
    server.stop()
    await server.close_all_connections()


async def lasted(wire: Wire, begun: float) -> float:
    assert await asyncio.wait_for(wire.closed(), 10)
    return time.monotonic() - begun


async def test_each_head_has_its_own_time():
    async with served() as (port, _), contextlib.AsyncExitStack() as stack:
        ends = []
        for pause in (0.0, 0.2, 0.2):
            await asyncio.sleep(pause)
            wire = await stack.enter_async_context(await Wire.open(port))
            await wire.send(ASK[:10])
            ends.append(asyncio.ensure_future(lasted(wire, time.monotonic())))
        assert [TIMEOUT - 0.05 < seconds < TIMEOUT + 0.4 for seconds in await asyncio.gather(*ends)] == [True] * 3


async def test_a_part_of_a_head_gives_no_more_time():
    async with served() as (port, _), await Wire.open(port) as wire:
        begun = time.monotonic()
        await wire.send(ASK[:10])
        await asyncio.sleep(TIMEOUT / 2)
        await wire.send(ASK[10:-2])
        assert await lasted(wire, begun) < TIMEOUT + 0.4


async def test_an_idle_connection_is_no_late_head():
    """Load balancers keep connections for minutes, and send a request whenever there is one."""
    async with served() as (port, _), await Wire.open(port) as wire:
        for _ in range(3):
            await asyncio.sleep(2 * TIMEOUT)
            await wire.send(ASK)
            assert (await wire.answer()).text == "here"
        await asyncio.sleep(2 * TIMEOUT)
        begun = time.monotonic()
        await wire.send(ASK[:10])
        assert TIMEOUT - 0.05 < await lasted(wire, begun) < TIMEOUT + 0.4


async def test_the_beginning_of_the_next_head_behind_a_request_counts():
    async with served() as (port, _), await Wire.open(port) as wire:
        await wire.send(ASK + ASK[:10])
        assert (await wire.answer()).text == "here"
        assert await lasted(wire, time.monotonic()) < TIMEOUT + 0.4


@pytest.mark.parametrize("first_request", [b"", ASK])
async def test_an_idle_connection_is_closed_by_the_servers_own_limit(first_request):
    async with served(idle=1.5) as (port, _), await Wire.open(port) as wire:
        begun = time.monotonic()
        await wire.send(first_request)
        assert first_request == b"" or (await wire.answer()).text == "here"
        assert 1.45 < await lasted(wire, begun) < 2.2


async def test_a_slow_answer_or_upload_is_no_late_head():
    async with served() as (port, _), await Wire.open(port) as reading, await Wire.open(port) as sending:
        await reading.send(ASK.replace(b"/ ", b"/?wait=1.5 "))
        await sending.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
        await asyncio.sleep(2 * TIMEOUT)
        await sending.send(b"b")
        assert (await sending.answer()).text == "2"
        assert (await reading.answer()).text == "here"


async def test_who_has_gone_is_forgotten():
    async with served() as (port, header_timeout):
        for _ in range(20):
            async with await Wire.open(port):
                pass
        assert len(header_timeout) <= 20
        await eventually(lambda: len(header_timeout) == 0 and not header_timeout.is_running)
