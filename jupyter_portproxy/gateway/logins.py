"""What is open (tunnels, answers under way) ends with the login by which it was opened.

A login is watched from the first thing that it has opened to the end of the last one. One task asks for all logins, each once per
interval: `watch` starts it, it ends when nothing is open.

Rule of this file: a question that fails or takes too long ends nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field

from ..system import background_tasks
from ..upstream.closable import Closable, CloseCode

CHECK_INTERVAL = 20.0  # s
ANSWER_TIMEOUT = 8.0  # s; an ended login is noticed within both, which is less than 30 s
IsValid = Callable[[], Awaitable[bool]]


@dataclass(slots=True)
class _Login:
    is_valid: IsValid
    open: set[Closable] = field(default_factory=set)


class Logins:
    """Watches logins.

    Args:
        interval: seconds between two questions for one login.
    """

    def __init__(self, log: logging.Logger, interval: float = CHECK_INTERVAL) -> None:
        self._log, self.interval = log, interval
        self._logins: dict[Hashable, _Login] = {}
        self._task: asyncio.Task[None] | None = None

    def watch(self, key: Hashable, make_check: Callable[[], IsValid], open_: Closable) -> None:
        """End `open_` (1008) when its login ends.

        Args:
            key: of the login.
            make_check: called for the first thing that a login opens; what it returns is asked.
        """
        login = self._logins.get(key)
        if login is None:
            login = self._logins[key] = _Login(make_check())
        login.open.add(open_)

        def closed(open_: Closable) -> None:
            login.open.discard(open_)
            if not login.open and self._logins.get(key) is login:
                del self._logins[key]

        open_.add_close_callback(closed)
        if self._task is None or self._task.done():
            self._task = background_tasks.run("logins", self._check, self._log)

    def end(self, key: Hashable) -> None:
        """A login has ended."""
        login = self._logins.pop(key, None)
        for open_ in list(login.open) if login is not None else ():
            open_.shut_down(CloseCode.POLICY_VIOLATION)

    def close(self) -> None:
        """Ask no more; what is open is the gateway's to close."""
        if self._task is not None:
            self._task.cancel()

    async def _check(self) -> None:
        while self._logins:
            await asyncio.sleep(self.interval)
            await asyncio.gather(*(self._check_one(key, login) for key, login in list(self._logins.items())))

    async def _check_one(self, key: Hashable, login: _Login) -> None:
        try:
            if await asyncio.wait_for(login.is_valid(), ANSWER_TIMEOUT):
                return
        except asyncio.TimeoutError:
            return
        except Exception:
            self._log.exception("portproxy: a login could not be checked")
            return
        if self._logins.get(key) is login:
            self.end(key)
