"""Tornado's side of origins: the way from Jupyter into the origin of a port, and what is served there.

Rule of this file: at a host of ours nothing but the service answers, whatever the path; its bytes go the same way as below
`proxy/`. Only the login differs: a session of that one origin, which a ticket from Jupyter began.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from jupyter_server.auth.identity import User
from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.iostream import StreamClosedError
from tornado.routing import Router
from tornado.web import Application

from ..errors import BadRoute, Forbidden, GatewayError, MethodRefused, NotEntered, NotFound, Unauthenticated
from ..gateway.gateway import Destination, Gateway
from ..handlers.base import PortHandler, cookies_after, cookies_of, login_check
from ..handlers.http import PortExchange
from ..handlers.login_credentials import Credential, logs_in_alone
from ..handlers.raw_socket import RawSocketHandler
from ..handlers.websocket import TunnelHandler
from ..protocol import credentials, urls
from ..protocol.credentials import find_login_cookies, remove_secret_parameters
from ..protocol.forwarded import first_list_member
from ..protocol.headers import is_websocket_upgrade
from ..protocol.origin_hosts import WELL_KNOWN_PATH
from ..protocol.urls import Redirect, Route, ServiceRoute
from ..upstream.closable import Closable
from .sessions import Entry, Origins, nonce_of

_FRAMES = ("iframe", "frame")
# Of a POST for which browsers send no preflight.
_FORM_TYPES = ("", "text/plain", "multipart/form-data", "application/x-www-form-urlencoded")
_STORES = (
    "<!DOCTYPE html><title>?</title><script>let said = 'denied'; try {{ if (localStorage) said = 'stored'; }} catch {{}}\n"
    "parent.postMessage(said, '{jupyter}');</script>"
)
_PATH = re.compile(r"/[\x21-\xff]*\Z")
_ORIGIN = re.compile(r"https?://(?P<host>[^/?#@\s]+)(?=/|\Z)", re.ASCII)
_SAVE = WELL_KNOWN_PATH + "save"
_MAX_ANSWERS = 100  # of the identity provider, that a session keeps


class OriginRouter(Router):
    """Chooses who serves a host of ours, and the way into it. To be asked before everybody else."""

    SUPPORTED_METHODS: tuple[str, ...] = ()  # see PortRouter

    def __init__(self, application: Application, gateway: Gateway, origins: Origins[User]) -> None:
        self._application, self._gateway, self._origins = application, gateway, origins
        self._base_url: str = application.settings["base_url"]

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> HTTPMessageDelegate | None:
        uri, host = request.uri or "", request.headers.get("Host", "").lower()
        parts: dict[str, Any] = {"gateway": self._gateway, "origins": self._origins}
        target = self._origins.names.parse_target(host)
        if target is not None:
            return self._at_origin(request, target, parts)
        found = urls.parse_enter_url(uri, self._base_url) or _returned(uri, self._base_url)
        if found is not None:
            names = ("target", "path", "nonce", "begun")
            return self._application.get_handler_delegate(
                request, EnterHandler, {**parts, **dict(zip(names, found, strict=False))}
            )
        if uri.partition("?")[0] == self._base_url + "logout":
            self._origins.log_out(cookies_of(request.headers))
        return None

    def _at_origin(self, request: HTTPServerRequest, target: str, parts: dict[str, Any]) -> HTTPMessageDelegate:
        uri = _uri_at_origin(request, self._gateway)
        saved = _saved(uri)
        if saved is not None:
            uri, parts = saved, {**parts, "saved": True}
        elif uri.startswith(WELL_KNOWN_PATH):
            return self._application.get_handler_delegate(request, SwapHandler, parts)
        known, keep = self._gateway.known_prefix(target)
        upgrade = is_websocket_upgrade(request.method or "", request.version, list(request.headers.get_all()))
        if known and uri.partition("?")[0] == "/" and not upgrade:
            return PortExchange(self._application, request, self._gateway, Redirect(known + uri, 307), OriginHandler, parts)
        try:
            route = _route_of(target, uri, known, keep)
        except GatewayError as error:
            return PortExchange(self._application, request, self._gateway, error, OriginHandler, parts)
        if upgrade:
            hooks = self._gateway.hooks_of(target) if isinstance(route, ServiceRoute) else None
            kind = OriginRawSocket if hooks is not None and hooks.raw_socket else OriginTunnel
            return self._application.get_handler_delegate(request, kind, {**parts, "route": route})
        return PortExchange(self._application, request, self._gateway, route, OriginHandler, parts)


def _uri_at_origin(request: HTTPServerRequest, gateway: Gateway) -> str:
    """The request target as the browser sent it: without the base URL, if the front puts that before it."""
    uri, base_url = request.uri or "", gateway.base_url
    return urls.strip_base_url(uri, base_url) if gateway.settings.origin_below_base_url else uri


def _saved(uri: str) -> str | None:
    """The request target of what is to be saved as a file, of the gateway's own path for that."""
    path, _, query = uri.partition("?")
    target = parse_qs(query, encoding="latin-1").get("next", [""])[0] if path == _SAVE else ""
    return target if _PATH.match(target) else None


