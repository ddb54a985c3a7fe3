"""Raw TCP from this machine to a Jupyter server: each accepted connection is one WebSocket.

The forwarder has these states. `_watch_server` changes them, which runs after each connection that failed, and from time to time
while there is none:

    SERVING   the server has answered last
    AWAY      it does not answer: it is tried again, with pauses that grow. New connections wait for it for some seconds
    ENDED     the login does not count any more, or the command ends

AWAY begins and ends with one message each. A connection whose WebSocket cannot be opened is reset, as is one that is cut. At most
`MAX_HANDSHAKES` are opened at the same time; the others wait for their turn, and those beyond `max_waiting` are reset at once.

A port that is forwarded has the login of its user: on loopback, connections of other users of this machine are refused (Linux;
other systems do not name the owner of a connection). Root is let through, as it may do anything anyway.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from functools import partial

from tornado.iostream import IOStream
from tornado.locks import Semaphore
from tornado.util import TimeoutError

from ..errors import CliError
from ..protocol.forwards import Forward, Remote
from ..system.socket_owners import NotAnswered, OwnerUnknown, SocketOwners, user_name
from ..upstream.byte_tunnel import PING_INTERVAL, ByteTunnel
from ..upstream.connect import reset_on_close
from ..upstream.websocket_client import (
    MAX_HANDSHAKES,
    NO_DESCRIPTORS,
    TIMEOUT,
    HandshakeError,
    ServerAccess,
    check_login,
    check_websocket,
    open_websocket,
)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0  # s between two attempts to reach a server that is away
_WAIT = 10.0  # s
_MAX_WAITING = 4096  # connections
_REPORT_PERIOD = 1.0  # s
_REPEAT = 10.0  # s after which the same message is printed again
_ACCEPT_PAUSE = 1.0  # s without descriptors
_CLOSE_TIMEOUT = 1.0  # s for the close frames at the end
_RELAY = "portproxy forward"
_SERVICE_RESET = 1011  # the close code for a reset at either side: the server is well
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


Check = Callable[[], Awaitable[None]]  # of the server; it raises a HandshakeError


class ForwarderState(Enum):
    SERVING = auto()
    AWAY = auto()
    ENDED = auto()


@dataclass(frozen=True)
class Messages:
    """Where a forwarder's messages go: `notice` for what people must see, `detail` for each connection."""

    notice: Callable[[str], object]
    detail: Callable[[str], object]


