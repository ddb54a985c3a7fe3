"""The agent: attaches ports of this machine to a Jupyter server elsewhere, which it dials.

States of its control connection:

    DIALLING  the handshake, or the pause before the next one: 0.5 s, doubled with each failure to at most 30 s
    ATTACHED  the server has answered the first message
    ENDED     `run` returns after `stop`, or raises AgentEnded where dialling again does not help

For each `Open` the agent connects to the local port and dials a WebSocket of its own. Those data connections end with the control
connection. Needs Tornado and the standard library alone: it may run where no Jupyter server is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Protocol

from tornado.iostream import IOStream

from ..errors import CliError, GatewayError, Unreachable
from ..protocol.attach_messages import (
    AGENT_ENDS,
    Attached,
    BadMessage,
    Detach,
    Ended,
    Hello,
    Listen,
    Open,
    PortHealth,
    Refused,
    ServerMessage,
    clean_sentence,
)
from ..upstream.byte_tunnel import ByteTunnel
from ..upstream.websocket_client import MAX_HANDSHAKES, HandshakeError, ServerAccess, open_websocket
from .control_connection import ControlConnection
from .local_ports import LocalPorts

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # s
_HEALTH_PERIOD = 2.0  # s
_NO_ATTACHMENT = "Nothing can be attached at {}. Has the server jupyter_portproxy, and is it as new as this one?"
_ANSWER_TIMEOUT = 20.0  # s; the server may ask an older agent of the same name first


class AgentEnded(CliError):
    """The server has ended the agent, and dialling again does not help. The text says why."""


class Offer(Protocol):
    """What a control connection offers to the server."""

    path: str  # of the control connection, below the server's base URL

    @property
    def ports(self) -> Sequence[int]: ...

    async def first_message(self) -> Hello | Listen: ...

    async def dial(self, port: int) -> IOStream:
        """A connection to what the port stands for. Raises: GatewayError"""

    async def find_error(self, port: int) -> str | None:
        """Why the port cannot be reached; empty if it can. None if the server lists no errors of it."""

    def remove(self, port: int) -> None:
        """The port was detached at the server."""

    def close(self) -> None: ...


class AttachedPorts:
    """The offer of `attach`: ports of this machine, as services with the agent's name.

    Args:
        host: the name of this machine.
    """

    def __init__(self, name: str, host: str, ports: Sequence[int], local_ports: LocalPorts) -> None:
        self.path = "proxy/attach"
        self.ports: list[int] = list(dict.fromkeys(ports))
        self._name, self._host, self._local_ports = name, host, local_ports
        self._instance = secrets.token_urlsafe(16)

    async def first_message(self) -> Hello:
        found = {port: clean_sentence(await self.find_error(port)) for port in self.ports}
        errors = {port: error for port, error in found.items() if error}
        return Hello(self._name, self._host, self._instance, tuple(self.ports), errors)

    async def dial(self, port: int) -> IOStream:
        return await self._local_ports.dial(port)

    async def find_error(self, port: int) -> str:
        return await self._local_ports.find_error(port)

    def remove(self, port: int) -> None:
        self.ports.remove(port)

    def close(self) -> None:
        self._local_ports.close()


class ReversePorts:
    """The offer of `forward --reverse`: ports of this machine, each beside the server at a port of its own.

    Args:
        pairs: port beside the server -> port of this machine.
    """

    def __init__(self, host: str, pairs: Mapping[int, int], local_ports: LocalPorts) -> None:
        self.path = "proxy/reverse"
        self._pairs, self._host, self._local_ports = dict(pairs), host, local_ports
        self._instance = secrets.token_urlsafe(16)

    @property
    def ports(self) -> Sequence[int]:
        return list(self._pairs)

    async def first_message(self) -> Listen:
        return Listen(self._host, self._instance, tuple(self._pairs))

    async def dial(self, port: int) -> IOStream:
        return await self._local_ports.dial(self._pairs[port])

    async def find_error(self, port: int) -> None:
        """The server lists no state of these."""

    def remove(self, port: int) -> None:
        del self._pairs[port]

    def close(self) -> None:
        self._local_ports.close()


class Agent:
    """Keeps an offer attached.

    Args:
        report: called with a sentence for people when the state changes.
        on_attached: called with the addresses of the ports at the server, each time it is attached.
    """

    def __init__(
        self,
        access: ServerAccess,
        offer: Offer,
        report: Callable[[str], object],
        on_attached: Callable[[dict[int, str]], object] = lambda addresses: None,
        *,
        first_pause: float = _FIRST_PAUSE,
        health_period: float = _HEALTH_PERIOD,
    ) -> None:
        self._access, self._offer, self._report, self._on_attached = access, offer, report, on_attached
        self._first_pause, self._health_period = first_pause, health_period
        self._errors: dict[int, str] = {}  # by port, as last sent
        self._refusals: dict[int, str] = {}  # by port, as last reported, until a connection is served
        self._tunnels: set[ByteTunnel] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._handshakes = asyncio.Semaphore(MAX_HANDSHAKES)
        self._was_attached = self._is_attached = False
        self._why_ended = ""  # the last connection, as the server said

    async def run(self, stop: asyncio.Event) -> None:
        """Attach, again after each loss of the connection, until `stop` is set.

        Raises:
            AgentEnded
        """
        pause = self._first_pause
        try:
            while not stop.is_set():
                self._is_attached = False
                reason = await self._attach_once(stop)
                if stop.is_set():
                    return
                pause = self._first_pause if self._is_attached else pause
                self._report(f"{reason} Next attempt in {pause:.1f} s.")
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause * random.uniform(0.8, 1.2))  # noqa: S311 (not a secret)
                pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            self._offer.close()

    async def _attach_once(self, stop: asyncio.Event) -> str:
        """One control connection, from its handshake to its end; returns why it has ended. Raises: AgentEnded"""
        self._why_ended = ""
        opening = asyncio.ensure_future(ControlConnection.open(self._access, self._offer.path))
        if not await _wait_unless_stopped(stop, opening):
            return ""
        try:
            control = opening.result()
        except HandshakeError as error:
            # A server that restarts behind a hub answers with errors and redirects of the hub for a while.
            if error.is_passing or (self._was_attached and not error.code):
                return str(error)
            is_older = error.status == HTTPStatus.NOT_FOUND and not error.code
            raise AgentEnded(_NO_ATTACHMENT.format(self._access.url) if is_older else str(error)) from None
        except CliError as error:
            raise AgentEnded(str(error)) from None
        checking: asyncio.Task[None] | None = None
        try:
            await self._send_first_message(control, stop)
            if not stop.is_set():
                checking = asyncio.get_running_loop().create_task(self._check_health(control), name="portproxy agent health")
                await self._serve(control, stop)
        except BadMessage as error:
            raise AgentEnded(f"{error} Is the server's jupyter_portproxy of another version?") from None
        finally:
            if checking is not None:
                checking.cancel()
            await control.close(AGENT_ENDS)
            await self._end_connections()
        return self._why_ended or f"The connection to {self._access.url} is lost."

    async def _send_first_message(self, control: ControlConnection, stop: asyncio.Event) -> None:
        """Send the first message, and wait for the response. Raises: AgentEnded, BadMessage"""
        first = await self._offer.first_message()
        self._errors = dict(first.errors) if isinstance(first, Hello) else {}
        await control.send(first)
        reading = asyncio.ensure_future(asyncio.wait_for(control.read(), _ANSWER_TIMEOUT))
        if await _wait_unless_stopped(stop, reading):
            with contextlib.suppress(asyncio.TimeoutError):
                self._receive(control, reading.result())

    async def _serve(self, control: ControlConnection, stop: asyncio.Event) -> None:
        """Read messages until the connection ends. Raises: AgentEnded, BadMessage"""
        while self._is_attached:
            reading = asyncio.ensure_future(control.read())
            if not await _wait_unless_stopped(stop, reading):
                return
            message = reading.result()
            if message is None:
                return
            self._receive(control, message)

    def _receive(self, control: ControlConnection, message: ServerMessage | None) -> None:
        """Raises: AgentEnded"""
        match message:
            case Attached(addresses=addresses):
                self._is_attached = self._was_attached = True
                self._on_attached(addresses)
            case Open(id=id_, port=port):
                task = asyncio.get_running_loop().create_task(
                    self._connect(control, id_, port), name="portproxy agent connection"
                )
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case Detach(port=port) if port in self._offer.ports:
                self._offer.remove(port)
                self._report(f"Port {port} was detached at the server.")
                if not self._offer.ports:
                    raise AgentEnded("All ports were detached at the server.")
            case Ended(sentence=sentence, is_final=is_final):
                if is_final:
                    raise AgentEnded(sentence)
                self._why_ended = sentence

    # ---- data connections ----

    async def _connect(self, control: ControlConnection, id_: str, port: int) -> None:
        """Serve one connection: the local port first, as the server's end waits unread."""
        try:
            if port not in self._offer.ports:
                raise Unreachable(f"Port {port} is not attached.")
            local = await self._offer.dial(port)
        except GatewayError as error:
            sentence = self._errors[port] = clean_sentence(error.message)
            if sentence != self._refusals.get(port):
                self._refusals[port] = sentence
                self._report(f"A connection was not served: {sentence}")
            await control.send(Refused(id_, sentence))
            return
        self._refusals.pop(port, None)
        try:
            async with self._handshakes:
                websocket = await open_websocket(self._access, f"{self._offer.path}/{id_}")
        except (CliError, asyncio.CancelledError) as error:
            local.close()
            if isinstance(error, asyncio.CancelledError):
                raise
            return  # the client has gone, or the server lets it wait no longer
        tunnel = ByteTunnel(dials=True)
        self._tunnels.add(tunnel)
        tunnel.add_close_callback(self._tunnels.discard)
        await tunnel.connect(websocket, local)

    async def _end_connections(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for tunnel in list(self._tunnels):
            tunnel.shut_down()

    async def _check_health(self, control: ControlConnection) -> None:
        while True:
            await asyncio.sleep(self._health_period)
            for port in list(self._offer.ports):
                error = await self._offer.find_error(port)
                if error is not None and clean_sentence(error) != self._errors.get(port, ""):
                    self._errors[port] = clean_sentence(error)
                    await control.send(PortHealth(port, self._errors[port]))


async def _wait_unless_stopped(stop: asyncio.Event, work: asyncio.Future[object] | Awaitable[object]) -> bool:
    """Wait until `work` is done, or `stop` is set: then cancel it. True if it is done."""
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
    return task.done() and not task.cancelled()
