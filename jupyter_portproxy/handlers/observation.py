"""Responses and tunnels of requests that are observed: the same as without an observer, and they fill the ObservedRequest.

Handlers call `make_response` and `make_tunnel`, with None for a request that is not observed, and `observe_tunnel`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

from tornado.httputil import HTTPHeaders

from ..errors import BadUpstream, GatewayError
from ..gateway.observer import ObservedRequest, Peer
from ..protocol.headers import Fields
from ..protocol.websocket_frames import CloseFinder
from ..upstream.byte_tunnel import ByteTunnel
from ..upstream.closable import CloseCode
from ..upstream.tunnel import Tunnel, TunnelEnd
from .response import RelayedResponse


def make_response(observed: ObservedRequest | None, *parts: Any) -> RelayedResponse:
    """The response of a request; `parts` are the arguments of RelayedResponse."""
    if observed is None:
        return RelayedResponse(*parts)
    response = ObservedResponse(*parts)
    response.observed = observed
    return response


def make_tunnel(
    observed: ObservedRequest | None, on_data: Callable[[int], None], on_message: Callable[[], None] | None
) -> Tunnel:
    """The tunnel of a WebSocket; the other arguments are those of Tunnel."""
    if observed is None:
        return Tunnel(on_data, on_message=on_message)
    return ObservedTunnel(observed, on_data, on_message)


def observe_tunnel(tunnel: Tunnel, observed: ObservedRequest) -> None:
    """Report that a tunnel is open, and its end. Of one that carries raw bytes only the duration and the code are known."""

    def end(_: object) -> None:
        if isinstance(tunnel, ByteTunnel) and tunnel.close_code is not None:
            observed.close(tunnel.close_code, "client")
        observed.end(is_whole=observed.close_code is not None)

    observed.status = 101
    observed.mark_first_byte()
    observed.open()
    tunnel.add_close_callback(end)


class ObservedResponse(RelayedResponse):
    """Fills the ObservedRequest. Makes few calls of its own, as each recorded response passes here."""

    observed: ObservedRequest

    def headers(self, fields: Fields) -> HTTPHeaders:
        self.observed.response_fields = fields
        self.observed.sent = headers = super().headers(fields)
        return headers

    def start(self, status: int, reason: str, fields: Fields, first: bytes | None = None) -> Coroutine[Any, Any, None]:
        observed = self.observed
        observed.first_byte = time.monotonic() - observed.began
        if first:
            observed.bytes_down += len(first)
        return super().start(status, reason, fields, first)

    def write(self, data: bytes) -> Coroutine[Any, Any, None]:
        self.observed.bytes_down += len(data)
        return super().write(data)

    def finish(self) -> None:
        super().finish()
        self.observed.status = self._status
        self.observed.end()

    def cut(self, error: Exception | None = None) -> None:
        has_gone = self._connection.stream.closed() and isinstance(error, BadUpstream)  # the client, and so it was given up
        if isinstance(error, GatewayError) and not has_gone:
            self.observed.error = error.code
        super().cut(error)
        self.observed.status = self._status
        self.observed.end(is_whole=False)


class ObservedTunnel(Tunnel):
    """Counts the bytes each way, and reads the codes of close frames."""

    def __init__(self, observed: ObservedRequest, on_data: Callable[[int], None], on_message: Callable[[], None] | None) -> None:
        super().__init__(on_data, on_message=on_message)
        self.observed = observed

    def _make_ends(self) -> tuple[TunnelEnd, TunnelEnd]:
        client, upstream = super()._make_ends()
        client.frames, upstream.frames = ObservedFrames(self.observed, "client"), ObservedFrames(self.observed, "service")
        return client, upstream

    def shut_down(self, code: CloseCode = CloseCode.GOING_AWAY) -> None:
        if code != CloseCode.BAD_GATEWAY:
            self.observed.close(code, "gateway")
        super().shut_down(code)


class ObservedFrames(CloseFinder):
    """The frames that one peer sends."""

    __slots__ = ("_observed", "_peer")

    def __init__(self, observed: ObservedRequest, peer: Peer) -> None:
        super().__init__()
        self._observed, self._peer = observed, peer

    def feed(self, data: bytes) -> None:
        super().feed(data)
        if self._peer == "client":
            self._observed.bytes_up += len(data)
        else:
            self._observed.bytes_down += len(data)
        if self.code is not None:
            self._observed.close(self.code, self._peer)
