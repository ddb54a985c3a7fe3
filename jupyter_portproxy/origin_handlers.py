"""Tornado's side of origins: the way from Jupyter into the origin of a port, and what is served there.

Rule of this file: at a host of ours nothing but the service answers, whatever the path; its bytes go the same way as below
`proxy/`. Only the login differs: a session of that one origin, which a ticket from Jupyter began.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from jupyter_server.auth.identity import User
from jupyter_server.utils import ensure_async
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, HTTPServerRequest, parse_cookie
from tornado.iostream import StreamClosedError
from tornado.routing import Router
from tornado.web import Application

from . import fields as f
from . import routes
from .access import ACTION, RESOURCE, PortHandler
from .errors import BadRoute, Forbidden, GatewayError, LoginUnavailable, NoSuchService, Unauthenticated
from .gateway import Closable, Destination, PortProxy
from .handlers import PortExchange, TunnelHandler
from .origins import WELL_KNOWN, Entry, Origins
from .rawsocket import RawSocketHandler
from .routes import Route, ServiceRoute

_FRAMES = ("iframe", "frame")
_PATH = re.compile(r"/[\x21-\xff]*\Z")


class OriginRouter(Router):
    """Chooses who serves a host of ours, and the way into it. To be asked before everybody else."""

    SUPPORTED_METHODS: tuple[str, ...] = ()  # see PortRouter

    def __init__(self, application: Application, gateway: PortProxy, origins: Origins[User]) -> None:
        self._application, self._gateway, self._origins = application, gateway, origins
        self._base_url: str = application.settings["base_url"]

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> HTTPMessageDelegate | None:
        uri, host = request.uri or "", request.headers.get("Host", "").lower()
        parts: dict[str, Any] = {"gateway": self._gateway, "origins": self._origins}
        target = self._origins.names.target_of(host)
        if target is not None:
            return self._at_origin(request, target, parts)
        found = routes.enter_route(uri, self._base_url)
        if found is not None:
            return self._application.get_handler_delegate(request, EnterHandler, {**parts, "target": found[0], "path": found[1]})
        if uri.partition("?")[0] == self._base_url + "logout":
            self._origins.log_out(_cookies(request.headers))
        return None

    def _at_origin(self, request: HTTPServerRequest, target: str, parts: dict[str, Any]) -> HTTPMessageDelegate:
        uri = request.uri or ""
        if self._gateway.origin_below_base_url and uri.startswith(self._base_url):
            uri = uri[len(self._base_url) - 1 :]
        if uri.startswith(WELL_KNOWN):
            return self._application.get_handler_delegate(request, SwapHandler, parts)
        try:
            route = _route_of(target, uri)
        except GatewayError as error:
            return PortExchange(self._application, request, self._gateway, error, OriginHandler, parts)
        if f.is_websocket(request.method or "", request.version, list(request.headers.get_all())):
            special = self._gateway.special_of(target) if isinstance(route, ServiceRoute) else None
            kind = OriginRawSocket if special is not None and special.raw_socket else OriginTunnel
            return self._application.get_handler_delegate(request, kind, {**parts, "route": route})
        return PortExchange(self._application, request, self._gateway, route, OriginHandler, parts)


def _route_of(target: str, uri: str) -> Route | ServiceRoute:
    """Everything at a host of ours, as a route without a prefix.

    Raises:
        BadRoute: the target is no port, or the request target no path.
    """
    path, mark, query = uri.partition("?")
    if not path.startswith("/"):
        raise BadRoute("The request's target is no path.", "See RFC 9112, section 3.2.1.")
    if target.isdigit():
        return Route(routes.LOOPBACK_NAME, routes.port_number(target), "", path, mark + query)
    return ServiceRoute(target, "", path, mark + query)


class EnterHandler(PortHandler):
    """`proxy/enter/TARGET/x`, asked of Jupyter: a ticket, and off to the origin."""

    def initialize(self, gateway: PortProxy, origins: Origins[User], target: str, path: str) -> None:  # type: ignore[override]
        super().initialize(gateway)
        self._origins, self._target, self._path = origins, target, path

    async def prepare(self) -> None:  # type: ignore[override]
        """`get` does what there is to do: Jupyter's own way in answers with other pages."""

    async def get(self) -> None:
        try:
            await self.admit()
            if self.request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
                raise Forbidden("This address is for pages alone.", "Open it in the browser.")
            self._go(await self._address())
        except GatewayError as error:
            self.refuse(error)
        except StreamClosedError:
            self._finished = True

    async def _address(self) -> str:
        """Where to go: into the origin, or to the path form where the browser could not find that.

        Raises:
            BadRoute, Forbidden, NoSuchService
        """
        path_form, path = self._places()
        host = self._origins.names.host_of(self._target, self.request.headers.get("Host", ""))
        if host is None:
            return path_form
        entry = Entry(self._target, host, self.current_user, self._own_origin(), self._login_cookie(), _witness(self))
        ticket = self._origins.ticket(entry)
        if ticket is None:
            raise Forbidden(f"Your browser keeps no cookie of {host}.", "Allow cookies for that address, and open it again.")
        query = urlencode({"ticket": ticket}) + "&next=" + quote(path.encode("latin-1"), safe="")
        return f"{self.request.protocol}://{host}{WELL_KNOWN}enter?{query}"

    def _places(self) -> tuple[str, str]:
        """The URL in the path form; and the path at the origin, which is the same where a service wants to see its prefix."""
        gateway = self.gateway
        if self._target.isdigit():
            port = routes.port_number(self._target)
            gateway.check(Route(routes.LOOPBACK_NAME, port, "", "/", ""), self)
            return f"{gateway.base_url}proxy/port/{port}{self._path}", self._path
        services, reserved = gateway.services, gateway.reservations
        prefix = services.prefix(self._target) if services is not None else None
        if prefix is None and reserved is not None and reserved.get(self._target) is not None:
            prefix = routes.service_url(gateway.base_url, self._target)
        if prefix is None:
            raise NoSuchService(self._target)
        template = gateway.template_of(self._target)
        keeps = template is not None and template.keep_prefix and not self._path.startswith(prefix + "/")
        return prefix + self._path, prefix + self._path if keeps else self._path

    def _own_origin(self) -> str:
        return f"{self.request.protocol}://{self.request.headers.get('Host', '').lower()}"

    def _login_cookie(self) -> tuple[str, str]:
        name = self.identity_provider.get_cookie_name(self)
        value = _cookies(self.request.headers).get(name, "")
        return (name, value) if value else ("", "")

    def _go(self, address: str) -> None:
        self.set_status(302)
        self.set_header("Location", address)
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        self.finish()


