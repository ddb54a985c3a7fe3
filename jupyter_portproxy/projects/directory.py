"""The projects that a user may see, from the placements, and what their owners may change.

A change is written to the database; the gateway follows that as it follows the changes of commands. Reserved ports are of this
process alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence

from ..errors import BadInput, Forbidden, GatewayError, NoPort, UnknownProject
from ..gateway.destinations import Requester
from ..gateway.policy import Policy
from ..gateway.project_directory import ProjectMember, VisibleProject
from ..protocol.urls import parse_ports, print_ports
from ..services.ports import PortLeases, Reservation, Reservations
from .access import OTHER_ROLE, PORTS, ProjectAccess
from .model import ANY_PROJECT, LOCAL_HOST, ROLES, require_key
from .permissions import GroupDirectory, grant_for
from .placement.admin import PlacementAdmin, PortsClaimed, ProjectRecord

OWNER = ROLES[0]
MAX_PORT_ITEMS = 100  # of a list of ports that an owner sets


class PlacementDirectory:
    """See `gateway.project_directory.ProjectDirectory`.

    Args:
        access: finds the ports that a user may reach.
        leases: the ports of this machine that may be reserved.
        allows_public: all users see the projects whose visibility is "public".
    """

    def __init__(
        self,
        policy: Policy,
        leases: PortLeases,
        groups: GroupDirectory | None,
        admin: PlacementAdmin,
        access: ProjectAccess,
        *,
        allows_public: bool,
    ) -> None:
        self.version = 0
        self._admin, self._access, self._policy, self._leases = admin, access, policy, leases
        self._groups, self._allows_public = groups, allows_public
        self._reservations: dict[str, Reservations] = {}  # by the project's key
        access.subscribe(self._count_change)

    async def list(self, username: str) -> Sequence[VisibleProject]:
        """The user's own projects first. At most `store.MAX_VISIBLE`."""
        await self._access.start()
        groups = self._groups_of(username)
        visible = []
        for record in await self._admin.list_visible(username, groups, allows_public=self._allows_public):
            role = self._role(record, username, groups)
            if role is not None:
                visible.append(await self._describe(record, username, role))
        return visible

    async def find(self, username: str, key: str) -> VisibleProject:
        await self._access.start()
        record, role = await self._find(username, key)
        return await self._describe(record, username, role)

    async def set_member(
        self, username: str, key: str, member: str, role: str, allowed_ports: Iterable[object] | None = None
    ) -> None:
        await self._find_owned(username, key)
        self._check_ports(allowed_ports)
        await self._admin.add_member(key, member, role, allowed_ports)

    async def remove_member(self, username: str, key: str, member: str) -> None:
        await self._find_owned(username, key)
        await self._admin.remove_member(key, member)

    async def set_ports(self, username: str, key: str, allowed_ports: Iterable[object] | None) -> None:
        await self._find_owned(username, key)
        self._check_ports(allowed_ports)
        try:
            await self._admin.change(key, allowed_ports=allowed_ports)
        except PortsClaimed as error:
            if await self._is_visible(username, error.other):
                raise
            raise BadInput(f"Another project claims the ports {error.ports}.", "Take other ports.") from None

    async def reserve(self, username: str, key: str, name: object, seconds: object = 600) -> Reservation:
        await self._access.start()
        record = await self._find_owned(username, key)
        if record.host_id != LOCAL_HOST:
            raise BadInput("The services of this project are not on this machine.", "Reserve the port where they are.")
        next_hop = await self._access.resolve(key, Requester(username))
        own = parse_ports(record.allowed_ports) if record.allowed_ports is not None else None  # the resolver is a little behind
        for other, reservations in list(self._reservations.items()):  # those of removed projects end, too
            if not reservations.list():
                del self._reservations[other]
        reservations = self._reservations.setdefault(key, Reservations(self._leases))
        self._count_change()
        try:
            return reservations.reserve(
                name, seconds, next_hop.allows if own is None else lambda port: any(port in ports for ports in own)
            )
        except NoPort:
            raise BadInput("No port of this project is free.", "Add ports to it, or end one of its services.") from None

    async def release(self, username: str, key: str, name: str) -> None:
        await self._find_owned(username, key)
        self._reservations.get(key, Reservations(self._leases)).release(name)
        self._count_change()

    async def close(self) -> None:
        await self._admin.close()

    # ---- projects ----

    async def _describe(self, record: ProjectRecord, username: str, role: str) -> VisibleProject:
        members: tuple[ProjectMember, ...] = ()
        reservations: tuple[Reservation, ...] = ()
        if role == OWNER:
            lists = record.member_ports
            members = tuple(
                ProjectMember(name, each, tuple(lists[name]) if name in lists else None)
                for name, each in sorted(record.members.items())
            )
            reservations = tuple(self._reservations[record.key].list()) if record.key in self._reservations else ()
        return VisibleProject(
            record.key,
            record.owner,
            record.name,
            role,
            record.visibility,
            record.allowed_ports,
            record.system_user,
            members,
            reservations,
            await self._find_reachable(record, username, role),
        )

    async def _find_reachable(self, record: ProjectRecord, username: str, role: str) -> Callable[[int], bool]:
        """Which ports of this machine the user may reach as ports of the project; none if its services are elsewhere."""
        if record.host_id == LOCAL_HOST and self._access.allows(role, PORTS):
            with contextlib.suppress(GatewayError):
                next_hop = await self._access.resolve(record.key, Requester(username))
                return lambda port: self._policy.allows_port(port) and next_hop.allows(port) and next_hop.allows_user(port)
        return lambda port: False

    async def _find(self, username: str, key: str) -> tuple[ProjectRecord, str]:
        """The project, and the user's role. Raises UnknownProject if the user may not see it."""
        require_key(key, self._access.hop)
        record = await self._admin.find(key)
        role = self._role(record, username, self._groups_of(username))
        if role is None:
            raise UnknownProject(key, self._access.hop)
        return record, role

    async def _find_owned(self, username: str, key: str) -> ProjectRecord:
        """The project. Raises UnknownProject if the user may not see it, and Forbidden if they are not one of its owners."""
        record, role = await self._find(username, key)
        if role != OWNER:
            raise Forbidden(f"As a {role} of this project you may not change it.", OTHER_ROLE)
        return record

    async def _is_visible(self, username: str, key: str) -> bool:
        try:
            await self._find(username, key)
        except UnknownProject:
            return False
        return True

    def _role(self, record: ProjectRecord, username: str, groups: Collection[str]) -> str | None:
        is_public = self._allows_public and record.visibility == "public"
        grant = grant_for(username, groups, record.owner, record.members, {}, is_public=is_public)
        return grant.role if grant is not None else None

    def _groups_of(self, username: str) -> Collection[str]:
        return self._groups.groups_of(username) if self._groups is not None else ()

    def _check_ports(self, allowed_ports: Iterable[object] | None) -> None:
        """Raises BadInput for text that is no list of ports, and for ports that this server does not allow."""
        items = list(allowed_ports or ())
        if len(items) > MAX_PORT_ITEMS:
            hint = f"Give at most {MAX_PORT_ITEMS} ports and ranges: 15000-15099 is one of them."
            raise BadInput(f"The list of ports has {len(items)} entries.", hint)
        for item in items:
            try:
                (ports,) = parse_ports([item])
            except ValueError:
                raise BadInput(
                    f"Invalid ports: {str(item)[:80]!r}.", "Use ports and ranges, such as 15000 or 15000-15099."
                ) from None
            refused = self._policy.find_refused(ports)
            if refused is not None:
                allowed = print_ports(self._policy.ports)
                raise BadInput(f"Port {refused} is outside allowed range ({allowed})", "Take ports of that range.")

    def _count_change(self, key: str = ANY_PROJECT) -> None:
        self.version += 1
