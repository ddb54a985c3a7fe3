"""Connections to Postgres, and the translation of asyncpg's errors. The only module that imports asyncpg, and only when needed.

States of a connection: idle in the pool, in use, or cut. An error or a timeout cuts it: it is never used again, and its server
is not waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from . import postgres_schema as sql
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

_MISSING = "Placements are in PostgreSQL, and the package asyncpg is not installed: pip install 'jupyter_portproxy[postgres]'"
_TIMEOUT = "The database takes too long."
_NO_ANSWER = "The database does not answer."
_INVALID_LOGIN = "The database does not take this user or password."
_GATHER_TIME = 0.02  # seconds in which further notifications are combined
# By SQLSTATE, or by its class, the first two characters (PostgreSQL's documentation, appendix A).
_REASONS = {
    "08": _NO_ANSWER,
    "22": INVALID_TEXT,
    "28": _INVALID_LOGIN,
    "25006": "The database is a standby; nothing can be changed there.",
    "3D000": "The server has no such database.",
    "42501": "The database does not let this user do that.",
    "42703": OLD_TABLES,
    "42P01": NO_TABLES,
}
T = TypeVar("T")


class MissingPackage(RuntimeError):
    """asyncpg is not installed."""

    def __init__(self) -> None:
        super().__init__(_MISSING)


class PostgresConnection:
    """One connection. All methods that wait raise DatabaseUnavailable or ConstraintViolation.

    Args:
        timeout: for one statement, in seconds.
    """

    def __init__(self, connection: Any, translate: Callable[[Exception], Exception], timeout: float) -> None:
        self._connection, self._translate, self._timeout = connection, translate, timeout
        self._notified = asyncio.Event()

    async def fetch(self, statement: str, *arguments: object) -> Sequence[Row]:
        """The rows of one statement."""
        rows: Sequence[Row] = await self._run(self._connection.fetch(statement, *arguments))
        return rows

    async def execute(self, script: str) -> None:
        """Execute several statements in one transaction (a simple query is one)."""
        await self._run(self._connection.execute(script))

    async def begin(self) -> None:
        """See StoreConnection."""
        await self.execute("begin; lock table project_hosts, projects, project_members in exclusive mode")

    async def commit(self) -> None:
        await self.execute("commit")

    async def listen(self, channel: str, callback: Callable[[], None]) -> None:
        """Call back at each notification, and when the connection is lost. A standby server does not allow this."""
        self._connection.add_termination_listener(lambda *_: callback())
        await self._run(self._connection.add_listener(channel, lambda *_: callback()))

    async def follow_changes(self) -> None:
        """See StoreConnection."""
        await self.listen(sql.CHANNEL, self._notified.set)

    async def wait_for_change(self, timeout: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._notified.wait(), timeout)
            await asyncio.sleep(_GATHER_TIME)
        self._notified.clear()

    @property
    def is_usable(self) -> bool:
        return not self._connection.is_closed()

    def cut(self) -> None:
        """Close the connection at once, whatever the server is doing."""
        self._connection.terminate()

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._connection.close(), 1)
        self.cut()

    async def _run(self, work: Awaitable[T]) -> T:
        try:
            return await asyncio.wait_for(work, self._timeout)
        except Exception as error:
            raise self._translate(error) from None


class PostgresPool:
    """A Store: a database, and a few connections to it for statements that stand alone.

    Args:
        dsn: as libpq's: `postgresql://user@host:5432/database`.
        timeout: for a connection, or one statement, in seconds.
        max_connections: for `fetch`.
        resend: `fetch` sends a statement again if the server has closed an idle connection: for statements that change nothing.

    Raises:
        MissingPackage
    """

    statements: Statements = sql

    def __init__(self, dsn: str, *, timeout: float = 2.0, max_connections: int = 4, resend: bool = True) -> None:
        try:
            import asyncpg
        except ImportError:
            raise MissingPackage() from None
        self._asyncpg: Any = asyncpg
        self._dsn, self._timeout, self._resend = dsn, timeout, resend
        self._slots = asyncio.Semaphore(max_connections)
        self._idle: list[PostgresConnection] = []
        self._closed = False

    async def connect(self) -> PostgresConnection:
        """A connection outside the pool. Raises DatabaseUnavailable."""
        try:
            connecting = self._asyncpg.connect(self._dsn, timeout=self._timeout)
            connection = await asyncio.wait_for(connecting, self._timeout + 1)
        except Exception as error:
            raise self._translate(error) from None
        return PostgresConnection(connection, self._translate, self._timeout)

    async def init(self, migrations: Sequence[str]) -> int:
        """See Store. Several programs may do so at once."""
        connection = await self.connect()
        try:
            await connection.fetch("select pg_advisory_lock($1)", sql.LOCK)
            return await _migrate(connection, migrations)
        finally:
            await connection.close()  # which releases the lock

    async def fetch(self, statement: str, *arguments: object) -> Sequence[Row]:
        """The rows of a statement. Raises DatabaseUnavailable or ConstraintViolation."""
        try:
            return await asyncio.wait_for(self._fetch(statement, arguments), self._timeout)
        except asyncio.TimeoutError as error:
            raise self._translate(error) from None

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            await self._idle.pop().close()

    async def _fetch(self, statement: str, arguments: tuple[object, ...]) -> Sequence[Row]:
        async with self._slots:
            try:
                return await self._fetch_once(statement, arguments)
            except DatabaseUnavailable as error:
                if not error.is_lost or not self._resend:
                    raise
            while self._idle:  # these are as old
                self._idle.pop().cut()
            return await self._fetch_once(statement, arguments)

    async def _fetch_once(self, statement: str, arguments: tuple[object, ...]) -> Sequence[Row]:
        connection = self._idle.pop() if self._idle else await self.connect()
        if not connection.is_usable:
            connection.cut()
            connection = await self.connect()
        try:
            rows = await connection.fetch(statement, *arguments)
        except BaseException:
            connection.cut()
            raise
        if self._closed:
            connection.cut()
        else:
            self._idle.append(connection)
        return rows

    def _translate(self, error: Exception) -> Exception:
        pg = self._asyncpg
        if isinstance(error, pg.IntegrityConstraintViolationError):
            return ConstraintViolation(str(error.constraint_name))
        if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
            return DatabaseUnavailable("the database takes too long", _TIMEOUT, is_lost=False)
        lost = (OSError, pg.InterfaceError, pg.InternalClientError, pg.PostgresConnectionError, pg.OperatorInterventionError)
        text = f"{type(error).__name__}: {error}"
        return DatabaseUnavailable(text, self._reason(error), is_lost=isinstance(error, lost))

    def _reason(self, error: Exception) -> str:
        pg = self._asyncpg
        if isinstance(error, pg.PostgresError):
            reason = _REASONS.get(error.sqlstate or "") or _REASONS.get((error.sqlstate or "")[:2])
        elif isinstance(error, OSError):
            reason = _NO_ANSWER
        elif isinstance(error, pg.exceptions.ClientConfigurationError):
            reason = INVALID_DSN
        elif isinstance(error, (UnicodeError, pg.InterfaceError)) and isinstance(error, ValueError):
            reason = INVALID_TEXT  # asyncpg cannot encode an argument
        else:
            reason = INVALID_DSN if isinstance(error, ValueError) else None
        return reason or f"The database cannot be used ({type(error).__name__})."


async def _migrate(connection: PostgresConnection, migrations: Sequence[str]) -> int:
    await connection.execute(sql.VERSIONS)
    rows = await connection.fetch("select coalesce(max(number), 0) as number from placement_migrations")
    done = int(rows[0]["number"])
    if done > len(migrations):
        raise newer_tables()
    for number, migration in enumerate(migrations[done:], done + 1):
        await connection.execute(f"{migration}; {VERSION.format(number=number)}")
    return len(migrations)
