"""Projects are found at once when all is well, in Postgres and in a SQLite file alike."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace

import pytest

from jupyter_portproxy.errors import HostDown, NotPlaced, RegistryAway, UnknownProject
from jupyter_portproxy.projects.model import ANY_PROJECT
from jupyter_portproxy.projects.placement.admin import PlacementAdmin
from jupyter_portproxy.projects.placement.lookup import Placement, PlacementOptions

from ...support.placements import ONE, QUICK, is_at, is_kind, refused, until, until_found
from ...support.waiting import eventually

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


async def test_a_user_who_may_not_see_a_project_gets_unknown_project(make, admin):
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


async def test_a_moved_project_is_at_the_new_host_and_subscribers_are_notified(make, admin):
    placement, changed = await make(), []
    end = placement.subscribe(changed.append)
    first = await placement.resolve("p1", None)
    await admin.move("p1", "h2")
    await eventually(lambda: changed == ["p1"], 1)
    second = await placement.resolve("p1", None)
    assert second.host == "two.example" and second.credential == "credential-h2" and second.generation > first.generation
    await admin.unplace("p1")
    await eventually(lambda: changed == ["p1", "p1"], 1)
    await refused(placement, NotPlaced)
    end()
    await admin.remove("p1")
    await until(placement, is_kind(UnknownProject), seconds=1)
    assert len(changed) == 2


async def test_a_host_that_is_somewhere_else_now_is_news_for_all(make, admin):
    placement, changed = await make(), []
    placement.subscribe(changed.append)
    first = await placement.resolve("p1", None)
    await admin.set_host("h1", "http://10.0.0.9:8001", "other")
    await eventually(lambda: changed == [ANY_PROJECT], 1)
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
        self.groups, self.changed = groups, []

    def groups_of(self, username):
        return self.groups.get(username, ())

    def subscribe(self, callback):
        self.changed.append(callback)


async def test_a_group_lets_its_users_in_while_they_are_in_it(make, admin, placements):
    await make()
    team, changed = Team(eve=["team"], zed=["others"]), []
    placement = Placement(placements.dsn, QUICK, groups=team)
    await placement.start()
    placement.subscribe(changed.append)
    await refused(placement, UnknownProject, "p1", "eve")
    await admin.add_member("p1", "@team", "member", ["6001-6002"])
    await eventually(lambda: changed == ["p1"], 1)
    target = await placement.resolve("p1", "eve")
    assert target.role == "member" and target.allows_user(6001) and not target.allows_user(6003)
    for stranger in ("zed", "team", "@team", ""):
        await refused(placement, UnknownProject, "p1", stranger)
    team.groups.clear()
    team.changed[0]()
    assert changed == ["p1", ANY_PROJECT], "those with a tunnel resolve it again"
    await refused(placement, UnknownProject, "p1", "eve")
    await placement.close()


async def test_a_target_is_equal_until_a_change_and_other_after_each(make, admin, placements):
    await make()
    eves = ["team"]  # changed in its place, as a login may do
    placement = Placement(placements.dsn, QUICK, groups=Team(eve=eves))
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
    """Until the target is so; a user who may not see the project yet waits, too."""
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


async def test_a_thousand_requests_are_one_question(make):
    placement = await make()
    targets = await asyncio.gather(*(placement.resolve("p1", "ann") for _ in range(1000)))
    assert len(set(targets)) == 1
    assert placement._projects.query_count == 1


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


# ---- a database in trouble ----


async def test_without_tables_there_is_no_placement_until_there_are(empty_placements, caplog):
    placement = Placement(empty_placements.dsn, QUICK)
    await refused(placement, RegistryAway)
    await placement.start()
    await refused(placement, RegistryAway)
    assert not placement.available and "placements cannot be read" in caplog.text
    admin = PlacementAdmin(empty_placements.dsn)
    await admin.init()
    await admin.close()
    await until(placement, is_kind(UnknownProject), seconds=2)
    await placement.close()


async def test_a_subscriber_that_fails_does_not_affect_others(make, admin, caplog):
    placement, changed = await make(), []
    placement.subscribe(lambda key: 1 / 0)
    placement.subscribe(changed.append)
    await admin.move("p1", "h2")
    await eventually(lambda: changed == ["p1"], 1)
    assert "ZeroDivisionError" in caplog.text


# ---- names ----


async def test_a_project_is_found_by_its_owner_and_name_without_asking_again(make, admin):
    await admin.init()
    placement, heard = await make(), asyncio.Event()
    placement.subscribe(lambda key: heard.set())
    await admin.place("p1", "h1", owner="ann", name="My 'Proj'")
    await asyncio.wait_for(heard.wait(), 5)  # what it knew is forgotten then
    await until_found(placement, "My 'Proj'", "p1")
    queries, before = placement._projects.query_count, placement._keys.query_count
    for asker in ("ann", "bob", None):
        assert await placement.find("ann", "My 'Proj'", asker) == "p1"
    assert (placement._projects.query_count, placement._keys.query_count) == (queries, before)
    for owner, name, asker in [("ann", "My 'Proj'", "eve"), ("bob", "My 'Proj'", "bob"), ("ann", "my 'proj'", "ann")]:
        with pytest.raises(UnknownProject):
            await placement.find(owner, name, asker)


@pytest.mark.parametrize("name", ["", "a" * 256, "a\0b", "a\nb"])
async def test_an_invalid_name_is_not_looked_up(make, name):
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


async def test_a_public_project_is_private_unless_the_server_allows_public_ones(make, placements, admin):
    await make()
    await admin.place("p2", "h1", owner="ann", name="two", visibility="public")
    placement = Placement(placements.dsn, QUICK)
    await placement.start()
    try:
        await refused(placement, UnknownProject, "p2", "eve")
        with pytest.raises(UnknownProject):
            await placement.find("ann", "two", "eve")
        found = await placement.resolve("p2", "ann")
        assert (found.role, found.owner, found.name) == ("owner", "ann", "two")
    finally:
        await placement.close()
