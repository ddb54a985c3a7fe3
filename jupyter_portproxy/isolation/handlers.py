"""Isolated origins: how Jupyter leads into the origin of a port or service, and what is served there.

At the host of an isolated origin only the service responds, whatever the path (but WELL_KNOWN_PATH); its requests take the same
pipeline as those with a path-based URL. They differ in the login, which is a session of that one origin: Jupyter gives a ticket
(`EntryRequest`), the origin swaps it for a session (`WellKnownRequest`), and the session authenticates (`IsolatedRequest`).
"""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass, replace
from hashlib import sha256
from urllib.parse import parse_qs, quote, urlencode

from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.web import Application

from ..errors import BadRoute, Forbidden, GatewayError, MethodRefused, NotEntered, NotEnteredFrame, NotFound, Unauthenticated
from ..gateway.destinations import Destination
from ..gateway.gateway import Gateway
from ..handlers.base import ProxyRequest
from ..handlers.hop_trust import trusts_reverse_proxy
from ..handlers.jupyter_request import cookies_of, hypothetical_requests, login_check
from ..handlers.login_credentials import Credential, logs_in_alone
from ..handlers.origin_check import client_schemes, is_framed, is_navigation, is_own_origin, is_worker_script
from ..handlers.router import asks_for_websocket, delegate_for
from ..protocol import credentials, urls
from ..protocol.forwarded import first_list_member
from ..protocol.framing import announces_content
from ..protocol.origin_hosts import WELL_KNOWN_PATH
from ..protocol.urls import BaseRoute, D, InvalidRoute, Redirect, Redirected, Resolver, Route, ServiceRoute, parse_origin
from ..upstream.closable import Closable
from .sessions import Origins, OriginSession, nonce_of

# Of a POST for which browsers send no preflight (Fetch Standard, "CORS-safelisted request-header").
_FORM_TYPES = ("", "text/plain", "multipart/form-data", "application/x-www-form-urlencoded")
_FRAME_COOKIE = "portproxy-frame"
_FRAME_PAGE = (
    "<!DOCTYPE html><title>?</title><script>let stores = false; try {{ stores = Boolean(localStorage); }} catch {{}}\n"
    f"parent.postMessage(stores && document.cookie.includes('{_FRAME_COOKIE}=') ? 'usable' : 'limited', '{{jupyter}}');</script>"
)
_IN_FRAMES = "SameSite=None; Secure; Partitioned"  # attributes of a cookie that a frame in a page of another site keeps
_PATH = re.compile(r"/[\x21-\xff]*\Z")
_SAVE = WELL_KNOWN_PATH + "save"
# In place of an application's service worker where there is no session: such a worker may answer all navigations from its cache,
# and so keep the browser from entering. Afterwards navigations reach this server; those of open pages are repeated.
_WORKER_REMOVER = b"""self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", event => event.waitUntil((async () => {
  await self.clients.claim();
  await self.registration.unregister();
  for (const client of await self.clients.matchAll({ type: "window" })) {
    const { origin, pathname, searchParams } = new URL(client.url);
    const next = pathname.startsWith("/.well-known/portproxy/") ? searchParams.get("next") : null;
    client.navigate(next ? origin + next : client.url).catch(() => {});
  }
})()));
"""
_MAX_ANSWERS = 100  # of the identity provider, that a session keeps
_ONLY_PAGES = "This address is for pages alone."


