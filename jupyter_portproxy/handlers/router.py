"""Who serves a request: the dispatcher before Tornado's routing.

It is the first rule of the application's router, and chooses in this order: a decision of the cache; isolated origins; the
gateway's own URLs; redirects by Referer. All other requests are Jupyter's. It only chooses: requests are decided in `pipeline`,
served in `http`, `websocket`, `raw_socket` and `tcp`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.routing import Router
from tornado.web import Application, RequestHandler

from ..errors import GatewayError, RawTcp
from ..gateway.gateway import Gateway
from ..isolation.sessions import Origins
from ..protocol import urls
from ..protocol.headers import is_websocket_upgrade
from ..protocol.urls import BaseRoute, InvalidRoute, Redirect, ServiceRoute
from .base import ProxyRequest
from .decision_cache import DecisionCache
from .http import HttpDelegate
from .jupyter_request import JupyterRequest
from .raw_socket import RawSocketHandler
from .referer_redirect import RefererRedirects
from .tcp import TcpHandler, TcpRequest
from .websocket import TunnelHandler

_MAX_UPGRADE_CONTENT = 1 << 16  # bytes, that Tornado's handlers keep before they refuse the request
FindIsolated = Callable[[HTTPServerRequest], "HTTPMessageDelegate | None"]


class PortRouter(Router):
    """Chooses who serves a request. To be mounted with a rule that matches every path, before all others.

    Args:
        origins: the sessions at isolated origins; None if there are none.
        find_isolated: serves the isolated origins and the URLs that lead into them; None if there are none.
    """

    SUPPORTED_METHODS: tuple[str, ...] = ()  # jupyter_server looks here for methods without a login check

    def __init__(
        self,
        application: Application,
        gateway: Gateway,
        cache: DecisionCache,
        origins: Origins | None,
        find_isolated: FindIsolated | None = None,
    ) -> None:
        self._application, self._gateway, self._cache = application, gateway, cache
        self._origins, self._find_isolated = origins, find_isolated
        self._base_url: str = application.settings["base_url"]
        self._referer_redirects = RefererRedirects(application, gateway, self._find)

    def count_failures(self, log: Callable[[RequestHandler], None]) -> Callable[[RequestHandler], None]:
        """A `log_function` of Tornado that also counts what Jupyter has refused to pages of services; `log` writes the log."""

        def log_and_count(handler: RequestHandler) -> None:
            log(handler)
            if handler.get_status() >= 400 and not isinstance(handler, JupyterRequest):  # the gateway's own are counted there
                self._referer_redirects.count_failure(handler.request)

        return log_and_count

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> HTTPMessageDelegate | None:
        connection: Any = request.connection
        uri = request.uri or ""
        decision = self._cache.find(connection.context, request.method or "", uri, request.headers)
        if decision is not None:
            proxied = ProxyRequest(self._application, request, self._gateway, self._origins)
            return HttpDelegate(proxied, decision.route, self._cache, decision)
        isolated = self._find_isolated(request) if self._find_isolated is not None else None
        if isolated is not None:
            return isolated
        upgrade = asks_for_websocket(request)
        route = self._route(request, uri, upgrade)
        if route is None:
            return None
        kind = TcpRequest if route.tcp_target and upgrade else ProxyRequest
        return delegate_for(kind(self._application, request, self._gateway, self._origins), route, self._cache, upgrade=upgrade)

    def is_lost(self, request: HTTPServerRequest) -> bool:
        """True for a GET that leads to nothing of this server's own: it is redirected by its Referer, or nothing is there."""
        route = self._route(request, request.uri or "", upgrade=False)
        if route is None:
            return not self._referer_redirects.jupyter_serves(request)
        return isinstance(route, Redirect) and route.by_referer

    def _route(self, request: HTTPServerRequest, uri: str, upgrade: bool) -> BaseRoute | None:
        respelled = urls.respell_prefix(uri, self._base_url)
        if respelled != uri and not upgrade:  # whose clients follow no redirect
            return Redirect(respelled, 308, needs_login=False)
        try:
            route = self._find(respelled)
        except GatewayError as error:
            return InvalidRoute(error)
        if route is None:
            return self._referer_redirects.route(request, upgrade=upgrade)
        return route.canonical(self._gateway.destinations.sees_prefix, self._gateway.services.prefix, upgrade=upgrade)

    def _find(self, uri: str) -> BaseRoute | None:
        if self._origins is None and (entry := urls.parse_enter_url(uri, self._base_url)) is not None:
            target, path = entry
            kind = "port" if target.isdigit() else "service"
            return Redirect(f"{self._base_url}proxy/{kind}/{target}{path}", 307)
        return urls.parse_url(uri, self._base_url) or self._project(uri) or self._bare_name(uri)

    def _project(self, uri: str) -> BaseRoute | None:
        projects = self._gateway.projects
        route = projects.parse(uri, self._base_url) if projects is not None else None
        owner = route.project_owner if route is not None else None
        is_service = owner is not None and (self._bare_name(uri) is not None or owner in self._gateway.foreign_names)
        return None if is_service else route

    def _bare_name(self, uri: str) -> ServiceRoute | None:
        """`NAME/` as jupyter-server-proxy had it, for the services that there are."""
        name = urls.find_first_segment(uri, self._base_url)
        if not name or name in self._gateway.foreign_names or self._gateway.services.prefix(name) is None:
            return None
        return urls.build_service_route(name, uri, self._base_url + name)


def delegate_for(
    request: ProxyRequest, route: BaseRoute, cache: DecisionCache | None = None, *, upgrade: bool
) -> HTTPMessageDelegate:
    """What serves a route.

    Args:
        cache: keeps the decision about the request, if given.
        upgrade: see `asks_for_websocket`.
    """
    request.is_upgrade = upgrade
    if route.tcp_target and not upgrade:
        route = InvalidRoute(RawTcp.address(route.tcp_target))
    if not (upgrade and (route.is_local or route.is_project)):
        return HttpDelegate(request, route, cache)
    hooks = request.gateway.destinations.hooks_of(route.service) if route.service else None
    is_raw_socket = hooks is not None and hooks.raw_socket
    handler = TcpHandler if route.tcp_target else RawSocketHandler if is_raw_socket else TunnelHandler
    request.connection.set_max_body_size(_MAX_UPGRADE_CONTENT)
    return request.application.get_handler_delegate(request.request, handler, {"proxy_request": request, "route": route})


def asks_for_websocket(request: HTTPServerRequest) -> bool:
    headers = request.headers
    return "Upgrade" in headers and is_websocket_upgrade(request.method or "", request.version, list(headers.get_all()))
