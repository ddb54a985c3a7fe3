"""PURE. What a row of the members table lets somebody do, and whose row counts.

Rule of this file: a person's own row decides; without one, those of their groups do. No look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .model import ROLES, role_of

GROUP = "@"  # what the name of a group begins with in the members table, and no user's name there
Ports = tuple[range, ...] | None  # None: nothing is narrowed


@runtime_checkable
class People(Protocol):
    """Who is in which group, as whoever logs people in knows it."""

    def groups_of(self, username: str) -> Collection[str]:
        """The names of a user's groups; empty if nothing is known of them."""

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Be told when somebody is in other groups than before."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody is in a project. `ports`: theirs, which narrow the project's."""

    role: str
    ports: Ports = None


def grant_of(
    username: str,
    groups: Collection[str],
    owner: str,
    members: Mapping[str, str],
    narrowed: Mapping[str, tuple[range, ...]],
    visibility: str,
) -> Grant | None:
    """What a user is in a project; None if it does not exist for them.

    Of several groups the highest role counts, with the ports of all groups that have it.

    Args:
        members, narrowed: username, or GROUP and the name of a group -> role, and -> ports of their own.
    """
    role = role_of(username, owner, members, "private")
    if role is not None:
        return Grant(role, narrowed.get(username))
    if not username:
        return None
    rows = [f"{GROUP}{group}" for group in groups if members.get(f"{GROUP}{group}") in ROLES]
    if rows:
        best = min((members[row] for row in rows), key=ROLES.index)
        return Grant(best, _together([narrowed.get(row) for row in rows if members[row] == best]))
    return Grant("viewer") if visibility == "shared" else None


def _together(lists: list[Ports]) -> Ports:
    ports: list[range] = []
    for one in lists:
        if one is None:
            return None
        ports += one
    return tuple(ports)
