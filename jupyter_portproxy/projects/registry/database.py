"""The registry's SQLite file: its tables and their migrations. All errors are RegistryUnavailable."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ...errors import PROJECT_HOST, RegistryAway
from ..sqlite_file import LOCK_RETRY_INTERVAL, SqliteConnection, SqliteFile, UnusableTables, is_locked

_MAX_LOCK_WAIT = 5.0  # seconds, of `retry_while_locked`
# Numbered by their position; `pragma user_version` is the number of a file's migrations. Never change one: append.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """create table projects (
            key text primary key,
            state text not null check (state in ('starting', 'running', 'stopped')),
            http_port integer unique check (typeof(http_port) in ('integer', 'null') and http_port between 1 and 65535),
            secret text not null,
            generation integer not null,
            pid integer,
            born text not null,
            boot text not null,
            check (state <> 'running' or http_port is not null),
            check (state <> 'stopped' or http_port is null)
        ) without rowid""",
        # released: null while leased, else when it was released, in seconds of the monotonic clock
        "create table leases (port integer primary key, key text not null, boot text not null, released real)",
        "create index leases_key on leases (key)",
        "create table counter (generation integer not null)",
        "insert into counter values (0)",
    ),
    ("alter table projects add column start_on_request integer not null default 0",),
)
T = TypeVar("T")


class RegistryUnavailable(RegistryAway):
    """The registry cannot be used.

    Attributes:
        reason: for the operator.
        is_locked: another process has locked the file for too long.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(PROJECT_HOST)
        self.reason, self.is_locked = str(error), is_locked(error)


def registry_file(path: Path, log: logging.Logger) -> SqliteFile:
    """The file of a registry, migrated when it is opened."""
    return SqliteFile(path, "registry", _migrate, RegistryUnavailable, log)


async def retry_while_locked(work: Callable[[], T]) -> T:
    """What `work` on a registry returns, for programs that may wait longer for a lock than a server's loop."""
    end = time.monotonic() + _MAX_LOCK_WAIT
    while True:
        try:
            return work()
        except RegistryUnavailable as error:
            if not error.is_locked or time.monotonic() > end:
                raise
        await asyncio.sleep(LOCK_RETRY_INTERVAL)


def _migrate(connection: SqliteConnection) -> None:
    if _schema_version(connection) == len(MIGRATIONS):
        return
    connection.execute("begin immediate")
    version = _schema_version(connection)  # another process may have been faster
    if version > len(MIGRATIONS):
        raise UnusableTables(f"a newer version of jupyter_portproxy made it (schema {version})")
    for statement in (statement for migration in MIGRATIONS[version:] for statement in migration):
        connection.execute(statement)
    connection.execute(f"pragma user_version = {len(MIGRATIONS)}")
    connection.execute("commit")


def _schema_version(connection: SqliteConnection) -> int:
    return int(connection.execute("pragma user_version").fetchone()[0])
