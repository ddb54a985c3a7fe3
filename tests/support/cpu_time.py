"""Limits of time that hold in a test of its own as well as after thousands of others, and on a slow machine."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOP = 0.007  # s, estimated for the machines for which the limits are


def slowness() -> float:
    """How many times as long as on those machines a loop takes here and now; at least 1. Multiply limits by it."""
    return max(1.0, min(_run_loop() for _ in range(5)) / _LOOP)


def takes_less_than(seconds: float, work: Callable[[], object], runs: int = 30) -> bool:
    """Whether one of some runs takes less CPU time, on those machines: each is compared with a loop right after it.

    Other programs slow both down, so that this holds where a limit times `slowness()` of a quiet moment does not.
    """
    for _ in range(runs):
        taken = _time(work)
        if taken < seconds or taken < seconds * _run_loop() / _LOOP:
            return True
    return False


def grows_linearly(whole: Callable[[], object], part: Callable[[], object], times: int = 4, runs: int = 40) -> bool:
    """Whether `whole`, which has `times` as much to do as `part`, takes at most twice as much CPU time as that.

    By turns, the least of each: other programs can only add to it. What takes under a millisecond is not compared.
    """
    least_whole, least_part = float("inf"), float("inf")
    for run in range(runs):
        least_whole = min(least_whole, _time(whole))
        least_part = min(least_part, _time(part))
        if run >= 2 and least_whole < max(0.001, 2 * times * least_part):
            return True
    return False


def _time(work: Callable[[], object]) -> float:
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


def _run_loop() -> float:
    begun, number = time.thread_time(), 0
    for each in range(200_000):
        number += each % 7
    return time.thread_time() - begun


@contextmanager
def takes_at_most(seconds: float) -> Iterator[None]:
    """Fail if the block takes more CPU time of this thread. The garbage collector does not go through what was there before."""
    gc.freeze()
    begun = time.thread_time()
    try:
        yield
        taken = time.thread_time() - begun
    finally:
        gc.unfreeze()
    assert taken < seconds or taken < seconds * slowness()
