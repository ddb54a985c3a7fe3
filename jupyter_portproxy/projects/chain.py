"""Requests for projects: access, the next hop, starting a stopped project, and changes while connections are open.

A hub checks the members table and sends the host's credential and the user's name to the next hop. A project host accepts
requests with its hub's credential and no others, and sends the project's secret. Credentials that came with a request are
removed before it goes on.

State, per open tunnel or exchange: in `_open` from `watch` until it closes. A change of its project starts `_recheck`, which
closes it if the user has lost access (1008), if the project has moved or stopped (1012), or if its host gives no sign of life
and has not answered yet (1014).
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

from ..errors import (
    HUB,
    BadUpstream,
    Distrusted,
    Forbidden,
    GatewayError,
    HostDown,
    ProjectStarting,
    ProjectStopped,
    RegistryAway,
    UnknownProject,
    Unreachable,
    UpstreamTimeout,
)
from ..gateway.destinations import Destination, Requester
from ..gateway.policy import Policy
from ..protocol.hop_header import AUTHORIZATION_FIELD, HopHeader
from ..protocol.named_project_urls import NamedProjectRoute
from ..protocol.project_urls import ProjectRoute
from ..protocol.urls import Redirect, Route, Upstream, ip_literal
from ..services.hooks import Endpoint, RequestHooks
from ..system import background_tasks
from ..system.addresses import resolve_host
from ..upstream.closable import Closable, CloseCode
from .model import ANY_PROJECT, NameResolver, NextHop, ProjectResolver
from .starter import Starter

# What a role may do: reach services, reach the project's own Jupyter, start the project.
PORTS, JUPYTER, START = "ports", "jupyter", "start"
_WARNING_INTERVAL = 60.0  # seconds between two warnings of wrong credentials
_OTHER_ROLE = "Ask its owner for another role."


@dataclass(frozen=True, slots=True)
class ProjectHop(RequestHooks):
    """Adds the fields that authenticate a request at the next hop."""

    next_hop: NextHop
    fields: tuple[tuple[str, str], ...]
    route: ProjectRoute
    requester: Requester

    @property
    def renamed_fields(self) -> Mapping[str, str]:
        return {"authorization": AUTHORIZATION_FIELD}

    def request_fields(self, endpoint: Endpoint, base_url: str) -> list[tuple[str, str]]:
        return list(self.fields)


class Chain:
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
        self.hop, self._starter = hop, starter
        self._policy, self._resolver, self._roles, self._log = policy, resolver, roles, log
        self._names = resolver if hop == HUB and isinstance(resolver, NameResolver) else None
        self._credentials = [credential.encode() for credential in credentials]
        self._open: dict[Closable, ProjectHop] = {}
        self._next_warning = -float("inf")
        self._is_ready = False
        self._starting: asyncio.Future[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._checks: set[asyncio.Task[None]] = set()

    # ---- the hop before this one ----

    @property
    def believes_credentials(self) -> bool:
        """True if the hop before this one authenticates users; its credential makes its requests trusted."""
        return self.hop != HUB

    @property
    def finds_names(self) -> bool:
        """True if projects can be addressed by owner and name."""
        return self._names is not None

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

    async def locate(self, route: ProjectRoute | NamedProjectRoute, requester: Requester) -> Destination:
        """The next hop of a request.

        Raises:
            BadRoute: the port of a project that is addressed by name is invalid.
            UnknownProject, NotPlaced, HostDown, ProjectStopped, ProjectStarting, RegistryAway: each names this hop.
            Forbidden: the role, or a list of ports, does not allow it.
        """
        if not self._is_ready:
            await self._start_resolver()
        project_route, alias = await route.resolve_key(self, requester.name)
        try:
            next_hop = await self._resolver.resolve(project_route.key, requester.name if self.hop == HUB else None)
        except ProjectStopped as error:
            raise self._start_on_request(error, project_route, requester) from None
        self._check(project_route, next_hop, requester)
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
            ProjectHop(next_hop, fields, project_route, requester),
            counted_as=(next_hop.key, project_route.port),
            url_mapping=alias,
            hop=hop_header,
            is_stable=is_literal,
        )

    async def holds(self, to: Destination) -> bool:
        """True if a request like the one before has the same next hop, and its user may still reach it."""
        project_hop = to.hooks
        if not isinstance(project_hop, ProjectHop):
            return True
        try:
            return await self._resolve_again(project_hop) == project_hop.next_hop
        except GatewayError:
            return False

    async def is_visible(self, key: str, username: str) -> bool:
        """True if the user may see the project with that key."""
        try:
            await self._resolver.resolve(key, username)
        except UnknownProject:
            return False
        return True

    async def find_key(self, owner: str, name: str, username: str) -> str:
        """The key of a project that is addressed by owner and name."""
        if self._names is None:
            raise UnknownProject(f"{owner}/{name}", self.hop)
        return await self._names.find(owner, name, username)

    def translate(self, error: GatewayError, to: Destination) -> GatewayError:
        """An error of the next hop as the client may see it: with this hop's name, and without an internal address."""
        if not isinstance(to.hooks, ProjectHop) or not isinstance(error, (Unreachable, UpstreamTimeout, BadUpstream, Distrusted)):
            return error
        if isinstance(error, Distrusted):
            self._log.error("portproxy: %s is not trusted as a project host: %s", to.upstream.origin, error.message)
        next_hop = to.hooks.next_hop
        self._resolver.report_failure(next_hop.key, next_hop.generation)
        return HostDown(self.hop) if self.hop == HUB else ProjectStopped(self.hop)

    async def _resolve_again(self, project_hop: ProjectHop) -> NextHop:
        return await self._resolver.resolve(project_hop.next_hop.key, project_hop.requester.name if self.hop == HUB else None)

    def _credentials_for(
        self, next_hop: NextHop, route: ProjectRoute, username: str
    ) -> tuple[tuple[tuple[str, str], ...], HopHeader | None]:
        """The fields that authenticate a request at the next hop, and its hop header."""
        if self.hop == HUB:
            return (), HopHeader(next_hop.credential, username, START in self._roles.get(next_hop.role or "", ()))
        # A project's Jupyter reads the hop header only in requests for a port; its own pages get the usual forwarded fields.
        return (("Authorization", f"token {next_hop.credential}"),), HopHeader() if route.port is not None else None

    def _check(self, route: ProjectRoute, next_hop: NextHop, requester: Requester) -> None:
        """Raises Forbidden if the role or a list of ports does not allow the request."""
        if self.hop == HUB:
            action = PORTS if route.port is not None else START if route.is_start and requester.posts else JUPYTER
            if action not in self._roles.get(next_hop.role or "", ()):
                verb = "start it" if action == START else "reach this"
                raise Forbidden(f"As a {next_hop.role or 'stranger'} of this project you may not {verb}.", _OTHER_ROLE)
        port = route.port
        if port is None:
            return
        if not self._policy.allows_port(port):
            raise Forbidden(
                f"Port {port} is not allowed by the {self.hop}.",
                f"Start the service on an allowed port, or allow this one in the configuration of the {self.hop}: "
                "c.PortProxy.allowed_ports.",
            )
        if not next_hop.allows(port):
            raise Forbidden(f"Port {port} is not among the ports of this project.", "Start the service on one of them.")
        if not next_hop.allows_user(port):
            raise Forbidden(f"Port {port} is not among your ports of this project.", "Ask its owner for it.")

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
            raise Forbidden("You may not start this project.", _OTHER_ROLE)
        await self._start_resolver()
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

    # ---- open tunnels and exchanges ----

    def watch(self, open_: Closable, to: Destination) -> None:
        """Close a tunnel or exchange when a change of its project requires it; see the overview of this module."""
        if isinstance(to.hooks, ProjectHop):
            self._open[open_] = to.hooks
            open_.add_close_callback(self._open.pop)

    def _on_change(self, key: str) -> None:
        for open_, project_hop in list(self._open.items()):
            if key in (ANY_PROJECT, project_hop.next_hop.key):
                task = background_tasks.run("check of an open connection", partial(self._recheck, open_, project_hop), self._log)
                self._checks.add(task)
                task.add_done_callback(self._checks.discard)

    async def _recheck(self, open_: Closable, project_hop: ProjectHop) -> None:
        try:
            now = await self._resolve_again(project_hop)
            self._check(project_hop.route, now, project_hop.requester)
        except RegistryAway:
            return  # known placements stay valid for a while
        except (UnknownProject, Forbidden):
            open_.shut_down(CloseCode.POLICY_VIOLATION)
        except HostDown as error:
            open_.shut_down(CloseCode.BAD_GATEWAY if error.silent else CloseCode.SERVICE_RESTART)
        except GatewayError:
            open_.shut_down(CloseCode.SERVICE_RESTART)
        else:
            if now.generation != project_hop.next_hop.generation:
                open_.shut_down(CloseCode.SERVICE_RESTART)

    # ---- start and end ----

    async def _start_resolver(self) -> None:
        """Once, with the first request."""
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._resolver.start())
            self._unsubscribe = self._resolver.subscribe(self._on_change)
        await asyncio.shield(self._starting)
        self._is_ready = True

    async def close(self) -> None:
        self._unsubscribe()
        for task in self._checks:
            task.cancel()
        if self._starter is not None:
            await self._starter.close()
        if self._starting is not None:
            await asyncio.wait({self._starting})
            await self._resolver.close()
