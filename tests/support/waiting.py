"""Waiting for what must come true, with a limit; and for what must come to rest."""

from __future__ import annotations

import asyncio
import time


async def eventually(predicate, seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


async def settled(count, seconds: float = 10) -> int:
    """The value of `count()` once it has stood still for 0.3 s."""
    end, value, since = time.monotonic() + seconds, -1, 0.0
    while time.monotonic() < end:
        if (now := count()) != value:
            value, since = now, time.monotonic()
        elif time.monotonic() - since > 0.3:
            return value
        await asyncio.sleep(0.02)
    raise AssertionError(f"it never stood still; it is at {value}")
