"""Finds the host of a project in the placements.

The table of changes is read each second, and after each notification, which alone would not be reliable. The ages of heartbeats
are differences of the database's own times, and deadlines are monotonic: a clock that is set changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ...errors import HUB, HostDown, NotPlaced, RegistryAway, UnknownProject
from ...protocol.urls import LOOPBACK_NAME, parse_ports
from ...system import background_tasks
from ..model import ANY_PROJECT, LOCAL_HOST, ChangeSubscriptions, NextHop, Ports, is_credential, parse_host_url, require_key
from ..permissions import Grant, GroupDirectory, grant_for
from .cache import Cache
from .store import MAX_CHANGES, NAMED, ConstraintViolation, DatabaseUnavailable, Row, StoreConnection, open_store

_MAX_MISSED_HEARTBEATS = 3
_PAUSE = 0.02  # seconds between a connection that worked and the next one
_RETRY_INTERVAL = 0.25
_INVALID_PORTS = (range(0),)
_FIND_ATTEMPTS = 2
_MAX_NAME = 255  # characters of an owner or a name
_PORTS = 65536
_NO_GROUPS: frozenset[str] = frozenset()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PlacementOptions:
    """How a server reads placements. Times are seconds.

    Attributes:
        heartbeat: between two heartbeats of a host; without three of them it counts as down.
        poll: between two reads of the changes.
        timeout: for one statement, or one connection.
        serve_stale: how long known placements are used while the database is away.
        max_projects: cached placements.
        max_connections: for look-ups, besides the one that follows the changes.
    """

    heartbeat: float = 5.0
    poll: float = 1.0
    timeout: float = 2.0
    serve_stale: float = 300.0
    max_projects: int = 10_000
    max_connections: int = 4


@dataclass(frozen=True, slots=True)
class _Host:
    """A row of the hosts.

    Attributes:
        address: scheme, host and port; None if the row is invalid.
        is_alive: its heartbeats arrive.
        is_enabled: an administrator has not declared it down.
    """

    address: tuple[str, str, int] | None
    credential: str = field(repr=False)
    generation: int
    is_alive: bool
    is_enabled: bool

    @property
    def is_up(self) -> bool:
        return self.is_alive and self.is_enabled


@dataclass(frozen=True, slots=True)
class _Project:
    """A row of the projects with its members.

    Attributes:
        is_public: all users are viewers.
        member_ports: of the members with ports of their own.
    """

    owner: str
    name: str
    host_id: str | None
    ports: Ports
    members: Mapping[str, str]
    is_public: bool
    generation: int
    system_user: str | None = None
    member_ports: Mapping[str, tuple[range, ...]] = field(default_factory=dict)

    def grant_for(self, username: str, groups: frozenset[str]) -> Grant | None:
        return grant_for(username, groups, self.owner, self.members, self.member_ports, is_public=self.is_public)


_ABSENT = _Project("", "", None, None, {}, is_public=False, generation=0)


class Placement:
    """A ProjectResolver and NameResolver over the tables of placements.

    Args:
        dsn: see `store.open_store`.
        hop: HUB or SERVER, for messages.
        groups: the groups of users; None: there are none.
        allows_public: users may see the projects whose visibility is "public".
        on_claims: called with the ports that projects of this machine claim (a byte for each port, 1 for a claimed one), when
            these change.
    """

    def __init__(
        self,
        dsn: str,
        options: PlacementOptions | None = None,
        *,
        hop: str = HUB,
        groups: GroupDirectory | None = None,
        allows_public: bool = False,
        on_claims: Callable[[bytes], None] = lambda claims: None,
        log: logging.Logger | None = None,
    ) -> None:
        self.available = False  # the last read of the changes succeeded
        self._options = options or PlacementOptions()
        self._hop, self._groups, self._allows_public = hop, groups, allows_public
        self._on_claims = on_claims
        self._log = log or logging.getLogger(__name__)
        options = self._options
        self._store = open_store(dsn, timeout=options.timeout, max_connections=options.max_connections, log=self._log)
        self._sql = self._store.statements
        self._projects: Cache[_Project] = Cache(
            self._query_project, lambda project: project.host_id is not None, self._options.max_projects
        )
        self._keys: Cache[str] = Cache(self._query_key, bool, self._options.max_projects)  # OWNER\0NAME -> key, or ""
        self._hosts: dict[str, _Host] = {}
        self._claims = bytes(_PORTS)  # 1 for each port of a project on this machine
        self._subscriptions = ChangeSubscriptions(self._log)
        self._read_at = -float("inf")  # when the changes were last read
        self._heartbeats_unreliable_until = -float("inf")
        self._clock_offset: float | None = None  # the database's clock minus the monotonic one
        self._problem = ""
        self._attempted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        if groups is not None:
            groups.subscribe(lambda: self._subscriptions.notify([ANY_PROJECT]))

    async def resolve(self, key: str, username: str | None) -> NextHop:
        """See ProjectResolver."""
        require_key(key, self._hop)
        project = await self._look_up(self._projects, key)
        grant = project.grant_for(username, self._groups_of(username)) if username is not None else None
        if project is _ABSENT or (username is not None and grant is None):
            raise self._denial(key)
        if project.host_id is None:
            raise NotPlaced(self._hop)
        host = self._hosts.get(project.host_id)
        if host is None or host.address is None or not host.is_up or project.ports == _INVALID_PORTS:
            raise HostDown(self._hop, silent=host is not None and host.is_enabled and not host.is_alive)
        return _next_hop(key, project, host.address, host, grant, self._claims)

    async def find(self, owner: str, name: str, username: str | None) -> str:
        """See NameResolver. A cached key is compared with its project, so that it is never older than that."""
        label = f"{owner}\0{name}"
        for _ in range(_FIND_ATTEMPTS if _is_name(owner) and _is_name(name) else 0):
            key = await self._look_up(self._keys, label)
            project = await self._look_up(self._projects, key) if key else _ABSENT
            if not key or (project.owner, project.name) == (owner, name):
                break
            self._keys.drop(label)  # one of the two is older than the other
            self._projects.drop(key)
        else:
            raise UnknownProject(f"{owner}/{name}", self._hop)
        if not key or (username is not None and project.grant_for(username, self._groups_of(username)) is None):
            raise self._denial(f"{owner}/{name}")
        return key

    def report_failure(self, key: str, generation: int) -> None:
        project = self._projects.get(key)
        host = self._hosts.get(project.host_id or "") if project is not None else None
        if project is not None and host is not None and generation == max(project.generation, host.generation):
            self._projects.mark_stale(key, self._read_at + self._options.serve_stale)

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        return self._subscriptions.add(callback)

    async def start(self) -> None:
        self._task = background_tasks.run("placement", self._follow, self._log)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._attempted.wait(), self._options.timeout)

    async def close(self) -> None:
        while self._task is not None and not self._task.done():
            self._task.cancel()  # more than once: wait_for of Python < 3.12 may swallow it
            await asyncio.wait({self._task}, timeout=1)
        await self._projects.close()
        await self._keys.close()
        await self._store.close()

    # ---- look-ups ----

    def _may_use_cache(self) -> bool:
        return time.monotonic() - self._read_at <= self._options.serve_stale

    async def _look_up(self, cache: Cache[T], key: str) -> T:
        """The cached value, else the database's, else a stale one while the database is away."""
        value = cache.get(key) if self._may_use_cache() else None
        if value is not None:
            return value
        if self.available:
            try:
                return await cache.fetch(key)
            except (DatabaseUnavailable, ConstraintViolation) as error:
                self._log.warning("portproxy: the placement of %s could not be looked up: %s", repr(key)[1:-1], error)
        value = cache.get_stale(key) if self._may_use_cache() else None
        if value is None:
            raise RegistryAway(self._hop)
        return value

    def _denial(self, label: str) -> UnknownProject | RegistryAway:
        """The error for a project that the user may not see: the one for a project that does not exist."""
        if self.available:
            return UnknownProject(label, self._hop)
        away = RegistryAway(self._hop)
        away.is_denial = True
        return away

    def _groups_of(self, username: str | None) -> frozenset[str]:
        if username is None or self._groups is None:
            return _NO_GROUPS
        return frozenset(self._groups.groups_of(username))

    async def _query_key(self, label: str) -> str:
        rows = await self._store.fetch(NAMED, *label.split("\0"))
        return str(rows[0]["project_id"]) if rows else ""

    async def _query_project(self, key: str) -> _Project:
        rows = await self._store.fetch(self._sql.PROJECT, key)
        if not rows:
            return _ABSENT
        row = rows[0]
        if row["host_id"] is not None and row["host_id"] not in self._hosts:  # added after the last read of the hosts
            self._hosts[row["host_id"]] = self._host_of(row, row["host_generation"])
        members, lists = (json.loads(row[column] or "{}") for column in ("members", "member_ports"))
        ports = None if row["allowed_ports"] is None else self._parse_ports(row["allowed_ports"], f"project {key}")
        member_ports = {name: self._parse_ports(each, f"a member of project {key}") for name, each in lists.items()}
        names = (row["owner"], row["name"], row["host_id"])
        is_public = self._allows_public and row["visibility"] == "public"
        return _Project(*names, ports, members, is_public, row["generation"], row["system_user"], member_ports)

    def _parse_ports(self, ports: str | Iterable[object], label: str) -> tuple[range, ...]:
        """The ports in a list, which may be JSON."""
        try:
            return parse_ports(json.loads(ports) if isinstance(ports, str) else ports)
        except (ValueError, TypeError) as error:
            self._log.error("portproxy: allowed_ports of %s cannot be used: %s", label, error)
            return _INVALID_PORTS

    def _host_of(self, row: Row, generation: int) -> _Host:
        if row["host_id"] == LOCAL_HOST:
            return _Host(("http", LOOPBACK_NAME, 0), "", generation, True, row["status"] != "down")
        silent, before = row["silent"], self._hosts.get(row["host_id"])
        is_alive = silent is not None and abs(silent) <= _MAX_MISSED_HEARTBEATS * self._options.heartbeat
        if time.monotonic() < self._heartbeats_unreliable_until:
            is_alive = is_alive or (before.is_alive if before is not None else silent is not None)
        address = None
        with contextlib.suppress(ValueError):
            address = parse_host_url(row["internal_url"]) if is_credential(row["credential"]) else None
        return _Host(address, row["credential"], generation, is_alive, row["status"] != "down")

    # ---- changes ----

    async def _follow(self) -> None:
        """Read the changes for ever, over one connection after another."""
        while True:
            connection, read_at, problem = None, self._read_at, ""
            try:
                connection = await self._store.connect()
                await self._read_changes(connection)
            except DatabaseUnavailable as error:
                problem = f"{error}. {error.reason}".replace("\n", " ")
            except ConstraintViolation as error:
                problem = str(error)
            except Exception as error:
                if self._read_at == read_at:
                    self._set_unavailable(type(error).__name__)
                raise
            finally:
                if connection is not None:
                    connection.cut()
            if self._read_at == read_at:  # nothing was read; a connection that worked is replaced without a message
                self._set_unavailable(problem)
            await asyncio.sleep(_PAUSE if self.available else _RETRY_INTERVAL)

    def _set_unavailable(self, problem: str) -> None:
        if self.available or problem != self._problem:
            self._log.error("portproxy: placements cannot be read: %s", problem)
        self.available, self._problem = False, problem
        self._attempted.set()

    async def _read_changes(self, connection: StoreConnection) -> None:
        """Until the connection fails."""
        try:
            await connection.follow_changes()
        except DatabaseUnavailable:  # a standby server cannot listen: polling is enough
            if not connection.is_usable:
                raise
        snapshot = await self._read_first(connection)
        while True:
            await connection.wait_for_change(self._options.poll)
            snapshot = await self._read_next(connection, snapshot)

    async def _read_first(self, connection: StoreConnection) -> str:
        """Mark all as stale, for changes may have been missed. The snapshot is taken first, so that none is missed from here."""
        begun = time.monotonic()
        snapshot = str((await connection.fetch(self._sql.SNAPSHOT))[0]["snapshot"])
        await connection.fetch(self._sql.CHANGES, snapshot)
        rows = await self._read_hosts(connection)
        for cache in (self._projects, self._keys):
            cache.mark_all_stale(self._read_at + self._options.serve_stale)
        self._set_hosts(rows)
        await self._read_claims(connection)
        self._read_at = begun
        if not self.available:
            self._log.info("portproxy: placements are read")
        self.available, self._problem = True, ""
        self._attempted.set()
        self._subscriptions.notify([ANY_PROJECT])
        return snapshot

    async def _read_next(self, connection: StoreConnection, snapshot: str) -> str:
        begun = time.monotonic()
        row = (await connection.fetch(self._sql.CHANGES, snapshot))[0]
        rows = await self._read_hosts(connection)
        changed: list[str] = json.loads(row["changed"])
        has_new_claims = bool(changed) and await self._read_claims(connection)
        if len(changed) > MAX_CHANGES:
            self._projects.clear()
            self._keys.clear()
            changed = [ANY_PROJECT]
        for key in changed:
            self._projects.drop(key)
        if changed:
            self._keys.discard_queries()
        if self._set_hosts(rows) or has_new_claims:
            changed = [ANY_PROJECT]
        self._read_at = begun
        self._subscriptions.notify(changed)
        return str(row["snapshot"])

    async def _read_claims(self, connection: StoreConnection) -> bool:
        """Read which ports the projects on this machine claim; True if these are others than before."""
        if LOCAL_HOST not in self._hosts:
            return False
        claims = bytearray(_PORTS)
        for row in await connection.fetch(self._sql.CLAIMS):
            ports = range(_PORTS)[row["first"] : row["last"] + 1]
            claims[ports.start : ports.stop] = b"\1" * len(ports)
        if claims == self._claims:
            return False  # the object stays the same, which makes comparisons fast
        self._claims = bytes(claims)
        self._on_claims(self._claims)
        return True

    async def _read_hosts(self, connection: StoreConnection) -> Sequence[Row]:
        """The rows of the hosts. Heartbeats that could not be written, or cannot be dated, do not make a host silent."""
        begun = time.monotonic()
        clock = (await connection.fetch(self._sql.CLOCK))[0]
        before, self._clock_offset = self._clock_offset, clock["now"] - begun
        was_set = before is not None and abs(self._clock_offset - before) > self._options.heartbeat
        was_away = begun - self._read_at > self._options.heartbeat and before is not None
        if clock["frozen"] or was_set or was_away:
            self._heartbeats_unreliable_until = begun + _MAX_MISSED_HEARTBEATS * self._options.heartbeat
        return await connection.fetch(self._sql.HOSTS)

    def _set_hosts(self, rows: Iterable[Row]) -> bool:
        """True if a host has another URL or credential, or has become silent."""
        before = self._hosts
        self._hosts = {row["host_id"]: self._host_of(row, row["generation"]) for row in rows}
        for host_id, host in self._hosts.items():
            if host.address is None and before.get(host_id) != host:
                self._log.error("portproxy: the URL or the credential of host %s cannot be used", host_id)
        known = [(before[host_id], host) for host_id, host in self._hosts.items() if host_id in before]
        return any(old.generation != new.generation or (old.is_alive and not new.is_alive) for old, new in known)


def _next_hop(
    key: str, project: _Project, address: tuple[str, str, int], host: _Host, grant: Grant | None, claims: bytes
) -> NextHop:
    role, user_ports = (grant.role, grant.ports) if grant is not None else (None, None)
    is_local = project.host_id == LOCAL_HOST
    claimed_ports = claims if is_local and project.ports is None else None
    return NextHop(
        key,
        *address,
        host.credential,
        generation=max(project.generation, host.generation),
        allowed_ports=project.ports,
        user_ports=user_ports,
        role=role,
        system_user=project.system_user,
        is_local=is_local,
        claimed_ports=claimed_ports,
        owner=project.owner,
        name=project.name,
    )


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _MAX_NAME and text.isprintable()
