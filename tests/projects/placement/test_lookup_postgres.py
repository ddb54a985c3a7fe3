"""A hub finds projects in Postgres as well as can be when the database is in trouble. `test_lookup` has what both stores do."""

from __future__ import annotations

import asyncio
import contextlib
import time

import asyncpg
import pytest

from jupyter_portproxy.errors import HostDown, RegistryAway, UnknownProject
from jupyter_portproxy.projects.model import ANY_PROJECT
from jupyter_portproxy.projects.placement import postgres_schema as schema
from jupyter_portproxy.projects.placement.lookup import Placement, PlacementOptions

from ...support.cpu_time import slowness
from ...support.placements import ONE, QUICK, is_at, is_kind, refused, until, until_found
from ...support.waiting import eventually


@pytest.fixture
def placements(database):
    return database


async def clock_of(database):
    """What sets the clock of the database's statements."""
    await database.sql("create schema jumped")
    await database.sql("create table jumped.clock (by interval)")
    await database.sql("insert into jumped.clock values ('0')")
    await database.sql(
        "create function jumped.clock_timestamp() returns timestamptz language sql as "
        "'select pg_catalog.clock_timestamp() + by from jumped.clock'"
    )
    await database.sql(f"alter database {database.name} set search_path = jumped, pg_catalog, public")

    async def to(by: str) -> None:
        await database.sql("update jumped.clock set by = $1::text::interval", by)

    return to


@pytest.mark.parametrize("by", ["1 hour", "-1 hour"])
async def test_the_databases_clock_may_jump(make, admin, database, by):
    jump = await clock_of(database)
    placement = await make(PlacementOptions(poll=0.1, heartbeat=0.5))
    await jump(by)
    for _ in range(8):  # a heartbeat comes within that time
        assert await placement.resolve("p1", None), "the host counted as silent"
        await asyncio.sleep(0.1)
    await admin.heartbeat("h1")
    assert await placement.resolve("p1", None)
    await until(placement, is_kind(HostDown), seconds=4)  # in the end silence counts again


async def test_hosts_that_could_give_no_sign_of_life_are_not_taken_for_dead(make, admin, database):
    placement = await make(PlacementOptions(poll=0.1, heartbeat=0.5))
    await admin.set_host("h3", "http://10.0.0.3:80", "c")
    await admin.place("p3", "h3", owner="ann")
    await asyncio.sleep(0.2)
    await database.sql(f"alter database {database.name} set default_transaction_read_only = on")
    await database.end_connections()
    begun = time.monotonic()
    while time.monotonic() - begun < 2.5:
        assert await placement.resolve("p1", None), "nothing can be written"
        await refused(placement, HostDown, "p3")  # it never gave one
        await asyncio.sleep(0.1)
    connection = await asyncpg.connect(database.dsn, server_settings={"default_transaction_read_only": "off"})
    await connection.execute(f"alter database {database.name} set default_transaction_read_only = off")
    await connection.close()
    await database.end_connections()
    assert await placement.resolve("p1", None)
    await until(placement, is_kind(HostDown), seconds=4)


async def test_a_long_outage_is_not_the_hosts_silence(make, admin, database):
    placement = await make(PlacementOptions(poll=0.1, timeout=0.5, heartbeat=0.3))
    await placement.resolve("p1", None)
    database.server.pause()
    await asyncio.sleep(1.5)
    database.server.resume()
    await eventually(lambda: placement.available, 3)
    assert await placement.resolve("p1", None), "its next sign of life may be on the way"
    await until(placement, is_kind(HostDown), seconds=3)


@pytest.mark.parametrize(
    "change",
    [
        "update project_hosts set internal_url = 'http://10.0.0.1:8001/path' where host_id = 'h1'",
        "update project_hosts set internal_url = 'http://u:w@10.0.0.1:80' where host_id = 'h1'",
        "update project_hosts set internal_url = 'gopher://10.0.0.1:80' where host_id = 'h1'",
        "update project_hosts set internal_url = '' where host_id = 'h1'",
        "update project_hosts set internal_url = 'http://169.254.169.254:80' where host_id = 'h1'",
        "update project_hosts set credential = E'c\\r\\nX: y' where host_id = 'h1'",
        "update projects set allowed_ports = '{80-}' where project_id = 'p1'",
        "update projects set allowed_ports = '{NULL}' where project_id = 'p1'",
        "update projects set allowed_ports = '{{1,2},{3,4}}' where project_id = 'p1'",
    ],
)
async def test_a_row_that_makes_no_sense_is_a_fault_of_its_project_alone(make, admin, database, change, caplog):
    placement = await make()
    await admin.place("p2", "h2", owner="ann")
    await database.sql(change)
    await until(placement, is_kind(HostDown), seconds=1)
    error = await refused(placement, HostDown)
    assert error.message == "The hub cannot reach the host of this project."
    assert "cannot be used" in caplog.text
    assert (await placement.resolve("p2", None)).host == "two.example"
    await asyncio.sleep(0.3)
    await refused(placement, HostDown)
    logged = len(caplog.messages)
    for _ in range(20):
        await refused(placement, HostDown)
        await asyncio.sleep(0.02)
    assert len(caplog.messages) == logged <= 2, "it is said when it is read, not at each request and each look"


