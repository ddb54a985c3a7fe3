"""One request to the gateway: who sent it, whether they may, and the gateway's own responses to it.

`ProxyRequest` has the steps that the pipeline takes in order, finds the destination for a route (it is the route's `Resolver`)
and writes redirects and error pages. `user` and `client` exist from `authenticate`, `accept_previous_hop` or `restore` on;
`responded` becomes True with the first byte of the gateway's own response and stays so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import cached_property, partial
from http.client import responses
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode, urlsplit

from jupyter_server.auth.identity import User
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine, format_timestamp
from tornado.iostream import StreamClosedError
from tornado.web import Application

from ..errors import (
    BadUpstream,
    Forbidden,
    GatewayError,
    Internal,
    NotFound,
    ServiceFailed,
    ServiceStarting,
    Unauthenticated,
    Unreachable,
    UpstreamTimeout,
)
from ..gateway.destinations import Destination, Requester
from ..gateway.gateway import Gateway
from ..gateway.lingering_close import is_read
from ..gateway.observer import ObservedRequest, Observer
from ..isolation.sessions import Origins
from ..protocol import credentials
from ..protocol.headers import Client, Fields
from ..protocol.hop_header import HopHeader
from ..protocol.named_project_urls import NamedProjectRoute
from ..protocol.project_urls import ProjectRoute
from ..protocol.urls import (
    BaseRoute,
    Redirect,
    Redirected,
    Route,
    ServiceRoute,
    find_first_segment,
    is_below,
    parse_url,
    without_default_port,
)
from ..system.descriptors import keep_alive
from ..upstream.closable import Closable
from . import error_page, hop_trust, start_page
from .diagnosis_link import DiagnosisLink, find_lab, link_diagnosis
from .error_page import AllowForm
from .jupyter_request import JupyterRequest, hypothetical_requests, is_permitted, login_check
from .login_credentials import Credential, login_tokens, logs_in
from .origin_check import client_schemes, is_framed, is_jupyter_origin, is_manifest, is_navigation, is_same_site
from .start_page import StartReport, StartReported, StartView

if TYPE_CHECKING:
    from .decision_cache import CachedDecision

_KEPT_ALIVE = "_portproxy_kept_alive"


class ProxyRequest:
    """One request, from its head to its end.

    Attributes:
        route: of its URL.
        tokens: Jupyter's own token and the credentials of this request that log in at Jupyter; none may reach a service.
        hop: the header of a chain's previous hop; empty unless the request is vouched for.
        destination: of a project's request, once it is known: its errors are translated.
        own_fields: header fields of each of the gateway's own responses.
        is_upgrade: it asks for a WebSocket.

    Args:
        isolated: the sessions at isolated origins; None if there are none.
    """

    is_isolated = False  # it came to an isolated origin
    own_fields: Fields = []  # noqa: RUF012 (never changed)
    user: User
    client: Client
    route: BaseRoute | None = None
    hop = HopHeader()
    destination: Destination | None = None
    responded = False
    is_upgrade = False
    _is_restored = False  # the route is that of an earlier request, which may have another path
    observed: ObservedRequest | None = None  # while requests like this one are recorded
    _start: StartReport | None = None  # shown in place of the error of a service that is starting or has ended
    _login_tokens: frozenset[str] = frozenset()
    _close_callback: Callable[[], None] | None = None

    def __init__(
        self, application: Application, request: HTTPServerRequest, gateway: Gateway, isolated: Origins | None = None
    ) -> None:
        self.application, self.request, self.gateway, self._isolated = application, request, gateway, isolated

    @cached_property
    def fields(self) -> Fields:
        return list(self.request.headers.get_all())

    @cached_property
    def jupyter(self) -> JupyterRequest:
        """The request as Jupyter's identity provider, authorizer and log take it. A cached decision needs none."""
        handler = JupyterRequest(self.application, self.request, gateway=self.gateway, route=self.route)
        self.connection.set_close_callback(self._close_callback)  # each of Tornado's handlers sets its own
        return handler

    @property
    def connection(self) -> HTTP1Connection:
        return cast(HTTP1Connection, self.request.connection)  # Tornado's HTTP server has no other class

    def set_close_callback(self, callback: Callable[[], None]) -> None:
        """Call back once if the client closes the connection before the response has ended."""
        self._close_callback = callback
        self.connection.set_close_callback(callback)

    def drop_close_callback(self) -> None:
        """Forget the callback, which refers to the owner of this request: both are freed without the garbage collector."""
        self._close_callback = None

    @cached_property
    def host(self) -> str:
        """The client's Host in lower case, without a default port, as browsers send it; reverse proxies may add that port."""
        host = self.request.headers.get("Host", "").lower()
        for scheme in client_schemes(self.request):
            host = without_default_port(scheme, host)
        return host

    @property
    def tokens(self) -> frozenset[str]:
        token = str(getattr(self.application.settings["identity_provider"], "token", "") or "")
        return self._login_tokens | {token} if token else self._login_tokens

    # ---- the steps of the pipeline ----

    def begin(self, route: BaseRoute) -> None:
        """Raises: StreamClosedError: the client closed before this request's turn; Tornado still reads what it had buffered."""
        connection = self.connection
        if connection.stream.closed():
            raise StreamClosedError()
        if not hasattr(connection.context, _KEPT_ALIVE):  # it may stay open for long, and its client may vanish
            setattr(connection.context, _KEPT_ALIVE, True)
            keep_alive(connection.stream.socket)
        self.route = route
        if self.gateway.observer is not None:
            self._observe(self.gateway.observer, route)

    def _observe(self, observer: Observer, route: BaseRoute) -> None:
        redirect, request = route if isinstance(route, Redirect) else None, self.request
        target = route.target_name if redirect is None else self._redirect_target(redirect)
        if self.observed is not None or not target:
            return
        kind = "http" if not self.is_upgrade else "tcp" if route.tcp_target else "websocket"
        self.observed = observer.begin(target, kind, request.method or "", request.uri or "", request.protocol)
        if self.observed is not None and redirect is not None:
            self.observed.by_referer = redirect.by_referer

    def _redirect_target(self, route: Redirect) -> str:
        """The port or service to which a redirect leads; else empty."""
        base_url = self.gateway.base_url
        found: BaseRoute = route
        try:
            while isinstance(found, Redirect) and (below := parse_url(found.location, base_url)) is not None:
                found = below
        except GatewayError:
            return ""
        if isinstance(found, Redirect):  # `NAME/`, as jupyter-server-proxy had it
            name = find_first_segment(found.location, base_url)
            return name if name in self.gateway.services else ""
        return found.target_name

    @property
    def is_vouched_for(self) -> bool:
        """True if the previous hop of a chain has authenticated, authorized and checked the request, and shows a credential."""
        chain = self.gateway.projects
        return self.route is not None and self.route.is_project and chain is not None and chain.is_behind_hub

    def accept_previous_hop(self) -> None:
        """Take user and client from the previous hop's header. Raises: NotTheHub"""
        assert self.gateway.projects is not None  # `is_vouched_for`
        self.hop = hop_trust.previous_hop(self.request, self.gateway.projects)
        self.user = User(self.hop.user)
        self.jupyter.set_user(self.user, by_token=False)
        self.client = replace(self.describe_client(), trusted=True, forwarded_client=self.hop.forwarded_client)

    async def authenticate(self) -> None:
        """Find the user by the identity provider. Raises: Unauthenticated, Forbidden, LoginUnavailable"""
        if not self.jupyter.check_host():
            raise Forbidden("This server does not answer to that host name.", "Use the address that the server printed.")
        await self._identify()
        self._login_tokens = await self.find_login_tokens()
        self.client = self.describe_client()

    async def _identify(self) -> None:
        user = await self.jupyter.identify()
        if user is None:
            raise Unauthenticated()
        self.user = user

    async def authorize(self) -> None:
        """Raises: Forbidden"""
        await self.jupyter.authorize()

    def check_origin(self) -> None:
        """Raises: Forbidden: a page of another site sent the request."""
        if not self.is_same_site():
            raise Forbidden("This request comes from another site.", "Open the service's own address in the browser.")

    def is_same_site(self) -> bool:
        return is_same_site(self.request, self.is_allowed_origin)

    def is_allowed_origin(self, origin: str) -> bool:
        hosts = hop_trust.client_hosts(self.request.headers, self.application)
        return is_jupyter_origin(self.request, origin, hosts, self.application.settings)

    def check_isolation(self, route: BaseRoute) -> None:
        """Send a page navigation to the isolated origin, unless the page may have the path-based URL.

        It may not if origins are "always" to be used, nor if a page of another site sent it: that may be the service's own page
        at its isolated origin, which would become part of Jupyter's. A user who returns from a third party may.

        Raises:
            Redirected
            Forbidden: it may not, and there is no isolated origin for it.
        """
        if not is_navigation(self.request):
            return
        self.begin_page(route)
        target = route.isolated_target
        if target is None or self.isolated_target(target[0]) is None:
            return
        if self.gateway.settings.isolate != "always" and self._may_be_path_based(target[0]):
            return
        if route.scheme == "https":
            raise Forbidden(
                "This address is for links of Jupyter's own pages alone.",
                f"Give the service an isolated origin: c.PortProxy.https_ports = [{target[0]}].",
            )
        raise Redirected(Redirect(f"{self.gateway.base_url}proxy/enter/{''.join(target)}", 302))

    def begin_page(self, route: BaseRoute) -> None:
        """A page of a port or service is loaded, unless it is a frame of such a page."""
        if route.target_name and not (is_framed(self.request) and self._comes_from(route)):
            self.gateway.page_failures.begin_page(route.target_name)

    def _comes_from(self, route: BaseRoute) -> bool:
        """True if a page below the prefix of this route sent the request."""
        path = hop_trust.path_of_page(self.request.headers, self.application)
        return path is not None and is_below(path, route.stable_prefix)

    def count_failure(self, status: int) -> None:
        """Count a request that has failed, if a page of its service sent it."""
        route, headers = self.route, self.request.headers
        if status < 400 or route is None or not route.target_name or not hasattr(self, "user") or is_navigation(self.request):
            return
        if self._comes_from(route) or ("Referer" not in headers and headers.get("Sec-Fetch-Site") == "same-origin"):
            self.gateway.page_failures.count(route.target_name, self.request.path)

    def _may_be_path_based(self, name: str) -> bool:
        """True if a page navigation comes from its user or Jupyter, or from a third party that sends the user back.

        Back means that this user has opened the service by its path-based URL, so that its scripts have been in Jupyter's origin
        anyway, and that the browser has a cookie there that is not Jupyter's. A cookie alone proves nothing: on the browser's
        own machine a service can set it through its raw port, as ports do not separate cookies.
        """
        origins, headers = self._isolated, self.request.headers
        if headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
            if origins is not None:
                origins.add_page(self.user.username, name)
            return True
        if origins is None or not origins.has_page(self.user.username, name):
            return False
        names = {self.jupyter.identity_provider.get_cookie_name(self.jupyter)}
        return any(credentials.remove_cookies(line, names, "", isolated=False) for line in headers.get_list("Cookie"))

    def isolated_target(self, name: str) -> str | None:
        """The label of a port or service in the host name of its isolated origin: its name, or its port where that does not fit.

        None if it has no isolated origin, or this browser could not find it.
        """
        origins, services = self._isolated, self.gateway.services
        if origins is None:
            return None
        find = partial(origins.hosts.find_host, request=self.request)
        port = services.get(name).endpoint.port if name in services else 0
        return next((t for t in (name, str(port)) if t != "0" and find(t) is not None), None)

    def is_activity(self, destination: Destination, *, upgrade: bool = False) -> bool:
        """True if the request counts as activity of this server, unless its path is excluded.

        Args:
            upgrade: it is a WebSocket handshake.

        Raises:
            Internal: the function of the configuration that decides this has failed.
        """
        hooks = destination.hooks
        try:
            if hooks is not None and not hooks.counts_as_activity(self.jupyter):
                return False
        except Exception:
            self.gateway.log.exception("portproxy: 'update_last_activity' failed")
            raise Internal() from None
        request = self.request
        return destination.activity.counts_request(request.method or "", request.headers, upgrade=upgrade)

    # ---- repeated requests ----

    @property
    def is_revocable(self) -> bool:
        """True if another request with the same fields may have to be decided otherwise, or a tunnel ended.

        False for logins that follow from fields and settings, which no logout ends, and for decisions of the previous hop.
        """
        return not self.is_vouched_for and self.jupyter.is_revocable

    def restore(self, cached: CachedDecision) -> None:
        """Take over the result of the steps above from a cached decision."""
        self.user, self.client, self.destination, self._is_restored = cached.user, cached.client, cached.destination, True

    async def still_holds(self, cached: CachedDecision) -> bool:
        """True if user, permission and destination of a cached decision are what they were.

        Raises:
            Unauthenticated, Forbidden, LoginUnavailable
        """
        if cached.is_revocable:
            if self.jupyter.is_stateless:  # the same fields give the same login
                self.jupyter.set_user(cached.user, by_token=cached.by_token)
            else:
                await self._identify()
            await self.authorize()
            if (self.user, self.jupyter.token_authenticated) != (cached.user, cached.by_token):
                return False
        chain, to = self.gateway.projects, cached.destination
        return self.gateway.destinations.is_current(to) and (chain is None or to.hooks is None or await chain.holds(to))

    def reset(self) -> None:
        """Forget the results of the steps above: they are taken again."""
        self.__dict__.pop("jupyter", None)
        self.destination, self._is_restored = None, False

    # ---- the route's Resolver ----

    async def resolve_port(self, route: Route) -> Destination:
        return await self.gateway.destinations.find_port(route, self.jupyter)

    async def resolve_service(self, route: ServiceRoute) -> Destination:
        """A page navigation to a service that is starting gets the start page; all other requests wait for it."""
        if command := start_page.start_command(self.request):
            raise StartReported(await self._report_start(route.name, command))
        is_page = is_navigation(self.request)
        try:
            return await self.gateway.destinations.find_service(route, wait=not is_page)
        except (ServiceStarting, ServiceFailed) as error:
            raise await self._limit_output(error, route.name, is_page=is_page) from None

    async def _limit_output(self, error: GatewayError, name: str, *, is_page: bool) -> GatewayError:
        """The error with no more of the service's output than the user may read; for a page, its start page likewise."""
        services = self.gateway.services
        try:
            service = services.service_for(name)
        except NotFound:  # it could not be started
            return error
        has_output = await is_permitted(self.jupyter, "read")
        if is_page:
            self._start = start_page.describe_start(service, has_output=has_output)
        if has_output:
            return error
        return ServiceStarting(name) if isinstance(error, ServiceStarting) else services.failure(service, with_output=False)

    async def _report_start(self, name: str, command: str) -> StartReport:
        """Raises: NotFound"""
        services, message = self.gateway.services, ""
        service = services.service_for(name)
        if command == "again" and not service.agent and service.state in ("stopping", "down", "failed"):
            try:
                service = await services.restart(service.name)
            except ServiceFailed as error:
                message = error.message
        has_output = await is_permitted(self.jupyter, "read")
        return start_page.describe_start(service, has_output=has_output, message=message)

    async def resolve_project(self, route: ProjectRoute | NamedProjectRoute) -> Destination:
        chain = self.gateway.projects
        assert chain is not None  # or no URL would be a project's
        requester, start = Requester(self.user.username, self.hop.may_start, self.request.method == "POST"), route.start_route
        started = await chain.start(start, requester) if start is not None else None
        if started is not None:
            raise Redirected(started)
        self.destination = await chain.locate(route, requester)
        return self.destination

    # ---- credentials ----

    async def find_login_tokens(self) -> frozenset[str]:
        return await login_tokens(self.jupyter, self.tokens, self.is_login)

    async def is_login(self, credential: Credential) -> bool:
        """True if the request may have logged in by this credential."""
        return await logs_in(credential, self.request, hypothetical_requests(self.jupyter))

    def describe_client(self) -> Client:
        handler = self.jupyter
        has_authorization = handler.token_authenticated and "Authorization" in self.request.headers
        return hop_trust.describe_client(
            self.request,
            trusted=hop_trust.trusts_reverse_proxy(self.application),
            is_last_hop=self.gateway.projects is None and has_authorization,
            tokens=self.tokens,
            login_cookie=handler.identity_provider.get_cookie_name(handler),
        )

    def login_cookies(self) -> Fields:
        """The Set-Cookie fields that logging in has left for the response."""
        return self.jupyter.login_cookies() if "jupyter" in self.__dict__ else []

    # ---- what is open ----

    def watch(self, open_: Closable, destination: Destination) -> None:
        """End a tunnel or exchange with its login, and when its project moves or its user may not reach that any more."""
        if self.gateway.projects is not None:
            self.gateway.projects.watch(open_, destination)
        self.watch_login(open_)

    def watch_login(self, open_: Closable) -> None:
        """End something with the login of this request."""
        if self.is_revocable:
            self.gateway.logins.watch(self._login_key(), partial(login_check, self.jupyter), open_)

    def _login_key(self) -> Hashable:
        """All by which Jupyter's and JupyterHub's identity providers recognize a login, and the name that it gave."""
        headers = self.request.headers
        fields = [tuple(headers.get_list(name)) for name in ("Cookie", "Authorization", "Sec-WebSocket-Protocol")]
        return (self.user.username, *fields, *self.request.query_arguments.get("token", ()))

    # ---- the gateway's own responses ----

    def fail(self, error: Exception) -> None:
        """End a request that an exception ended: the one error hook of all kinds of requests."""
        if isinstance(error, Redirected):
            self.redirect(error.to.location, error.to.status)
        elif isinstance(error, GatewayError):
            self.refuse(error)
        elif isinstance(error, StartReported):
            self.respond(200, *start_page.render_report(error.report))
        elif isinstance(error, StreamClosedError):
            self.responded = True  # nothing can be written any more
            self.end_observation()
        else:
            self.gateway.log.error("portproxy: a request failed", exc_info=error)
            self.refuse(Internal())

    def refuse(self, error: GatewayError) -> None:
        """Respond with the error page, or send a page navigation to the login."""
        if self.responded:
            return
        if self.destination is not None and self.gateway.projects is not None:
            error = self.gateway.projects.translate(error, self.destination)
        if self.observed is not None and not self.connection.stream.closed():
            self.observed.error = error.code
        if isinstance(error, Unauthenticated) and is_navigation(self.request):
            self.redirect(self.login_address())
            return
        counts = self.gateway.counters
        if isinstance(error, Unauthenticated) and is_manifest(self.request):
            # Chromium ignores a manifest of two bytes without an error in its console. Every address gets the same response.
            counts.count_response(200)
            self.respond(200, [("Cache-Control", "no-store"), ("Content-Type", "application/manifest+json")], b"{ }")
            return
        counts.count_response(error.status)
        self.count_failure(error.status)
        if isinstance(error, (Unreachable, BadUpstream, UpstreamTimeout)):
            counts.count_upstream_error(error.code)
        allow = self._allow_form(error) if isinstance(error, Forbidden) else None
        start = StartView(self._start, self.jupyter_url()) if self._start is not None else None
        diagnosis = self._link_diagnosis() if error.is_diagnosable else None
        fields, body = error_page.render(error, self.request, self.frame_ancestors(), allow, start, diagnosis)
        self.respond(error.status, fields, body, is_logged=error.is_logged)

    def _link_diagnosis(self) -> DiagnosisLink | None:
        """The link to the diagnosis of the page; None for a part of a page, and for a page that is not of this server."""
        if self.route is None or not is_navigation(self.request):
            return None
        target = (self.route.at(self.request.uri or "") if self._is_restored else self.route).isolated_target
        if target is None:
            return None
        jupyter_url, lab = self.jupyter_url(), find_lab(self.application.settings)
        return link_diagnosis(jupyter_url + lab if jupyter_url and lab else "", *target)

    def _allow_form(self, error: Forbidden) -> AllowForm | None:
        """The form by which the user allows the port; None if they may not, or this is not a page of Jupyter's origin."""
        if error.allowable_port is None or self.is_isolated or not is_navigation(self.request):
            return None
        uri = credentials.remove_secret_parameters(self.request.uri or "", self.tokens)
        return AllowForm(f"{self.gateway.base_url}proxy/", error.allowable_port, uri, self.jupyter.xsrf_form_html())

    def redirect(self, location: str, status: int = 302) -> None:
        """Respond with a redirect.

        Within Jupyter's origin the token may be the client's only login. At any other origin the page could read it.
        """
        if not location.startswith("/") or self.is_isolated:
            location = credentials.remove_secret_parameters(location, self.tokens)
        fields = [("Location", location)]
        self.respond(status, fields if status == 308 else [*fields, ("Cache-Control", "no-store")])

    def respond(self, status: int, fields: Fields, body: bytes = b"", *, is_logged: bool = True) -> None:
        """Write one of the gateway's own responses, unless there is one already.

        A response before the content was read ends the connection, and says so: a reverse proxy that keeps connections
        (configurable-http-proxy) would otherwise send its next request into a closed one.
        """
        if self.responded:
            return
        self.responded = True
        connection = self.connection
        is_gone = self.observed is not None and connection.stream.closed()
        headers = HTTPHeaders()
        for name, value in [("Date", format_timestamp(time.time())), *fields, *self.own_fields, *self.login_cookies()]:
            headers.add(name, value)
        if status != 204:
            headers["Content-Length"] = str(len(body))
        if not is_read(self.request):
            headers["Connection"] = "close"
        self.drop_close_callback()
        connection.set_close_callback(None)
        start_line = ResponseStartLine("HTTP/1.1", status, responses.get(status, "Unknown"))
        connection.write_headers(start_line, headers, body if self.request.method != "HEAD" else None)
        self.gateway.lingering_close.finish(self.request)
        if is_logged:
            self.log_response(status)
        self.end_observation(0 if is_gone else status, headers, len(body))

    def end_observation(self, status: int = 0, headers: HTTPHeaders | None = None, size: int = 0) -> None:
        """Report the end of an observed request: by the gateway's own response, or without any if its client has gone."""
        if (observed := self.observed) is None:
            return
        observed.fields, observed.secrets = observed.fields or self.fields, observed.secrets or self.tokens
        if status:
            observed.mark_first_byte()
            observed.status, observed.sent, observed.bytes_down = status, headers, size
        observed.end(is_whole=status != 0)

    def jupyter_url(self) -> str:
        """The URL of Jupyter's base URL for links of the gateway's own pages; empty if it is not known."""
        return self.gateway.base_url

    def frame_ancestors(self) -> str:
        """Sources of the CSP directive: which pages may show an error page in a frame."""
        return "'self'"

    def login_address(self) -> str:
        url = self.jupyter.get_login_url()
        if "?" in url:
            return url
        request = self.request
        return f"{url}?{urlencode({'next': request.full_url() if urlsplit(url).scheme else request.uri or ''})}"

    @property
    def logs_success(self) -> bool:
        """True if Jupyter's log shows successful requests, which it does at DEBUG."""
        serverapp: Any = self.application.settings.get("serverapp")
        return serverapp is not None and any(handler.level <= logging.DEBUG for handler in serverapp.log.handlers)

    def record_response(self, status: int, *, logs_success: bool) -> None:
        """Count a relayed response, and log it unless the log does not show successes."""
        self.gateway.counters.count_response(status)
        if not (status < 300 or status == 304) or logs_success:
            self.count_failure(status)
            self.log_response(status)

    def log_response(self, status: int) -> None:
        if hasattr(self, "user"):  # by a cached decision, the handler has not been authenticated
            self.jupyter.set_user(self.user)
        self.jupyter.set_status(status)
        self.application.log_request(self.jupyter)