class IsolatedRouter:
    """Chooses who serves the host of an isolated origin, and the URLs that lead into one."""

    def __init__(self, application: Application, gateway: Gateway, origins: Origins) -> None:
        self._application, self._gateway, self._origins = application, gateway, origins
        self._base_url: str = application.settings["base_url"]

    def find(self, request: HTTPServerRequest) -> HTTPMessageDelegate | None:
        """What serves a request; None if it has nothing to do with isolated origins."""
        target = self._origins.hosts.parse_target(request.headers.get("Host", "").lower())
        if target is not None:
            return self._at_origin(request, target)
        uri = request.uri or ""
        entry = urls.parse_enter_url(uri, self._base_url) or _parse_return_url(uri, self._base_url)
        if entry is not None:
            entering = EntryRequest(self._application, request, self._gateway, self._origins, *entry)
            return delegate_for(entering, EntryRoute(entering), upgrade=False)
        if uri.partition("?")[0] == self._base_url + "logout":
            self._origins.log_out(cookies_of(request.headers))
        return None

    def _at_origin(self, request: HTTPServerRequest, target: str) -> HTTPMessageDelegate:
        isolated = IsolatedRequest(self._application, request, self._gateway, self._origins)
        uri = isolated.uri
        download = _parse_download_url(uri)
        if download is not None:
            uri, isolated.is_download = download, True
        elif uri.startswith(WELL_KNOWN_PATH):
            return WellKnownDelegate(WellKnownRequest(self._application, request, self._gateway, self._origins))
        known, keep_prefix = self._gateway.destinations.known_prefix(target)
        upgrade = asks_for_websocket(request)
        route: BaseRoute
        if known and uri.partition("?")[0] == "/" and not upgrade:
            route = Redirect(known + uri, 307)
        else:
            try:
                route = _route_of(target, uri, known, keep_prefix)
            except GatewayError as error:
                route = InvalidRoute(error)
        return delegate_for(isolated, route, upgrade=upgrade)


def _parse_download_url(uri: str) -> str | None:
    """The request target of what is to be saved as a file, of the gateway's own path for that."""
    path, _, query = uri.partition("?")
    target = parse_qs(query, encoding="latin-1").get("next", [""])[0] if path == _SAVE else ""
    return target if _PATH.match(target) else None


def _parse_return_url(uri: str, base_url: str) -> tuple[str, str, str, str] | None:
    """`proxy/enter?...`, as an origin sends a browser back: target, path, nonce and the ticket with which it came there."""
    path, mark, query = uri.partition("?")
    if path != f"{base_url}proxy/enter" or not mark:
        return None
    given = parse_qs(query, encoding="latin-1")
    target, below, nonce, ticket = (given.get(name, [""])[0] for name in ("target", "next", "nonce", "ticket"))
    return (target, below, nonce, ticket) if _PATH.match(below) else None


def _route_of(target: str, uri: str, known: str, keep_prefix: bool) -> Route | ServiceRoute:
    """Everything at an isolated origin, as a route without a prefix.

    Only a service that was started with the prefix of its path-based URL (Dash, Vite) has that here, too, for its links contain
    it: one process serves both.

    Raises:
        BadRoute: the target is not a port, or the request target not a path.
    """
    path, mark, query = uri.partition("?")
    if not path.startswith("/"):
        raise BadRoute("The request's target is not a path.", "See RFC 9112, section 3.2.1.")
    prefix = known if known and path.startswith(known + "/") else ""
    if target.isdigit():
        return Route(urls.LOOPBACK_NAME, urls.parse_port(target), prefix, path[len(prefix) :], mark + query, keep_prefix)
    return ServiceRoute(target, prefix, path[len(prefix) :], mark + query)


class OriginRequest(ProxyRequest):
    """What the requests into and at isolated origins have in common."""

    def __init__(self, application: Application, request: HTTPServerRequest, gateway: Gateway, origins: Origins) -> None:
        super().__init__(application, request, gateway, origins)
        self.origins = origins

    @property
    def uri(self) -> str:
        """The request target as the browser sent it: without the base URL, if the reverse proxy puts that before it."""
        uri, base_url = self.request.uri or "", self.gateway.base_url
        return urls.strip_base_url(uri, base_url) if self.gateway.settings.origin_below_base_url else uri

    @property
    def scheme(self) -> str:
        """The scheme of the browser's URL.

        Of several reverse proxies (`https,http`) Tornado uses the last, which is JupyterHub's; the outermost one is right.
        """
        if self.gateway.settings.jupyter_url:
            return self.gateway.settings.jupyter_url.partition(":")[0]
        is_trusted = trusts_reverse_proxy(self.application)
        schemes = self.request.headers.get("X-Forwarded-Proto", "") if is_trusted else ""
        return "https" if first_list_member(schemes).lower() == "https" else self.request.protocol

    @property
    def cookie_name(self) -> str:
        """Of the session. Cookies have no ports: two Jupyter servers of one machine share the hosts of their origins."""
        name = f"portproxy-{urls.split_port(self.host)[1] or 0}"
        return f"__Host-{name}" if self.scheme == "https" else name

    def session_cookies(self) -> list[str]:
        return credentials.find_cookie_values(self.request.headers.get_list("Cookie"), self.cookie_name)

    def frame_ancestors(self) -> str:
        jupyter = self.origins.last_jupyter_origin if self.is_isolated else ""
        return " ".join(filter(None, ["'self'", jupyter, *self.gateway.settings.embedders]))


