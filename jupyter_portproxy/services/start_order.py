"""The order of services that need each other: one waits until what it needs is ready, and is stopped before it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from .service import Service


async def wait_while_starting(need: Service, service: Service) -> None:
    """Wait for the end of a need's start, or of its stop; at most until the service that needs it is to be stopped."""
    while need.state in ("starting", "stopping") and not service.stop_requested.is_set():
        waits = [asyncio.ensure_future(event.wait()) for event in (need.changed, service.stop_requested)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def explain_failed_need(need: Service) -> str:
    """Why a service that needs this one cannot be started."""
    if need.state != "failed":
        return f"It needs '{need.name}', which does not run."
    return f"It needs '{need.name}', which has failed: {need.error}"


async def stop_in_order(services: Collection[Service], stop: Callable[[Service], Awaitable[object]]) -> None:
    """Stop services, each as soon as those of them that need it have ended.

    Args:
        stop: stops one, and returns when it has ended.
    """
    tasks: dict[Service, asyncio.Task[None]] = {}

    async def stop_after(service: Service, earlier: list[asyncio.Task[None]]) -> None:
        if earlier:
            await asyncio.wait(earlier)
        await stop(service)

    for service in _dependents_first(services):
        # Only of those before it: services of an old and a new project file may need each other.
        earlier = [task for other, task in tasks.items() if service in other.needs]
        tasks[service] = asyncio.create_task(stop_after(service, earlier), name=f"portproxy stop of {service.name}")
    await asyncio.gather(*tasks.values())


def with_related(chosen: Collection[Service], services: Collection[Service]) -> list[Service]:
    """The services that stop with some: these, those that need them, and those that no other running one of `services` needs."""
    stopped = set(chosen)
    while more := {each for each in services if each.alive and stopped & {*each.needs}} - stopped:
        stopped |= more
    others = [each for each in services if each.alive and each not in stopped]
    waiting = list(stopped)
    while waiting:
        for need in waiting.pop().needs:
            if need in services and need not in stopped and not any(need in each.needs for each in others):
                stopped.add(need)
                others = [each for each in others if each is not need]
                waiting.append(need)
    return list(stopped)


def _dependents_first(services: Collection[Service]) -> list[Service]:
    ordered: dict[Service, None] = {}
    seen: set[Service] = set()

    def visit(service: Service) -> None:
        if service in seen:
            return
        seen.add(service)
        for other in services:
            if service in other.needs:
                visit(other)
        ordered[service] = None

    for service in services:
        visit(service)
    return list(ordered)