class SwapHandler(PortHandler):
    """The gateway's own paths at an origin: a ticket becomes a session; and a sign of life, for pages that ask if it is there."""

    def initialize(self, gateway: PortProxy, origins: Origins[User]) -> None:  # type: ignore[override]
        super().initialize(gateway)
        self._origins = origins

    async def prepare(self) -> None:  # type: ignore[override]
        """No login, and no check of Jupyter's of a host that is not its own."""

    async def get(self) -> None:
        path, _, query = (self.request.uri or "").partition("?")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        if path.endswith(WELL_KNOWN + "hello"):
            self.set_status(204)
        elif path.endswith(WELL_KNOWN + "enter"):
            self._swap(parse_qs(query, encoding="latin-1"))
        else:
            self.set_status(404)
        if not self._finished:
            self.finish()

    def _swap(self, given: dict[str, list[str]]) -> None:
        host, framed = self.request.headers.get("Host", "").lower(), self.request.headers.get("Sec-Fetch-Dest") in _FRAMES
        path = given.get("next", ["/"])[0]
        session = self._origins.enter(given.get("ticket", [""])[0], host, framed=framed) if _PATH.match(path) else None
        if session is None:
            self.refuse(Forbidden("This way in is not open any more.", "Open the service from Jupyter again."))
            return
        secure = self.request.protocol == "https"
        kind = "SameSite=None; Secure; Partitioned" if framed else "SameSite=Lax; Secure" if secure else "SameSite=Lax"
        self.set_status(302)
        self.set_header("Set-Cookie", f"{_cookie_name(self.request)}={session}; Path=/; HttpOnly; {kind}")
        self.set_header("Location", f"{self.request.protocol}://{host}{path}")


