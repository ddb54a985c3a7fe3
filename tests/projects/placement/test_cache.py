"""One question at a time for each key, and no answer that is older than the last change."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_portproxy.projects.placement.cache import Cache

FOREVER = float("inf")


class Source:
    """Answers with what `values` has when the question is let through; those below zero last for a moment only."""

    def __init__(self, most: int = 100) -> None:
        self.values: dict[str, int] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.queries: list[str] = []
        self.cache: Cache[int] = Cache(self.ask, lambda value: value >= 0, most)

    async def ask(self, key: str) -> int:
        self.queries.append(key)
        value = self.values.get(key, -1)
        await self.gate.wait()
        if value == 13:
            raise LookupError(key)
        return value


async def asking(source, key="k", count=1):
    """So many that ask and wait at the closed gate."""
    source.gate.clear()
    tasks = [asyncio.create_task(source.cache.fetch(key)) for _ in range(count)]
    await asyncio.sleep(0.01)
    return tasks


async def test_an_answer_is_kept_until_it_is_dropped():
    source = Source()
    source.values["k"] = 1
    assert source.cache.get("k") is None
    assert await source.cache.fetch("k") == 1 == source.cache.get("k")
    source.cache.drop("k")
    assert source.cache.get("k") is None and source.cache.get_stale("k") is None


async def test_a_thousand_that_ask_at_once_ask_once():
    source = Source()
    source.values["k"] = 1
    tasks = await asking(source, count=1000)
    source.gate.set()
    assert await asyncio.gather(*tasks) == [1] * 1000
    assert source.queries == ["k"] and source.cache.query_count == 1


@pytest.mark.parametrize("change", [lambda c: c.drop("k"), lambda c: c.clear(), lambda c: c.mark_all_stale(FOREVER)])
async def test_an_answer_from_before_a_change_is_thrown_away(change):
    source = Source()
    source.values["k"] = 1
    tasks = await asking(source, count=3)
    source.values["k"] = 2
    change(source.cache)
    source.gate.set()
    assert await asyncio.gather(*tasks) == [2, 2, 2]
    assert source.cache.get("k") == 2 and source.queries == ["k", "k"]


async def test_a_lookup_after_a_change_does_not_join_one_from_before():
    source = Source()
    source.values["k"] = 1
    (before,) = await asking(source)
    source.cache.drop("k")
    source.values["k"] = 2
    (after,) = await asking(source)
    source.gate.set()
    assert await after == 2 == await before == source.cache.get("k")


async def test_what_never_stands_still_is_answered_all_the_same():
    source = Source()
    source.values["k"] = 1
    (task,) = await asking(source)
    for _ in range(3):
        source.cache.drop("k")
        source.gate.set()
        await asyncio.sleep(0)
        source.gate.clear()
        await asyncio.sleep(0.01)
    source.gate.set()
    assert await asyncio.wait_for(task, 1) == 1
    assert len(source.queries) <= 4


async def test_a_failure_reaches_all_waiters_and_is_not_kept():
    source = Source()
    source.values["k"] = 13
    tasks = await asking(source, count=2)
    source.gate.set()
    assert [type(r) for r in await asyncio.gather(*tasks, return_exceptions=True)] == [LookupError] * 2
    source.values["k"] = 1
    assert await source.cache.fetch("k") == 1


async def test_who_stops_waiting_does_not_stop_the_others():
    source = Source()
    source.values["k"] = 1
    first, second = await asking(source, count=2)
    first.cancel()
    await asyncio.sleep(0)
    source.gate.set()
    assert await second == 1 and first.cancelled()


async def test_a_failure_without_waiters_is_not_logged(caplog):
    source = Source()
    source.values["k"] = 13
    (task,) = await asking(source)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    source.gate.set()
    await asyncio.sleep(0.01)
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_it_is_bounded_and_the_least_used_goes_first():
    source = Source(most=3)
    for number, key in enumerate("abc"):
        source.values[key] = number
        await source.cache.fetch(key)
    source.cache.get("a")
    source.values["d"] = 3
    await source.cache.fetch("d")
    assert len(source.cache) == 3
    assert [source.cache.get(key) for key in "abcd"] == [0, None, 2, 3]


async def test_what_may_change_any_moment_is_kept_for_half_a_second_and_pushes_nothing_out():
    source = Source(most=1)
    source.values["k"] = 1
    await source.cache.fetch("k")
    for number in range(2000):
        assert await source.cache.fetch(f"no{number}") == -1
    assert source.cache.get("k") == 1 and len(source.cache) == 1 and len(source.cache._temporary) <= 1000
    assert source.cache.get("no1999") == -1
    await asyncio.sleep(0.55)
    assert source.cache.get("no1999") is None
    source.values["k"] = -1
    source.cache.drop("k")
    assert await source.cache.fetch("k") == -1 and len(source.cache) == 0


async def test_doubt_asks_again_and_has_a_get_stale_for_a_time(monkeypatch):
    source = Source()
    source.values["k"] = 1
    await source.cache.fetch("k")
    source.cache.mark_stale("k", FOREVER)
    assert source.cache.get("k") == 1, "it was asked a moment ago"
    source.cache.mark_all_stale(time.monotonic() + 60)
    assert source.cache.get("k") is None and source.cache.get_stale("k") == 1
    source.cache.mark_all_stale(FOREVER)
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert source.cache.get_stale("k") is None, "doubting again does not prolong it"
    assert await source.cache.fetch("k") == 1 == source.cache.get("k")
    later += 2
    source.cache.mark_stale("k", later - 1)
    source.cache.mark_stale("unknown", FOREVER)
    assert source.cache.get("k") is None is source.cache.get_stale("k")


async def test_closing_waits_for_what_is_under_way():
    source = Source()
    (task,) = await asking(source)
    closing = asyncio.create_task(source.cache.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    source.gate.set()
    await closing
    assert await task == -1 and not source.cache._queries


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(["ask", "change", "drop", "open", "shut", "turn"]), max_size=40))
def test_what_is_kept_is_never_older_than_the_last_drop(steps):
    async def play() -> None:
        source, version, dropped = Source(), 0, 0
        tasks = []
        source.values["k"] = 0
        for step in steps:
            if step == "ask":
                tasks.append(asyncio.create_task(source.cache.fetch("k")))
            elif step == "change":
                version += 20
                source.values["k"] = version
            elif step == "drop":
                dropped = version
                source.cache.drop("k")
            elif step == "turn":
                await asyncio.sleep(0)
            else:
                (source.gate.set if step == "open" else source.gate.clear)()
            kept = source.cache.get("k")
            assert kept is None or kept >= dropped
        source.gate.set()
        await asyncio.gather(*tasks)
        await source.cache.close()

    asyncio.run(play())


async def test_a_fence_voids_what_is_under_way_and_keeps_what_is_known():
    source = Source()
    source.values.update(k=1, other=2)
    await source.cache.fetch("other")
    await source.cache.fetch("nobodys")
    (task,) = await asking(source)
    source.values["k"] = 3
    source.cache.discard_queries()
    assert (source.cache.get("other"), source.cache.get("nobodys")) == (2, None)
    source.gate.set()
    assert await task == 3
