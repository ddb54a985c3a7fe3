"""WebSocket towards the client, a plain byte stream towards the service: what websockify does (`raw_socket_proxy`).

Rule of this file: a message's content goes on as bytes, whatever its kind; bytes come back as binary messages. Neither side
is read faster than the other takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from ..errors import GatewayError, ShuttingDown
from ..gateway.limits import Slot
from ..protocol.urls import ServiceRoute
from ..upstream.closable import Closable, CloseCode
from .base import PortHandler

_PIECE = 1 << 16


class RawSocketHandler(WebSocketHandler, PortHandler, Closable):
    """One WebSocket of a service that speaks no HTTP."""

    def initialize(self, gateway: Any, route: ServiceRoute) -> None:  # type: ignore[override]
        super().initialize(gateway=gateway)
        self._asked = route
        self._stream: IOStream | None = None
        self._relay: asyncio.Task[None] | None = None
        self._slot: Slot | None = None
        self._count: Callable[[int], None] = lambda size: None

    async def prepare(self) -> None:  # type: ignore[override]
        """Admitted and connected before the handshake is answered."""
        try:
            self.gateway.limits.check_fields(self.fields)
            await self.admit()
            destination = self._destination = await self.locate(self._asked)
            gateway = self.gateway
            self._slot = gateway.limits.tunnels.acquire(self.current_user.username, destination.port)
            self._count = gateway.counter(destination, counted=self.is_activity(destination.hooks))
            self._stream = await gateway.dial(destination.upstream)
        except GatewayError as error:
            self.refuse(error)
        except StreamClosedError:
            self._finished = True

    def check_origin(self, origin: str | None = None) -> bool:
        """`admit` has checked it."""
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """The first that is offered ("binary", as a rule), but never the one that carries Jupyter's token."""
        return next((name for name in subprotocols if not name.startswith("v1.token.websocket.jupyter.org")), None)

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        assert self._slot is not None  # `prepare` has taken it
        try:
            self.gateway.add_tunnel(self, self._slot)
            self.opened(self, self._destination)
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
        assert self._stream is not None  # `prepare` has connected it
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
        """The handshake was refused after all."""
        if self.ws_connection is None:
            self._give_up()

    def shut_down(self, code: CloseCode = CloseCode.GOING_AWAY) -> None:
        """See Tunnel."""
        if code != CloseCode.BAD_GATEWAY:
            self.close(code)

    def _give_up(self) -> None:
        if self._relay is not None:
            self._relay.cancel()
        if self._stream is not None:
            self._stream.close()
        if self._slot is not None:
            self._slot.release()