@dataclass(frozen=True, slots=True)
class EntryRoute(BaseRoute):
    request: EntryRequest

    @property
    def target_name(self) -> str:
        return self.request.target

    async def resolve(self, resolver: Resolver[D]) -> D:
        raise Redirected(Redirect(await self.request.entry_address(), 302))


class EntryRequest(OriginRequest):
    """`proxy/enter/TARGET/x` at Jupyter: responds with a ticket in a redirect to the isolated origin.

    A browser that has a session there is redirected to the page itself: a service worker may answer for the ticket's URL.

    Args:
        target: a port, or a service's name.
        path: path and query below the origin.
        nonce: see OriginSession.
        ticket: of a browser that the origin has sent back here: the one with which it came there.
    """

    own_fields = [("Referrer-Policy", "no-referrer")]  # noqa: RUF012 (never changed)

    def __init__(
        self,
        application: Application,
        request: HTTPServerRequest,
        gateway: Gateway,
        origins: Origins,
        target: str,
        path: str,
        nonce: str = "",
        ticket: str = "",
    ) -> None:
        super().__init__(application, request, gateway, origins)
        self.target, self._path, self._nonce, self._ticket = target, path, nonce, ticket

    def begin(self, route: BaseRoute) -> None:
        super().begin(route)
        if self.request.method != "GET":
            raise MethodRefused(_ONLY_PAGES, "Open it in the browser.")

    def is_same_site(self) -> bool:
        """A frame that the origin has sent back here comes from another site, but it began with its user's own request."""
        may_be_framed = is_navigation(self.request) and is_framed(self.request)
        return super().is_same_site() or (may_be_framed and (bool(self.gateway.settings.embedders) or self._is_own_ticket()))

    def _is_own_ticket(self) -> bool:
        entry = self.origins.find_ticket(self._ticket)
        return entry is not None and entry.belongs_to(self.user.username, self._login())

    def _login(self) -> frozenset[tuple[str, str]]:
        """The login cookies that the browser will have; else the token that logged in."""
        handler = self.jupyter
        cookies = credentials.find_login_cookies(handler.cookies_after_response())
        if cookies or not handler.token_authenticated:
            return cookies
        return frozenset([("token", handler.identity_provider.get_token(handler) or "")])

    def refuse(self, error: GatewayError) -> None:
        back = self._back_into_frame() if isinstance(error, Unauthenticated) else ""
        if back:
            self.redirect(back)
        else:
            super().refuse(error)

    def _back_into_frame(self) -> str:
        """Where a download of a framed page goes on; empty for any other request.

        Chromium sends the request of `<a download>` as if its page were not in a frame, without the frame's cookies; redirected
        here, it goes on as the frame's navigation, still without Jupyter's cookies, but then with the isolated origin's.
        """
        headers = self.request.headers
        if not is_framed(self.request) or headers.get("Sec-Fetch-Site") not in ("cross-site", "same-site"):
            return ""
        origin = parse_origin(headers.get("Referer", ""))
        if self.origins.hosts.parse_target(origin.partition("://")[2]) is None:
            return ""
        path = credentials.remove_secret_parameters(self._path, self.tokens)
        return f"{origin}{_SAVE}?next={quote(path.encode('latin-1'), safe='')}"

    async def entry_address(self) -> str:
        """The URL in the isolated origin, or the path-based URL where the browser could not find that.

        Raises:
            BadRoute, Forbidden, NotFound
        """
        headers = self.request.headers
        if headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
            raise Forbidden(_ONLY_PAGES, "Open it in the browser.")
        path_based, path = self._addresses()
        target = self.isolated_target(self.target)
        if target is None:
            return path_based
        host = self.origins.hosts.build_host(target, self.host) or ""
        own = f"{self.scheme}://{self.host}"
        entry = OriginSession(target, host, self.user, own, self._login(), login_check(self.jupyter), self._nonce, self.tokens)
        path = credentials.remove_secret_parameters(path, self.client.secrets)
        if await self._has_entered(entry):
            return f"{self.scheme}://{host}{path}"
        query = urlencode({"ticket": self.origins.issue_ticket(entry)}) + "&next=" + quote(path.encode("latin-1"), safe="")
        return f"{self.scheme}://{host}{WELL_KNOWN_PATH}enter?{query}"

    async def _has_entered(self, entry: OriginSession) -> bool:
        """True for a browser with a session of its login at the isolated origin. Programs may share a login, and no cookies."""
        if self._nonce or "Sec-Fetch-Site" not in self.request.headers or self.jupyter.token_authenticated:
            return False
        return await self.origins.has_been_entered(replace(entry, framed=is_framed(self.request)))

    def _addresses(self) -> tuple[str, str]:
        """The path-based URL, and the path at the isolated origin: the same where a service has its prefix there, too."""
        gateway = self.gateway
        if self.target.isdigit():
            port = urls.parse_port(self.target)
            gateway.policy.check(Route(urls.LOOPBACK_NAME, port, "", "/", ""), self.jupyter)
            return f"{gateway.base_url}proxy/port/{port}{self._path}", self._path
        services, reserved = gateway.services, gateway.reservations
        prefix = services.prefix(self.target)
        if prefix is None and reserved.get(self.target) is not None:
            prefix = urls.build_service_path(gateway.base_url, self.target)
        if prefix is None:
            raise NotFound(self.target)
        known, _ = gateway.destinations.known_prefix(self.target)
        is_below = self._path.startswith(prefix + "/")
        return prefix + self._path, prefix + self._path if known and not is_below else self._path


