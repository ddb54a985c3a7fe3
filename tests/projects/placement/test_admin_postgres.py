"""An administrator whose PostgreSQL is in trouble."""

from __future__ import annotations

import contextlib

import pytest

from jupyter_portproxy.errors import RegistryAway
from jupyter_portproxy.projects.placement.admin import PlacementAdmin


@pytest.fixture
def placements(database):
    return database


async def test_a_database_that_is_away_or_read_only(admin, database):
    lost = PlacementAdmin("postgresql://x@127.0.0.1:1/x")
    with pytest.raises(RegistryAway):
        await lost.list()
    await database.sql(f"alter database {database.name} set default_transaction_read_only = on")
    with pytest.raises(RegistryAway):
        await admin.place("p1", None, owner="ann")
    assert await admin.list() == []


async def test_a_lost_connection_is_made_again(admin, database):
    await admin.place("p1", None, owner="ann")
    await database.end_connections()
    with contextlib.suppress(RegistryAway):
        await admin.list()
    assert len(await admin.list()) == 1
