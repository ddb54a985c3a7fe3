"""Starts projects of this host by the operator's command: one start at a time for each project, a few at once in all.

States of a project here: starting (in `_starting`, from `start` until it is `running` in the registry, a request has found it
running, the command fails or the time is up), failed (in `_failures`, until a start succeeds), or neither. The command outlives
the requests and this server. Its standard error goes to the server's log.
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

_POLL_INTERVAL = 0.2  # seconds between two checks of whether a project runs
_REAP_INTERVAL = 2.0  # seconds between two checks for ended commands
_MAX_STARTS = 4  # commands at once whose project does not run yet
_PAUSE = 60.0  # seconds after a failure, in which requests alone start nothing


class Starter:
    """The starts of this host. Times are seconds.

    Args:
        command: see `check_command`.
        base_url: of this server; its projects are below it.
        variables: added to this server's environment for the command.
        is_running: True once a project is `running` in the registry.
        timeout: for one start.
    """

    def __init__(
        self,
        command: Sequence[str],
        base_url: str,
        variables: Mapping[str, str],
        is_running: Callable[[str], Awaitable[bool]],
        log: logging.Logger,
        *,
        timeout: float = 120.0,
    ) -> None:
        check_command(command)
        self._command, self._base_url, self._is_running, self._log = list(command), base_url, is_running, log
        self._timeout = timeout
        scripts = str(Path(sys.executable).parent)  # for `jupyter`, if PATH has none
        self._variables = {**os.environ, "PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), scripts]), **variables}
        self._slots = asyncio.Semaphore(_MAX_STARTS)
        self._starting: dict[str, asyncio.Event] = {}  # key -> set when a request has found it running
        self._failures: dict[str, tuple[str, float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._children: list[subprocess.Popen[bytes]] = []
        self._reaper: asyncio.Task[None] | None = None

    def start(self, key: str) -> None:
        """Start a project in the background, unless it is starting already."""
        if key in self._starting:
            return
        found_running = self._starting[key] = asyncio.Event()
        if self._reaper is None:
            self._reaper = background_tasks.run("reaper of starts", self._reap, self._log)
        task = asyncio.get_running_loop().create_task(self._start(key, found_running), name=f"portproxy start of {key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def is_starting(self, key: str) -> bool:
        return key in self._starting

    def found_running(self, key: str) -> None:
        """End the start of a project that a request has found running: by the next check it may have stopped again."""
        if (event := self._starting.pop(key, None)) is not None:
            event.set()

    def failure(self, key: str) -> str:
        """A sentence on the failure of the last start; empty if it did not fail."""
        return self._failures.get(key, ("", 0.0))[0]

    def failed_lately(self, key: str) -> bool:
        return key in self._failures and time.monotonic() - self._failures[key][1] < _PAUSE

    async def close(self) -> None:
        """Stop watching. Started commands go on."""
        tasks = self._tasks | ({self._reaper} if self._reaper is not None else set())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for process in self._children:
            if process.poll() is None:
                process.returncode = 0  # else Popen warns of a process that still runs

    async def _start(self, key: str, found_running: asyncio.Event) -> None:
        process = None
        try:
            async with self._slots:
                self._log.info("portproxy: starting project %s", key)
                process = self._spawn(key)
                problem = await self._outcome(key, process, found_running)
        except OSError as error:
            self._log.error("portproxy: the command that starts projects cannot be run: %s", error)
            problem = "The command that starts projects cannot be run."
        finally:
            if not found_running.is_set():
                del self._starting[key]
            if process is not None:
                self._children.append(process)
        if problem:
            self._log.error("portproxy: project %s did not start: %s", key, problem)
            self._failures[key] = (problem, time.monotonic())
        else:
            self._failures.pop(key, None)

    async def _reap(self) -> None:
        """Collect commands that have ended, so that they leave no zombie processes."""
        while True:
            self._children = [process for process in self._children if process.poll() is None]
            await asyncio.sleep(_REAP_INTERVAL)

    def _spawn(self, key: str) -> subprocess.Popen[bytes]:
        command = [argument.format(key=key, base_url=self._base_url) for argument in self._command]
        devnull = subprocess.DEVNULL
        return subprocess.Popen(command, env=self._variables, stdin=devnull, stdout=devnull, start_new_session=True)  # noqa: S603

    async def _outcome(self, key: str, process: subprocess.Popen[bytes], found_running: asyncio.Event) -> str:
        """A sentence on the failure; empty once the project runs. A command may end with success long before that."""
        end = time.monotonic() + self._timeout
        while time.monotonic() < end:
            if found_running.is_set() or await self._is_running(key):
                return ""
            if process.poll():
                return f"Its last start failed with exit code {process.returncode}."
            await asyncio.sleep(_POLL_INTERVAL)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        return f"It was not ready within {self._timeout:g} s of its last start."
