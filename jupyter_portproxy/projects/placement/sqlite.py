"""Placements in a SQLite file, for one machine. Statements run in the event loop: a look-up takes some microseconds.

A statement on a locked file is tried again until its timeout; the loop runs meanwhile. Changes by any process are seen by
`pragma data_version`, five times a second. A connection of `connect` is lost when the file was opened again, for it may be
another file then.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ..sqlite_file import (
    LOCK_RETRY_INTERVAL,
    BrokenConstraint,
    MissingFile,
    SqliteConnection,
    SqliteFile,
    UnusableTables,
    is_locked,
    split_statements,
)
from . import sqlite_schema
from .store import (
    INVALID_DSN,
    INVALID_TEXT,
    NO_TABLES,
    OLD_TABLES,
    VERSION,
    ConstraintViolation,
    DatabaseUnavailable,
    Row,
    Statements,
    newer_tables,
)

_POLL_INTERVAL = 0.2  # seconds between two looks for changes
_MAX_LOCK_WAIT = 5.0  # seconds
_HAS_TABLES = "select count(*) from sqlite_master where name = 'placement_migrations'"
_VERSION = "select coalesce(max(number), 0) from placement_migrations"
_PREFIX = "sqlite:///"
T = TypeVar("T")


class _LockedFile(DatabaseUnavailable):
    """Another process has locked the file."""


class SqliteStore:
    """A Store over one file.

    Args:
        dsn: `sqlite:////absolute/path` or `sqlite:///relative/path`.
        timeout: seconds for one statement, while another process has locked the file; five at most.
    """

    statements: Statements = sqlite_schema

    def __init__(self, dsn: str, *, timeout: float, log: logging.Logger) -> None:
        name = dsn.removeprefix(_PREFIX)
        self._path = Path(name) if dsn.startswith(_PREFIX) and name and "\0" not in name else None
        self._timeout, self._log = min(timeout, _MAX_LOCK_WAIT), log
        self._file = self._new_file(_check_tables)

    async def init(self, migrations: Sequence[str]) -> int:
        """See Store. The file is created, readable for this user alone."""
        file = self._new_file(_set_up)
        try:
            return await self._repeat(lambda: file.write(lambda connection: _migrate(connection, migrations)))
        finally:
            file.close()
            self._file.close()
            self._file = self._new_file(_check_tables)  # without the pause after a failure

    async def fetch(self, statement: str, *arguments: object) -> Sequence[Row]:
        return await self.run(lambda connection: execute(connection, statement, arguments))

    async def run(self, work: Callable[[SqliteConnection], T]) -> T:
        """What `work` returns, on the connection to the file."""
        return await self._repeat(lambda: self._file.run(work))

    async def connect(self) -> SqliteFollower:
        await self.run(lambda connection: None)
        return SqliteFollower(self, self._file)

    async def close(self) -> None:
        self._file.close()

    async def version(self) -> tuple[int, int, int]:
        """See SqliteFile."""
        return await self._repeat(self._file.version)

    def _new_file(self, prepare: Callable[[SqliteConnection], None]) -> SqliteFile:
        return SqliteFile(self._path or Path(), "placements", prepare, self._translate, self._log)

    async def _repeat(self, work: Callable[[], T]) -> T:
        if self._path is None:
            raise DatabaseUnavailable("invalid DSN", INVALID_DSN, is_lost=False)
        end = time.monotonic() + self._timeout
        while True:
            try:
                return work()
            except _LockedFile:
                if time.monotonic() + LOCK_RETRY_INTERVAL > end:
                    raise
            await asyncio.sleep(LOCK_RETRY_INTERVAL)

    def _translate(self, error: Exception) -> Exception:
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, MissingFile):
            return DatabaseUnavailable(text, NO_TABLES, is_lost=True)
        if isinstance(error, UnusableTables):
            return DatabaseUnavailable(text, str(error), is_lost=True)
        if is_locked(error):
            return _LockedFile(text, f"The file {self._path} is locked by another program.", is_lost=True)
        problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return DatabaseUnavailable(text, f"The file {self._path} cannot be used: {problem}.", is_lost=True)


class SqliteFollower:
    """A StoreConnection: it lasts while the store has the same file open."""

    def __init__(self, store: SqliteStore, file: SqliteFile) -> None:
        self._store, self._file, self._open_count = store, file, file.open_count
        self._version: tuple[int, int, int] | None = None

    async def fetch(self, statement: str, *arguments: object) -> Sequence[Row]:
        def work(connection: SqliteConnection) -> list[Row]:
            self._check()  # before the statement reaches another file
            return execute(connection, statement, arguments)

        return await self._store.run(work)

    async def begin(self) -> None:
        await self.fetch("begin immediate")

    async def commit(self) -> None:
        await self.fetch("commit")

    async def follow_changes(self) -> None:
        self._version = await self._store.version()

    async def wait_for_change(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        while (rest := end - time.monotonic()) > 0:
            await asyncio.sleep(min(rest, _POLL_INTERVAL))
            version = await self._store.version()
            self._check()
            if version != self._version:
                self._version = version
                return

    @property
    def is_usable(self) -> bool:
        return self._file.open_count == self._open_count

    def cut(self) -> None:
        """Nothing: the store closes the file."""

    def _check(self) -> None:
        if not self.is_usable:
            text = "the file was opened again"
            raise DatabaseUnavailable(text, f"{text.capitalize()}.", is_lost=True)


def execute(connection: SqliteConnection, statement: str, arguments: Sequence[object]) -> list[Row]:
    """The rows of a statement, as of `Store.fetch`."""
    values = {str(number): _value(argument) for number, argument in enumerate(arguments, 1)}
    try:
        cursor = connection.execute(statement, values)
        if cursor.description is None:
            return [{}] * cursor.rowcount  # -1 for "begin"
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    except BrokenConstraint as error:
        raise ConstraintViolation(str(error)) from None
    except (UnicodeError, OverflowError) as error:
        raise DatabaseUnavailable(type(error).__name__, INVALID_TEXT, is_lost=False) from None


def _value(argument: object) -> object:
    return json.dumps(argument) if isinstance(argument, (list, tuple)) else argument


def _set_up(connection: SqliteConnection) -> None:
    connection.execute("pragma foreign_keys = on")
    connection.execute("pragma trusted_schema = on")  # constraints and triggers use json_each and json_valid
    connection.execute("pragma synchronous = full")  # a commit survives a power failure


def _check_tables(connection: SqliteConnection) -> None:
    _set_up(connection)
    if not connection.execute(_HAS_TABLES).fetchone()[0]:
        raise UnusableTables(NO_TABLES)
    number = connection.execute(_VERSION).fetchone()[0]
    if number < len(sqlite_schema.MIGRATIONS):
        raise UnusableTables(OLD_TABLES)
    if number > len(sqlite_schema.MIGRATIONS):
        raise UnusableTables(newer_tables().message)


def _migrate(connection: SqliteConnection, migrations: Sequence[str]) -> int:
    connection.execute(sqlite_schema.VERSIONS)
    done = connection.execute(_VERSION).fetchone()[0]
    if done > len(migrations):
        raise newer_tables()
    for number, migration in enumerate(migrations[done:], done + 1):
        for statement in split_statements(f"{migration}; {VERSION.format(number=number)};"):
            connection.execute(statement)
    return len(migrations)
