"""Root-relative requests of services in the path form: an app that thinks it lives at `/` asks Jupyter for `/static/app.js`.

Rule of this file: it only says where such a request belongs, by the `Referer` that the browser sends; who may go there is
checked when the request is sent there. It is asked about URLs that are none of ours, and answers cheaply for Jupyter's own.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from jupyter_server.base.handlers import Template404, TrailingSlashHandler
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, HTTPServerRequest
from tornado.web import Application

from ..errors import GatewayError, NothingThere
from ..gateway.gateway import Gateway
from ..protocol import urls
from ..protocol.headers import is_websocket_upgrade
from ..protocol.named_project_urls import NamedProjectRoute
from ..protocol.project_urls import ProjectRoute
from ..protocol.urls import Redirect, Route, ServiceRoute, strip_origin
from .base import PortHandler

Found = Route | ServiceRoute | ProjectRoute | NamedProjectRoute | Redirect | None
_RECENT = 300.0  # s for which a service whose parts were asked for at the root is thought to be the one that opens a socket


class Rescue:
    """Finds the service whose page sent a request. `find` tells what a URL of ours asks for, as the router does."""

    def __init__(
        self,
        application: Application,
        gateway: Gateway,
        find: Callable[[str], Found],
        on_lost_socket: Callable[[str, str], None],
    ) -> None:
        self._on_lost_socket = on_lost_socket
        self._application, self._gateway, self._find = application, gateway, find
        self._base_url: str = application.settings["base_url"]
        self._asking = False
        self._last = ("", float("-inf"))

    def serves(self, request: HTTPServerRequest) -> Redirect | HTTPMessageDelegate | None:
        """What to do with a request for a URL that is none of ours; None: it is Jupyter's."""
        if self._asking or not self._gateway.settings.rescue:
            return None
        uri, headers = request.uri or "", request.headers
        if not uri.startswith("/") or urls.is_below_proxy(uri, self._base_url):
            return None
        if is_websocket_upgrade(request.method or "", request.version, list(headers.get_all())):
            return self._lost_socket(request)
        is_below = uri.startswith(self._base_url)
        prefix = self._prefix_of(headers, is_below)
        if not prefix or not self._is_the_services(request):
            return None
        self._last = (prefix, time.monotonic())
        return Redirect(prefix + urls.strip_base_url(uri, self._base_url), 307, needs_login=is_below)

    def _prefix_of(self, headers: HTTPHeaders, is_below: bool) -> str:
        """The prefix below which the page that asks lies; empty if it is none of a service, or one that knows its prefix.

        Args:
            is_below: the request is for a URL below the base URL. To others the browser sends no login cookie: they are answered
                by what the Referer says alone, the same for services that exist and for others.
        """
        referer = headers.get("Referer", "")
        path = strip_origin(referer, headers.get("Host", "")) if referer else None
        if not path:
            return ""
        path = urls.respell_prefix(path, self._base_url)
        try:
            found = _at_slash(path, self._find)
            if isinstance(found, ProjectRoute):  # as the project's own host reads it
                found = _at_slash(path, partial(urls.parse_url, base_url=f"{found.prefix}/")) or found
        except GatewayError:
            return ""
        if isinstance(found, Route):
            return "" if found.keep else found.prefix
        if isinstance(found, ServiceRoute):
            template = self._gateway.template_of(found.name) if is_below else None
            return "" if template is not None and template.keep_prefix else found.prefix
        if is_below or isinstance(found, (ProjectRoute, Redirect)):
            return ""
        name = urls.find_first_segment(path, self._base_url)
        return self._base_url + name if name else ""

    def _is_the_services(self, request: HTTPServerRequest) -> bool:
        """True unless the request is a navigation to a page that Jupyter has.

        Parts of a page and forms belong to the page that asks. A link may well be meant for Jupyter: it is left alone if that
        knows it. `/` is none of its pages but a redirect, and to a service the way home. URLs below another base URL than `/`
        were written by somebody who knows Jupyter: these are the service's only if nothing is there.
        """
        headers = request.headers
        if headers.get("Sec-Fetch-Site", "same-origin") != "same-origin" or headers.get("Sec-Fetch-Dest") == "serviceworker":
            return False
        mode = headers.get("Sec-Fetch-Mode")
        page = mode == "navigate" if mode else "text/html" in headers.get("Accept", "")
        page = page and request.method in ("GET", "HEAD")
        below = self._base_url != "/" and (request.uri or "").startswith(self._base_url)
        if (page and request.path != "/") or below:
            return not self._jupyter_knows(request)
        return True

    def _jupyter_knows(self, request: HTTPServerRequest) -> bool:
        """True if another handler than Jupyter's 404 would serve the request."""
        self._asking = True
        try:
            found: Any = self._application.default_router.find_handler(request)
        finally:
            self._asking = False
        kind = getattr(found, "handler_class", None)
        if kind is TrailingSlashHandler and request.path.strip("/"):
            without = copy.copy(request)
            without.path = "/" + request.path.strip("/")
            return self._jupyter_knows(without)
        return found is not None and kind is not Template404

    def _lost_socket(self, request: HTTPServerRequest) -> HTTPMessageDelegate | None:
        """WebSockets carry no Referer: a page's own that leads nowhere can only be told of."""
        origin, host = request.headers.get("Origin", ""), request.headers.get("Host", "")
        if strip_origin(origin, host) is None or self._jupyter_knows(request):
            return None
        prefix, since = self._last
        known = prefix if time.monotonic() - since < _RECENT else ""
        arguments = {"gateway": self._gateway, "prefix": known, "on_lost_socket": self._on_lost_socket}
        return self._application.get_handler_delegate(request, LostSocket, arguments)


class LostSocket(PortHandler):
    """A WebSocket to a URL where nothing is: refused as before, and told once to those who look at the panel."""

    def initialize(  # type: ignore[override]
        self, gateway: Gateway, prefix: str, on_lost_socket: Callable[[str, str], None]
    ) -> None:
        super().initialize(gateway)
        self._prefix, self._on_lost_socket = prefix, on_lost_socket

    async def prepare(self) -> None:  # type: ignore[override]
        try:
            await self.admit()
            self._on_lost_socket((self.request.uri or "").partition("?")[0], self._prefix)
            raise NothingThere()
        except GatewayError as error:
            self.refuse(error)


def _at_slash(path: str, find: Callable[[str], Found]) -> Found:
    """What a page's URL asks for. Routers in pages take the last slash of a prefix away without asking for that URL."""
    found = find(path)
    return find(found.location) if isinstance(found, Redirect) and found.status == 308 else found
