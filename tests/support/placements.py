"""The two databases of placements for tests that run on both, and what such tests ask of a look-up."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from jupyter_portproxy.errors import HostDown, NotPlaced, RegistryAway, UnknownProject
from jupyter_portproxy.projects.model import NextHop
from jupyter_portproxy.projects.placement import sqlite_schema
from jupyter_portproxy.projects.placement.admin import PlacementAdmin
from jupyter_portproxy.projects.placement.lookup import Placement, PlacementOptions

from .postgres import Server, make_database

ONE, TWO = "http://10.0.0.1:8001", "https://two.example:8002"
QUICK = PlacementOptions(poll=0.1, timeout=0.5, heartbeat=60)


class SqliteDatabase:
    """A file of a test's own, and connections to it as another program has them. `support.postgres.Database` is the other."""

    schema = sqlite_schema

    def __init__(self, path: Path) -> None:
        self.path, self.dsn = path, f"sqlite:///{path}"

    async def sql(self, statement: str, *arguments: object) -> list[Any]:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=5)
        connection.row_factory = sqlite3.Row
        connection.execute("pragma foreign_keys = on")
        try:
            return connection.execute(statement, {str(n): value for n, value in enumerate(arguments, 1)}).fetchall()
        finally:
            connection.close()


@pytest.fixture(params=["postgres", "sqlite"])
def empty_placements(request, tmp_path, jp_asyncio_loop):
    """A database without tables, of either kind."""
    if request.param == "sqlite":
        return SqliteDatabase(tmp_path / "run" / "projects.sqlite")
    server: Server = request.getfixturevalue("postgres_server")
    return jp_asyncio_loop.run_until_complete(make_database(server, "template1"))


@pytest.fixture(params=["postgres", "sqlite"])
def placements(request, tmp_path, jp_asyncio_loop):
    """A database with the tables of placements, of either kind."""
    if request.param == "sqlite":
        return jp_asyncio_loop.run_until_complete(make_file(tmp_path / "projects.sqlite"))
    return request.getfixturevalue("database")


@pytest.fixture(scope="module", params=["postgres", "sqlite"])
def shared_placements(request, tmp_path_factory):
    """The same for all tests of a file: for those that change nothing."""
    if request.param == "sqlite":
        return asyncio.run(make_file(tmp_path_factory.mktemp("placements") / "projects.sqlite"))
    return request.getfixturevalue("shared_database")


async def make_file(path: Path) -> SqliteDatabase:
    """A file with the tables."""
    database = SqliteDatabase(path)
    admin = PlacementAdmin(database.dsn)
    await admin.init()
    await admin.close()
    return database


@pytest.fixture
def admin(placements, jp_asyncio_loop):
    made = PlacementAdmin(placements.dsn)
    yield made
    jp_asyncio_loop.run_until_complete(made.close())


@pytest.fixture
def make(placements, admin, jp_asyncio_loop):
    """Starts a placement as a server has it; there are two hosts and the project p1 on the first."""
    made = []

    async def build(options: PlacementOptions = QUICK) -> Placement:
        for host_id, url in (("h1", ONE), ("h2", TWO)):
            await admin.set_host(host_id, url, f"credential-{host_id}")
            await admin.heartbeat(host_id)
        await admin.place("p1", "h1", owner="ann", allowed_ports=["6000-6010"])
        await admin.add_member("p1", "bob", "viewer")
        made.append(Placement(placements.dsn, options, allows_public=True))
        await made[-1].start()
        return made[-1]

    yield build
    for each in made:
        jp_asyncio_loop.run_until_complete(each.close())


async def refused(placement, kind, key="p1", asker=None):
    with pytest.raises(kind) as caught:
        await placement.resolve(key, asker)
    assert caught.value.hop == "hub"
    return caught.value


async def until(placement, check, key="p1", seconds=5.0) -> float:
    """Resolve until the check is true of the target or of the error; how long it took."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        try:
            found = await placement.resolve(key, None)
        except (UnknownProject, NotPlaced, HostDown, RegistryAway) as error:
            found = error
        if check(found):
            return time.monotonic() - begun
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {seconds} s; at last: {found!r}")


def is_at(host):
    return lambda found: isinstance(found, NextHop) and found.host == host


def is_kind(kind):
    return lambda found: isinstance(found, kind)


async def until_found(placement, name, key, seconds=1.5):
    """Ask for ann's project of that name until it is the one with the key, or nobody's."""
    found, end = object(), time.monotonic() + seconds
    while found != key:
        assert time.monotonic() < end, found
        try:
            found = await placement.find("ann", name, None)
        except UnknownProject:
            found = None
        await asyncio.sleep(0.01)
