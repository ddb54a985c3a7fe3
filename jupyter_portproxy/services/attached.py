"""Services that agents attach: processes elsewhere, listed and named like those of this server."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..errors import BadInput, ShuttingDown
from .ports import EndpointLeases
from .service import Service, ServiceState
from .service_list import ServiceList
from .templates import Template


class AttachedServices:
    """The services of agents, which are up, unhealthy or down by what is reported.

    Args:
        templates: by name; an attached service cannot have the name of one.
    """

    def __init__(self, services: ServiceList, endpoints: EndpointLeases, templates: Mapping[str, Template]) -> None:
        self._services, self._endpoints, self._templates = services, endpoints, templates

    def attach(
        self, name: str, template: Template, arguments: Mapping[str, str], agent: str, detach: Callable[[], None]
    ) -> Service:
        """List a service that an agent has attached, or has attached again. Its Unix socket is the caller's to listen on.

        Args:
            detach: see `Service`.

        Raises:
            BadInput: the name is another service's or a template's, or there are too many.
        """
        if self._services.is_closing:
            raise ShuttingDown()
        service = self._services.find(name)
        if name in self._templates or (service is not None and service.agent != agent):
            raise BadInput(f"The name '{name}' belongs to another service.", "Choose another name.")
        if service is None:
            self._services.check_room()
            service = self._services.add(name, template, arguments, self._endpoints.lease(name, template))
            service.state, service.agent = "down", agent
        service.template, service.arguments, service.detach = template, arguments, detach
        return service

    def report(self, service: Service, state: ServiceState, error: str = "") -> None:
        """Set the state of an attached service, and write it into its log if it has changed."""
        if self._services.change(service, state, error):
            service.write_event(f"{state}{': ' if error else ''}{error}")

    def remove(self, service: Service) -> None:
        """Remove a service that is not attached any more from the list."""
        self._services.remove(service)