def _returned(uri: str, base_url: str) -> tuple[str, str, str, str] | None:
    """`proxy/enter?...`, as an origin sends a browser back: target, path, nonce and the ticket with which it came there."""
    path, mark, query = uri.partition("?")
    if path != f"{base_url}proxy/enter" or not mark:
        return None
    given = parse_qs(query, encoding="latin-1")
    target, below, nonce, begun = (given.get(name, [""])[0] for name in ("target", "next", "nonce", "ticket"))
    return (target, below, nonce, begun) if _PATH.match(below) else None


def _route_of(target: str, uri: str, known: str, keep: bool) -> Route | ServiceRoute:
    """Everything at a host of ours, as a route without a prefix.

    Only a service that was told the prefix of its path form when it started (Dash, Vite) is below that here, too, for it leads
    its pages there: one process serves both.

    Raises:
        BadRoute: the target is no port, or the request target no path.
    """
    path, mark, query = uri.partition("?")
    if not path.startswith("/"):
        raise BadRoute("The request's target is no path.", "See RFC 9112, section 3.2.1.")
    prefix = known if known and path.startswith(known + "/") else ""
    if target.isdigit():
        return Route(urls.LOOPBACK_NAME, urls.parse_port(target), prefix, path[len(prefix) :], mark + query, keep)
    return ServiceRoute(target, prefix, path[len(prefix) :], mark + query)


