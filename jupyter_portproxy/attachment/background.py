"""An agent in a thread of its own, with an event loop of its own: for notebooks, whose loop runs already."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from urllib.parse import urljoin

from ..errors import CliError
from ..upstream.websocket_client import ServerAccess
from .agent import Agent, Offer

_STOP_TIMEOUT = 5.0  # s


class Attachment:
    """Ports of this machine that are attached to a Jupyter server, until `close` or the end of this process.

    Args:
        name: of the services, before `-PORT`.
        timeout: seconds for the first attempt. A server that does not answer in time is dialled again.

    Raises:
        CliError: nothing can be attached there.
    """

    def __init__(self, access: ServerAccess, offer: Offer, name: str, timeout: float) -> None:
        self.name, self.server = name, access.url
        self.urls: dict[int, str] = {}
        self._offer, self._access = offer, access
        self._status = "It is being attached."
        self._first_attempt: Future[None] = Future()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"portproxy attach {name}", daemon=True)
        self._thread.start()
        try:
            with contextlib.suppress(FutureTimeoutError):
                self._first_attempt.result(timeout)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Detach; a second call does nothing."""
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_STOP_TIMEOUT)

    def __repr__(self) -> str:
        lines = [f"{self.name}-{port}: {url}" for port, url in sorted(self.urls.items())]
        return "\n".join([*lines, self._status] if self._status else lines)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        agent = Agent(self._access, self._offer, self._report, self._set_urls)
        try:
            self._loop.run_until_complete(agent.run(self._stop))
            self._status = "It is detached."
        except CliError as error:
            self._status = str(error)
            self._end_first_attempt(error)
        finally:
            self._end_first_attempt(None)
            self._loop.close()

    def _report(self, sentence: str) -> None:
        self._status = sentence

    def _set_urls(self, addresses: dict[int, str]) -> None:
        self.urls = {port: urljoin(self.server, path) for port, path in addresses.items()}
        self._status = ""
        self._end_first_attempt(None)

    def _end_first_attempt(self, error: Exception | None) -> None:
        if not self._first_attempt.done():
            self._first_attempt.set_exception(error) if error is not None else self._first_attempt.set_result(None)
