"""The file of a running server is locked, damaged, deleted, replaced or full: a 503 at worst, and nothing of another project."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time

import pytest

from jupyter_portproxy.errors import NotPlaced, RegistryAway, UnknownProject
from jupyter_portproxy.projects.model import ANY_PROJECT
from jupyter_portproxy.projects.placement.admin import PlacementAdmin, PlacementsUnavailable
from jupyter_portproxy.projects.placement.lookup import Placement, PlacementOptions

from ...support.placements import is_kind, make_file, refused, until
from ...support.waiting import eventually

SHORT = PlacementOptions(timeout=0.5, serve_stale=2)


@pytest.fixture
def database(tmp_path, jp_asyncio_loop):
    return jp_asyncio_loop.run_until_complete(make_file(tmp_path / "projects.sqlite"))


@pytest.fixture
def admin(database, jp_asyncio_loop):
    admin = PlacementAdmin(database.dsn)
    yield admin
    jp_asyncio_loop.run_until_complete(admin.close())


@pytest.fixture
def serve(database, admin, jp_asyncio_loop):
    """Starts what a server has; there is the project p1 of ann."""
    made = []

    async def build(options=None) -> Placement:
        if not made:
            await admin.place("p1", "local", owner="ann", name="demo")
        made.append(Placement(database.dsn, options))
        await made[-1].start()
        assert (await made[-1].resolve("p1", "ann")).is_local
        return made[-1]

    yield build
    for each in made:
        jp_asyncio_loop.run_until_complete(each.close())


async def test_a_locked_file_delays_writers_and_no_look_up(serve, database, admin):
    placement = await serve(SHORT)
    await admin.close()
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("begin exclusive")
    await refused(placement, UnknownProject, "p9")
    begun = time.monotonic()
    with pytest.raises(PlacementsUnavailable) as caught:
        await PlacementAdmin(database.dsn, timeout=1).place("p2", "local", owner="ann")
    assert caught.value.reason == f"The file {database.path} is locked by another program."
    assert 0.5 < time.monotonic() - begun < 2
    other.execute("rollback")
    other.close()


async def test_a_damaged_file_is_said_once_and_known_projects_are_served_for_a_while(serve, database, admin, caplog):
    placement = await serve(SHORT)
    await admin.close()
    good = database.path.read_bytes()
    copy = database.path.with_name("copy")
    copy.write_bytes(b"garbage" * 10_000)
    os.replace(copy, database.path)
    await eventually(lambda: not placement.available)
    assert (await placement.resolve("p1", "ann")).role == "owner"
    assert (await refused(placement, RegistryAway, "p9")).status == 503
    await until(placement, is_kind(RegistryAway), seconds=4)
    lines = [line for line in caplog.messages if "file is not a database" in line]
    assert len(lines) == 2, "of the file, and of what is read in it"
    with pytest.raises(PlacementsUnavailable) as caught:
        await admin.list()
    assert caught.value.reason == f"The file {database.path} cannot be used: file is not a database."
    copy.write_bytes(good)
    os.replace(copy, database.path)
    await until(placement, lambda found: not isinstance(found, RegistryAway), seconds=2)


async def test_a_deleted_file_and_its_successor(serve, database, admin):
    placement, changed = await serve(), []
    placement.subscribe(changed.append)
    await admin.close()
    database.path.unlink()
    await eventually(lambda: not placement.available, 1)
    await refused(placement, RegistryAway, "p9")
    await refused(placement, RegistryAway, "p1", "stranger")  # it does not show that the project exists
    with pytest.raises(PlacementsUnavailable) as caught:
        await admin.list()
    assert caught.value.reason.startswith("The database has no tables of placements yet.\n")
    assert not database.path.exists(), "nothing but init makes it"
    await admin.init()
    await eventually(lambda: changed == [ANY_PROJECT], 2)
    await refused(placement, UnknownProject, "p1", "ann")
    await admin.place("p1", None, owner="eve")
    await until(placement, is_kind(NotPlaced), seconds=1)
    await refused(placement, UnknownProject, "p1", "ann")


async def test_a_replaced_file_is_noticed_and_nothing_of_the_old_one_is_served(serve, database, admin, tmp_path):
    placement, changed = await serve(), []
    assert await placement.find("ann", "demo", "ann") == "p1"
    placement.subscribe(changed.append)
    other = await make_file(tmp_path / "other.sqlite")
    theirs = PlacementAdmin(other.dsn)
    for number in range(20):  # as many changes as the first file has, and more
        await theirs.place(f"x{number}", "local", owner="eve")
    await theirs.place("p1", "local", owner="eve", name="theirs", allowed_ports=[15000])
    await theirs.close()
    begun = time.monotonic()
    os.replace(other.path, database.path)
    await eventually(lambda: changed == [ANY_PROJECT], 2)
    assert time.monotonic() - begun < 1
    await refused(placement, UnknownProject, "p1", "ann")
    target = await placement.resolve("p1", "eve")
    assert target.allows(15000) and not target.allows(15001)
    with pytest.raises(UnknownProject):
        await placement.find("ann", "demo", "ann")
    await admin.add_member("p1", "bob")
    assert (await admin.find("p1")).owner == "eve"


async def test_two_servers_on_one_file_see_each_others_changes(serve, admin, database):
    one, two = await serve(), await serve()
    theirs = PlacementAdmin(database.dsn)  # each server has its own
    for number, writer in enumerate([admin, theirs] * 5):
        await asyncio.gather(
            admin.add_member("p1", f"a{number}"), theirs.add_member("p1", f"b{number}"), writer.add_member("p1", "bob")
        )
        await until_role(one, "bob", "member")
        await until_role(two, "bob", "member")
        begun = time.monotonic()
        await writer.remove_member("p1", "bob")
        for placement in (one, two):
            await until_role(placement, "bob", None)
        assert time.monotonic() - begun < 1
    assert len((await admin.find("p1")).members) == 20, "nothing is lost"
    await theirs.close()


async def until_role(placement, user, role, seconds=2.0) -> None:
    end, found = time.monotonic() + seconds, object()
    while found != role:
        assert time.monotonic() < end, found
        try:
            found = (await placement.resolve("p1", user)).role
        except UnknownProject:
            found = None
        await asyncio.sleep(0.01)


FILL = """
import asyncio, resource, sys
from jupyter_portproxy.projects.placement.admin import PlacementAdmin, PlacementsUnavailable

