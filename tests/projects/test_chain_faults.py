"""Everything that can fail in a chain, in turn: what is known is served on, nothing hangs, and all is well again afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

import asyncpg
import pytest

from jupyter_portproxy.errors import RegistryAway
from jupyter_portproxy.protocol.credentials import SECRET_VARIABLE

from ..support.jupyter_processes import Server, jupyter_server
from ..support.postgres import Database, make_database
from ..support.raw_clients import Wire
from ..support.slow_relay import Relay, relay
from .test_chain import CONTAINER, CREDENTIAL, KEY, PORTS, SECRET, Hops, echo, folder, placed, port_of, streaming, three_servers

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="the host's registry needs POSIX processes"),
]
SOON = 2.0  # seconds for what is known
PATIENCE = 5.0  # seconds, the connect timeout: for whatever is not
KEYS = (f"new-{number}" for number in itertools.count())
STATUS = f"/{KEY}/api/status"


@dataclass
class Chain:
    """A chain with a running project of ann's, its database, and the hub's way there."""

    hops: Hops
    database: Database
    relay: Relay

    async def ask(self, path: str) -> tuple[int, str]:
        """Status and first line; it took no longer than is allowed."""
        begun = time.monotonic()
        answer = await self.hops.ask(path)
        assert time.monotonic() - begun < (SOON if path == STATUS else PATIENCE), answer
        return answer.status, answer.text.splitlines()[0]

    async def new(self) -> str:
        """The URL of a project that was not looked up yet: once the hub knows it, it is the host that knows no such project."""
        key = next(KEYS)
        await self.hops.admin.place(key, "one", owner="ann")
        await asyncio.sleep(0.2)  # until the hub has seen this, and what was changed before
        assert (await self.ask(STATUS))[0] == 200  # from now on known
        return f"/{key}/x"

    async def is_well(self) -> None:
        """Within some seconds all is as it was, for what is known and for what is new."""
        end = time.monotonic() + 10
        while True:
            with contextlib.suppress(RegistryAway):
                new = await self.new()
                if (await self.ask(new))[1].startswith("The project host has no project"):
                    break
            assert time.monotonic() < end
            await asyncio.sleep(0.1)

    async def serves_on(self, unknown: str, seconds: float = 1.0) -> None:
        """What is known, while what is not gets 503 from the hub."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert (await self.ask(STATUS))[0] == 200
            assert await self.ask(unknown) == AWAY


AWAY = (503, "The hub cannot look up projects just now.")


@pytest.fixture(scope="module")
def servers(postgres_server, tmp_path_factory):
    database = asyncio.run(make_database(postgres_server))
    with relay(postgres_server.port) as way:
        dsn = database.dsn.replace(f":{postgres_server.port}/", f":{way.port}/")
        with three_servers(database, tmp_path_factory.mktemp("faults"), dsn) as hops:
            yield Chain(hops, database, way)


@pytest.fixture
def chain(servers, jp_asyncio_loop):
    for _ in placed(servers.hops, jp_asyncio_loop):
        yield servers


# ---- Postgres ----


async def test_postgres_is_restarted(chain: Chain):
    new = await chain.new()
    chain.database.server.stop()
    try:
        async with echo() as port, chain.hops.socket(f"/{KEY}/port/{port}/ws") as tunnel:
            await until_away(chain, new)
            await chain.serves_on(new)
            await tunnel.send("still here")
            assert await asyncio.wait_for(tunnel.recv(), 5) == "still here"
            chain.database.server.start()
            await chain.is_well()
            await tunnel.send("and now")
            assert await asyncio.wait_for(tunnel.recv(), 5) == "and now"
    finally:
        if chain.database.server._process is None:
            chain.database.server.start()


async def test_postgres_ends_all_connections(chain: Chain):
    for _ in range(5):
        new = await chain.new()
        await chain.database.end_connections()
        assert (await chain.ask(STATUS))[0] == 200
        assert (await chain.ask(new))[0] in (404, 503)
    await chain.is_well()


async def test_postgres_is_read_only(chain: Chain):
    new = await chain.new()
    read_only = "alter database {} set default_transaction_read_only = {}"
    await chain.database.sql(read_only.format(chain.database.name, "on"))
    await chain.database.end_connections()
    await eventually_is(chain, new, 404)  # reading is all that a hub does
    assert (await chain.ask(STATUS))[0] == 200
    for _ in range(2):  # the first one meets the end of its connection
        with pytest.raises(RegistryAway):
            await chain.hops.admin.move(KEY, "one")
    writer = await asyncpg.connect(chain.database.dsn, server_settings={"default_transaction_read_only": "off"})
    await writer.execute(read_only.format(chain.database.name, "off"))
    await writer.close()
    await chain.database.end_connections()
    await chain.is_well()


async def test_postgres_takes_five_seconds(chain: Chain):
    new = await chain.new()
    chain.relay.delay = 5.0
    try:
        assert await chain.ask(new) == AWAY
        await chain.serves_on(new, 4)
    finally:
        chain.relay.delay = 0.0
    await chain.is_well()


async def test_postgres_hangs(chain: Chain):
    new = await chain.new()
    chain.database.server.pause()
    try:
        assert await chain.ask(new) == AWAY
        await chain.serves_on(new, 4)
    finally:
        chain.database.server.resume()
    await chain.is_well()


async def test_a_table_is_locked(chain: Chain):
    new = await chain.new()
    blocker = await asyncpg.connect(chain.database.dsn)
    try:
        async with blocker.transaction():
            await blocker.execute("lock table projects in access exclusive mode")
            assert await chain.ask(new) == AWAY
            assert (await chain.ask(STATUS))[0] == 200
    finally:
        await blocker.close()
    await chain.is_well()


