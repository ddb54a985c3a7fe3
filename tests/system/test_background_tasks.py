"""Background tasks outlive their failures."""

from __future__ import annotations

import asyncio
import itertools
import logging

import pytest
from prometheus_client import REGISTRY

from jupyter_portproxy.system import background_tasks

from ..support.waiting import eventually


def failures(name: str) -> float:
    return REGISTRY.get_sample_value("jupyter_portproxy_background_failures_total", {"task": name}) or 0.0


async def test_a_task_that_fails_is_logged_counted_and_started_again(caplog):
    runs = []

    async def work() -> None:
        runs.append(asyncio.get_running_loop().time())
        if len(runs) < 4:
            raise KeyError("a fault")

    before = failures("test of failures")
    with caplog.at_level(logging.ERROR):
        task = background_tasks.run("test of failures", work, logging.getLogger("here"), first_pause=0.01)
        assert task.get_name() == "portproxy test of failures"
        await asyncio.wait_for(task, 5)
    assert len(runs) == 4 and failures("test of failures") - before == 3
    pauses = [later - sooner for sooner, later in itertools.pairwise(runs)]
    assert pauses[0] >= 0.01 and pauses[1] >= 0.02 and pauses[2] >= 0.04
    assert "'test of failures' failed" in caplog.text and "KeyError: 'a fault'" in caplog.text


async def test_pauses_are_bounded_and_restart_after_a_long_run(monkeypatch):
    clock, pauses = [0.0], []
    lasts = iter([0, 0, 0, 0, 5, 0])

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def work() -> None:
        lasted = next(lasts, None)
        if lasted is None:
            return
        clock[0] += lasted
        raise ValueError

    monkeypatch.setattr(background_tasks.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(background_tasks.asyncio, "sleep", sleep)
    await background_tasks.run("pauses", work, logging.getLogger("here"), longest_pause=3.0)
    assert pauses == [1, 2, 3, 3, 1, 2]


async def test_a_cancelled_task_is_at_its_end():
    async def work() -> None:
        await asyncio.sleep(60)

    task = background_tasks.run("sleeper", work, logging.getLogger("here"))
    await asyncio.sleep(0)
    task.cancel()
    await eventually(task.done)
    with pytest.raises(asyncio.CancelledError):
        task.result()
