"""Late heads: a plain Tornado server whose connections are watched, and clients that take their time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from jupyter_portproxy.admission import Admissions
from jupyter_portproxy.front import Front
from jupyter_portproxy.gateway import PortProxy
from jupyter_portproxy.heads import Heads

from .clients import Wire

TIMEOUT = 0.6
ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Slow(RequestHandler):
    async def get(self) -> None:
        await asyncio.sleep(float(self.get_query_argument("wait", "0")))
        self.write("here")

    def post(self) -> None:
        self.write(str(len(self.request.body)))


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[tuple[int, Heads]]:
    """A server's port, and what watches its connections."""
    application = Application([("/", Slow)])
    server, front = HTTPServer(application), Front(application, PortProxy(head_timeout=TIMEOUT), Admissions())
    front.mount(server, asyncio.get_running_loop())
    sock, port = bind_unused_port()
    server.add_socket(sock)
    assert front.heads is not None
    yield port, front.heads
    front.stop()
    server.stop()
    await server.close_all_connections()


async def test_each_connection_is_closed_when_its_own_time_is_over():
    async with served() as (port, _), contextlib.AsyncExitStack() as stack:
        ends = []
        for pause in (0.0, 0.2, 0.2):
            await asyncio.sleep(pause)
            wire = await stack.enter_async_context(await Wire.open(port))
            begun = time.monotonic()

            async def lasted(wire: Wire = wire, begun: float = begun) -> float:
                assert await wire.closed()
                return time.monotonic() - begun

            ends.append(asyncio.ensure_future(lasted()))
        assert [TIMEOUT - 0.05 < seconds < TIMEOUT + 0.4 for seconds in await asyncio.gather(*ends)] == [True] * 3


async def test_a_part_of_a_head_gives_no_more_time():
    async with served() as (port, _), await Wire.open(port) as wire:
        begun = time.monotonic()
        await wire.send(ASK[:10])
        await asyncio.sleep(TIMEOUT / 2)
        await wire.send(ASK[10:-2])
        assert await wire.closed()
        assert time.monotonic() - begun < TIMEOUT + 0.4


async def test_a_connection_that_goes_on_asking_stays_and_is_closed_when_it_stops():
    async with served() as (port, _), await Wire.open(port) as wire:
        for _ in range(5):
            await wire.send(ASK)
            assert (await wire.answer()).text == "here"
            await asyncio.sleep(TIMEOUT / 2)
        begun = time.monotonic()
        assert await wire.closed()
        assert time.monotonic() - begun < TIMEOUT + 0.2


async def test_a_slow_answer_or_upload_is_no_late_head():
    async with served() as (port, _), await Wire.open(port) as reading, await Wire.open(port) as sending:
        await reading.send(ASK.replace(b"/ ", b"/?wait=1.5 "))
        await sending.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
        await asyncio.sleep(2 * TIMEOUT)
        await sending.send(b"b")
        assert (await sending.answer()).text == "2"
        assert (await reading.answer()).text == "here"


async def test_who_has_gone_is_forgotten():
    async with served() as (port, heads):
        for _ in range(20):
            async with await Wire.open(port):
                pass
        assert len(heads._owed) <= 20
        await asyncio.sleep(TIMEOUT + 0.3)
        assert heads._owed == {} and heads._timer is None
