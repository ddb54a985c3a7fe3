"""Background tasks: a failure is logged, counted for `/metrics`, and the work starts again after a pause that grows.

A task ends when its work returns or when its owner cancels it, never by an exception.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Counter

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # s


def run(
    name: str,
    work: Callable[[], Awaitable[None]],
    log: logging.Logger,
    *,
    first_pause: float = FIRST_PAUSE,
    longest_pause: float = LONGEST_PAUSE,
) -> asyncio.Task[None]:
    """Start a task that does `work`, again after each failure, until it returns.

    Args:
        name: for the log and a label in `/metrics`; not with parts that differ from service to service.
        first_pause: seconds after a failure, doubled with each.
        longest_pause: seconds; work that ran for longer than this before it failed has the first pause again.
    """
    supervised = _supervise(name, work, log, first_pause, longest_pause)
    return asyncio.get_running_loop().create_task(supervised, name=f"portproxy {name}")


async def _supervise(
    name: str, work: Callable[[], Awaitable[None]], log: logging.Logger, first_pause: float, longest_pause: float
) -> None:
    pause = first_pause
    while True:
        started = time.monotonic()
        try:
            return await work()
        except Exception:
            if time.monotonic() - started > longest_pause:
                pause = first_pause
            _failures().labels(name).inc()
            log.exception("portproxy: the background task '%s' failed; it starts again in %g s", name, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest_pause)


@cache
def _failures() -> Counter:
    """Made at the first failure: the command line imports this module too, and has no metrics."""
    from prometheus_client import Counter

    return Counter("jupyter_portproxy_background_failures", "Failures of background tasks, by task", ["task"])
