"""The WebSockets of agents: `proxy/attach`, an agent's control connection, and `proxy/attach/ID`, one for each data connection.

`proxy/reverse` and `proxy/reverse/ID` are the same for ports that lead the other way (reverse). All need a credential in the
Authorization field: an attach token, or at `proxy/reverse` one of the server's user. Cookies are not looked at, and a handshake
with `Origin` is refused: every browser sends one. Refusals before the handshake are JSON, as those of the API.

A control connection begins with the agent's first message, which must come within some seconds. It ends with `Ended` and one of
the close codes below, with that of an agent that ends (1001), or when nothing has come from the agent for `SILENCE` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from jupyter_server.auth.decorator import allow_unauthenticated
from tornado.iostream import IOStream
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from ..errors import (
    BadAttachToken,
    BadInput,
    Forbidden,
    GatewayError,
    LoginUnavailable,
    NotFound,
    NothingAttaches,
    NotReversed,
    ShuttingDown,
)
from ..gateway.gateway import Gateway
from ..handlers.tcp import TcpRequest
from ..handlers.websocket import SWITCHING_PROTOCOLS, DetachingHandler, print_head
from ..protocol import attach_messages, credentials
from ..protocol.attach_messages import BadMessage, Ended, Hello, Listen, PortHealth, Refused, ServerMessage, clean_sentence
from ..upstream.byte_tunnel import ByteTunnel
from .connected_agents import ConnectedAgent, ConnectedAgents
from .reverse import ReverseClient, ReverseListeners
from .sessions import AttachSession
from .tokens import UNREADABLE, AttachToken

FIRST_MESSAGE_TIMEOUT = 10.0  # s
SILENCE = 60.0  # s; agents send a ping every 25 s
PING_TIMEOUT = 5.0  # s
_UNSUPPORTED, _VIOLATION = 1003, 1008  # close codes (RFC 6455 7.4.1)


@dataclass(frozen=True, slots=True)
class AttachParts:
    """The collaborators of both handlers. Times are in seconds.

    Attributes:
        agents: None where this server attaches nothing, because several people share it.
        reverse: None unless clients may forward ports of their machines to this server.
    """

    gateway: Gateway
    agents: ConnectedAgents | None
    reverse: ReverseListeners | None = None
    first_message_timeout: float = FIRST_MESSAGE_TIMEOUT
    silence: float = SILENCE
    ping_timeout: float = PING_TIMEOUT


class AttachHandler(WebSocketHandler):
    """What both have in common: authentication, and errors before the handshake.

    `_credential` is the ID of the attach token, or the hash of another token: a data connection must have the same one.
    """

    _token: AttachToken | None = None
    _credential: str
    _login: TcpRequest | None = None

    def initialize(self, parts: AttachParts, is_reverse: bool) -> None:
        self._parts, self._is_reverse = parts, is_reverse

    @property
    def _agents(self) -> ConnectedAgents:
        if self._parts.agents is None:
            raise NothingAttaches()
        return self._parts.agents

    @property
    def ping_interval(self) -> float | None:
        """The agent sends the pings."""
        return None

    @property
    def max_message_size(self) -> int:
        return attach_messages.MAX_MESSAGE

    def check_origin(self, origin: str) -> bool:
        """`_authenticate` has refused every handshake with an Origin."""
        return True

    @allow_unauthenticated
    async def get(self, *args: Any, **kwargs: Any) -> None:
        try:
            await self._authenticate()
            self._admit(*args)
        except GatewayError as error:
            self._refuse(error)
            return
        await super().get(*args, **kwargs)

    async def _authenticate(self) -> None:
        """Raises: Forbidden, Unauthenticated, LoginUnavailable"""
        headers = self.request.headers
        if "Origin" in headers or "Sec-WebSocket-Origin" in headers:
            raise Forbidden("A page in a browser may not attach.", "Run: jupyter portproxy attach")
        text = credentials.parse_authorization_token(headers.get("Authorization", ""))
        if self._is_reverse:
            if self._parts.reverse is None:
                raise NotReversed()
            self._credential = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
            await self._log_in()
            return
        self._token = self._agents.tokens.find(text)
        if self._token is None:
            raise BadAttachToken() if self._agents.tokens.is_readable else LoginUnavailable(*UNREADABLE)
        self._credential = self._token.id

    async def _log_in(self) -> None:
        """Authenticate and authorize by the token alone. Raises: Forbidden, Unauthenticated, LoginUnavailable"""
        if self.request.query:
            raise Forbidden("This address has no parameters.", "Send the token in the Authorization field.")
        self._login = TcpRequest(self.application, self.request, self._parts.gateway)
        await self._login.authenticate()
        await self._login.authorize()

    def _admit(self, *args: str) -> None:
        """Raises: GatewayError"""

    def _refuse(self, error: GatewayError) -> None:
        self.set_status(error.status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(error.as_json()))


class ControlHandler(AttachHandler):
    """A control connection: the `Control` of a session."""

    _agent: ConnectedAgent | None = None
    _client: ReverseClient | None = None
    _is_open = False

    async def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        self._is_open, self._heard = True, time.monotonic()
        self._pong = asyncio.Event()
        self._timer = asyncio.get_running_loop().call_later(self._parts.first_message_timeout, self._end_without_message)

    # ---- `Control` ----

    def send(self, message: ServerMessage) -> None:
        with contextlib.suppress(WebSocketClosedError):
            self.write_message(attach_messages.print_message(message)).add_done_callback(_ignore_lost)

    async def answers(self) -> bool:
        self._pong.clear()
        try:
            self.ping(b"")
            await asyncio.wait_for(self._pong.wait(), self._parts.ping_timeout)
        except (asyncio.TimeoutError, WebSocketClosedError):
            return False
        return True

    def end(self, error: GatewayError, *, is_final: bool, code: int = _VIOLATION) -> None:
        sentence = " ".join(filter(None, [f"{error.message.removesuffix('.')}.", error.hint]))
        self.send(Ended(error.code, clean_sentence(sentence), is_final))
        self.close(code)

    # ---- called by Tornado ----

    async def on_message(self, message: str | bytes) -> None:
        self._heard = time.monotonic()
        try:
            if isinstance(message, bytes):
                raise BadMessage("A control connection has text messages only.")
            parsed = attach_messages.parse_agent_message(message)
            name, kind = ("listen", Listen) if self._is_reverse else ("hello", Hello)
            is_first = self._agent is None and self._client is None
            if isinstance(parsed, kind if is_first else (Hello, Listen)) is not is_first:
                raise BadMessage(f"The first message of this connection, and only that, is '{name}'.")
        except BadMessage as error:
            code = _UNSUPPORTED if isinstance(message, bytes) else _VIOLATION
            self.end(BadInput(str(error), "Is it the same version of jupyter_portproxy?"), is_final=True, code=code)
            return
        await self._receive(parsed)

    def on_ping(self, data: bytes) -> None:
        self._heard = time.monotonic()

    def on_pong(self, data: bytes) -> None:
        self._heard = time.monotonic()
        self._pong.set()

    def on_close(self) -> None:
        self._is_open = False
        self._timer.cancel()
        if self._client is not None and self._parts.reverse is not None:
            self._parts.reverse.end(self._client)
        agent = self._agent
        if agent is None or self._parts.agents is None:
            return
        if self.close_code == attach_messages.AGENT_ENDS:
            self._parts.agents.end(agent, "The agent has ended.")
        else:
            self._parts.agents.lose(agent)

    # ---- parts ----

    async def _receive(self, message: attach_messages.AgentMessage) -> None:
        match message:
            case Hello() | Listen():
                await self._receive_first(message)
            case PortHealth() if self._agent is not None:
                self._agents.report(self._agent, message)
            case Refused(id=id_, error=error):
                for session in (each.session for each in (self._agent, self._client) if each is not None):
                    session.refuse(id_, error)

    async def _receive_first(self, first: Hello | Listen) -> None:
        self._timer.cancel()
        try:
            if isinstance(first, Hello):
                await self._attach(first)
            else:
                self._listen(first)
        except ShuttingDown as error:
            self.end(error, is_final=False)
            return
        except OSError as error:
            self._parts.gateway.log.error("portproxy: the ports of %s cannot be attached: %s", first.host, error)
            why = error.strerror or error
            self.end(BadInput(f"The server cannot listen for the ports: {why}.", "See the server's log."), is_final=False)
            return
        except GatewayError as error:
            self.end(error, is_final=True)
            return
        if not self._is_open:  # it has gone meanwhile
            self.on_close()
            return
        self._timer = asyncio.get_running_loop().call_later(self._parts.silence / 4, self._check_silence)

    async def _attach(self, hello: Hello) -> None:
        """Raises: BadInput, Forbidden, ShuttingDown, OSError"""
        assert self._token is not None  # `_authenticate`
        self._agent = await self._agents.attach(hello, self._token, self)

    def _listen(self, wanted: Listen) -> None:
        """Raises: BadInput, Forbidden, OSError"""
        assert self._parts.reverse is not None and self._login is not None  # `_authenticate`
        self._client = self._parts.reverse.listen(wanted, self._credential, self)
        self._login.watch_login(self._client)

    def _end_without_message(self) -> None:
        self.end(BadInput(f"No message came within {self._parts.first_message_timeout:g} s."), is_final=False)

    def _check_silence(self) -> None:
        if time.monotonic() - self._heard > self._parts.silence:
            self.close()
            if self._agent is not None:
                self._agents.lose(self._agent)
            if self._client is not None and self._parts.reverse is not None:
                self._parts.reverse.end(self._client)
            return
        self._timer = asyncio.get_running_loop().call_later(self._parts.silence / 4, self._check_silence)


class DataHandler(AttachHandler, DetachingHandler):
    """A data connection: after the handshake a ByteTunnel to the connection that waits for it."""

    _session: AttachSession
    _id: str

    def _admit(self, *args: str) -> None:
        (self._id,) = args
        sessions = self._parts.reverse if self._is_reverse else self._agents
        session = sessions.find_session(self._id) if sessions is not None else None
        if session is None or session.credential != self._credential:
            raise NotFound(self._id, "waiting connection")
        self._session = session

    async def accept(self) -> None:
        """Respond to the handshake, and connect both streams."""
        head = print_head(SWITCHING_PROTOCOLS, self.accept_fields())
        port, waiting = self._session.take(self._id)
        tunnel = ByteTunnel(self._parts.gateway.counters.count_in_tunnels, dials=False)
        self._session.add(port, tunnel)
        try:
            client: IOStream = self.detach()
        except BaseException:
            waiting.close()
            tunnel.run_close_callbacks()
            raise
        await tunnel.connect(client, waiting, head)


def _ignore_lost(future: asyncio.Future[None]) -> None:
    """The connection has ended before a message was written: `on_close` follows."""
    if not future.cancelled():
        future.exception()
