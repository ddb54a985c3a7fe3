"""Starts projects of this host when somebody asks for them: one start at a time for each project, a few at once in all.

Rule of this file: a start is a command of the operator's, and the registry alone says what has become of it. The command is no
child of the requests: it lives on when they, or this server, have ended. What it says goes to the server's log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from ..config import check_command
from ..system import background_tasks

_MOST = 4  # commands at once that have not brought their project up yet
_PATIENCE = 120.0  # seconds for which a project may start
_PAUSE = 60.0  # seconds after a failure in which a request alone starts nothing
_LOOK = 0.2
_REAP = 2.0


class Starter:
    """The starts of this host.

    Args:
        command: see `projects.check_command`.
        base_url: of this server, below which its projects are.
        variables: of its environment, besides this server's own.
        runs: true once the registry says that a project runs.
    """

    def __init__(
        self,
        command: Sequence[str],
        base_url: str,
        variables: Mapping[str, str],
        runs: Callable[[str], Awaitable[bool]],
        log: logging.Logger,
    ) -> None:
        check_command(command)
        self._command, self._base_url, self._runs, self._log = list(command), base_url, runs, log
        beside = str(Path(sys.executable).parent)  # `jupyter` is the one that runs here, unless PATH has another
        self._variables = {**os.environ, "PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), beside]), **variables}
        self._turns = asyncio.Semaphore(_MOST)
        self._starting: set[str] = set()
        self._failures: dict[str, tuple[str, float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._children: list[subprocess.Popen[bytes]] = []
        self._reaper: asyncio.Task[None] | None = None

    def start(self, key: str) -> None:
        """Begin to start a project, unless that has begun already."""
        if key in self._starting:
            return
        self._starting.add(key)
        if self._reaper is None:
            self._reaper = background_tasks.run("reaper of starts", self._reap, self._log)
        task = asyncio.get_running_loop().create_task(self._start(key), name=f"portproxy start of {key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def is_starting(self, key: str) -> bool:
        return key in self._starting

    def failure(self, key: str) -> str:
        """What became of the last start, as a sentence; empty if it did not fail."""
        return self._failures.get(key, ("", 0.0))[0]

    def failed_lately(self, key: str) -> bool:
        return key in self._failures and time.monotonic() - self._failures[key][1] < _PAUSE

    async def close(self) -> None:
        """Leave what has been started alone."""
        tasks = self._tasks | ({self._reaper} if self._reaper is not None else set())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for process in self._children:
            if process.poll() is None:
                process.returncode = 0  # or Popen complains about a process that lives on

    async def _start(self, key: str) -> None:
        process = None
        try:
            async with self._turns:
                self._log.info("portproxy: project %s is started", key)
                process = self._spawn(key)
                problem = await self._outcome(key, process)
        except OSError as error:
            self._log.error("portproxy: the command that starts projects cannot be run: %s", error)
            problem = "The command that starts projects cannot be run."
        finally:
            self._starting.discard(key)
            if process is not None:
                self._children.append(process)
        if problem:
            self._log.error("portproxy: project %s did not start: %s", key, problem)
            self._failures[key] = (problem, time.monotonic())
        else:
            self._failures.pop(key, None)

    async def _reap(self) -> None:
        """No zombie stays of a command that has ended."""
        while True:
            self._children = [process for process in self._children if process.poll() is None]
            await asyncio.sleep(_REAP)

    def _spawn(self, key: str) -> subprocess.Popen[bytes]:
        command = [argument.format(key=key, base_url=self._base_url) for argument in self._command]
        devnull = subprocess.DEVNULL
        return subprocess.Popen(command, env=self._variables, stdin=devnull, stdout=devnull, start_new_session=True)  # noqa: S603

    async def _outcome(self, key: str, process: subprocess.Popen[bytes]) -> str:
        """A sentence on what went wrong; empty once the project runs. A command may end well before that."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            if await self._runs(key):
                return ""
            if process.poll():
                return f"Its last start failed with exit code {process.returncode}."
            await asyncio.sleep(_LOOK)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        return f"It was not ready within {_PATIENCE:g} s of its last start."
