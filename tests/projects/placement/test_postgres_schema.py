"""The database decides for all programs: generations, changes and what a row may hold, whatever program writes it."""

from __future__ import annotations

import json

import asyncpg
import pytest

from jupyter_portproxy.projects.placement import postgres_schema as schema
from jupyter_portproxy.projects.placement.admin import PlacementAdmin


async def fill(database) -> None:
    await database.sql("insert into project_hosts (host_id, internal_url, credential) values ('h1', 'http://10.0.0.1:80', 'c')")
    await database.sql("insert into project_hosts (host_id, internal_url, credential) values ('h2', 'http://10.0.0.2:80', 'c')")
    await database.sql("insert into projects (project_id, owner, host_id) values ('p1', 'ann', 'h1'), ('p2', 'ann', null)")


async def generation(database, table="projects", key="project_id = 'p1'") -> int:
    return (await database.sql(f"select generation from {table} where {key}"))[0]["generation"]


async def changes(database, snapshot: str) -> list[str]:
    return sorted(json.loads((await database.sql(schema.CHANGES, snapshot))[0]["changed"]))


async def now(database) -> str:
    return (await database.sql(schema.SNAPSHOT))[0]["snapshot"]


@pytest.mark.parametrize(
    ("statement", "recorded"),
    [
        ("insert into projects (project_id, owner) values ('p3', 'bob'), ('p4', 'bob')", ["p3", "p4"]),
        ("update projects set host_id = 'h2'", ["p1", "p2"]),
        ("update projects set allowed_ports = '{8888}' where project_id = 'p1'", ["p1"]),
        ("insert into project_members values ('p1', 'bob', 'viewer', '{80}')", ["p1"]),
        ("update projects set project_id = 'p9' where project_id = 'p2'", ["p2", "p9"]),
        ("delete from projects where project_id = 'p2'", ["p2"]),
        ("insert into project_members values ('p1', 'bob', 'viewer')", ["p1"]),
        ("update project_members set role = 'member'", []),
        ("delete from projects where false", []),
        ("update project_hosts set last_seen = clock_timestamp()", []),
    ],
)
async def test_every_change_is_recorded_also_one_by_plain_sql(database, statement, recorded):
    await fill(database)
    before = await now(database)
    await database.sql(statement)
    assert await changes(database, before) == recorded
    assert await changes(database, await now(database)) == []


async def test_changes_of_members_are_changes_of_their_projects(database):
    await fill(database)
    await database.sql("insert into project_members values ('p1', 'bob', 'viewer'), ('p2', 'bob', 'viewer')")
    before = await now(database)
    await database.sql("update project_members set role = 'member' where project_id = 'p1'")
    assert await changes(database, before) == ["p1"]
    before = await now(database)
    await database.sql("delete from project_members where project_id = 'p2'")
    assert await changes(database, before) == ["p2"]


async def test_what_is_committed_late_is_not_missed(database):
    """The first transaction to begin is the last to end: a reader that goes by the numbers of rows would never see it."""
    await fill(database)
    slow = await asyncpg.connect(database.dsn)
    transaction = slow.transaction()
    await transaction.start()
    await slow.execute("update projects set name = 'x' where project_id = 'p1'")
    before = await now(database)
    await database.sql("update projects set name = 'y' where project_id = 'p2'")
    assert await changes(database, before) == ["p2"]
    between = await now(database)
    assert await changes(database, between) == []
    await transaction.commit()
    await slow.close()
    assert await changes(database, between) == ["p1"]


async def test_what_is_rolled_back_is_no_change(database):
    await fill(database)
    before = await now(database)
    with pytest.raises(asyncpg.PostgresError):
        await database.sql("with a as (update projects set name = 'x' returning 1) select 1 / (count(*) - 2) from a")
    assert await changes(database, before) == []


async def test_many_changes_are_counted_no_further(database):
    before = await now(database)
    await database.sql("insert into projects (project_id, owner) select 'p' || n, 'ann' from generate_series(1, 5000) n")
    assert len(await changes(database, before)) == schema.MAX_CHANGES + 1


