"""What is known of projects without asking: bounded, one question at a time for each key, and never older than a change.

Rule of this file: an answer whose question was asked before a change is thrown away, and whoever waited for it asks again.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

_TRIES = 3
_BRIEF = 0.5  # seconds for which an answer is kept that may change any moment
_BRIEF_MOST = 1000
_RECENT = 1.0  # seconds: what was asked so lately is not doubted
T = TypeVar("T")


@dataclass(slots=True)
class _Entry(Generic[T]):
    """`until`: of an entry that is doubted, how long it may stand in for an answer that cannot be had."""

    value: T
    since: float
    doubted: bool = False
    until: float = float("inf")


@dataclass(slots=True, eq=False)
class _Question(Generic[T]):
    """A question that is under way. `void`: something has changed since it was asked."""

    task: asyncio.Task[T] | None = None
    void: bool = False


class Cache(Generic[T]):
    """key -> answer. Times are those of `time.monotonic`.

    Args:
        ask: the question.
        lasts: true for an answer that holds until it is dropped. Others are kept for half a second, apart, so that keys which
            nobody has push out no others.
        most: answers that are kept; the one that was used least lately goes first.
    """

    def __init__(self, ask: Callable[[str], Awaitable[T]], lasts: Callable[[T], bool], most: int) -> None:
        self.questions = 0
        self._ask, self._lasts, self._most = ask, lasts, most
        self._entries: OrderedDict[str, _Entry[T]] = OrderedDict()
        self._brief: OrderedDict[str, tuple[T, float]] = OrderedDict()
        self._questions: dict[str, _Question[T]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> T | None:
        """The answer, if there is one that nobody doubts."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            return None if entry.doubted else entry.value
        brief = self._brief.get(key)
        return brief[0] if brief is not None and time.monotonic() < brief[1] else None

    def last_resort(self, key: str) -> T | None:
        """An answer that is doubted, for when none better can be had; None if there is none, or if its time is over."""
        entry = self._entries.get(key)
        return entry.value if entry is not None and time.monotonic() < entry.until else None

    async def ask(self, key: str) -> T:
        """The answer, asked anew or by a question that is under way and still good. Raises what the question raises."""
        tries = 1
        while True:
            question = self._questions.get(key) or self._begin(key)
            if question.task is None:
                raise RuntimeError("a question is kept once its task is made")
            answer = await asyncio.shield(question.task)
            if not question.void or tries == _TRIES:  # at last: it was asked after this call began, so it is no older than that
                return answer
            tries += 1

    def drop(self, key: str) -> None:
        """It has changed."""
        self._entries.pop(key, None)
        self._brief.pop(key, None)
        self._void(key)

    def clear(self) -> None:
        """All may have changed."""
        self._entries.clear()
        self.fence()

    def doubt(self, key: str, until: float) -> None:
        """Ask again next time; what is known stands in if that fails, until a time. Not what was asked a moment ago."""
        entry = self._entries.get(key)
        if entry is not None and time.monotonic() - entry.since >= _RECENT:
            entry.doubted, entry.until = True, min(entry.until, until)

    def doubt_all(self, until: float) -> None:
        """The same for all, however lately they were asked, and questions under way count for nothing."""
        for entry in self._entries.values():
            entry.doubted, entry.until = True, min(entry.until, until)
        self.fence()

    def fence(self) -> None:
        """Something has changed, and nobody knows whose: answers to questions under way, and brief ones, count for nothing."""
        self._brief.clear()
        for key in list(self._questions):
            self._void(key)

    async def close(self) -> None:
        """Wait for the questions that are under way; each has a limit of its own."""
        while tasks := [question.task for question in self._questions.values() if question.task is not None]:
            await asyncio.wait(tasks)

    def _begin(self, key: str) -> _Question[T]:
        question = self._questions[key] = _Question()
        question.task = asyncio.create_task(self._put(key, question), name="portproxy look-up")
        question.task.add_done_callback(_retrieve)
        return question

    async def _put(self, key: str, question: _Question[T]) -> T:
        self.questions += 1
        begun = time.monotonic()
        try:
            answer = await self._ask(key)
        finally:
            if self._questions.get(key) is question:
                del self._questions[key]
        if not question.void:
            self._keep(key, answer, begun)
        return answer

    def _keep(self, key: str, answer: T, begun: float) -> None:
        if self._lasts(answer):
            self._entries[key] = _Entry(answer, begun)
            self._entries.move_to_end(key)
            if len(self._entries) > self._most:
                self._entries.popitem(last=False)
            return
        self._entries.pop(key, None)
        self._brief[key] = (answer, begun + _BRIEF)
        if len(self._brief) > _BRIEF_MOST:
            self._brief.popitem(last=False)

    def _void(self, key: str) -> None:
        question = self._questions.pop(key, None)
        if question is not None:
            question.void = True


def _retrieve(task: asyncio.Task[T]) -> None:
    """Whoever asked may be gone: then nobody looks at the exception, and asyncio would complain."""
    if not task.cancelled():
        task.exception()