class WellKnownRequest(OriginRequest):
    """The gateway's own paths at an isolated origin; they need no login.

    `enter` swaps a ticket for a session. `hello` shows a page of Jupyter that the browser can reach this origin. `frame` is a
    page that reports to its embedding page whether the browser keeps a cookie like the session's there, and has `localStorage`:
    without them neither the login nor most applications work in a frame.
    """

    is_isolated = True
    own_fields = [("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer")]  # noqa: RUF012 (never changed)

    async def serve(self) -> None:
        """Raises: Redirected, GatewayError"""
        if self.request.method != "GET":
            raise MethodRefused(_ONLY_PAGES, "Open the service from Jupyter.")
        path, _, query = self.uri.partition("?")
        if path == WELL_KNOWN_PATH + "hello" and (jupyter := self._jupyter_origin("Origin")):
            self.respond(204, [("Access-Control-Allow-Origin", jupyter), ("Vary", "Origin")])
        elif path == WELL_KNOWN_PATH + "frame" and (jupyter := self._jupyter_origin("Referer")):
            policy = ("Content-Security-Policy", "default-src 'none'; script-src 'unsafe-inline'")
            cookie = ("Set-Cookie", f"{_FRAME_COOKIE}=1; Path={WELL_KNOWN_PATH}; Max-Age=10; {_IN_FRAMES}")
            page = _FRAME_PAGE.format(jupyter=jupyter).encode()
            self.respond(200, [("Content-Type", "text/html; charset=utf-8"), policy, cookie], page)
        elif path == WELL_KNOWN_PATH + "enter":
            await self._enter(parse_qs(query, encoding="latin-1"))
        else:
            self.respond(404, [])

    def _jupyter_origin(self, field: str) -> str:
        """The origin of the page that sent the request, if it is Jupyter's; else empty: other sites must not find this server."""
        origin = parse_origin(self.request.headers.get(field, ""))
        return origin if origin and self.origins.is_jupyter_host(origin.partition("://")[2], self.host) else ""

    async def _enter(self, given: dict[str, list[str]]) -> None:
        """Swap a ticket for a session, only in the browser that got the ticket, or another site could log it in as another user.

        A browser without a session here is sent back to Jupyter, once, for a ticket of its own: to be used with a cookie that is
        set here first.
        """
        path, ticket = (given.get(name, [""])[0] for name in ("next", "ticket"))
        entry = self.origins.find_ticket(ticket)
        if entry is None or entry.host != self.host or not _PATH.match(path):
            raise Forbidden("The link to this service has expired or was already used.", "Open the service from Jupyter again.")
        self._login_tokens |= entry.tokens
        path = credentials.remove_secret_parameters(path, self.tokens)
        cookies = self.session_cookies()
        if entry.nonce:
            if entry.nonce not in map(nonce_of, cookies):
                raise Forbidden(
                    f"Your browser keeps no cookie of {self.host}.", "Allow cookies for that address, or open the path-based URL."
                )
        elif self._is_browser() and not await self._has_session(entry, cookies):
            cookie = cookies[0] if cookies else secrets.token_urlsafe(32)
            query = urlencode({"target": entry.target, "nonce": nonce_of(cookie), "ticket": ticket})
            address = self.gateway.settings.jupyter_url or entry.jupyter_origin + self.gateway.base_url
            self._redirect_with(cookie, f"{address}proxy/enter?{query}&next={quote(path.encode('latin-1'), safe='')}")
            return
        session = self.origins.redeem_ticket(ticket, self.host, framed=is_framed(self.request)) or ""
        self._redirect_with(session, f"{self.scheme}://{self.host}{path}")

    def _is_browser(self) -> bool:
        """Browsers send Fetch Metadata, but not over plain http, except on their own machine."""
        headers = self.request.headers
        has_metadata = self.origins.hosts.is_local or self.scheme == "https"
        return "Sec-Fetch-Site" in headers or (not has_metadata and "text/html" in headers.get("Accept", ""))

    async def _has_session(self, entry: OriginSession, cookies: list[str]) -> bool:
        """True if the browser has a session of the ticket's user already."""
        sessions = [await self.origins.find_session(cookie, entry.host) for cookie in cookies]
        return any(session is not None and session.belongs_to(entry.user.username, entry.login) for session in sessions)

    def _redirect_with(self, cookie: str, location: str) -> None:
        lax = "SameSite=Lax; Secure" if self.scheme == "https" else "SameSite=Lax"
        kind = _IN_FRAMES if is_framed(self.request) else lax
        fields = [("Location", credentials.remove_secret_parameters(location, self.tokens))]
        self.respond(302, [*fields, ("Set-Cookie", f"{self.cookie_name}={cookie}; Path=/; HttpOnly; {kind}")])


