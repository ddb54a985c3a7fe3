"""Placements: on which host a project is, read from Postgres by a hub.

Rule of this file: the table of changes is the truth, looked at each second, and a notification only says that now is a good
moment. Ages are the database's own differences of times, deadlines are monotonic: a clock that jumps changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ...errors import HUB, HostDown, NotPlaced, RegistryAway, UnknownProject
from ...protocol.urls import parse_ports
from ...system import background_tasks
from ..model import ANY, Snapshot, Subscribers, Target, is_credential, known_key, next_hop
from ..permissions import Grant, People, grant_of
from . import schema as sql
from .cache import Cache
from .postgres import Away, Line, Postgres, Refused, Row

_SILENT_HEARTBEATS = 3
_GATHER = 0.02  # seconds in which further notifications are taken together
_RETRY = 0.25
_UNUSABLE = (range(0),)  # no port at all
_TRIES = 2
_LONGEST = 255  # of an owner or a name
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """How a hub reads placements. Times are seconds.

    Attributes:
        heartbeat: between two signs of life of a host; silent for three of them, it counts as down.
        poll: between two looks at the changes.
        patience: for one statement, or one connection.
        serve_on: for how long known placements are served while the database is away.
        most: placements that are kept.
        connections: for look-ups, besides the one that follows the changes.
    """

    heartbeat: float = 5.0
    poll: float = 1.0
    patience: float = 2.0
    serve_on: float = 300.0
    most: int = 10_000
    connections: int = 4


@dataclass(frozen=True, slots=True)
class _Host:
    """`address`: scheme, host and port; None if its row makes no sense. `alive`: it gives signs of life."""

    address: tuple[str, str, int] | None
    credential: str = field(repr=False)
    generation: int
    alive: bool
    wanted: bool

    @property
    def up(self) -> bool:
        return self.alive and self.wanted


@dataclass(frozen=True, slots=True)
class _Project:
    """`good`: its row makes sense. `narrowed`: members with ports of their own."""

    owner: str
    name: str
    host_id: str | None
    ports: tuple[range, ...] | None
    members: Mapping[str, str]
    visibility: str
    generation: int
    good: bool = True
    narrowed: Mapping[str, tuple[range, ...]] = field(default_factory=dict)


_NOBODYS = _Project("", "", None, None, {}, "private", 0)
# What a target was made of, and the target.
_Made = tuple[_Project, "_Host | None", frozenset[str], Target]
_NO_GROUPS: frozenset[str] = frozenset()


class Placement:
    """A ProjectResolver over the tables of `placement_schema`.

    Args:
        dsn: as libpq's: `postgresql://user@host:5432/database`.
        people: who knows the groups of users; None: there are no groups.

    Raises:
        MissingPackage
    """

    def __init__(
        self, dsn: str, options: Options | None = None, *, people: People | None = None, log: logging.Logger | None = None
    ) -> None:
        self._options = options or Options()
        self._people = people
        self._log = log or logging.getLogger(__name__)
        self._postgres = Postgres(dsn, seconds=self._options.patience, most=self._options.connections)
        self._cache: Cache[_Project] = Cache(self._fetch, lambda project: project.host_id is not None, self._options.most)
        self._names: Cache[str] = Cache(self._fetch_key, bool, self._options.most)  # OWNER\0NAME -> key, empty for nobody's
        self._hosts: dict[str, _Host] = {}
        self._made: dict[tuple[str, str | None], _Made] = {}  # by key and asker; good while it would be made of the same
        self._subscribers = Subscribers(lambda text: self._log.error("portproxy: a subscriber of placements failed: %s", text))
        self._heard = -float("inf")  # when the changes were last looked at
        self._excused = -float("inf")  # until when silence of a host says nothing
        self._clock: float | None = None  # the database's less our own
        self._away, self._problem = True, ""
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._lookups = 0
        if people is not None:
            people.subscribe(lambda: self._subscribers.tell([ANY]))

    async def resolve(self, key: str, asker: str | None) -> Target:
        """See ProjectResolver."""
        self._lookups += 1
        made = self._made.get((key, asker))
        if made is not None and self._is_current(key, asker, made):
            return made[3]
        project = await self._known(self._cache, known_key(key, HUB))
        host, groups = self._hosts.get(project.host_id or ""), self._groups_of(asker)
        target = self._target_for(key, project, host, groups, asker)
        if len(self._made) >= self._options.most:
            self._made.clear()
        self._made[key, asker] = project, host, groups, target
        return target

    async def find(self, owner: str, name: str, asker: str | None) -> str:
        """See FindsNames. What is kept of a name is checked against its project, so that it is never older than that."""
        label = f"{owner}\0{name}"
        for _ in range(_TRIES if _is_name(owner) and _is_name(name) else 0):
            key = await self._known(self._names, label)
            project = await self._known(self._cache, key) if key else _NOBODYS
            if not key or (project.owner, project.name) == (owner, name):
                break
            self._names.drop(label)  # one of them is older than the other
            self._cache.drop(key)
        else:
            raise UnknownProject(f"{owner}/{name}", HUB)
        if not key or (asker is not None and _grant_of(asker, project, self._groups_of(asker)) is None):
            raise UnknownProject(f"{owner}/{name}", HUB)
        return key

    def invalidate(self, key: str) -> None:
        self._cache.drop(key)

    def report_failure(self, key: str, generation: int) -> None:
        project = self._cache.get(key)
        host = self._hosts.get(project.host_id or "") if project is not None else None
        if project is not None and host is not None and generation == max(project.generation, host.generation):
            self._cache.doubt(key, self._heard + self._options.serve_on)

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        return self._subscribers.add(callback)

    def snapshot(self) -> Snapshot:
        silent = time.monotonic() - self._heard
        return Snapshot(HUB, self._away, silent, len(self._cache), self._lookups, self._cache.questions)

    async def start(self) -> None:
        self._task = background_tasks.run("placement", self._follow, self._log)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._tried.wait(), self._options.patience)

    async def close(self) -> None:
        while self._task is not None and not self._task.done():
            self._task.cancel()  # more than once: wait_for of Python < 3.12 may swallow it
            await asyncio.wait({self._task}, timeout=1)
        await self._cache.close()
        await self._names.close()
        await self._postgres.close()

    # ---- answers ----

    def _is_current(self, key: str, asker: str | None, made: _Made) -> bool:
        """Nothing is known that is newer than what a target was made of."""
        project, host, groups, _ = made
        if not self._is_bearable() or self._cache.get(key) is not project:
            return False
        return self._hosts.get(project.host_id or "") is host and self._groups_of(asker) == groups

    def _is_bearable(self) -> bool:
        return time.monotonic() - self._heard <= self._options.serve_on

    async def _known(self, cache: Cache[T], key: str) -> T:
        """What is known without asking, else what the database says, else what was known before it was away."""
        known = cache.get(key) if self._is_bearable() else None
        if known is not None:
            return known
        if not self._away:
            try:
                return await cache.ask(key)
            except (Away, Refused) as error:
                self._log.warning("portproxy: the placement of %s could not be looked up: %s", repr(key)[1:-1], error)
        known = cache.last_resort(key) if self._is_bearable() else None
        if known is None:
            raise RegistryAway(HUB)
        return known

    def _groups_of(self, asker: str | None) -> frozenset[str]:
        return frozenset(self._people.groups_of(asker)) if asker is not None and self._people is not None else _NO_GROUPS

    def _target_for(self, key: str, project: _Project, host: _Host | None, groups: Collection[str], asker: str | None) -> Target:
        """The target as an asker gets it, who may not see every project."""
        if project is _NOBODYS:
            raise UnknownProject(key, HUB)
        if asker is None:
            return _target(key, project, host)
        grant = _grant_of(asker, project, groups)
        if grant is None:
            raise UnknownProject(key, HUB)
        target = _target(key, project, host)
        if target.role_of(asker) != grant.role:  # theirs by a group
            target = replace(target, members={**project.members, asker: grant.role})
        return target if grant.ports is None else replace(target, askers_ports=grant.ports)

    async def _fetch_key(self, label: str) -> str:
        rows = await self._postgres.fetch(sql.NAMED, *label.split("\0"))
        return str(rows[0]["project_id"]) if rows else ""

    async def _fetch(self, key: str) -> _Project:
        rows = await self._postgres.fetch(sql.PROJECT, key)
        if not rows:
            return _NOBODYS
        row = rows[0]
        if row["host_id"] is not None and row["host_id"] not in self._hosts:  # one that came after the last look
            self._hosts[row["host_id"]] = self._host_of(row, row["host_generation"])
        members, narrowed = (json.loads(row[column] or "{}") for column in ("members", "narrowed"))
        ports = None if row["allowed_ports"] is None else self._parsed(row["allowed_ports"], f"project {key}")
        good = ports != _UNUSABLE
        own = {name: self._parsed(lines, f"a member of project {key}") for name, lines in narrowed.items()}
        whose = (row["owner"], row["name"], row["host_id"])
        return _Project(*whose, ports, members, row["visibility"], row["generation"], good, own)

    def _parsed(self, ports: Iterable[object], whose: str) -> tuple[range, ...]:
        try:
            return parse_ports(ports)
        except ValueError as error:
            self._log.error("portproxy: allowed_ports of %s cannot be used: %s", whose, error)
            return _UNUSABLE

    def _host_of(self, row: Row, generation: int) -> _Host:
        silent, before = row["silent"], self._hosts.get(row["host_id"])
        alive = silent is not None and abs(silent) <= _SILENT_HEARTBEATS * self._options.heartbeat
        if time.monotonic() < self._excused:
            alive = alive or (before.alive if before is not None else silent is not None)
        address = None
        with contextlib.suppress(ValueError):
            address = next_hop(row["internal_url"]) if is_credential(row["credential"]) else None
        return _Host(address, row["credential"], generation, alive, row["status"] != "down")

    # ---- changes ----

    async def _follow(self) -> None:
        while True:
            line, heard, problem = None, self._heard, ""
            try:
                line = await self._postgres.connect()
                await self._follow_on(line)
            except (Away, Refused) as error:
                problem = str(error)
            except Exception as error:
                if self._heard == heard:
                    self._note(type(error).__name__)
                raise
            finally:
                if line is not None:
                    line.cut()
            if self._heard == heard:  # good for nothing. One that was good and is lost is first tried again
                self._note(problem)
            await asyncio.sleep(_RETRY if self._away else _GATHER)

    def _note(self, problem: str) -> None:
        if not self._away or problem != self._problem:
            self._log.error("portproxy: placements cannot be read: %s", problem)
        self._away, self._problem = True, problem
        self._tried.set()

    async def _follow_on(self, line: Line) -> None:
        """Follow the changes until the connection fails."""
        hint = asyncio.Event()
        try:
            await line.listen(sql.CHANNEL, hint.set)
        except Away:  # a standby server: polling does
            if not line.usable:
                raise
        snapshot = await self._begin_anew(line)
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(hint.wait(), self._options.poll)
                await asyncio.sleep(_GATHER)
            hint.clear()
            snapshot = await self._poll(line, snapshot)

    async def _begin_anew(self, line: Line) -> str:
        """Nobody knows what has changed: all is asked again. First the snapshot, so that nothing falls in between."""
        begun = time.monotonic()
        snapshot = str((await line.fetch(sql.SNAPSHOT))[0]["snapshot"])
        await line.fetch(sql.CHANGES, snapshot)
        rows = await self._look_at_hosts(line)
        for cache in (self._cache, self._names):
            cache.doubt_all(self._heard + self._options.serve_on)
        self._take_hosts(rows)
        self._heard = begun
        if self._away:
            self._log.info("portproxy: placements are read")
        self._away, self._problem = False, ""
        self._tried.set()
        self._subscribers.tell([ANY])
        return snapshot

    async def _poll(self, line: Line, snapshot: str) -> str:
        begun = time.monotonic()
        row = (await line.fetch(sql.CHANGES, snapshot))[0]
        rows = await self._look_at_hosts(line)
        changed: Iterable[str] = row["changed"]
        if len(row["changed"]) > sql.MANY:
            self._cache.clear()
            self._names.clear()
            changed = [ANY]
        for key in changed:
            self._cache.drop(key)
        if changed:
            self._names.fence()
        if self._take_hosts(rows):
            changed = [ANY]
        self._heard = begun
        self._subscribers.tell(changed)
        return str(row["snapshot"])

    async def _look_at_hosts(self, line: Line) -> Sequence[Row]:
        """The hosts' rows. Those who could not give a sign of life, or whose signs cannot be dated, are not taken for dead."""
        begun = time.monotonic()
        clock = (await line.fetch(sql.CLOCK))[0]
        before, self._clock = self._clock, clock["now"] - begun
        jumped = before is not None and abs(self._clock - before) > self._options.heartbeat
        was_away = begun - self._heard > self._options.heartbeat and before is not None
        if clock["frozen"] or jumped or was_away:
            self._excused = begun + _SILENT_HEARTBEATS * self._options.heartbeat
        return await line.fetch(sql.HOSTS)

    def _take_hosts(self, rows: Iterable[Row]) -> bool:
        """True if a host is somewhere else now, wants another credential, or has fallen silent.

        One that is as it was stays the same object: what was made of it stays good.
        """
        before, hosts = self._hosts, [(row["host_id"], self._host_of(row, row["generation"])) for row in rows]
        self._hosts = {host_id: before[host_id] if before.get(host_id) == host else host for host_id, host in hosts}
        for host_id, host in self._hosts.items():
            if host.address is None and before.get(host_id) != host:
                self._log.error("portproxy: the URL or the credential of host %s cannot be used", host_id)
        known = [(before[host_id], host) for host_id, host in self._hosts.items() if host_id in before]
        return any(was.generation != host.generation or (was.alive and not host.alive) for was, host in known)


def _grant_of(asker: str, project: _Project, groups: Collection[str]) -> Grant | None:
    return grant_of(asker, groups, project.owner, project.members, project.narrowed, project.visibility)


def _target(key: str, project: _Project, host: _Host | None) -> Target:
    if project.host_id is None:
        raise NotPlaced(HUB)
    if host is None or not host.up or host.address is None or not project.good:
        raise HostDown(HUB, silent=host is not None and host.wanted and not host.alive)
    generation = max(project.generation, host.generation)
    scheme, name, port = host.address
    access = (project.ports, project.owner, project.members, project.visibility)
    return Target(key, scheme, name, port, host.credential, generation, *access)


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _LONGEST and text.isprintable()
