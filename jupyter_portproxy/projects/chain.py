"""Projects on other hops: who may reach one, where it is, and what the next hop is told.

Rule of this file: a project's requests pass here and nowhere else. A hub asks the members table; a project host believes the
hub's credential and nothing else. What goes on carries the next hop's credential in place of everything that came.
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
from ..gateway.gateway import Destination, Requester
from ..gateway.policy import Policy
from ..protocol.hop_header import AUTHORIZATION_FIELD, HopHeader
from ..protocol.named_project_urls import NamedProjectRoute, UrlMapping
from ..protocol.project_urls import ProjectRoute
from ..protocol.urls import Redirect, Route, Upstream, ip_literal
from ..services.hooks import Endpoint, RequestHooks
from ..system import background_tasks
from ..system.addresses import resolve_host
from ..upstream.closable import Closable, CloseCode
from .model import FindsNames, ProjectResolver, Target
from .starter import Starter

# What a role may do: reach services, reach the project's own Jupyter, start the project.
PORTS, JUPYTER, START = "ports", "jupyter", "start"
_MOST_WAYS = 10_000
_QUIET = 60.0  # seconds between two words on the same


@dataclass(frozen=True, slots=True)
class Hop(RequestHooks):
    """The next hop of a request: adds the fields that let the request in there."""

    target: Target
    fields: tuple[tuple[str, str], ...]
    asked: ProjectRoute
    asker: Requester

    @property
    def renamed_fields(self) -> Mapping[str, str]:
        return {"authorization": AUTHORIZATION_FIELD}

    def request_fields(self, endpoint: Endpoint, base_url: str) -> list[tuple[str, str]]:
        return list(self.fields)


@dataclass(frozen=True, slots=True)
class _Way:
    """What follows from a target for one user: it is good as long as the resolver answers with that very target.

    Attributes:
        told: the next hop; the project's own Jupyter is none, it gets what everybody sends.
        upstream: None where the target's host is a name, which is looked up for each request.
    """

    target: Target
    fields: tuple[tuple[str, str], ...]
    told: HopHeader
    upstream: Upstream | None


class Chain:
    """One hop of a chain.

    Args:
        resolver: where projects are.
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
        self._finds_names = hop == HUB and isinstance(resolver, FindsNames)
        self._credentials = [credential.encode() for credential in credentials]
        self._ways: dict[tuple[str, str], _Way] = {}  # by key and username
        self._watched: dict[Closable, Hop] = {}  # what is open, and by which hop it leads on
        self._quiet_until = -float("inf")  # about credentials that are none
        self._has_started = False
        self._starting: asyncio.Future[None] | None = None
        self._end: Callable[[], None] = lambda: None
        self._checks: set[asyncio.Task[None]] = set()

    # ---- who asks ----

    @property
    def believes_credentials(self) -> bool:
        """The hop before this one has logged the user in, and vouches by its credential."""
        return self.hop != HUB

    @property
    def finds_names(self) -> bool:
        """Projects may be called by their owners and names here."""
        return self._finds_names

    def admits(self, credential: str) -> bool:
        """True for a credential of the hop before this one."""
        given = credential.encode("latin-1", "replace")
        admitted = bool(given) and any([hmac.compare_digest(given, known) for known in self._credentials])
        if given and not admitted and time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _QUIET
            self._log.warning(
                "portproxy: a credential was shown that is not in c.PortProxy.hop_credentials; is the hub's another?"
            )
        return admitted

    # ---- where it is ----

    async def locate(self, asked: ProjectRoute | NamedProjectRoute, asker: Requester) -> Destination:
        """The next hop of a request.

        Raises:
            BadRoute: a named service's port is none.
            UnknownProject, NotPlaced, HostDown, ProjectStopped, ProjectStarting, RegistryAway: each names this hop.
            Forbidden: the role, or the list of ports, says no.
        """
        if not self._has_started:
            await self._started()
        alias, user = None, asker.name
        if isinstance(asked, NamedProjectRoute):
            asked, alias = await self._by_key(asked, user)
        try:
            target = await self._resolver.resolve(asked.key, user if self.hop == HUB else None)
        except ProjectStopped as error:
            raise self._instead(error, asked, asker) from None
        self._check(asked, target, asker)
        way = self._ways.get((asked.key, user))
        if way is None or way.target is not target:
            way = self._way_to(target, user)
        upstream = way.upstream or await self._looked_up(target)
        route = Route(target.host, target.port, asked.prefix, asked.path, asked.query, keep=True)
        hop = Hop(target, way.fields, asked, asker)
        told = way.told if self.hop == HUB or asked.port is not None else None
        return Destination(route, upstream, hop, counted_as=(asked.key, asked.port), alias=alias, told=told)

    async def holds(self, to: Destination) -> bool:
        """True if the next hop of a request like the one before is still the same, and its user may still reach it."""
        hop = to.hooks
        if not isinstance(hop, Hop):
            return True
        try:
            return await self._resolver.resolve(hop.target.key, hop.asker.name if self.hop == HUB else None) is hop.target
        except GatewayError:
            return False

    def _way_to(self, target: Target, user: str) -> _Way:
        literal = ip_literal(target.host) is not None
        upstream = Upstream(target.host, target.port, (target.host,), scheme=target.scheme) if literal else None
        if len(self._ways) >= _MOST_WAYS:
            self._ways.clear()
        way = self._ways[target.key, user] = _Way(target, self._fields(target), self._told(target, user), upstream)
        return way

    async def _looked_up(self, target: Target) -> Upstream:
        addresses = await resolve_host(target.host, target.port)
        if not addresses:
            raise HostDown(self.hop)
        return Upstream(target.host, target.port, addresses, scheme=target.scheme)

    async def _by_key(self, asked: NamedProjectRoute, user: str) -> tuple[ProjectRoute, UrlMapping | None]:
        """A key comes before a name, for those who may see the project that has it."""
        if asked.by_key is not None:
            try:
                await self._resolver.resolve(asked.by_key.key, user)
                return asked.by_key, None
            except UnknownProject:
                pass
        asked.with_key("")
        assert isinstance(self._resolver, FindsNames)  # or there would be no such route
        return asked.with_key(await self._resolver.find(asked.owner, asked.name, user))

    async def start(self, asked: ProjectRoute, asker: Requester) -> Redirect | None:
        """Start a project, if that is asked for and this hop does so; where to look for it then.

        Raises:
            Forbidden: the asker may not.
            UnknownProject, RegistryAway
        """
        if self._starter is None or not (asked.is_start and asker.posts):
            return None
        if not asker.may_start:
            raise Forbidden("You may not start this project.", "Ask its owner for another role.")
        await self._started()
        try:
            await self._resolver.resolve(asked.key, None)
        except ProjectStopped:
            self._starter.start(asked.key)
        except ProjectStarting:
            pass
        return Redirect(asked.next_uri, 303)

    def _instead(self, error: ProjectStopped, asked: ProjectRoute, asker: Requester) -> GatewayError:
        """What a stopped project is answered with, where this hop can start it."""
        starter, key = self._starter, asked.key
        if starter is None:
            return error
        if error.on_request and asker.may_start and not starter.failed_lately(key):
            starter.start(key)
        if starter.is_starting(key):
            return ProjectStarting(self.hop)
        return ProjectStopped(self.hop, why=starter.failure(key), start=asked.start_uri if asker.may_start else "")

    def _check(self, asked: ProjectRoute, target: Target, asker: Requester) -> None:
        if self.hop == HUB:
            role = target.role_of(asker.name) or ""
            what = PORTS if asked.port is not None else START if asked.is_start and asker.posts else JUPYTER
            if what not in self._roles.get(role, ()):
                raise Forbidden(
                    f"As a {role or 'stranger'} of this project you may not {'start it' if what == START else 'reach this'}.",
                    "Ask its owner for another role.",
                )
        if asked.port is None:
            return
        if not self._policy.allows_port(asked.port):
            raise Forbidden(
                f"Port {asked.port} is not allowed by the {self.hop}.",
                f"Start the service on an allowed port, or allow this one in the configuration of the {self.hop}: "
                "c.PortProxy.allowed_ports.",
            )
        if not target.allows(asked.port):
            raise Forbidden(f"Port {asked.port} is not among the ports of this project.", "Start the service on one of them.")
        if not target.allows_asker(asked.port):
            raise Forbidden(f"Port {asked.port} is not among your ports of this project.", "Ask its owner for it.")

    def _fields(self, target: Target) -> tuple[tuple[str, str], ...]:
        return () if self.hop == HUB else (("Authorization", f"token {target.credential}"),)

    def _told(self, target: Target, user: str) -> HopHeader:
        if self.hop != HUB:
            return HopHeader()
        return HopHeader(target.credential, user, START in self._roles.get(target.role_of(user) or "", ()))

    def translate(self, error: GatewayError, to: Destination) -> GatewayError:
        """An error as the client may see it: with the hop's name, and without the address of the next one."""
        if not isinstance(to.hooks, Hop) or not isinstance(error, (Unreachable, UpstreamTimeout, BadUpstream, Distrusted)):
            return error
        target = to.hooks.target
        if isinstance(error, Distrusted):
            self._log.error("portproxy: %s is not trusted as a project host: %s", to.upstream.origin, error.message)
        self._resolver.report_failure(target.key, target.generation)
        return HostDown(self.hop) if self.hop == HUB else ProjectStopped(self.hop)

    # ---- what is open ----

    def watch(self, open_: Closable, to: Destination) -> None:
        """End it when its user may not reach it any more (1008), or when its project moves or stops (1012).

        Whoever waits for the first word of a host that gives no sign of life (1014) waits no longer; what flows, flows on.
        """
        if not isinstance(to.hooks, Hop):
            return
        self._watched[open_] = to.hooks
        open_.add_close_callback(self._watched.pop)

    def _on_change(self, key: str) -> None:
        for open_, to in [(open_, to) for open_, to in self._watched.items() if key in ("", to.target.key)]:
            task = background_tasks.run("check of what is open", partial(self._check_again, open_, to), self._log)
            self._checks.add(task)
            task.add_done_callback(self._checks.discard)

    async def _check_again(self, open_: Closable, to: Hop) -> None:
        try:
            now = await self._resolver.resolve(to.target.key, to.asker.name if self.hop == HUB else None)
            self._check(to.asked, now, to.asker)
        except RegistryAway:
            return  # known placements serve on
        except (UnknownProject, Forbidden):
            open_.shut_down(CloseCode.POLICY_VIOLATION)
        except HostDown as error:
            open_.shut_down(CloseCode.BAD_GATEWAY if error.silent else CloseCode.SERVICE_RESTART)
        except GatewayError:
            open_.shut_down(CloseCode.SERVICE_RESTART)
        else:
            if now.generation != to.target.generation:
                open_.shut_down(CloseCode.SERVICE_RESTART)

    # ---- life ----

    async def _started(self) -> None:
        """Begins with the first request, once."""
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._resolver.start())
            self._end = self._resolver.subscribe(self._on_change)
        await asyncio.shield(self._starting)
        self._has_started = True

    async def close(self) -> None:
        self._end()
        for task in self._checks:
            task.cancel()
        if self._starter is not None:
            await self._starter.close()
        if self._starting is not None:
            await asyncio.wait({self._starting})
            await self._resolver.close()
