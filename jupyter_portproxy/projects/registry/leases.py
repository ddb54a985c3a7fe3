"""The registry of a project host: its projects, the port each listens on, and ports leased to starting projects.

States of a project, set by `register` and `set_state`: starting, running or stopped. A running project has a port. Whatever
its row says, a project is over (stopped) after a reboot of the machine, and when the process of its row has ended. Each run has
a generation, so that a late report of an earlier run changes nothing.

States of a port: free, leased (`lease_port`), used by a project (`register`), or released: not leased again for `cool_down`
seconds.

Each request checks whether any process has written to the file, and reads its project's row again if so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ...errors import PROJECT_HOST, BadInput, NoPort, ProjectStarting, ProjectStopped, RegistryAway, UnknownProject
from ...services.ports import is_free
from ...system import background_tasks
from ...system.process_identity import boot_id, is_running, start_time
from ..model import ChangeSubscriptions, NextHop, check_new_credential, check_new_key, is_credential, require_key
from ..sqlite_file import SqliteConnection
from .database import registry_file

_POLL_INTERVAL = 0.25  # seconds between two checks for changes by other processes
_MAX_PORT_ATTEMPTS = 200
_FIRST_UNPRIVILEGED = 1024
_STATES = ("starting", "running", "stopped")
_COLUMNS = "key, state, http_port, generation, pid, secret, born, boot, start_on_request"
_SELECT = f"select {_COLUMNS} from projects"  # noqa: S608 (our own text)
_INSERT = f"insert into projects ({_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 (our own text)
_STOP = "update projects set state = 'stopped', http_port = null, pid = null, born = ''"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RegisteredProject:
    """A project of this host.

    Attributes:
        generation: the number of its run; the runs of all projects are counted together.
        start_on_request: while it is stopped, a request for it starts it.
    """

    key: str
    state: str
    http_port: int | None
    generation: int
    pid: int | None
    start_on_request: bool = False


class _ProjectRow(NamedTuple):
    """A row of the projects. Another program may have written values of other types.

    Attributes:
        born, boot: identify the process `pid`; see `process_identity`.
    """

    key: str
    state: Any
    http_port: Any
    generation: Any
    pid: Any
    secret: Any
    born: Any
    boot: Any
    start_on_request: Any


class Registry:
    """A ProjectResolver over a SQLite file, and the operations that write it. All of them may raise RegistryUnavailable.

    Args:
        path: of the file; it is created (mode 0600) when the registry starts or is written to.
        cool_down: seconds for which a released port is not leased again.
        boot: id of this boot of the machine.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        cool_down: float = 60.0,
        log: logging.Logger | None = None,
        boot: str | None = None,
    ) -> None:
        self._log = log or logging.getLogger(__name__)
        self._file = registry_file(Path(path), self._log)
        self._cool_down = cool_down
        self._boot = boot_id() if boot is None else boot
        self._published: dict[str, tuple[object, ...]] = {}  # what subscribers were last notified of
        self._published_version: tuple[int, ...] | None = None
        self._subscriptions = ChangeSubscriptions(self._log)
        self._task: asyncio.Task[None] | None = None

    @property
    def available(self) -> bool:
        """True if the file could be used at the last attempt."""
        return self._file.available

    # ---- the resolver ----

    async def resolve(self, key: str, username: str | None) -> NextHop:
        """See ProjectResolver. A project host has no members table and ignores `username`."""
        require_key(key, PROJECT_HOST)
        row = self._file.run(lambda db: _find_row(db, key))
        if row is None:
            raise UnknownProject(key, PROJECT_HOST)
        return self._next_hop(row)

    def report_failure(self, key: str, generation: int) -> None:
        """Nothing: each request reads the file."""

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        return self._subscriptions.add(callback)

    async def start(self) -> None:
        with contextlib.suppress(RegistryAway):
            self._write(lambda db: None)
        self._task = background_tasks.run("registry", self._watch, self._log)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        self._file.close()

    # ---- projects and ports ----

    def register(
        self,
        key: str,
        http_port: int | None,
        secret: str,
        pid: int | None = None,
        *,
        state: str = "running",
        replace: bool = True,
        start_on_request: bool | None = None,
    ) -> RegisteredProject:
        """Begin a new run of a project.

        Args:
            http_port: where its server listens on loopback; None if that is not known yet.
            secret: what authenticates this host at that server.
            pid: a process of this machine whose end is the end of the run.
            replace: False refuses if a run is not over.
            start_on_request: while the project is stopped, a request for it starts it; None leaves that unchanged.

        Raises:
            BadInput: an invalid value, a port of another project, or a run that must not be replaced.
        """
        check_new_key(key)
        check_new_credential(secret)
        _check_state(state)
        _check_port(http_port, state)
        started = _start_time(pid) if pid is not None else ""

        def work(db: SqliteConnection) -> RegisteredProject:
            before = _find_row(db, key)
            if not replace and before is not None and before.state != "stopped" and not self._is_over(before):
                raise BadInput(f"The project '{key}' is {before.state} already.", "Stop it first.")
            self._claim_port(db, key, http_port)
            generation = _next_generation(db)
            starts = start_on_request if start_on_request is not None else before is not None and bool(before.start_on_request)
            row = _ProjectRow(key, state, http_port, generation, pid, secret, started, self._boot, starts)
            db.execute("delete from projects where key = ?", (key,))
            db.execute(_INSERT, row)
            self._release(db, key, http_port)
            return RegisteredProject(key, state, http_port, generation, pid, starts)

        return self._write(work)

    def set_state(self, key: str, state: str, generation: int | None = None) -> None:
        """Change the state of a run. A project that stops releases its port. Raises BadInput or UnknownProject.

        Args:
            generation: of the run; a late report of an earlier run is a BadInput.
        """
        _check_state(state)

        def work(db: SqliteConnection) -> None:
            row = _find_row(db, key)
            if row is None:
                raise UnknownProject(key, PROJECT_HOST)
            if generation is not None and generation != row.generation:
                raise BadInput("That run of the project is over.", "Nothing needs to be done.")
            if state == "stopped":
                self._stop(db, key)
                return
            if state == "running" and row.http_port is None:
                raise BadInput("The project has no port.", "Register it with the port on which it listens now.")
            number = _next_generation(db) if row.state == "stopped" else row.generation
            values = (state, number, self._boot, key)
            db.execute("update projects set state = ?, generation = ?, boot = ? where key = ?", values)

        self._write(work)

    def unregister(self, key: str) -> None:
        """Delete a project and release its port. Raises UnknownProject."""

        def work(db: SqliteConnection) -> bool:
            self._release(db, key)
            return db.execute("delete from projects where key = ?", (key,)).rowcount > 0

        if not self._write(work):
            raise UnknownProject(key, PROJECT_HOST)

    def lease_port(self, key: str, ports: Iterable[range]) -> int:
        """A port without a listener, for a project that is about to start; the one it has leased before if that is still free.

        It is released when the project stops or is unregistered. Raises NoPort.
        """
        check_new_key(key)
        wanted = [port for numbers in ports for port in numbers if _FIRST_UNPRIVILEGED <= port <= 65535]

        def work(db: SqliteConnection) -> int:
            for (port,) in db.execute("select port from leases where key = ? and released is null", (key,)).fetchall():
                if port in wanted and is_free(port):
                    return int(port)
            taken = {port for (port,) in db.execute("select port from leases union select http_port from projects")}
            free = [port for port in wanted if port not in taken]
            for port in random.sample(free, min(_MAX_PORT_ATTEMPTS, len(free))):
                if is_free(port):
                    db.execute("insert into leases values (?, ?, ?, null)", (port, key, self._boot))
                    return port
            raise NoPort()

        return self._write(work)

    def list(self) -> list[RegisteredProject]:
        """All projects of this host, in any state."""
        rows = [_ProjectRow(*row) for row in self._file.run(lambda db: db.execute(f"{_SELECT} order by key").fetchall())]
        return [
            RegisteredProject(row.key, "stopped", None, row.generation, None, row.start_on_request == 1)
            if self._is_over(row)
            else RegisteredProject(*row[:5], row.start_on_request == 1)
            for row in rows
        ]

    # ---- rows ----

    def _next_hop(self, row: _ProjectRow) -> NextHop:
        if row.state == "stopped" or self._is_over(row):
            raise ProjectStopped(PROJECT_HOST, on_request=row.start_on_request == 1)
        if row.state == "starting":
            raise ProjectStarting(PROJECT_HOST)
        is_valid = row.state == "running" and _is_port(row.http_port) and is_credential(row.secret)
        if not is_valid or type(row.generation) is not int:
            self._log.error("portproxy: the registry's row of project %s is damaged; it counts as stopped", row.key)
            raise ProjectStopped(PROJECT_HOST)
        return NextHop(row.key, "http", "127.0.0.1", row.http_port, row.secret, row.generation)

    def _is_over(self, row: _ProjectRow) -> bool:
        """True if the row is of an earlier boot, or its process has ended."""
        if row.boot != self._boot:
            return True
        return row.pid is not None and (type(row.pid) is not int or not is_running(row.pid, row.born))

    def _claim_port(self, db: SqliteConnection, key: str, port: int | None) -> None:
        """Refuse a port of another project, unless that project's run is over."""
        for values in db.execute(f"{_SELECT} where http_port = ? and key <> ?", (port, key)).fetchall():
            other = _ProjectRow(*values)
            if not self._is_over(other):
                raise _port_in_use(port, other.key)
            self._stop(db, other.key)
        lease = db.execute("select key from leases where port = ? and key <> ? and released is null", (port, key)).fetchone()
        if lease is not None:
            raise _port_in_use(port, lease[0])

    def _stop(self, db: SqliteConnection, key: str) -> None:
        db.execute(f"{_STOP} where key = ?", (key,))
        self._release(db, key)

    def _release(self, db: SqliteConnection, key: str, kept: int | None = None) -> None:
        """Release the leases of a project, except for one port."""
        values = (time.monotonic(), key, kept)
        db.execute("update leases set released = ? where key = ? and released is null and port is not ?", values)

    def _remove_outdated(self, db: SqliteConnection) -> None:
        """Stop the projects of earlier boots; delete their leases, and released ones after `cool_down` (monotonic time)."""
        now = time.monotonic()
        db.execute(f"{_STOP} where boot <> ? and state <> 'stopped'", (self._boot,))
        values = (self._boot, now, now - self._cool_down)
        db.execute("delete from leases where boot <> ? or released > ? or released <= ?", values)

    def _write(self, work: Callable[[SqliteConnection], T]) -> T:
        def transaction(db: SqliteConnection) -> T:
            self._remove_outdated(db)
            return work(db)

        result = self._file.write(transaction)
        with contextlib.suppress(RegistryAway):
            self._publish_changes()
        return result

    # ---- changes ----

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(RegistryAway):
                version = self._file.version()
                if version != self._published_version:
                    self._publish_changes()
                    self._published_version = version
            await asyncio.sleep(_POLL_INTERVAL)

    def _publish_changes(self) -> None:
        rows = self._file.run(lambda db: db.execute("select key, generation, state, http_port from projects").fetchall())
        before, self._published = self._published, {key: tuple(values) for key, *values in rows}
        keys = before.keys() | self._published.keys()
        self._subscriptions.notify(sorted(key for key in keys if before.get(key) != self._published.get(key)))


