"""What an administrator asks for is done as asked, or refused in a sentence, in Postgres and in a SQLite file alike."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from jupyter_portproxy.errors import BadInput, RegistryAway, UnknownProject
from jupyter_portproxy.projects.placement.admin import PlacementAdmin

URL = "http://10.0.0.1:8000"


async def test_tables_are_made_once_however_many_make_them(empty_placements):
    number = len(empty_placements.schema.MIGRATIONS)
    async with contextlib.AsyncExitStack() as stack:
        admins = [PlacementAdmin(empty_placements.dsn) for _ in range(4)]
        for each in admins:
            stack.push_async_callback(each.close)
        assert await asyncio.gather(*(each.init() for each in admins)) == [number] * 4
        assert await admins[0].list() == []
        assert await admins[0].init() == number
    rows = await empty_placements.sql("select number from placement_migrations")
    assert [row["number"] for row in rows] == list(range(1, number + 1))


async def test_the_tables_of_a_newer_version_are_left_alone(admin, placements):
    await placements.sql("insert into placement_migrations (number) values (99)")
    with pytest.raises(BadInput, match="A newer version"):
        await admin.init()


async def test_a_migration_that_fails_leaves_nothing(empty_placements):
    admin = PlacementAdmin(empty_placements.dsn)
    with pytest.raises(RegistryAway):
        await admin.init(("create table a (n integer)", "create table b (n integer); insert into nothing values (1)"))
    assert await admin.init(("create table a (n integer)", "create table b (n integer)")) == 2
    await admin.close()


async def test_a_projects_life(admin):
    await admin.set_host("h1", URL, "c1")
    await admin.set_host("h2", "https://[fd00::2]:443", "c2")
    await admin.place("p1", "h1", owner="ann", name="One", allowed_ports=[8888, "6000-6010"])
    await admin.add_member("p1", "bob")
    await admin.add_member("p1", "cy", "viewer")
    await admin.add_member("p1", "cy", "member")
    (one,) = await admin.list()
    assert (one.key, one.owner, one.name, one.host_id) == ("p1", "ann", "One", "h1")
    assert one.allowed_ports == ("8888", "6000-6010") and one.visibility == "private"
    assert one.members == {"bob": "member", "cy": "member"}
    await admin.move("p1", "h2")
    await admin.remove_member("p1", "cy")
    (two,) = await admin.list()
    assert two.host_id == "h2" and two.generation > one.generation and two.members == {"bob": "member"}
    with pytest.raises(BadInput, match="The host has projects"):
        await admin.remove_host("h2")
    await admin.unplace("p1")
    assert (await admin.list())[0].host_id is None
    await admin.place("p1", "h1", owner="bob", visibility="public")
    (three,) = await admin.list()
    assert (three.owner, three.allowed_ports, three.visibility) == ("bob", None, "public")
    assert three.members == {"bob": "member"}, "members stay"
    await admin.remove("p1")
    assert await admin.list() == []
    await admin.remove_host("h2")


async def test_a_change_leaves_the_rest_as_it_is(admin):
    await admin.set_host("h1", URL, "c1")
    await admin.place("p1", None, owner="ann", name="One", allowed_ports=[8888])
    first = await admin.find("p1")
    await admin.change("p1", visibility="public")
    await admin.change("p1", name="")
    second = await admin.find("p1")
    assert (second.visibility, second.name, second.owner, second.allowed_ports) == ("public", "", "ann", ("8888",))
    assert second.generation == first.generation
    await admin.change("p1", system_user="ann")
    assert (await admin.find("p1")).system_user == "ann"
    await admin.change("p1", allowed_ports=None, host_id="h1", owner="bob")
    third = await admin.find("p1")
    assert (third.allowed_ports, third.host_id, third.owner) == (None, "h1", "bob") and third.generation > first.generation
    assert third.system_user == "ann"
    await admin.change("p1", system_user="")
    assert (await admin.find("p1")).system_user is None


async def test_a_host_that_drains_keeps_its_projects_and_gets_no_other(admin):
    await admin.set_host("h1", URL, "c1")
    await admin.place("p1", "h1", owner="ann")
    await admin.place("p2", None, owner="ann")
    await admin.set_status("h1", "draining")
    await admin.place("p1", "h1", owner="ann", name="it is there already")
    for change in (admin.place("p3", "h1", owner="ann"), admin.move("p2", "h1"), admin.change("p2", host_id="h1")):
        with pytest.raises(BadInput, match="The host 'h1' is draining"):
            await change
    assert [(project.key, project.host_id) for project in await admin.list()] == [("p1", "h1"), ("p2", None)]
    await admin.set_host("h1", URL, "c2")
    assert [host.status for host in await admin.hosts() if host.host_id == "h1"] == ["draining"]


async def test_hosts(admin):
    await admin.set_host("h1", URL, "c1")
    await admin.set_host("h2", URL, "c2", status="down")
    await admin.heartbeat("h1")
    first, second = [host for host in await admin.hosts() if host.host_id != "local"]
    assert (first.host_id, first.internal_url, first.status) == ("h1", URL, "up") and 0 <= first.silent < 5
    assert second.status == "down" and second.silent is None
    assert "c1" not in repr(first)


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("move", ("p9", "h1")),
        ("unplace", ("p9",)),
        ("remove", ("p9",)),
        ("change", ("p9",)),
        ("find", ("p9",)),
        ("add_member", ("p9", "bob")),
    ],
)
async def test_a_project_that_is_not_there(admin, call, arguments):
    await admin.set_host("h1", URL, "c")
    with pytest.raises(UnknownProject) as caught:
        await getattr(admin, call)(*arguments)
    assert caught.value.hop == "hub"


@pytest.mark.parametrize(
    ("call", "arguments", "options"),
    [
        ("place", ("p9", "h9"), {"owner": "ann"}),
        ("place", ("P9", None), {"owner": "ann"}),
        ("place", ("api", None), {"owner": "ann"}),
        ("place", ("p9", None), {"owner": ""}),
        ("place", ("p9", None), {"owner": "@team"}),
        ("change", ("p1",), {"owner": ""}),
        ("change", ("p1",), {"host_id": "h9"}),
        ("change", ("p1",), {"allowed_ports": [0]}),
        ("change", ("p1",), {"visibility": ""}),
        ("add_member", ("p1", "@"), {}),
        ("add_member", ("p1", "bob", "member", ["x"]), {}),
        ("set_status", ("h9", "up"), {}),
        ("set_status", ("h1", "silent"), {}),
        ("place", ("p9", None), {"owner": "a\0b"}),
        ("place", ("p9", None), {"owner": "ann", "name": ".."}),
        ("place", ("p9", None), {"owner": "ann", "name": "a" * 300}),
        ("place", ("p9", None), {"owner": "ann", "name": "a\nb"}),
        ("place", ("p9", None), {"owner": "ann", "system_user": "a\nb"}),
        ("change", ("p1",), {"name": "."}),
        ("change", ("p1",), {"name": "\ud800"}),
        ("set_host", ("local", URL, "c"), {}),
        ("remove_host", ("local",), {}),
        ("place", ("p9", None), {"owner": "ann", "visibility": "shared"}),
        ("place", ("p9", None), {"owner": "ann", "allowed_ports": ["80-"]}),
        ("place", ("p9", None), {"owner": "ann", "allowed_ports": [0]}),
        ("move", ("p1", "h9"), {}),
        ("move", ("p1", "a/b"), {}),
        ("add_member", ("p1", ""), {}),
        ("add_member", ("p1", "bob", "admin"), {}),
        ("add_member", ("../p1", "bob"), {}),
        ("remove_member", ("p1", "bob"), {}),
        ("set_host", ("h 9", URL, "c"), {}),
        ("set_host", ("h9", "http://host", "c"), {}),
        ("set_host", ("h9", "http://u:p@host:80", "c"), {}),
        ("set_host", ("h9", URL + "/x", "c"), {}),
        ("set_host", ("h9", URL, ""), {}),
        ("set_host", ("h9", URL, "c\r\nX: y"), {}),
        ("set_host", ("h9", URL, "c"), {"status": "well"}),
        ("remove_host", ("h9",), {}),
        ("heartbeat", ("h9",), {}),
    ],
)
async def test_bad_values_are_refused_and_change_nothing(shared_placements, call, arguments, options):
    admin = PlacementAdmin(shared_placements.dsn)
    await admin.set_host("h1", URL, "c")
    await admin.place("p1", "h1", owner="ann")
    before = await admin.list(), [host.host_id for host in await admin.hosts()]
    with pytest.raises(BadInput):
        await getattr(admin, call)(*arguments, **options)
    assert (await admin.list(), [host.host_id for host in await admin.hosts()]) == before
    await admin.close()


@pytest.mark.parametrize("name", ["a b", "%2F", "a/b", "Ünïcode 日本", "lab", "a" * 255, "?port=1", "'", "\U0001f600"])
async def test_a_name_may_have_all_that_can_be_printed(admin, name):
    await admin.place("p1", None, owner=name, name=name)
    await admin.add_member("p1", name)
    record = await admin.find("p1")
    assert (record.owner, record.name, record.members) == (name, name, {name: "member"})


async def test_sql_in_a_name_is_a_name(admin):
    await admin.place("p1", None, owner="'); drop table projects; --", name="'; --")
    assert (await admin.list())[0].owner == "'); drop table projects; --"


async def test_the_visible_projects_of_a_user(admin):
    """Own ones first; members, groups and public ones only where they are."""
    for key, owner, visibility in (
        ("b", "ann", "private"),
        ("a", "bob", "private"),
        ("c", "bob", "public"),
        ("d", "bob", "private"),
    ):
        await admin.place(key, None, owner=owner, visibility=visibility)
    await admin.add_member("a", "ann", "viewer")
    await admin.add_member("d", "@team", "viewer")

    async def keys(username, groups=(), allows_public=False):
        return [project.key for project in await admin.list_visible(username, groups, allows_public=allows_public)]

    assert await keys("ann") == ["b", "a"]
    assert await keys("ann", ["team", "x"]) == ["b", "a", "d"]
    assert await keys("ann", allows_public=True) == ["b", "a", "c"]
    assert await keys("stranger") == await keys("team") == []
