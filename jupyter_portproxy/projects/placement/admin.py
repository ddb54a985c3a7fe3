"""Changes of placements: for administrators, for programs that start projects, and for the heartbeats of hosts.

Values are checked before they are sent, and each change is one statement. Hubs learn of it from the database.
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
from ..model import ROLES, VISIBILITIES, check_new_credential, check_new_key, parse_host_url
from ..permissions import GROUP
from . import schema as sql
from .postgres import ConstraintViolation, DatabaseUnavailable, PostgresConnection, PostgresPool, Row

_HOST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", re.ASCII)
_STATUSES = ("up", "draining", "down")


class _Unchanged(Enum):
    UNCHANGED = "unchanged"


UNCHANGED: Final = _Unchanged.UNCHANGED  # for a list of ports, where None means no restriction
PortsArgument = Iterable[object] | None | _Unchanged


class PlacementsUnavailable(RegistryAway):
    """The database did not execute a statement. `reason`: for the administrator, without the database's own words."""

    def __init__(self, reason: str) -> None:
        super().__init__(HUB)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    """A project in the database.

    Attributes:
        host_id: None while it has no host.
        allowed_ports: None for no restriction.
        members: username, or `@` and the name of a group -> role.
        member_ports: the same -> ports, for members with ports of their own.
    """

    key: str
    owner: str
    name: str
    host_id: str | None
    allowed_ports: tuple[str, ...] | None
    visibility: str
    generation: int
    members: Mapping[str, str]
    member_ports: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class HostRecord:
    """A host in the database. `silent`: seconds since its last heartbeat; None before the first one."""

    host_id: str
    internal_url: str
    status: str
    silent: float | None


class PlacementAdmin:
    """Operations on the tables of `schema`.

    All of them may raise PlacementsUnavailable, BadInput for an invalid value, and UnknownProject for a missing project.

    Args:
        timeout: for one statement, in seconds. A migration of large tables takes long.
    """

    def __init__(self, dsn: str, *, log: logging.Logger | None = None, timeout: float = 60.0) -> None:
        self._pool = PostgresPool(dsn, timeout=timeout, max_connections=1, resend=False)
        self._log = log or logging.getLogger(__name__)

    async def close(self) -> None:
        await self._pool.close()

    async def init(self, migrations: Sequence[str] = sql.MIGRATIONS) -> int:
        """Create the tables, or migrate them; several programs may do so at once. Returns the number of the schema."""
        try:
            connection = await self._pool.connect()
            try:
                await connection.fetch("select pg_advisory_lock($1)", sql.LOCK)
                return await _migrate(connection, migrations)
            finally:
                await connection.close()  # which releases the lock
        except (DatabaseUnavailable, ConstraintViolation) as error:
            raise self._unavailable(error) from None

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
        """Create or replace a project.

        Args:
            host_id: None for a project without a host.
            allowed_ports: ports and ranges as in `c.PortProxy.allowed_ports`, which they restrict; None for no restriction.
            visibility: "private", or "shared": all users of the hub are viewers.
        """
        check_new_key(key)
        _check(host_id, owner, visibility)
        await self._execute(sql.PLACE, key, owner, name, host_id, _printed(allowed_ports), visibility, host_id=host_id)
        await self._execute(sql.PRUNE)

    async def change(
        self,
        key: str,
        *,
        host_id: str | None = None,
        owner: str | None = None,
        name: str | None = None,
        allowed_ports: PortsArgument = UNCHANGED,
        visibility: str | None = None,
    ) -> None:
        """Change the given values of a project; see `place`. None leaves a value unchanged."""
        _check(host_id, owner, visibility)
        keep, ports = _split(allowed_ports)
        await self._change(key, sql.CHANGE, owner, name, host_id, keep, ports, visibility, host_id=host_id)

    async def move(self, key: str, host_id: str) -> None:
        """Put a project on another host."""
        _check(host_id)
        await self._change(key, sql.MOVE, host_id, host_id=host_id)

    async def unplace(self, key: str) -> None:
        """Take a project off its host."""
        await self._change(key, sql.MOVE, None)

    async def remove(self, key: str) -> None:
        """Delete a project and its members."""
        await self._change(key, sql.REMOVE)

    async def add_member(self, key: str, username: str, role: str = "member", allowed_ports: PortsArgument = UNCHANGED) -> None:
        """Add a member, or change the role.

        Args:
            username: or `@` and the name of a group.
            allowed_ports: a restriction of the project's ports for this member.
        """
        check_new_key(key)
        _check_name(username.removeprefix(GROUP), "username")
        _check_choice(role, ROLES, "role")
        await self._execute(sql.ADD_MEMBER, key, username, role, *_split(allowed_ports), key=key)

    async def remove_member(self, key: str, username: str) -> None:
        """Remove a member. The owner of a project stays its owner."""
        check_new_key(key)
        if not await self._execute(sql.REMOVE_MEMBER, key, username):
            raise BadInput("That user is not a member of the project.", "The list of projects shows who is.")

    async def find(self, key: str) -> ProjectRecord:
        """One project."""
        check_new_key(key)
        for row in await self._execute(sql.PROJECTS, key):
            return _project_record(row)
        raise UnknownProject(key, HUB)

    async def list(self) -> list[ProjectRecord]:
        """All projects."""
        return [_project_record(row) for row in await self._execute(sql.PROJECTS, None)]

    # ---- hosts ----

    async def set_host(self, host_id: str, internal_url: str, credential: str, *, status: str | None = None) -> None:
        """Add or change a host. Nothing is sent to it before its first heartbeat.

        Args:
            internal_url: its address for a hub: `http://HOST:PORT` or `https://HOST:PORT`.
            credential: what a hub authenticates with.
            status: see `set_status`. None leaves it unchanged, and is "up" for a new host.
        """
        _check(host_id, status=status)
        check_new_credential(credential)
        try:
            parse_host_url(internal_url)
        except ValueError as error:
            raise BadInput(f"Invalid URL of a host: {error}.", "For example: http://10.0.0.7:8000") from None
        await self._execute(sql.SET_HOST, host_id, internal_url, credential, status)

    async def set_status(self, host_id: str, status: str) -> None:
        """Set the status of a host.

        Args:
            status: "up"; "draining": it keeps its projects and gets no others; "down": nothing is sent to it.
        """
        _check(host_id, status=status)
        await self._change_host(sql.SET_STATUS, host_id, status)

    async def remove_host(self, host_id: str) -> None:
        """Delete a host that has no projects."""
        _check(host_id)
        try:
            await self._change_host(sql.REMOVE_HOST, host_id)
        except ConstraintViolation:
            raise BadInput("The host has projects.", "Move them to another host first.") from None

    async def heartbeat(self, host_id: str) -> None:
        """Record that the host is alive now."""
        _check(host_id)
        await self._change_host(sql.HEARTBEAT, host_id)

    async def hosts(self) -> Sequence[HostRecord]:
        """All hosts, without their credentials."""
        rows = await self._execute(sql.HOSTS + " order by host_id")
        return [HostRecord(row["host_id"], row["internal_url"], row["status"], row["silent"]) for row in rows]

    # ---- statements ----

    async def _change(self, key: str, statement: str, *arguments: object, host_id: str | None = None) -> None:
        check_new_key(key)
        if not await self._execute(statement, key, *arguments, host_id=host_id):
            raise UnknownProject(key, HUB)
        await self._execute(sql.PRUNE)

    async def _change_host(self, statement: str, host_id: str, *arguments: object) -> None:
        if not await self._execute(statement, host_id, *arguments):
            raise _unknown_host(host_id)

    async def _execute(
        self, statement: str, *arguments: object, key: str | None = None, host_id: str | None = None
    ) -> Sequence[Row]:
        """The rows of a statement.

        Args:
            key, host_id: what it refers to, for the error if that does not exist.
        """
        try:
            return await self._pool.fetch(statement, *arguments)
        except ConstraintViolation as error:
            if error.constraint == "host_is_draining":
                raise BadInput(f"The host '{host_id}' is draining: it gets no more projects.", "Take another host.") from None
            if key is not None:
                raise UnknownProject(key, HUB) from None
            if host_id is not None:
                raise _unknown_host(host_id) from None
            raise
        except DatabaseUnavailable as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: DatabaseUnavailable | ConstraintViolation) -> PlacementsUnavailable:
        self._log.error("portproxy: placements could not be changed: %s", error)
        return PlacementsUnavailable(error.reason if isinstance(error, DatabaseUnavailable) else f"{error}.")


