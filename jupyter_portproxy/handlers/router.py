"""Who serves a URL: what Tornado asks at the head of each request.

Rule of this file: it chooses and does nothing else. Requests are served in `serving`, upgrades in `upgrading`; what is admitted
already never comes here (`front`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.routing import Router
from tornado.web import Application

from ..errors import GatewayError
from ..gateway.gateway import Gateway
from ..protocol import named_project_urls, urls
from ..protocol.headers import is_websocket_upgrade
from ..protocol.named_project_urls import NamedProjectRoute
from ..protocol.project_urls import ProjectRoute, parse_project_url
from ..protocol.urls import Redirect, Route, ServiceRoute
from .decision_cache import Admissions
from .http import PortExchange
from .raw_socket import RawSocketHandler
from .referer_redirect import Rescue
from .websocket import TunnelHandler


class PortRouter(Router):
    """Chooses, for a URL below `proxy/`, who serves it. To be mounted with a rule that matches every path.

    Args:
        admissions: what is let in is kept there.
        on_lost_socket: called with the path of a WebSocket that a page opened where nothing is, and the page's prefix.
    """

    SUPPORTED_METHODS: tuple[str, ...] = ()  # jupyter_server looks here for methods without a login check: there is none

    def __init__(
        self, application: Application, gateway: Gateway, admissions: Admissions, on_lost_socket: Callable[[str, str], None]
    ) -> None:
        self._application, self._gateway, self._admissions = application, gateway, admissions
        self._base_url: str = application.settings["base_url"]
        self._rescue = Rescue(application, gateway, self._find, on_lost_socket)

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> HTTPMessageDelegate | None:
        uri, upgrade = urls.respell_prefix(request.uri or "", self._base_url), _asks_for_websocket(request)
        if uri != request.uri and not upgrade:  # whose clients follow no redirect
            return PortExchange(self._application, request, self._gateway, Redirect(uri, 308, needs_login=False))
        try:
            route = self._find(uri)
        except GatewayError as error:
            return PortExchange(self._application, request, self._gateway, error)
        if route is None:
            rescued = self._rescue.serves(request)
            if not isinstance(rescued, Redirect):
                return rescued
            return PortExchange(self._application, request, self._gateway, rescued)
        if isinstance(route, ServiceRoute):
            route = route.with_slash(self._gateway.sees_prefix(route.name))
        if isinstance(route, ServiceRoute) and not upgrade:
            route = self._at_its_own_url(route)
        if not isinstance(route, Redirect) and upgrade:
            hooks = self._gateway.hooks_of(route.name) if isinstance(route, ServiceRoute) else None
            kind = RawSocketHandler if hooks is not None and hooks.raw_socket else TunnelHandler
            return self._application.get_handler_delegate(request, kind, {"gateway": self._gateway, "route": route})
        return PortExchange(self._application, request, self._gateway, route, admissions=self._admissions)

    def _find(self, uri: str) -> Route | ServiceRoute | ProjectRoute | NamedProjectRoute | Redirect | None:
        if self._gateway.origins is None and (way := urls.parse_enter_url(uri, self._base_url)) is not None:
            target, path = way
            kind = "port" if target.isdigit() else "service"
            return Redirect(f"{self._base_url}proxy/{kind}/{target}{path}", 307)
        return urls.parse_url(uri, self._base_url) or self._project(uri) or self._bare_name(uri)

    def _project(self, uri: str) -> ProjectRoute | NamedProjectRoute | Redirect | None:
        chain = self._gateway.projects
        if chain is None:
            return None
        if not chain.finds_names:
            return parse_project_url(uri, self._base_url)
        found = named_project_urls.parse_named_project_url(uri, self._base_url)
        if not isinstance(found, NamedProjectRoute) or found.by_key is not None:
            return found
        other = self._bare_name(uri) is not None or found.owner in self._gateway.foreign_names
        return None if other else found

    def _bare_name(self, uri: str) -> ServiceRoute | None:
        """`NAME/` as jupyter-server-proxy had it, for the services that there are."""
        services = self._gateway.services
        name = urls.find_first_segment(uri, self._base_url)
        if not name or name in self._gateway.foreign_names or services.prefix(name) is None:
            return None
        return urls.build_service_route(name, uri, self._base_url + name)

    def _at_its_own_url(self, asked: ServiceRoute) -> ServiceRoute | Redirect:
        """A service has one URL; its other spelling leads there."""
        prefix = self._gateway.services.prefix(asked.name)
        if prefix is None or prefix == asked.prefix:
            return asked
        return Redirect(f"{prefix}{asked.path}{asked.query}", 307)


def _asks_for_websocket(request: HTTPServerRequest) -> bool:
    headers = request.headers
    return "Upgrade" in headers and is_websocket_upgrade(request.method or "", request.version, list(headers.get_all()))
