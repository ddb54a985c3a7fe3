"""A service: what is known of a process that was started from a template, or of what an agent has attached."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from .hooks import Endpoint
from .logs import Log
from .templates import Template

ServiceState = Literal["starting", "up", "unhealthy", "stopping", "down", "failed"]


@dataclass(eq=False)
class Service:
    """A process started from a template, or what is left of it.

    Attributes:
        prefix: path of its URL, without a final slash.
        since: time of the change to its state, in seconds since 1970. It grows with each change, also when the clock is set back:
            responses and events of the API may arrive in any order.
        exit_code: of the last run; None while it runs.
        end_reason: why its run is being stopped, if that is a failure: it was not ready in time, or unhealthy.
        log_offset: bytes of the log that earlier runs have written.
        last_used: monotonic time of the last request, or of the last byte in a tunnel.
        needs: the services that must be ready before its program is started.
        started_by: the user who has started it; empty if it was started by itself.
        kernel: the kernel spec in whose environment it runs; empty for the server's own.
        is_removed: the project files of its folder no longer have it.
        agent: the name of the agent that has attached it; empty for a process of this server.
        detach: ends the attachment, and reports that it is down.
    """

    name: str
    template: Template
    arguments: Mapping[str, str]
    prefix: str
    endpoint: Endpoint
    log: Log
    state: ServiceState = "starting"
    since: float = field(default_factory=time.time)
    error: str = ""
    exit_code: int | None = None
    end_reason: str = ""
    log_offset: int = 0
    last_used: float = field(default_factory=time.monotonic)
    process: asyncio.subprocess.Process | None = None
    task: asyncio.Task[None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    stop_requested: asyncio.Event = field(default_factory=asyncio.Event)
    needs: tuple[Service, ...] = ()
    started_by: str = ""
    kernel: str = ""
    is_removed: bool = False
    agent: str = ""
    detach: Callable[[], None] = lambda: None

    def set_state(self, state: ServiceState, error: str = "") -> bool:
        """Returns False if it was in that state already, with the same error."""
        if (state, error) == (self.state, self.error):
            return False
        self.state, self.error, self.since = state, error, max(time.time(), self.since + 1e-6)
        self.changed.set()
        self.changed = asyncio.Event()
        return True

    def touch(self) -> None:
        """Record a use: the idle time starts again."""
        self.last_used = time.monotonic()

    def last_lines(self, count: int = 20) -> list[str]:
        """The last lines of the output of its last run."""
        return self.log.last_lines(count, self.log_offset)

    def write_event(self, text: str) -> None:
        """Write a line with the time into its log: what happened to an attached service, whose output is elsewhere."""
        self.log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n".encode())

    def reason(self, *, with_output: bool = True) -> str:
        """Why it is in its state, which may quote its output; else its exit code alone."""
        if with_output or self.exit_code is None:
            return self.error if with_output else ""
        return f"It ended with exit code {self.exit_code}."

    async def wait_for_stop(self, seconds: float) -> bool:
        """Wait, at most until it is to be stopped; True in that case."""
        try:
            await asyncio.wait_for(self.stop_requested.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True

    @property
    def alive(self) -> bool:
        return self.state in ("starting", "up", "unhealthy", "stopping")
