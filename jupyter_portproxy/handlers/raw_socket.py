"""WebSocket towards the client, a plain byte stream towards the service: what websockify does (`raw_socket_proxy`).

The content of each message goes on as bytes, whatever its kind; bytes come back as binary messages. It is for pages of browsers,
unlike raw TCP (tcp), and has no half-close: an empty message means nothing, and the end of either side closes both.
"""

from __future__ import annotations

from tornado.iostream import IOStream

from ..protocol.credentials import TOKEN_SUBPROTOCOL
from ..upstream.byte_tunnel import ByteTunnel, PlainEnd, WebSocketEnd
from ..upstream.tunnel import TunnelEnd
from .websocket import UpgradeHandler


class RawSocketHandler(UpgradeHandler):
    """One WebSocket of a service that does not speak HTTP."""

    async def accept(self) -> None:
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "")
        chosen = self.select_subprotocol([name.strip() for name in offered.split(",") if name.strip()])
        fields = [("Sec-WebSocket-Protocol", chosen)] if chosen is not None else []
        tunnel = RawSocketTunnel(self._make_counter(), dials=False)
        await self._accept_bytes(tunnel, [*fields, *self._proxy_request.login_cookies()])

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """The first that is offered ("binary", as a rule), but never the one that carries Jupyter's token."""
        return next((name for name in subprotocols if not name.startswith(TOKEN_SUBPROTOCOL)), None)


class RawSocketTunnel(ByteTunnel):
    """A ByteTunnel without half-closes. It sends pings, as pages of browsers cannot."""

    async def connect(self, client: IOStream, upstream: IOStream, first: bytes = b"") -> None:
        await super().connect(client, upstream, first)
        if self._client is not None:
            self.call_later(self._ping_interval, self._ping)

    def _make_ends(self) -> tuple[TunnelEnd, TunnelEnd]:
        return _RawSocketEnd(self), PlainEnd(self)

    def end_of_stream(self, other: TunnelEnd) -> None:
        self._close_both()


class _RawSocketEnd(WebSocketEnd):
    __slots__ = ()
    takes_text = True

    def _receive(self, content: bytes, other: TunnelEnd) -> None:
        if content:
            super()._receive(content, other)

    def _end(self, other: TunnelEnd, *, is_complete: bool) -> None:
        """Close the service's connection without a reset: browsers close with 1001 when a page is left."""
        other.close()