class EnterHandler(PortHandler):
    """`proxy/enter/TARGET/x`, asked of Jupyter: a ticket, and off to the origin."""

    def initialize(  # type: ignore[override]
        self, gateway: Gateway, origins: Origins[User], target: str, path: str, nonce: str = "", begun: str = ""
    ) -> None:
        super().initialize(gateway)
        self._origins, self._target, self._path, self._nonce, self._begun = origins, target, path, nonce, begun

    async def prepare(self) -> None:  # type: ignore[override]
        """`get` does what there is to do: Jupyter's own way in answers with other pages."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.refuse(MethodRefused("This address is for pages alone.", "Open it in the browser."))

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

    def _same_site(self) -> bool:
        """A frame that the origin has sent back here comes from elsewhere, but what it began with was its user's own request."""
        framed = self.is_navigation() and is_framed(self)
        return super()._same_site() or (framed and (bool(self.gateway.settings.embedders) or self._has_begun()))

    def frame_ancestors(self) -> str:
        return _ancestors(self)

    def _has_begun(self) -> bool:
        entry = self._origins.holder(self._begun)
        return entry is not None and entry.is_of(self.current_user.username, self._login())

    def _login(self) -> frozenset[tuple[str, str]]:
        """The login cookies that the browser will have; else the token that logged in."""
        found = find_login_cookies(cookies_after(self))
        if found or not self.token_authenticated:
            return found
        return frozenset([("token", self.identity_provider.get_token(self) or "")])

    def refuse(self, error: GatewayError) -> None:
        back = self._back_into_frame() if isinstance(error, Unauthenticated) else None
        if back is None:
            super().refuse(error)
        else:
            self.clear()
            self._go(back)

    def _back_into_frame(self) -> str | None:
        """Where a download of a framed page goes on; None if this is none.

        Chromium asks for `<a download>` as if its page were not in a frame, without the frame's cookies; sent here, it goes on as
        the frame's navigation, which still has none of Jupyter's, but will have the origin's.
        """
        headers = self.request.headers
        if headers.get("Sec-Fetch-Dest") not in _FRAMES or headers.get("Sec-Fetch-Site") not in ("cross-site", "same-site"):
            return None
        match = _ORIGIN.match(headers.get("Referer", ""))
        if match is None or self._origins.names.parse_target(match["host"].lower()) is None:
            return None
        path = credentials.remove_secret_parameters(self._path, self.tokens)
        return f"{match[0]}{_SAVE}?next={quote(path.encode('latin-1'), safe='')}"

    async def _address(self) -> str:
        """Where to go: into the origin, or to the path form where the browser could not find that.

        Raises:
            BadRoute, Forbidden, NotFound
        """
        path_form, path = self._places()
        target = self.origin_target(self._target)
        if target is None:
            return path_form
        host = self._origins.names.build_host(target, self.request.headers.get("Host", "")) or ""
        entry = Entry(
            target, host, self.current_user, self._own_origin(), self._login(), login_check(self), self._nonce, self.tokens
        )
        path = remove_secret_parameters(path, self.client.secrets)
        query = urlencode({"ticket": self._origins.ticket(entry)}) + "&next=" + quote(path.encode("latin-1"), safe="")
        return f"{_scheme(self)}://{host}{WELL_KNOWN_PATH}enter?{query}"

    def _places(self) -> tuple[str, str]:
        """The URL in the path form; and the path at the origin, which is the same where a service knows its prefix."""
        gateway = self.gateway
        if self._target.isdigit():
            port = urls.parse_port(self._target)
            gateway.policy.check(Route(urls.LOOPBACK_NAME, port, "", "/", ""), self)
            return f"{gateway.base_url}proxy/port/{port}{self._path}", self._path
        services, reserved = gateway.services, gateway.reservations
        prefix = services.prefix(self._target)
        if prefix is None and reserved.get(self._target) is not None:
            prefix = urls.build_service_path(gateway.base_url, self._target)
        if prefix is None:
            raise NotFound(self._target)
        known, _ = gateway.known_prefix(self._target)
        is_below = self._path.startswith(prefix + "/")
        return prefix + self._path, prefix + self._path if known and not is_below else self._path

    def _own_origin(self) -> str:
        return f"{_scheme(self)}://{self.request.headers.get('Host', '').lower()}"

    def _go(self, address: str) -> None:
        self.set_header("Referrer-Policy", "no-referrer")
        self.redirect_to(address)


