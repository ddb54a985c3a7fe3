"""Route -> destination: the upstream of a port or service, and what to send there. Projects: see `Projects`."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Protocol

from tornado.web import RequestHandler

from ..errors import BadInput, GatewayError, Internal, RawTcp, ServiceStarting
from ..protocol import urls
from ..protocol.activity import ALL, ActivityRule
from ..protocol.hop_header import HopHeader
from ..protocol.named_project_urls import NamedProjectRoute, UrlMapping
from ..protocol.project_urls import ProjectRoute
from ..protocol.urls import BaseRoute, Redirect, Route, ServiceRoute, Upstream
from ..services.hooks import Endpoint, RequestHooks
from ..services.manager import ServiceManager
from ..services.ports import Reservations
from ..services.service import Service
from ..services.templates import Template
from ..upstream.closable import Closable
from .policy import Policy, check_socket
from .probe import upstream_of


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a request goes, and what to send there.

    Attributes:
        hooks: of a configuration file or of a hop: they change the request and the response.
        counted_as: the port for the limits, where many destinations share the upstream's address.
        url_mapping: the client's spelling of the URL, where that is not the route's.
        hop: sent to the next hop of a chain; None if the upstream is not one.
        activity: which requests are activity of this server.
        is_stable: requests with the same header fields and prefix lead here for at least a second.
    """

    route: Route
    upstream: Upstream
    hooks: RequestHooks | None = None
    service: Service | None = None
    counted_as: Hashable = None
    url_mapping: UrlMapping | None = None
    hop: HopHeader | None = None
    is_stable: bool = True
    activity: ActivityRule = ALL

    def at(self, uri: str) -> Destination:
        """The destination of another request target below the same prefix, with the same port."""
        path, mark, query = (uri if self.url_mapping is None else self.url_mapping.to_hop_target(uri)).partition("?")
        old = self.route
        route = Route(old.host, old.port, old.prefix, path[len(old.prefix) :], mark + query, old.keep_prefix, old.scheme)
        hooks, service, counted_as, hop = self.hooks, self.service, self.counted_as, self.hop
        mapping, is_stable = self.url_mapping, self.is_stable
        return Destination(route, self.upstream, hooks, service, counted_as, mapping, hop, is_stable, self.activity)

    @property
    def port(self) -> Hashable:
        """The port for the limits: a key, not a number."""
        upstream = self.upstream
        return self.counted_as or upstream.unix_socket or (upstream.host, upstream.port)


