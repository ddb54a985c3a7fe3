"""The requests of a page that failed since it was loaded, and the one notice about them.

A page load begins with a page navigation that was admitted, and ends with the next one to the same port or service. Failures
without a page load are not counted: a program may well get errors on purpose. Nor is anything while the page doctor makes
requests like a page's. States of a page load:

    COUNTING  fewer than `threshold` different paths have failed
    WAITING   as many have; the notice is published after `delay` seconds, with the number that it is then
    REPORTED  it was published; nothing more is counted
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto

from .notices import FailedRequests, Report

_MAX_PAGES = 100
_MAX_PATHS = 1000  # of one page load
# What browsers request for themselves, and developers' tools: pages are whole without it.
_OPTIONAL = re.compile(r"/favicon\.ico\Z|/apple-touch-icon[^/]*\Z|\.map\Z|/\.well-known/")


class PageState(Enum):
    COUNTING = auto()
    WAITING = auto()
    REPORTED = auto()


class PageLoad:
    """One page load. `timer` is set while it is WAITING."""

    __slots__ = ("failed", "state", "timer")

    def __init__(self) -> None:
        self.state, self.failed = PageState.COUNTING, set[int]()  # hashes of paths
        self.timer: asyncio.TimerHandle | None = None

    def end(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


class PageFailures:
    """The last page load of each port and service.

    Args:
        report: gets the notice.
        threshold: different paths that must have failed for one.
        delay: seconds.
    """

    def __init__(self, report: Report, *, threshold: int = 3, delay: float = 2.0) -> None:
        self._report, self._threshold, self._delay = report, threshold, delay
        self._pages: dict[str, PageLoad] = {}  # by port or service, the oldest first
        self._paused = Counter[str]()  # how often each port or service is paused

    @property
    def is_counting(self) -> bool:
        return bool(self._pages)

    def begin_page(self, target: str) -> None:
        """A page of this port or service is loaded."""
        if target in self._paused:
            return
        if (before := self._pages.pop(target, None)) is not None:
            before.end()
        self._pages[target] = PageLoad()
        if len(self._pages) > _MAX_PAGES:
            self._pages.pop(next(iter(self._pages))).end()

    def count(self, target: str, path: str) -> None:
        """A request for `path` by a page of this port or service has failed."""
        page = self._pages.get(target)
        if page is None or page.state is PageState.REPORTED or target in self._paused:
            return
        if _OPTIONAL.search(path) or len(page.failed) >= _MAX_PATHS:
            return
        page.failed.add(hash(path))
        if page.state is PageState.COUNTING and len(page.failed) >= self._threshold:
            page.state = PageState.WAITING
            page.timer = asyncio.get_running_loop().call_later(self._delay, self._publish, target, page)

    @contextmanager
    def paused(self, *targets: str) -> Iterator[None]:
        """Neither begin page loads of these ports and services nor count their failures."""
        self._paused.update(targets)
        try:
            yield
        finally:
            self._paused -= Counter(targets)  # drops those at 0

    def _publish(self, target: str, page: PageLoad) -> None:
        page.state, page.timer = PageState.REPORTED, None
        self._report(FailedRequests(target, len(page.failed)))
        page.failed.clear()

    def close(self) -> None:
        for page in self._pages.values():
            page.end()
        self._pages.clear()