class SwapHandler(PortHandler):
    """The gateway's own paths at an origin: a ticket becomes a session; a sign of life, for pages that ask if it is there; and a
    page that tells whoever frames it if it may store anything."""

    is_isolated = True

    def initialize(self, gateway: Gateway, origins: Origins[User]) -> None:  # type: ignore[override]
        super().initialize(gateway)
        self._origins = origins

    async def prepare(self) -> None:  # type: ignore[override]
        """No login, and no check of Jupyter's of a host that is not its own."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.refuse(MethodRefused("This address is for pages alone.", "Open the service from Jupyter."))

    def frame_ancestors(self) -> str:
        return _ancestors(self)

    async def get(self) -> None:
        path, _, query = _uri_at_origin(self.request, self.gateway).partition("?")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        if path == WELL_KNOWN_PATH + "hello" and (jupyter := self._jupyters_page("Origin")):
            self.set_status(204)
            self.set_header("Access-Control-Allow-Origin", jupyter)
            self.set_header("Vary", "Origin")
        elif path == WELL_KNOWN_PATH + "storage" and (jupyter := self._jupyters_page("Referer")):
            self.set_header("Content-Type", "text/html; charset=utf-8")
            self.set_header("Content-Security-Policy", "default-src 'none'; script-src 'unsafe-inline'")
            self.write(_STORES.format(jupyter=jupyter))
        elif path == WELL_KNOWN_PATH + "enter":
            try:
                await self._swap(parse_qs(query, encoding="latin-1"))
            except GatewayError as error:
                self.refuse(error)
        else:
            self.set_status(404)
        if not self._finished:
            self.finish()

    def _jupyters_page(self, field: str) -> str:
        """The origin of the page that asks, if it is Jupyter's; else empty: no other site is told that this server is there."""
        match = _ORIGIN.match(self.request.headers.get(field, "").lower())
        host = self.request.headers.get("Host", "").lower()
        return match[0] if match is not None and self._origins.is_jupyter(match["host"], host) else ""

    async def _swap(self, given: dict[str, list[str]]) -> None:
        """A ticket is good in the browser alone that has asked for it, or another site could log it in as somebody else.

        A browser that has not been here is sent back to Jupyter, once, for a ticket of its own: to be used with a cookie that is
        set here first.
        """
        host, path, ticket = self.request.headers.get("Host", "").lower(), *(given.get(n, [""])[0] for n in ("next", "ticket"))
        entry = self._origins.holder(ticket)
        if entry is None or entry.host != host or not _PATH.match(path):
            raise Forbidden("The link to this service has expired or was already used.", "Open the service from Jupyter again.")
        self.tokens |= entry.tokens
        path = credentials.remove_secret_parameters(path, self.tokens)
        cookies = credentials.find_cookie_values(self.request.headers.get_list("Cookie"), _cookie_name(self))
        if entry.nonce:
            if entry.nonce not in map(nonce_of, cookies):
                raise Forbidden(f"Your browser keeps no cookie of {host}.", "Allow cookies for that address, and open it again.")
        elif self._is_browser() and not await self._is_in(entry, cookies):
            cookie = cookies[0] if cookies else secrets.token_urlsafe(32)
            query = urlencode({"target": entry.target, "nonce": nonce_of(cookie), "ticket": ticket})
            address = self.gateway.settings.jupyter_url or entry.jupyters + self.gateway.base_url
            self._set_cookie(cookie)
            self.redirect_to(f"{address}proxy/enter?{query}&next={quote(path.encode('latin-1'), safe='')}")
            return
        self._set_cookie(self._origins.enter(ticket, host, framed=is_framed(self)) or "")
        self.redirect_to(f"{_scheme(self)}://{host}{path}")

    def _is_browser(self) -> bool:
        """Browsers tell where a request comes from, but not over plain http, except on their own machine."""
        headers = self.request.headers
        is_told = self._origins.names.is_local or _scheme(self) == "https"
        return "Sec-Fetch-Site" in headers or (not is_told and "text/html" in headers.get("Accept", ""))

    async def _is_in(self, entry: Entry[User], cookies: list[str]) -> bool:
        """True if the browser has a session of the ticket's user already."""
        sessions = [await self._origins.session(cookie, entry.host) for cookie in cookies]
        return any(found is not None and found.is_of(entry.user.username, entry.login) for found in sessions)

    def _set_cookie(self, value: str) -> None:
        secure = _scheme(self) == "https"
        lax = "SameSite=Lax; Secure" if secure else "SameSite=Lax"
        kind = "SameSite=None; Secure; Partitioned" if is_framed(self) else lax
        self.set_header("Set-Cookie", f"{_cookie_name(self)}={value}; Path=/; HttpOnly; {kind}")


