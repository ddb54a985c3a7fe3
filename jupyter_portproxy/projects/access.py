"""Access to projects: who may reach what of a project, and the end of what is open when that changes.

State, per open tunnel or exchange: in `_open` from `watch` until it closes. A change of its project starts `_recheck`, which
closes it if the user has lost access (1008), if the project has moved or stopped (1012), or if its host gives no sign of life
and has not answered yet (1014).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial

from ..errors import Forbidden, GatewayError, HostDown, RegistryAway, UnknownProject
from ..gateway.destinations import Destination, Requester
from ..protocol.project_urls import ProjectRoute
from ..protocol.urls import print_ports
from ..services.hooks import RequestHooks
from ..system import background_tasks
from ..upstream.closable import Closable, CloseCode
from .model import ANY_PROJECT, NameResolver, NextHop, ProjectResolver

# What a role may do: reach services, reach the project's own Jupyter, start the project.
PORTS, JUPYTER, START = "ports", "jupyter", "start"
OTHER_ROLE = "Ask its owner for another role."


@dataclass(frozen=True, slots=True)
class ProjectHooks(RequestHooks):
    """The project of a request, and by whom and for what it was requested.

    Attributes:
        changes: `ProjectAccess.changes` before the look-up of the project.
    """

    next_hop: NextHop
    route: ProjectRoute
    requester: Requester
    changes: int = field(kw_only=True, compare=False)


class ProjectAccess:
    """Decides about requests for projects, and again about what is open when a project changes. It is a KeyFinder.

    Attributes:
        changes: how often a project has changed since the start.

    Args:
        hop: this gateway, for messages.
        roles: role -> what it may do; None if the previous hop has checked the members.
        check_port: raises Forbidden for a route to a port that this server does not allow.
    """

    def __init__(
        self,
        resolver: ProjectResolver,
        hop: str,
        roles: Mapping[str, Collection[str]] | None,
        check_port: Callable[[ProjectRoute, int], None],
        log: logging.Logger,
    ) -> None:
        self.hop = hop
        self._resolver, self._roles, self._check_port, self._log = resolver, roles, check_port, log
        self._names = resolver if roles is not None and isinstance(resolver, NameResolver) else None
        self._open: dict[Closable, ProjectHooks] = {}
        self.changes = 0
        self._is_ready = False
        self._starting: asyncio.Future[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._checks: set[asyncio.Task[None]] = set()

    def subscribe(self, callback: Callable[[str], None]) -> None:
        """Call back with the keys of projects that may have changed; see ProjectResolver."""
        self._resolver.subscribe(callback)

    # ---- decisions ----

    @property
    def finds_names(self) -> bool:
        """True if projects can be addressed by owner and name."""
        return self._names is not None

    async def resolve(self, key: str, requester: Requester) -> NextHop:
        """The next hop of a project; Raises: see ProjectResolver."""
        return await self._resolver.resolve(key, requester.name if self._roles is not None else None)

    def allows(self, role: str | None, action: str) -> bool:
        """True if a role may do that: PORTS, JUPYTER or START."""
        return self._roles is None or action in self._roles.get(role or "", ())

    def check(self, route: ProjectRoute, next_hop: NextHop, requester: Requester) -> None:
        """Raises Forbidden if the role or a list of ports does not allow the request."""
        action = PORTS if route.port is not None else START if route.is_start and requester.posts else JUPYTER
        if not self.allows(next_hop.role, action):
            verb = "start it" if action == START else "reach this"
            raise Forbidden(f"As a {next_hop.role or 'stranger'} of this project you may not {verb}.", OTHER_ROLE)
        port = route.port
        if port is None:
            return
        self._check_port(route, port)
        if not next_hop.allows(port):
            own = next_hop.allowed_ports
            which = f"Start the service on one of them: {print_ports(own)}." if own is not None else "Another project claims it."
            raise Forbidden(f"Port {port} is not among the ports of this project.", which)
        if not next_hop.allows_user(port):
            raise Forbidden(f"Port {port} is not among your ports of this project.", "Ask its owner for it.")

    async def holds(self, to: Destination) -> bool:
        """True if a request like the one before has the same next hop, and its user may still reach it."""
        hooks = to.hooks
        if not isinstance(hooks, ProjectHooks):
            return True
        try:
            return await self.resolve(hooks.next_hop.key, hooks.requester) == hooks.next_hop
        except GatewayError:
            return False

    # ---- see KeyFinder ----

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

    # ---- open tunnels and exchanges ----

    def watch(self, open_: Closable, to: Destination) -> None:
        """Close a tunnel or exchange when a change of its project requires it; see the overview of this module."""
        if isinstance(to.hooks, ProjectHooks):
            self._open[open_] = to.hooks
            open_.add_close_callback(self._open.pop)
            if to.hooks.changes != self.changes:  # the decision is older, by the time of a WebSocket's handshake
                self._start_recheck(open_, to.hooks)

    def _on_change(self, key: str) -> None:
        self.changes += 1
        for open_, hooks in list(self._open.items()):
            if key in (ANY_PROJECT, hooks.next_hop.key):
                self._start_recheck(open_, hooks)

    def _start_recheck(self, open_: Closable, hooks: ProjectHooks) -> None:
        task = background_tasks.run("check of an open connection", partial(self._recheck, open_, hooks), self._log)
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _recheck(self, open_: Closable, hooks: ProjectHooks) -> None:
        try:
            now = await self.resolve(hooks.next_hop.key, hooks.requester)
            self.check(hooks.route, now, hooks.requester)
        except RegistryAway as error:
            if error.is_denial:
                open_.shut_down(CloseCode.POLICY_VIOLATION)  # else known placements stay valid for a while
        except (UnknownProject, Forbidden):
            open_.shut_down(CloseCode.POLICY_VIOLATION)
        except HostDown as error:
            open_.shut_down(CloseCode.BAD_GATEWAY if error.silent else CloseCode.SERVICE_RESTART)
        except GatewayError:
            open_.shut_down(CloseCode.SERVICE_RESTART)
        else:
            if now.system_user != hooks.next_hop.system_user:  # it is connected to the services of another user
                open_.shut_down(CloseCode.POLICY_VIOLATION)
            elif now.generation != hooks.next_hop.generation:
                open_.shut_down(CloseCode.SERVICE_RESTART)

    # ---- start and end ----

    async def start(self) -> None:
        """Start the resolver, with the first request."""
        if self._is_ready:
            return
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._resolver.start())
            self._unsubscribe = self._resolver.subscribe(self._on_change)
        await asyncio.shield(self._starting)
        self._is_ready = True

    async def close(self) -> None:
        """Stop all checks, and close the resolver if it has been started."""
        self._unsubscribe()
        for task in self._checks:
            task.cancel()
        if self._starting is not None:
            await asyncio.wait({self._starting})
            await self._resolver.close()


class CheckedProjects:
    """The part of `gateway.destinations.Projects` that is the same for local projects and for all hops.

    Args:
        access: decides about requests for these projects; closed with them.
    """

    def __init__(self, access: ProjectAccess) -> None:
        self.access, self.holds, self.watch = access, access.holds, access.watch

    async def close(self) -> None:
        await self.access.close()