class WellKnownDelegate(HTTPMessageDelegate):
    """Responds to a WellKnownRequest when it has been read. Its content has no meaning."""

    def __init__(self, request: WellKnownRequest) -> None:
        self._request = request
        self._task: asyncio.Task[None] | None = None

    def finish(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._serve(), name="portproxy isolated origin")

    async def _serve(self) -> None:
        try:
            await self._request.serve()
        except Exception as error:
            self._request.fail(error)


class IsolatedRequest(OriginRequest):
    """A request at an isolated origin: authenticated by a session of that origin.

    Attributes:
        is_download: the response is to be saved as a file.
    """

    is_isolated = True
    is_download = False
    _entry: OriginSession | None = None
    _caller = ""  # host of another origin of the same user's, whose page sent the request

    async def authenticate(self) -> None:
        """Find the user by the session. Raises: NotEntered"""
        caller, cookie_name, handler = self._calling_host(), self.cookie_name, self.jupyter
        entry = await self._session()
        preflight = entry is None and self._is_preflight()
        if preflight:  # browsers send it without a cookie
            entry = await self.origins.find_session_shared_with(self.host, caller)
        self._entry = entry
        handler.set_user(None if entry is None else entry.user, by_token=False)
        self._login_tokens = await self.find_login_tokens()
        if entry is None:
            raise NotEntered()
        self.user = entry.user
        self._login_tokens |= entry.tokens
        self._caller = caller if caller and await self.origins.has_session(entry, caller) else ""
        self.client = replace(
            self.describe_client(),
            secrets=self.tokens,
            login_cookie=cookie_name,
            login_cookies=entry.login,
            isolated=True,
            embedder=" ".join([entry.jupyter_origin, *self.gateway.settings.embedders]),
            caller_origin=self.request.headers.get("Origin", "").lower() if self._caller else "",
            caller_upstream_origin=self._service_origin(self._caller) if self._caller else "",
            preflight=preflight,
            partitioned=entry.framed,
            is_download=self.is_download,
        )

    async def authorize(self) -> None:
        """The session repeats the authorization at intervals (`Logins`)."""

    async def is_login(self, credential: Credential) -> bool:
        """Nothing logs in at an origin: a credential is Jupyter's if it would log in there, and the service's otherwise."""
        known = self._entry.answers if self._entry is not None else {}
        key = sha256(f"{credential.is_field}{credential.value}".encode()).digest()
        if key not in known:
            if len(known) >= _MAX_ANSWERS:
                known.clear()
            known[key] = await logs_in_alone(credential, self.request, hypothetical_requests(self.jupyter))
        return known[key]

    async def _session(self) -> OriginSession | None:
        """The first valid session of all such cookies: a frame's and a tab's have the same name, and either may have ended."""
        for key in self.session_cookies():
            entry = await self.origins.find_session(key, self.host)
            if entry is not None:
                return entry
        return None

    def _calling_host(self) -> str:
        """The host of another isolated origin of this server whose page sent the request by CORS; empty if none did."""
        headers = self.request.headers
        scheme, _, host = headers.get("Origin", "").lower().partition("://")
        if scheme not in client_schemes(self.request) or host == self.host or "Upgrade" in headers:
            return ""
        is_cors = headers.get("Sec-Fetch-Mode", "cors") == "cors"
        return host if is_cors and self.origins.hosts.parse_target(host) is not None else ""

    def _is_preflight(self) -> bool:
        headers = self.request.headers
        asks = self.request.method == "OPTIONS" and "Access-Control-Request-Method" in headers
        return asks and not announces_content(headers)

    def _service_origin(self, host: str) -> str:
        """The origin of a service as other services on this machine address it."""
        target, services = self.origins.hosts.parse_target(host) or "", self.gateway.services
        if target in services:
            target = str(services.get(target).endpoint.port)
        return f"http://{urls.LOOPBACK_NAME}:{target}"

    def is_same_site(self) -> bool:
        """A partitioned session exists only in frames, of pages that may show the service: these may navigate there."""
        may_be_framed = bool(self.gateway.settings.embedders) or (self._entry is not None and self._entry.framed)
        return (may_be_framed and is_navigation(self.request) and is_framed(self.request)) or super().is_same_site()

    def is_allowed_origin(self, origin: str) -> bool:
        """The origin's own pages, and those of the same user's other origins for what the service has allowed them by CORS.

        The browser decides about reading; what changes something comes after a preflight, or is refused.
        """
        content_type = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        has_preflight = self.request.method != "POST" or content_type not in _FORM_TYPES
        return is_own_origin(self.request, origin, (self.host,)) or (bool(self._caller) and has_preflight)

    def check_isolation(self, route: BaseRoute) -> None:
        """The request is at the isolated origin already."""
        if is_navigation(self.request):
            self.begin_page(route)

    def login_address(self) -> str:
        """The URL at Jupyter that issues a ticket after the login."""
        target = self.origins.hosts.parse_target(self.request.headers.get("Host", ""))
        return f"{self.jupyter_url()}proxy/enter/{target}{self.uri}"

    def refuse(self, error: GatewayError) -> None:
        if isinstance(error, Unauthenticated) and is_worker_script(self.request):
            self.gateway.counters.count_response(200)
            self.respond(200, [("Cache-Control", "no-store"), ("Content-Type", "text/javascript")], _WORKER_REMOVER)
            return
        if isinstance(error, Unauthenticated) and is_navigation(self.request):
            self.origins.note_missing(self.host)
            is_stuck = is_framed(self.request) and not self.gateway.settings.embedders
            if is_stuck or not self.jupyter_url():
                error = NotEnteredFrame()
        super().refuse(error)

    def jupyter_url(self) -> str:
        """The URL of Jupyter's base URL; empty if that is not known."""
        known = self.origins.last_jupyter_origin
        if self.gateway.settings.jupyter_url:
            return self.gateway.settings.jupyter_url
        if not known and self.origins.hosts.is_local:  # this server has restarted, the browser's tab has not
            port = urls.split_port(self.host)[1]
            known = f"{self.scheme}://localhost{f':{port}' if port else ''}"
        return known + self.gateway.base_url if known else ""

    def watch(self, open_: Closable, destination: Destination) -> None:
        assert self._entry is not None  # authenticated
        self.origins.watch(open_, self._entry)
