"""Tornado's side: authenticate, authorise, parse, hand over to the gateway; the one error page.

Rule of this file: nothing of a request's content is read and no upgrade is answered before `PortHandler.admit` has passed.
HTTP is served as an HTTPMessageDelegate (tornado.routing), which streams both ways at once and knows every method; upgrades
go to a WebSocketHandler.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from dataclasses import dataclass
from http.client import responses
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from jupyter_server.auth.identity import User
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import ensure_async
from tornado.http1connection import HTTP1Connection
from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
    format_timestamp,
)
from tornado.iostream import IOStream, StreamClosedError
from tornado.routing import Router
from tornado.template import Loader
from tornado.web import Application, HTTPError
from tornado.websocket import WebSocketHandler, WebSocketProtocol

from . import fields as f
from . import routes
from .errors import (
    BadFraming,
    Forbidden,
    GatewayError,
    Internal,
    LoginUnavailable,
    MethodRefused,
    Unauthenticated,
    UpgradeRefused,
)
from .gateway import PortProxy
from .routes import Redirect, Route, ServiceRoute, Upstream
from .transport import Exchange
from .tunnel import DialFirst, Tunnel, dial, shake_hands

RESOURCE, ACTION = "portproxy", "execute"
_NO_LIMIT = 1 << 62
_LOGIN, _LOGIN_SECONDS = "_portproxy_login", 1.0
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_PAGES = Loader(str(Path(__file__).parent / "templates"))


@dataclass(frozen=True, slots=True)
class _Login:
    """Who is logged in on a connection, and by which fields."""

    user: User
    by_token: bool
    client: f.Client
    fields: f.Fields
    since: float


class PortRouter(Router):
    """Chooses, for a URL below `proxy/`, who serves it. To be mounted with a rule that matches every path."""

    SUPPORTED_METHODS: tuple[str, ...] = ()  # jupyter_server looks here for methods without a login check: there is none

    def __init__(self, application: Application, gateway: PortProxy) -> None:
        self._application, self._gateway = application, gateway
        self._base_url: str = application.settings["base_url"]

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> HTTPMessageDelegate | None:
        try:
            route = routes.parse(request.uri or "", self._base_url) or self._bare_name(request.uri or "")
        except GatewayError as error:
            return PortExchange(self._application, request, self._gateway, error)
        if route is None:
            return None
        if isinstance(route, (Route, ServiceRoute)) and _asks_for_websocket(request):
            arguments = {"gateway": self._gateway, "route": route}
            return self._application.get_handler_delegate(request, TunnelHandler, arguments)
        return PortExchange(self._application, request, self._gateway, route)

    def _bare_name(self, uri: str) -> Redirect | None:
        """`NAME/` as jupyter-server-proxy had it, for the services that there are."""
        services = self._gateway.services
        name, rest = routes.bare_name(uri, self._base_url)
        if not name or services is None or name not in services:
            return None
        slash = "" if rest.startswith("/") else "/"
        return Redirect(f"{routes.service_url(self._base_url, name)}{slash}{rest}", 307)


class PortHandler(JupyterHandler):
    """Who asks, and what a refusal looks like; both kinds of traffic share it."""

    client: f.Client  # known once `admit` has passed

    def initialize(self, gateway: PortProxy) -> None:
        self.gateway = gateway

    def clear(self) -> None:
        """Without Tornado's own fields: a service's answer is its own, and a refusal sets what it needs."""
        self._headers = HTTPHeaders()
        self._write_buffer: list[bytes] = []
        self.set_status(200)

    def compute_etag(self) -> None:
        return None

    async def _log_in(self) -> None:
        """Who asks, by the identity provider's word; for a second it holds for the very same fields on the same connection.

        Raises:
            Unauthenticated, Forbidden, LoginUnavailable
        """
        now, fields = time.monotonic(), list(self.request.headers.get_all())
        context: Any = self._connection.context
        memo: _Login | None = getattr(context, _LOGIN, None)
        in_url = "token=" in (self.request.uri or "")
        if memo is not None and memo.fields == fields and now - memo.since < _LOGIN_SECONDS and not in_url:
            self.current_user, self._token_authenticated, self.client = memo.user, memo.by_token, memo.client
            return
        if not self.check_host():
            raise Forbidden("This server does not answer to that host name.", "Use the address that the server printed.")
        user = self.current_user = self._jupyter_current_user = await self._ask_identity_provider()
        if user is None:
            raise Unauthenticated()
        self.client = self._describe_client()
        if not in_url and not self.login_cookies():
            setattr(context, _LOGIN, _Login(user, self.token_authenticated, self.client, fields, now))

    async def _ask_identity_provider(self) -> User | None:
        try:
            return cast("User | None", await ensure_async(self.identity_provider.get_user(self)))
        except HTTPError as error:
            if error.status_code < 500:
                raise Forbidden("Your login is not accepted here.", "Log in to Jupyter again.") from None
            self.log.warning("portproxy: the identity provider failed: %s", error)
            raise LoginUnavailable() from None
        except Exception:
            self.log.exception("portproxy: the identity provider failed")
            raise LoginUnavailable() from None

    def set_signed_cookie(self, name: str, value: str | bytes, *args: Any, **kwargs: Any) -> None:
        """No login cookie for a program that sends its token with each request: signing one costs more than the login."""
        if "Authorization" not in self.request.headers:
            super().set_signed_cookie(name, value, *args, **kwargs)

    set_secure_cookie = set_signed_cookie

    def log_answer(self) -> None:
        """The access log. Successes are told at DEBUG there: not worth the words where nobody reads them."""
        status = self.get_status()
        if not (status < 300 or status == 304) or self._debugging():
            self.application.log_request(self)

    def _debugging(self) -> bool:
        serverapp = self.serverapp
        return serverapp is not None and any(reader.level <= logging.DEBUG for reader in serverapp.log.handlers)

    async def admit(self) -> None:
        """Login, authorisation and origin of the request.

        Raises:
            Unauthenticated, Forbidden, LoginUnavailable
            StreamClosedError: the connection was closed before this request's turn; Tornado still reads what it had buffered.
        """
        if self._connection.stream.closed():
            raise StreamClosedError()
        await self._log_in()
        if not await ensure_async(self.authorizer.is_authorized(self, self.current_user, ACTION, RESOURCE)):
            raise Forbidden("You may not reach services through this server.", f"Ask for the permission {RESOURCE}:{ACTION}.")
        if not self._same_site():
            raise Forbidden("This request comes from another site.", "Open the service's own address in the browser.")

    @property
    def _connection(self) -> HTTP1Connection:
        return cast(HTTP1Connection, self.request.connection)

    async def locate(self, asked: Route | ServiceRoute) -> tuple[Route, Upstream]:
        """Where the request goes. A page of a service that is starting is told so; all else waits until it is up."""
        if isinstance(asked, Route):
            return asked, await self.gateway.resolve(asked)
        return await self.gateway.locate(asked, patient=not self._is_navigation())

    def _describe_client(self) -> f.Client:
        """What the gateway needs to know about who asks."""
        request = self.request
        context: Any = self._connection.context
        secrets = {str(self.identity_provider.token or "") if hasattr(self.identity_provider, "token") else ""}
        if self.token_authenticated:
            secrets.add(self.identity_provider.get_token(self) or "")
        secrets.add(_cookie_value(request.headers.get_list("Cookie"), "_xsrf"))
        return f.Client(
            address=request.remote_ip or "",
            peer=getattr(context, "_orig_remote_ip", None) or request.remote_ip or "",
            scheme=request.protocol,
            host=request.headers.get("Host", ""),
            trusted=bool(self.settings.get("trust_xheaders") or self._trusts_front()),
            secrets=frozenset(secrets - {""}),
            login_cookie=self.identity_provider.get_cookie_name(self),
        )

    def refuse(self, error: GatewayError) -> None:
        """Answer with the error page, or send a page navigation to the login."""
        if self._finished:
            return
        self.clear()
        self.set_header("Date", format_timestamp(time.time()))
        if isinstance(error, Unauthenticated) and self._is_navigation():
            self.set_status(302)
            self.set_header("Location", self._login_address())
            self.finish()
            return
        retry = error.retry_after
        if retry is not None:
            self.set_header("Retry-After", str(retry))
        self.set_status(error.status)
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        kind, text = self._page(error)
        self.set_header("Content-Type", f"{kind}; charset=utf-8")
        self.set_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'")
        self.finish(text)

    def on_connection_close(self) -> None:
        """The client is gone."""

    def _page(self, error: GatewayError) -> tuple[str, str]:
        accept = self.request.headers.get("Accept", "")
        if "application/json" in accept and "text/html" not in accept:
            body: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
            if error.details:
                body["details"] = error.details
            return "application/json", json.dumps(body)
        if "text/html" in accept:
            reload = error.retry_after if self.request.method == "GET" else None
            page = _PAGES.load("error.html").generate(error=error, reload=reload)
            return "text/html", page.decode("utf-8")
        return "text/plain", "\n".join([error.message, error.hint, *error.details, ""])

    def _is_navigation(self) -> bool:
        headers = self.request.headers
        if self.request.method not in ("GET", "HEAD") or "Upgrade" in headers:
            return False
        mode = headers.get("Sec-Fetch-Mode")
        return mode == "navigate" if mode else "text/html" in headers.get("Accept", "")

    def _login_address(self) -> str:
        url = self.get_login_url()
        if "?" in url:
            return url
        uri = self.request.uri or ""
        return f"{url}?{urlencode({'next': self.request.full_url() if urlsplit(url).scheme else uri})}"

    def _same_site(self) -> bool:
        """True unless another site's page sent this (Fetch Metadata, else RFC 6454 Origin)."""
        headers = self.request.headers
        upgrade = "Upgrade" in headers
        site = headers.get("Sec-Fetch-Site")
        if site is not None and site not in ("same-origin", "none"):
            top = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest", "document") == "document"
            if not (top and self.request.method in ("GET", "HEAD") and not upgrade) and not self._origin_allowed():
                return False
        if self.request.method in _SAFE and not upgrade:
            return True
        return "Origin" not in headers or self._origin_allowed()

    def _origin_allowed(self) -> bool:
        """True for our own origin and those that the administrator gave to Jupyter (allow_origin, allow_origin_pat)."""
        origin = self.request.headers.get("Origin", "").lower()
        scheme, _, host = origin.partition("://")
        if scheme in ("http", "https") and host and host == self.request.headers.get("Host", "").lower():
            return True
        if not origin:
            return False
        if self.allow_origin:
            return self.allow_origin in ("*", origin)
        return bool(self.allow_origin_pat and re.match(str(self.allow_origin_pat), origin))

    def _trusts_front(self) -> bool:
        serverapp = self.serverapp
        return bool(serverapp and serverapp.trust_xheaders)

    def login_cookies(self) -> f.Fields:
        """The Set-Cookie fields that logging in has left for the answer."""
        jar: Any = getattr(self, "_new_cookie", None) or {}
        return [("Set-Cookie", morsel.OutputString(None)) for morsel in jar.values()]


