"""WebSocket towards the client, a plain byte stream towards the service: what websockify does (`raw_socket_proxy`).

The content of each message goes on as bytes, whatever its kind; bytes come back as binary messages. Neither side is read faster
than the other takes. The frames are Tornado's, hence a WebSocketHandler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from ..errors import ShuttingDown
from ..protocol.urls import BaseRoute
from ..upstream.closable import Closable, CloseCode
from . import pipeline
from .base import ProxyRequest
from .pipeline import Admitted

_PIECE = 1 << 16


class RawSocketHandler(WebSocketHandler, Closable):
    """One WebSocket of a service that does not speak HTTP."""

    def initialize(self, proxy_request: ProxyRequest, route: BaseRoute) -> None:
        self._proxy_request, self._gateway, self._route = proxy_request, proxy_request.gateway, route
        self._admitted: Admitted | None = None
        self._stream: IOStream | None = None
        self._relay: asyncio.Task[None] | None = None
        self._count: Callable[[int], None] = lambda size: None
        proxy_request.set_close_callback(self.on_connection_close)

    def set_default_headers(self) -> None:
        for name in ("Server", "Content-Type"):
            self.clear_header(name)

    async def prepare(self) -> None:
        """Admit and connect before the handshake is answered."""
        request, gateway = self._proxy_request, self._gateway
        try:
            admitted = self._admitted = await pipeline.admit(request, self._route, upgrade=True)
            self._count = gateway.make_tunnel_counter(admitted.destination, is_activity=admitted.is_activity)
            self._stream = await gateway.dial(admitted.destination.upstream)
        except Exception as error:
            self._give_up()
            request.fail(error)
            self._finished = True
            return
        self.current_user = request.user
        for name, value in request.login_cookies():
            self.add_header(name, value)

    def check_origin(self, origin: str | None = None) -> bool:
        """The pipeline has checked it."""
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """The first that is offered ("binary", as a rule), but never the one that carries Jupyter's token."""
        return next((name for name in subprotocols if not name.startswith("v1.token.websocket.jupyter.org")), None)

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        assert self._admitted is not None  # by `prepare`
        try:
            self._gateway.add_tunnel(self, self._admitted.slot)
            self._proxy_request.watch(self, self._admitted.destination)
        except ShuttingDown:
            self.close(CloseCode.GOING_AWAY)
            return
        self._relay = asyncio.get_running_loop().create_task(self._relay_bytes(), name="portproxy raw socket")

    async def on_message(self, message: str | bytes) -> None:
        data = message.encode() if isinstance(message, str) else message
        self._count(len(data))
        if self._stream is not None and not self._stream.closed():
            try:
                await self._stream.write(data)
            except StreamClosedError:
                self.close()

    async def _relay_bytes(self) -> None:
        assert self._stream is not None  # by `prepare`
        try:
            while True:
                data = await self._stream.read_bytes(_PIECE, partial=True)
                self._count(len(data))
                await self.write_message(data, binary=True)
        except (StreamClosedError, WebSocketClosedError):
            self.close()

    def on_close(self) -> None:
        self._give_up()
        self.run_close_callbacks()

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._give_up()

    def on_finish(self) -> None:
        """Tornado has refused the handshake after all."""
        if self.ws_connection is None:
            self._give_up()

    def shut_down(self, code: CloseCode = CloseCode.GOING_AWAY) -> None:
        if code != CloseCode.BAD_GATEWAY:
            self.close(code)

    def _give_up(self) -> None:
        if self._relay is not None:
            self._relay.cancel()
        if self._stream is not None:
            self._stream.close()
        if self._admitted is not None:
            self._admitted.slot.release()
