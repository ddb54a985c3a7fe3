"""Which role a user has in a project, by the members table and the user's groups.

A user's own row decides. Without one, the rows of the user's groups count: the highest role, with the ports of all groups
that have it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .model import ROLES, Ports

GROUP = "@"  # the first character of a group's name in the members table; no user's name begins with it


@runtime_checkable
class GroupDirectory(Protocol):
    """The groups of users. An identity provider that implements it makes groups possible members of projects."""

    def groups_of(self, username: str) -> Collection[str]:
        """The names of a user's groups; empty for an unknown user."""

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call back when the groups of a user have changed."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A user's role in a project. `ports`: the user's own, a restriction of the project's."""

    role: str
    ports: Ports = None


def grant_for(
    username: str,
    groups: Collection[str],
    owner: str,
    members: Mapping[str, str],
    member_ports: Mapping[str, tuple[range, ...]],
    *,
    is_public: bool,
) -> Grant | None:
    """What a user may do in a project; None if the project is invisible to the user.

    Args:
        members: username, or GROUP and the name of a group -> role.
        member_ports: the same -> ports, for members with ports of their own.
        is_public: all users are viewers.
    """
    if not username:
        return None
    if not username.startswith(GROUP):
        role = "owner" if username == owner else members.get(username)
        if role in ROLES:
            return Grant(role, member_ports.get(username))
    rows = [f"{GROUP}{group}" for group in groups if members.get(f"{GROUP}{group}") in ROLES]
    if rows:
        best = min((members[row] for row in rows), key=ROLES.index)
        return Grant(best, _union([member_ports.get(row) for row in rows if members[row] == best]))
    return Grant("viewer") if is_public else None


def _union(lists: list[Ports]) -> Ports:
    ports: list[range] = []
    for one in lists:
        if one is None:
            return None
        ports += one
    return tuple(ports)