class Answer:
    """Writes a relayed answer to the client, each piece flushed before the next is read."""

    def __init__(self, handler: PortHandler, route: Route, upstream: Upstream, client: f.Client) -> None:
        self._handler, self._route, self._upstream, self._client = handler, route, upstream, client
        self._connection: HTTP1Connection = handler.request.connection  # type: ignore[assignment]
        self._until_close = False
        self.started = False

    def headers(self, fields: f.Fields) -> HTTPHeaders:
        headers = HTTPHeaders()
        for name, value in f.to_client(fields, self._route, self._upstream, self._client) + self._handler.login_cookies():
            headers.add(name, value)
        if "Date" not in headers:  # RFC 9110 6.6.1: a gateway adds what the upstream left out
            headers.add("Date", format_timestamp(time.time()))
        return headers

    async def start(self, status: int, reason: str, fields: f.Fields, first: bytes | None = None) -> None:
        headers = self.headers(fields)
        request = self._handler.request
        self._until_close = request.version == "HTTP/1.0" and "Content-Length" not in headers
        self._handler.set_status(status, reason or responses.get(status, "Unknown"))
        self.started = True
        await self._connection.write_headers(ResponseStartLine("HTTP/1.1", status, reason), headers, first)

    async def write(self, data: bytes) -> None:
        await self._connection.write(data)

    def finish(self) -> None:
        self._connection.finish()
        if self._until_close:
            self._connection.close()
        self._handler.log_answer()

    def cut(self) -> None:
        """End the connection, so that what was sent cannot look whole."""
        self._connection.close()
        self._handler.log_answer()