async def test_a_lost_notification_delays_a_change_by_a_second(make, admin, database):
    placement = await make(PlacementOptions())
    await database.sql("alter table placement_changes disable trigger changes_notify")
    assert await placement.resolve("p1", None)
    await admin.move("p1", "h2")
    assert await until(placement, is_at("two.example"), seconds=1.5) < 1.5
    await refused(placement, UnknownProject, "p2")
    await admin.place("p2", "h1", owner="ann")
    assert await until(placement, is_at("10.0.0.1"), "p2", seconds=1) < 1


async def test_a_members_ports_that_make_no_sense_are_none(make, database, caplog):
    placement = await make()
    await database.sql("update project_members set allowed_ports = '{80-}'")
    await asyncio.sleep(0.3)
    assert not (await placement.resolve("p1", "bob")).allows_user(80)
    assert (await placement.resolve("p1", "ann")).allows_user(80)
    assert "allowed_ports of a member of project p1 cannot be used" in caplog.text


async def test_an_answer_from_before_a_change_is_thrown_away(make, admin, monkeypatch):
    placement = await make()
    gate, fetch = asyncio.Event(), placement._store.fetch

    async def slowly(*arguments):
        rows = await fetch(*arguments)
        await gate.wait()
        return rows

    monkeypatch.setattr(placement._store, "fetch", slowly)
    asking = asyncio.create_task(placement.resolve("p1", None))
    await asyncio.sleep(0.1)
    changed = []
    placement.subscribe(changed.append)
    await admin.move("p1", "h2")
    await eventually(lambda: changed, 1)
    gate.set()
    assert (await asking).host == "two.example"
    assert (await placement.resolve("p1", None)).host == "two.example"
    assert placement._projects.query_count == 2


async def test_what_is_kept_is_bounded(make, database):
    await database.sql("insert into projects (project_id, owner) select 'many' || n, 'ann' from generate_series(1, 50) n")
    placement = await make(PlacementOptions(max_projects=10))
    await database.sql("update projects set host_id = 'h1'")
    await asyncio.sleep(0.1)
    for number in range(1, 51):
        assert await placement.resolve(f"many{number}", None)
    assert len(placement._projects) == 10


async def test_a_hundred_thousand_projects(make, database):
    placement = await make(PlacementOptions(max_projects=100_000))
    changed = []
    placement.subscribe(changed.append)
    await database.sql(
        "insert into projects (project_id, owner, host_id) select 'n' || n, 'ann', 'h1' from generate_series(1, 100000) n"
    )
    await eventually(lambda: changed == [ANY_PROJECT], 5)
    keys = [f"n{number}" for number in range(1, 100_001, 50)]
    begun = time.perf_counter()
    for key in keys:
        await placement.resolve(key, "ann")
    uncached = (time.perf_counter() - begun) / len(keys)
    begun = time.perf_counter()
    for key in keys:
        await placement.resolve(key, "ann")
    cached = (time.perf_counter() - begun) / len(keys)
    print(f"a look-up took {cached * 1e6:.1f} us cached, {uncached * 1e6:.0f} us from the database")
    assert cached < 0.0002 * slowness() and uncached < 0.02 * slowness()


async def test_a_server_that_is_not_there_is_said_once(caplog):
    placement = Placement("postgresql://x@127.0.0.1:1/x", QUICK)
    await placement.start()
    error = await refused(placement, RegistryAway)
    assert error.status == 503 and error.retry_after == 2
    await asyncio.sleep(1)
    assert len([line for line in caplog.messages if "placements cannot be read" in line]) == 1
    await placement.close()


async def test_a_restart(make, database):
    placement, changed = await make(), []
    await placement.resolve("p1", None)
    placement.subscribe(changed.append)
    database.server.stop()
    try:
        await eventually(lambda: not placement.available, 3)
        assert (await placement.resolve("p1", None)).host == "10.0.0.1", "what is known is served on"
        await refused(placement, RegistryAway, "p9")
    finally:
        database.server.start()
    await eventually(lambda: changed == [ANY_PROJECT], 3)
    assert await placement.resolve("p1", None)
    await refused(placement, UnknownProject, "p9")


async def test_changes_during_an_interruption_are_found(make, database, monkeypatch):
    """Not even the table of changes tells of it: all is asked again after each gap."""
    placement, changed, gate = await make(), [], asyncio.Event()
    await placement.resolve("p1", None)
    placement.subscribe(changed.append)
    connect = placement._store.connect

    async def later():
        await gate.wait()
        return await connect()

    monkeypatch.setattr(placement._store, "connect", later)
    await database.end_connections()
    await database.sql("alter table projects disable trigger user")
    await database.sql("update projects set host_id = 'h2'")
    assert (await placement.resolve("p1", None)).host == "10.0.0.1"
    gate.set()
    await until(placement, is_at("two.example"), seconds=1)
    assert changed == [ANY_PROJECT]