class DestinationFinder:
    """Finds the destinations of ports and services.

    Args:
        port_hooks: hooks for every port; those of a service come with its template.
    """

    def __init__(
        self,
        policy: Policy,
        services: ServiceManager,
        reservations: Reservations,
        port_hooks: RequestHooks | None,
        log: logging.Logger,
    ) -> None:
        self._policy, self._services, self._reservations = policy, services, reservations
        self._port_hooks, self._log = port_hooks, log

    async def find_port(self, route: Route, handler: RequestHandler | None = None) -> Destination:
        """The destination of a port. Args and Raises: see `Policy.resolve`."""
        upstream = await self._policy.resolve(route, handler)
        is_stable, activity = self._policy.allows_port(route.port), self._policy.activity_of(route)
        return Destination(route, upstream, self._port_hooks, is_stable=is_stable, activity=activity)

    async def find_service(self, route: ServiceRoute, *, wait: bool) -> Destination:
        """The destination of a service or reservation; a service whose template says so is started.

        Args:
            wait: until a service that is starting is ready.

        Raises:
            NotFound, ServiceStarting, ServiceFailed
            BadInput: it listens nowhere.
            RawTcp: it speaks no HTTP, and the route is not one for raw TCP.
            Forbidden: its Unix socket belongs to another user, or raw TCP to it is not allowed.
        """
        reservation = self._reservations.get(route.name)
        if reservation is not None and route.name not in self._services:
            port_route = Route(urls.LOOPBACK_NAME, reservation.port, route.prefix, route.path, route.query, scheme=route.scheme)
            upstream, activity = await self._policy.resolve(port_route), self._policy.activity_of(port_route)
            return Destination(port_route, upstream, is_stable=False, activity=activity)
        known = self.template_of(route.name)
        if known is not None and not known.listens:
            raise BadInput(
                f"The service '{route.name}' has no page and no port: it listens nowhere.", "Its log shows what it does."
            )
        if known is not None and not known.has_page and not route.tcp_target:
            raise RawTcp.service(route.name)
        template = self._services.templates.get(route.name)
        if template is not None and template.external and template.endpoint is not None:
            return self._at(template.endpoint, template, route)
        service = self._services.open(route.name, by_page=not wait)
        if service.state == "starting" and not wait:
            raise ServiceStarting(service.name, service.log.last_lines())
        await self._services.wait_ready(service)
        service.touch()
        if template is None or service.name == route.name:  # else two templates have the same fixed endpoint
            template = service.template
        return self._at(service.endpoint, template, route, service)

    def _at(self, endpoint: Endpoint, template: Template, requested: ServiceRoute, service: Service | None = None) -> Destination:
        upstream, hooks = upstream_of(endpoint, template), template.hooks
        if requested.tcp_target:
            self._policy.check_tcp(endpoint.port)
            upstream = replace(upstream, scheme="tcp")
        if upstream.unix_socket:
            check_socket(upstream.unix_socket)
        try:
            path = hooks.path(requested.path) if hooks is not None else requested.path
        except Exception:
            self._log.exception("portproxy: 'mappath' of '%s' failed", template.name)
            raise Internal() from None
        route = Route(upstream.host, upstream.port, requested.prefix, path, requested.query, template.keep_prefix)
        is_stable = service is not None and not upstream.unix_socket
        return Destination(route, upstream, hooks, service, is_stable=is_stable, activity=template.activity_rule)

    @staticmethod
    def is_current(destination: Destination) -> bool:
        """False if the destination is a service that does not run there any more."""
        service = destination.service
        if service is None:
            return True
        if service.state not in ("up", "unhealthy") or service.endpoint.port != destination.upstream.port:
            return False
        service.touch()
        return True

    # ---- templates ----

    def template_of(self, name: str) -> Template | None:
        """The template of a service, or else the template of that name."""
        return self._services.get(name).template if name in self._services else self._services.templates.get(name)

    def hooks_of(self, name: str) -> RequestHooks | None:
        template = self.template_of(name)
        return template.hooks if template is not None else None

    def sees_prefix(self, name: str) -> bool:
        """True if a service of that name gets the whole path, and no configured function changes it."""
        template = self.template_of(name)
        return template is not None and template.keep_prefix and template.hooks is None

    def known_prefix(self, target: str) -> tuple[str, bool]:
        """The prefix that a service puts before its links wherever it is opened, and whether its requests must have it.

        Args:
            target: its name or its port.

        Returns:
            an empty prefix for a service without one.
        """
        services = self._services.list() if target.isdigit() else []
        name = next((s.name for s in services if str(s.endpoint.port) == target), "" if target.isdigit() else target)
        template = self.template_of(name)
        if template is None or not template.passes_prefix:
            return "", False
        return self._services.prefix(name) or "", template.keep_prefix


@dataclass(frozen=True, slots=True)
class Requester:
    """The user of a request for a project.

    Attributes:
        may_start: the previous hop says that they may start the project.
        posts: the request is a POST.
    """

    name: str
    may_start: bool = False
    posts: bool = False


class Projects(Protocol):
    """Projects, as the gateway uses them: `projects.local.LocalProjects` of this machine, `projects.chain.Chain` on other hops.

    Nothing below `projects` imports those.
    """

    @property
    def is_behind_hub(self) -> bool:
        """True if the hop before this one authenticates users; its credential makes its requests trusted."""

    def admits(self, credential: str) -> bool: ...

    def parse(self, uri: str, base_url: str) -> BaseRoute | None:
        """The route of a request target that leads to a project, or to such a URL; None for any other. Raises BadRoute."""

    async def start(self, route: ProjectRoute, requester: Requester) -> Redirect | None: ...

    async def locate(self, route: ProjectRoute | NamedProjectRoute, requester: Requester) -> Destination: ...

    async def holds(self, destination: Destination) -> bool: ...

    def translate(self, error: GatewayError, destination: Destination) -> GatewayError: ...

    def watch(self, open_: Closable, destination: Destination) -> None: ...
