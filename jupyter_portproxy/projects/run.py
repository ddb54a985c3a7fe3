"""One run of a project's Jupyter server on this host, in the registry from its first moment to its last.

Rule of this file: the registry says `running` only of a server that listens by itself and takes the project's secret, and the
secret stands in the server's environment, never on a command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import psutil

from ..auth.project_identity import IDENTITY_PROVIDER, SECRET_VARIABLE
from ..errors import BadInput, CliError, RegistryAway, UnknownProject
from ..protocol.credentials import remove_secret_variables
from ..services.ports import is_free
from .registry.leases import Registered, Registry

_GUARD = Path(__file__).parents[1] / "services" / "guard.py"
_GRACE = 10  # seconds between SIGTERM and SIGKILL
_READY = 60.0  # seconds
_EVERY_PORT = ("--PortProxy.allowed_ports=1-65535",)  # the lists of the hub and of the project host have decided
_TRIES = 3
_LOOK = 0.1
_BUSY, _AGAIN = 5.0, 0.3  # seconds for which a registry that another process has locked is tried, and between two tries
T = TypeVar("T")


class Run:
    """A run of a project, from its claim in the registry to its end.

    The server runs below a guard (see `guard`), in a session of its own. While the server starts, the registry has the pid of
    this program; once it runs, the server's own. If this program is killed (SIGKILL), it can set nothing any more. The guard
    then sees its pipe end, and ends the server and all that descends from it: SIGTERM, after 10 s SIGKILL. Until then the
    registry counts the project as running, which it is; from then on as stopped, because that pid is gone.

    Args:
        arguments: more of them, for `jupyter server`.
        start_on_request: see `Registry.register`.
        tell: is called with the port and the server's pid once it answers.
        base_url: of the project host, below which the project is.
    """

    def __init__(
        self,
        registry: Registry,
        key: str,
        ports: Sequence[range],
        arguments: Sequence[str],
        tell: Callable[[int, int], None],
        base_url: str = "/",
        start_on_request: bool | None = None,
    ) -> None:
        self._registry, self._key, self._ports, self._arguments, self._tell = registry, key, ports, arguments, tell
        self._path, self._starts = f"{base_url}{key}/", start_on_request
        self._secret = secrets.token_urlsafe(32)
        self._stop = asyncio.Event()
        self._generation = 0

    async def run(self) -> int:
        """Until the server ends or a signal asks for its end; returns the server's exit code.

        Raises:
            BadInput: the project starts or runs already.
            CliError, NoPort, RegistryAway
        """
        if os.name != "posix":
            raise CliError("Projects are run on POSIX systems only.")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
                asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        await self._register("starting", None, os.getpid(), replace=False)
        try:
            for _ in range(_TRIES):
                if (code := await self._attempt()) is not None:
                    return code
            raise CliError(f"The project '{self._key}' was not started: {_TRIES} ports were taken by others meanwhile.")
        finally:
            await self._set_stopped()

    async def _attempt(self) -> int | None:
        """The exit code; None if somebody else has taken the port meanwhile."""
        port = await patiently(lambda: self._registry.lease_port(self._key, self._ports))
        await self._register("starting", port, os.getpid())
        guard = await self._spawn(port)
        try:
            if await self._becomes_ready(guard, port):
                await _first(guard.wait(), self._stop.wait())
                await self._set_stopped()  # first of all: nothing more is sent there
            elif not self._stop.is_set():
                if not is_free(port):
                    return None
                raise CliError(f"The server of '{self._key}' ended with exit code {guard.returncode} before it answered.")
        finally:
            code = await _end(guard)
        return code

    async def _spawn(self, port: int) -> asyncio.subprocess.Process:
        command = [
            *(sys.executable, "-m", "jupyter", "server", *self._arguments),
            f"--ServerApp.base_url={self._path}",
            f"--ServerApp.identity_provider_class={IDENTITY_PROVIDER}",
            "--ServerApp.trust_xheaders=True",  # what comes, comes from the project host
            *(_EVERY_PORT if not any("PortProxy.allowed_ports" in each for each in self._arguments) else ()),
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={port}",
            "--ServerApp.port_retries=0",
            "--no-browser",
            *(["--allow-root"] if os.geteuid() == 0 else []),
        ]
        guard = [sys.executable, "-I", "-S", str(_GUARD), str(_GRACE), "-"]
        environment = {**remove_secret_variables(os.environ), SECRET_VARIABLE: self._secret}
        return await asyncio.create_subprocess_exec(
            *guard, *command, stdin=asyncio.subprocess.PIPE, stdout=sys.stderr, env=environment, start_new_session=True
        )

    async def _becomes_ready(self, guard: asyncio.subprocess.Process, port: int) -> bool:
        """True once it runs and the registry says so; False if it has ended, or is to.

        Raises:
            CliError: it does not answer in time, or not to the project's secret.
        """
        end, server = time.monotonic() + _READY, None
        while guard.returncode is None and not self._stop.is_set():
            server = server or _child(guard.pid)
            # Who else listens on the port is not told the secret.
            if server is not None and _listens(server, port) and await self._answers(port):
                await self._register("running", port, server.pid)
                self._tell(port, server.pid)
                return True
            if time.monotonic() > end:
                raise CliError(f"The server of '{self._key}' did not answer at {self._path}api within {_READY:g} s.")
            await _first(guard.wait(), asyncio.sleep(_LOOK))
        return False

    async def _answers(self, port: int) -> bool:
        for path in ("api", "api/status"):  # the second one asks for a login
            status = await asyncio.to_thread(_status, f"http://127.0.0.1:{port}{self._path}{path}", self._secret)
            if status in (401, 403):
                raise CliError("The server refuses the project host: its authorizer must allow it to read the status.")
            if status != 200:
                return False
        return True

    async def _register(self, state: str, port: int | None, pid: int, *, replace: bool = True) -> None:
        def work() -> Registered:
            return self._registry.register(
                self._key, port, self._secret, pid, state=state, replace=replace, start_on_request=self._starts
            )

        self._generation = (await patiently(work)).generation

    async def _set_stopped(self) -> None:
        with contextlib.suppress(BadInput, UnknownProject, RegistryAway):  # another run's, or gone; its pid tells in any case
            await patiently(lambda: self._registry.set_state(self._key, "stopped", self._generation))


async def patiently(work: Callable[[], T]) -> T:
    """What `work` on the registry returns; it waits longer for a locked file than a server's loop may.

    Raises:
        RegistryAway
    """
    end = time.monotonic() + _BUSY
    while True:
        try:
            return work()
        except RegistryAway as error:
            if "locked" not in str(error.__context__) or time.monotonic() > end:
                raise
        await asyncio.sleep(_AGAIN)


async def _end(guard: asyncio.subprocess.Process) -> int:
    """The end of its input is the guard's order to stop."""
    if guard.stdin is not None:
        guard.stdin.close()
    return await guard.wait()


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Until one of them is done."""
    tasks = {asyncio.ensure_future(wait) for wait in waits}
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def _child(pid: int) -> psutil.Process | None:
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children():
            return child
    return None


def _listens(process: psutil.Process, port: int) -> bool:
    with contextlib.suppress(psutil.Error):
        connections = getattr(process, "net_connections", None) or process.connections  # psutil < 6
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in connections("tcp"))
    return False


def _status(url: str, secret: str) -> int:
    """The status of the answer; 0 if there is none. Proxies of the environment are not for loopback."""
    request = Request(url, headers={"Authorization": f"token {secret}"})  # noqa: S310 (our own)
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=2) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0
