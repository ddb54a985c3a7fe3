"""The SQLite file decides for all programs: generations, changes, claims and what a row may hold, whatever program writes it."""

from __future__ import annotations

import asyncio
import json
import sqlite3

import pytest

from jupyter_portproxy.projects.placement import sqlite_schema as schema
from jupyter_portproxy.projects.placement.admin import PlacementAdmin


@pytest.fixture
def db(tmp_path):
    """The tables, and a program that knows nothing of this package: without the pragma for foreign keys too."""
    path = tmp_path / "projects.sqlite"

    async def init():
        admin = PlacementAdmin(f"sqlite:///{path}")
        await admin.init()
        await admin.close()

    asyncio.run(init())
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("insert into project_hosts (host_id, internal_url, credential) values ('h1', 'http://10.0.0.1:80', 'c')")
    connection.execute("insert into project_hosts (host_id, internal_url, credential) values ('h2', 'http://10.0.0.2:80', 'c')")
    connection.execute("insert into projects (project_id, owner, host_id) values ('p1', 'ann', 'h1'), ('p2', 'ann', null)")
    yield connection
    connection.close()


def now(db) -> str:
    return db.execute(schema.SNAPSHOT).fetchone()[0]


def changes(db, snapshot: str) -> list[str]:
    later, changed = db.execute(schema.CHANGES, {"1": snapshot}).fetchone()
    assert later == now(db)
    return sorted(json.loads(changed))


def generation(db, table="projects", key="project_id = 'p1'") -> int:
    return db.execute(f"select generation from {table} where {key}").fetchone()[0]


def claims(db) -> list[tuple[int, int, str]]:
    return db.execute("select first, last, project_id from port_claims order by first").fetchall()


@pytest.mark.parametrize(
    ("statement", "recorded"),
    [
        ("insert into projects (project_id, owner) values ('p3', 'bob'), ('p4', 'bob')", ["p3", "p4"]),
        ("update projects set host_id = 'h2'", ["p1", "p2"]),
        ("update projects set allowed_ports = '[\"8888\"]' where project_id = 'p1'", ["p1"]),
        ("update projects set system_user = 'ann' where project_id = 'p1'", ["p1"]),
        ("insert into project_members values ('p1', 'bob', 'viewer', '[\"80\"]')", ["p1"]),
        ("update projects set project_id = 'p9' where project_id = 'p2'", ["p2", "p9"]),
        ("delete from projects where project_id = 'p2'", ["p2"]),
        ("update project_members set role = 'member'", []),
        ("delete from projects where false", []),
        ("update project_hosts set last_seen = 1.0", []),
    ],
)
def test_every_change_is_recorded_also_one_by_plain_sql(db, statement, recorded):
    before = now(db)
    db.execute(statement)
    assert changes(db, before) == recorded
    assert changes(db, now(db)) == []


def test_changes_of_members_are_changes_of_their_projects(db):
    db.execute("insert into project_members values ('p1', 'bob', 'viewer', null), ('p2', 'bob', 'viewer', null)")
    before = now(db)
    db.execute("update project_members set role = 'member' where project_id = 'p1'")
    assert changes(db, before) == ["p1"]
    before = now(db)
    db.execute("delete from project_members where project_id = 'p2'")
    assert changes(db, before) == ["p2"]


def test_members_go_with_their_project(db):
    db.execute("insert into project_members values ('p1', 'bob', 'viewer', null)")
    db.execute("delete from projects")
    assert db.execute("select * from project_members").fetchall() == []


def test_many_changes_are_counted_no_further(db):
    before = now(db)
    db.executemany("insert into projects (project_id, owner) values (?, 'ann')", [(f"n{n}",) for n in range(3000)])
    assert len(changes(db, before)) == schema.MAX_CHANGES + 1


def test_generations_rise_with_the_place_and_with_nothing_else(db):
    first = generation(db)
    db.execute("update projects set name = 'x', allowed_ports = '[\"1\"]', host_id = host_id")
    assert generation(db) == first
    db.execute("update projects set host_id = 'h2'")
    second = generation(db)
    host = generation(db, "project_hosts", "host_id = 'h1'")
    assert second > first > host, "all are numbers of one sequence"
    db.execute("update project_hosts set status = 'down', last_seen = 1.0")
    assert generation(db, "project_hosts", "host_id = 'h1'") == host
    for change in ("internal_url = 'http://10.0.0.9:80'", "credential = 'd'"):
        before = generation(db, "project_hosts", "host_id = 'h1'")
        db.execute(f"update project_hosts set {change} where host_id = 'h1'")
        assert generation(db, "project_hosts", "host_id = 'h1'") > before > 0
    db.execute("update projects set host_id = null where project_id = 'p1'")
    assert generation(db) > second


