"""A bounded cache of look-ups: one query at a time for each key, and no result older than the last known change.

States of a key, changed by the caller's `drop`, `clear`, `mark_stale`, `mark_all_stale` and `discard_queries`:
- absent: `get` and `get_stale` return None; `fetch` starts a query.
- queried: a task in `_queries`, which all callers of `fetch` share. A change removes it there: its result is not kept, and its
  callers query again.
- current: `get` returns the value.
- stale: `get` returns None, and `get_stale` the value until a deadline, for when no query succeeds. `fetch` makes it current.
- temporary: a value that may change without notice (`is_permanent` is false); current for half a second, in a part of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

_MAX_ATTEMPTS = 3
_TEMPORARY = 0.5  # seconds
_MAX_TEMPORARY = 1000
_RECENT = 1.0  # seconds: `mark_stale` does not affect a value that was queried later than that
T = TypeVar("T")


@dataclass(slots=True)
class _Entry(Generic[T]):
    """`until`: for a stale entry, the end of its use by `get_stale`."""

    value: T
    since: float
    is_stale: bool = False
    until: float = float("inf")


class Cache(Generic[T]):
    """key -> value. Times are those of `time.monotonic`.

    Args:
        query: looks a value up.
        is_permanent: True for a value that stays until it is dropped. Other values cannot displace these.
        max_entries: the least recently used one is removed first.
    """

    def __init__(self, query: Callable[[str], Awaitable[T]], is_permanent: Callable[[T], bool], max_entries: int) -> None:
        self.query_count = 0
        self._query, self._is_permanent, self._max_entries = query, is_permanent, max_entries
        self._entries: OrderedDict[str, _Entry[T]] = OrderedDict()
        self._temporary: OrderedDict[str, tuple[T, float]] = OrderedDict()
        self._queries: dict[str, asyncio.Task[tuple[T, bool]]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> T | None:
        """The value, if it is current."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            return None if entry.is_stale else entry.value
        temporary = self._temporary.get(key)
        return temporary[0] if temporary is not None and time.monotonic() < temporary[1] else None

    def get_stale(self, key: str) -> T | None:
        """A stale value before its deadline, or a current one."""
        entry = self._entries.get(key)
        return entry.value if entry is not None and time.monotonic() < entry.until else None

    async def fetch(self, key: str) -> T:
        """The value by a query that began after the last change. Raises what the query raises."""
        for _ in range(_MAX_ATTEMPTS):
            value, is_valid = await asyncio.shield(self._queries.get(key) or self._begin(key))
            if is_valid:
                break
        return value  # after the last attempt: the query began after this call did

    def drop(self, key: str) -> None:
        """The value of this key has changed."""
        self._entries.pop(key, None)
        self._temporary.pop(key, None)
        self._queries.pop(key, None)

    def clear(self) -> None:
        """All values may have changed."""
        self._entries.clear()
        self.discard_queries()

    def mark_stale(self, key: str, until: float) -> None:
        """The value of this key is doubtful, unless it was queried within the last second."""
        entry = self._entries.get(key)
        if entry is not None and time.monotonic() - entry.since >= _RECENT:
            entry.is_stale, entry.until = True, min(entry.until, until)

    def mark_all_stale(self, until: float) -> None:
        """All values are doubtful, and the results of running queries too."""
        for entry in self._entries.values():
            entry.is_stale, entry.until = True, min(entry.until, until)
        self.discard_queries()

    def discard_queries(self) -> None:
        """Something has changed, the key is unknown: do not keep results of running queries, nor temporary values."""
        self._temporary.clear()
        self._queries.clear()

    async def close(self) -> None:
        """Wait for the queries that are running; each has its own time limit."""
        while self._queries:
            await asyncio.wait(self._queries.values())

    def _begin(self, key: str) -> asyncio.Task[tuple[T, bool]]:
        task = self._queries[key] = asyncio.create_task(self._run(key), name="portproxy look-up")
        task.add_done_callback(_retrieve)
        return task

    async def _run(self, key: str) -> tuple[T, bool]:
        """The value, and whether nothing has changed since the query began."""
        self.query_count += 1
        since = time.monotonic()
        try:
            value = await self._query(key)
        finally:
            is_valid = self._queries.get(key) is asyncio.current_task()
            if is_valid:
                del self._queries[key]
        if is_valid:
            self._keep(key, value, since)
        return value, is_valid

    def _keep(self, key: str, value: T, since: float) -> None:
        if self._is_permanent(value):
            self._entries[key] = _Entry(value, since)
            self._entries.move_to_end(key)
            if len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
            return
        self._entries.pop(key, None)
        self._temporary[key] = (value, since + _TEMPORARY)
        if len(self._temporary) > _MAX_TEMPORARY:
            self._temporary.popitem(last=False)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Retrieve the exception: asyncio would report it as never retrieved if all callers have been cancelled."""
    if not task.cancelled():
        task.exception()
