"""The stream of events; that it tells what changes is tested through the API."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict

from jupyter_portproxy.api.events import Events
from jupyter_portproxy.api.listing import Listing
from jupyter_portproxy.api.port_list import PortList
from jupyter_portproxy.config import PortProxy
from jupyter_portproxy.gateway.gateway import Gateway
from jupyter_portproxy.gateway.notices import FailedRequests, LostSocket
from jupyter_portproxy.gateway.policy import Policy
from jupyter_portproxy.gateway.probe import Probe
from jupyter_portproxy.services.templates import load

from ..support.upstreams import free_port
from ..support.waiting import eventually


def make(
    gateway: Gateway, probe: Probe, hidden: Callable[[], set[int]] = set, *, max_age: float = 1.0, **intervals: float
) -> Events:
    listing = Listing(gateway, PortList(gateway, probe, "/", hidden, max_age=max_age), None, "/")
    return Events(listing, gateway.services, gateway.log, **intervals)


async def test_two_that_begin_to_watch_at_once_have_one_poll_and_leave_none(gateway, probe):
    events = make(gateway, probe)
    watches = [events.watch(), events.watch()]

    async def step(watch):
        return await anext(watch)

    async def until_event(watch, port):
        while (await anext(watch))[1].get("port") != port:
            pass

    def polls():
        return [task for task in asyncio.all_tasks() if task.get_name() == "portproxy events" and not task.done()]

    with socket.create_server(("127.0.0.1", free_port())):  # it accepts, and has nothing to say
        found = await asyncio.gather(*map(step, watches))
        assert [name for name, _ in found] == ["snapshot", "snapshot"]
        await asyncio.sleep(1.1)
        with socket.create_server(("127.0.0.1", free_port())) as new:
            await asyncio.gather(*(until_event(watch, new.getsockname()[1]) for watch in watches))
            assert len(polls()) == 1
    for watch in watches:
        await watch.aclose()
    await eventually(lambda: not polls())


async def test_rules_for_ports_are_in_the_snapshot_and_change(gateway, probe):
    rules = gateway.policy.port_rules
    first = rules.put({"ports": "8501", "label": "one"})
    watch = make(gateway, probe, poll_interval=0.05).watch()

    async def next_rule():
        while (event := await asyncio.wait_for(anext(watch), 10))[1].get("kind") != "port_rule":
            pass
        return event

    assert (await anext(watch))[1]["port_rules"] == [asdict(first)]
    changed = rules.put({"ports": "8501", "label": "two"})
    assert await next_rule() == ("changed", {"kind": "port_rule", **asdict(changed)})
    rules.remove(first.id)
    assert await next_rule() == ("removed", {"kind": "port_rule", **asdict(changed)})
    await watch.aclose()


async def test_a_rule_is_published_before_the_port_that_appears_with_it(gateway, probe):
    watch = make(gateway, probe, max_age=0.0, poll_interval=0.05).watch()
    await anext(watch)
    gateway.policy.port_rules.put({"ports": str(port := free_port()), "on_appear": "silent"})
    with socket.create_server(("127.0.0.1", port)):
        kinds = []
        while "port" not in kinds:
            kinds += [item["kind"] for _, item in [await asyncio.wait_for(anext(watch), 10)] if str(port) in str(item)]
    assert kinds == ["port_rule", "port"]
    await watch.aclose()


async def test_a_server_without_rules_for_ports_has_none_in_the_snapshot(gateway, probe, monkeypatch):
    monkeypatch.setattr(gateway, "policy", Policy(PortProxy()))
    watch = make(gateway, probe).watch()
    assert "port_rules" not in (await anext(watch))[1]
    await watch.aclose()


async def test_a_comparison_that_fails_ends_no_watch(gateway, probe):
    faults = [ValueError("a fault"), KeyError("another")]
    broken = False

    def hidden() -> set[int]:
        if broken and faults:
            raise faults.pop()
        return set()

    watch = make(gateway, probe, hidden, max_age=0.0, poll_interval=0.01, retry_pause=0.01).watch()
    assert (await anext(watch))[0] == "snapshot"
    broken = True
    await eventually(lambda: not faults)
    with socket.create_server(("127.0.0.1", free_port())) as new:

        async def until_event():
            while (await anext(watch))[1].get("port") != new.getsockname()[1]:
                pass

        await asyncio.wait_for(until_event(), 10)
    await watch.aclose()


async def test_the_output_of_a_service_is_published_while_it_starts_and_not_afterwards(gateway, probe):
    program = "import time\nfor n in range(60): print(n, flush=True); time.sleep(0.05)"
    template = {"command": [sys.executable, "-c", program], "stop_timeout": 1}
    gateway.services.templates["talks"] = load("talks", template)
    watch = make(gateway, probe, poll_interval=2.0).watch()
    await anext(watch)
    service = gateway.services.start("talks")
    seen: list[tuple[str, list[str]]] = []
    while not seen or not seen[-1][1] or int(seen[-1][1][-1]) < 30:
        _, item = await asyncio.wait_for(anext(watch), 10)
        if item["kind"] == "service":
            seen.append((item["state"], item["last_lines"]))
    assert {state for state, _ in seen} == {"starting"} and 3 <= len(seen) <= 6  # 1.5 s of output
    assert all(len(lines) <= 8 for _, lines in seen)
    await gateway.services.stop("talks")
    assert service.state == "down"
    await watch.aclose()


async def test_notices_about_pages_wait_for_a_watcher_but_not_for_long(gateway, probe, monkeypatch):
    events = make(gateway, probe)
    for count in (3, 12):
        events.report(FailedRequests("dash", count))
    watch = events.watch()
    assert (await anext(watch))[0] == "snapshot"
    assert await anext(watch) == ("notice", {"kind": "failed-requests", "target": "dash", "count": 12})
    events.report(FailedRequests("8050", 4))
    assert await anext(watch) == ("notice", {"kind": "failed-requests", "target": "8050", "count": 4})
    await watch.aclose()
    monkeypatch.setattr("jupyter_portproxy.api.events._MAX_NOTICE_AGE", 0.0)
    events.report(FailedRequests("old", 5))
    events.report(LostSocket("/ws", ""))
    watch = events.watch()
    await anext(watch)
    assert (await anext(watch))[1]["kind"] == "lost-socket"
    await watch.aclose()


async def test_few_notices_wait(gateway, probe):
    events = make(gateway, probe)
    for number in range(100):
        events.report(FailedRequests(str(number), 3))
    assert [item["target"] for _, item in events._waiting_notices.values()] == [str(number) for number in range(80, 100)]
