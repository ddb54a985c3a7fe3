"""A connection on which something failed is cut, and no one waits for a server longer than they said."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from jupyter_portproxy.projects.placement.postgres import MissingPackage, PostgresPool
from jupyter_portproxy.projects.placement.store import ConstraintViolation, DatabaseUnavailable

from ...support.waiting import eventually


@pytest.fixture
def postgres(database, jp_asyncio_loop):
    made = PostgresPool(database.dsn, timeout=1, max_connections=2)
    yield made
    jp_asyncio_loop.run_until_complete(made.close())


async def sessions(database) -> int:
    rows = await database.sql(
        "select count(*) as n from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    )
    return rows[0]["n"]


async def test_rows(postgres):
    rows = await postgres.fetch("select $1::int + 1 as n, $2::text as t", 1, "'; drop table projects; --")
    assert [dict(row) for row in rows] == [{"n": 2, "t": "'; drop table projects; --"}]


async def test_connections_are_bounded_and_used_again(postgres, database):
    await asyncio.gather(*(postgres.fetch("select pg_sleep(0.01)") for _ in range(20)))
    assert await sessions(database) == 2
    await postgres.close()
    assert await sessions(database) == 0


async def test_a_connection_that_the_server_has_closed_is_replaced(postgres, database):
    await asyncio.gather(postgres.fetch("select pg_sleep(0.1)"), postgres.fetch("select pg_sleep(0.1)"))
    await database.end_connections()
    assert await postgres.fetch("select 1")


async def test_a_restart_is_survived(postgres, database):
    await postgres.fetch("select 1")
    database.server.restart()
    assert await postgres.fetch("select 1")


async def test_too_long_is_away_and_the_connection_is_cut(postgres, database):
    begun = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="takes too long"):
        await postgres.fetch("select pg_sleep(5)")
    assert time.monotonic() - begun < 1.5
    assert await postgres.fetch("select 1")


async def test_a_server_that_hangs_is_away_in_time(postgres, database):
    await postgres.fetch("select 1")
    database.server.pause()
    try:
        begun = time.monotonic()
        results = await asyncio.gather(*(postgres.fetch("select 1") for _ in range(10)), return_exceptions=True)
        with pytest.raises(DatabaseUnavailable):
            await postgres.connect()
        assert time.monotonic() - begun < 4
    finally:
        database.server.resume()
    assert all(isinstance(result, DatabaseUnavailable) for result in results)
    assert await postgres.fetch("select 1")


async def test_a_cancelled_query_leaves_no_connection_in_use(postgres, database):
    for _ in range(3):
        task = asyncio.create_task(postgres.fetch("select pg_sleep(5)"))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
    assert await postgres.fetch("select 1")


@pytest.mark.parametrize(
    ("dsn", "reason"),
    [
        ("postgresql://x@127.0.0.1:1/x", "The database does not answer."),
        ("nonsense", "The DSN is not the address of a database."),
        ("postgresql://[", "The DSN is not the address of a database."),
        ("postgresql://x@no.invalid/x", "The database does not answer."),
    ],
)
async def test_a_server_that_is_not_there(dsn, reason):
    postgres = PostgresPool(dsn, timeout=1)
    for attempt in (postgres.connect, lambda: postgres.fetch("select 1")):
        with pytest.raises(DatabaseUnavailable) as caught:
            await attempt()
        assert caught.value.reason.splitlines()[0] == reason
    await postgres.close()


def test_an_unknown_error_is_named_by_its_kind_alone():
    error = PostgresPool("postgresql://x")._translate(LookupError("geheim"))
    assert error.reason == "The database cannot be used (LookupError)."


async def test_what_the_database_refuses(postgres):
    for statement, rule in (
        ("insert into projects (project_id, owner, host_id) values ('p1', 'ann', 'nowhere')", "host_exists"),
        ("insert into projects (project_id, owner) values ('P 1', 'ann')", "projects_project_id_check"),
    ):
        with pytest.raises(ConstraintViolation) as caught:
            await postgres.fetch(statement)
        assert caught.value.constraint == rule
    with pytest.raises(DatabaseUnavailable, match="UndefinedTableError"):
        await postgres.fetch("select * from nothing")
    assert await postgres.fetch("select 1")


async def test_a_connection_hears_notifications_and_its_own_end(postgres, database):
    heard = []
    connection = await postgres.connect()
    await connection.listen("c", lambda: heard.append(1))
    await database.sql("notify c")
    await eventually(lambda: len(heard) == 1)
    await database.end_connections()
    await eventually(lambda: len(heard) == 2)
    assert not connection.is_usable
    with pytest.raises(DatabaseUnavailable) as caught:
        await connection.fetch("select 1")
    assert caught.value.is_lost
    await connection.close()


async def test_a_script_is_all_or_nothing(postgres):
    connection = await postgres.connect()
    with pytest.raises(DatabaseUnavailable):
        await connection.execute("create table a (); create table b (); select * from nothing")
    assert (await connection.fetch("select to_regclass('a') is null as gone"))[0]["gone"]
    await connection.close()


def test_without_asyncpg_the_package_is_imported_and_says_what_is_missing():
    code = """
import sys
sys.modules["asyncpg"] = None
from jupyter_portproxy.projects.placement.lookup import Placement
from jupyter_portproxy.projects.placement.admin import PlacementAdmin
for make in (Placement, PlacementAdmin):
    try:
        make("postgresql://x")
    except RuntimeError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    sentence = (
        "Placements are in PostgreSQL, and the package asyncpg is not installed: pip install 'jupyter_portproxy[postgres]'\n"
    )
    assert done.stdout == sentence * 2, done.stderr


def test_asyncpg_is_imported_when_it_is_needed_only():
    code = "import sys; import jupyter_portproxy.projects.placement.lookup; sys.exit('asyncpg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0


def test_it_is_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(MissingPackage):
        PostgresPool("postgresql://x")
