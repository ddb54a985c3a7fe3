"""The order of stops, also where services need each other in a circle; and waits that end early."""

from __future__ import annotations

import asyncio

from jupyter_portproxy.services.hooks import Endpoint
from jupyter_portproxy.services.logs import Log
from jupyter_portproxy.services.service import Service
from jupyter_portproxy.services.start_order import explain_failed_need, stop_in_order, wait_while_starting, with_related
from jupyter_portproxy.services.templates import Template


def make(name: str, *needs: Service) -> Service:
    service = Service(name, Template(name, ("x",)), {}, "", Endpoint(0), Log(None, ""))
    service.needs = needs
    service.log.close()
    return service


async def stops(*services: Service) -> list[str]:
    """What happens while they are stopped, each taking some time."""
    events = []

    async def stop(service: Service) -> None:
        events.append(f"{service.name}...")
        await asyncio.sleep(0.01)
        events.append(service.name)

    await asyncio.wait_for(stop_in_order(services, stop), 5)
    return events


async def test_what_is_needed_is_stopped_last():
    db = make("db")
    cache = make("cache")
    api = make("api", db, cache)
    web = make("web", api)
    events = await stops(db, web, cache, api)
    assert events == ["web...", "web", "api...", "api", "db...", "cache...", "db", "cache"]


async def test_services_that_need_nothing_are_stopped_at_the_same_time():
    assert await stops(make("a"), make("b")) == ["a...", "b...", "a", "b"]


async def test_what_is_not_among_them_is_not_waited_for():
    db = make("db")
    make("api", db)
    assert await stops(db) == ["db...", "db"]


async def test_services_of_an_old_and_a_new_file_may_need_each_other():
    a, b = make("a"), make("b")
    a.needs, b.needs = (b,), (a,)
    assert {event for event in await stops(a, b) if "." not in event} == {"a", "b"}


def test_what_stops_with_a_service():
    db, cache = make("db"), make("cache")
    api = make("api", db, cache)
    web, tool = make("web", api), make("tool", cache)
    services = [db, cache, api, web, tool]

    def stopped_with(*chosen: Service) -> str:
        return " ".join(sorted(service.name for service in with_related(chosen, services)))

    assert stopped_with(web) == "api db web"  # the cache is needed by the tool
    assert stopped_with(api) == "api db web"
    assert stopped_with(web, tool) == "api cache db tool web"
    assert stopped_with(db) == "api db web"
    tool.state = "down"
    assert stopped_with(web) == "api cache db web"
    web.state = "failed"
    assert stopped_with(api) == "api cache db"


async def test_a_wait_ends_with_the_need_or_with_the_stop():
    db, api = make("db"), make("api")
    waiting = asyncio.ensure_future(wait_while_starting(db, api))
    await asyncio.sleep(0)
    db.set_state("starting", "It waits for 'disk'.")
    await asyncio.sleep(0.01)
    assert not waiting.done()
    db.set_state("up")
    await asyncio.wait_for(waiting, 1)
    db.set_state("stopping")
    waiting = asyncio.ensure_future(wait_while_starting(db, api))
    await asyncio.sleep(0)
    api.stop_requested.set()
    await asyncio.wait_for(waiting, 1)
    assert db.state == "stopping"


def test_the_reason_of_a_failure_is_passed_on():
    db = make("db")
    db.set_state("failed", "It ended with exit code 3.")
    assert explain_failed_need(db) == "It needs 'db', which has failed: It ended with exit code 3."
    db.set_state("down", "")
    assert explain_failed_need(db) == "It needs 'db', which does not run."
