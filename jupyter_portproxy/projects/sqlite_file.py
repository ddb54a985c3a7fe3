"""A SQLite file and the one connection to it: created, prepared, and opened again when it was replaced. The only door to sqlite3.

States of the file, changed by `_run` only: away (the last attempt failed, or there was none) or available. While it is away,
each use fails without an attempt for a quarter of a second, so that a broken or locked file costs the loop at most a fifth of
its time. There is one line in the log for each problem.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

_LOCK_TIMEOUT = 0.05  # seconds that SQLite waits for a lock, and the loop with it
_RETRY_INTERVAL = 0.25
LOCK_RETRY_INTERVAL = 0.3  # seconds, for programs that may wait longer for a lock; more than _RETRY_INTERVAL
SqliteConnection = sqlite3.Connection
BrokenConstraint = sqlite3.IntegrityError
FileIdentity = tuple[int, int]  # device and inode
T = TypeVar("T")


class MissingFile(FileNotFoundError):
    """The file does not exist."""


class UnusableTables(Exception):
    """Raised by a `prepare` for a file whose tables this version cannot use. The text is for the operator."""


class SqliteFile:
    """A SQLite file and the one connection to it.

    Args:
        label: of the file in the log: "registry".
        prepare: migrates or checks the tables with each new connection.
        unavailable: makes the exception that is raised for an error of SQLite or of the file system.

    Attributes:
        open_count: how often it was opened.
        available: the last attempt succeeded.
    """

    def __init__(
        self,
        path: Path,
        label: str,
        prepare: Callable[[SqliteConnection], None],
        unavailable: Callable[[Exception], Exception],
        log: logging.Logger,
    ) -> None:
        self.open_count, self.available = 0, False
        self._writes = 0  # of this connection, failed ones too
        self._path, self._label, self._log = path, label, log
        self._prepare, self._unavailable = prepare, unavailable
        self._name = str(path)  # os.stat takes it faster than a Path
        self._problem: Exception | None = None
        self._next_attempt = 0.0
        self._connection: SqliteConnection | None = None
        self._identity: FileIdentity | None = None
        self._wal: FileIdentity | None = None

    def run(self, work: Callable[[SqliteConnection], T]) -> T:
        """What `work` returns. The file must exist. A statement that changes rows is a transaction of its own."""
        if self._problem is not None and time.monotonic() < self._next_attempt:
            raise self._unavailable(self._problem)
        return self._run(work, create=False)

    def version(self) -> tuple[int, int, int]:
        """Changes with each commit of any process, and with each replacement of the file.

        `pragma data_version` covers the commits of other connections; it takes half the time of reading a row.
        """
        data: int = self.run(lambda connection: connection.execute("pragma data_version").fetchone()[0])
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
        except (sqlite3.Error, OSError, UnusableTables) as error:
            self.close()
            self.available, self._next_attempt = False, time.monotonic() + _RETRY_INTERVAL
            if str(self._problem) != str(error):
                self._log.error("portproxy: the %s %s cannot be used: %s", self._label, self._path, error)
            self._problem = error.with_traceback(None)
            raise self._unavailable(error) from None
        if not self.available:
            self.available, self._problem, self._next_attempt = True, None, 0.0
            self._log.info("portproxy: opened the file of the %s, %s", self._label, self._path)
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
                raise MissingFile("there is no such file")
            identity = _create(self._path)
        self._connection, self._identity = _connect(self._path, self._prepare), identity
        self._wal = _identity(f"{self._name}-wal")
        self.open_count += 1
        return self._connection


def is_locked(error: Exception) -> bool:
    """True if another process has locked the file for too long."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED with their extended codes
    return "locked" in str(error)  # Python 3.10 does not pass the code on


def split_statements(script: str) -> Iterator[str]:
    """The statements of a script. A semicolon within a trigger does not end its statement."""
    statement = ""
    for part in script.split(";")[:-1]:
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _connect(path: Path, prepare: Callable[[SqliteConnection], None]) -> SqliteConnection:
    connection = sqlite3.connect(path, timeout=_LOCK_TIMEOUT, isolation_level=None)
    try:
        for pragma in ("journal_mode = wal", "synchronous = normal", "trusted_schema = off", "cell_size_check = on"):
            connection.execute(f"pragma {pragma}").fetchall()
        prepare(connection)
    except sqlite3.OperationalError:
        connection.close()
        if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):  # SQLite's own message does not say so
            raise PermissionError("it or its folder is read-only") from None
        raise
    except BaseException:
        connection.close()
        raise
    return connection


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
