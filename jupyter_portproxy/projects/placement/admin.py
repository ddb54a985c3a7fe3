"""What changes placements: for administrators, for whatever starts projects, and for hosts that say that they live.

Rule of this file: a value is checked before it is sent, and a change is one statement. Who reads placements need not be told:
the database does that.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ...errors import HUB, BadInput, RegistryAway, UnknownProject
from ...protocol.urls import parse_ports, print_ports
from ..model import ROLES, VISIBILITIES, new_credential, new_key, next_hop
from . import schema as sql
from .postgres import Away, Line, Postgres, Refused, Row

_HOST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", re.ASCII)
_LONG = 60.0  # seconds: a migration of large tables
_STATUSES = ("up", "draining", "down")


class _Kept(Enum):
    KEPT = "stays as it is"


KEPT: Final = _Kept.KEPT  # of a list of ports, where None says that nothing is narrowed
Ports = Iterable[object] | None | _Kept


@dataclass(frozen=True, slots=True)
class Placed:
    """A project as the database has it.

    Attributes:
        host_id: None while it has no host.
        allowed_ports: None narrows nothing.
        members: username, or `@` and the name of a group -> role.
        narrowed: of the members with ports of their own, these.
    """

    key: str
    owner: str
    name: str
    host_id: str | None
    allowed_ports: tuple[str, ...] | None
    visibility: str
    generation: int
    members: Mapping[str, str]
    narrowed: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Host:
    """A host as the database has it. `silent`: seconds since its last sign of life; None if it never gave one."""

    host_id: str
    internal_url: str
    status: str
    silent: float | None


class PlacementAdmin:
    """Operations on the tables of `placement_schema`.

    Every one of them may raise RegistryAway, BadInput for a value that cannot be used, and UnknownProject for a project that
    is not there.

    Raises:
        MissingPackage
    """

    def __init__(self, dsn: str, *, log: logging.Logger | None = None) -> None:
        self._postgres = Postgres(dsn, seconds=_LONG)
        self._log = log or logging.getLogger(__name__)
        self._line: Line | None = None

    async def close(self) -> None:
        if self._line is not None:
            await self._line.close()
            self._line = None

    async def init(self) -> int:
        """Make the tables, or bring them up to date; many may do so at once. Returns the number of the schema."""
        try:
            line = await self._connected()
            await line.fetch("select pg_advisory_lock($1)", sql.LOCK)
            try:
                return await _migrate(line)
            finally:
                await self.close()  # and the lock with it
        except (Away, Refused) as error:
            raise self._failed(error) from None

    # ---- projects ----

    async def place(
        self,
        key: str,
        host_id: str | None,
        *,
        owner: str,
        name: str = "",
        allowed_ports: Iterable[object] | None = None,
        visibility: str = "private",
    ) -> None:
        """Make a project, or change it, and put it on a host.

        Args:
            host_id: None for a project that has no host yet.
            allowed_ports: ports and ranges as in `c.PortProxy.allowed_ports`, which they narrow. None narrows nothing.
            visibility: "private", or "shared": whoever is logged in may view it.
        """
        new_key(key)
        _check_owner(owner)
        _check_one_of(visibility, VISIBILITIES, "visibility")
        ports = _printed(allowed_ports)
        if host_id is not None:
            _check_host_id(host_id)
        await self._do(sql.PLACE, key, owner, name, host_id, ports, visibility, host_id=host_id)
        await self._do(sql.PRUNE)

    async def change(
        self,
        key: str,
        *,
        host_id: str | None = None,
        owner: str | None = None,
        name: str | None = None,
        allowed_ports: Ports = KEPT,
        visibility: str | None = None,
    ) -> None:
        """Change what is given of a project, and nothing else; see `place`."""
        if owner is not None:
            _check_owner(owner)
        if visibility is not None:
            _check_one_of(visibility, VISIBILITIES, "visibility")
        if host_id is not None:
            _check_host_id(host_id)
        ports = None if allowed_ports is KEPT else _printed(allowed_ports)
        values = (key, owner, name, host_id, allowed_ports is KEPT, ports, visibility)
        await self._change(key, sql.CHANGE, *values, host_id=host_id)
        await self._do(sql.PRUNE)

    async def move(self, key: str, host_id: str) -> None:
        """Put a project on another host."""
        _check_host_id(host_id)
        await self._change(key, sql.MOVE, key, host_id, host_id=host_id)
        await self._do(sql.PRUNE)

    async def unplace(self, key: str) -> None:
        """Take a project off its host."""
        await self._change(key, sql.MOVE, key, None)
        await self._do(sql.PRUNE)

    async def remove(self, key: str) -> None:
        """Forget a project and its members."""
        await self._change(key, sql.REMOVE, key)

    async def add_member(self, key: str, username: str, role: str = "member", allowed_ports: Ports = KEPT) -> None:
        """Let a user into a project, or change their role.

        Args:
            username: or `@` and the name of a group.
            allowed_ports: they narrow the project's for this member. None narrows nothing.
        """
        new_key(key)
        _check_name(username.removeprefix("@"), "username")
        _check_one_of(role, ROLES, "role")
        ports = None if allowed_ports is KEPT else _printed(allowed_ports)
        await self._do(sql.ADD_MEMBER, key, username, role, allowed_ports is KEPT, ports, key=key)

    async def remove_member(self, key: str, username: str) -> None:
        """The owner of a project stays its owner."""
        new_key(key)
        if not await self._do(sql.REMOVE_MEMBER, key, username):
            raise BadInput("That user is no member of the project.", "The list of projects shows who is.")

    async def find(self, key: str) -> Placed:
        """One project."""
        new_key(key)
        for row in await self._do(sql.PROJECTS, key):
            return _placed(row)
        raise UnknownProject(key, HUB)

    async def list(self) -> list[Placed]:
        """All projects."""
        return [_placed(row) for row in await self._do(sql.PROJECTS, None)]

    # ---- hosts ----

    async def set_host(self, host_id: str, internal_url: str, credential: str, *, status: str | None = None) -> None:
        """Make a host known, or change it. Nothing is sent to it before its first heartbeat.

        Args:
            internal_url: where a hub reaches it: `http://HOST:PORT` or `https://HOST:PORT`.
            credential: what it asks of a hub.
            status: see `set_status`. None: it stays as it is, or is "up" for a new host.
        """
        _check_host_id(host_id)
        new_credential(credential)
        if status is not None:
            _check_one_of(status, _STATUSES, "status")
        try:
            next_hop(internal_url)
        except ValueError as error:
            raise BadInput(f"This is no URL of a host: {error}.", "For example: http://10.0.0.7:8000") from None
        await self._do(sql.SET_HOST, host_id, internal_url, credential, status)

    async def set_status(self, host_id: str, status: str) -> None:
        """What is to be thought of a host.

        Args:
            status: "up"; "draining": it keeps its projects and gets no other; "down": nothing is sent to it.
        """
        _check_host_id(host_id)
        _check_one_of(status, _STATUSES, "status")
        if not await self._do(sql.SET_STATUS, host_id, status):
            raise _no_host(host_id)

    async def remove_host(self, host_id: str) -> None:
        """Forget a host that has no projects."""
        _check_host_id(host_id)
        try:
            found = await self._do(sql.REMOVE_HOST, host_id)
        except Refused:
            raise BadInput("The host has projects.", "Move them to another host first.") from None
        if not found:
            raise _no_host(host_id)

    async def heartbeat(self, host_id: str) -> None:
        """The host lives, now."""
        _check_host_id(host_id)
        if not await self._do(sql.HEARTBEAT, host_id):
            raise _no_host(host_id)

    async def hosts(self) -> Sequence[Host]:
        """All hosts, without their credentials."""
        rows = await self._do(sql.HOSTS + " order by host_id")
        return [Host(row["host_id"], row["internal_url"], row["status"], row["silent"]) for row in rows]

    # ---- inside ----

    async def _change(self, key: str, statement: str, *arguments: object, host_id: str | None = None) -> None:
        new_key(key)
        if not await self._do(statement, *arguments, host_id=host_id):
            raise UnknownProject(key, HUB)

    async def _do(self, statement: str, *arguments: object, key: str | None = None, host_id: str | None = None) -> Sequence[Row]:
        try:
            line = await self._connected()
            return await line.fetch(statement, *arguments)
        except Refused as error:
            if error.constraint == "host_is_draining":
                raise BadInput(f"The host '{host_id}' is draining: it gets no more projects.", "Take another host.") from None
            if key is not None:
                raise UnknownProject(key, HUB) from None
            if host_id is not None:
                raise _no_host(host_id) from None
            raise
        except Away as error:
            raise self._failed(error) from None

    async def _connected(self) -> Line:
        if self._line is None or not self._line.usable:
            self._line = await self._postgres.connect()
        return self._line

    def _failed(self, error: Exception) -> RegistryAway:
        if self._line is not None:
            self._line.cut()
            self._line = None
        self._log.error("portproxy: placements could not be changed: %s", error)
        return RegistryAway(HUB)


async def _migrate(line: Line) -> int:
    await line.run(sql.VERSIONS)
    rows = await line.fetch("select coalesce(max(number), 0) as number from placement_migrations")
    done = int(rows[0]["number"])
    if done > len(sql.MIGRATIONS):
        raise BadInput("A newer version of jupyter_portproxy has made these tables.", "Upgrade jupyter_portproxy here.")
    for number, migration in enumerate(sql.MIGRATIONS[done:], done + 1):
        await line.run(f"{migration}; {sql.VERSION.format(number=number)}")
    return len(sql.MIGRATIONS)


def _placed(row: Row) -> Placed:
    ports = None if row["allowed_ports"] is None else tuple(row["allowed_ports"])
    return Placed(
        row["project_id"],
        row["owner"],
        row["name"],
        row["host_id"],
        ports,
        row["visibility"],
        row["generation"],
        json.loads(row["members"] or "{}"),
        json.loads(row["narrowed"] or "{}"),
    )


def _printed(ports: Iterable[object] | None) -> Sequence[str] | None:
    if ports is None:
        return None
    try:
        return [print_ports([numbers]) for numbers in parse_ports(ports)]
    except ValueError as error:
        raise BadInput(f"allowed_ports: {error}.") from None


def _no_host(host_id: str) -> BadInput:
    return BadInput(f"There is no host '{host_id}'.", "The list of hosts shows what there is.")


def _check_host_id(host_id: object) -> None:
    if not isinstance(host_id, str) or not _HOST_ID.match(host_id):
        raise BadInput("This is no name for a host.", "Use up to 64 letters, digits, '.', '_' and '-'.")


def _check_name(name: object, what: str) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= 255 or not name.isprintable():
        raise BadInput(f"This is no {what}.", "Use 1 to 255 printable characters.")


def _check_owner(name: str) -> None:
    _check_name(name, "owner")
    if name.startswith("@"):
        raise BadInput("A group owns no project.", "Name a user, and let the group in as a member.")


def _check_one_of(value: object, choices: Iterable[str], what: str) -> None:
    if value not in tuple(choices):
        raise BadInput(f"This is no {what}.", f"Use one of: {', '.join(choices)}.")
