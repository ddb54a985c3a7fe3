"""One WebSocket handshake, and the tunnel that it becomes.

Rule of this file: the service is asked before the client is answered; what it says is what the client hears.
"""

from __future__ import annotations

from collections.abc import Callable

from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketHandler, WebSocketProtocol

from ..errors import BadFraming, BadUpgrade, GatewayError, Internal
from ..gateway.gateway import Destination, Gateway
from ..gateway.limits import Slot
from ..protocol import framing
from ..protocol.credentials import remove_secret_parameters
from ..protocol.headers import UPGRADE_FIELDS, Client, Fields, answer_token_subprotocol
from ..protocol.named_project_urls import NamedProjectRoute
from ..protocol.project_urls import ProjectRoute
from ..protocol.urls import Route, ServiceRoute
from ..upstream.handshake import ConnectFirstProtocol, request_upgrade
from ..upstream.tunnel import Tunnel
from .base import PortHandler
from .response import Answer


class TunnelHandler(WebSocketHandler, PortHandler):
    """One WebSocket handshake: admitted here, granted or refused by the upstream."""

    def initialize(self, gateway: Gateway, route: Route | ServiceRoute | ProjectRoute | NamedProjectRoute) -> None:  # type: ignore[override]
        super().initialize(gateway)
        self._asked = route
        self._count: Callable[[int], None] = lambda size: None
        self._upstream_stream: IOStream | None = None
        self._slot: Slot | None = None

    async def prepare(self) -> None:  # type: ignore[override]
        try:
            self.gateway.limits.check_fields(self.fields)
            await self.admit(self._asked)
            if framing.parse_request_content(self.request.version, self.fields) not in (None, framing.Content(0)):
                raise BadFraming("A WebSocket request has no content.", "See RFC 6455, section 4.1.")
            if not self.request.headers.get("Sec-WebSocket-Key"):
                raise BadUpgrade("The WebSocket request has no Sec-WebSocket-Key.", "See RFC 6455, section 4.1.")
        except GatewayError as error:
            self.refuse(error)
        except StreamClosedError:
            self._finished = True

    def check_origin(self, origin: str | None = None) -> bool:
        """`admit` has checked it."""
        return True

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        return ConnectFirstProtocol(self, self._accept, self._abandon)

    async def _accept(self) -> None:
        client = self.client
        answer: Answer | None = None
        try:
            destination = await self.locate(self._asked)
            answer = Answer(self.request, self.gateway, destination, client, self.login_cookies(), self._tell)
            self._slot = self.gateway.limits.tunnels.acquire(self.current_user.username, destination.port)
            gateway, counted = self.gateway, self.is_activity(destination.hooks)
            self._count = gateway.counter(destination, counted=counted)
            head = self._handshake(destination, client, counted)
            stream = self._upstream_stream = await gateway.dial(destination.upstream)
            granted = await request_upgrade(stream, head, answer, gateway.settings.first_byte_timeout)
            if granted is None:
                self._finished = True
            else:
                await self._connect(stream, answer, granted, destination)
        except GatewayError as error:
            self._abandon()
            if answer is not None and answer.started:
                answer.cut()
                self._finished = True
            else:
                self.refuse(error)
        except StreamClosedError:
            self._abandon()
            self._finished = True
        except Exception:
            self.log.exception("portproxy: a WebSocket request failed")
            self._abandon()
            self.refuse(Internal())
        finally:
            if self._slot is not None:  # there is no tunnel that has taken it
                self._slot.release()

    async def _connect(self, upstream: IOStream, answer: Answer, granted: Fields, destination: Destination) -> None:
        tunnel = Tunnel(self._count)
        assert self._slot is not None  # `_accept` has taken it
        self.gateway.add_tunnel(tunnel, self._slot)
        self._slot = None
        self.opened(tunnel, destination)
        headers = answer.headers(granted)
        fields = [*UPGRADE_FIELDS, *headers.get_all(), *answer_token_subprotocol(self.fields, granted)]
        first = _print_head("HTTP/1.1 101 Switching Protocols", fields)
        self._upstream_stream = None
        try:
            await tunnel.connect(self.detach(), upstream, first)
        except BaseException as error:
            upstream.close()
            tunnel.run_close_callbacks()
            if not isinstance(error, StreamClosedError):
                raise
        self._tell(101)

    def _tell(self, status: int) -> None:
        self.gateway.counters.answer(status)
        if not (status < 300 or status == 304) or self.is_told:
            self.log_answer(status)

    def _handshake(self, destination: Destination, client: Client, counted: bool) -> bytes:
        self.gateway.begin(counted=counted)
        fields = self.gateway.outbound_fields(destination, self.fields, client)
        target = remove_secret_parameters(destination.route.target, client.secrets)
        return _print_head(f"GET {target} HTTP/1.1", [*fields, *UPGRADE_FIELDS])

    def _abandon(self) -> None:
        if self._upstream_stream is not None:
            self._upstream_stream.close()


def _print_head(start_line: str, fields: Fields) -> bytes:
    lines = [start_line, *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1")
