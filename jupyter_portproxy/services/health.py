"""Health of a running service: its readiness, then periodic checks and the time since its last use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import Enum, auto

from .templates import Template

_FIRST_PROBE_PAUSE, _MAX_PROBE_PAUSE = 0.05, 0.5  # s, between two probes of a service that is not ready yet
_SILENT_AFTER = 2  # failed checks in a row


class Health(Enum):
    ANSWERING = auto()
    SILENT = auto()
    LATE = auto()  # it was not ready within its template's `ready_timeout`
    IDLE = auto()  # it was not used for its template's `idle_timeout`


async def follow_health(
    probe: Callable[[], Awaitable[bool]],
    template: Template,
    last_used: Callable[[], float],
    is_watched: Callable[[], bool],
    period: float,
) -> AsyncIterator[Health]:
    """Yield the health of one run after each check: ANSWERING as soon as it is ready. LATE and IDLE are the last.

    Args:
        probe: True if the service accepts connections, or answers; it takes two seconds at most.
        last_used: monotonic time of the last use.
        is_watched: True while clients follow the states. Only then is a ready service probed.
        period: seconds between two checks of a ready service.
    """
    deadline, pause = time.monotonic() + template.ready_timeout, _FIRST_PROBE_PAUSE
    while not await probe():
        if time.monotonic() >= deadline:
            yield Health.LATE
            return
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _MAX_PROBE_PAUSE)
    yield Health.ANSWERING
    failed_checks = 0
    while True:
        await asyncio.sleep(period)
        if template.idle_timeout and time.monotonic() - last_used() >= template.idle_timeout:
            yield Health.IDLE
            return
        if is_watched():
            failed_checks = 0 if await probe() else failed_checks + 1
            if failed_checks in (0, _SILENT_AFTER):
                yield Health.SILENT if failed_checks else Health.ANSWERING