def _find_row(db: SqliteConnection, key: str) -> _ProjectRow | None:
    values = db.execute(f"{_SELECT} where key = ?", (key,)).fetchone()
    return _ProjectRow(*values) if values is not None else None


def _start_time(pid: int) -> str:
    if not (started := start_time(pid)):
        raise BadInput("There is no process with that pid.", "Register the project once its process runs.")
    return started


def _next_generation(db: SqliteConnection) -> int:
    db.execute("update counter set generation = generation + 1")
    return int(db.execute("select generation from counter").fetchone()[0])


def _port_in_use(port: int | None, key: str) -> BadInput:
    return BadInput(f"Port {port} belongs to the project '{key}'.", "Stop that project first, or take another port.")


def _check_state(state: str) -> None:
    if state not in _STATES:
        raise BadInput("Invalid state of a project.", f"Use one of: {', '.join(_STATES)}.")


def _check_port(port: object, state: str) -> None:
    if port is None and state == "running":
        raise BadInput("A running project needs a port.", "Give the port on which its server listens.")
    if port is not None and (state == "stopped" or not _is_port(port)):
        raise BadInput("Invalid port of a project.", "Give a whole number from 1 to 65535, and none for a stopped project.")


def _is_port(port: object) -> bool:
    return type(port) is int and 0 < port < 65536
