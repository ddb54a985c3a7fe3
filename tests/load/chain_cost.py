"""The cost of a hop of the chain, beside a single gateway: CPU of a 1 KiB GET through each hop, with 100,000 projects.

    python -m tests.load.chain_cost

Each server is loaded by itself, by the same clients and with the same service behind it, as if it had a machine of its own: with
five servers on two cores, the cost of the frequent wake-ups cannot be separated from a server's own work. The time of the whole
chain is printed beside it.

Each round measures all servers in turn, and the cheapest round counts: other programs of the machine only add to the cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from jupyter_portproxy.projects.placement.admin import PlacementAdmin
from jupyter_portproxy.protocol.forwarded import ForwardedClient
from jupyter_portproxy.protocol.hop_header import HopHeader

from ..projects.test_chain import CREDENTIAL, KEY, PORTS, SECRET, Hops, folder, place, port_of, three_servers
from ..support.jupyter_processes import Server, jupyter_server
from ..support.postgres import Database, make_database
from ..support.postgres import Server as Postgres
from ..support.project_sites import NAMED_USERS, ROOT
from ..support.upstreams import free_port
from .cpu_load import Lean

PROJECTS, ROUNDS, TRIES, REQUESTS, CONNECTIONS = 100_000, 6, 4, 800, 8
BY_NAME = "Authorization: token user-ann"
CLIENT = ForwardedClient("http", "127.0.0.1:8888", ("127.0.0.1",))
# What each hop sends to the next, to the letter.
BY_HUB = [
    ": ".join(HopHeader(CREDENTIAL, "ann", may_start=True).to_field(CLIENT)),
    "Via: 1.1 portproxy-01234567",
]
BY_HOST = [
    ": ".join(HopHeader().to_field(CLIENT.with_peer("127.0.0.1"))),
    "Via: 1.1 portproxy-01234567, 1.1 portproxy-76543210",
    f"Authorization: token {SECRET}",
]


@dataclass
class Driven:
    """A server and the request that it gets; `prepare` puts the service where its next hop would be.

    Attributes:
        us: of CPU for a request, the least.
        waited: microseconds until an answer is there, the least of medians.
    """

    name: str
    server: Server
    request: bytes
    prepare: Callable[[], Awaitable[None]]
    us: float = float("inf")
    waited: float = float("inf")


async def main(hops: Hops, alone: Server, database: Database) -> None:
    await database.sql("insert into project_hosts (host_id, internal_url, credential) values ('h', 'http://127.0.0.1:1', 'c')")
    await database.sql(
        f"insert into projects (project_id, owner, host_id) select 'n' || n, 'ann', 'h' from generate_series(1, {PROJECTS}) n"
    )
    admin = PlacementAdmin(hops.dsn)
    with contextlib.closing(Lean(free_port())) as service:
        path = f"/{KEY}/port/{service.port}/"
        whole = _whole_chain(hops, admin)
        await whole()
        rows = [
            Driven("one gateway", hops.container, _request(path, hops.container, [f"Authorization: token {SECRET}"]), whole),
            Driven("one gateway, the hub's login", alone, _request(f"/proxy/port/{service.port}/", alone, [BY_NAME]), whole),
            Driven("container", hops.container, _request(path, hops.container, BY_HOST), whole),
            Driven("project host", hops.host, _request(path, hops.host, BY_HUB), _host_to(hops, service.port)),
            Driven("hub", hops.hub, _request(path, hops.hub, [BY_NAME]), _hub_to(admin, service.port)),
        ]
        for _ in range(ROUNDS):
            for row in rows:
                await row.prepare()
                _load(service, row, REQUESTS // 4)
                for _ in range(TRIES):
                    before = _cpu(row.server)
                    _load(service, row, REQUESTS)
                    row.us = min(row.us, (_cpu(row.server) - before) / REQUESTS * 1e6)
                row.waited = min(row.waited, _waited(service, row))
        for row in rows:
            ratios = f"{row.us / rows[0].us:.2f} and {row.waited / rows[0].waited:.2f} of one gateway's"
            print(f"{row.name}: {row.us:.0f} us of CPU for a GET, {row.waited:.0f} us on one connection; {ratios}")
        for row in (*rows[:2], rows[-1]):
            cpu, wait = sum(hop.us for hop in rows[2:]) / row.us, sum(hop.waited for hop in rows[2:]) / row.waited
            print(f"three hops: {cpu:.2f} times {row.name}, by time on one connection {wait:.2f} times")
        await whole()
        three = min(_waited(service, rows[-1]) for _ in range(ROUNDS))
        print(f"all five servers on this machine at once: {three:.0f} us on one connection, {three / rows[0].waited:.2f} times")
    await admin.close()


def _whole_chain(hops: Hops, admin: PlacementAdmin) -> Callable[[], Awaitable[None]]:
    async def prepare() -> None:
        hops.registry.register(KEY, port_of(hops.container), SECRET, hops.container.process.pid)
        await place(admin, hops.host)
        await asyncio.sleep(1.2)  # the hub has heard

    return prepare


def _host_to(hops: Hops, port: int) -> Callable[[], Awaitable[None]]:
    async def prepare() -> None:
        hops.registry.register(KEY, port, SECRET, hops.container.process.pid)

    return prepare


def _hub_to(admin: PlacementAdmin, port: int) -> Callable[[], Awaitable[None]]:
    async def prepare() -> None:
        await admin.set_host("one", f"http://127.0.0.1:{port}", CREDENTIAL)
        await asyncio.sleep(1.2)

    return prepare


def _request(path: str, server: Server, fields: list[str]) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port_of(server)}", *fields, "", ""]).encode()


def _load(service: Lean, row: Driven, total: int, connections: int = CONNECTIONS) -> list[float]:
    return service.load(port_of(row.server), row.request, total, connections)


def _waited(service: Lean, row: Driven) -> float:
    """Microseconds until the answer is there, on one connection."""
    return statistics.median(_load(service, row, REQUESTS, 1)) * 1e6


def _cpu(server: Server) -> float:
    """Seconds. The scheduler counts nanoseconds (Linux), everybody else in hundredths of a second."""
    tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


if __name__ == "__main__":
    postgres = Postgres()
    try:
        database = asyncio.run(make_database(postgres))
        with (
            tempfile.TemporaryDirectory() as home,
            three_servers(database, Path(home)) as hops,
            jupyter_server(folder(Path(home) / "alone"), *PORTS, NAMED_USERS, more={"PYTHONPATH": ROOT}) as alone,
        ):
            asyncio.run(main(hops, alone, database))
    finally:
        postgres.remove()
