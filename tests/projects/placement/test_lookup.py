"""A hub finds projects in Postgres: at once when all is well, and as well as can be when the database is not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace

import asyncpg
import pytest

from jupyter_portproxy.errors import HostDown, NotPlaced, RegistryAway, UnknownProject
from jupyter_portproxy.projects.model import ANY_PROJECT, NextHop
from jupyter_portproxy.projects.placement import postgres_schema as schema
from jupyter_portproxy.projects.placement.admin import PlacementAdmin
from jupyter_portproxy.projects.placement.lookup import Placement, PlacementOptions

from ...support.waiting import eventually

ONE, TWO = "http://10.0.0.1:8001", "https://two.example:8002"
QUICK = PlacementOptions(poll=0.1, timeout=0.5, heartbeat=60)


@pytest.fixture
def admin(database, jp_asyncio_loop):
    made = PlacementAdmin(database.dsn)
    yield made
    jp_asyncio_loop.run_until_complete(made.close())


@pytest.fixture
def make(database, admin, jp_asyncio_loop):
    """Starts a hub's placement; there are two hosts and the project p1 on the first."""
    made = []

    async def build(options: PlacementOptions = QUICK) -> Placement:
        for host_id, url in (("h1", ONE), ("h2", TWO)):
            await admin.set_host(host_id, url, f"credential-{host_id}")
            await admin.heartbeat(host_id)
        await admin.place("p1", "h1", owner="ann", allowed_ports=["6000-6010"])
        await admin.add_member("p1", "bob", "viewer")
        made.append(Placement(database.dsn, options))
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


# ---- what a project may be ----


async def test_a_placed_project(make):
    placement = await make()
    target = await placement.resolve("p1", None)
    assert (target.scheme, target.host, target.port) == ("http", "10.0.0.1", 8001)
    assert target.credential == "credential-h1" and target.allows(6010) and not target.allows(6011)
    assert target.role is None and (await placement.resolve("p1", "ann")).role == "owner"
    assert (await placement.resolve("p1", "bob")).role == "viewer"


@pytest.mark.parametrize("key", ["p9", "..", "%2F", "P1", "a" * 10_000, "p1'; drop table projects; --", "\0", "api", ""])
async def test_an_unknown_project(make, key):
    placement = await make()
    error = await refused(placement, UnknownProject, key)
    assert error.status == 404
    assert await placement.resolve("p1", None)
    assert placement._projects.query_count <= 2


async def test_whoever_may_not_see_a_project_is_told_that_there_is_none(make, admin):
    placement = await make()
    assert await placement.resolve("p1", "ann") == replace(await placement.resolve("p1", "bob"), role="owner")
    for host in ("h1", None):
        await admin.place("p1", host, owner="ann")
        await admin.place("p2", host, owner="ann", visibility="public")
        await asyncio.sleep(0.3)
        for asker in ("eve", "", "Ann", "ann "):
            hidden = await refused(placement, UnknownProject, "p1", asker)
            unknown = await refused(placement, UnknownProject, "p9", asker)
            assert (hidden.message.replace("p1", "p9"), hidden.hint) == (unknown.message, unknown.hint)
    await refused(placement, NotPlaced, "p1", "bob")
    await refused(placement, NotPlaced, "p2", "eve")


async def test_a_host_that_is_down(make, admin):
    placement = await make()
    await admin.set_host("h1", ONE, "credential-h1", status="down")
    await until(placement, is_kind(HostDown), seconds=1)
    await admin.set_status("h1", "draining")
    await until(placement, is_at("10.0.0.1"), seconds=1)


async def test_a_host_that_never_gave_a_sign_of_life(make, admin):
    placement = await make()
    await admin.set_host("h3", "http://10.0.0.3:80", "c")
    await admin.place("p3", "h3", owner="ann")
    await refused(placement, HostDown, "p3")
    await admin.heartbeat("h3")
    await until(placement, is_at("10.0.0.3"), "p3", seconds=1)


async def test_a_host_that_is_silent_for_three_heartbeats(make, admin):
    placement = await make(PlacementOptions(poll=0.1, heartbeat=0.3))
    for _ in range(3):
        await admin.heartbeat("h1")
        await asyncio.sleep(0.4)
        assert await placement.resolve("p1", None), "two may be lost"
    await until(placement, is_kind(HostDown), seconds=1.2)
    await admin.heartbeat("h1")
    await until(placement, is_at("10.0.0.1"), seconds=1)


