"""The life of services: each has one task from its start until no process of it is left, through all restarts.

Only that task, `stop` and the health of a run change the state, through `ServiceList.change`, which calls the subscribers. Each
run leases its endpoint and releases it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from ..errors import ConsentMissing, GatewayError, ServiceFailed, ShuttingDown, StartedTooOften
from ..system import background_tasks
from .health import Health, HealthChecks
from .kernel_environments import KernelEnvironments
from .ports import EndpointLeases
from .run import Runner, end_input, explain_late
from .service import Service, ServiceState
from .service_list import ServiceList
from .start_order import explain_failed_need, wait_while_starting
from .templates import Template

MAX_STARTS_PER_MINUTE = 5
_MAX_PAUSE = 300.0  # s before a restart


@dataclass(frozen=True, slots=True)
class Pauses:
    """Times in seconds, which tests make shorter.

    Attributes:
        watch_period: between two health checks of services without a period of their own, while clients watch.
        first_restart: before the first restart, doubled with each: with 2, five starts in the first minute.
        long_run: after which a run that ends is restarted with the first pause again.
        retry: after a probe that failed with an error of this program, doubled with each.
    """

    watch_period: float = 5.0
    first_restart: float = 2.0
    long_run: float = 60.0
    retry: float = background_tasks.FIRST_PAUSE


PAUSES = Pauses()


class Supervisor:
    """Runs services, and restarts those that their templates say.

    Args:
        probe: True if a service accepts connections, or answers; it takes two seconds at most.
        start_need: the service of a template that another one needs, started if it does not run; and by whom.
        may_start: True if a template of a folder may be started now.
    """

    def __init__(
        self,
        services: ServiceList,
        endpoints: EndpointLeases,
        probe: Callable[[Service], Awaitable[bool]],
        start_need: Callable[[Template, str], Service],
        may_start: Callable[[Template], bool],
        base_url: str,
        root_dir: str,
        pauses: Pauses,
        kernels: KernelEnvironments,
        log: logging.Logger,
    ) -> None:
        self._services, self._endpoints = services, endpoints
        self._start_need, self._may_start, self._pauses = start_need, may_start, pauses
        self.health = HealthChecks(probe, self._apply_health, log, watch_period=pauses.watch_period, retry_pause=pauses.retry)
        self.runner = Runner(base_url, root_dir, self.health, kernels, log)
        self._recent_starts: dict[str, deque[float]] = {}

    async def stop(self, service: Service) -> None:
        """Stop a run, or a restart that is due, by order of a person, and wait until no process of it is left."""
        if service.task is None or service.task.done():
            return
        if service.state == "up":  # it counts no more among the starts of a crashing program
            self._recent_starts.pop(service.name, None)
        if service.alive:
            self._services.change(service, "stopping")
        await self.end(service)

    async def end(self, service: Service) -> None:
        """As `stop`, when the server ends."""
        self._request_stop(service)
        if service.task is not None:
            await asyncio.wait({service.task})

    def begin(self, name: str, template: Template, arguments: Mapping[str, str], started_by: str, kernel: str) -> Service:
        if self._services.is_closing:
            raise ShuttingDown()
        if os.name != "posix":
            raise ServiceFailed("Services need a POSIX system. Start the program by hand and open its port.")
        self._check_consent(template)
        self._count_start(name)
        endpoint = self._endpoints.lease(name, template)
        try:
            needs = self._start_needs(template, started_by)
        except GatewayError:
            self._endpoints.release(endpoint)
            raise
        service = self._services.find(name)
        if service is None:
            service = self._services.add(name, template, arguments, endpoint, kernel)
            self._services.notify(service)
        else:
            if service.task is not None:
                service.task.cancel()  # it waits for its next restart, or has ended
            service.template, service.arguments, service.endpoint, service.kernel = template, arguments, endpoint, kernel
            service.stop_requested.clear()
            service.exit_code, service.log_offset = None, service.log.written
            self._services.change(service, "starting")
        service.needs, service.started_by = needs, started_by
        service.touch()
        service.task = asyncio.get_running_loop().create_task(self._supervise(service), name=f"portproxy service {name}")
        return service

    def _check_consent(self, template: Template) -> None:
        """Raises: ConsentMissing"""
        if template.folder and not self._may_start(template):
            raise ConsentMissing(os.path.basename(template.folder))

    def _start_needs(self, template: Template, started_by: str) -> tuple[Service, ...]:
        """The services that a service of this template needs; those that do not run are started. Raises: ServiceFailed"""
        needs = []
        for dependency in template.dependencies:
            try:
                needs.append(self._start_need(dependency, started_by))
            except GatewayError as error:
                raise ServiceFailed(
                    f"'{template.name}' needs '{dependency.name}', which was not started: {error.message}"
                ) from None
        return tuple(needs)

    async def _supervise(self, service: Service) -> None:
        """All runs of a service, from its start to its end."""
        template, pause, is_restart = service.template, self._pauses.first_restart, False
        while True:
            started = time.monotonic()
            error = await self._wait_for_needs(service, is_restart=is_restart)
            state: ServiceState = "failed"
            if not error:
                state, error = await self.runner.run(service)
            self._endpoints.release(service.endpoint)
            self._services.change(service, state, error)
            if time.monotonic() - started > self._pauses.long_run:
                pause = self._pauses.first_restart
            is_due = template.restart == "always" or (template.restart != "never" and state == "failed")
            if not is_due or await service.wait_for_stop(pause):
                return
            pause, is_restart = min(2 * pause, _MAX_PAUSE), True
            try:
                self._check_consent(template)
                self._count_start(service.name)
                service.endpoint = self._endpoints.lease(service.name, template)
            except ServiceFailed as failure:
                self._services.change(service, "failed", f"{error} It is not started again: {failure.message}")
                return
            service.log_offset = service.log.written
            self._services.change(service, "starting", error)

    async def _wait_for_needs(self, service: Service, *, is_restart: bool) -> str:
        """Wait until the services that it needs are ready, or it is to be stopped. Returns why it cannot be started, or nothing.

        Args:
            is_restart: of itself; then a need that a person stops is not started again.
        """
        error = service.error
        for need in service.needs:
            if need.state in ("up", "unhealthy") or service.stop_requested.is_set():
                continue
            self._services.change(service, "starting", f"It waits for '{need.name}'.")
            was_stopping = need.state == "stopping"
            await wait_while_starting(need, service)
            if was_stopping and not is_restart and not service.stop_requested.is_set():
                try:
                    self._start_need(need.template, service.started_by)
                except GatewayError as failure:
                    return f"It needs '{need.name}', which was not started: {failure.message}"
                await wait_while_starting(need, service)
            if need.state not in ("up", "unhealthy") and not service.stop_requested.is_set():
                return explain_failed_need(need)
        if service.state == "starting":
            self._services.change(service, "starting", error)
        return ""

    def _count_start(self, name: str) -> None:
        starts = self._recent_starts.setdefault(name, deque(maxlen=MAX_STARTS_PER_MINUTE))
        now = time.monotonic()
        if len(starts) == MAX_STARTS_PER_MINUTE and now - starts[0] < 60:
            raise StartedTooOften(MAX_STARTS_PER_MINUTE)
        starts.append(now)

    def _apply_health(self, service: Service, health: Health) -> None:
        """Change the state with the health of the run; end a run that is late or idle."""
        template = service.template
        match health:
            case Health.LATE:
                service.end_reason = explain_late(service)
                end_input(service)
            case Health.IDLE:
                self._request_stop(service)
            case Health.ANSWERING if service.state in ("starting", "unhealthy"):
                if service.state == "starting" and service.process is not None and service.process.stdin is not None:
                    service.process.stdin.write(b"u")  # reports to the guard that the program is ready
                self._services.change(service, "up")
            case Health.SILENT if service.state == "up":
                self._services.change(service, "unhealthy", "It does not answer.")
                if template.restart in ("on-unhealthy", "always") and template.health_period:
                    service.end_reason = f"It did not answer {template.health_failures} health checks in a row."
                    self.health.end(service)
                    end_input(service)

    def _request_stop(self, service: Service) -> None:
        service.stop_requested.set()
        end_input(service)
