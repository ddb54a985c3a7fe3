"""Changes of placements: for administrators, for programs that start projects, and for the heartbeats of hosts.

Values are checked before they are sent, and each change is one statement. Servers learn of it from the database.
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
from ..model import LOCAL_HOST, ROLES, VISIBILITIES, check_new_credential, check_new_key, parse_host_url
from ..permissions import GROUP
from . import store
from .store import HOST_IS_DRAINING, PORT_IS_CLAIMED, ConstraintViolation, DatabaseUnavailable, Row, open_store

_HOST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", re.ASCII)
_STATUSES = ("up", "draining", "down")


class _Unchanged(Enum):
    UNCHANGED = "unchanged"


UNCHANGED: Final = _Unchanged.UNCHANGED  # for a list of ports, where None means no restriction
PortsArgument = Iterable[object] | None | _Unchanged


class PlacementsUnavailable(RegistryAway):
    """The database did not execute a statement. `reason`: for the administrator, without the database's own words."""

    def __init__(self, hop: str, reason: str) -> None:
        super().__init__(hop)
        self.reason = reason


class PortsClaimed(BadInput):
    """Two projects on this machine claim the same ports, of which `ports` is the text; `other` is the other project's key."""

    def __init__(self, key: str, other: str, ports: str) -> None:
        text = f"The projects '{key}' and '{other}' claim the same ports: {ports}."
        super().__init__(text, "Give each project on this machine ports of its own.")
        self.other, self.ports = other, ports


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    """A project in the database.

    Attributes:
        host_id: None while it has no host.
        allowed_ports: None for no restriction.
        system_user: the user of the machine to whom its services must belong; None for no restriction.
        members: username, or `@` and the name of a group -> role.
        member_ports: the same -> ports, for members with ports of their own.
    """

    key: str
    owner: str
    name: str
    host_id: str | None
    allowed_ports: tuple[str, ...] | None
    visibility: str
    system_user: str | None
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
    """Operations on the tables of placements.

    All of them may raise PlacementsUnavailable, BadInput for an invalid value, and UnknownProject for a missing project.

    Args:
        dsn: see `store.open_store`.
        hop: what reports the errors, for messages: HUB, SERVER, PROJECT_HOST, or "database" for commands.
        timeout: for one statement, in seconds. A migration of large tables takes long.
    """

    def __init__(self, dsn: str, *, hop: str = HUB, log: logging.Logger | None = None, timeout: float = 60.0) -> None:
        self._hop, self._log = hop, log or logging.getLogger(__name__)
        self._store = open_store(dsn, timeout=timeout, max_connections=1, resend=False, log=self._log)
        self._sql = self._store.statements

    async def close(self) -> None:
        await self._store.close()

    async def init(self, migrations: Sequence[str] | None = None) -> int:
        """Create the tables, or migrate them; several programs may do so at once. Returns the number of the schema."""
        try:
            return await self._store.init(self._sql.MIGRATIONS if migrations is None else migrations)
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
        system_user: str | None = None,
    ) -> None:
        """Create or replace a project.

        Args:
            host_id: None for a project without a host.
            allowed_ports: ports and ranges as in `c.PortProxy.allowed_ports`, which they restrict; None for no restriction.
            visibility: "private", or "public": all users are viewers, if the server allows that.
            system_user: the user of the machine to whom the project's services must belong; None for no restriction.
        """
        check_new_key(key)
        _check(host_id, owner, visibility, name=name, system_user=system_user)
        values = (owner, name, host_id, _printed(allowed_ports), visibility, system_user or None)
        await self._execute(store.PLACE, key, *values, key=key, host_id=host_id)
        await self._execute(self._sql.PRUNE)

    async def change(
        self,
        key: str,
        *,
        host_id: str | None = None,
        owner: str | None = None,
        name: str | None = None,
        allowed_ports: PortsArgument = UNCHANGED,
        visibility: str | None = None,
        system_user: str | None = None,
    ) -> None:
        """Change the given values of a project; see `place`. None leaves a value unchanged; `system_user=""` removes it."""
        _check(host_id, owner, visibility, name=name, system_user=system_user)
        keep, ports = _split(allowed_ports)
        values = (owner, name, host_id, keep, ports, visibility, system_user)
        await self._change(key, self._sql.CHANGE, *values, host_id=host_id)

    async def move(self, key: str, host_id: str) -> None:
        """Put a project on another host."""
        _check(host_id)
        await self._change(key, self._sql.MOVE, host_id, host_id=host_id)

    async def unplace(self, key: str) -> None:
        """Take a project off its host."""
        await self._change(key, self._sql.MOVE, None)

    async def remove(self, key: str) -> None:
        """Delete a project and its members."""
        await self._change(key, self._sql.REMOVE)

    async def add_member(self, key: str, username: str, role: str = "member", allowed_ports: PortsArgument = UNCHANGED) -> None:
        """Add a member, or change the role.

        Args:
            username: or `@` and the name of a group.
            allowed_ports: a restriction of the project's ports for this member.
        """
        check_new_key(key)
        _check_name(username.removeprefix(GROUP), "username")
        _check_choice(role, ROLES, "role")
        try:
            await self._execute(store.ADD_MEMBER, key, username, role, *_split(allowed_ports))
        except ConstraintViolation:
            raise UnknownProject(key, self._hop) from None

    async def remove_member(self, key: str, username: str) -> None:
        """Remove a member. The owner of a project stays its owner."""
        check_new_key(key)
        if not await self._execute(self._sql.REMOVE_MEMBER, key, username):
            hint = f"List them: jupyter portproxy placement members {key}."
            raise BadInput(f"{username!r} is not a member of this project.", hint)

    async def find(self, key: str) -> ProjectRecord:
        """One project."""
        check_new_key(key)
        for row in await self._execute(self._sql.PROJECTS, key):
            return _project_record(row)
        raise UnknownProject(key, self._hop)

    async def list(self) -> list[ProjectRecord]:
        """All projects."""
        return [_project_record(row) for row in await self._execute(self._sql.PROJECTS, None)]

    async def list_visible(self, username: str, groups: Iterable[str], *, allows_public: bool) -> Sequence[ProjectRecord]:
        """The projects that a user owns, is a member of, or may see as public ones; at most MAX_VISIBLE, the user's own first."""
        names = [username, *(f"{GROUP}{group}" for group in groups)]
        return [_project_record(row) for row in await self._execute(self._sql.VISIBLE, username, allows_public, names)]

    # ---- hosts ----

    async def set_host(self, host_id: str, internal_url: str, credential: str, *, status: str | None = None) -> None:
        """Add or change a host. Nothing is sent to it before its first heartbeat.

        Args:
            internal_url: its address for a hub: `http://HOST:PORT` or `https://HOST:PORT`.
            credential: what a hub authenticates with.
            status: see `set_status`. None leaves it unchanged, and is "up" for a new host.
        """
        _check(host_id, status=status)
        _check_is_remote(host_id)
        check_new_credential(credential)
        try:
            parse_host_url(internal_url)
        except ValueError as error:
            raise BadInput(f"Invalid URL of a host: {error}.", "For example: http://10.0.0.7:8000") from None
        await self._execute(store.SET_HOST, host_id, internal_url, credential, status)

    async def set_status(self, host_id: str, status: str) -> None:
        """Set the status of a host.

        Args:
            status: "up"; "draining": it keeps its projects and gets no others; "down": nothing is sent to it.
        """
        _check(host_id, status=status)
        await self._change_host(self._sql.SET_STATUS, host_id, status)

    async def remove_host(self, host_id: str) -> None:
        """Delete a host that has no projects."""
        _check(host_id)
        _check_is_remote(host_id)
        try:
            await self._change_host(self._sql.REMOVE_HOST, host_id)
        except ConstraintViolation:
            raise BadInput("The host has projects.", "Move them to another host first.") from None

    async def heartbeat(self, host_id: str) -> None:
        """Record that the host is alive now."""
        _check(host_id)
        await self._change_host(self._sql.HEARTBEAT, host_id)

    async def hosts(self) -> Sequence[HostRecord]:
        """All hosts, without their credentials."""
        rows = await self._execute(self._sql.HOSTS + " order by host_id")
        return [HostRecord(row["host_id"], row["internal_url"], row["status"], row["silent"]) for row in rows]

    # ---- statements ----

    async def _change(self, key: str, statement: str, *arguments: object, host_id: str | None = None) -> None:
        check_new_key(key)
        if not await self._execute(statement, key, *arguments, key=key, host_id=host_id):
            raise UnknownProject(key, self._hop)
        await self._execute(self._sql.PRUNE)

    async def _change_host(self, statement: str, host_id: str, *arguments: object) -> None:
        if not await self._execute(statement, host_id, *arguments):
            raise _unknown_host(host_id)

    async def _execute(
        self, statement: str, *arguments: object, key: str | None = None, host_id: str | None = None
    ) -> Sequence[Row]:
        """The rows of a statement.

        Args:
            key, host_id: the project that it changes and the host that it refers to, for the error if that is refused.
        """
        try:
            return await self._store.fetch(statement, *arguments)
        except ConstraintViolation as error:
            if error.constraint == HOST_IS_DRAINING:
                raise BadInput(f"The host '{host_id}' is draining: it gets no more projects.", "Take another host.") from None
            if error.constraint == PORT_IS_CLAIMED and key is not None:
                raise await self._port_is_claimed(key, arguments) from None
            if host_id is not None:
                raise _unknown_host(host_id) from None
            raise
        except DatabaseUnavailable as error:
            raise self._unavailable(error) from None

    async def _port_is_claimed(self, key: str, arguments: Sequence[object]) -> BadInput:
        """The error for a project whose ports another one on this machine claims."""
        others = {project.key: project for project in await self.list() if project.host_id == LOCAL_HOST or project.key == key}
        before = others.pop(key, None)
        given = next((argument for argument in arguments if isinstance(argument, list)), None)
        wanted = parse_ports(given if given is not None else (before and before.allowed_ports) or ())
        for other in others.values():
            shared = common_ports(wanted, parse_ports(other.allowed_ports or ()))
            if shared:
                return PortsClaimed(key, other.key, print_ports([shared]))
        return BadInput(f"Another project claims ports of '{key}'.", "Try again.")

    def _unavailable(self, error: DatabaseUnavailable | ConstraintViolation) -> PlacementsUnavailable:
        self._log.error("portproxy: placements could not be changed: %s", error)
        return PlacementsUnavailable(self._hop, error.reason if isinstance(error, DatabaseUnavailable) else f"{error}.")


