"""Postgres: connections that are given up rather than waited for. The only door to asyncpg, which is imported when needed.

Rule of this file: foreign errors end here. What the database refuses is Refused, all else is Away; both texts are for the
log. A connection on which something failed or took too long is cut, never used again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

_MISSING = "Placements are in PostgreSQL, and the package asyncpg is not installed: pip install 'jupyter_portproxy[postgres]'"
Row = Mapping[str, Any]
T = TypeVar("T")


class MissingPackage(RuntimeError):
    """asyncpg is not installed."""

    def __init__(self) -> None:
        super().__init__(_MISSING)


class Away(Exception):
    """The database did not do what it was asked, for whatever reason. `lost`: the connection broke."""

    def __init__(self, text: str, *, lost: bool) -> None:
        super().__init__(text)
        self.lost = lost


class Refused(Exception):
    """A row breaks the rules of its table. `constraint`: the name of the rule."""

    def __init__(self, constraint: str) -> None:
        super().__init__(f"the constraint {constraint} is broken")
        self.constraint = constraint


class Line:
    """One connection.

    Args:
        seconds: that one statement may take.
    """

    def __init__(self, connection: Any, translate: Callable[[Exception], Exception], seconds: float) -> None:
        self._connection, self._translate, self._seconds = connection, translate, seconds

    async def fetch(self, sql: str, *arguments: object) -> Sequence[Row]:
        """The rows of one statement.

        Raises:
            Away, Refused
        """
        rows: Sequence[Row] = await self._within(self._connection.fetch(sql, *arguments))
        return rows

    async def run(self, script: str) -> None:
        """Several statements, in one transaction (a simple query is one).

        Raises:
            Away, Refused
        """
        await self._within(self._connection.execute(script))

    async def listen(self, channel: str, callback: Callable[[], None]) -> None:
        """Call back at each notification, and when the connection is lost.

        Raises:
            Away: a standby server does not let anybody listen.
        """
        self._connection.add_termination_listener(lambda *_: callback())
        await self._within(self._connection.add_listener(channel, lambda *_: callback()))

    @property
    def usable(self) -> bool:
        return not self._connection.is_closed()

    def cut(self) -> None:
        """Give the connection up without a word, whatever the server is doing."""
        self._connection.terminate()

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._connection.close(), 1)
        self.cut()

    async def _within(self, work: Awaitable[T]) -> T:
        try:
            return await asyncio.wait_for(work, self._seconds)
        except Exception as error:
            raise self._translate(error) from None


class Postgres:
    """A database, and a few connections to it for statements that stand alone.

    Args:
        dsn: as libpq's: `postgresql://user@host:5432/database`.
        seconds: that a connection, or one statement, may take.
        most: connections that are open at once for `fetch`.

    Raises:
        MissingPackage
    """

    def __init__(self, dsn: str, *, seconds: float = 2.0, most: int = 4) -> None:
        try:
            import asyncpg
        except ImportError:
            raise MissingPackage() from None
        self._asyncpg: Any = asyncpg
        self._dsn, self._seconds = dsn, seconds
        self._turns = asyncio.Semaphore(most)
        self._idle: list[Line] = []
        self._closed = False

    async def connect(self) -> Line:
        """A connection for the caller alone.

        Raises:
            Away
        """
        try:
            connecting = self._asyncpg.connect(self._dsn, timeout=self._seconds)
            connection = await asyncio.wait_for(connecting, self._seconds + 1)
        except Exception as error:
            raise self._translate(error) from None
        return Line(connection, self._translate, self._seconds)

    async def fetch(self, sql: str, *arguments: object) -> Sequence[Row]:
        """The rows of a statement that changes nothing. One that meets a connection which the server has closed is sent again.

        Raises:
            Away, Refused
        """
        try:
            return await asyncio.wait_for(self._fetch(sql, arguments), self._seconds)
        except asyncio.TimeoutError:
            raise Away("the database takes too long", lost=False) from None

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            await self._idle.pop().close()

    async def _fetch(self, sql: str, arguments: tuple[object, ...]) -> Sequence[Row]:
        async with self._turns:
            try:
                return await self._attempt(sql, arguments)
            except Away as away:
                if not away.lost:
                    raise
            while self._idle:  # those are as old
                self._idle.pop().cut()
            return await self._attempt(sql, arguments)

    async def _attempt(self, sql: str, arguments: tuple[object, ...]) -> Sequence[Row]:
        line = self._idle.pop() if self._idle else await self.connect()
        if not line.usable:
            line.cut()
            line = await self.connect()
        try:
            rows = await line.fetch(sql, *arguments)
        except BaseException:
            line.cut()
            raise
        if self._closed:
            line.cut()
        else:
            self._idle.append(line)
        return rows

    def _translate(self, error: Exception) -> Exception:
        a = self._asyncpg
        if isinstance(error, a.IntegrityConstraintViolationError):
            return Refused(str(error.constraint_name))
        if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
            return Away("the database takes too long", lost=False)
        lost = (OSError, a.InterfaceError, a.InternalClientError, a.PostgresConnectionError, a.OperatorInterventionError)
        return Away(f"{type(error).__name__}: {error}", lost=isinstance(error, lost))
