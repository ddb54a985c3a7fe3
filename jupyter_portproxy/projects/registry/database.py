"""The registry's file: opened, made, migrated, and opened afresh when it was replaced. The only door to sqlite3.

Rule of this file: whatever ails the file is a RegistryAway for who asks and one line in the log, and the loop waits for a
locked one for a fifth of its time at most.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ...errors import PROJECT_HOST, RegistryAway

_BUSY = 0.05  # seconds that SQLite waits for a lock, and the loop with it
_PAUSE = 0.25  # seconds without another try
# Numbered by their place; `pragma user_version` says how many a file has seen. Never change one: append.
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
        # released: null while lent, else when it was given back, in seconds of the monotonic clock
        "create table leases (port integer primary key, key text not null, boot text not null, released real)",
        "create index leases_key on leases (key)",
        "create table counter (generation integer not null)",
        "insert into counter values (0)",
    ),
    ("alter table projects add column start_on_request integer not null default 0",),
)
Connection = sqlite3.Connection
Identity = tuple[int, int]  # device and inode
T = TypeVar("T")


class RegistryFile:
    """A SQLite file and the one connection to it.

    Attributes:
        opened: how often it was opened.
        away: the last try failed, or there was none.
        heard: monotonic time of the last success.
        tries: how often the file was asked.
        written: how often this connection has written, or tried to.
    """

    def __init__(self, path: Path, log: logging.Logger) -> None:
        self.opened = self.tries = self.written = 0
        self.away, self.heard = True, -float("inf")
        self._path, self._log, self._problem, self._not_before = path, log, "", 0.0
        self._name = str(path)
        self._db: Connection | None = None
        self._identity: Identity | None = None
        self._wal: Identity | None = None

    def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` reads.

        Raises:
            RegistryAway
        """
        if time.monotonic() < self._not_before:
            raise RegistryAway(PROJECT_HOST)
        return self._run(work, create=False)

    def version(self) -> tuple[int, int, int]:
        """Nobody has written, and no other file has come in this one's place, between two calls that return the same.

        `pragma data_version` tells of the commits of all other connections; it takes half the time that reading a row does.

        Raises:
            RegistryAway
        """
        data = self.read(_data_version)
        return self.opened, self.written, data

    def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, done in one transaction; the file is made if it is not there. What `work` raises undoes it.

        Raises:
            RegistryAway
        """

        def transaction(db: Connection) -> T:
            self.written += 1
            db.execute("begin immediate")
            try:
                result = work(db)
                db.execute("commit")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("rollback")
                raise
            return result

        return self._run(transaction, create=True)

    def close(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _run(self, work: Callable[[Connection], T], *, create: bool) -> T:
        self.tries += 1
        try:
            result = work(self._open(create=create))
        except (sqlite3.Error, OSError) as error:
            self.close()
            self.away, self._not_before = True, time.monotonic() + _PAUSE
            if self._problem != str(error):
                self._problem = str(error)
                self._log.error("portproxy: the registry %s cannot be used: %s", self._path, error)
            raise RegistryAway(PROJECT_HOST) from None
        if self.away:
            self.away, self._problem, self._not_before = False, "", 0.0
            self._log.info("portproxy: the registry %s is open", self._path)
        self.heard = time.monotonic()
        return result

    def _open(self, *, create: bool) -> Connection:
        """The connection; another one if the file is not the one that was opened. While we hold that, its inode is not reused."""
        identity = _checked_identity(self._name)
        if self._db is not None and identity == self._identity:
            return self._db
        if self._db is not None and self._wal is not None and self._wal == _identity(self._beside("-wal")):
            # SQLite would replay the replaced file's log into the new file: a log does not say whose it is.
            for name in ("-wal", "-shm"):
                self._beside(name).unlink(missing_ok=True)
        self.close()
        if identity is None:
            if not create:
                raise FileNotFoundError("there is no such file")
            identity = _make(self._path)
        self._db, self._identity = _connect(self._path), identity
        self._wal = _identity(self._beside("-wal"))
        self.opened += 1
        return self._db

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)


def _connect(path: Path) -> Connection:
    db = sqlite3.connect(path, timeout=_BUSY, isolation_level=None)
    try:
        for pragma in ("journal_mode = wal", "synchronous = normal", "trusted_schema = off", "cell_size_check = on"):
            db.execute(f"pragma {pragma}").fetchall()
        _migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: Connection) -> None:
    if _version(db) == len(MIGRATIONS):
        return
    db.execute("begin immediate")
    version = _version(db)  # another process may have been quicker
    if version > len(MIGRATIONS):
        raise sqlite3.DatabaseError(f"a newer version of jupyter_portproxy made it (schema {version})")
    for statement in (statement for migration in MIGRATIONS[version:] for statement in migration):
        db.execute(statement)
    db.execute(f"pragma user_version = {len(MIGRATIONS)}")
    db.execute("commit")


def _data_version(db: Connection) -> int:
    return int(db.execute("pragma data_version").fetchone()[0])


def _version(db: Connection) -> int:
    return int(db.execute("pragma user_version").fetchone()[0])


def _make(path: Path) -> Identity:
    """Only a new file is opened by hand: to close one that is in use would end SQLite's locks on it (POSIX)."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    made = os.fstat(descriptor)
    os.close(descriptor)
    return made.st_dev, made.st_ino


def _identity(path: Path) -> Identity | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _checked_identity(path: str) -> Identity | None:
    """The same of the database, of which nobody else may be the owner or a reader."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    if os.name == "posix":
        if found.st_uid != os.getuid() and os.getuid() != 0:
            raise PermissionError("it belongs to another user")
        if found.st_mode & 0o077:
            os.chmod(path, 0o600)
    return found.st_dev, found.st_ino
