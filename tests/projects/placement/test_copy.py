"""A copy has every row of its source, in both directions, or nothing at all."""

from __future__ import annotations

import logging

import pytest

from jupyter_portproxy.errors import BadInput
from jupyter_portproxy.projects.placement import copy as copying
from jupyter_portproxy.projects.placement.admin import PlacementAdmin
from jupyter_portproxy.projects.placement.copy import copy_placements
from jupyter_portproxy.projects.placement.store import DatabaseUnavailable

from ...support.placements import SqliteDatabase, make_file
from ...support.postgres import make_database

LOG = logging.getLogger("tests")


@pytest.fixture(params=["sqlite to postgres", "postgres to sqlite", "sqlite to sqlite", "postgres to postgres"])
def pair(request, tmp_path, jp_asyncio_loop, postgres_server):
    """A source with tables, and a destination without."""
    source, _, destination = request.param.partition(" to ")
    run = jp_asyncio_loop.run_until_complete
    made = run(make_file(tmp_path / "a.sqlite") if source == "sqlite" else make_database(postgres_server))
    if destination == "sqlite":
        return made, SqliteDatabase(tmp_path / "b.sqlite")
    return made, run(make_database(postgres_server, "template1"))


@pytest.fixture
def open_admin(jp_asyncio_loop):
    made = []

    def build(database):
        made.append(PlacementAdmin(database.dsn))
        return made[-1]

    yield build
    for each in made:
        jp_asyncio_loop.run_until_complete(each.close())


async def fill(admin) -> None:
    await admin.set_host("h1", "http://10.0.0.1:80", "s3cret 1".replace(" ", "-"))
    await admin.set_host("h2", "https://[fd00::2]:443", "s3cret-2", status="down")
    await admin.place("p1", "h1", owner="Ünï", name="a b/%2F'", allowed_ports=["6000-6010", 7000], visibility="public")
    await admin.place("p2", "h2", owner="bob", system_user="bob", allowed_ports=[])
    await admin.place("p3", None, owner="bob", name="x")
    await admin.add_member("p1", "@team", "member", [6001])
    await admin.add_member("p1", "cy", "viewer")
    await admin.add_member("p2", "cy", "owner", [])
    await admin.set_status("h1", "draining")


def without_generations(projects):
    return [(p.key, p.owner, p.name, p.host_id, p.allowed_ports, p.visibility, p.system_user, p.members, p.member_ports)
            for p in projects]  # fmt: skip


async def test_all_is_copied(pair, open_admin):
    source, destination = pair
    one, two = open_admin(source), open_admin(destination)
    await fill(one)
    copied = await copy_placements(source.dsn, destination.dsn, log=LOG)
    assert (len(copied.projects), copied.member_count, len(copied.hosts)) == (3, 3, 2)
    assert without_generations(await two.list()) == without_generations(await one.list())
    hosts = [(h.host_id, h.internal_url, h.status) for h in await two.hosts() if h.host_id != "local"]
    assert hosts == [("h1", "http://10.0.0.1:80", "draining"), ("h2", "https://[fd00::2]:443", "down")]
    credentials = await destination.sql("select credential from project_hosts where host_id = 'h2'")
    assert credentials[0]["credential"] == "s3cret-2"
    with pytest.raises(BadInput, match="The destination has 3 projects"):
        await copy_placements(source.dsn, destination.dsn, log=LOG)


async def test_projects_of_this_machine_go_to_and_fro(tmp_path, database, open_admin):
    first, last = await make_file(tmp_path / "a.sqlite"), SqliteDatabase(tmp_path / "b.sqlite")
    one = open_admin(first)
    await one.place("p1", "local", owner="ann", allowed_ports=["15000-15099"], system_user="ann")
    await one.place("p2", "local", owner="bob")
    await copy_placements(first.dsn, database.dsn, log=LOG)
    await copy_placements(database.dsn, last.dsn, log=LOG)
    two = open_admin(last)
    assert without_generations(await two.list()) == without_generations(await one.list())
    with pytest.raises(BadInput, match="'p2' and 'p1' claim the same ports"):
        await two.change("p2", allowed_ports=[15000])


async def test_claims_of_one_port_are_named_and_nothing_is_copied(tmp_path, database, open_admin):
    await database.sql("insert into project_hosts (host_id, internal_url, credential) values ('local', '', '')")
    await database.sql(
        "insert into projects (project_id, owner, host_id, allowed_ports) "
        "values ('p1', 'ann', 'local', '{15000-15099}'), ('p2', 'bob', 'local', '{1,15050-15060}')"
    )
    last = SqliteDatabase(tmp_path / "b.sqlite")
    with pytest.raises(BadInput, match="The projects 'p1' and 'p2' claim the same ports: 15050-15060"):
        await copy_placements(database.dsn, last.dsn, log=LOG)
    assert await open_admin(last).list() == []


async def test_another_host_of_the_same_name_is_kept(pair, open_admin):
    source, destination = pair
    await fill(open_admin(source))
    two = open_admin(destination)
    await two.init()
    await two.set_host("h1", "http://10.9.9.9:80", "other")
    with pytest.raises(BadInput, match="The destination has another host 'h1'"):
        await copy_placements(source.dsn, destination.dsn, log=LOG)
    assert await two.list() == []
    assert [h.internal_url for h in await two.hosts() if h.host_id == "h1"] == ["http://10.9.9.9:80"]


@pytest.mark.parametrize("change", ["source", "destination"])
async def test_a_copy_that_differs_is_undone(pair, open_admin, monkeypatch, change):
    """Another program changes the source after it was read; or a row does not arrive as it was sent."""
    source, destination = pair
    one, insert = open_admin(source), copying._insert
    await fill(one)

    async def insert_and_change(target, connection, placements):
        await insert(target, connection, placements)
        if change == "source":
            await one.add_member("p3", "dan")
        else:
            await connection.fetch(target.statements.REMOVE_MEMBER, "p1", "cy")

    monkeypatch.setattr(copying, "_insert", insert_and_change)
    sentence = "The source has changed meanwhile" if change == "source" else "The copy differs from its source"
    with pytest.raises(BadInput, match=sentence):
        await copy_placements(source.dsn, destination.dsn, log=LOG)
    two = open_admin(destination)
    assert await two.list() == [] and {host.host_id for host in await two.hosts()} <= {"local"}


async def test_the_database_that_is_not_there_is_named(tmp_path):
    one = await make_file(tmp_path / "a.sqlite")
    for source, destination, sentence in (
        (f"sqlite:///{tmp_path}/none", one.dsn, "The source: The database has no tables of placements yet.\n"),
        ("postgresql://x@127.0.0.1:1/x", one.dsn, "The source: The database does not answer."),
        (one.dsn, "postgresql://x@127.0.0.1:1/x", "The destination: The database does not answer."),
        (one.dsn, "sqlite:////proc/none/x", "The destination: The file /proc/none/x cannot be used: No such file or directory."),
    ):
        with pytest.raises(DatabaseUnavailable) as caught:
            await copy_placements(source, destination, log=LOG)
        assert caught.value.reason.startswith(sentence)
