"""The scheme of a DSN decides which database holds the placements, and both have the same statements."""

from __future__ import annotations

import pytest

from jupyter_portproxy.projects.placement import postgres_schema, sqlite_schema
from jupyter_portproxy.projects.placement.postgres import PostgresPool
from jupyter_portproxy.projects.placement.sqlite import SqliteStore
from jupyter_portproxy.projects.placement.store import DatabaseUnavailable, Statements, open_store


@pytest.mark.parametrize(
    ("dsn", "kind"),
    [
        ("sqlite:////srv/p.sqlite", SqliteStore),
        ("sqlite:///p.sqlite", SqliteStore),
        ("sqlite:nonsense", SqliteStore),
        ("postgresql://u@h/d", PostgresPool),
        ("postgres://u@h/d", PostgresPool),
        ("nonsense", PostgresPool),
    ],
)
def test_the_scheme_names_the_store(dsn, kind):
    assert type(open_store(dsn)) is kind


@pytest.mark.parametrize("dsn", ["sqlite:", "sqlite://", "sqlite:///", "sqlite:/x", "sqlite://host/x", "sqlite:///a\0b"])
async def test_a_dsn_that_names_no_file(dsn):
    store = open_store(dsn)
    for call in (lambda: store.fetch("select 1"), store.connect, lambda: store.init([])):
        with pytest.raises(DatabaseUnavailable) as caught:
            await call()
        assert caught.value.reason.startswith("The DSN is not the address of a database.\n")


@pytest.mark.parametrize("schema", [postgres_schema, sqlite_schema])
def test_both_schemas_have_all_statements(schema):
    assert {name for name in Statements.__annotations__ if not getattr(schema, name, None)} == set()
