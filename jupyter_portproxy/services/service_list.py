"""The services of a server by name, and those that are called back when one changes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..errors import BadInput, NotFound
from .hooks import Endpoint
from .logs import Log, prepare
from .service import Service, ServiceState
from .templates import Template

MAX_SERVICES = 100


class ServiceList:
    """All services, also those that have ended and were not deleted.

    Args:
        prefix_of: service name, its template -> path of its URL, without a final slash.
        directory: where this server's log files are kept; made private to this user.

    Attributes:
        failures, unhealthy: template -> how often a service of it has failed, or became unhealthy.
        is_closing: the server is shutting down: nothing is started or attached any more.
    """

    def __init__(self, prefix_of: Callable[[str, Template], str], directory: Path, log: logging.Logger) -> None:
        self.prefix_of, self._directory, self._log = prefix_of, directory, log
        self.is_closing = False
        self.failures: Counter[str] = Counter()
        self.unhealthy: Counter[str] = Counter()
        self._services: dict[str, Service] = {}
        self._subscribers: list[Callable[[Service], None]] = []

    def __iter__(self) -> Iterator[Service]:
        return iter(sorted(self._services.values(), key=lambda service: service.name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._services

    def find(self, name: str) -> Service | None:
        return self._services.get(name)

    def get(self, name: str) -> Service:
        """Raises: NotFound"""
        try:
            return self._services[name]
        except KeyError:
            raise NotFound(name) from None

    def check_room(self) -> None:
        """Raises: BadInput: there are too many."""
        if len(self._services) >= MAX_SERVICES:
            raise BadInput(f"There are {MAX_SERVICES} services already.", "Delete one first.")

    def add(self, name: str, template: Template, arguments: Mapping[str, str], endpoint: Endpoint, kernel: str = "") -> Service:
        """A new service, in the state "starting"."""
        log = Log(prepare(self._directory, self._log), f"{name}.log")
        prefix = self.prefix_of(name, template)
        service = self._services[name] = Service(name, template, arguments, prefix, endpoint, log, kernel=kernel)
        return service

    def remove(self, service: Service) -> None:
        """Remove a service that does not run."""
        if self._services.get(service.name) is service:
            service.log.close()
            del self._services[service.name]
            self.notify(service)

    def change(self, service: Service, state: ServiceState, error: str = "") -> bool:
        """Set the state of a service; False if it was in that state already, with the same error."""
        before = service.state
        has_changed = service.set_state(state, error)
        if has_changed:
            counter = {"failed": self.failures, "unhealthy": self.unhealthy}.get(state)
            if counter is not None and state != before and not service.agent:
                counter[service.template.name] += 1
            self.notify(service)
        return has_changed

    def subscribe(self, callback: Callable[[Service], None]) -> Callable[[], None]:
        """Call back with a service after its start, each change of its state, and its deletion.

        Returns:
            ends the subscription.
        """
        self._subscribers.append(callback)

        def end() -> None:
            if callback in self._subscribers:  # a server may stop its extensions twice
                self._subscribers.remove(callback)

        return end

    def notify(self, service: Service) -> None:
        for callback in list(self._subscribers):
            callback(service)

    def close(self) -> None:
        for service in self._services.values():
            service.log.close()