def _project_record(row: Row) -> ProjectRecord:
    ports = None if row["allowed_ports"] is None else tuple(json.loads(row["allowed_ports"]))
    members, member_ports = (json.loads(row[column] or "{}") for column in ("members", "member_ports"))
    names = (row["project_id"], row["owner"], row["name"], row["host_id"])
    return ProjectRecord(*names, ports, row["visibility"], row["system_user"], row["generation"], members, member_ports)


def common_ports(left: Iterable[range], right: Sequence[range]) -> range:
    """The first ports that are in both lists; empty if there are none."""
    common = (range(max(a.start, b.start), min(a.stop, b.stop)) for a in left for b in right)
    return next((ports for ports in common if ports), range(0))


def _split(ports: PortsArgument) -> tuple[bool, Sequence[str] | None]:
    """Whether a column of ports stays unchanged, and its new value."""
    return (True, None) if ports is UNCHANGED else (False, _printed(ports))


def _printed(ports: Iterable[object] | None) -> Sequence[str] | None:
    if ports is None:
        return None
    try:
        return [print_ports([numbers]) for numbers in parse_ports(ports)]
    except ValueError as error:
        raise BadInput(f"{error}.") from None


def _check_is_remote(host_id: str) -> None:
    if host_id == LOCAL_HOST:
        raise BadInput(f"The host '{LOCAL_HOST}' is this machine.", "It has no URL and no credential, and cannot be removed.")


