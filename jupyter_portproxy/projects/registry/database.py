"""The registry's SQLite file: created, migrated, and opened again when it was replaced. The only module that imports sqlite3.

States of the file, changed by `_run` only: away (the last attempt failed, or there was none) or available. While it is away,
reads fail without an attempt for a quarter of a second, so that a broken or locked file costs the loop at most a fifth of its
time. All errors are RegistryUnavailable, with one line in the log for each problem.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ...errors import PROJECT_HOST, RegistryAway

_LOCK_TIMEOUT = 0.05  # seconds that SQLite waits for a lock, and the loop with it
_RETRY_INTERVAL = 0.25
_MAX_LOCK_WAIT, _LOCK_RETRY_INTERVAL = 5.0, 0.3  # seconds, of `retry_while_locked`
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
SqliteConnection = sqlite3.Connection
FileIdentity = tuple[int, int]  # device and inode
T = TypeVar("T")


class RegistryUnavailable(RegistryAway):
    """The registry cannot be used.

    Attributes:
        reason: for the operator.
        is_locked: another process has locked the file for too long.
    """

    def __init__(self, reason: str, *, is_locked: bool = False) -> None:
        super().__init__(PROJECT_HOST)
        self.reason, self.is_locked = reason, is_locked


class RegistryFile:
    """A SQLite file and the one connection to it. All methods may raise RegistryUnavailable.

    Attributes:
        open_count: how often it was opened.
        available: the last attempt succeeded.
    """

    def __init__(self, path: Path, log: logging.Logger) -> None:
        self.open_count, self.available = 0, False
        self._writes = 0  # of this connection, failed ones too
        self._path, self._log = path, log
        self._name = str(path)  # os.stat takes it faster than a Path
        self._problem, self._next_attempt = "", 0.0
        self._connection: SqliteConnection | None = None
        self._identity: FileIdentity | None = None
        self._wal: FileIdentity | None = None

    def read(self, work: Callable[[SqliteConnection], T]) -> T:
        """What `work` reads."""
        if time.monotonic() < self._next_attempt:
            raise RegistryUnavailable(self._problem)
        return self._run(work, create=False)

    def version(self) -> tuple[int, int, int]:
        """Changes with each commit of any process, and with each replacement of the file.

        `pragma data_version` covers the commits of other connections; it takes half the time of reading a row.
        """
        data = self.read(_data_version)
        return self.open_count, self._writes, data

    def write(self, work: Callable[[SqliteConnection], T]) -> T:
        """What `work` returns, in one transaction, which an exception undoes. The file is created if it is missing."""

        def transaction(connection: SqliteConnection) -> T:
            self._writes += 1
            connection.execute("begin immediate")
            try:
                result = work(connection)
                connection.execute("commit")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("rollback")
                raise
            return result

        return self._run(transaction, create=True)

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _run(self, work: Callable[[SqliteConnection], T], *, create: bool) -> T:
        try:
            result = work(self._open(create=create))
        except (sqlite3.Error, OSError) as error:
            self.close()
            self.available, self._next_attempt = False, time.monotonic() + _RETRY_INTERVAL
            if self._problem != str(error):
                self._problem = str(error)
                self._log.error("portproxy: the registry %s cannot be used: %s", self._path, error)
            raise RegistryUnavailable(self._problem, is_locked=_is_locked(error)) from None
        if not self.available:
            self.available, self._problem, self._next_attempt = True, "", 0.0
            self._log.info("portproxy: the registry %s is open", self._path)
        return result

    def _open(self, *, create: bool) -> SqliteConnection:
        """The connection; a new one if the file was replaced. The inode is not reused while the old file is open here."""
        identity = _identity(self._name)
        if self._connection is not None and identity == self._identity:
            return self._connection
        if self._connection is not None and self._wal is not None and self._wal == _identity(f"{self._name}-wal"):
            # SQLite would replay the replaced file's log into the new file: a log does not name its file.
            for suffix in ("-wal", "-shm"):
                Path(f"{self._name}{suffix}").unlink(missing_ok=True)
        self.close()
        if identity is None:
            if not create:
                raise FileNotFoundError("there is no such file")
            identity = _create(self._path)
        self._connection, self._identity = _connect(self._path), identity
        self._wal = _identity(f"{self._name}-wal")
        self.open_count += 1
        return self._connection


async def retry_while_locked(work: Callable[[], T]) -> T:
    """What `work` on a registry returns, for programs that may wait longer for a lock than a server's loop."""
    end = time.monotonic() + _MAX_LOCK_WAIT
    while True:
        try:
            return work()
        except RegistryUnavailable as error:
            if not error.is_locked or time.monotonic() > end:
                raise
        await asyncio.sleep(_LOCK_RETRY_INTERVAL)


def _is_locked(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED with their extended codes
    return "locked" in str(error)  # Python 3.10 does not pass the code on


def _connect(path: Path) -> SqliteConnection:
    connection = sqlite3.connect(path, timeout=_LOCK_TIMEOUT, isolation_level=None)
    try:
        for pragma in ("journal_mode = wal", "synchronous = normal", "trusted_schema = off", "cell_size_check = on"):
            connection.execute(f"pragma {pragma}").fetchall()
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: SqliteConnection) -> None:
    if _schema_version(connection) == len(MIGRATIONS):
        return
    connection.execute("begin immediate")
    version = _schema_version(connection)  # another process may have been faster
    if version > len(MIGRATIONS):
        raise sqlite3.DatabaseError(f"a newer version of jupyter_portproxy made it (schema {version})")
    for statement in (statement for migration in MIGRATIONS[version:] for statement in migration):
        connection.execute(statement)
    connection.execute(f"pragma user_version = {len(MIGRATIONS)}")
    connection.execute("commit")


def _data_version(connection: SqliteConnection) -> int:
    return int(connection.execute("pragma data_version").fetchone()[0])


def _schema_version(connection: SqliteConnection) -> int:
    return int(connection.execute("pragma user_version").fetchone()[0])


def _create(path: Path) -> FileIdentity:
    """Only a new file is opened by hand: closing one that is in use would release SQLite's locks on it (POSIX)."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    status = os.fstat(descriptor)
    os.close(descriptor)
    return status.st_dev, status.st_ino


def _identity(path: str) -> FileIdentity | None:
    """Also refuses a file of another user, and makes it unreadable for others."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    if os.name == "posix":
        if status.st_uid != os.getuid() and os.getuid() != 0:
            raise PermissionError("it belongs to another user")
        if status.st_mode & 0o077:
            os.chmod(path, 0o600)
    return status.st_dev, status.st_ino
