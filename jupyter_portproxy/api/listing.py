"""Services, ports, templates and reservations as the API and the index page show them (schemas of docs/openapi.yaml)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from tornado.httputil import HTTPServerRequest

from ..errors import BadInput
from ..gateway.gateway import Gateway
from ..isolation.sessions import Origins
from ..protocol import urls
from ..protocol.origin_hosts import FRAME_FEATURES, WELL_KNOWN_PATH
from ..services.kernel_environments import KernelEnvironment
from ..services.ports import Reservation
from ..services.service import Service
from ..services.templates import Template
from .port_list import Item, PortList, describe_all

_STARTING_LINES = 8
_STARTING_LENGTH = 200  # characters of a line


class Listing:
    """What the API lists.

    Attributes:
        ports, unused_port, probe_again, scan_again: `read`, `describe_unused` and these methods of the PortList.

    Args:
        agents: the agents that attach services, as the API shows them; None where nothing can be attached.
    """

    def __init__(
        self,
        gateway: Gateway,
        port_list: PortList,
        origins: Origins | None,
        base_url: str,
        agents: Callable[[], list[Item] | None] = lambda: None,
    ) -> None:
        self._gateway, self._origins, self._base_url = gateway, origins, base_url
        self.agents = agents
        self.ports, self.unused_port = port_list.read, port_list.describe_unused
        self.probe_again, self.scan_again = port_list.probe_again, port_list.scan_again

    def services(self) -> list[Item]:
        return describe_all("service", self.service, self._gateway.services.list(), self._gateway.log)

    def service(self, service: Service) -> Item:
        return {
            "name": service.name,
            "template": service.template.name,
            "title": service.template.title,
            "icon": service.template.icon,
            "arguments": dict(service.arguments),
            "runs": self._gateway.services.describe(service),
            "state": service.state,
            "since": service.since,
            "error": service.error,
            "exit_code": service.exit_code,
            "port": service.endpoint.port or None,
            "url": _first_page(service.prefix, service.template),
            "scheme": service.template.protocol,
            "open_in": service.template.open_in,
            "kernel": service.kernel or None,
            "agent": service.agent or None,
            "folder": service.template.folder,
            "removed": service.is_removed,
            "started_by": service.started_by,
            "depends_on": [need.name for need in service.needs],
            "health_period": service.template.health_period,
            "last_lines": _last_lines(service),
        }

    def reservations(self) -> list[Item]:
        return describe_all("reservation", self.reservation, self._gateway.reservations.list(), self._gateway.log)

    def reservation(self, reservation: Reservation) -> Item:
        url = f"{urls.build_service_path(self._base_url, reservation.name)}/"
        keys = ("name", "port", "until", "used")
        return {**{key: getattr(reservation, key) for key in keys}, "url": url}

    def user_ports(self) -> list[Item]:
        return [asdict(port) for port in self._gateway.policy.user_ports()]

    def port_rules(self) -> list[Item] | None:
        """The user's rules for ports; None if this server has none."""
        policy = self._gateway.policy
        return [asdict(rule) for rule in policy.port_rules.list()] if policy.has_port_rules else None

    async def templates(self, kernel: str = "") -> list[Item]:
        """The templates.

        Args:
            kernel: in whose environment their programs are looked for; if empty, that of each template.

        Raises:
            BadInput: there is no such environment.
        """
        kernels, templates = self._gateway.services.kernels, self._gateway.services.templates.values()
        if kernel:
            given = await kernels.find(kernel)
            return [self._template(template, given) for template in templates]
        found: dict[str, KernelEnvironment | BadInput | None] = {"": None}
        for name in {template.kernel for template in templates} - found.keys():
            try:
                found[name] = await kernels.find(name)
            except BadInput as error:
                found[name] = error
        return [self._template(template, found[template.kernel]) for template in templates]

    def _template(self, template: Template, kernel: KernelEnvironment | BadInput | None) -> Item:
        hint = ""
        if isinstance(kernel, BadInput):
            hint = f"{kernel.message} {kernel.hint}"
        elif template.requires is not None and not template.is_available(kernel):
            how, program = template.requires.hint, template.requires.program
            hint = how if kernel is None else kernel.missing(program, how)
        return {
            "name": template.name,
            "title": template.title,
            "category": template.category,
            "icon": template.icon,
            "open_in": template.open_in,
            "launcher": template.launcher,
            "external": template.external,
            "url": _first_page(self._gateway.services.prefix(template.name), template),
            "scheme": template.protocol,
            "kernel": template.kernel or None,
            "available": not isinstance(kernel, BadInput) and template.is_available(kernel),
            "hint": hint,
            "arguments": [
                {"name": a.name, "label": a.label or a.name, "default": a.default, "kind": a.kind, "choices": list(a.choices)}
                for a in template.arguments
            ],
        }

    def origins(self, request: HTTPServerRequest) -> Item:
        """How services open, for the Jupyter page that sends this request."""
        origins, probe, origin = self._origins, None, None
        if origins is not None:
            host = origins.hosts.find_host("1", request)
            origins.add_jupyter_host(request.headers.get("Host", "").lower())
            if host is not None:
                probe = f"{request.protocol}://{host}{WELL_KNOWN_PATH}hello"
                origin = f"{request.protocol}://{origins.hosts.build_pattern(host)}"
        isolate = self._gateway.settings.isolate
        return {"isolate": isolate, "probe": probe, "origin": origin, "features": list(FRAME_FEATURES)}

    def entrance_of(self, prefix: str) -> str | None:
        """The URL that leads to the isolated origin of the port or service at this prefix; None if it has none."""
        origins = self._origins
        if origins is None or not origins.hosts.is_available:
            return None
        match prefix.removeprefix(self._base_url).split("/"):
            case ["proxy", "port" | "service", target] | ["server", target]:
                pass
            case ["proxy", target] if target.isdigit():
                pass
            case [target] if target:
                pass
            case _:
                return None
        return f"{self._base_url}proxy/enter/{target}/"


def _last_lines(service: Service) -> list[str]:
    """Of a service that has ended by itself; fewer of one that is starting, as each event has all of them."""
    if service.state == "starting":
        return [line[:_STARTING_LENGTH] for line in service.last_lines(_STARTING_LINES)]
    return service.last_lines() if service.error and not service.alive else []


def _first_page(prefix: str | None, template: Template) -> str | None:
    """The URL of a service's first page; None for a template that does not start when it is opened, and without HTTP."""
    has_page = prefix is not None and template.has_page
    return f"{prefix}/{template.path_info.lstrip('/')}" if has_page else None