async def until_away(chain: Chain, unknown: str) -> None:
    await eventually_is(chain, unknown, 503)


async def eventually_is(chain: Chain, path: str, status: int) -> None:
    end = time.monotonic() + 5
    while (found := await chain.ask(path))[0] != status:
        assert time.monotonic() < end, found
        await asyncio.sleep(0.05)


# ---- SQLite ----


def registry_file(chain: Chain) -> str:
    return str(chain.hops.registry._file._path)


def beside(path: str) -> list[str]:
    return [found for found in (path, f"{path}-wal", f"{path}-shm") if os.path.exists(found)]


async def test_the_registry_is_locked(chain: Chain):
    other = sqlite3.connect(registry_file(chain), isolation_level=None)
    other.execute("begin exclusive")
    for _ in range(10):
        assert (await chain.ask(STATUS))[0] == 200  # writers do not stop readers
    with pytest.raises(RegistryAway):
        chain.hops.registry.set_state(KEY, "running")
    other.execute("rollback")
    other.close()
    chain.hops.registry.set_state(KEY, "running")
    await chain.is_well()


async def test_the_registry_is_damaged(chain: Chain, tmp_path):
    path = registry_file(chain)
    await chain.hops.registry.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("pragma wal_checkpoint(truncate)")
    shutil.copy(path, tmp_path / "good")
    (tmp_path / "bad").write_bytes(b"SQLite format 3\0" + os.urandom(8192))
    os.replace(tmp_path / "bad", path)
    await eventually_is(chain, STATUS, 503)
    status, message = await chain.ask(STATUS)
    assert (status, message) == (503, "The project host cannot look up projects just now.")
    for leftover in beside(path):
        os.unlink(leftover)
    os.replace(tmp_path / "good", path)
    await eventually_is(chain, STATUS, 200)
    await chain.is_well()


async def test_the_registry_is_deleted_while_it_is_in_use(chain: Chain):
    for path in beside(registry_file(chain)):
        os.unlink(path)
    await eventually_is_none(chain)
    container = chain.hops.container
    chain.hops.registry.register(KEY, port_of(container), SECRET, container.process.pid)
    await eventually_is(chain, STATUS, 200)
    await chain.is_well()


async def eventually_is_none(chain: Chain) -> None:
    """What is deleted is not served from memory."""
    end = time.monotonic() + 5
    while (found := await chain.ask(STATUS))[0] == 200:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    assert found[0] in (404, 503) and "project host" in found[1]


# ---- hops ----


@asynccontextmanager
async def in_use(hops: Hops) -> AsyncIterator[tuple[Wire, object]]:
    """A download without an end and a tunnel, both under way."""
    async with streaming() as upstream, echo() as port, await Wire.open(hops.port) as wire:
        lines = [f"GET /{KEY}/port/{upstream.port}/ HTTP/1.1", f"Host: 127.0.0.1:{hops.port}", "Authorization: token user-ann"]
        await wire.send("\r\n".join([*lines, "", ""]).encode())
        assert (await wire.head()).status == 200
        async with hops.socket(f"/{KEY}/port/{port}/ws") as tunnel:
            await tunnel.send("hello")
            assert await asyncio.wait_for(tunnel.recv(), 5) == "hello"
            yield wire, tunnel


async def is_cut(wire: Wire, tunnel) -> None:
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := await asyncio.wait_for(wire.reader.read(1 << 16), 5):
            received = (received + data)[-10:]
    assert not received.endswith(b"0\r\n\r\n"), "a cut, not an end"
    await asyncio.wait_for(tunnel.wait_closed(), 5)
    assert tunnel.close_code in (1006, 1012), "not a clean end"


def kill(server: Server) -> None:
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()


async def test_each_hop_is_killed_in_turn(chain: Chain, tmp_path):
    """The last one first, and each but the hub is started again before the next one's turn."""
    hops = chain.hops
    with ExitStack() as stack:
        async with in_use(hops) as (wire, tunnel):
            kill(hops.container)
            await is_cut(wire, tunnel)
        assert await chain.ask(STATUS) == (503, "The project host reports that this project is stopped.")
        secret = {SECRET_VARIABLE: SECRET}
        container = jupyter_server(folder(tmp_path / "home"), *PORTS, *CONTAINER, base=f"/{KEY}/", more=secret)
        hops.container = stack.enter_context(container)
        hops.registry.register(KEY, port_of(hops.container), SECRET, hops.container.process.pid)
        await eventually_is(chain, STATUS, 200)

        async with in_use(hops) as (wire, tunnel):
            kill(hops.host)
            await is_cut(wire, tunnel)
        assert await chain.ask(STATUS) == (502, "The hub cannot reach the host of this project.")
        host = jupyter_server(
            folder(tmp_path / "host"), *PORTS, f"--PortProxy.registry_path={registry_file(chain)}",
            f"--PortProxy.hop_credentials={CREDENTIAL}", "--PortProxy.project_resolver=registry",
        )  # fmt: skip
        hops.host = stack.enter_context(host)
        await hops.admin.set_host("one", hops.host.url.rstrip("/"), CREDENTIAL)
        await hops.admin.heartbeat("one")
        await eventually_is(chain, STATUS, 200)

        async with in_use(hops) as (wire, tunnel):
            kill(hops.hub)
            await is_cut(wire, tunnel)
        with pytest.raises(ConnectionRefusedError):
            await hops.ask(STATUS)
