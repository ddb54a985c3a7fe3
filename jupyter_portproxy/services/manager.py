"""Services: processes that are started from templates, supervised and stopped. Independent of HTTP; raises GatewayErrors.

States of a service, and what brings it there:

    starting   a run has begun, or waits for the services that it needs: by `start`, `restart` or `open`, or by `restart` of its
               template after the end of a run
    up         a health check found it ready, or answering again
    unhealthy  as many health checks in a row failed as the template says
    stopping   `stop`, `restart` or `delete` was called
    down       the run has ended: it was stopped, was idle, or ended by itself with exit code 0 after it was ready
    failed     the run could not begin, was not ready in time, or ended otherwise

A service that an agent has attached is a process elsewhere: it is up, unhealthy or down by what `AttachedServices.report` says,
is never started here, and `stop` calls `Service.detach`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import BadInput, GatewayError, NotFound, ServiceFailed
from .arguments import Arguments, masked
from .attached import AttachedServices
from .hooks import Endpoint
from .kernel_environments import KernelEnvironments
from .names import ServiceNames
from .ports import EndpointLeases, PortLeases
from .remembered import RememberedServices
from .service import Service
from .service_list import ServiceList
from .start_order import stop_in_order
from .supervisor import PAUSES, Pauses, Supervisor
from .template_keys import NAME, NAME_HINT, NUMBER_HINT
from .templates import Template


class ServiceManager:
    """The services of one server.

    Args:
        ports: leases the ports of services.
        prefix_of: service name, its template -> path of its URL, without a final slash.
        probe: True if a service accepts connections, or answers; it must not take longer than two seconds.
        directory: where this server's log files are kept; made private to this user.
        templates: by name. The mapping is kept: what is put into it later can be started.
        root_dir: the root of the file browser; paths among the arguments and working directories are relative to it.
        may_start: True if a template of a folder may be started now.
        remembered: the services that a restart of the server starts again; None if it remembers none.
        kernels: the kernels in whose environments services may run.
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
        pauses: Pauses = PAUSES,
        may_start: Callable[[Template], bool] = lambda template: True,
        remembered: RememberedServices | None = None,
        kernels: KernelEnvironments | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        log = self._log = log or logging.getLogger(__name__)
        self.templates, self._remembered = templates, remembered
        self.kernels = kernels or KernelEnvironments(None)
        self._services = ServiceList(prefix_of, directory, log)
        self._endpoints = EndpointLeases(ports)
        self.attached = AttachedServices(self._services, self._endpoints, templates)
        self._supervisor = Supervisor(
            self._services, self._endpoints, probe, self._start_need, may_start, base_url, root_dir, pauses, self.kernels, log
        )
        # For /metrics: template -> number of processes started, of failures, and of times that a service became unhealthy.
        self.starts = self._supervisor.runner.starts
        self.failures, self.unhealthy = self._services.failures, self._services.unhealthy
        self._arguments = Arguments(root_dir)
        self._names = ServiceNames(self._services, templates, self._arguments)

    def subscribe(self, callback: Callable[[Service], None], *, watches: bool = True) -> Callable[[], None]:
        """Call back with a service after its start, each change of its state, and its deletion.

        Args:
            watches: clients follow the states: services without a `health_period` are checked too.

        Returns:
            ends the subscription.
        """
        unsubscribe = self._services.subscribe(callback)
        end_watch = self._supervisor.health.watch() if watches else lambda: None

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
            return self._begin(name, service.template, service.arguments, service.started_by, service.kernel)
        except ServiceFailed:
            raise self.failure(service) from None

    def start(
        self,
        template_name: str,
        name: str | None = None,
        arguments: Mapping[str, object] | None = None,
        *,
        started_by: str = "",
        kernel: str | None = None,
    ) -> Service:
        """Start a service of a configured template. Raises: NotFound, and as `start_template`."""
        template = self.templates.get(template_name)
        if template is None:
            raise NotFound(template_name, "template")
        return self.start_template(template, name, arguments, started_by=started_by, kernel=kernel)

    def start_template(
        self,
        template: Template,
        name: str | None = None,
        arguments: Mapping[str, object] | None = None,
        *,
        started_by: str = "",
        kernel: str | None = None,
    ) -> Service:
        """Start a service, and first what it needs; one that runs already with these arguments is returned as it is.

        Args:
            template: of the configuration, or of a folder.
            name: of the service. By default the template's, or made of its folder or script where that is taken.
            started_by: the user; empty if it starts by itself.
            kernel: in whose environment it runs; empty for the server's own. By default the template's.

        Raises:
            BadInput: an invalid name or argument, a file that does not exist, or the name belongs to another service.
            ServiceFailed: no port is free, it was started too often, or a service that it needs could not be started.
            ConsentMissing: its folder may not start services now.
            ShuttingDown
        """
        if template.external:
            raise BadInput(f"'{template.name}' is not started by this server.", "Start it as before, and open its address.")
        filled = self._arguments.fill_in(template, arguments or {})
        kernel = template.kernel if kernel is None else kernel
        name = self._names.choose(template, filled, kernel) if name is None else name
        if not isinstance(name, str) or not NAME.match(name):
            raise BadInput.name("service", name, NAME_HINT)
        if name.isdigit() and name != template.name:
            raise BadInput.name("service", name, NUMBER_HINT)
        known = self._services.find(name)
        if known is not None and known.template.key != template.key:
            raise BadInput(
                f"The name '{name}' belongs to a service of another template.", "Choose another name, or delete that service."
            )
        if (other := self._at(template.endpoint)) is not None:
            return other
        if known is not None and known.alive:
            if self._arguments.are_of(known, template, filled, kernel):
                return known
            raise _runs_otherwise(known, kernel)
        if known is None:
            self._services.check_room()
        return self._begin(name, template, filled, started_by, kernel)

    def find_running(self, template: Template) -> Service | None:
        """A service of this template that runs or starts, preferably with the arguments' defaults."""
        running = [s for s in self._services if s.alive and s.state != "stopping" and s.template.key == template.key]
        defaults = {argument.name: argument.default for argument in template.arguments}
        return max(running, key=lambda service: service.arguments == defaults, default=None)

    def start_by_itself(self) -> None:
        """Start the configured templates with autostart "always", when the server starts."""
        for template in self.templates.values():
            if template.autostart == "always":
                self._try_to_start(template)

    async def start_remembered(self, find: Callable[[str, str], Awaitable[Template | None]]) -> None:
        """Start the services that the last server has left, as far as their templates are still there and say so.

        Args:
            find: folder, name -> the template of a folder; None if it has none, or may not start services.
        """
        if self._remembered is None:
            return
        for entry in await self._remembered.take_over():
            template = await find(entry.folder, entry.template) if entry.folder else self.templates.get(entry.template)
            if template is not None and template.restart == "always":
                given = {"name": entry.name, "arguments": entry.arguments}
                self._try_to_start(template, **given, started_by=entry.started_by, kernel=entry.kernel)
            else:
                self._remembered.forget(entry.name)

    def _try_to_start(self, template: Template, **given: Any) -> None:
        """Start a service; what `start_template` raises goes to the log. `given`: its other arguments."""
        try:
            self.start_template(template, **given)
        except GatewayError as error:
            self._log.error("portproxy: '%s' is not started with the server: %s", template.name, error.message)

    async def stop(self, name: str) -> Service:
        """Stop a service, or a restart that is due, and wait until no process of it is left. It is not remembered any more."""
        service = self.get(name)
        self._forget(service)
        await self._stop(service)
        return service

    async def stop_all(self, services: Collection[Service]) -> None:
        """As `stop`, for several services: each as soon as those that need it have ended."""
        for service in services:
            self._forget(service)
        await stop_in_order(services, self._stop)

    async def _stop(self, service: Service) -> None:
        if service.agent:
            service.detach()
        else:
            await self._supervisor.stop(service)

    def _forget(self, service: Service) -> None:
        if self._remembered is not None:
            self._remembered.forget(service.name)

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
        await self._stop(self.get(name))
        service = self.get(name)  # another request may have deleted or started it meanwhile
        if service.alive:
            return service
        return self._begin(name, service.template, service.arguments, service.started_by, service.kernel)

    async def delete(self, name: str) -> None:
        """Stop a service and remove it from the list."""
        service = await self.stop(name)
        while service.alive:  # another request has started it meanwhile
            await self.stop(name)
        self._services.remove(service)

    def set_removed(self, service: Service, is_removed: bool) -> None:
        """Record whether the project files of its folder no longer have a service."""
        if service.is_removed != is_removed:
            service.is_removed = is_removed
            self._services.notify(service)

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
        """Stop all services, each as soon as those that need it have ended. They stay remembered."""
        self._services.is_closing = True
        await stop_in_order([s for s in self._services if s.task is not None and not s.task.done()], self._supervisor.end)
        if self._remembered is not None:
            await self._remembered.close()
        self._services.close()
        self._endpoints.close()

    def _at(self, endpoint: Endpoint | None) -> Service | None:
        """The running service at a fixed endpoint."""
        if endpoint is None:
            return None
        return next((service for service in self._services if service.alive and service.endpoint == endpoint), None)

    def _begin(self, name: str, template: Template, arguments: Mapping[str, str], started_by: str, kernel: str) -> Service:
        service = self._supervisor.begin(name, template, arguments, started_by, kernel)
        if self._remembered is not None and template.restart == "always":
            self._remembered.remember(service)
        return service

    def _start_need(self, template: Template, started_by: str) -> Service:
        return self.find_running(template) or self.start_template(template, started_by=started_by)


def _runs_otherwise(service: Service, kernel: str) -> BadInput:
    """The error of a start with other arguments or another kernel than those with which the service runs."""
    pairs = [f"{name}={masked(name, value)}" for name, value in service.arguments.items()]
    if service.kernel != kernel:
        pairs.append(f"kernel={service.kernel or 'none'}")
    message = f"The service '{service.name}' runs with other arguments: {', '.join(pairs)}."
    return BadInput(message, "Choose another name, or stop that service first.")