@pytest.mark.parametrize(
    "statement",
    [
        "insert into projects (project_id, owner) values ('P1', 'ann')",
        "insert into projects (project_id, owner) values ('..', 'ann')",
        "insert into projects (project_id, owner) values ('-a', 'ann')",
        "insert into projects (project_id, owner) values (null, 'ann')",
        f"insert into projects (project_id, owner) values ('{'a' * 65}', 'ann')",
        "insert into projects (project_id, owner) values ('p9\n', 'ann')",
        "insert into projects (project_id, owner) values ('p9', '')",
        "insert into projects (project_id, owner, visibility) values ('p9', 'ann', 'shared')",
        "insert into projects (project_id, owner, host_id) values ('p9', 'ann', 'h9')",
        "insert into projects (project_id, owner, allowed_ports) values ('p9', 'ann', '80')",
        "insert into projects (project_id, owner, allowed_ports) values ('p9', 'ann', 'no JSON')",
        "insert into projects (project_id, owner, system_user) values ('p9', 'ann', '')",
        "insert into projects (project_id, owner) values ('p1', 'eve')",
        "insert into project_members values ('p9', 'bob', 'member', null)",
        "insert into project_members values ('p1', 'bob', 'admin', null)",
        "insert into project_members values ('p1', 'bob', 'viewer', '{}')",
        "insert into project_hosts (host_id, internal_url, credential, status) values ('h9', 'x', 'c', 'well')",
        "delete from project_hosts where host_id = 'h1'",
    ],
)
def test_rows_that_the_tables_refuse(db, statement):
    db.execute("pragma foreign_keys = on")
    with pytest.raises(sqlite3.IntegrityError):
        db.execute(statement)


def test_a_draining_host_gets_no_project_by_whatever_hand(db):
    db.execute("update project_hosts set status = 'draining'")
    for statement in (
        "update projects set host_id = 'h2'",
        "insert into projects (project_id, owner, host_id) values ('p3', 'ann', 'h1')",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="host_is_draining"):
            db.execute(statement)
    db.execute("update projects set name = 'x', host_id = host_id")
    db.execute("update projects set host_id = null")


def test_ports_on_this_machine_are_claimed_once(db):
    db.execute("update projects set host_id = 'local', allowed_ports = '[\"6000-6010\", \"7000\"]' where project_id = 'p1'")
    assert claims(db) == [(6000, 6010, "p1"), (7000, 7000, "p1")]
    for ports in ("6010", "5999-6000", "6005-6006", "1-65535", '80", "7000'):
        for statement in (
            f"update projects set host_id = 'local', allowed_ports = '[\"{ports}\"]' where project_id = 'p2'",
            f"insert into projects (project_id, owner, host_id, allowed_ports) values ('p3', 'ann', 'local', '[\"{ports}\"]')",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="port_is_claimed"):
                db.execute(statement)
    db.execute("update projects set host_id = 'h1', allowed_ports = '[\"6000\"]' where project_id = 'p2'")
    with pytest.raises(sqlite3.IntegrityError, match="port_is_claimed"):
        db.execute("update projects set host_id = 'local' where project_id = 'p2'")
    db.execute("update projects set allowed_ports = '[\"6005\", \"6000-6010\"]' where project_id = 'p1'")
    assert claims(db) == [(6000, 6010, "p1"), (6005, 6005, "p1")]
    db.execute("update projects set project_id = 'p7' where project_id = 'p1'")
    assert {row[2] for row in claims(db)} == {"p7"}


@pytest.mark.parametrize(
    "statement",
    [
        "update projects set allowed_ports = null where project_id = 'p1'",
        "update projects set host_id = 'h1' where project_id = 'p1'",
        "update projects set host_id = null where project_id = 'p1'",
        "delete from projects where project_id = 'p1'",
    ],
)
def test_a_claim_ends_with_its_reason(db, statement):
    db.execute("update projects set host_id = 'local', allowed_ports = '[\"6000-6010\"]' where project_id = 'p1'")
    db.execute(statement)
    assert claims(db) == []
    db.execute("update projects set host_id = 'local', allowed_ports = '[\"6000-6010\"]' where project_id = 'p2'")


def test_old_changes_are_forgotten_but_not_the_last_ones(db):
    db.execute("delete from placement_changes")
    db.execute("begin")
    db.executemany("insert into projects (project_id, owner) values (?, 'ann')", [(f"n{n}",) for n in range(12000)])
    db.execute("commit")
    db.execute(schema.PRUNE)
    assert db.execute("select count(*) from placement_changes").fetchone() == (12000,)
    db.execute("update placement_changes set at = at - 7200")
    snapshot = now(db)
    db.execute(schema.PRUNE)
    assert db.execute("select count(*) from placement_changes").fetchone() == (10001,)
    assert now(db) == snapshot