class PortExchange(HTTPMessageDelegate):
    """One HTTP request, from its head on. `found` is where its URL leads, or why nowhere."""

    def __init__(
        self,
        application: Application,
        request: HTTPServerRequest,
        gateway: PortProxy,
        found: Route | ServiceRoute | Redirect | GatewayError,
    ) -> None:
        self._gateway, self._found, self._request = gateway, found, request
        self._handler = PortHandler(application, request, gateway=gateway)
        self._handler._transforms = []  # as RequestHandler._execute does: a refusal is written by the handler itself
        self._exchange: Exchange | None = None
        self._relay: asyncio.Task[None] | None = None

    async def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        connection: Any = self._request.connection
        connection.set_close_callback(self.on_connection_close)
        connection.set_max_body_size(_NO_LIMIT)
        try:
            await self._open()
        except GatewayError as error:
            self._handler.refuse(error)
        except StreamClosedError:
            self.on_connection_close()
        except Exception:
            self._handler.log.exception("portproxy: a request failed")
            self._handler.refuse(Internal())

    async def _open(self) -> None:
        request, handler, gateway = self._request, self._handler, self._gateway
        method = request.method or ""
        fields = list(request.headers.get_all())
        f.request_content(request.version, fields)
        if method in ("CONNECT", "TRACE"):
            raise MethodRefused(f"The method {method} cannot pass a gateway.", "Use another method.")
        if not f.is_method(method):
            raise BadFraming("The request's method is no token.", "See RFC 9110, section 9.1.")
        await handler.admit()
        found = self._found
        if isinstance(found, GatewayError):
            raise found
        if isinstance(found, Redirect):
            handler.set_status(found.status)
            handler.set_header("Location", found.location)
            await handler.finish()
            return
        client = handler.client
        route, upstream = await handler.locate(found)
        self._exchange = gateway.open_exchange(method, route, upstream, fields, client)
        answer = Answer(handler, route, upstream, client)
        self._relay = asyncio.get_running_loop().create_task(self._relay_answer(self._exchange, answer), name="portproxy relay")

    async def data_received(self, chunk: bytes) -> None:
        if self._exchange is not None:
            await self._exchange.send(chunk)

    def finish(self) -> None:
        if self._exchange is not None:
            self._exchange.end_content()

    def on_connection_close(self) -> None:
        if self._exchange is not None:
            self._exchange.abort()

    async def _relay_answer(self, exchange: Exchange, answer: Answer) -> None:
        gateway = self._gateway
        try:
            head = await gateway.head_of(exchange)
            first = await gateway.content_of(exchange) if exchange.whole else None
            await answer.start(head.status, head.reason, head.fields, first)
            while first != b"":
                first = await gateway.content_of(exchange)
                if first:
                    gateway.count()
                    await answer.write(first)
            answer.finish()
        except StreamClosedError:
            pass  # the client is gone: the upstream is told by the abort below and blamed for nothing
        except GatewayError as error:
            if answer.started:
                answer.cut()
            else:
                self._handler.refuse(error)
        except Exception:
            self._handler.log.exception("portproxy: relaying an answer failed")
            answer.cut()
        finally:
            exchange.abort()