class OriginHandler(PortHandler):
    """Who asks at an origin: whoever has a session of it, and nobody else."""

    is_isolated = True

    def initialize(  # type: ignore[override]
        self, gateway: Gateway, origins: Origins[User], saved: bool = False, **kwargs: Any
    ) -> None:
        super().initialize(gateway, **kwargs)
        self._origins, self._saved = origins, saved
        self._entry: Entry[User] | None = None
        self._caller = ""  # host of another origin of the same user's, whose page asks

    async def admit(self, asked: object = None) -> None:
        if self.connection.stream.closed():
            raise StreamClosedError()
        host, name = self.request.headers.get("Host", "").lower(), _cookie_name(self)
        caller = self._calling_host()
        entry = await self._session(name, host)
        preflight = entry is None and self._is_preflight()
        if preflight:  # browsers send it without a cookie
            entry = await self._origins.session_with(host, caller)
        self._entry = entry
        self.current_user = self._jupyter_current_user = None if entry is None else entry.user
        self._token_authenticated = False
        self.tokens = await self._login_tokens()
        if entry is None:
            raise NotEntered()
        self.tokens |= entry.tokens
        self._caller = caller if caller and await self._origins.has_session(entry, caller) else ""
        self.client = replace(
            self._describe_client(),
            secrets=self.tokens,
            login_cookie=name,
            login_cookies=entry.login,
            isolated=True,
            embedder=" ".join([entry.jupyters, *self.gateway.settings.embedders]),
            caller_origin=self.request.headers.get("Origin", "").lower() if self._caller else "",
            caller_upstream_origin=self._service_origin(self._caller) if self._caller else "",
            preflight=preflight,
            partitioned=entry.framed,
            is_download=self._saved,
        )
        if not self._same_site():
            raise Forbidden("This request comes from another site.", "Open the service's own address in the browser.")

    async def _is_login(self, credential: Credential) -> bool:
        """Nothing logs in at an origin: a credential is Jupyter's if it would log in there, and the service's otherwise."""
        known = self._entry.answers if self._entry is not None else {}
        key = sha256(f"{credential.is_field}{credential.value}".encode()).digest()
        if key not in known:
            if len(known) >= _MAX_ANSWERS:
                known.clear()
            known[key] = await logs_in_alone(credential, self.request, self._ask_about)
        return known[key]

    async def _session(self, name: str, host: str) -> Entry[User] | None:
        """Of all cookies of that name: on one site a frame's stands beside that of a tab, and either may be over."""
        for key in credentials.find_cookie_values(self.request.headers.get_list("Cookie"), name):
            entry = await self._origins.session(key, host)
            if entry is not None:
                return entry
        return None

    def _calling_host(self) -> str:
        """The host of another isolated origin of this server that asks by CORS; empty if none does."""
        headers = self.request.headers
        scheme, _, host = headers.get("Origin", "").lower().partition("://")
        if scheme not in self._schemes() or host == headers.get("Host", "").lower() or "Upgrade" in headers:
            return ""
        is_cors = headers.get("Sec-Fetch-Mode", "cors") == "cors"
        return host if is_cors and self._origins.names.parse_target(host) is not None else ""

    def _is_preflight(self) -> bool:
        headers = self.request.headers
        has_content = "Content-Length" in headers or "Transfer-Encoding" in headers
        return self.request.method == "OPTIONS" and "Access-Control-Request-Method" in headers and not has_content

    def _service_origin(self, host: str) -> str:
        """The origin of a service as those beside it on this machine know it."""
        target, services = self._origins.names.parse_target(host) or "", self.gateway.services
        if target in services:
            target = str(services.get(target).endpoint.port)
        return f"http://{urls.LOOPBACK_NAME}:{target}"

    def _same_site(self) -> bool:
        """A partitioned session exists in frames alone, of pages that may show the service: these may be pointed at it."""
        may_be_framed = bool(self.gateway.settings.embedders) or (self._entry is not None and self._entry.framed)
        return (may_be_framed and self.is_navigation() and is_framed(self)) or super()._same_site()

    def _origin_allowed(self) -> bool:
        """The origin's own pages, and those of the same user's other origins for what the service has allowed them by CORS.

        Reading is the browser's to allow; what changes something comes after a preflight, or is refused.
        """
        headers, method = self.request.headers, self.request.method
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        is_asked_first = method != "POST" or kind not in _FORM_TYPES
        return self._is_own(headers.get("Origin", "").lower()) or (bool(self._caller) and is_asked_first)

    def address_at_origin(self, asked: object) -> str | None:
        """It is there."""
        return None

    def _login_address(self) -> str:
        """Jupyter, which gives a ticket to whoever has logged in there."""
        below = _uri_at_origin(self.request, self.gateway)
        target = self._origins.names.parse_target(self.request.headers.get("Host", ""))
        return f"{self._jupyters()}proxy/enter/{target}{below}"

    def refuse(self, error: GatewayError) -> None:
        lost = isinstance(error, Unauthenticated) and self.is_navigation()
        if lost and ((is_framed(self) and not self.gateway.settings.embedders) or not self._jupyters()):
            error = Forbidden(
                "You have not come here from Jupyter, or your login there has ended.", "Open the service from Jupyter."
            )
        super().refuse(error)

    def frame_ancestors(self) -> str:
        return _ancestors(self, self._origins.last_jupyters)

    def _jupyters(self) -> str:
        """The address of Jupyter's base URL; empty if nobody knows it."""
        known = self._origins.last_jupyters
        if self.gateway.settings.jupyter_url:
            return self.gateway.settings.jupyter_url
        if not known and self._origins.names.is_local:  # this server has started anew, the browser's tab has not
            known = re.sub(r"^[^:]*", f"{_scheme(self)}://localhost", self.request.headers.get("Host", ""))
        return known + self.gateway.base_url if known else ""

    @property
    def is_watched(self) -> bool:
        return True

    def opened(self, open_: Closable, destination: Destination) -> None:
        """It ends with its session."""
        assert self._entry is not None  # admitted
        self._origins.watch(open_, self._entry)