@pytest.mark.parametrize("jump", [-1e9, 1e9])
async def test_the_hubs_clock_does_not_matter(make, admin, monkeypatch, jump):
    placement = await make(PlacementOptions(poll=0.1, heartbeat=1))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    await admin.heartbeat("h1")
    await asyncio.sleep(0.4)
    assert await placement.resolve("p1", None)
    await admin.move("p1", "h2")
    await until(placement, is_at("two.example"), seconds=1)


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
        assert await placement.resolve("p1", None), "nobody was silent"
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
    said = len(caplog.messages)
    for _ in range(20):
        await refused(placement, HostDown)
        await asyncio.sleep(0.02)
    assert len(caplog.messages) == said <= 2, "it is said when it is read, not at each request and each look"


# ---- how soon, and how often ----


async def test_a_new_placement_is_visible_at_once(make, admin):
    placement = await make(PlacementOptions())
    for key in ("p2", "p3"):
        await refused(placement, UnknownProject, key)
        await admin.place(key, None, owner="ann")
        await until(placement, is_kind(NotPlaced), key, seconds=1)
        assert (await refused(placement, NotPlaced, key)).retry_after == 1
        await admin.place(key, "h2", owner="ann")
        assert await until(placement, is_at("two.example"), key, seconds=1) < 1


async def test_a_lost_notification_delays_a_change_by_a_second(make, admin, database):
    placement = await make(PlacementOptions())
    await database.sql("alter table placement_changes disable trigger changes_notify")
    assert await placement.resolve("p1", None)
    await admin.move("p1", "h2")
    assert await until(placement, is_at("two.example"), seconds=1.5) < 1.5
    await refused(placement, UnknownProject, "p2")
    await admin.place("p2", "h1", owner="ann")
    assert await until(placement, is_at("10.0.0.1"), "p2", seconds=1) < 1


async def test_a_moved_project_is_at_the_new_host_and_subscribers_are_told(make, admin):
    placement, told = await make(), []
    end = placement.subscribe(told.append)
    first = await placement.resolve("p1", None)
    await admin.move("p1", "h2")
    await eventually(lambda: told == ["p1"], 1)
    second = await placement.resolve("p1", None)
    assert second.host == "two.example" and second.credential == "credential-h2" and second.generation > first.generation
    await admin.unplace("p1")
    await eventually(lambda: told == ["p1", "p1"], 1)
    await refused(placement, NotPlaced)
    end()
    await admin.remove("p1")
    await until(placement, is_kind(UnknownProject), seconds=1)
    assert len(told) == 2


async def test_a_host_that_is_somewhere_else_now_is_news_for_all(make, admin):
    placement, told = await make(), []
    placement.subscribe(told.append)
    first = await placement.resolve("p1", None)
    await admin.set_host("h1", "http://10.0.0.9:8001", "other")
    await eventually(lambda: told == [ANY_PROJECT], 1)
    second = await placement.resolve("p1", None)
    assert (second.host, second.credential) == ("10.0.0.9", "other") and second.generation > first.generation


async def test_a_member_who_is_put_out_is_out(make, admin):
    placement = await make()
    assert await placement.resolve("p1", "bob")
    await admin.remove_member("p1", "bob")
    await asyncio.sleep(0.3)
    await refused(placement, UnknownProject, "p1", "bob")
    await admin.add_member("p1", "bob")
    await asyncio.sleep(0.6)
    assert (await placement.resolve("p1", "bob")).role == "member"


class Team:
    """Who is in which group, as a login knows it."""

    def __init__(self, **groups):
        self.groups, self.told = groups, []

    def groups_of(self, username):
        return self.groups.get(username, ())

    def subscribe(self, callback):
        self.told.append(callback)


async def test_a_group_lets_its_users_in_while_they_are_in_it(make, admin, database):
    await make()
    team, told = Team(eve=["team"], zed=["others"]), []
    placement = Placement(database.dsn, QUICK, groups=team)
    await placement.start()
    placement.subscribe(told.append)
    await refused(placement, UnknownProject, "p1", "eve")
    await admin.add_member("p1", "@team", "member", ["6001-6002"])
    await eventually(lambda: told == ["p1"], 1)
    target = await placement.resolve("p1", "eve")
    assert target.role == "member" and target.allows_user(6001) and not target.allows_user(6003)
    for nobody in ("zed", "team", "@team", ""):
        await refused(placement, UnknownProject, "p1", nobody)
    team.groups.clear()
    team.told[0]()
    assert told == ["p1", ANY_PROJECT], "whoever holds a tunnel asks again"
    await refused(placement, UnknownProject, "p1", "eve")
    await placement.close()


