"""The projects that a user may see, and changes by their owners, as the API and the pages use them.

`projects.directory.PlacementDirectory` implements it; nothing below `projects` imports that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..services.ports import Reservation


@dataclass(frozen=True, slots=True)
class ProjectMember:
    """A member of a project. `name`: a user's, or `@` and a group's. `allowed_ports`: None for all ports of the project."""

    name: str
    role: str
    allowed_ports: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class VisibleProject:
    """A project, for a user who may see it.

    Attributes:
        role: the user's: "owner", "member" or "viewer".
        allowed_ports: the project's own ports and ranges of ports; None if it has none.
        system_user: the user of the machine to whom its services must belong; None for no such restriction.
        members: for owners; empty for others.
        reservations: the same.
        reaches: True for a port of this machine that is the project's and that the user may reach.
    """

    key: str
    owner: str
    name: str
    role: str
    visibility: str
    allowed_ports: tuple[str, ...] | None
    system_user: str | None
    members: tuple[ProjectMember, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    reaches: Callable[[int], bool] = field(default=lambda port: False, compare=False)


class ProjectDirectory(Protocol):
    """The projects of users. `username` is the user who requests it.

    All methods may raise RegistryAway. Those with a key raise UnknownProject if the user may not see the project, and Forbidden
    if the user is not one of its owners.
    """

    @property
    def version(self) -> int:
        """It rises when a project, a member or a group may have changed."""

    async def list(self, username: str) -> Sequence[VisibleProject]: ...

    async def find(self, username: str, key: str) -> VisibleProject: ...

    async def set_member(
        self, username: str, key: str, member: str, role: str, allowed_ports: Iterable[object] | None = None
    ) -> None:
        """Add a member, or change the role and the ports. Raises: BadInput"""

    async def remove_member(self, username: str, key: str, member: str) -> None:
        """Raises: BadInput"""

    async def set_ports(self, username: str, key: str, allowed_ports: Iterable[object] | None) -> None:
        """Set the ports of a project; None for no ports of its own. Raises: BadInput"""

    async def reserve(self, username: str, key: str, name: object, seconds: object = 600) -> Reservation:
        """Reserve a free port of the project. Raises: BadInput"""

    async def release(self, username: str, key: str, name: str) -> None:
        """Release a reserved port. Raises: NotFound"""
