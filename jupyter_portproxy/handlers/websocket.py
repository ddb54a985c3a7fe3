"""WebSocket handshakes, and the tunnels that they become.

Upgrades are served by handlers of tornado.websocket: the pipeline admits the request, Tornado checks the handshake (400, 426),
and the client gets the upstream's response to it. `UpgradeHandler` is the part that raw_socket has in common. It owns the slot
and the upstream's stream until `get` returns, unless a tunnel has taken them over. `DetachingHandler` is what the WebSockets of
agents (attachment) have in common with it.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from functools import partial
from typing import Any

from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketHandler, WebSocketProtocol, WebSocketProtocol13

from ..gateway.destinations import Destination
from ..gateway.limits import Slot
from ..protocol import credentials
from ..protocol.framing import UPGRADE_FIELDS, Fields
from ..protocol.headers import answer_token_subprotocol
from ..protocol.urls import BaseRoute
from ..upstream.byte_tunnel import ByteTunnel
from ..upstream.handshake import request_upgrade
from ..upstream.tunnel import Tunnel
from . import pipeline
from .base import ProxyRequest
from .observation import make_response, make_tunnel, observe_tunnel

SWITCHING_PROTOCOLS = "HTTP/1.1 101 Switching Protocols"


class DetachingHandler(WebSocketHandler):
    """A handshake that Tornado checks and `accept` responds to. The connection then belongs to a tunnel."""

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        standard = super().get_websocket_protocol()  # None for an unknown version
        return DetachingProtocol(self, False, standard.params) if isinstance(standard, WebSocketProtocol13) else None

    async def accept(self) -> None:
        """Respond to the handshake, and hand the connection to a tunnel."""
        raise NotImplementedError

    def accept_fields(self) -> Fields:
        """The fields of a 101 that follow from the request (RFC 6455 4.2.2)."""
        key = self.request.headers["Sec-WebSocket-Key"]
        return [*UPGRADE_FIELDS, ("Sec-WebSocket-Accept", WebSocketProtocol13.compute_accept_value(key))]


class DetachingProtocol(WebSocketProtocol13):
    """Takes the place of Tornado's protocol: its handler responds to the handshake, and no frame is read or written."""

    async def accept_connection(self, handler: WebSocketHandler) -> None:
        assert isinstance(handler, DetachingHandler)  # which made it
        await handler.accept()

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Nothing is open here: the handler owns the upstream's stream, and the tunnel closes what it has taken over."""