async def test_a_target_is_equal_until_a_change_and_other_after_each(make, admin, database):
    await make()
    eves = ["team"]  # changed in its place, as a login may do
    placement = Placement(database.dsn, QUICK, groups=Team(eve=eves))
    await placement.start()
    first = await placement.resolve("p1", "bob")
    assert await placement.resolve("p1", "ann") != first, "each user has another role"

    await admin.heartbeat("h1")
    await asyncio.sleep(0.5)  # the hosts are looked at again and again meanwhile
    assert await placement.resolve("p1", "bob") == first
    await admin.add_member("p1", "bob", "viewer", [6001])
    await eventually_as(placement, "bob", lambda target: target.role == "viewer" and not target.allows_user(6002))
    await admin.set_host("h1", "http://127.0.0.1:9", "another")
    await eventually_as(placement, "bob", lambda target: (target.port, target.credential) == (9, "another"))
    await admin.add_member("p1", "@team", "member")
    await eventually_as(placement, "eve", lambda target: target.role == "member")
    eves.clear()
    await refused(placement, UnknownProject, "p1", "eve")
    await admin.set_status("h1", "down")
    await asyncio.sleep(0.5)
    await refused(placement, HostDown, "p1", "bob")
    await placement.close()


async def eventually_as(placement, asker, holds) -> None:
    """Until the target of the asker is so; whoever may not see the project yet waits, too."""
    end = time.monotonic() + 2
    while True:
        with contextlib.suppress(UnknownProject):
            if holds(await placement.resolve("p1", asker)):
                return
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def test_a_members_own_ports(make, admin):
    placement = await make()
    await admin.add_member("p1", "bob", "member", [6000])
    await asyncio.sleep(0.3)
    target = await placement.resolve("p1", "bob")
    assert target.allows_user(6000) and not target.allows_user(6001) and target.allows(6001)
    assert (await placement.resolve("p1", "ann")).allows_user(6001)
    assert (await placement.resolve("p1", None)).allows_user(6001)


async def test_a_members_ports_that_make_no_sense_are_none(make, database, caplog):
    placement = await make()
    await database.sql("update project_members set allowed_ports = '{80-}'")
    await asyncio.sleep(0.3)
    assert not (await placement.resolve("p1", "bob")).allows_user(80)
    assert (await placement.resolve("p1", "ann")).allows_user(80)
    assert "allowed_ports of a member of project p1 cannot be used" in caplog.text


async def test_a_thousand_requests_are_one_question(make):
    placement = await make()
    targets = await asyncio.gather(*(placement.resolve("p1", "ann") for _ in range(1000)))
    assert len(set(targets)) == 1
    assert placement._projects.query_count == 1


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
    told = []
    placement.subscribe(told.append)
    await admin.move("p1", "h2")
    await eventually(lambda: told, 1)
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


async def test_forgetting_and_failures_ask_again(make):
    placement = await make()
    target = await placement.resolve("p1", None)
    placement._projects.drop("p1")
    await placement.resolve("p1", None)
    assert placement._projects.query_count == 2
    placement.report_failure("p1", target.generation)
    await placement.resolve("p1", None)
    assert placement._projects.query_count == 2, "a host that fails each request does not make each request a question"
    await asyncio.sleep(1.1)
    placement.report_failure("p1", target.generation - 1)
    placement.report_failure("p9", target.generation)
    await placement.resolve("p1", None)
    assert placement._projects.query_count == 2, "it is another place now that failed"
    placement.report_failure("p1", target.generation)
    await placement.resolve("p1", None)
    assert placement._projects.query_count == 3


async def test_a_hundred_thousand_projects(make, database):
    placement = await make(PlacementOptions(max_projects=100_000))
    told = []
    placement.subscribe(told.append)
    await database.sql(
        "insert into projects (project_id, owner, host_id) select 'n' || n, 'ann', 'h1' from generate_series(1, 100000) n"
    )
    await eventually(lambda: told == [ANY_PROJECT], 5)
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
    assert cached < 0.0002 and uncached < 0.02


# ---- a database in trouble ----


async def test_without_tables_there_is_no_placement_until_there_are(empty_database, caplog):
    placement = Placement(empty_database.dsn, QUICK)
    await refused(placement, RegistryAway)
    await placement.start()
    await refused(placement, RegistryAway)
    assert not placement.available and "placements cannot be read" in caplog.text
    admin = PlacementAdmin(empty_database.dsn)
    await admin.init()
    await admin.close()
    await until(placement, is_kind(UnknownProject), seconds=2)
    await placement.close()


async def test_a_server_that_is_not_there_is_said_once(caplog):
    placement = Placement("postgresql://x@127.0.0.1:1/x", QUICK)
    await placement.start()
    error = await refused(placement, RegistryAway)
    assert error.status == 503 and error.retry_after == 2
    await asyncio.sleep(1)
    assert len([line for line in caplog.messages if "placements cannot be read" in line]) == 1
    await placement.close()


async def test_a_restart(make, database):
    placement, told = await make(), []
    await placement.resolve("p1", None)
    placement.subscribe(told.append)
    database.server.stop()
    try:
        await eventually(lambda: not placement.available, 3)
        assert (await placement.resolve("p1", None)).host == "10.0.0.1", "what is known is served on"
        await refused(placement, RegistryAway, "p9")
    finally:
        database.server.start()
    await eventually(lambda: told == [ANY_PROJECT], 3)
    assert await placement.resolve("p1", None)
    await refused(placement, UnknownProject, "p9")


