"""Services: processes that are started from templates, supervised and stopped. Independent of HTTP; raises GatewayErrors.

States of a service, and what brings it there:

    starting   a run has begun: by `start`, `restart` or `open`, or after a failure of a template with restart "on-failure"
    up         a health check found it ready, or answering again
    unhealthy  as many health checks in a row failed as the template says
    stopping   `stop`, `restart` or `delete` was called
    down       the run has ended: it was stopped, was idle, or ended by itself with exit code 0 after it was ready
    failed     the run could not begin, was not ready in time, or ended otherwise

A service that an agent has attached is a process elsewhere: it is up, unhealthy or down by what `AttachedServices.report` says,
is never started here, and `stop` calls `Service.detach`.

Each other service has one task from its start until no process of it is left (`_supervise`), through all restarts. Only that
task, `stop` and the health of a run change the state, through `ServiceList.change`, which calls the subscribers. Each run leases
its endpoint and releases it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from ..errors import BadInput, NotFound, ServiceFailed, ShuttingDown, StartedTooOften
from ..system import background_tasks
from .arguments import Arguments, masked
from .attached import AttachedServices
from .health import Health, HealthChecks
from .hooks import Endpoint
from .names import ServiceNames
from .ports import EndpointLeases, PortLeases
from .run import Runner, end_input
from .service import Service
from .service_list import ServiceList
from .template_keys import NAME, NAME_HINT
from .templates import Template

MAX_STARTS_PER_MINUTE = 5


class ServiceManager:
    """The services of one server.

    Args:
        ports: leases the ports of services.
        prefix_of: service name, its template -> path of its URL, without a final slash.
        probe: True if a service accepts connections, or answers; it must not take longer than two seconds.
        directory: where this server's log files are kept; made private to this user.
        templates: by name. The mapping is kept: what is put into it later can be started.
        root_dir: the root of the file browser; paths among the arguments and working directories are relative to it.
        watch_period: seconds between two health checks of services without a period of their own, while clients watch.
        first_pause: seconds before the first restart, doubled with each: with 2, five starts in the first minute.
        long_run: seconds after which a run that fails is restarted with the first pause again.
        retry_pause: seconds after a failure of `probe`, until it is called again.
    """

    def __init__(
        self,
        ports: PortLeases,
        prefix_of: Callable[[str, Template], str],
        base_url: str,
        probe: Callable[[Service], Awaitable[bool]],
        directory: Path,
        templates: dict[str, Template],
        *,
        root_dir: str = "",
        watch_period: float = 5.0,
        first_pause: float = 2.0,
        long_run: float = 60.0,
        retry_pause: float = background_tasks.FIRST_PAUSE,
        log: logging.Logger | None = None,
    ) -> None:
        log = log or logging.getLogger(__name__)
        self.templates = templates
        self._services = ServiceList(prefix_of, directory, log)
        self._endpoints = EndpointLeases(ports)
        self.attached = AttachedServices(self._services, self._endpoints, templates)
        self._health = HealthChecks(probe, self._apply_health, log, watch_period=watch_period, retry_pause=retry_pause)
        self.runner = Runner(base_url, root_dir, self._health, log)
        self._arguments = Arguments(root_dir)
        self._names = ServiceNames(self._services, templates, self._arguments)
        self._first_pause, self._long_run = first_pause, long_run
        self._recent_starts: dict[str, deque[float]] = {}

    def subscribe(self, callback: Callable[[Service], None], *, watches: bool = True) -> Callable[[], None]:
        """Call back with a service after its start, each change of its state, and its deletion.

        Args:
            watches: clients follow the states: services without a `health_period` are checked too.

        Returns:
            ends the subscription.
        """
        unsubscribe = self._services.subscribe(callback)
        end_watch = self._health.watch() if watches else lambda: None

        def end() -> None:
            unsubscribe()
            end_watch()

        return end

    # ---- queries ----

    def list(self) -> list[Service]:
        return list(self._services)

    def get(self, name: str) -> Service:
        """Raises: NotFound"""
        return self._services.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._services

    def prefix(self, name: str) -> str | None:
        """The path of the URL of a service, or of one that starts when it is opened; None for an unknown name."""
        if (service := self._services.find(name)) is not None:
            return service.prefix
        template = self.templates.get(name)
        return self._services.prefix_of(name, template) if template is not None and template.start_on_open else None

    def describe(self, service: Service) -> str:
        """What runs in a service, for people."""
        return self._arguments.describe(service)

    def service_for(self, name: str) -> Service:
        """The service of a URL, without starting it. Raises: NotFound"""
        template = self.templates.get(name)
        other = self._at(template.endpoint) if template is not None else None
        return other or self.get(name)

    def failure(self, service: Service, *, with_output: bool = True) -> ServiceFailed:
        """Why a service cannot be used, with its last lines."""
        default = "It is being stopped." if service.state == "stopping" else "It is not running."
        why = service.reason(with_output=with_output) or default
        details = service.last_lines() if with_output else []
        return ServiceFailed(f"The service '{service.name}' is {service.state}. {why}", details)

    # ---- commands ----

    def open(self, name: str, *, by_page: bool) -> Service:
        """The service of a URL; started if its template says so and it does not run.

        Templates may share one fixed endpoint. The service that runs there is that of all of them.

        Args:
            by_page: the request loads a page. A request of a page that is open already does not start a service that is down.

        Raises:
            NotFound, ServiceFailed
        """
        service, template = self._services.find(name), self.templates.get(name)
        if template is not None and (service is None or not service.alive) and (other := self._at(template.endpoint)):
            return other
        if service is None:
            return self.start(name, name) if template is not None and template.start_on_open else self.get(name)
        if service.alive or not service.template.start_on_open or not (by_page or service.state == "failed"):
            return service
        try:
            return self._begin(name, service.template, service.arguments)
        except ServiceFailed:
            raise self.failure(service) from None

    def start(self, template_name: str, name: str | None = None, arguments: Mapping[str, object] | None = None) -> Service:
        """Start a service; one that runs already with these arguments is returned as it is.

        Args:
            name: of the service. By default the template's, or made of its script or folder where that is taken.

        Raises:
            NotFound: there is no such template.
            BadInput: an invalid name or argument, a file that does not exist, or the name belongs to another service.
            ServiceFailed: no port is free, or it was started too often.
        """
        if self._services.is_closing:
            raise ShuttingDown()
        template = self.templates.get(template_name)
        if template is None:
            raise NotFound(template_name, "template")
        if template.external:
            raise BadInput(f"'{template_name}' is not started by this server.", "Start it as before, and open its address.")
        filled = self._arguments.fill_in(template, arguments or {})
        name = self._names.choose(template, filled) if name is None else name
        if not isinstance(name, str) or not NAME.match(name):
            raise BadInput.name("service", name, NAME_HINT)
        known = self._services.find(name)
        if known is not None and known.template.name != template_name:
            raise BadInput(
                f"The name '{name}' belongs to a service of another template.", "Choose another name, or delete that service."
            )
        if (other := self._at(template.endpoint)) is not None:
            return other
        if known is not None and known.alive:
            if self._arguments.are_of(known, template, filled):
                return known
            pairs = ", ".join(f"{argument}={masked(argument, value)}" for argument, value in known.arguments.items())
            raise BadInput(
                f"The service '{name}' runs with other arguments: {pairs}.", "Choose another name, or stop that service first."
            )
        if known is None:
            self._services.check_room()
        return self._begin(name, template, filled)

    async def stop(self, name: str) -> Service:
        """Stop a service, or a restart that is due, and wait until no process of it is left."""
        service = self.get(name)
        if service.agent:
            service.detach()
        elif service.task is not None and not service.task.done():
            if service.state == "up":  # stopped by the user: it counts no more among the starts of a crashing program
                self._recent_starts.pop(name, None)
            if service.alive:
                self._services.change(service, "stopping")
            self._request_stop(service)
            await asyncio.wait({service.task})
        return service

    async def wait_stopped(self, *names: str | None) -> None:
        """Wait for the end of services that are being stopped, by their own name or their template's, before one is started."""
        stopping = [s for s in self._services if s.state == "stopping" and {s.name, s.template.name} & set(names)]
        if tasks := {service.task for service in stopping if service.task is not None}:
            await asyncio.wait(tasks)

    async def restart(self, name: str) -> Service:
        """Stop a service and start it with the same arguments, perhaps on another port.

        Raises:
            NotFound, ServiceFailed
            BadInput: an agent has attached it.
        """
        if self.get(name).agent:
            raise BadInput(f"'{name}' was attached from elsewhere and cannot be restarted here.", "Restart its program there.")
        await self.stop(name)
        service = self.get(name)  # another request may have deleted or started it meanwhile
        return service if service.alive else self._begin(name, service.template, service.arguments)

    async def delete(self, name: str) -> None:
        """Stop a service and remove it from the list."""
        service = await self.stop(name)
        while service.alive:  # another request has started it meanwhile
            await self.stop(name)
        self._services.remove(service)

    async def wait_ready(self, service: Service) -> None:
        """Wait until a service that is starting is up.

        Raises:
            ServiceFailed: it has ended, or is being stopped.
        """
        while service.state == "starting":
            await service.changed.wait()
        # What is silent may answer the next request. An agent has looked at its own port.
        if service.state not in (("up",) if service.agent else ("up", "unhealthy")):
            raise self.failure(service)

    async def close(self) -> None:
        """Stop all services at the same time."""
        self._services.is_closing = True
        running = [service for service in self._services if service.task is not None and not service.task.done()]
        for service in running:
            self._request_stop(service)
        if running:
            await asyncio.wait({service.task for service in running if service.task is not None})
        self._services.close()
        self._endpoints.close()

    def _at(self, endpoint: Endpoint | None) -> Service | None:
        """The running service at a fixed endpoint."""
        if endpoint is None:
            return None
        return next((service for service in self._services if service.alive and service.endpoint == endpoint), None)

    # ---- the life of a service ----

    def _begin(self, name: str, template: Template, arguments: Mapping[str, str]) -> Service:
        if self._services.is_closing:
            raise ShuttingDown()
        if os.name != "posix":
            raise ServiceFailed("Services need a POSIX system. Start the program by hand and open its port.")
        self._count_start(name)
        endpoint = self._endpoints.lease(name, template)
        service = self._services.find(name)
        if service is None:
            service = self._services.add(name, template, arguments, endpoint)
            self._services.notify(service)
        else:
            if service.task is not None:
                service.task.cancel()  # it waits for its next restart, or has ended
            service.template, service.arguments, service.endpoint = template, arguments, endpoint
            service.stop_requested.clear()
            service.exit_code, service.log_offset = None, service.log.written
            self._services.change(service, "starting")
        service.touch()
        service.task = asyncio.get_running_loop().create_task(self._supervise(service), name=f"portproxy service {name}")
        return service

    async def _supervise(self, service: Service) -> None:
        """All runs of a service, from its start to its end."""
        pause = self._first_pause
        while True:
            started = time.monotonic()
            state, error = await self.runner.run(service)
            self._endpoints.release(service.endpoint)
            self._services.change(service, state, error)
            if time.monotonic() - started > self._long_run:
                pause = self._first_pause
            if service.template.restart != "on-failure" or state != "failed" or await service.wait_for_stop(pause):
                return
            pause *= 2
            try:
                self._count_start(service.name)
                service.endpoint = self._endpoints.lease(service.name, service.template)
            except ServiceFailed as failure:
                self._services.change(service, "failed", f"{error} It is not started again: {failure.message}")
                return
            service.log_offset = service.log.written
            self._services.change(service, "starting", error)

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
                address = service.endpoint.unix_socket or f"port {service.endpoint.port}"
                service.end_reason = f"It did not listen on {address} within {template.ready_timeout:g} s."
                end_input(service)
            case Health.IDLE:
                self._request_stop(service)
            case Health.ANSWERING if service.state in ("starting", "unhealthy"):
                if service.state == "starting" and service.process is not None and service.process.stdin is not None:
                    service.process.stdin.write(b"u")  # reports to the guard that the program is ready
                self._services.change(service, "up")
            case Health.SILENT if service.state == "up":
                self._services.change(service, "unhealthy", "It does not answer.")

    def _request_stop(self, service: Service) -> None:
        service.stop_requested.set()
        end_input(service)
