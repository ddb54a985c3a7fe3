"""Health of running services: readiness, then checks in each service's own period, and the time since the last use.

There is one timer for all services, which is set for the next thing that is due. It is not set while nothing can become due: for
ready services without a `health_period` and an `idle_timeout`, as long as no clients watch. A probe is a task of its own, so that
a slow one delays no other; the next one of a service is due some time after the end of the last.

States of a followed run, all changed in `_check` and `_look`:

    not ready   a probe is in flight, or due after a pause that grows
    ready       a probe is in flight, due after a period, or never due
    ended       `end` was called, or the run was late or idle
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial

from ..system import background_tasks
from .service import Service

_FIRST_PROBE_PAUSE, _MAX_PROBE_PAUSE = 0.05, 0.5  # s, between two probes of a service that is not ready yet
_TICKS = 5  # in each period
_NEVER = math.inf


def _next_tick(due: float, period: float) -> float:
    """The nearest time at which other services of this period are checked too: checks in a row cost a third of single ones."""
    tick = period / _TICKS
    return round(due / tick) * tick


class Health(Enum):
    ANSWERING = auto()  # it has just become ready, or a check succeeded
    SILENT = auto()  # as many checks in a row have failed as its template's `health_failures` says
    LATE = auto()  # it was not ready within its template's `ready_timeout`
    IDLE = auto()  # it was not used for its template's `idle_timeout`


@dataclass(eq=False, slots=True)
class _FollowedRun:
    """One run of a service. Times are those of `time.monotonic`.

    Attributes:
        deadline: until when it must be ready.
        pause: seconds until the next probe, while it is not ready.
        checked: time of the end of the last probe.
        failures: checks in a row that have failed.
        check: the probe in flight.
    """

    service: Service
    deadline: float
    pause: float = _FIRST_PROBE_PAUSE
    checked: float = field(default_factory=time.monotonic)
    is_ready: bool = False
    failures: int = 0
    check: asyncio.Task[None] | None = None


class HealthChecks:
    """The health of all services of a server.

    Args:
        probe: True if a service accepts connections, or answers; it takes two seconds at most.
        report: called with a service and its health after each check; LATE and IDLE are the last of a run.
        watch_period: seconds between two checks of a ready service without a `health_period`, while clients watch.
        retry_pause: seconds after a probe that failed with an error of this program, doubled with each.
    """

    def __init__(
        self,
        probe: Callable[[Service], Awaitable[bool]],
        report: Callable[[Service, Health], None],
        log: logging.Logger,
        *,
        watch_period: float = 5.0,
        retry_pause: float = background_tasks.FIRST_PAUSE,
    ) -> None:
        self._probe, self._report, self._log = probe, report, log
        self._watch_period, self._retry_pause = watch_period, retry_pause
        self._runs: dict[Service, _FollowedRun] = {}
        self._watchers, self._watched_since = 0, 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._due = _NEVER

    def begin(self, service: Service) -> None:
        """Follow the run of a service that has just been started."""
        run = self._runs[service] = _FollowedRun(service, time.monotonic() + service.template.ready_timeout)
        if service.template.ready == "started":
            run.is_ready = True
            self._report(service, Health.ANSWERING)
        else:
            self._begin_check(run)
        self._set_timer()

    def end(self, service: Service) -> None:
        run = self._runs.pop(service, None)
        if run is not None and run.check is not None and run.check is not asyncio.current_task():
            run.check.cancel()
        self._set_timer()

    def watch(self) -> Callable[[], None]:
        """Check all ready services as long as clients watch.

        Returns:
            ends that.
        """
        if not self._watchers:
            self._watched_since = time.monotonic()
        self._watchers += 1
        self._set_timer()

        def end() -> None:
            self._watchers -= 1
            self._set_timer()

        return end

    # ---- the timer ----

    def _set_timer(self) -> None:
        due = min(map(self._next_due, self._runs.values()), default=_NEVER)
        if due == self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due, self._timer = due, None
        if due != _NEVER:
            pause = max(0.0, due - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(pause, self._look)

    def _look(self) -> None:
        """Begin the checks that are due, and report idle services."""
        self._due, self._timer = _NEVER, None
        now = time.monotonic() + 0.001  # the timer may be a little early
        for run in list(self._runs.values()):
            if self._idle_at(run) <= now:
                self.end(run.service)
                self._report(run.service, Health.IDLE)
            elif self._probe_at(run) <= now:
                self._begin_check(run)
        self._set_timer()

    def _next_due(self, run: _FollowedRun) -> float:
        return min(self._probe_at(run), self._idle_at(run))

    def _idle_at(self, run: _FollowedRun) -> float:
        timeout = run.service.template.idle_timeout
        return run.service.last_used + timeout if timeout and run.is_ready else _NEVER

    def _probe_at(self, run: _FollowedRun) -> float:
        if run.check is not None or run.service.template.ready == "started":
            return _NEVER
        if not run.is_ready:
            return run.checked + run.pause
        if period := run.service.template.health_period:
            return _next_tick(run.checked + period, period)
        if not self._watchers:
            return _NEVER
        # Each service keeps its phase: the first watcher does not begin the checks of all services at the same moment.
        missed = max(0, math.floor((self._watched_since - run.checked) / self._watch_period))
        return _next_tick(run.checked + (missed + 1) * self._watch_period, self._watch_period)

    # ---- checks ----

    def _begin_check(self, run: _FollowedRun) -> None:
        work = partial(self._check, run)
        run.check = background_tasks.run("service health", work, self._log, first_pause=self._retry_pause)

    async def _check(self, run: _FollowedRun) -> None:
        answers = await self._probe(run.service)
        run.checked, run.check = time.monotonic(), None
        if answers:
            run.is_ready, run.failures = True, 0
            self._report(run.service, Health.ANSWERING)
        elif run.is_ready:
            run.failures += 1
            if run.failures == run.service.template.health_failures:
                self._report(run.service, Health.SILENT)
        elif run.checked >= run.deadline:
            self.end(run.service)
            self._report(run.service, Health.LATE)
        else:
            run.pause = min(run.pause * 1.5, _MAX_PROBE_PAUSE)
        self._set_timer()
