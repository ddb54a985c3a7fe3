"""The health of runs: readiness within its time, then checks by one timer for all services."""

from __future__ import annotations

import asyncio
import logging
import time
from itertools import pairwise
from pathlib import Path

import pytest

from jupyter_portproxy.services.health import Health, HealthChecks
from jupyter_portproxy.services.hooks import Endpoint
from jupyter_portproxy.services.logs import Log
from jupyter_portproxy.services.service import Service
from jupyter_portproxy.services.templates import Template

from ..support.waiting import eventually

LOG = logging.getLogger("test")


class Checks:
    """Health checks whose probe gives the answers of each service in turn, and then the last one again."""

    def __init__(self, watch_period: float = 0.02) -> None:
        self.answers: dict[str, list[bool]] = {}
        self.probes: list[tuple[str, float]] = []
        self.reports: list[tuple[str, Health]] = []
        self.slow: set[str] = set()
        self.in_flight: set[str] = set()
        self.checks = HealthChecks(self._probe, self._report, LOG, watch_period=watch_period)
        self.services: list[Service] = []

    async def _probe(self, service: Service) -> bool:
        assert service.name not in self.in_flight  # probes of one service never overlap
        self.in_flight.add(service.name)
        self.probes.append((service.name, time.monotonic()))
        try:
            await asyncio.sleep(60 if service.name in self.slow else 0)
        finally:
            self.in_flight.remove(service.name)
        answers = self.answers[service.name]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def _report(self, service: Service, health: Health) -> None:
        self.reports.append((service.name, health))

    def begin(self, name: str, *answers: bool, **properties) -> Service:
        template = Template("web", ("x",), **properties)
        service = Service(name, template, {}, "", Endpoint(0), Log(None, ""))
        self.answers[name] = list(answers)
        self.services.append(service)
        self.checks.begin(service)
        return service

    async def end(self) -> None:
        for service in self.services:
            self.checks.end(service)
            service.log.close()
        await asyncio.sleep(0)

    def of(self, name: str) -> list[Health]:
        return [health for service, health in self.reports if service == name]

    def times(self, name: str) -> list[float]:
        return [when for service, when in self.probes if service == name]


@pytest.fixture
def checks(jp_asyncio_loop, request):
    made = Checks(watch_period=getattr(request, "param", 0.02))
    yield made
    jp_asyncio_loop.run_until_complete(made.end())
    assert made.checks._timer is None  # nothing is left to be due
    assert made.in_flight == set()


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([False, False, True], [Health.ANSWERING]),
        ([True, False, True], [Health.ANSWERING] * 2),
        ([True, False, False], [Health.ANSWERING, Health.SILENT]),
        ([True, False, False, True], [Health.ANSWERING, Health.SILENT, Health.ANSWERING]),
    ],
)
async def test_two_failed_checks_in_a_row_are_silence(checks, answers, expected):
    checks.checks.watch()
    checks.begin("web", *answers)
    await eventually(lambda: checks.of("web")[: len(expected)] == expected)
    await eventually(lambda: len(checks.probes) > len(answers) + 3)
    assert checks.of("web").count(Health.SILENT) == expected.count(Health.SILENT)


@pytest.mark.parametrize("failures", [1, 4])
async def test_the_template_says_how_many_failed_checks_are_silence(checks, failures):
    checks.checks.watch()
    checks.begin("web", True, *[False] * failures, True, health_failures=failures)
    checks.begin("other", True, *[False] * (failures - 1), True, health_failures=failures)
    await eventually(lambda: len(checks.times("web")) > failures + 3 and len(checks.times("other")) > failures + 3)
    assert (Health.SILENT in checks.of("web"), Health.SILENT in checks.of("other")) == (True, False)


async def test_a_run_that_is_not_ready_in_time_is_late(checks):
    checks.begin("web", False, ready_timeout=0.1)
    await eventually(lambda: checks.of("web") == [Health.LATE])
    await asyncio.sleep(0.2)
    assert checks.of("web") == [Health.LATE] and checks.times("web")[-1] - checks.times("web")[0] < 0.6


async def test_an_unused_run_is_idle_also_while_it_is_not_watched(checks):
    service = checks.begin("web", True, idle_timeout=0.2)
    await eventually(lambda: checks.of("web") == [Health.ANSWERING])
    await asyncio.sleep(0.1)
    service.touch()
    used = time.monotonic()
    await eventually(lambda: checks.of("web") == [Health.ANSWERING, Health.IDLE])
    assert time.monotonic() - used > 0.15
    assert len(checks.probes) == 1


async def test_a_worker_is_ready_at_once_and_never_probed(checks):
    checks.checks.watch()
    checks.begin("web", False, ready="started", protocol="none")
    assert checks.of("web") == [Health.ANSWERING]
    await asyncio.sleep(0.1)
    assert checks.probes == []


async def test_there_is_no_timer_without_a_period_and_watchers(checks):
    checks.begin("web", True)
    await eventually(lambda: checks.of("web") == [Health.ANSWERING])
    assert checks.checks._timer is None
    await asyncio.sleep(0.1)
    assert len(checks.probes) == 1
    end = checks.checks.watch()
    await eventually(lambda: len(checks.probes) > 3)
    end()
    seen = len(checks.probes)
    await asyncio.sleep(0.1)
    assert len(checks.probes) <= seen + 1
    assert checks.checks._timer is None


async def test_a_period_needs_no_watchers(checks):
    checks.begin("web", True, health_period=0.05)
    checks.begin("other", True)
    await eventually(lambda: len(checks.times("web")) >= 4)
    assert len(checks.times("other")) == 1
    pauses = [later - earlier for earlier, later in pairwise(checks.times("web"))]
    assert min(pauses) > 0.04


async def test_a_slow_probe_delays_no_other_and_is_not_repeated(checks):
    checks.slow.add("slow")
    checks.begin("slow", True, health_period=0.02)
    checks.begin("web", True, health_period=0.02)
    await eventually(lambda: len(checks.times("web")) >= 10)
    assert len(checks.times("slow")) == 1


@pytest.mark.parametrize("checks", [1.0], indirect=True)
async def test_services_keep_their_phases_when_the_first_watcher_comes(checks):
    for name in "012":
        checks.begin(name, True)
        await asyncio.sleep(0.2)
    await asyncio.sleep(0.6)  # more than a period after the first
    checks.probes.clear()
    checks.checks.watch()
    await eventually(lambda: len(checks.probes) >= 9)
    rounds = [checks.probes[at : at + 3] for at in (0, 3, 6)]
    assert sorted(name for name, _ in rounds[0]) == list("012")
    gaps = [min(later - earlier for (_, earlier), (_, later) in pairwise(each)) for each in rounds]
    assert max(gaps) > 0.05  # 0.2, but for pauses of this machine, which do not come in each round


async def test_an_ended_run_is_not_probed_any_more(checks):
    checks.slow.add("web")
    service = checks.begin("web", True)
    await asyncio.sleep(0)
    checks.checks.end(service)
    await asyncio.sleep(0.01)
    assert (checks.in_flight, checks.reports) == (set(), [])


def test_the_module_has_one_place_that_sets_a_timer():
    import jupyter_portproxy.services.health as module

    text = Path(module.__file__).read_text()
    assert text.count("call_later") == 1 and text.count("asyncio.sleep") == 0
