"""One HTTP request, from its head to the end of its response: admitted, sent to the upstream, the response relayed.

`HttpDelegate` is an HTTPMessageDelegate (tornado.routing), not a RequestHandler: it streams both ways at once and takes every
method. Its parts exist one after the other: `_exchange` once the request has gone to the upstream, `_response` until the relay
has ended. `_finish` ends the response and is called by Tornado's `finish`, when the request has been read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import StreamClosedError

from ..errors import HUB, Forbidden, GatewayError, HostDown
from ..gateway.destinations import Destination
from ..gateway.limits import Slot
from ..protocol import framing
from ..protocol.url_fields import REDIRECT_STATUSES
from ..protocol.urls import BaseRoute, Redirected
from ..services.hooks import BufferedResponse
from ..upstream.closable import Closable, CloseCode
from ..upstream.exchange import Exchange, Outbound
from . import pipeline
from .base import ProxyRequest
from .decision_cache import MAX_AGE, CachedDecision, DecisionCache, cacheable_prefix
from .observation import make_response
from .response import RelayedResponse

_NO_LIMIT = 1 << 62


class HttpDelegate(HTTPMessageDelegate, Closable):
    """One HTTP request.

    Args:
        route: of its URL, or the decision's.
        cache: keeps the decision about this request, if given.
        decision: of the cache, for this request.
    """

    def __init__(
        self,
        request: ProxyRequest,
        route: BaseRoute,
        cache: DecisionCache | None = None,
        decision: CachedDecision | None = None,
    ) -> None:
        self._request, self._gateway, self._route = request, request.gateway, route
        self._cache, self._cached = cache, decision
        self._exchange: Exchange | None = None
        self._response: RelayedResponse | None = None
        self._relay: asyncio.Task[Callable[[], None]] | None = None
        self._finish: Callable[[], None] = _nothing
        self._early_end: GatewayError | None = None  # why `shut_down` has ended it

    async def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        connection: Any = self._request.connection
        self._request.set_close_callback(self.on_connection_close)
        connection.set_max_body_size(_NO_LIMIT)
        try:
            decision, uri = self._cached, self._request.request.uri or ""
            slot = await pipeline.readmit(self._request, decision) if decision is not None else None
            if decision is None:
                await self._admit(self._route)
            elif slot is None:
                await self._admit(self._route.at(uri))
            else:
                destination = decision.destination.at(uri)
                await self._open(decision, destination, decision.outbound_to(destination), slot)
        except Redirected as redirected:
            if framing.announces_content(headers):
                # Before the content is read, a browser that still sends would see a broken connection.
                self._finish = partial(self._request.fail, redirected)
            else:
                self._request.fail(redirected)
        except Exception as error:
            self._request.fail(error)

    async def _admit(self, route: BaseRoute) -> None:
        started, request, gateway = time.monotonic(), self._request, self._gateway
        rules_version = gateway.policy.rules_version
        admitted = await pipeline.admit(request, route)
        destination = admitted.destination
        try:
            method = request.request.method or ""
            outbound = gateway.outbound.build(method, destination, request.fields, request.client, admitted.content)
            decision = CachedDecision(
                route=route,
                user=request.user,
                by_token=request.jupyter.token_authenticated,
                client=request.client,
                destination=destination,
                outbound=outbound,
                is_activity=admitted.is_activity,
                logs_success=request.logs_success,
                is_revocable=request.is_revocable,
                fields=request.fields,
                prefix=cacheable_prefix(route, destination, admitted.content, request.request.query_arguments),
                until=started + MAX_AGE,
                rules_version=rules_version,
            )
        except BaseException:
            admitted.slot.release()
            raise
        # An upgrade is ignored in HTTP/1.0; a request with the same fields in HTTP/1.1 may become a tunnel.
        if decision.prefix and self._cache is not None and "Upgrade" not in request.request.headers:
            self._cache.keep(decision, request.request)
        await self._open(decision, destination, outbound, admitted.slot)

    async def _open(self, decision: CachedDecision, destination: Destination, outbound: Outbound, slot: Slot) -> None:
        """Send the request to the upstream and relay the response.

        Args:
            destination, outbound: of this request; the decision's may have another path.
            slot: released here or when the relay has ended.
        """
        gateway, request = self._gateway, self._request
        if decision.is_activity and destination.activity.excludes(request.request.uri or ""):
            decision = replace(decision, is_activity=False)
        if request.observed is not None:
            request.observed.pass_on(destination, decision.client, decision.fields, outbound.fields)
        try:
            self._exchange = gateway.start(outbound, is_activity=decision.is_activity)
        except BaseException:
            slot.release()
            raise
        record = partial(request.record_response, logs_success=decision.logs_success)
        parts = (request.request, gateway, destination, decision.client, request.login_cookies(), record)
        response = self._response = make_response(request.observed, *parts)
        self._watch(decision)
        hooks = destination.hooks
        relay = self._relay_rewritten if hooks is not None and hooks.rewrites else self._relay_pieces
        if response.redirects is not None and outbound.method in ("GET", "HEAD") and outbound.content is None:
            relay = self._relay_followed
        if decision.client.preflight:
            relay = self._relay_head
        relaying = self._relay_response(self._exchange, response, partial(relay, decision, destination), slot)
        if outbound.content is not None:  # it follows at once: both directions at the same time
            self._relay = asyncio.get_running_loop().create_task(relaying, name="portproxy relay")
            self._relay.add_done_callback(self._end_relay)
            return
        # While it calls `headers_received`, Tornado does not watch the connection; this request has no content to come.
        request.connection.stream.set_close_callback(self.on_connection_close)
        self._finish = await relaying

    def _end_relay(self, relay: asyncio.Task[Callable[[], None]]) -> None:
        self._relay = None  # the result refers to the response, and that to this object
        relay.result()()

    def _watch(self, decision: CachedDecision) -> None:
        """Let the login and the chain end the exchange. A login of Jupyter's own kinds has no end."""
        if decision.is_revocable or self._request.is_isolated:
            self._request.watch(self, decision.destination)
        elif self._gateway.projects is not None:
            self._gateway.projects.watch(self, decision.destination)

    async def data_received(self, chunk: bytes) -> None:
        if self._exchange is not None:
            self._gateway.counters.bytes_to_service += len(chunk)
            if self._request.observed is not None:
                self._request.observed.bytes_up += len(chunk)
            await self._exchange.send(chunk)

    def finish(self) -> None:
        if self._exchange is not None:
            self._exchange.end_content()
        finish, self._finish = self._finish, _nothing  # so that it is freed without the garbage collector
        finish()

    def on_connection_close(self) -> None:
        if self._exchange is not None:
            self._exchange.abort()

    def shut_down(self, code: CloseCode = CloseCode.GOING_AWAY) -> None:
        """End the response early.

        No effect with SERVICE_RESTART (its project has moved), nor with BAD_GATEWAY (the project's host does not respond) once
        the response has begun: it may be complete there. Every other code ends it because its user may not have the rest.
        """
        response = self._response
        if response is None or code == CloseCode.SERVICE_RESTART or (code == CloseCode.BAD_GATEWAY and response.started):
            return
        if code == CloseCode.BAD_GATEWAY:
            self._early_end = HostDown(HUB)
        else:
            self._early_end = Forbidden("You may not reach this any more.", "Log in again, or ask the owner.")
        if response.started:
            self._request.connection.stream.close()  # a client that does not read would delay it
        self.on_connection_close()

    # ---- kinds of relay ----

    async def _relay_pieces(
        self, decision: CachedDecision, destination: Destination, exchange: Exchange, response: RelayedResponse
    ) -> None:
        gateway = self._gateway
        head = await gateway.read_head(exchange)
        first = await gateway.read_content(exchange) if exchange.whole else None
        await response.start(head.status, head.reason, head.fields, first)
        while not exchange.drained:
            piece = await gateway.read_content(exchange)
            if piece:
                if decision.is_activity:
                    gateway.record_activity()
                await response.write(piece)

    async def _relay_head(
        self, decision: CachedDecision, destination: Destination, exchange: Exchange, response: RelayedResponse
    ) -> None:
        """Relay the response to a preflight, which has no login, without its content."""
        head = await self._gateway.read_head(exchange)
        fields = framing.set_content_length(head.fields, None if head.status in (204, 304) else 0)
        await response.start(head.status, head.reason, fields, b"")

    async def _relay_followed(
        self, decision: CachedDecision, destination: Destination, exchange: Exchange, response: RelayedResponse
    ) -> None:
        """Relay the response at the end of the service's redirects to itself."""
        gateway, redirects = self._gateway, response.redirects
        assert redirects is not None  # or another relay was chosen
        head = await gateway.read_head(exchange)
        while head.status in REDIRECT_STATUSES and redirects.follow(response.fields_of(head.fields)):
            exchange.abort()
            route = destination.route.at(redirects.target)
            destination = replace(destination, route=route)
            response.move_to(route)
            sent = redirects.map_request_fields(decision.fields)
            outbound = gateway.outbound.build(decision.outbound.method, destination, sent, decision.client)
            self._exchange = exchange = gateway.start(outbound, is_activity=decision.is_activity)
            head = await gateway.read_head(exchange)
        await self._relay_pieces(decision, destination, exchange, response)

    async def _relay_rewritten(
        self, decision: CachedDecision, destination: Destination, exchange: Exchange, response: RelayedResponse
    ) -> None:
        """Read the response to its end and let functions of the configuration change it; event streams have no end."""
        head = await self._gateway.read_head(exchange)
        if framing.find_field(head.fields, "content-type").lower().startswith("text/event-stream"):
            await self._relay_pieces(decision, destination, exchange, response)
            return
        content, request = await self._gateway.read_whole_content(exchange), self._request.request
        route, hooks = destination.route, destination.hooks
        assert hooks is not None  # or another relay was chosen
        whole = BufferedResponse(head.status, head.reason, head.fields, content)
        whole = hooks.rewrite(whole, request, route.host, route.port, route.path)
        bodyless = request.method == "HEAD" or whole.status in (204, 304)
        fields = framing.set_content_length(whole.fields, None if bodyless else len(whole.content))
        await response.start(whole.status, whole.reason, fields, b"" if bodyless else whole.content)

    async def _relay_response(
        self,
        exchange: Exchange,
        response: RelayedResponse,
        relay: Callable[[Exchange, RelayedResponse], Awaitable[None]],
        slot: Slot,
    ) -> Callable[[], None]:
        """Relay a response. Returns what ends it, to be called when the request has been read."""
        try:
            await relay(exchange, response)
            return response.finish
        except StreamClosedError as error:
            self._request.fail(error)  # the client has gone; the exchange is aborted below, which is not the upstream's fault
            return _nothing
        except Exception as error:
            if not response.started:
                return partial(self._request.fail, self._early_end or error)
            if not isinstance(error, GatewayError):
                self._gateway.log.exception("portproxy: relaying a response failed")
            response.cut(self._early_end or error)
            return _nothing
        finally:
            if self._exchange is not None:
                self._exchange.abort()
            self._response = None  # both refer to each other: freed without the garbage collector
            self._request.drop_close_callback()
            self.run_close_callbacks()
            slot.release()


def _nothing() -> None:
    """End nothing: there is no response, or it has ended."""