async def test_connections_are_terminated_again_and_again(make, admin, database):
    placement = await make()
    for host, name in [("h2", "two.example"), ("h1", "10.0.0.1")] * 3:
        await placement.resolve("p1", None)
        await database.end_connections()
        assert await placement.resolve("p1", None)
        with contextlib.suppress(RegistryAway):
            await admin.list()
        await admin.move("p1", host)
        await until(placement, is_at(name), seconds=1.5)


async def test_a_database_that_hangs(make, database):
    placement = await make(PlacementOptions(poll=0.1, timeout=0.5, serve_stale=3, heartbeat=60))
    await placement.resolve("p1", None)
    begun = time.monotonic()
    database.server.pause()
    try:
        while time.monotonic() - begun < 2:
            called_at = time.monotonic()
            assert (await placement.resolve("p1", "ann")).host == "10.0.0.1"
            assert time.monotonic() - called_at < 0.1, "what is known does not wait"
            called_at = time.monotonic()
            await refused(placement, RegistryAway, "p9")
            assert time.monotonic() - called_at < 1, "what is not known waits for half a second at most"
            await asyncio.sleep(0.05)
        assert not placement.available
        await until(placement, is_kind(RegistryAway), seconds=3)
        assert 2.5 < time.monotonic() - begun < 4.5, "known placements are served on for a bounded time"
    finally:
        database.server.resume()
    await until(placement, is_at("10.0.0.1"), seconds=3)
    await refused(placement, UnknownProject, "p9")


async def test_a_database_that_is_slow(make, database):
    placement = await make()
    await placement.resolve("p1", None)
    blocker = await asyncpg.connect(database.dsn)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("lock table projects in access exclusive mode")
    called_at = time.monotonic()
    results = await asyncio.gather(*(placement.resolve(f"n{n}", None) for n in range(50)), return_exceptions=True)
    assert all(isinstance(result, RegistryAway) for result in results) and time.monotonic() - called_at < 1.5
    assert (await placement.resolve("p1", None)).host == "10.0.0.1"
    await transaction.rollback()
    await blocker.close()
    await refused(placement, UnknownProject, "n1")


async def test_a_doubted_placement_stands_in_while_it_cannot_be_asked_for(make, database):
    placement = await make()
    await placement.resolve("p1", None)
    blocker = await asyncpg.connect(database.dsn)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("lock table projects in access exclusive mode")
    placement._projects.mark_all_stale(time.monotonic() + 2)
    assert (await placement.resolve("p1", None)).host == "10.0.0.1"
    placement._projects.drop("p1")
    await refused(placement, RegistryAway)
    await transaction.rollback()
    await blocker.close()
    assert await placement.resolve("p1", None)


async def test_a_database_that_is_read_only(make, database):
    await database.sql(f"alter database {database.name} set default_transaction_read_only = on")
    await database.end_connections()
    connection = await asyncpg.connect(database.dsn, server_settings={"default_transaction_read_only": "off"})
    placement = Placement(database.dsn, QUICK)
    await placement.start()
    await refused(placement, UnknownProject)
    await connection.execute("insert into project_hosts values ('h1', $1, 'up', now(), 'c')".replace("$1", f"'{ONE}'"))
    await connection.execute("insert into projects (project_id, owner, host_id) values ('p1', 'ann', 'h1')")
    await until(placement, is_at("10.0.0.1"), seconds=1)
    await connection.close()
    await placement.close()


async def test_without_notifications_polling_does(make, admin, monkeypatch):
    """As on a standby server, which refuses LISTEN."""
    monkeypatch.setattr(schema, "CHANNEL", "c'; nonsense")
    placement = await make()
    await placement.resolve("p1", None)
    await admin.move("p1", "h2")
    await until(placement, is_at("two.example"), seconds=1)


async def test_nothing_is_left_when_it_is_closed(make, database):
    placement = await make()
    await asyncio.gather(*(placement.resolve(f"n{n}", None) for n in range(20)), return_exceptions=True)
    await placement.close()
    await placement.close()
    assert [task.get_name() for task in asyncio.all_tasks() if "portproxy" in task.get_name()] == []
    rows = await database.sql("select count(*) as n from pg_stat_activity where datname = current_database()")
    assert rows[0]["n"] <= 2, "this one's and the administrator's"


async def test_names_are_served_on_while_the_database_is_away(make, admin, database):
    placement = await make()
    await admin.place("p1", "h1", owner="ann", name="x")
    await until_found(placement, "x", "p1")
    await asyncio.sleep(0.3)  # until that change is old news
    assert await placement.find("ann", "x", "ann") == "p1"
    database.server.stop()
    try:
        await eventually(lambda: not placement.available, 3)
        assert await placement.find("ann", "x", "ann") == "p1"
        with pytest.raises(RegistryAway):
            await placement.find("ann", "y", "ann")
    finally:
        database.server.start()
    await eventually(lambda: placement.available, 5)
    await until_found(placement, "x", "p1")
