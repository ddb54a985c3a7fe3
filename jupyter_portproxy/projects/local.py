"""Projects whose services are on this machine: one pass of the gateway leads from their URLs to a loopback port.

Only URLs that name a port are a project's here; all others are Jupyter's. There is no next hop and no hop header. What the roles
and the lists of ports allow, and what ends with them: see `access`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace

from ..errors import SERVER, Forbidden, GatewayError, HostDown
from ..gateway.destinations import Destination, Requester
from ..gateway.policy import Policy
from ..protocol.named_project_urls import NamedProjectRoute, parse_named_project_url
from ..protocol.project_urls import ProjectRoute
from ..protocol.urls import LOOPBACK_NAME, BaseRoute, Redirect, Route, is_loopback
from ..system.socket_owners import user_id
from .access import CheckedProjects, ProjectAccess, ProjectHooks
from .model import NextHop, ProjectResolver


class LocalProjects(CheckedProjects):
    """Projects on this machine, as the gateway uses them: see `gateway.destinations.Projects`.

    Args:
        roles: role -> what it may do.
    """

    is_behind_hub = False

    def __init__(
        self, policy: Policy, resolver: ProjectResolver, roles: Mapping[str, Collection[str]], log: logging.Logger
    ) -> None:
        super().__init__(ProjectAccess(resolver, SERVER, roles, self._check_port, log))
        self._policy = policy

    def admits(self, credential: str) -> bool:
        """False: there is no hop before this one."""
        return False

    def parse(self, uri: str, base_url: str) -> BaseRoute | None:
        """See `Projects.parse`."""
        route = parse_named_project_url(uri, base_url)
        if isinstance(route, NamedProjectRoute):
            return replace(route, by_key=None)
        below = route.parse_below(route.path + route.query) if isinstance(route, ProjectRoute) else None
        if isinstance(below, Redirect) or (isinstance(below, Route) and is_loopback(below.host)):
            return below if isinstance(below, Redirect) else route
        return None

    async def start(self, route: ProjectRoute, requester: Requester) -> Redirect | None:
        """None: no project is started here."""
        return None

    async def locate(self, route: ProjectRoute | NamedProjectRoute, requester: Requester) -> Destination:
        """The destination of a request.

        Raises:
            BadRoute: the port is invalid.
            UnknownProject, NotPlaced, RegistryAway
            HostDown: the project is on another host.
            Forbidden: the role, a list of ports or the policy does not allow it, or the project's system user does not exist.
        """
        await self.access.start()
        changes = self.access.changes
        project_route, mapping = await route.resolve_key(self.access, requester.name)
        next_hop = await self.access.resolve(project_route.key, requester)
        if not next_hop.is_local:
            raise HostDown(SERVER)
        self.access.check(project_route, next_hop, requester)
        target = project_route.parse_below(project_route.path + project_route.query)
        assert isinstance(target, Route)  # or `parse` had returned something else
        owner = _find_owner(next_hop)
        upstream = await self._policy.resolve(target)
        if owner is None:
            owner = upstream.owner  # of a port that the policy allows for one user alone
        # A connection was approved for one project: another one must not get it.
        upstream = replace(upstream, owner=owner, group=f"{next_hop.key}.{next_hop.generation}.{owner}")
        return Destination(
            target,
            upstream,
            ProjectHooks(next_hop, project_route, requester, changes=changes),
            counted_as=(next_hop.key, target.port),
            url_mapping=mapping,
        )

    def translate(self, error: GatewayError, to: Destination) -> GatewayError:
        """The error itself: the service's errors are those of any port."""
        return error

    def _check_port(self, route: ProjectRoute, port: int) -> None:
        self._policy.check(Route(LOOPBACK_NAME, port, "", "", "", scheme="tcp" if route.tcp_target else "http"))


def _find_owner(next_hop: NextHop) -> int | None:
    """The uid that must hold the listening sockets of a project; None for no such restriction. Raises: Forbidden"""
    if next_hop.system_user is None:
        return None
    owner = user_id(next_hop.system_user)
    if owner is None:
        raise Forbidden(
            "The system user of this project does not exist on this machine.",
            f"Tell the operator: jupyter portproxy placement project {next_hop.key} --system-user NAME.",
        )
    return owner
