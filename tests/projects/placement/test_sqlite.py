"""Placements in a SQLite file: what is special to it. `test_admin` and `test_lookup` run on both stores."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import time

import pytest

from jupyter_portproxy.errors import BadInput
from jupyter_portproxy.projects.placement.admin import PlacementAdmin, PlacementsUnavailable


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "projects.sqlite"


@pytest.fixture
def admin(path, jp_asyncio_loop):
    admin = PlacementAdmin(f"sqlite:///{path}")
    jp_asyncio_loop.run_until_complete(admin.init())
    yield admin
    jp_asyncio_loop.run_until_complete(admin.close())


async def test_nobody_else_can_read_it(admin, path):
    await admin.place("p1", "local", owner="ann")
    for each in path.parent.iterdir():
        assert stat.S_IMODE(each.stat().st_mode) == 0o600, each
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_only_init_makes_a_file(path):
    admin = PlacementAdmin(f"sqlite:///{path}")
    for change in (admin.list(), admin.place("p1", None, owner="ann")):
        with pytest.raises(PlacementsUnavailable) as caught:
            await change
        assert caught.value.reason == (
            "The database has no tables of placements yet.\nMake them: jupyter portproxy placement init"
        )
    assert not path.parent.exists()
    await admin.close()


async def test_a_locked_file_is_waited_for(admin, path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    asyncio.get_running_loop().call_later(1, other.execute, "commit")
    begun = time.monotonic()
    await admin.place("p1", "local", owner="ann")
    assert 0.9 < time.monotonic() - begun < 2
    other.close()


async def test_this_machine_is_a_host_that_stays(admin):
    assert [host.host_id for host in await admin.hosts()] == ["local"]
    for change in (admin.remove_host("local"), admin.set_host("local", "http://10.0.0.1:80", "c")):
        with pytest.raises(BadInput, match="The host 'local' is this machine"):
            await change
