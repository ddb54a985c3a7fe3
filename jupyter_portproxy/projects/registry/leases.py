"""The registry: projects on this host, where each listens, and the ports lent to them.

Rule of this file: every request asks whether anybody has written, and reads its project's row anew if so; only what a
running project has registered is ever a target, on loopback. What belongs to an earlier boot or to a process that has ended
does not run, whatever its row says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

from ...errors import PROJECT_HOST, BadInput, NoPort, ProjectStarting, ProjectStopped, RegistryAway, UnknownProject
from ...services.ports import is_free
from ...system import background_tasks
from ...system.process_identity import ProcessHandles, boot_id, start_time
from ..model import Snapshot, Subscribers, Target, is_credential, known_key, new_credential, new_key
from .database import Connection, RegistryFile

_WATCH = 0.25  # seconds between two looks at what other processes have written
_TRIES = 200
_FIRST_UNPRIVILEGED = 1024
_STATES = ("starting", "running", "stopped")
_ROW = "select key, state, http_port, generation, pid, secret, born, boot from projects"
_COLUMNS = "key, state, http_port, generation, pid, secret, born, boot, start_on_request"
_INSERT = f"insert into projects ({_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 (our own text)
_ONE = f"select {_COLUMNS} from projects where key = ?"  # noqa: S608 (our own text)
_LIFE = itemgetter(4, 6, 7)  # pid, born and boot of such a row
_MOST_MADE = 10_000
_STOP = "update projects set state = 'stopped', http_port = null, pid = null, born = ''"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Registered:
    """A project of this host.

    Attributes:
        generation: the number of its run; runs of all projects are counted together.
        start_on_request: while it is stopped, a request for it starts it.
    """

    key: str
    state: str
    http_port: int | None
    generation: int
    pid: int | None
    start_on_request: bool = False


class Registry:
    """A ProjectResolver over a SQLite file; also what writes it.

    Args:
        path: of the file; it is made (mode 0600) when the registry starts or is written to.
        cool_down: seconds for which a port that was given back is lent to nobody.
    """

    def __init__(self, path: str | Path, *, cool_down: float = 60.0, log: logging.Logger | None = None) -> None:
        self._log = log or logging.getLogger(__name__)
        self._file = RegistryFile(Path(path), self._log)
        self._cool_down, self._boot, self._lookups = cool_down, boot_id(), 0
        self._handles = ProcessHandles()
        self._made: dict[str, tuple[tuple[Any, ...], Target]] = {}  # by key: a row of a running project, and its target
        self._read: set[str] = set()  # keys of `_made` whose rows were read of the version `_read_of`
        self._read_of: tuple[int, ...] | None = None
        self._seen: dict[str, tuple[object, ...]] = {}
        self._marker: tuple[int, ...] | None = None
        self._subscribers = Subscribers(lambda text: self._log.error("portproxy: a subscriber of the registry failed: %s", text))
        self._task: asyncio.Task[None] | None = None

    # ---- the resolver ----

    async def resolve(self, key: str, asker: str | None) -> Target:
        """See ProjectResolver; this hop does not know the members and takes no notice of `asker`."""
        self._lookups += 1
        known_key(key, PROJECT_HOST)
        made, version = self._made.get(key), self._file.version()
        if version != self._read_of:
            self._read.clear()
            self._read_of = version
        # What is written after that is another version: the row that is read now is never kept for longer than it is true.
        row = made[0] if made is not None and key in self._read else self._row(key)
        if made is None or made[0] != row or self._is_over(*_LIFE(row)):
            made = self._make(key, row)
        self._read.add(key)
        return made[1]

    def invalidate(self, key: str) -> None:
        """Nothing: what is kept is as the file is."""

    def report_failure(self, key: str, generation: int) -> None:
        """Nothing: what is kept is as the file is."""

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        return self._subscribers.add(callback)

    def snapshot(self) -> Snapshot:
        return Snapshot(PROJECT_HOST, self._file.away, time.monotonic() - self._file.heard, 0, self._lookups, self._file.tries)

    async def start(self) -> None:
        with contextlib.suppress(RegistryAway):
            self._write(lambda db: None)
        self._task = background_tasks.run("registry", self._watch, self._log)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        self._handles.close()
        self._file.close()

    # ---- what the host's manager of projects does ----

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
    ) -> Registered:
        """A new run of a project.

        Args:
            http_port: where its server listens on loopback; None if that is not known yet.
            secret: what that server asks of us.
            pid: a process of this machine whose end is the project's end, however it comes.
            replace: False leaves a run that is not over alone.
            start_on_request: while it is stopped, a request for it starts it; None leaves that as it is.

        Raises:
            BadInput: a bad value, the port belongs to another project, or there is a run that is to be left alone.
            RegistryAway
        """
        new_key(key)
        new_credential(secret)
        _check_state(state)
        _check_port(http_port, state)
        birth = start_time(pid) if pid is not None else ""
        if pid is not None and not birth:
            raise BadInput("There is no process with that pid.", "Register the project once its process runs.")

        def work(db: Connection) -> Registered:
            if not replace:
                self._check_over(db, key)
            self._check_claim(db, key, http_port)
            generation = _next_generation(db)
            before = db.execute("select start_on_request from projects where key = ?", (key,)).fetchone() or (False,)
            starts = bool(before[0]) if start_on_request is None else start_on_request
            row = (key, state, http_port, generation, pid, secret, birth, self._boot, starts)
            db.execute("delete from projects where key = ?", (key,))
            db.execute(_INSERT, row)
            self._release(db, key, http_port)
            return Registered(*row[:5], starts)

        return self._write(work)

    def set_state(self, key: str, state: str, generation: int | None = None) -> None:
        """What has become of a run. A project that stops gives its port back.

        Args:
            generation: the run that is meant. News of an earlier run, come late, changes nothing and is a BadInput.

        Raises:
            BadInput, UnknownProject, RegistryAway
        """
        _check_state(state)

        def work(db: Connection) -> None:
            now = _registered(db, key)
            if generation is not None and generation != now.generation:
                raise BadInput("That run of the project is over.", "Nothing needs to be done.")
            if state == "stopped":
                db.execute(f"{_STOP} where key = ?", (key,))
                self._release(db, key)
                return
            if state == "running" and now.http_port is None:
                raise BadInput("The project has no port.", "Register it with the port on which it listens now.")
            number = _next_generation(db) if now.state == "stopped" else now.generation
            new = (state, number, self._boot, key)
            db.execute("update projects set state = ?, generation = ?, boot = ? where key = ?", new)

        self._write(work)

    def unregister(self, key: str) -> None:
        """The project is not on this host any more.

        Raises:
            UnknownProject, RegistryAway
        """

        def work(db: Connection) -> bool:
            self._release(db, key)
            return db.execute("delete from projects where key = ?", (key,)).rowcount > 0

        if not self._write(work):
            raise UnknownProject(key, PROJECT_HOST)

    def lease_port(self, key: str, ports: Iterable[range]) -> int:
        """A port on which nobody listens, for a project that is about to start; its own again if it has one still.

        It is given back when the project stops or is unregistered.

        Raises:
            BadInput: a bad key.
            NoPort, RegistryAway
        """
        new_key(key)
        wanted = [port for numbers in ports for port in numbers if _FIRST_UNPRIVILEGED <= port <= 65535]

        def work(db: Connection) -> int:
            mine = db.execute("select port from leases where key = ? and released is null", (key,)).fetchall()
            for (port,) in mine:
                if port in wanted and is_free(port):
                    return int(port)
            taken = {port for (port,) in db.execute("select port from leases union select http_port from projects")}
            free = [port for port in wanted if port not in taken]
            for port in random.sample(free, min(_TRIES, len(free))):
                if is_free(port):
                    db.execute("insert into leases values (?, ?, ?, null)", (port, key, self._boot))
                    return port
            raise NoPort()

        return self._write(work)

    def list(self) -> list[Registered]:
        """All projects of this host, whether they run or not.

        Raises:
            RegistryAway
        """
        query = f"select {_COLUMNS} from projects order by key"  # noqa: S608 (our own text)
        rows = self._file.read(lambda db: db.execute(query).fetchall())
        return [
            Registered(key, "stopped", None, generation, None, starts == 1)
            if self._is_over(pid, birth, its_boot)
            else Registered(key, state, port, generation, pid, starts == 1)
            for key, state, port, generation, pid, _, birth, its_boot, starts in rows
        ]

    # ---- inside ----

    def _row(self, key: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self._file.read(lambda db: db.execute(_ONE, (key,)).fetchone())
        if row is None:
            raise UnknownProject(key, PROJECT_HOST)
        return row

    def _make(self, key: str, row: tuple[Any, ...]) -> tuple[tuple[Any, ...], Target]:
        target = self._target(*row)
        if len(self._made) >= _MOST_MADE:
            self._made.clear()
            self._read.clear()
        self._made[key] = row, target
        return self._made[key]

    def _target(
        self, key: str, state: Any, port: Any, generation: Any, pid: Any, secret: Any, birth: str, its_boot: str, starts: Any
    ) -> Target:
        if state == "stopped" or self._is_over(pid, birth, its_boot):
            raise ProjectStopped(PROJECT_HOST, on_request=starts == 1)
        if state == "starting":
            raise ProjectStarting(PROJECT_HOST)
        if state != "running" or not _is_port(port) or not is_credential(secret) or type(generation) is not int:
            self._log.error("portproxy: the registry's row of project %s is damaged; it counts as stopped", key)
            raise ProjectStopped(PROJECT_HOST)
        return Target(key, "http", "127.0.0.1", port, secret, generation)

    def _is_over(self, pid: Any, birth: str, its_boot: str) -> bool:
        return its_boot != self._boot or (pid is not None and (type(pid) is not int or not self._handles.is_running(pid, birth)))

    def _check_over(self, db: Connection, key: str) -> None:
        row = db.execute(f"{_ROW} where key = ?", (key,)).fetchone()
        if row is not None and row[1] != "stopped" and not self._is_over(row[4], *row[6:]):
            raise BadInput(f"The project '{key}' is {row[1]} already.", "Stop it first.")

    def _check_claim(self, db: Connection, key: str, port: int | None) -> None:
        """Refuse a port that another project has; one whose process has ended loses it."""
        rows = db.execute(f"{_ROW} where http_port = ? and key <> ?", (port, key)).fetchall()
        for other, _, _, _, pid, _, birth, its_boot in rows:
            if not self._is_over(pid, birth, its_boot):
                raise _belongs(port, other)
            db.execute(f"{_STOP} where key = ?", (other,))
            self._release(db, other)
        lent = db.execute("select key from leases where port = ? and key <> ? and released is null", (port, key)).fetchone()
        if lent is not None:
            raise _belongs(port, lent[0])

    def _release(self, db: Connection, key: str, but: int | None = None) -> None:
        db.execute(
            "update leases set released = ? where key = ? and released is null and port is not ?", (time.monotonic(), key, but)
        )

    def _tidy(self, db: Connection) -> None:
        """Nothing of an earlier boot runs, and what has cooled down is free. Wall clocks have no say in it."""
        now = time.monotonic()
        db.execute(f"{_STOP} where boot <> ? and state <> 'stopped'", (self._boot,))
        db.execute(
            "delete from leases where boot <> ? or released > ? or released <= ?", (self._boot, now, now - self._cool_down)
        )

    def _write(self, work: Callable[[Connection], T]) -> T:
        def tidied(db: Connection) -> T:
            self._tidy(db)
            return work(db)

        result = self._file.write(tidied)
        with contextlib.suppress(RegistryAway):
            self._tell_changes()
        return result

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(RegistryAway):
                version = self._file.version()
                if version != self._marker:
                    self._tell_changes()
                    self._marker = version
            await asyncio.sleep(_WATCH)

    def _tell_changes(self) -> None:
        rows = self._file.read(lambda db: db.execute("select key, generation, state, http_port from projects").fetchall())
        before, self._seen = self._seen, {key: tuple(rest) for key, *rest in rows}
        self._subscribers.tell(sorted(k for k in before.keys() | self._seen.keys() if before.get(k) != self._seen.get(k)))


def _registered(db: Connection, key: str) -> Registered:
    row = db.execute(f"{_ROW} where key = ?", (key,)).fetchone()
    if row is None:
        raise UnknownProject(key, PROJECT_HOST)
    return Registered(*row[:5])


def _next_generation(db: Connection) -> int:
    db.execute("update counter set generation = generation + 1")
    return int(db.execute("select generation from counter").fetchone()[0])


def _belongs(port: int | None, key: str) -> BadInput:
    return BadInput(f"Port {port} belongs to the project '{key}'.", "Stop that project first, or take another port.")


def _check_state(state: object) -> None:
    if state not in _STATES:
        raise BadInput("This is no state of a project.", f"Use one of: {', '.join(_STATES)}.")


def _check_port(port: object, state: str) -> None:
    if port is None and state == "running":
        raise BadInput("A project that runs has a port.", "Give the port on which its server listens.")
    if port is not None and (state == "stopped" or not _is_port(port)):
        raise BadInput("This is no port for the project.", "Give a whole number from 1 to 65535, and none for a stopped project.")


def _is_port(port: object) -> bool:
    return type(port) is int and 0 < port < 65536
