"""What a GET through a project of this machine costs: CPU of the server, against `proxy/port/N/` in the same run.

`python -m tests.load.project_cost`: one server with 10,000 projects of 1,000 members in its file, a minute on two cores. It also
prints when a change is visible, and how long the first request for a project takes. Linux only.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from jupyter_portproxy.projects.model import LOCAL_HOST
from jupyter_portproxy.projects.placement.admin import PlacementAdmin

from ..support.jupyter_processes import Server
from ..support.project_sites import LocalSite, local_site
from ..support.upstreams import free_port
from .cpu_load import Lean

PROJECTS, MEMBERS, EACH = 10_000, 1_000, 5
ROUNDS, REQUESTS, CONNECTIONS, CHANGES = 16, 800, 8, 20


def fill(site: LocalSite) -> None:
    """Projects n1 ... of user1 ..., each with five members."""
    with contextlib.closing(sqlite3.connect(site.file)) as connection, connection:
        projects = [(f"n{n}", f"user{n % MEMBERS}", f"project{n}") for n in range(PROJECTS)]
        connection.executemany("insert into projects (project_id, owner, name, host_id) values (?, ?, ?, 'local')", projects)
        members = [(f"n{n}", f"user{(n * 7 + m) % MEMBERS}", "member") for n in range(PROJECTS) for m in range(1, EACH + 1)]
        connection.executemany("insert or ignore into project_members (project_id, username, role) values (?, ?, ?)", members)


def cpu(server: Server) -> float:
    """Seconds, exact to a nanosecond."""
    tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def measure(site: LocalSite) -> None:
    with contextlib.closing(Lean(free_port())) as service:
        n = service.port
        paths = {
            "proxy/port/N/": f"/proxy/port/{n}/",
            "KEY/port/N/": f"/p1/port/{n}/",
            "KEY/server/N/": f"/p1/server/{n}/",
            "USER/PROJECT/?port=N": f"/ann/proj/?port={n}",
        }
        cost: dict[str, list[float]] = {name: [] for name in paths}
        for number in range(ROUNDS + 2):
            for name, path in paths.items():
                head = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{site.port}", "Authorization: token user-ann", "", ""]
                before = cpu(site.server)
                service.load(site.port, "\r\n".join(head).encode(), REQUESTS, CONNECTIONS)
                if number >= 2:
                    cost[name].append((cpu(site.server) - before) / REQUESTS * 1e6)
    base = cost["proxy/port/N/"]
    for name, values in cost.items():
        ratios = statistics.median(one / other for one, other in zip(values, base, strict=True))
        least = f"{min(values):.0f} us of CPU for a GET, {min(values) / min(base):.2f} times"
        print(f"{name}: {least}; median of rounds {ratios:.2f} times")


async def changes(site: LocalSite) -> None:
    admin = PlacementAdmin(site.dsn)
    path, times = f"/p1/port/{free_port()}/", []
    for number in range(CHANGES):
        await (admin.remove_member("p1", "bob") if number % 2 else admin.add_member("p1", "bob"))
        begun, status = time.monotonic(), 404 if number % 2 else 502
        while (await site.ask(path, "bob")).status != status:  # noqa: ASYNC110 (a server in another process)
            await asyncio.sleep(0.005)
        times.append(time.monotonic() - begun)
    print(f"a change is visible after {statistics.median(times) * 1000:.0f} ms, {max(times) * 1000:.0f} at most")
    first = []
    for number in range(200):
        begun = time.perf_counter()
        assert (await site.ask(f"/n{number}/port/15000/", f"user{number}")).status == 502
        first.append(time.perf_counter() - begun)
    await admin.close()
    print(f"the first request for a project takes {statistics.median(first) * 1000:.1f} ms with a connection of its own")


if __name__ == "__main__":
    login = "--ServerApp.identity_provider_class=tests.support.identity_providers.NamedTokens"
    with tempfile.TemporaryDirectory() as home, local_site(Path(home), login) as site:
        fill(site)

        async def place() -> None:
            admin = PlacementAdmin(site.dsn)
            await admin.place("p1", LOCAL_HOST, owner="ann", name="proj")
            await site.until(f"/p1/port/{free_port()}/", 502)
            await admin.close()

        asyncio.run(place())
        measure(site)
        asyncio.run(changes(site))
