"""Root-relative requests of pages with a path-based URL: an app that takes `/` for its root requests `/static/app.js`.

The `Referer` that the browser sends says where such a request belongs; it is redirected there, and decided there. Only requests
for URLs that are not the gateway's come here; those for Jupyter's own are left to Jupyter.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jupyter_server.base.handlers import Template404, TrailingSlashHandler
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import Application

from ..errors import GatewayError, NothingThere
from ..gateway.gateway import Gateway
from ..gateway.notices import LostSocket, Report
from ..protocol import urls
from ..protocol.urls import BaseRoute, D, Redirect, Resolver, strip_origin
from .hop_trust import client_hosts, path_of_page
from .origin_check import is_navigation

_RECENT = 300.0  # s for which the service whose parts were requested at the root is taken for the one that opens a WebSocket


@dataclass(frozen=True, slots=True)
class LostWebSocketRoute(BaseRoute):
    """A WebSocket of a service's page to a URL where nothing is; once its user is logged in, the panel shows it."""

    notice: LostSocket
    report: Report

    async def resolve(self, resolver: Resolver[D]) -> D:
        self.report(self.notice)
        raise NothingThere()


class RefererRedirects:
    """Finds the service whose page sent a request.

    Args:
        find: the route of a request target.
    """

    def __init__(self, application: Application, gateway: Gateway, find: Callable[[str], BaseRoute | None]) -> None:
        self._application, self._gateway, self._find = application, gateway, find
        self._base_url: str = application.settings["base_url"]
        self._is_probing = False
        self._last = ("", float("-inf"))  # the prefix of the last redirect, and when it was

    def route(self, request: HTTPServerRequest, *, upgrade: bool) -> BaseRoute | None:
        """The route of a request that is not for one of the gateway's URLs; None if Jupyter serves it."""
        if self._is_probing or not self._gateway.settings.rescue:
            return None
        uri, headers = request.uri or "", request.headers
        if not uri.startswith("/") or urls.is_below_proxy(uri, self._base_url):
            return None
        if upgrade:
            return self._lost_websocket(request)
        is_below = uri.startswith(self._base_url)
        prefix = self._prefix_of(headers, is_below)
        if not prefix or not self._is_for_service(request, is_below):
            return None
        self._last = (prefix, time.monotonic())
        return Redirect(prefix + urls.strip_base_url(uri, self._base_url), 307, needs_login=is_below, by_referer=True)

    def count_failure(self, request: HTTPServerRequest) -> None:
        """Count a request that Jupyter has refused, if a page of a service sent it: it was not redirected."""
        failures, headers = self._gateway.page_failures, request.headers
        if not failures.is_counting or "Referer" not in headers or is_navigation(request):
            return
        path = path_of_page(headers, self._application)
        try:
            page = self._find(urls.respell_prefix(path or "", self._base_url))
        except GatewayError:
            return
        if page is not None and page.target_name:
            failures.count(page.target_name, request.path)

    def _prefix_of(self, headers: HTTPHeaders, is_below: bool) -> str:
        """The prefix of the service whose page sent a request; empty if there is none, or if the service sees its prefix.

        Args:
            is_below: the request is for a URL below the base URL. With others the browser sends no login cookie: they are
                redirected by the Referer alone, in the same way for services that exist and for others.
        """
        path = path_of_page(headers, self._application)
        if not path:
            return ""
        path = urls.respell_prefix(path, self._base_url)
        try:
            route = self._find(path)
            # Routers in pages remove the last slash of a prefix without requesting that URL.
            route = route.at_slash(self._find) if route is not None else None
            keeps_prefix = self._keeps_prefix if is_below else lambda name: False
            prefix = route.stripped_prefix(keeps_prefix) if route is not None else None
        except GatewayError:
            return ""
        if prefix is not None or is_below:
            return prefix or ""
        name = urls.find_first_segment(path, self._base_url)
        return self._base_url + name if name else ""

    def _keeps_prefix(self, name: str) -> bool:
        template = self._gateway.destinations.template_of(name)
        return template is not None and template.keep_prefix

    def _is_for_service(self, request: HTTPServerRequest, is_below: bool) -> bool:
        """True unless the request is a navigation to a page that Jupyter has.

        Parts of a page and forms belong to the page that sends them. A link may well be meant for Jupyter: it is left alone if
        Jupyter serves it. `/` is the service's: for Jupyter it is only a redirect. URLs below a base URL other than `/` are
        probably Jupyter's: they are the service's only if Jupyter has nothing there.
        """
        headers = request.headers
        if headers.get("Sec-Fetch-Site", "same-origin") != "same-origin" or headers.get("Sec-Fetch-Dest") == "serviceworker":
            return False
        if (is_navigation(request) and request.path != "/") or (is_below and self._base_url != "/"):
            return not self.jupyter_serves(request)
        return True

    def jupyter_serves(self, request: HTTPServerRequest) -> bool:
        """True if another handler than Jupyter's 404 would serve the request."""
        self._is_probing = True
        try:
            delegate: Any = self._application.default_router.find_handler(request)
        finally:
            self._is_probing = False
        kind = getattr(delegate, "handler_class", None)
        if kind is TrailingSlashHandler and request.path.strip("/"):
            without = copy.copy(request)
            without.path = "/" + request.path.strip("/")
            return self.jupyter_serves(without)
        return delegate is not None and kind is not Template404

    def _lost_websocket(self, request: HTTPServerRequest) -> LostWebSocketRoute | None:
        """WebSockets carry no Referer: one of a page of this origin that leads nowhere can only be reported."""
        origin, hosts = request.headers.get("Origin", ""), client_hosts(request.headers, self._application)
        if all(strip_origin(origin, host) is None for host in hosts) or self.jupyter_serves(request):
            return None
        prefix, since = self._last
        known = prefix if time.monotonic() - since < _RECENT else ""
        return LostWebSocketRoute(LostSocket(request.path, known), self._gateway.report)