class UpgradeHandler(DetachingHandler):
    _admitted: pipeline.Admitted
    _slot: Slot | None = None
    _upstream: IOStream | None = None
    _is_activity = False  # the handshake, and each byte in the tunnel
    _on_message: Callable[[], None] | None = None  # records a message of the client, if these alone are activity

    def initialize(self, proxy_request: ProxyRequest, route: BaseRoute) -> None:
        self._proxy_request, self._gateway, self._route = proxy_request, proxy_request.gateway, route
        proxy_request.set_close_callback(self.on_connection_close)

    def set_default_headers(self) -> None:
        for name in ("Server", "Content-Type"):
            self.clear_header(name)

    def check_origin(self, origin: str | None = None) -> bool:
        """The pipeline has checked it."""
        return True

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Serve the request, to the end of the handshake."""
        try:
            await self._admit()
            await super().get(*args, **kwargs)
        except Exception as error:
            self._proxy_request.fail(error)
        finally:
            self._proxy_request.drop_close_callback()
            self.ws_connection = None  # both refer to this object
            self.on_connection_close()
            if self._slot is not None:
                self._slot.release()

    async def _admit(self) -> None:
        request = self._proxy_request
        self._admitted = await pipeline.admit(request, self._route, upgrade=True)
        self._slot, self.current_user = self._admitted.slot, request.user
        activity = self._admitted.destination.activity
        is_excluded = activity.excludes(self.request.uri or "")
        self._is_activity = self._admitted.is_activity and not is_excluded
        if activity.kind == "people" and not is_excluded:
            self._on_message = self._gateway.record_activity
        for name, value in request.login_cookies():
            self.add_header(name, value)

    async def _dial(self) -> IOStream:
        """Raises: GatewayError, StreamClosedError: the client went away meanwhile, when there was nothing to close."""
        stream = self._upstream = await self._gateway.dial(self._admitted.destination.upstream)
        if self._proxy_request.connection.stream.closed():
            stream.close()
            raise StreamClosedError()
        return stream

    async def _accept_bytes(self, tunnel: ByteTunnel, fields: Fields) -> None:
        """Dial, respond with a 101 with these fields besides its own (RFC 6455 4.2.2), and relay bytes."""
        self._gateway.begin(is_activity=self._is_activity)
        request = self._proxy_request
        if request.observed is not None:
            request.observed.fields, request.observed.secrets = request.fields, request.client.secrets
        upstream = await self._dial()
        await self._connect(tunnel, upstream, [*self.accept_fields(), *fields])

    def _make_counter(self) -> Callable[[int], None]:
        """The function that the tunnel calls with the number of bytes that it relays."""
        return self._gateway.make_tunnel_counter(self._admitted.destination, is_activity=self._is_activity)

    def _watch(self, tunnel: Tunnel) -> None:
        """Let the login and the chain end the tunnel."""
        self._proxy_request.watch(tunnel, self._admitted.destination)

    async def _connect(self, tunnel: Tunnel, upstream: IOStream, fields: Fields) -> None:
        """Respond with a 101 with these fields, and hand both connections to the tunnel."""
        request, admitted = self._proxy_request, self._admitted
        head = print_head(SWITCHING_PROTOCOLS, fields)
        self._gateway.add_tunnel(tunnel, admitted.slot)
        self._slot = None
        try:
            self._watch(tunnel)
            client = self.detach()
        except BaseException:
            tunnel.run_close_callbacks()  # it has no ends yet that could close it
            raise
        self._upstream, request.responded = None, True
        if request.observed is not None:
            observe_tunnel(tunnel, request.observed)
        await tunnel.connect(client, upstream, head)
        request.record_response(101, logs_success=request.logs_success)

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Future[None]:
        """End Tornado's response; the gateway's and the upstream's do not pass through this handler."""
        if not self._proxy_request.responded:
            return super().finish(chunk)
        finished: Future[None] = Future()
        finished.set_result(None)
        return finished

    def on_finish(self) -> None:
        """Tornado has responded, with a 101 or with a refusal."""
        self._proxy_request.responded = True
        self._gateway.counters.count_response(self.get_status())
        self._proxy_request.end_observation(self.get_status())

    def on_close(self) -> None:
        """The client has gone, or the request has been served."""
        if self._upstream is not None:
            self._upstream.close()


class TunnelHandler(UpgradeHandler):
    """A WebSocket handshake that the upstream grants or refuses."""

    async def accept(self) -> None:
        """Dial, relay the upstream's response, and connect both streams if it is a 101."""
        request, gateway = self._proxy_request, self._gateway
        destination, cookies = self._admitted.destination, request.login_cookies()
        record = partial(request.record_response, logs_success=request.logs_success)
        response = make_response(request.observed, request.request, gateway, destination, request.client, cookies, record)
        try:
            head = self._handshake(destination)
            stream = await self._dial()
            granted = await request_upgrade(stream, head, response, gateway.settings.first_byte_timeout)
            if granted is None:  # the upstream's refusal has been relayed
                request.responded = True
            else:
                own = answer_token_subprotocol(request.fields, granted)
                fields = [*UPGRADE_FIELDS, *response.headers(granted).get_all(), *own]
                await self._connect(make_tunnel(request.observed, self._make_counter(), self._on_message), stream, fields)
        except Exception:
            if response.started:
                response.cut()
                request.responded = True
            raise

    def _handshake(self, destination: Destination) -> bytes:
        request = self._proxy_request
        self._gateway.begin(is_activity=self._is_activity)
        fields = self._gateway.outbound.build_fields(destination, request.fields, request.client)
        if request.observed is not None:
            request.observed.pass_on(destination, request.client, request.fields, fields)
        target = credentials.remove_secret_parameters(destination.route.target, request.client.secrets)
        return print_head(f"GET {target} HTTP/1.1", [*fields, *UPGRADE_FIELDS])


def print_head(start_line: str, fields: Fields) -> bytes:
    """The head of a request or response as it is sent.

    Tornado writes the names of parsed fields as `Sec-Websocket-Key`; small servers compare them with those of RFC 6455.
    """
    named = ((name.replace("Sec-Websocket-", "Sec-WebSocket-", 1), value) for name, value in fields)
    lines = [start_line, *(f"{name}: {value}" for name, value in named), "", ""]
    return "\r\n".join(lines).encode("latin-1")
