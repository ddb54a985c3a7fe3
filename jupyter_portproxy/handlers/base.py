"""Who asks: login, authorisation and origin of a request; and the one form of a refusal.

Rule of this file: nothing of a request's content is read and no upgrade is answered before `PortHandler.admit` has passed.
Jupyter's identity provider and authorizer decide; where a page of another site asks, Fetch Metadata and Origin do.
"""

from __future__ import annotations

import json
import logging
import re
import time
from asyncio import Future
from collections.abc import Awaitable, Callable, Collection, Hashable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from jupyter_server.auth.authorizer import AllowAllAuthorizer
from jupyter_server.auth.identity import IdentityProvider, PasswordIdentityProvider, User
from jupyter_server.base.handlers import JupyterHandler
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine, format_timestamp
from tornado.iostream import StreamClosedError
from tornado.template import Loader
from tornado.web import HTTPError

from ..errors import (
    BadUpstream,
    Forbidden,
    GatewayError,
    Internal,
    LoginUnavailable,
    NotFramed,
    NotTheHub,
    Unauthenticated,
    Unreachable,
    UpstreamTimeout,
)
from ..gateway.gateway import Destination, Gateway, Projects, Requester
from ..protocol import credentials
from ..protocol.credentials import find_login_cookies
from ..protocol.forwarded import SCHEMES, find_client_schemes
from ..protocol.headers import Client, Fields
from ..protocol.hop_header import AUTHORIZATION_FIELD, HOP_FIELD, REFUSAL_FIELD, HopHeader, parse_hop_header
from ..protocol.named_project_urls import NamedProjectRoute
from ..protocol.project_urls import ProjectRoute
from ..protocol.urls import Redirect, Route, ServiceRoute, is_loopback
from ..services.hooks import RequestHooks
from ..system.descriptors import keep_alive
from ..upstream.closable import Closable
from .login_credentials import MAX_ASKED, Credential, credentials_in, logs_in

RESOURCE, ACTION = "portproxy", "execute"
_KEPT_ALIVE = "_portproxy_kept_alive"
# Logins by a token of the settings or a signed cookie.
_STATELESS = (IdentityProvider, PasswordIdentityProvider)
_OWN_PAGES = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"
_NOTHING = HopHeader()
PAGES = Loader(str(Path(__file__).parents[1]))