async def test_generations_rise_with_the_place_and_with_nothing_else(database):
    await fill(database)
    first = await generation(database)
    await database.sql("update projects set name = 'x', allowed_ports = '{1}', host_id = host_id")
    assert await generation(database) == first
    await database.sql("update projects set host_id = 'h2'")
    second = await generation(database)
    host = await generation(database, "project_hosts", "host_id = 'h1'")
    assert second > first > host, "all are numbers of one sequence"
    await database.sql("update project_hosts set status = 'down', last_seen = now()")
    assert await generation(database, "project_hosts", "host_id = 'h1'") == host
    for change in ("internal_url = 'http://10.0.0.9:80'", "credential = 'd'"):
        before = await generation(database, "project_hosts", "host_id = 'h1'")
        await database.sql(f"update project_hosts set {change} where host_id = 'h1'")
        assert await generation(database, "project_hosts", "host_id = 'h1'") > before > 0
    await database.sql("update projects set host_id = null where project_id = 'p1'")
    assert await generation(database) > second


async def test_shared_projects_of_an_earlier_version_are_public(empty_database):
    admin = PlacementAdmin(empty_database.dsn)
    assert await admin.init(schema.MIGRATIONS[:3]) == 3
    await empty_database.sql("insert into projects (project_id, owner, visibility) values ('p1', 'ann', 'shared')")
    await empty_database.sql("insert into projects (project_id, owner) values ('p2', 'ann')")
    before = await now(empty_database)
    assert await admin.init() == len(schema.MIGRATIONS)
    assert [(p.key, p.visibility, p.system_user) for p in await admin.list()] == [("p1", "public", None), ("p2", "private", None)]
    assert await changes(empty_database, before) == ["p1"]
    await admin.close()


@pytest.mark.parametrize(
    "statement",
    [
        "insert into projects (project_id, owner) values ('P1', 'ann')",
        "insert into projects (project_id, owner) values ('..', 'ann')",
        "insert into projects (project_id, owner) values (repeat('a', 65), 'ann')",
        "insert into projects (project_id, owner) values (E'p9\\n', 'ann')",
        "insert into projects (project_id, owner) values ('p9', '')",
        "insert into projects (project_id, owner, visibility) values ('p9', 'ann', 'shared')",
        "insert into projects (project_id, owner, host_id) values ('p9', 'ann', 'h9')",
        "insert into projects (project_id, owner) values ('p1', 'eve')",
        "insert into project_members values ('p9', 'bob', 'member')",
        "insert into project_members values ('p1', 'bob', 'admin')",
        "insert into project_hosts (host_id, internal_url, credential, status) values ('h9', 'x', 'c', 'well')",
        "insert into project_hosts (host_id, internal_url, credential) values ('a/b', 'x', 'c')",
        "delete from project_hosts where host_id = 'h1'",
    ],
)
async def test_rows_that_the_tables_refuse(database, statement):
    await fill(database)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await database.sql(statement)


async def test_a_draining_host_gets_no_project_by_whatever_hand(database):
    await fill(database)
    await database.sql("update project_hosts set status = 'draining'")
    for statement in (
        "update projects set host_id = 'h2'",
        "insert into projects (project_id, owner, host_id) values ('p3', 'ann', 'h1')",
    ):
        with pytest.raises(asyncpg.CheckViolationError) as caught:
            await database.sql(statement)
        assert caught.value.constraint_name == "host_is_draining"
    await database.sql("update projects set name = 'x', host_id = host_id")
    await database.sql("update projects set host_id = null")


async def test_old_changes_are_forgotten_but_not_the_last_ones(database):
    await database.sql("insert into projects (project_id, owner) select 'p' || n, 'ann' from generate_series(1, 12000) n")
    await database.sql(schema.PRUNE)
    assert (await database.sql("select count(*) as n from placement_changes"))[0]["n"] == 12000
    await database.sql("update placement_changes set at = at - interval '2 hours'")
    await database.sql(schema.PRUNE)
    assert (await database.sql("select count(*) as n from placement_changes"))[0]["n"] == 10001
