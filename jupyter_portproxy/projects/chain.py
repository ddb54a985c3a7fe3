"""One hop of a chain: the next hop of a project, what authenticates a request there, and the start of a stopped project.

A hub checks the members table and sends the host's credential and the user's name to the next hop. A project host accepts
requests with its hub's credential and no others, and sends the project's secret. Credentials that came with a request are
removed before it goes on. Members and open connections: see `access`.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..errors import (
    HUB,
    BadUpstream,
    Distrusted,
    Forbidden,
    GatewayError,
    HostDown,
    ProjectStarting,
    ProjectStopped,
    Unreachable,
    UpstreamTimeout,
)
from ..gateway.destinations import Destination, Requester
from ..gateway.policy import Policy
from ..protocol.hop_header import AUTHORIZATION_FIELD, HopHeader
from ..protocol.named_project_urls import NamedProjectRoute, parse_named_project_url
from ..protocol.project_urls import ProjectRoute, parse_project_url
from ..protocol.urls import BaseRoute, Redirect, Route, Upstream, ip_literal
from ..services.hooks import Endpoint
from ..system.addresses import resolve_host
from .access import OTHER_ROLE, START, CheckedProjects, ProjectAccess, ProjectHooks
from .model import NextHop, ProjectResolver
from .starter import Starter

_WARNING_INTERVAL = 60.0  # seconds between two warnings of wrong credentials


@dataclass(frozen=True, slots=True)
class ProjectHop(ProjectHooks):
    """Adds the fields that authenticate a request at the next hop."""

    fields: tuple[tuple[str, str], ...]

    @property
    def renamed_fields(self) -> Mapping[str, str]:
        return {"authorization": AUTHORIZATION_FIELD}

    def request_fields(self, endpoint: Endpoint, base_url: str) -> list[tuple[str, str]]:
        return list(self.fields)


class Chain(CheckedProjects):
    """One hop of a chain.

    Args:
        hop: HUB or PROJECT_HOST.
        roles: role -> what it may reach, for a hub.
        credentials: what the hop before this one sends, for a project host.
        starter: starts projects of this host.
    """

    def __init__(
        self,
        policy: Policy,
        resolver: ProjectResolver,
        hop: str,
        roles: Mapping[str, Collection[str]],
        credentials: Collection[str],
        log: logging.Logger,
        starter: Starter | None = None,
    ) -> None:
        super().__init__(ProjectAccess(resolver, hop, roles if hop == HUB else None, self._check_port, log))
        self.hop, self._starter = hop, starter
        self._policy, self._resolver, self._log = policy, resolver, log
        self._credentials = [credential.encode() for credential in credentials]
        self._next_warning = -float("inf")

    # ---- the hop before this one ----

    @property
    def is_behind_hub(self) -> bool:
        """See `Projects.is_behind_hub`."""
        return self.hop != HUB

    def admits(self, credential: str) -> bool:
        """True for a credential of the hop before this one."""
        given = credential.encode("latin-1", "replace")
        admitted = bool(given) and any([hmac.compare_digest(given, known) for known in self._credentials])
        if given and not admitted and time.monotonic() >= self._next_warning:
            self._next_warning = time.monotonic() + _WARNING_INTERVAL
            self._log.warning(
                "portproxy: a request had a credential that is not in c.PortProxy.hop_credentials; does the hub have another one?"
            )
        return admitted

    # ---- the next hop ----

    def parse(self, uri: str, base_url: str) -> BaseRoute | None:
        """See `Projects.parse`: all URLs below a project's key, and at a hub those by owner and name."""
        return parse_named_project_url(uri, base_url) if self.access.finds_names else parse_project_url(uri, base_url)

    async def locate(self, route: ProjectRoute | NamedProjectRoute, requester: Requester) -> Destination:
        """The next hop of a request.

        Raises:
            BadRoute: the port of a project that is addressed by name is invalid.
            UnknownProject, NotPlaced, HostDown, ProjectStopped, ProjectStarting, RegistryAway: each names this hop.
            Forbidden: the role, or a list of ports, does not allow it.
        """
        await self.access.start()
        changes = self.access.changes
        project_route, alias = await route.resolve_key(self.access, requester.name)
        try:
            next_hop = await self.access.resolve(project_route.key, requester)
        except ProjectStopped as error:
            raise self._start_on_request(error, project_route, requester) from None
        if self._starter is not None:
            self._starter.found_running(project_route.key)
        if next_hop.is_local:
            raise HostDown(self.hop)  # a server whose `project_resolver` is "local" serves it
        self.access.check(project_route, next_hop, requester)
        is_literal = ip_literal(next_hop.host) is not None
        addresses = (next_hop.host,) if is_literal else await resolve_host(next_hop.host, next_hop.port)
        if not addresses:
            raise HostDown(self.hop)
        upstream = Upstream(next_hop.host, next_hop.port, addresses, scheme=next_hop.scheme)
        target = Route(
            next_hop.host, next_hop.port, project_route.prefix, project_route.path, project_route.query, keep_prefix=True
        )
        fields, hop_header = self._credentials_for(next_hop, project_route, requester.name)
        return Destination(
            target,
            upstream,
            ProjectHop(next_hop, project_route, requester, fields, changes=changes),
            counted_as=(next_hop.key, project_route.port),
            url_mapping=alias,
            hop=hop_header,
            is_stable=is_literal,
        )

    def translate(self, error: GatewayError, to: Destination) -> GatewayError:
        """An error of the next hop as the client may see it: with this hop's name, and without an internal address."""
        if not isinstance(to.hooks, ProjectHop) or not isinstance(error, (Unreachable, UpstreamTimeout, BadUpstream, Distrusted)):
            return error
        if isinstance(error, Distrusted):
            self._log.error("portproxy: %s is not trusted as a project host: %s", to.upstream.origin, error.message)
        next_hop = to.hooks.next_hop
        self._resolver.report_failure(next_hop.key, next_hop.generation)
        return HostDown(self.hop) if self.hop == HUB else ProjectStopped(self.hop)

    def _credentials_for(
        self, next_hop: NextHop, route: ProjectRoute, username: str
    ) -> tuple[tuple[tuple[str, str], ...], HopHeader | None]:
        """The fields that authenticate a request at the next hop, and its hop header."""
        if self.hop == HUB:
            return (), HopHeader(next_hop.credential, username, self.access.allows(next_hop.role, START))
        # A project's Jupyter reads the hop header only in requests for a port; its own pages get the usual forwarded fields.
        return (("Authorization", f"token {next_hop.credential}"),), HopHeader() if route.port is not None else None

    def _check_port(self, route: ProjectRoute, port: int) -> None:
        if route.tcp_target:
            self._policy.check_tcp_list(port, f"the {self.hop}")
            if self._policy.is_tcp_listed(port):
                return
        if not self._policy.allows_port(port):
            raise Forbidden(
                f"Port {port} is not allowed by the {self.hop}.",
                f"Start the service on an allowed port, or allow this one in the configuration of the {self.hop}: "
                "c.PortProxy.allowed_ports.",
            )

    # ---- starting a project ----

    async def start(self, route: ProjectRoute, requester: Requester) -> Redirect | None:
        """Start a project if the request is for that and this hop starts projects; None for any other request.

        Raises:
            Forbidden: the user may not start it.
            UnknownProject, RegistryAway
        """
        if self._starter is None or not (route.is_start and requester.posts):
            return None
        if not requester.may_start:
            raise Forbidden("You may not start this project.", OTHER_ROLE)
        await self.access.start()
        try:
            await self._resolver.resolve(route.key, None)
        except ProjectStopped:
            self._starter.start(route.key)
        except ProjectStarting:
            pass
        return Redirect(route.next_uri, 303)

    def _start_on_request(self, error: ProjectStopped, route: ProjectRoute, requester: Requester) -> GatewayError:
        """The error for a request to a stopped project, which the request starts if the project is registered so."""
        starter, key = self._starter, route.key
        if starter is None:
            return error
        if error.on_request and requester.may_start and not starter.failed_lately(key):
            starter.start(key)
        if starter.is_starting(key):
            return ProjectStarting(self.hop)
        return ProjectStopped(self.hop, why=starter.failure(key), start=route.start_uri if requester.may_start else "")

    async def close(self) -> None:
        if self._starter is not None:
            await self._starter.close()
        await super().close()
