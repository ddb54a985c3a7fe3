"""The list of services, and what its subscribers get."""

from __future__ import annotations

import sys

import pytest

from ..support.services import pausing
from ..support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")


async def test_subscribers_get_each_state_of_a_restart(make, tmp_path):
    manager, service = await pausing(make, tmp_path)
    states = []
    manager.subscribe(lambda service: states.append(service.state))
    await eventually(lambda: service.state == "up")
    await manager.delete("web")
    assert states == ["starting", "up", "stopping", "down", "down"]
