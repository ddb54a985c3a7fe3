"""WebSocket towards the client, a plain byte stream towards the service: what websockify does (`raw_socket_proxy`).

The content of each message goes on as bytes, whatever its kind; bytes come back as binary messages. Neither side is read faster
than the other takes. Tornado reads and writes the frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketClosedError

from ..errors import ShuttingDown
from ..protocol.credentials import TOKEN_SUBPROTOCOL
from ..upstream.closable import Closable, CloseCode
from .websocket import UpgradeHandler

_PIECE = 1 << 16


class RawSocketHandler(UpgradeHandler, Closable):
    """One WebSocket of a service that does not speak HTTP."""

    _stream: IOStream
    _count: Callable[[int], None]
    _relay: asyncio.Task[None]

    async def _admit(self) -> None:
        """Admit and connect before the handshake is answered."""
        await super()._admit()
        self._stream = await self._dial()

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """The first that is offered ("binary", as a rule), but never the one that carries Jupyter's token."""
        return next((name for name in subprotocols if not name.startswith(TOKEN_SUBPROTOCOL)), None)

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        gateway, admitted = self._gateway, self._admitted
        self._count = gateway.make_tunnel_counter(admitted.destination, is_activity=admitted.is_activity)
        try:
            gateway.add_tunnel(self, admitted.slot)
        except ShuttingDown:
            self.close(CloseCode.GOING_AWAY)
            return
        self._slot = None
        self._proxy_request.watch(self, admitted.destination)
        self._relay = asyncio.get_running_loop().create_task(self._relay_bytes(), name="portproxy raw socket")

    async def on_message(self, message: str | bytes) -> None:
        data = message.encode() if isinstance(message, str) else message
        self._count(len(data))
        try:
            await self._stream.write(data)
        except StreamClosedError:
            self.close()

    async def _relay_bytes(self) -> None:
        try:
            while True:
                data = await self._stream.read_bytes(_PIECE, partial=True)
                self._count(len(data))
                await self.write_message(data, binary=True)
        except (StreamClosedError, WebSocketClosedError):
            self.close()

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Close both sides: a message that waits for the service to read would keep this one open."""
        super().close(code, reason)
        self._stream.close()

    def on_close(self) -> None:
        super().on_close()
        self.run_close_callbacks()

    def shut_down(self, code: CloseCode = CloseCode.GOING_AWAY) -> None:
        if code != CloseCode.BAD_GATEWAY:
            self.close(code)
