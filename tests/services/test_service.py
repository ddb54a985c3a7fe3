"""A service's state and when it came."""

from __future__ import annotations

import sys

import pytest

from jupyter_portproxy.services import service as service_module

from ..support.services import PYTHON, SERVE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")


async def test_a_later_state_has_a_larger_time_though_the_clock_is_set_back(make, monkeypatch):
    service = make(web={"command": [*PYTHON, SERVE, "{port}"]}).start("web")
    times = [service.since]
    for now, state in ((0.0, "up"), (times[0], "down"), (times[0], "starting"), (0.0, "up")):
        monkeypatch.setattr(service_module.time, "time", lambda now=now: now)
        service.set_state(state)
        times.append(service.since)
    assert times == sorted(set(times))