class OriginHandler(PortHandler):
    """Who asks at an origin: whoever has a session of it, and nobody else."""

    def initialize(self, gateway: PortProxy, origins: Origins[User], **kwargs: Any) -> None:  # type: ignore[override]
        super().initialize(gateway, **kwargs)
        self._origins = origins
        self._entry: Entry[User] | None = None

    async def admit(self, asked: object = None) -> None:
        if self.connection.stream.closed():
            raise StreamClosedError()
        host, name = self.request.headers.get("Host", "").lower(), _cookie_name(self.request)
        entry = self._entry = await self._origins.session(_cookies(self.request.headers).get(name, ""), host)
        if entry is None:
            raise Unauthenticated()
        self.current_user = self._jupyter_current_user = entry.user
        self._token_authenticated = False
        self.client = replace(
            self._describe_client(),
            secrets=frozenset({str(getattr(self.identity_provider, "token", "") or "")} - {""}),
            login_cookie=name,
            isolated=True,
            embedder=entry.jupyters,
            partitioned=entry.framed,
        )
        if not self._same_site():
            raise Forbidden("This request comes from another site.", "Open the service's own address in the browser.")

    def _same_site(self) -> bool:
        """A partitioned session exists in frames of Jupyter's pages alone: they may be pointed at it."""
        headers = self.request.headers
        framed = self._entry is not None and self._entry.framed
        if framed and self.is_navigation() and headers.get("Sec-Fetch-Dest") in _FRAMES:
            return True
        return super()._same_site()

    def _login_address(self) -> str:
        """Jupyter, which gives a ticket to whoever has logged in there."""
        below = self.request.uri or "/"
        target = self._origins.names.target_of(self.request.headers.get("Host", ""))
        return f"{self._jupyters()}proxy/enter/{target}{below}"

    def refuse(self, error: GatewayError) -> None:
        lost = isinstance(error, Unauthenticated) and self.is_navigation()
        if lost and (self.request.headers.get("Sec-Fetch-Dest") in _FRAMES or not self._jupyters()):
            error = Forbidden(
                "You have not come here from Jupyter, or your login there has ended.", "Open the service from Jupyter."
            )
        super().refuse(error)

    def frame_ancestors(self) -> str:
        return f"'self' {self._origins.last_jupyters}".strip()

    def _jupyters(self) -> str:
        """The address of Jupyter's base URL; empty if nobody knows it."""
        if self.gateway.jupyter_url or not self._origins.last_jupyters:
            return self.gateway.jupyter_url
        return self._origins.last_jupyters + self.gateway.base_url

    def tunnel_opened(self, tunnel: Closable, destination: Destination) -> None:
        """A tunnel ends with its session."""
        assert self._entry is not None  # admitted
        forget, before = self._origins.watch(tunnel, self._entry), tunnel.on_closed

        def closed(tunnel: Closable) -> None:
            forget()
            before(tunnel)

        tunnel.on_closed = closed


class OriginTunnel(OriginHandler, TunnelHandler):  # type: ignore[misc]
    """A WebSocket at an origin."""


class OriginRawSocket(OriginHandler, RawSocketHandler):  # type: ignore[misc]
    """A WebSocket to a service that speaks none, at an origin."""


def _witness(handler: PortHandler) -> Callable[[], Awaitable[bool]]:
    """Asks identity provider and authorizer again, later, with what a login came by."""
    request, application, gateway = handler.request, handler.application, handler.gateway
    connection: Any = SimpleNamespace(context=handler.connection.context, set_close_callback=lambda callback: None)
    user, headers, uri = handler.current_user, HTTPHeaders(), request.uri
    for name in ("Cookie", "Authorization", "Host"):
        for value in request.headers.get_list(name):
            headers.add(name, value)

    async def is_valid() -> bool:
        asked = HTTPServerRequest("GET", uri, headers=headers.copy(), connection=connection)
        again = PortHandler(application, asked, gateway=gateway)
        try:
            now = await again.ask_identity_provider()
        except LoginUnavailable:
            return True  # JupyterHub is away: it will be asked again
        except GatewayError:
            return False
        if now is None or now.username != user.username:
            return False
        again.current_user = again._jupyter_current_user = now
        return bool(await ensure_async(again.authorizer.is_authorized(again, now, ACTION, RESOURCE)))

    return is_valid


def _cookie_name(request: HTTPServerRequest) -> str:
    """Cookies know no ports: two Jupyter servers of one machine share the hosts of their origins."""
    name = "portproxy-" + (re.sub(r".*:", "", request.headers.get("Host", "")) if ":" in request.headers.get("Host", "") else "0")
    return f"__Host-{name}" if request.protocol == "https" else name


def _cookies(headers: HTTPHeaders) -> dict[str, str]:
    return parse_cookie("; ".join(headers.get_list("Cookie")))