def _unknown_host(host_id: str) -> BadInput:
    return BadInput(f"There is no host '{host_id}'.", "List the hosts: jupyter portproxy placement hosts")


def _check(
    host_id: str | None = None,
    owner: str | None = None,
    visibility: str | None = None,
    status: str | None = None,
    name: str | None = None,
    system_user: str | None = None,
) -> None:
    """Raises BadInput for an invalid value; None is not checked."""
    if owner is not None:
        _check_name(owner, "owner")
        if owner.startswith(GROUP):
            raise BadInput("A group cannot own a project.", "Name a user, and add the group as a member.")
    if name:
        _check_name(name, "name")
        if name in (".", ".."):
            raise BadInput(f"Invalid name: '{name}'.", "No URL can have it. Take another name.")
    if system_user:
        _check_name(system_user, "system user")
    if visibility is not None:
        _check_choice(visibility, VISIBILITIES, "visibility")
    if host_id is not None and not _HOST_ID.match(host_id):
        raise BadInput.value("name of a host", host_id, "Use up to 64 letters, digits, '.', '_' and '-'.")
    if status is not None:
        _check_choice(status, _STATUSES, "status")


def _check_name(name: str, what: str) -> None:
    if not 0 < len(name) <= 255 or not name.isprintable() or name.isspace():
        raise BadInput.value(what, name, "Use 1 to 255 printable characters.")


def _check_choice(value: str, choices: Sequence[str], what: str) -> None:
    if value not in choices:
        raise BadInput.value(what, value, f"Use one of: {', '.join(choices)}.")
