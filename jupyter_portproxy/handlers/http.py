"""One HTTP request, from its head to the end of its answer: admitted, handed to the gateway, its answer relayed.

Rule of this file: what is not admitted already goes through every check of `PortHandler`. It is an HTTPMessageDelegate
(tornado.routing), not a RequestHandler: that streams both ways at once and knows every method.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, HTTPServerRequest, RequestStartLine, ResponseStartLine
from tornado.iostream import StreamClosedError
from tornado.web import Application

from ..errors import HUB, BadFraming, Forbidden, GatewayError, HostDown, Internal, MethodRefused
from ..gateway.gateway import Destination, Gateway
from ..gateway.limits import Slot
from ..protocol import framing
from ..protocol.headers import Fields
from ..protocol.named_project_urls import NamedProjectRoute
from ..protocol.project_urls import ProjectRoute
from ..protocol.urls import Redirect, Route, ServiceRoute
from ..services.hooks import BufferedResponse
from ..upstream.closable import Closable, CloseCode
from ..upstream.exchange import Exchange, Outbound
from .base import PortHandler, connection_of, stay_in_touch
from .decision_cache import SECONDS, Admission, Admissions, begin_of
from .response import Answer

_NO_LIMIT = 1 << 62
Found = Route | ServiceRoute | ProjectRoute | NamedProjectRoute | Redirect | GatewayError


class PortExchange(HTTPMessageDelegate, Closable):
    """One HTTP request, from its head on.

    Args:
        found: where its URL leads, or why nowhere; or what lets it in without a check.
        kind: who may ask.
        admissions: where what lets it in is kept, if anywhere.
    """

    def __init__(
        self,
        application: Application,
        request: HTTPServerRequest,
        gateway: Gateway,
        found: Found | Admission,
        kind: type[PortHandler] = PortHandler,
        parts: dict[str, Any] | None = None,
        admissions: Admissions | None = None,
    ) -> None:
        self._admissions = admissions
        self._gateway, self._found, self._request = gateway, found, request
        self._application, self._kind, self._parts = application, kind, parts
        self._made: PortHandler | None = None
        self._admission: Admission | None = None
        self._exchange: Exchange | None = None
        self._relay: asyncio.Task[Callable[[], None]] | None = None
        self._ending: Callable[[], None] = _nothing  # of the answer: Tornado wants it after the request's end
        self._answer: Answer | None = None
        self._instead: GatewayError | None = None  # of what became of the answer: why somebody has ended it

    @property
    def _handler(self) -> PortHandler:
        """Who asks, for the checks, for a refusal and for the log; a request that is admitted already needs none."""
        if self._made is None:
            self._made = self._kind(self._application, self._request, **(self._parts or {"gateway": self._gateway}))
            self._made._transforms = []  # as RequestHandler._execute does: a refusal is written by the handler itself
            # Tornado's templates, which are not used here, make it know itself: the garbage collector would have to find it,
            # and the request with it, where an answer is relayed without its `finish`.
            self._made._break_cycles()
            if self._admission is not None:
                self._made.is_logged_in(self._admission.user, self._admission.client)
                self._made.asked, self._made.destination = self._admission.asked, self._admission.destination
        return self._made

    async def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        connection: Any = self._request.connection
        connection.set_close_callback(self.on_connection_close)
        connection.set_max_body_size(_NO_LIMIT)
        try:
            if isinstance(self._found, Admission):
                await self._open_admitted(self._found)
            else:
                await self._examine(self._found)
        except GatewayError as error:
            self._handler.refuse(error)
        except StreamClosedError:
            self.on_connection_close()
        except Exception:
            self._handler.log.exception("portproxy: a request failed")
            self._handler.refuse(Internal())

    async def _open_admitted(self, admission: Admission) -> None:
        uri, self._admission = self._request.uri or "", admission
        connection = connection_of(self._request)
        if connection.stream.closed():  # Tornado still reads what it had buffered
            raise StreamClosedError()
        stay_in_touch(connection)
        if not admission.may_change or await self._holds(admission):
            await self._open(admission, admission.outbound_of(uri))
        else:
            self._admission = self._made = None
            await self._examine(admission.asked_at(uri))

    async def _holds(self, admission: Admission) -> bool:
        """Nobody who has a say in it has changed their mind."""
        if admission.is_asked and not await self._handler.is_still(admission.user, admission.by_token):
            return False
        chain, to = self._gateway.projects, admission.destination
        return self._gateway.is_there(to) and (chain is None or to.hooks is None or await chain.holds(to))

    async def _examine(self, found: Found) -> None:
        """Every check, and on to the service if there is one."""
        begun, request = time.monotonic(), self._request
        handler, gateway = self._handler, self._gateway
        method = request.method or ""
        gateway.limits.check_fields(handler.fields)
        content = framing.parse_request_content(request.version, handler.fields)
        if method in ("CONNECT", "TRACE"):
            raise MethodRefused(f"The method {method} cannot pass a gateway.", "Use another method.")
        if not framing.is_method(method):
            raise BadFraming("The request's method is no token.", "See RFC 9110, section 9.1.")
        if not isinstance(found, Redirect) or found.needs_login:
            await handler.admit(found)
        if isinstance(found, GatewayError):
            raise found
        elsewhere = handler.address_at_origin(found)
        if elsewhere is not None:
            found = Redirect(elsewhere, 302)
        found = await handler.start_project(found) or found
        if isinstance(found, Redirect):
            if content is None:
                self._redirect(found)
            else:  # answered before all is read, a browser that still sends would see a broken connection
                self._ending = partial(self._redirect, found)
            return
        destination = await handler.locate(found)
        if destination.hooks is not None and destination.hooks.raw_socket:
            raise MethodRefused("This service speaks over WebSockets only.", "Open it with a program that does.")
        counted = handler.is_activity(destination.hooks)
        outbound = gateway.outbound(method, destination, handler.fields, handler.client, content)
        admission = self._admission = Admission(
            found,
            handler.current_user,
            handler.token_authenticated,
            handler.client,
            destination,
            outbound,
            counted,
            handler.is_told,
            handler.is_asked,
            handler.fields,
            begin_of(found, destination, content, request.query_arguments),
            begun + SECONDS,
        )
        # An upgrade that HTTP/1.0 cannot have is served as if it were not asked; one with the same fields may be granted.
        if admission.begin and self._admissions is not None and "Upgrade" not in request.headers:
            self._admissions.keep(admission, request)
        await self._open(admission, outbound)

    async def _open(self, admission: Admission, outbound: Outbound) -> None:
        gateway, destination = self._gateway, admission.destination
        slot = gateway.limits.exchanges.acquire(admission.user.username, destination.port)
        try:
            self._exchange = gateway.start(outbound, counted=admission.counted)
        except BaseException:
            slot.release()
            raise
        answer = Answer(self._request, gateway, destination, admission.client, self._login_cookies(), self._tell)
        self._answer = answer
        self._watch(destination)
        hooks = destination.hooks
        relay = self._relay_rewritten if hooks is not None and hooks.rewrites else self._relay_pieces
        if answer.journey is not None and outbound.method in ("GET", "HEAD") and outbound.content is None:
            relay = self._relay_followed
        if admission.client.preflight:
            relay = self._relay_head
        relaying = self._relay_answer(self._exchange, answer, partial(relay, admission), slot)
        if outbound.content is not None:  # it follows at once: both directions at the same time
            self._relay = asyncio.get_running_loop().create_task(relaying, name="portproxy relay")
            self._relay.add_done_callback(lambda relay: relay.result()())
            return
        # While a request is read Tornado has no ear for a client that goes; this one is read, it has no content.
        connection_of(self._request).stream.set_close_callback(self.on_connection_close)
        self._ending = await relaying

    def _watch(self, destination: Destination) -> None:
        """Let those know of an answer under way who may have to end it. A login of Jupyter's own kinds has no end."""
        chain, handler = self._gateway.projects, self._made
        if handler is not None and handler.is_watched:
            handler.opened(self, destination)
        elif chain is not None:
            chain.watch(self, destination)

    def _login_cookies(self) -> Fields:
        return self._made.login_cookies() if self._made is not None else []

    def _tell(self, status: int) -> None:
        """Successes are told at DEBUG in Jupyter's log: not worth the words where nobody reads them."""
        self._gateway.counters.answer(status)
        if not (status < 300 or status == 304) or (self._admission is not None and self._admission.is_told):
            self._handler.log_answer(status)

    def _redirect(self, to: Redirect) -> None:
        self._handler.redirect_to(to.location, to.status)

    async def data_received(self, chunk: bytes) -> None:
        if self._exchange is not None:
            self._gateway.counters.bytes_to_service += len(chunk)
            await self._exchange.send(chunk)

    def finish(self) -> None:
        if self._exchange is not None:
            self._exchange.end_content()
        ending, self._ending = self._ending, _nothing  # what has ended is let go of without the garbage collector's help
        ending()

    def on_connection_close(self) -> None:
        if self._exchange is not None:
            self._exchange.abort()

    def shut_down(self, code: CloseCode = CloseCode.GOING_AWAY) -> None:
        """Its user may not have the rest of it; or a host that is given up has not begun to answer.

        What has begun where a project was is let end there.
        """
        answer = self._answer
        if answer is None:
            return
        if code == CloseCode.SERVICE_RESTART or (code == CloseCode.BAD_GATEWAY and answer.started):
            return
        if code == CloseCode.BAD_GATEWAY:
            self._instead = HostDown(HUB)
        else:
            self._instead = Forbidden("You may not reach this any more.", "Log in again, or ask the owner.")
        if answer.started:
            connection_of(self._request).stream.close()  # a client that does not read would hold it up
        self.on_connection_close()

    async def _relay_pieces(self, admission: Admission, exchange: Exchange, answer: Answer) -> None:
        """The answer as it comes."""
        gateway = self._gateway
        head = await gateway.head_of(exchange)
        first = await gateway.content_of(exchange) if exchange.whole else None
        await answer.start(head.status, head.reason, head.fields, first)
        while not exchange.drained:
            piece = await gateway.content_of(exchange)
            if piece:
                if admission.counted:
                    gateway.count()
                await answer.write(piece)

    async def _relay_head(self, admission: Admission, exchange: Exchange, answer: Answer) -> None:
        """The answer without its content: who asks has no login."""
        head = await self._gateway.head_of(exchange)
        fields = framing.set_content_length(head.fields, None if head.status in (204, 304) else 0)
        await answer.start(head.status, head.reason, fields, b"")

    async def _relay_followed(self, admission: Admission, exchange: Exchange, answer: Answer) -> None:
        """The answer at the end of the service's redirects to itself."""
        gateway, journey, destination = self._gateway, answer.journey, admission.destination
        assert journey is not None  # it asked for this
        head = await gateway.head_of(exchange)
        while journey.follow(head.status, answer.fields_of(head.fields)):
            exchange.abort()
            target, mark, query = journey.target.partition("?")
            route = replace(destination.route, path=target[len(destination.route.prefix) :], query=mark + query)
            destination = replace(destination, route=route)
            sent = journey.map_request_fields(admission.fields)
            outbound = gateway.outbound(admission.outbound.method, destination, sent, admission.client)
            self._exchange = exchange = gateway.start(outbound, counted=admission.counted)
            head = await gateway.head_of(exchange)
        await self._relay_pieces(admission, exchange, answer)

    async def _relay_rewritten(self, admission: Admission, exchange: Exchange, answer: Answer) -> None:
        """The answer read to its end and changed by functions of the configuration; event streams have no end."""
        head = await self._gateway.head_of(exchange)
        if framing.find_field(head.fields, "content-type").lower().startswith("text/event-stream"):
            await self._relay_pieces(admission, exchange, answer)
            return
        content = await self._gateway.whole_content_of(exchange)
        route, hooks = admission.destination.route, admission.destination.hooks
        assert hooks is not None  # it asked for this
        whole = BufferedResponse(head.status, head.reason, head.fields, content)
        whole = hooks.rewrite(whole, self._request, route.host, route.port, route.path)
        bodyless = self._request.method == "HEAD" or whole.status in (204, 304)
        fields = framing.set_content_length(whole.fields, None if bodyless else len(whole.content))
        await answer.start(whole.status, whole.reason, fields, b"" if bodyless else whole.content)

    async def _relay_answer(
        self, exchange: Exchange, answer: Answer, relay: Callable[[Exchange, Answer], Awaitable[None]], slot: Slot
    ) -> Callable[[], None]:
        """Relay an answer; what ends it is returned, to be called when the request has been read."""
        try:
            await relay(exchange, answer)
            return answer.finish
        except StreamClosedError:
            return _nothing  # the client is gone: the upstream is told by the abort below and blamed for nothing
        except GatewayError as error:
            return self._failed(error, answer)
        except Exception:
            self._handler.log.exception("portproxy: relaying an answer failed")
            return self._failed(Internal(), answer)
        finally:
            if self._exchange is not None:
                self._exchange.abort()
            self._answer = None  # they know each other: let go of without the garbage collector, too
            self.run_close_callbacks()
            slot.release()

    def _failed(self, error: GatewayError, answer: Answer) -> Callable[[], None]:
        if not answer.started:
            return partial(self._handler.refuse, self._instead or error)
        answer.cut()
        return _nothing


def _nothing() -> None:
    """There is nothing to be done at the end."""
