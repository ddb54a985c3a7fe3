"""Activity by services that run: from their start to their end, and by no other one."""

from __future__ import annotations

import asyncio
import sys

import pytest

from jupyter_portproxy.services.running_activity import PERIOD, RunningActivity
from jupyter_portproxy.services.supervisor import Pauses

from ..support.services import PYTHON, SERVE
from ..support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")
COMMAND = {"command": [*PYTHON, SERVE, "{port}"]}


@pytest.fixture
def follow():
    """Follows the services of a manager; returns the list of records."""
    followed = []

    def begin(manager, period=0.05) -> list[int]:
        records: list[int] = []
        followed.append(RunningActivity(manager, lambda: records.append(1), period=period))
        return records

    yield begin
    for each in followed:
        each.close()


async def test_a_service_is_activity_as_long_as_it_runs(make, follow):
    manager = make(job={**COMMAND, "running_is_activity": True}, web=COMMAND)
    records = follow(manager)
    web = manager.start("web")
    await manager.wait_ready(web)
    assert records == []
    job = manager.start("job")
    await manager.wait_ready(job)
    before = len(records)
    await eventually(lambda: len(records) > before + 3)  # nothing changes, and time passes
    await manager.stop("job")
    records.clear()
    await asyncio.sleep(0.3)
    assert (records, web.state) == ([], "up")


async def test_two_services_have_one_timer(make, follow):
    manager = make(job={**COMMAND, "running_is_activity": True})
    records = follow(manager, period=0.2)
    for name in ("a", "b", "c"):
        await manager.wait_ready(manager.start("job", name))
    records.clear()
    await asyncio.sleep(1.1)
    assert 3 <= len(records) <= 6


async def test_it_ends_with_close(make):
    manager, records = make(job={**COMMAND, "running_is_activity": True}), []
    activity = RunningActivity(manager, lambda: records.append(1), period=0.05)
    await manager.wait_ready(manager.start("job"))
    activity.close()
    records.clear()
    await manager.stop("job")
    assert records == []


async def test_it_does_not_begin_health_checks(make, follow):
    probes = []

    async def probe(service):
        probes.append(service)
        return True

    pauses = Pauses(watch_period=0.05)
    manager = make(probe=probe, job={**COMMAND, "running_is_activity": True}, options={"pauses": pauses})
    records = follow(manager)
    await manager.wait_ready(manager.start("job"))
    await eventually(lambda: len(records) > 5)
    assert len(probes) == 1


def test_a_record_is_not_older_than_what_is_reported():
    assert PERIOD * 2 < 300