class TunnelHandler(WebSocketHandler, PortHandler):
    """One WebSocket handshake: admitted here, granted or refused by the upstream."""

    def initialize(self, gateway: PortProxy, route: Route | ServiceRoute) -> None:  # type: ignore[override]
        super().initialize(gateway=gateway)
        self._asked = route
        self._upstream_stream: IOStream | None = None

    async def prepare(self) -> None:  # type: ignore[override]
        try:
            await self.admit()
            if f.request_content(self.request.version, list(self.request.headers.get_all())) not in (None, f.Content(0)):
                raise BadFraming("A WebSocket request has no content.", "See RFC 6455, section 4.1.")
            if not self.request.headers.get("Sec-WebSocket-Key"):
                raise UpgradeRefused("The WebSocket request has no Sec-WebSocket-Key.", "See RFC 6455, section 4.1.")
        except GatewayError as error:
            self.refuse(error)
        except StreamClosedError:
            self._finished = True

    def check_origin(self, origin: str | None = None) -> bool:
        """`admit` has checked it."""
        return True

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        return DialFirst(self, self._accept, self._abandon)

    async def _accept(self) -> None:
        client = self.client
        answer: Answer | None = None
        try:
            route, upstream = await self.locate(self._asked)
            answer = Answer(self, route, upstream, client)
            head = self._handshake(route, upstream, client)
            gateway = self.gateway
            stream = self._upstream_stream = await dial(upstream, gateway.approve_connection, gateway.connect_timeout)
            granted = await shake_hands(stream, head, answer, gateway.first_byte_timeout)
            if granted is None:
                self._finished = True
            else:
                await self._connect(stream, answer, granted)
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

    async def _connect(self, upstream: IOStream, answer: Answer, granted: f.Fields) -> None:
        tunnel = Tunnel(self.gateway.count)
        self.gateway.add_tunnel(tunnel)
        headers = answer.headers(granted)
        offered = list(self.request.headers.get_all())
        fields = [*f.upgrade_fields(), *headers.get_all(), *f.subprotocol_for_client(offered, granted)]
        first = _print_head("HTTP/1.1 101 Switching Protocols", fields)
        self.set_status(101)
        self._upstream_stream = None
        try:
            await tunnel.connect(self.detach(), upstream, first)
        except StreamClosedError:
            upstream.close()
            tunnel.on_closed(tunnel)
        self.log_answer()

    def _handshake(self, route: Route, upstream: Upstream, client: f.Client) -> bytes:
        inbound = list(self.request.headers.get_all())
        fields = self.gateway.outbound_fields(route, upstream, inbound, client)
        target = f.target_without_secrets(route.target, client)
        return _print_head(f"GET {target} HTTP/1.1", [*fields, *f.upgrade_fields()])

    def _abandon(self) -> None:
        if self._upstream_stream is not None:
            self._upstream_stream.close()


def _asks_for_websocket(request: HTTPServerRequest) -> bool:
    headers = request.headers
    return "Upgrade" in headers and f.is_websocket(request.method or "", request.version, list(headers.get_all()))


def _print_head(start_line: str, fields: f.Fields) -> bytes:
    lines = [start_line, *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _cookie_value(lines: list[str], name: str) -> str:
    for pair in ";".join(lines).split(";"):
        key, _, value = pair.partition("=")
        if key.strip() == name:
            return value.strip().strip('"')
    return ""