async def fill():
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    admin = PlacementAdmin(sys.argv[1])
    for number in range(10_000):
        try:
            await admin.place(f"q{number}", "local", owner="ann", name="n" * 250)
        except PlacementsUnavailable as error:
            print(number, error.reason)
            break
    await asyncio.sleep(0.3)
    print(len(await admin.list()))

asyncio.run(fill())
"""


async def test_a_full_disk_loses_nothing(serve, database, admin):
    """The files of the process that writes may have 400 kB."""
    placement = await serve()
    command = [sys.executable, "-c", FILL, database.dsn]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    first_line, listed = done.stdout.splitlines()
    number, _, reason = first_line.partition(" ")
    assert reason == f"The file {database.path} cannot be used: disk I/O error."
    assert int(listed) == int(number) + 1 == len(await admin.list())
    await admin.place("later", "local", owner="ann")
    await until(placement, lambda found: not isinstance(found, UnknownProject), "later", seconds=1)
    assert [row[0] for row in await database.sql("pragma integrity_check")] == ["ok"]


@pytest.mark.parametrize("number", [0, 99])
async def test_tables_of_another_version(serve, database, admin, number):
    await serve()
    await database.sql("update placement_migrations set number = $1", number)
    fresh = PlacementAdmin(database.dsn)
    with pytest.raises(PlacementsUnavailable) as caught:
        await fresh.list()
    sentence = "are of an earlier version" if number == 0 else "A newer version of jupyter_portproxy has made these tables."
    assert sentence in caught.value.reason
    await fresh.close()