class TcpForwarder:
    """Connections to ports and services of one server.

    Args:
        remote: what is tried after a connection has failed, and while the server is away.
        ping_interval: seconds; see ByteTunnel. While no connection is open, the login is checked as often.
        timeout: seconds for a connection to the server and its handshake.
        wait: seconds that a new connection waits for a server that is away.
        max_waiting: connections without a WebSocket yet; those beyond are refused, with one message a second at most.
    """

    def __init__(
        self,
        access: ServerAccess,
        remote: Remote,
        messages: Messages,
        *,
        ping_interval: float = PING_INTERVAL,
        timeout: float = TIMEOUT,
        wait: float = _WAIT,
        max_waiting: int = _MAX_WAITING,
    ) -> None:
        self._access, self._remote, self._messages = access, remote, messages
        self._ping_interval, self._timeout, self._wait = ping_interval, timeout, wait
        self._max_waiting, self._waiting, self._refused = max_waiting, 0, 0
        self._handshakes = Semaphore(MAX_HANDSHAKES)
        self._report: asyncio.TimerHandle | None = None  # of `_refused`
        self._state = ForwarderState.SERVING
        self._serving = asyncio.Event()  # set while SERVING
        self._serving.set()
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._watch: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._tunnels: set[ByteTunnel] = set()
        self._printed: dict[str, float] = {}
        self._owners = SocketOwners()

    # ---- life ----

    async def wait_ended(self) -> int:
        """Wait until the server refuses the login. Raises: HandshakeError, which says so."""
        while True:
            await asyncio.wait([self._ended], timeout=self._ping_interval)
            if self._ended.done():
                return self._ended.result()
            if not self._tunnels and self._state is ForwarderState.SERVING:
                self._start_watch(partial(check_login, self._access, self._timeout))

    async def close(self) -> None:
        """Cut all connections."""
        self._state = ForwarderState.ENDED
        relays = [task for task in self._tasks if task.get_name() == _RELAY]
        others = [task for task in (*self._tasks, self._watch) if task is not None and task not in relays]
        for task in others:
            task.cancel()
        for tunnel in tuple(self._tunnels):
            tunnel.shut_down()
        if relays:
            await asyncio.wait(relays, timeout=_CLOSE_TIMEOUT)
        for task in relays:
            task.cancel()
        await asyncio.gather(*relays, *others, return_exceptions=True)
        if not self._ended.done():
            self._ended.cancel()
        elif not self._ended.cancelled():
            self._ended.exception()
        self._owners.close()
        if self._report is not None:
            self._report.cancel()
            self._report_refused()

    # ---- listening ----

    def serve(self, listener: socket.socket, forward: Forward) -> None:
        """Accept connections until `close`; the listening socket stays the caller's."""
        self._start(self._accept(listener, forward), f"portproxy listener {forward.local}")

    async def _accept(self, listener: socket.socket, forward: Forward) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as error:  # without a descriptor, or that connection is gone already
                if error.errno in _NO_DESCRIPTORS:
                    self._print_seldom(NO_DESCRIPTORS)
                await asyncio.sleep(_ACCEPT_PAUSE)
                continue
            if not forward.unix_socket and not forward.is_exposed and not self._is_own(sock):
                reset_on_close(sock)
                sock.close()
                continue
            if self._waiting >= self._max_waiting:
                self._refuse(sock)
                continue
            self._waiting += 1
            client = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "a client"
            self._start(self._forward(sock, forward.remote, client), _RELAY)

    def _is_own(self, sock: socket.socket) -> bool:
        """True if this user or root has opened a connection, or if that is not known here."""
        try:
            owner = self._owners.peer_owner(*sock.getsockname()[:2], *sock.getpeername()[:2])
        except NotAnswered:
            return True
        except (OwnerUnknown, OSError):
            return False  # it has ended
        if owner in (os.getuid(), 0):
            return True
        self._print_seldom(f"A connection of another user of this machine ({user_name(owner)}) was refused.")
        return False

    def _refuse(self, sock: socket.socket) -> None:
        """Reset a connection beyond `max_waiting`."""
        reset_on_close(sock)
        sock.close()
        self._refused += 1
        if self._report is None:
            self._report = asyncio.get_running_loop().call_later(_REPORT_PERIOD, self._report_refused)

    def _report_refused(self) -> None:
        self._report, number, self._refused = None, self._refused, 0
        what = "1 connection was" if number == 1 else f"{number:,} connections were"
        self._messages.notice(f"{what} refused, as {self._max_waiting:,} others waited for the server already.")

    def _start(self, work: Awaitable[None], name: str) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        task.set_name(name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- one connection ----

    async def _forward(self, sock: socket.socket, remote: Remote, client: str) -> None:
        stream = IOStream(sock)
        try:
            websocket = await self._open(remote)
        except CliError as error:
            self._print_seldom(f"{remote}: {error}")
            reset_on_close(sock)
            stream.close()
            return
        except BaseException:
            reset_on_close(sock)
            stream.close()
            raise
        finally:
            self._waiting -= 1
        await self.relay(websocket, stream, f"{client} -> {remote}")

    async def relay(self, websocket: IOStream, stream: IOStream, name: str) -> bool:
        """Relay between an open WebSocket and a plain stream until both have closed; False if that was a cut."""
        size, begun = 0, time.monotonic()

        def count(more: int) -> None:
            nonlocal size
            size += more

        closed = asyncio.Event()
        tunnel = ByteTunnel(count, dials=True, ping_interval=self._ping_interval)
        tunnel.add_close_callback(lambda _: closed.set())
        self._tunnels.add(tunnel)
        self._messages.detail(f"{name}: open")
        try:
            await tunnel.connect(websocket, stream)
            await closed.wait()
        except asyncio.CancelledError:
            tunnel.shut_down()
            raise
        finally:
            self._tunnels.discard(tunnel)
            how = "cut" if tunnel.was_cut else "closed"
            self._messages.detail(f"{name}: {how} after {time.monotonic() - begun:.1f} s and {size:,} bytes")
        if tunnel.was_cut and tunnel.close_code != _SERVICE_RESET:
            self._start_watch()
        return not tunnel.was_cut

    async def _open(self, remote: Remote) -> IOStream:
        """A WebSocket to the remote. If the server is away, wait for it once."""
        if self._state is ForwarderState.SERVING:
            try:
                return await self._shake_hands(remote)
            except HandshakeError as error:
                if error.is_login:
                    self._start_watch()
                if not error.is_passing:
                    raise
                self._set_away()
        try:
            await asyncio.wait_for(self._serving.wait(), self._wait)
        except asyncio.TimeoutError:
            raise self._no_answer() from None
        return await self._shake_hands(remote)

    async def _shake_hands(self, remote: Remote) -> IOStream:
        """Raises: HandshakeError, also without an attempt if the server is away when the turn comes, or no turn comes."""
        try:
            turn = await self._handshakes.acquire(timedelta(seconds=self._timeout))
        except TimeoutError:  # Tornado's
            text = f"The server at {self._access.url} was too busy with others for {self._timeout:g} s."
            raise HandshakeError(text) from None
        with turn:
            if self._state is ForwarderState.AWAY:
                raise self._no_answer()
            return await open_websocket(self._access, remote.path, self._timeout)

    def _no_answer(self) -> HandshakeError:
        return HandshakeError(f"The server at {self._access.url} does not answer.", is_passing=True)

    # ---- the server ----

    def _start_watch(self, check: Check | None = None) -> None:
        """Start to check the server, unless that is being done: as the remote's connections see it, or by `check`."""
        if self._state is not ForwarderState.ENDED and (self._watch is None or self._watch.done()):
            work = self._watch_server(check or partial(check_websocket, self._access, self._remote.path, self._timeout))
            self._watch = asyncio.get_running_loop().create_task(work, name="portproxy server watch")

    def _set_away(self) -> None:
        if self._state is ForwarderState.SERVING:
            self._state = ForwarderState.AWAY
            self._serving.clear()
            self._messages.notice("The server does not answer; trying again ...")
        self._start_watch()

    async def _watch_server(self, check: Check) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await check()
            except CliError as error:
                if isinstance(error, HandshakeError) and error.is_passing:
                    self._set_away()
                    await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  not all laptops at once
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    continue
                if isinstance(error, HandshakeError) and error.is_login:
                    self._end(error)
                    return
            break
        if self._state is ForwarderState.AWAY:
            self._state = ForwarderState.SERVING
            self._serving.set()
            self._messages.notice("The server answers again.")

    def _end(self, error: HandshakeError) -> None:
        self._state = ForwarderState.ENDED
        if not self._ended.done():
            self._ended.set_exception(error)

    def _print_seldom(self, text: str) -> None:
        now = time.monotonic()
        self._printed = {notice: at for notice, at in self._printed.items() if now - at < _REPEAT}
        if text not in self._printed:
            self._printed[text] = now
            self._messages.notice(text)
