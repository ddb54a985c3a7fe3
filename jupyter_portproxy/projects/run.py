"""One run of a project's Jupyter server on this host, from its claim in the registry to its end.

States, in the registry: `starting` with the pid of this program, then `running` with the server's own pid, at last `stopped`. It
is `running` only after the server itself has opened the port and has accepted the project's secret, which is passed in the
server's environment and never on a command line.
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
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import psutil

from ..auth.project_identity import IDENTITY_PROVIDER
from ..errors import BadInput, CliError, RegistryAway, UnknownProject
from ..protocol.credentials import SECRET_VARIABLE, remove_secret_variables
from ..services.listeners import ports_of
from ..services.ports import is_free
from .registry.database import retry_while_locked
from .registry.leases import RegisteredProject, Registry

_GUARD = Path(__file__).parents[1] / "services" / "guard.py"
_STOP_TIMEOUT = 10  # seconds between SIGTERM and SIGKILL
_START_TIMEOUT = 60.0  # seconds
_ALL_PORTS = ("--PortProxy.allowed_ports=1-65535",)  # the lists of the hub and of the project host decide
_MAX_ATTEMPTS = 3
_POLL_INTERVAL = 0.1


class Run:
    """A run of a project.

    The server runs below a guard (see `guard`), in a session of its own. If this program is killed, the guard's pipe closes, and
    the guard ends the server with all its descendants: SIGTERM, after 10 s SIGKILL. Until then the project is running for the
    registry, and afterwards it is over, because its pid is gone.

    Args:
        arguments: additional ones for `jupyter server`.
        on_ready: called with the port and the server's pid once it answers.
        base_url: of the project host; the project is below it.
        start_on_request: see `Registry.register`.
    """

    def __init__(
        self,
        registry: Registry,
        key: str,
        ports: Sequence[range],
        arguments: Sequence[str],
        on_ready: Callable[[int, int], None],
        base_url: str = "/",
        start_on_request: bool | None = None,
    ) -> None:
        self._registry, self._key, self._ports, self._arguments, self._on_ready = registry, key, ports, arguments, on_ready
        self._path, self._start_on_request = f"{base_url}{key}/", start_on_request
        self._secret = secrets.token_urlsafe(32)
        self._stop = asyncio.Event()
        self._generation = 0

    async def run(self) -> int:
        """Run until the server ends or this program gets a signal. Returns the server's exit code.

        Raises:
            BadInput: the project starts or runs already.
            CliError, NoPort, RegistryUnavailable
        """
        if os.name != "posix":
            raise CliError("Projects are run on POSIX systems only.")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
                asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        await self._register("starting", None, os.getpid(), replace=False)
        try:
            for _ in range(_MAX_ATTEMPTS):
                if (code := await self._attempt()) is not None:
                    return code
            raise CliError(f"The project '{self._key}' was not started: {_MAX_ATTEMPTS} ports were taken by others meanwhile.")
        finally:
            await self._set_stopped()

    async def _attempt(self) -> int | None:
        """The exit code; None if another program has taken the port meanwhile."""
        port = await retry_while_locked(lambda: self._registry.lease_port(self._key, self._ports))
        await self._register("starting", port, os.getpid())
        guard = await self._spawn(port)
        try:
            if await self._becomes_ready(guard, port):
                await _first(guard.wait(), self._stop.wait())
                await self._set_stopped()  # before the server ends, so that no more requests are sent to it
            elif not self._stop.is_set():
                if not is_free(port):
                    return None
                raise CliError(f"The server of '{self._key}' ended with exit code {guard.returncode} before it answered.")
        finally:
            if guard.stdin is not None:
                guard.stdin.close()  # which makes the guard stop the server
            code = await guard.wait()
        return code

    async def _spawn(self, port: int) -> asyncio.subprocess.Process:
        command = [
            *(sys.executable, "-m", "jupyter", "server", *self._arguments),
            f"--ServerApp.base_url={self._path}",
            f"--ServerApp.identity_provider_class={IDENTITY_PROVIDER}",
            "--ServerApp.trust_xheaders=True",  # all requests come from the project host
            *(_ALL_PORTS if not any("PortProxy.allowed_ports" in each for each in self._arguments) else ()),
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={port}",
            "--ServerApp.port_retries=0",
            "--no-browser",
            *(["--allow-root"] if os.geteuid() == 0 else []),
        ]
        guard = [sys.executable, "-I", "-S", str(_GUARD), str(_STOP_TIMEOUT), "-"]
        environment = {**remove_secret_variables(os.environ), SECRET_VARIABLE: self._secret}
        return await asyncio.create_subprocess_exec(
            *guard, *command, stdin=asyncio.subprocess.PIPE, stdout=sys.stderr, env=environment, start_new_session=True
        )

    async def _becomes_ready(self, guard: asyncio.subprocess.Process, port: int) -> bool:
        """True once it is registered as running; False if it has ended, or this program got a signal.

        Raises:
            CliError: it does not answer in time, or refuses the project's secret.
        """
        end, server = time.monotonic() + _START_TIMEOUT, None
        while guard.returncode is None and not self._stop.is_set():
            server = server or _child(guard.pid)
            # The secret is not sent to another program that listens on the port.
            if server is not None and port in ports_of(server) and await self._answers(port):
                await self._register("running", port, server.pid)
                self._on_ready(port, server.pid)
                return True
            if time.monotonic() > end:
                raise CliError(f"The server of '{self._key}' did not answer at {self._path}api within {_START_TIMEOUT:g} s.")
            await _first(guard.wait(), asyncio.sleep(_POLL_INTERVAL))
        return False

    async def _answers(self, port: int) -> bool:
        for path in ("api", "api/status"):  # the second one requires a login
            status = await asyncio.to_thread(_status, f"http://127.0.0.1:{port}{self._path}{path}", self._secret)
            if status in (401, 403):
                raise CliError("The server refuses the project host: its authorizer must allow it to read the status.")
            if status != 200:
                return False
        return True

    async def _register(self, state: str, port: int | None, pid: int, *, replace: bool = True) -> None:
        def work() -> RegisteredProject:
            return self._registry.register(
                self._key, port, self._secret, pid, state=state, replace=replace, start_on_request=self._start_on_request
            )

        self._generation = (await retry_while_locked(work)).generation

    async def _set_stopped(self) -> None:
        # Another run may have replaced this one, or the file may be gone: then the end of the process ends the run.
        with contextlib.suppress(BadInput, UnknownProject, RegistryAway):
            await retry_while_locked(lambda: self._registry.set_state(self._key, "stopped", self._generation))


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait for the first of them."""
    tasks = {asyncio.ensure_future(wait) for wait in waits}
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def _child(pid: int) -> psutil.Process | None:
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children():
            return child
    return None


def _status(url: str, secret: str) -> int:
    """The status of the response; 0 if there is none. Proxies of the environment are not used for loopback."""
    request = Request(url, headers={"Authorization": f"token {secret}"})  # noqa: S310 (our own URL)
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=2) as response:
            return int(response.status)
    except HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0