async def _migrate(connection: PostgresConnection, migrations: Sequence[str]) -> int:
    await connection.execute(sql.VERSIONS)
    rows = await connection.fetch("select coalesce(max(number), 0) as number from placement_migrations")
    done = int(rows[0]["number"])
    if done > len(migrations):
        raise BadInput("A newer version of jupyter_portproxy has made these tables.", "Upgrade jupyter_portproxy here.")
    for number, migration in enumerate(migrations[done:], done + 1):
        await connection.execute(f"{migration}; {sql.VERSION.format(number=number)}")
    return len(migrations)


def _project_record(row: Row) -> ProjectRecord:
    ports = None if row["allowed_ports"] is None else tuple(row["allowed_ports"])
    members, member_ports = (json.loads(row[column] or "{}") for column in ("members", "member_ports"))
    names = (row["project_id"], row["owner"], row["name"], row["host_id"])
    return ProjectRecord(*names, ports, row["visibility"], row["generation"], members, member_ports)


def _split(ports: PortsArgument) -> tuple[bool, Sequence[str] | None]:
    """Whether a column of ports stays unchanged, and its new value."""
    return (True, None) if ports is UNCHANGED else (False, _printed(ports))


def _printed(ports: Iterable[object] | None) -> Sequence[str] | None:
    if ports is None:
        return None
    try:
        return [print_ports([numbers]) for numbers in parse_ports(ports)]
    except ValueError as error:
        raise BadInput(f"allowed_ports: {error}.") from None


def _unknown_host(host_id: str) -> BadInput:
    return BadInput(f"There is no host '{host_id}'.", "The list of hosts shows what there is.")


def _check(
    host_id: str | None = None, owner: str | None = None, visibility: str | None = None, status: str | None = None
) -> None:
    """Raises BadInput for an invalid value; None is not checked."""
    if owner is not None:
        _check_name(owner, "owner")
        if owner.startswith(GROUP):
            raise BadInput("A group cannot own a project.", "Name a user, and add the group as a member.")
    if visibility is not None:
        _check_choice(visibility, VISIBILITIES, "visibility")
    if host_id is not None and not _HOST_ID.match(host_id):
        raise BadInput("Invalid name of a host.", "Use up to 64 letters, digits, '.', '_' and '-'.")
    if status is not None:
        _check_choice(status, _STATUSES, "status")


def _check_name(name: str, what: str) -> None:
    if not 0 < len(name) <= 255 or not name.isprintable():
        raise BadInput(f"Invalid {what}.", "Use 1 to 255 printable characters.")


def _check_choice(value: str, choices: Sequence[str], what: str) -> None:
    if value not in choices:
        raise BadInput(f"Invalid {what}.", f"Use one of: {', '.join(choices)}.")
