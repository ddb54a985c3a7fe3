"""Copies all placements from one database into another: in one transaction, in which every row is read again and compared.

Heartbeats and generations are not copied: hosts send their own, and a server with another DSN reads all of it.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import BadInput
from ...protocol.urls import parse_ports, print_ports
from ..model import LOCAL_HOST
from . import store
from .admin import common_ports
from .store import PORT_IS_CLAIMED, ConstraintViolation, DatabaseUnavailable, Store, StoreConnection, open_store

_JSON_COLUMNS = ("allowed_ports", "members", "member_ports")
_HOST_COLUMNS = ("internal_url", "credential", "status")
Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Placements:
    """All rows of a database, without heartbeats and generations. `projects` and `hosts`: key -> column -> value."""

    projects: Rows
    hosts: Rows

    @property
    def member_count(self) -> int:
        return sum(len(project["members"]) for project in self.projects.values())


async def copy_placements(source: str, destination: str, *, log: logging.Logger, timeout: float = 60.0) -> Placements:
    """Copy all placements. Returns what was copied.

    Args:
        source, destination: DSNs. The tables of the destination are created or migrated; it must have no projects.
        timeout: for one statement, in seconds.

    Raises:
        BadInput: the destination has projects, or another host of the same name; or the source changes meanwhile.
        DatabaseUnavailable, ConstraintViolation, MissingPackage
    """
    origin = open_store(source, timeout=timeout, max_connections=1, log=log)
    try:
        target = open_store(destination, timeout=timeout, max_connections=1, resend=False, log=log)
        try:
            return await _copy(origin, target)
        finally:
            await target.close()
    finally:
        await origin.close()


async def _copy(origin: Store, target: Store) -> Placements:
    with _names("source"):
        placements = await _read(origin, origin)
    with _names("destination"):
        await target.init(target.statements.MIGRATIONS)
        connection = await target.connect()
    try:
        with _names("destination"):
            await connection.begin()
            await _write(target, connection, placements)
        with _names("source"):
            if await _read(origin, origin) != placements:
                raise BadInput("The source has changed meanwhile; nothing was copied.", "Try again.")
        with _names("destination"):
            await connection.commit()
    finally:
        connection.cut()
    return placements


@contextlib.contextmanager
def _names(database: str) -> Iterator[None]:
    """Say in an error which of the two databases is unavailable."""
    try:
        yield
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(str(error), f"The {database}: {error.reason}", is_lost=error.is_lost) from None


async def _write(target: Store, connection: StoreConnection, placements: Placements) -> None:
    before = await _read(target, connection)
    if before.projects:
        raise BadInput(f"The destination has {len(before.projects)} projects.", "Copy into a database without projects.")
    for host_id, host in placements.hosts.items():
        if before.hosts.get(host_id, host) != host:
            raise BadInput(f"The destination has another host '{host_id}'.", "Remove that host there first.")
    try:
        await _insert(target, connection, placements)
    except ConstraintViolation as error:
        raise _refusal(error, placements) from None
    after = await _read(target, connection)
    if after.projects != placements.projects or {**after.hosts, **placements.hosts} != after.hosts:
        raise BadInput("The copy differs from its source, and is undone.", "This is a defect: report it.")


async def _insert(target: Store, connection: StoreConnection, placements: Placements) -> None:
    """Hosts are up at first: a host that is draining gets no projects."""
    for host_id, host in placements.hosts.items():
        await connection.fetch(store.SET_HOST, host_id, host["internal_url"], host["credential"], "up")
    for key, row in placements.projects.items():
        values = [row[name] for name in ("owner", "name", "host_id", "allowed_ports", "visibility", "system_user")]
        await connection.fetch(store.PLACE, key, *values)
        for user, role in row["members"].items():
            await connection.fetch(store.ADD_MEMBER, key, user, role, False, row["member_ports"].get(user))
    for host_id, host in placements.hosts.items():
        await connection.fetch(target.statements.SET_STATUS, host_id, host["status"])


async def _read(database: Store, connection: Store | StoreConnection) -> Placements:
    """All rows. The host `local` counts if it has projects: a database may lack it otherwise."""
    projects = {row["project_id"]: _values(row) for row in await connection.fetch(database.statements.PROJECTS, None)}
    hosts = {
        row["host_id"]: {name: row[name] for name in _HOST_COLUMNS}
        for row in await connection.fetch(database.statements.HOSTS + " order by host_id")
    }
    if all(row["host_id"] != LOCAL_HOST for row in projects.values()):
        hosts.pop(LOCAL_HOST, None)
    return Placements(projects, hosts)


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in row.items() if name != "generation"}
    for name in _JSON_COLUMNS:
        values[name] = json.loads(values[name]) if values[name] else None if name == "allowed_ports" else {}
    return values


def _refusal(error: ConstraintViolation, placements: Placements) -> Exception:
    """The error for rows that the destination does not take."""
    if error.constraint != PORT_IS_CLAIMED:
        return error
    local = [
        (key, parse_ports(row["allowed_ports"] or ())) for key, row in placements.projects.items() if row["host_id"] == LOCAL_HOST
    ]
    for number, (key, ports) in enumerate(local):
        for other, others in local[:number]:
            if shared := common_ports(ports, others):
                text = f"The projects '{other}' and '{key}' claim the same ports: {print_ports([shared])}."
                return BadInput(text, "Give each project on this machine ports of its own, then copy again.")
    return error