class OriginTunnel(OriginHandler, TunnelHandler):  # type: ignore[misc]
    """A WebSocket at an origin."""


class OriginRawSocket(OriginHandler, RawSocketHandler):  # type: ignore[misc]
    """A WebSocket to a service that speaks none, at an origin."""


def _scheme(handler: PortHandler) -> str:
    """The scheme of what the browser's address says.

    Tornado believes the last of several fronts (`https,http`), which is JupyterHub's proxy: the outermost one knows.
    """
    if handler.gateway.settings.jupyter_url:
        return handler.gateway.settings.jupyter_url.partition(":")[0]
    told = handler.request.headers.get("X-Forwarded-Proto", "") if handler.trusts_front() else ""
    return "https" if first_list_member(told).lower() == "https" else handler.request.protocol


def _cookie_name(handler: PortHandler) -> str:
    """Cookies know no ports: two Jupyter servers of one machine share the hosts of their origins."""
    name = "portproxy-" + (re.search(r"(?<=:)[0-9]+\Z", handler.request.headers.get("Host", "")) or ["0"])[0]
    return f"__Host-{name}" if _scheme(handler) == "https" else name


def is_framed(handler: PortHandler) -> bool:
    return handler.request.headers.get("Sec-Fetch-Dest") in _FRAMES


def _ancestors(handler: PortHandler, *more: str) -> str:
    """Who may show a refusal in a frame."""
    return " ".join(["'self'", *filter(None, more), *handler.gateway.settings.embedders])