class PortHandler(JupyterHandler):
    """Who asks, and what a refusal looks like; both kinds of traffic share it."""

    client: Client  # known once `admit` has passed
    is_isolated = False  # asked at an isolated origin

    def initialize(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.asked: object = None  # by the URL, once `admit` is told
        self.told = _NOTHING  # by a hop before this one that is believed
        self.tokens = self._own_tokens()  # Jupyter's, in this request or elsewhere: none of them may reach a service
        self.destination: Destination | None = None  # of a project, once it is known

    @cached_property
    def fields(self) -> Fields:
        """The request's."""
        return list(self.request.headers.get_all())

    def clear(self) -> None:
        """Without Tornado's own fields: a service's answer is its own, and a refusal sets what it needs."""
        self._headers = HTTPHeaders()
        self._write_buffer: list[bytes] = []
        self.set_status(200)

    def compute_etag(self) -> None:
        return None

    def finish(self, chunk: Any = None) -> Future[None]:
        """An answer that comes before the content was read ends the connection (Tornado sees to that), and says so.

        A front that keeps connections (configurable-http-proxy) would otherwise send its next request into a closed one.
        """
        if not getattr(self.request.connection, "_read_finished", True):
            self.set_header("Connection", "close")
        return super().finish(chunk)

    async def _log_in(self) -> None:
        """Who asks, by the identity provider's word.

        Raises:
            Unauthenticated, Forbidden, LoginUnavailable
        """
        if not self.check_host():
            raise Forbidden("This server does not answer to that host name.", "Use the address that the server printed.")
        self.current_user = await self._logged_in()
        self.tokens = await self._login_tokens()
        self.client = self._describe_client()

    async def _logged_in(self) -> User:
        user = self._jupyter_current_user = await self.ask_identity_provider()
        if user is None:
            raise Unauthenticated()
        return user

    async def _ask_authorizer(self) -> None:
        allowed = self.authorizer.is_authorized(self, self.current_user, ACTION, RESOURCE)
        if not (await allowed if isinstance(allowed, Awaitable) else allowed):
            raise Forbidden("You may not reach services through this server.", f"Ask for the permission {RESOURCE}:{ACTION}.")

    def _believe(self, chain: Projects) -> None:
        """The user as the hop before this one tells it.

        Raises:
            NotTheHub: it did not show its credential.
        """
        told = parse_hop_header(self.request.headers.get(HOP_FIELD, ""))
        if not chain.admits(told.credential):
            raise NotTheHub()
        self.told = told
        self.current_user = self._jupyter_current_user = User(told.user)
        self._token_authenticated = False
        self.client = replace(self._describe_client(), trusted=True, forwarded_client=told.forwarded_client)

    def is_logged_in(self, user: User, client: Client) -> None:
        """By a check that has been made."""
        self.current_user = self._jupyter_current_user = user
        self.client = client

    @property
    def is_asked(self) -> bool:
        """True if identity provider or authorizer may change their minds between two requests of the same fields.

        Jupyter's own do not: their logins follow from fields and settings alone, so that there is nothing which a logout could
        end here. Nor does the hop before this one, which vouches by its credential.
        """
        if self._is_believed:
            return False
        return not self._is_stateless or type(self.authorizer) is not AllowAllAuthorizer

    @property
    def _is_stateless(self) -> bool:
        provider = type(self.identity_provider)
        return provider in _STATELESS or getattr(provider, "is_stateless", False)

    @property
    def _is_believed(self) -> bool:
        chain = self.gateway.projects
        return isinstance(self.asked, ProjectRoute) and chain is not None and chain.believes_credentials

    async def is_still(self, user: User, by_token: bool) -> bool:
        """True if the same user is logged in as for the request before, in the same way, and may still reach services.

        Raises:
            Unauthenticated, Forbidden, LoginUnavailable
        """
        self.current_user = now = await self._logged_in()
        await self._ask_authorizer()
        return now == user and self.token_authenticated == by_token

    async def ask_identity_provider(self, *, afresh: bool = False) -> User | None:
        """The identity provider's word.

        Args:
            afresh: not what it remembers of JupyterHub's.

        Raises:
            Forbidden, LoginUnavailable
        """
        try:
            if afresh:
                await self._forget_hub()
            user = self.identity_provider.get_user(self)
            return await user if isinstance(user, Awaitable) else user
        except GatewayError:
            raise
        except HTTPError as error:
            if error.status_code < 500:
                raise Forbidden("Your login is not accepted here.", "Log in to Jupyter again.") from None
            self.log.warning("portproxy: the identity provider failed: %s", error)
            raise LoginUnavailable() from None
        except Exception:
            self.log.exception("portproxy: the identity provider failed")
            raise LoginUnavailable() from None

    def get_cookie(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """Tornado's own makes an object of each cookie of the head before it looks for one."""
        values = credentials.find_cookie_values(self.request.headers.get_list("Cookie"), name)
        return credentials.unquote_cookie(values[-1]) if values else default

    async def _forget_hub(self) -> None:
        """Let the identity provider forget what JupyterHub has said (`HubOAuth.cache_max_age`), unless that is away now."""
        hub_auth: Any = getattr(self.identity_provider, "hub_auth", None)
        token = hub_auth.get_token(self) if hub_auth is not None else None
        if token:
            await hub_auth.user_for_token(token, use_cache=False, sync=False)
            hub_auth.cache = type(hub_auth.cache)(hub_auth.cache_max_age)

    def check_xsrf_cookie(self) -> None:
        """No XSRF token: the pages of a service know none. `admit` looks at the site that asks instead.

        JupyterHub's identity provider calls this before it believes its cookie.
        """

    def set_signed_cookie(self, name: str, value: str | bytes, *args: Any, **kwargs: Any) -> None:
        """No login cookie for a program that sends its token with each request: signing one costs more than the login.

        Any other is set: without that of JupyterHub's OAuth state, a login that begins here cannot end.
        """
        if "Authorization" not in self.request.headers or name != self.identity_provider.get_cookie_name(self):
            super().set_signed_cookie(name, value, *args, **kwargs)

    set_secure_cookie = set_signed_cookie

    def log_answer(self, status: int) -> None:
        """In Jupyter's access log."""
        self.set_status(status)
        self.application.log_request(self)

    @property
    def is_told(self) -> bool:
        """True if somebody reads of successes: Jupyter tells them at DEBUG."""
        serverapp = self.serverapp
        return serverapp is not None and any(reader.level <= logging.DEBUG for reader in serverapp.log.handlers)

    async def admit(self, asked: object = None) -> None:
        """Login, authorisation and origin of the request.

        Args:
            asked: what its URL asked for. A project host believes the hop before it, which has checked the rest.

        Raises:
            Unauthenticated, Forbidden, LoginUnavailable
            StreamClosedError: the connection was closed before this request's turn; Tornado still reads what it had buffered.
        """
        if self.connection.stream.closed():
            raise StreamClosedError()
        stay_in_touch(self.connection)
        self.asked = asked
        chain = self.gateway.projects
        if self._is_believed and chain is not None:
            self._believe(chain)
            return
        await self._log_in()
        await self._ask_authorizer()
        if not self._same_site():
            raise Forbidden("This request comes from another site.", "Open the service's own address in the browser.")

    @property
    def connection(self) -> HTTP1Connection:
        return connection_of(self.request)

    async def locate(self, asked: Route | ServiceRoute | ProjectRoute | NamedProjectRoute) -> Destination:
        """Where the request goes. A page of a service that is starting is told so; all else waits until it is up."""
        if isinstance(asked, (ProjectRoute, NamedProjectRoute)):
            assert self.gateway.projects is not None  # it has found the route
            self.destination = await self.gateway.projects.locate(asked, self._asker)
            return self.destination
        if isinstance(asked, Route):
            return Destination(asked, await self.gateway.policy.resolve(asked, self), self.gateway.port_hooks)
        return await self.gateway.locate(asked, patient=not self.is_navigation())

    async def start_project(self, asked: object) -> Redirect | None:
        """Where to go on if this request was one to start a project."""
        if not isinstance(asked, ProjectRoute) or self.gateway.projects is None:
            return None
        return await self.gateway.projects.start(asked, self._asker)

    @property
    def _asker(self) -> Requester:
        return Requester(self.current_user.username, self.told.may_start, self.request.method == "POST")

    def is_activity(self, hooks: RequestHooks | None) -> bool:
        """True if the request counts as activity of this server.

        Raises:
            Internal: the function that was to tell has failed.
        """
        try:
            return hooks is None or hooks.counts_as_activity(self)
        except Exception:
            self.log.exception("portproxy: 'update_last_activity' failed")
            raise Internal() from None

    def _describe_client(self) -> Client:
        """What the gateway needs to know about who asks."""
        request = self.request
        context: Any = self.connection.context
        trusted = bool(self.settings.get("trust_xheaders") or self.trusts_front())
        from_hop = trusted and self._is_last_hop
        return Client(
            address=request.remote_ip or "",
            peer=getattr(context, "_orig_remote_ip", None) or request.remote_ip or "",
            scheme=request.protocol,
            host=request.headers.get("Host", ""),
            trusted=trusted,
            secrets=self.tokens | credentials.find_xsrf_tokens(request.headers.get_list("Cookie")),
            login_cookie=self.identity_provider.get_cookie_name(self),
            authorization=request.headers.get(AUTHORIZATION_FIELD, "") if from_hop else "",
            forwarded_client=parse_hop_header(request.headers.get(HOP_FIELD, "")).forwarded_client if from_hop else None,
        )

    def _own_tokens(self) -> frozenset[str]:
        """Jupyter's token."""
        return frozenset({str(getattr(self.identity_provider, "token", "") or "")} - {""})

    async def _login_tokens(self) -> frozenset[str]:
        """Jupyter's token, and the credentials of this request that log in at Jupyter."""
        known = set(self._own_tokens())
        if self.token_authenticated:
            known |= {self.identity_provider.get_token(self) or ""} - {""}
        if self._is_stateless:
            return frozenset(known)
        found = [c for c in credentials_in(self.request) if not known & {c.value, credentials.parse_authorization_token(c.value)}]
        for credential in found:
            if len(found) > MAX_ASKED or await self._is_login(credential):
                known |= {credential.value, credentials.parse_authorization_token(credential.value)} - {""}
        return frozenset(known)

    async def _is_login(self, credential: Credential) -> bool:
        return await logs_in(credential, self.request, self._ask_about)

    async def _ask_about(self, uri: str, headers: HTTPHeaders) -> User | None:
        """Whom the identity provider takes another request of this client for.

        Raises:
            LoginUnavailable
        """
        try:
            return await questions(self)(uri, headers).ask_identity_provider()
        except LoginUnavailable:
            raise
        except GatewayError:
            return None

    @property
    def _is_last_hop(self) -> bool:
        """Whoever asks has used Authorization for the login, as a project host does, and may tell what it was before."""
        return self.gateway.projects is None and self.token_authenticated and "Authorization" in self.request.headers

    def refuse(self, error: GatewayError) -> None:
        """Answer with the error page, or send a page navigation to the login."""
        if self._finished:
            return
        if self.destination is not None and self.gateway.projects is not None:
            error = self.gateway.projects.translate(error, self.destination)
        self.clear()
        self.set_header("Date", format_timestamp(time.time()))
        if isinstance(error, Unauthenticated) and self.is_navigation():
            self.redirect_to(self._login_address())
            return
        if isinstance(error, Unauthenticated) and self._is_manifest():
            self.set_header("Cache-Control", "no-store")
            self.set_header("Content-Type", "application/manifest+json")
            self.gateway.counters.answer(200)
            self.finish("{ }")  # Chromium takes two bytes for no manifest at all: an error in its console
            return
        retry = error.retry_after
        if retry is not None:
            self.set_header("Retry-After", str(retry))
        self.set_status(error.status)
        self.gateway.counters.answer(error.status)
        if isinstance(error, (Unreachable, BadUpstream, UpstreamTimeout)):
            self.gateway.counters.upstream_error(error.code)
        if isinstance(error, NotTheHub):
            self.set_header(REFUSAL_FIELD, "credential")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        kind, text = self._page(error)
        self.set_header("Content-Type", f"{kind}; charset=utf-8")
        own = _OWN_PAGES + ("; script-src 'unsafe-inline'" if isinstance(error, NotFramed) else "")
        self.set_header("Content-Security-Policy", f"{own}; frame-ancestors {self.frame_ancestors()}")
        self.finish(text)

    def redirect_to(self, location: str, status: int = 302) -> None:
        """Answer with a redirect; each of the gateway's own passes here.

        Within Jupyter's origin the token may be the client's only login. At any other origin the page could read it.
        """
        self.set_status(status)
        inside = location.startswith("/") and not self.is_isolated
        self.set_header("Location", location if inside else credentials.remove_secret_parameters(location, self.tokens))
        if status != 308:
            self.set_header("Cache-Control", "no-store")
        self.finish()

    def frame_ancestors(self) -> str:
        """Who may show a refusal in a frame."""
        return "'self'"

    def address_at_origin(self, asked: object) -> str | None:
        """Where a page navigation is sent that asks for a service in the path form; None if it may stay.

        It may not if origins are "always" to be used, nor if a page of another site sent it: that may be the service's own, at
        its origin, which would be in Jupyter's with it. One that comes back to where its user has been before may stay.

        Raises:
            Forbidden: it may not stay, and there is no origin for it.
        """
        if not self.is_navigation():
            return None
        if isinstance(asked, Route) and is_loopback(asked.host):
            name, below = str(asked.port), asked.target
        elif isinstance(asked, ServiceRoute):
            name, below = asked.name, f"{asked.path or '/'}{asked.query}"
        else:
            return None
        if self.origin_target(name) is None or (self.gateway.settings.isolate != "always" and self._may_stay(name)):
            return None
        if isinstance(asked, Route) and asked.scheme == "https":
            raise Forbidden(
                "This address is for links of Jupyter's own pages alone.",
                f"Let the service have an origin of its own: c.PortProxy.https_ports = [{asked.port}].",
            )
        return f"{self.gateway.base_url}proxy/enter/{name}{below}"

    def _may_stay(self, name: str) -> bool:
        """True if a page navigation to a service may stay in the path form: its user sent it, or a third party sends them back.

        Back means that this user has opened the service in the path form, so that its scripts have been in Jupyter's origin
        anyway, and that the browser has a cookie there that is not Jupyter's. A cookie alone proves nothing: on the browser's
        own machine a service can set it through its raw port, as cookies know no ports.
        """
        origins, user, headers = self.gateway.origins, self.current_user.username, self.request.headers
        if headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
            if origins is not None:
                origins.add_page(user, name)
            return True
        if origins is None or not origins.has_page(user, name):
            return False
        names = {self.identity_provider.get_cookie_name(self)}
        return any(credentials.remove_cookies(line, names, "", isolated=False) for line in headers.get_list("Cookie"))

    def origin_target(self, name: str) -> str | None:
        """What stands for a port or a service in its origin's host name: a name that cannot be in one has its port's.

        None if it has no origin, or this browser could not find it.
        """
        origins, services = self.gateway.origins, self.gateway.services
        if origins is None:
            return None
        find = partial(origins.names.find_host, request=self.request)
        port = services.get(name).endpoint.port if name in services else 0
        return next((t for t in (name, str(port)) if t != "0" and find(t) is not None), None)

    @property
    def is_watched(self) -> bool:
        """True if somebody may end what is under way."""
        return self.gateway.projects is not None or self.is_asked

    def opened(self, open_: Closable, destination: Destination) -> None:
        """A tunnel, or an answer under way, ends with its login; and when the project that it leads to moves, or its user may not
        reach that any more."""
        if self.gateway.projects is not None:
            self.gateway.projects.watch(open_, destination)
        if self.is_asked:
            self.gateway.logins.watch(self._login_key, partial(login_check, self), open_)

    @property
    def _login_key(self) -> Hashable:
        """All by which Jupyter's and JupyterHub's identity providers know a login, and the name that it gave."""
        headers = self.request.headers
        fields = [tuple(headers.get_list(name)) for name in ("Cookie", "Authorization", "Sec-WebSocket-Protocol")]
        return (self.current_user.username, *fields, *self.request.query_arguments.get("token", ()))

    def on_connection_close(self) -> None:
        """The client is gone."""

    def _page(self, error: GatewayError) -> tuple[str, str]:
        accept = self.request.headers.get("Accept", "")
        if "application/json" in accept and "text/html" not in accept:
            return "application/json", json.dumps(error.as_json())
        if "text/html" in accept:
            reload = error.retry_after if self.request.method == "GET" else None
            page = PAGES.load("handlers/error_page.html").generate(error=error, reload=reload, about=error.documentation)
            return "text/html", page.decode("utf-8")
        return "text/plain", "\n".join([error.message, error.hint, *error.details, ""])

    def _is_manifest(self) -> bool:
        """A browser asks for the manifest of a page of ours, which it does without cookies: its console would have an error.

        The answer is empty for every address, so that it tells nothing of what is there.
        """
        headers = self.request.headers
        is_asked = headers.get("Sec-Fetch-Dest") == "manifest" and headers.get("Sec-Fetch-Site") == "same-origin"
        return is_asked and self.request.method == "GET"

    def is_navigation(self) -> bool:
        """True if a browser asks for a page, not for a part of one."""
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
        """True unless a page of another site sent the request, by Fetch Metadata and Origin (RFC 6454).

        A form of a page under `Referrer-Policy: no-referrer` is sent with `Origin: null` and `Sec-Fetch-Site: same-origin`.
        """
        headers = self.request.headers
        site, origin = headers.get("Sec-Fetch-Site", "none"), headers.get("Origin")
        if site not in ("same-origin", "none"):
            return self._is_link() or self._origin_allowed()
        return origin is None or (site == "same-origin" and origin == "null") or self._origin_allowed()

    def _is_link(self) -> bool:
        """True for a GET or HEAD that a link on another site causes: a top-level navigation."""
        headers = self.request.headers
        if self.request.method not in ("GET", "HEAD") or "Upgrade" in headers:
            return False
        return headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest", "document") == "document"

    def _origin_allowed(self) -> bool:
        """True for our own origin and those that the administrator gave to Jupyter (allow_origin, allow_origin_pat)."""
        origin = self.request.headers.get("Origin", "").lower()
        if self._is_own(origin):
            return True
        if not origin or self.allow_origin:
            return bool(origin) and self.allow_origin in ("*", origin)
        return bool(self.allow_origin_pat and re.fullmatch(self.allow_origin_pat, origin))

    def _is_own(self, origin: str) -> bool:
        """True if an Origin is the request's own. With `Sec-Fetch-Site: same-origin` the browser has compared the schemes."""
        scheme, _, host = origin.partition("://")
        if not host or host != self.request.headers.get("Host", "").lower():
            return False
        vouched = self.request.headers.get("Sec-Fetch-Site") == "same-origin"
        return scheme in (SCHEMES if vouched else self._schemes())

    def _schemes(self) -> Collection[str]:
        """Those that the client's URL can have."""
        return find_client_schemes(self.request.headers, self.request.protocol)

    def trusts_front(self) -> bool:
        """True if the fields of a front before this server are to be believed."""
        serverapp = self.serverapp
        return bool(serverapp and serverapp.trust_xheaders)

    def login_cookies(self) -> Fields:
        """The Set-Cookie fields that logging in has left for the answer."""
        jar: Any = getattr(self, "_new_cookie", None) or {}
        return [("Set-Cookie", morsel.OutputString(None)) for morsel in jar.values()]


def cookies_of(headers: HTTPHeaders) -> dict[str, str]:
    return credentials.parse_cookies(headers.get_list("Cookie"))


def cookies_after(handler: PortHandler) -> dict[str, str]:
    """The browser's cookies once it has the answer: a token in the URL, for one, becomes a login cookie."""
    fresh = [value.partition(";")[0].partition("=") for _, value in handler.login_cookies()]
    return {**cookies_of(handler.request.headers), **{name: value.strip('"') for name, _, value in fresh}}


def questions(handler: PortHandler) -> Callable[[str, HTTPHeaders], PortHandler]:
    """Makes, of a request target and fields, a request of the handler's client about which an identity provider can be asked.

    It holds on to the application, and not to the handler.
    """
    application, gateway, asked = handler.application, handler.gateway, handler.asked
    connection: Any = SimpleNamespace(context=handler.connection.context, set_close_callback=lambda callback: None)

    def question(uri: str, headers: HTTPHeaders) -> PortHandler:
        start = RequestStartLine("GET", uri, "HTTP/1.1")
        request = HTTPServerRequest(headers=headers.copy(), connection=connection, start_line=start)
        again = PortHandler(application, request, gateway=gateway)
        again.asked = asked
        return again

    return question


def login_check(handler: PortHandler) -> Callable[[], Awaitable[bool]]:
    """Asks identity provider and authorizer again, later, with what a login came by; the cookies that it left, if it did."""
    request, question = handler.request, questions(handler)
    user, headers, uri = handler.current_user, request.headers.copy(), request.uri or "/"
    cookies = cookies_after(handler)
    if find_login_cookies(cookies):
        uri = uri.partition("?")[0]  # without the token: that outlives a logout
        headers["Cookie"] = "; ".join(f'{name}="{value}"' for name, value in cookies.items())

    async def is_valid() -> bool:
        again = question(uri, headers)
        try:
            now = await again.ask_identity_provider(afresh=True)
        except LoginUnavailable:
            return True  # JupyterHub is away: it will be asked again
        except GatewayError:
            return False
        again.current_user = again._jupyter_current_user = now  # else what follows asks once more, and may not
        if now is None or (now.username != user.username and not again.token_authenticated):
            return False  # by a token alone Jupyter makes up a name each time
        try:
            await again._ask_authorizer()
        except Forbidden:
            return False
        except Exception:
            again.log.exception("portproxy: the authorizer failed")
            return False
        return True

    return is_valid


def stay_in_touch(connection: HTTP1Connection) -> None:
    """It may stay for long, and vanish without a word."""
    context: Any = connection.context
    if not hasattr(context, _KEPT_ALIVE):
        setattr(context, _KEPT_ALIVE, True)
        keep_alive(connection.stream.socket)


def connection_of(request: HTTPServerRequest) -> HTTP1Connection:
    """Tornado has no other kind."""
    return cast(HTTP1Connection, request.connection)