async def test_what_changed_while_nobody_looked_is_found(make, database, monkeypatch):
    """Not even the table of changes tells of it: all is asked again after each gap."""
    placement, told, gate = await make(), [], asyncio.Event()
    await placement.resolve("p1", None)
    placement.subscribe(told.append)
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
    assert told == [ANY_PROJECT]


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
            asked = time.monotonic()
            assert (await placement.resolve("p1", "ann")).host == "10.0.0.1"
            assert time.monotonic() - asked < 0.1, "what is known does not wait"
            asked = time.monotonic()
            await refused(placement, RegistryAway, "p9")
            assert time.monotonic() - asked < 1, "what is not known waits for half a second at most"
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
    asked = time.monotonic()
    results = await asyncio.gather(*(placement.resolve(f"n{n}", None) for n in range(50)), return_exceptions=True)
    assert all(isinstance(result, RegistryAway) for result in results) and time.monotonic() - asked < 1.5
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
    """As on a standby server, which lets nobody listen."""
    monkeypatch.setattr(schema, "CHANNEL", "c'; nonsense")
    placement = await make()
    await placement.resolve("p1", None)
    await admin.move("p1", "h2")
    await until(placement, is_at("two.example"), seconds=1)


async def test_a_subscriber_that_fails_harms_nobody(make, admin, caplog):
    placement, told = await make(), []
    placement.subscribe(lambda key: 1 / 0)
    placement.subscribe(told.append)
    await admin.move("p1", "h2")
    await eventually(lambda: told == ["p1"], 1)
    assert "ZeroDivisionError" in caplog.text


async def test_nothing_is_left_when_it_is_closed(make, database):
    placement = await make()
    await asyncio.gather(*(placement.resolve(f"n{n}", None) for n in range(20)), return_exceptions=True)
    await placement.close()
    await placement.close()
    assert [task.get_name() for task in asyncio.all_tasks() if "portproxy" in task.get_name()] == []
    rows = await database.sql("select count(*) as n from pg_stat_activity where datname = current_database()")
    assert rows[0]["n"] <= 2, "this one's and the administrator's"


# ---- names ----


async def test_a_project_is_found_by_its_owner_and_name_without_asking_again(make, admin):
    await admin.init()
    placement, heard = await make(), asyncio.Event()
    placement.subscribe(lambda key: heard.set())
    await admin.place("p1", "h1", owner="ann", name="My 'Proj'")
    await asyncio.wait_for(heard.wait(), 5)  # what it knew is forgotten then
    await until_found(placement, "My 'Proj'", "p1")
    asked, before = placement._projects.query_count, placement._keys.query_count
    for asker in ("ann", "bob", None):
        assert await placement.find("ann", "My 'Proj'", asker) == "p1"
    assert (placement._projects.query_count, placement._keys.query_count) == (asked, before)
    for owner, name, asker in [("ann", "My 'Proj'", "eve"), ("bob", "My 'Proj'", "bob"), ("ann", "my 'proj'", "ann")]:
        with pytest.raises(UnknownProject):
            await placement.find(owner, name, asker)


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


@pytest.mark.parametrize("name", ["", "a" * 256, "a\0b", "a\nb"])
async def test_what_can_be_no_name_is_asked_of_nobody(make, name):
    placement = await make()
    for owner, other in ((name, "x"), ("x", name)):
        with pytest.raises(UnknownProject):
            await placement.find(owner, other, None)
    assert placement._keys.query_count == 0


async def test_a_name_that_changes_hands_is_never_served_stale_for_long(make, admin):
    placement = await make()
    await until_found(placement, "x", None)
    await admin.place("p1", "h1", owner="ann", name="x")
    await until_found(placement, "x", "p1")
    await admin.place("p1", "h1", owner="ann", name="y")
    await admin.place("p2", "h2", owner="ann", name="x")
    await until_found(placement, "x", "p2")
    await until_found(placement, "y", "p1")
    await admin.place("p2", "h2", owner="bob", name="x")
    await until_found(placement, "x", None)
    await admin.place("p1", "h1", owner="ann", name="x")
    await until_found(placement, "x", "p1")
    await admin.place("p2", "h1", owner="ann", name="x")  # of two alike: any that is there, and none that is not
    await admin.remove("p1")
    await until_found(placement, "x", "p2")


async def test_thousands_that_ask_for_a_name_ask_once(make, admin):
    placement = await make()
    await admin.place("p1", "h1", owner="ann", name="x")
    await asyncio.sleep(0.3)
    found = await asyncio.gather(*(placement.find("ann", "x", "ann") for _ in range(3000)))
    assert set(found) == {"p1"} and placement._keys.query_count == 1


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
