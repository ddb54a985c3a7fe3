"""The health of a run: readiness within its time, then checks while clients follow the states."""

from __future__ import annotations

import pytest

from jupyter_portproxy.services.health import Health, follow_health
from jupyter_portproxy.services.templates import Template


async def follow(answers, *, ready_timeout=60.0, idle_timeout=0.0, watched=True, last_used=float("inf")):
    """What `follow_health` yields while the probe gives these answers, which end the run."""
    results, left = [], list(answers)

    async def probe() -> bool:
        return left.pop(0)

    template = Template("web", ("x",), ready_timeout=ready_timeout, idle_timeout=idle_timeout)
    try:
        async for health in follow_health(probe, template, lambda: last_used, lambda: watched, 0.001):
            results.append(health)
    except IndexError:
        pass
    return results


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([False, False, True], [Health.ANSWERING]),
        ([True, True], [Health.ANSWERING] * 2),
        ([True, False, True], [Health.ANSWERING] * 2),
        ([True, False, False, False], [Health.ANSWERING, Health.SILENT]),
        ([True, False, False, True], [Health.ANSWERING, Health.SILENT, Health.ANSWERING]),
    ],
)
async def test_two_failed_checks_in_a_row_are_silence(answers, expected):
    assert await follow(answers) == expected


async def test_a_run_that_is_not_ready_in_time_is_late():
    assert await follow([False], ready_timeout=0.0) == [Health.LATE]


async def test_an_unused_run_is_idle_also_while_it_is_not_watched():
    assert await follow([True], idle_timeout=1e-9, last_used=0.0, watched=False) == [Health.ANSWERING, Health.IDLE]
