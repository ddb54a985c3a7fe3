"""One WebSocket handshake, and the tunnel that it becomes.

The upstream answers the handshake before the client does get an answer, and the client gets the upstream's. The work begins when
the request has been read; until the tunnel has both streams, this delegate owns the upstream's stream and the slot.
"""

from __future__ import annotations

import asyncio

from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError

from ..gateway.destinations import Destination
from ..gateway.limits import Slot
from ..protocol import credentials
from ..protocol.headers import UPGRADE_FIELDS, Fields, answer_token_subprotocol
from ..protocol.urls import BaseRoute
from ..upstream.handshake import request_upgrade
from ..upstream.tunnel import Tunnel
from . import pipeline
from .base import ProxyRequest
from .response import RelayedResponse


class WebSocketDelegate(HTTPMessageDelegate):
    """One WebSocket handshake: admitted here, granted or refused by the upstream."""

    def __init__(self, request: ProxyRequest, route: BaseRoute) -> None:
        self._request, self._gateway, self._route = request, request.gateway, route
        self._upstream: IOStream | None = None
        self._slot: Slot | None = None
        self._task: asyncio.Task[None] | None = None

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        self._request.set_close_callback(self.on_connection_close)

    def data_received(self, chunk: bytes) -> None:
        """Ignore content: such a request is refused."""

    def finish(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="portproxy handshake")

    def on_connection_close(self) -> None:
        """The client has gone before the tunnel stood."""
        if self._upstream is not None:
            self._upstream.close()

    async def _run(self) -> None:
        response: RelayedResponse | None = None
        try:
            admitted = await pipeline.admit(self._request, self._route, upgrade=True)
            self._slot, destination = admitted.slot, admitted.destination
            request, cookies = self._request, self._request.login_cookies()
            response = RelayedResponse(request.request, self._gateway, destination, request.client, cookies, self._count_response)
            head = self._handshake(destination, admitted.is_activity)
            stream = self._upstream = await self._gateway.dial(destination.upstream)
            if request.connection.stream.closed():  # the client went away meanwhile, when there was nothing to close
                raise StreamClosedError()
            granted = await request_upgrade(stream, head, response, self._gateway.settings.first_byte_timeout)
            if granted is None:  # the upstream's refusal has been relayed
                request.responded = True
            else:
                await self._connect(stream, response, granted, admitted)
        except Exception as error:
            self.on_connection_close()
            if response is not None and response.started:
                response.cut()
                self._request.responded = True
            self._request.fail(error)
        finally:
            if self._slot is not None:  # no tunnel has taken it
                self._slot.release()

    async def _connect(self, upstream: IOStream, response: RelayedResponse, granted: Fields, admitted: pipeline.Admitted) -> None:
        destination, request = admitted.destination, self._request
        tunnel = Tunnel(self._gateway.make_tunnel_counter(destination, is_activity=admitted.is_activity))
        self._gateway.add_tunnel(tunnel, admitted.slot)
        self._slot = None
        request.watch(tunnel, destination)
        headers = response.headers(granted)
        fields = [*UPGRADE_FIELDS, *headers.get_all(), *answer_token_subprotocol(request.fields, granted)]
        first = _print_head("HTTP/1.1 101 Switching Protocols", fields)
        self._upstream = None
        request.responded = True
        try:
            await tunnel.connect(request.connection.detach(), upstream, first)
        except BaseException as error:
            upstream.close()
            tunnel.run_close_callbacks()
            if not isinstance(error, StreamClosedError):
                raise
        self._count_response(101)

    def _count_response(self, status: int) -> None:
        self._gateway.counters.answer(status)
        if not (status < 300 or status == 304) or self._request.logs_success:
            self._request.log_response(status)

    def _handshake(self, destination: Destination, is_activity: bool) -> bytes:
        request = self._request
        self._gateway.begin(is_activity=is_activity)
        fields = self._gateway.outbound.build_fields(destination, request.fields, request.client)
        target = credentials.remove_secret_parameters(destination.route.target, request.client.secrets)
        return _print_head(f"GET {target} HTTP/1.1", [*fields, *UPGRADE_FIELDS])


def _print_head(start_line: str, fields: Fields) -> bytes:
    lines = [start_line, *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1")
