"""Ends what a login has opened (tunnels, responses in flight) when the login ends.

A login is registered by its first `watch` and removed when all that it has opened has closed, or when it has ended.
One task checks all logins once per interval; `watch` starts it, and it returns when no login is left. A check that fails or takes
too long ends nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from ..system import background_tasks
from ..upstream.closable import Closable, CloseCode

CHECK_INTERVAL = 20.0  # s
CHECK_TIMEOUT = 8.0  # s; an ended login is noticed within the sum of both, which is less than 30 s
IsValid = Callable[[], Awaitable[bool]]


@runtime_checkable
class HasLoginAge(Protocol):
    """An identity provider that has logins checked by another server (JupyterHub).

    Attributes:
        login_age: seconds for which a result is used.
    """

    login_age: float


@dataclass(slots=True)
class _Login:
    is_valid: IsValid
    open: set[Closable] = field(default_factory=set)


class Logins:
    """The logins that have something open.

    Args:
        interval: seconds between two checks of one login.
        timeout: seconds for one check.
    """

    def __init__(self, log: logging.Logger, interval: float = CHECK_INTERVAL, timeout: float = CHECK_TIMEOUT) -> None:
        self._log, self.interval, self._timeout = log, interval, timeout
        self._logins: dict[Hashable, _Login] = {}
        self._task: asyncio.Task[None] | None = None

    def watch(self, key: Hashable, make_check: Callable[[], IsValid], open_: Closable) -> None:
        """End `open_` (1008) when its login ends.

        Args:
            key: of the login.
            make_check: makes the check of the login; called once per login.
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
        """End all that a login has opened (1008)."""
        login = self._logins.pop(key, None)
        for open_ in list(login.open) if login is not None else ():
            open_.shut_down(CloseCode.POLICY_VIOLATION)

    def close(self) -> None:
        """Stop checking. What is open is left to the gateway."""
        if self._task is not None:
            self._task.cancel()

    async def _check(self) -> None:
        while self._logins:
            await asyncio.sleep(self.interval)
            await asyncio.gather(*(self._check_one(key, login) for key, login in list(self._logins.items())))

    async def _check_one(self, key: Hashable, login: _Login) -> None:
        try:
            if await asyncio.wait_for(login.is_valid(), self._timeout):
                return
        except asyncio.TimeoutError:
            return
        except Exception:
            self._log.exception("portproxy: a login could not be checked")
            return
        if self._logins.get(key) is login:
            self.end(key)
