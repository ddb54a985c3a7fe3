"""Looks at the page of a port or service for a user, one look at a time for each user."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.iostream import SSLIOStream

from ..api.listing import Listing
from ..errors import BadInput, GatewayError, TooMany
from ..gateway.connector import Connector
from ..gateway.destinations import Destination
from ..gateway.gateway import Gateway
from ..isolation.sessions import Origins
from ..protocol import urls
from ..protocol.framing import normalize_name
from ..protocol.headers import HOP_BY_HOP, Fields
from ..protocol.urls import LOOPBACK_NAME, Route, ServiceRoute, Upstream
from ..system.addresses import LOOPBACK
from ..system.command_lines import mask_secrets, printable
from ..system.tls import Trust
from .crawl import Crawl
from .observation import Observation, Target
from .page_client import Budget, PageClient, target_of

LOOK_TIMEOUT = 17.0  # s for all requests of one look
LOOK_SIZE = 16 << 20  # bytes of content; those requests that have begun may read as much again
_MAX_LOOKS = 4  # at once, of all users
_PATH = re.compile(r"/(?:[!-\"$-.0-~][!-\"$-~]*)?\Z")  # a request target in ASCII that names no authority
_MAX_PATH = 2000  # characters
PATH_HINT = f"Send the path of the page at the service: one slash, then at most {_MAX_PATH} ASCII characters, for example /app/."
# Fields of the caller's request that describe that request. The others say who the caller is, to Jupyter's identity provider.
_OWN_FIELDS = re.compile(
    r"accept.*|access-control-.*|cache-control|content-.*|cookie2|dnt|expect|host|if-.*|origin|pragma|priority|range|referer|sec-.*"
    r"|upgrade-insecure-requests|user-agent|via|x-requested-with|x-xsrftoken"
)
_UNSPECIFIED = "0.0.0.0"  # noqa: S104 (nothing is bound here)


class Doctor:
    """Looks at pages.

    Args:
        origins: the isolated origins; None if there are none.
        is_lost: True for a request to this server that leads to nothing of its own.
        is_behind_hub: JupyterHub serves what is outside the base URL.
    """

    def __init__(
        self,
        gateway: Gateway,
        connector: Connector,
        listing: Listing,
        origins: Origins | None,
        is_lost: Callable[[HTTPServerRequest], bool],
        *,
        is_behind_hub: bool,
    ) -> None:
        self._gateway, self._connector, self._listing, self._origins = gateway, connector, listing, origins
        self._is_lost, self._is_behind_hub = is_lost, is_behind_hub
        self._looking: set[str] = set()  # users

    async def look(self, user: str, name: int | str, path: str, request: HTTPServerRequest, token: str = "") -> Observation:
        """Look at a page as the sender of a request sees it.

        Args:
            user: one look at a time for each.
            name: a port or the name of a service.
            path: of the page at the service, with its query.
            request: its credentials, and the connection on which it came, lead through this server.
            token: by which the request has logged in; empty if its fields have done that.

        Raises:
            TooMany: this user's last look has not ended, or too many others' have not.
            BadInput, and what finding the destination raises.
        """
        if user in self._looking or len(self._looking) >= _MAX_LOOKS:
            raise TooMany.diagnosing()
        if len(path) > _MAX_PATH or not _PATH.match(path):
            raise BadInput.value("path", path, PATH_HINT)
        self._looking.add(user)
        try:
            target, destination, page = await self._find(name, path)
            target = replace(target, jupyter_origin=_origin_of(request))
            crawl = self._make_crawl(target, destination, page, request, token)
            with self._gateway.page_failures.paused(target.name, str(target.port)):
                seen, (process, command) = await asyncio.gather(crawl.run(), self._find_process(target))
            return replace(seen, target=replace(target, process=process, command=command))
        finally:
            self._looking.discard(user)

    async def _find(self, name: int | str, path: str) -> tuple[Target, Destination, str]:
        """The target, where it is, and the path of the page at this server."""
        base_url, finder = self._gateway.base_url, self._gateway.destinations
        below, mark, query = path.partition("?")
        if isinstance(name, int):
            entrance = prefix = urls.build_port_path(base_url, name).rstrip("/")
            kept = _find_kept_route(name, path, base_url)
            found = await finder.find_port(kept or Route(LOOPBACK_NAME, name, prefix, below, mark + query))
            prefix = kept.prefix if kept is not None else prefix
            template, keeps_prefix, page = None, kept is not None, path if kept is not None else prefix + path
        else:
            service = self._gateway.services.get(name)
            if not service.alive:
                raise BadInput(f"The service {name} does not run.", "Start it, and diagnose it again.")
            prefix, template, keeps_prefix = service.prefix, service.template.name, service.template.keep_prefix
            entrance, page = prefix, prefix + path
            found = await finder.find_service(ServiceRoute(name, prefix, below, mark + query), wait=True)
        upstream = found.upstream
        port = None if upstream.unix_socket else upstream.port
        absolute = prefix if keeps_prefix or port is None else f"{base_url}proxy/absolute/port/{port}"
        isolated = self._listing.entrance_of(entrance)
        target = Target(
            str(name), port, prefix, absolute, base_url, "", keeps_prefix, upstream.scheme, template=template,
            isolated_url=isolated + path[1:] if isolated is not None else None, is_behind_hub=self._is_behind_hub,
        )  # fmt: skip
        return target, found, page

    def _make_crawl(self, target: Target, to: Destination, page: str, request: HTTPServerRequest, token: str) -> Crawl:
        budget, policy = Budget(time.monotonic() + LOOK_TIMEOUT, LOOK_SIZE), self._gateway.policy
        upstream = to.upstream
        direct = PageClient(upstream.origin, upstream, self._connector, policy, budget, lambda host: _is_at(host, upstream))
        proxied = PageClient(
            target.jupyter_origin, own_upstream(request), self._connector, policy, budget,
            lambda host: self._is_own(host, target), caller_fields(request, token), True, Trust(verified=False),
        )  # fmt: skip
        return Crawl(
            target, direct, proxied, upstream.origin + to.route.target, f"{target.jupyter_origin}{page}",
            lambda load: self._is_lost(make_request(target_of(load.url), proxied.fields_of(load), request)),
        )  # fmt: skip

    def _is_own(self, host: str, target: Target) -> bool:
        """True for the authority of Jupyter's URL, and for that of the target's isolated origin."""
        if host == target.jupyter_origin.partition("://")[2]:
            return True
        return self._origins is not None and self._origins.hosts.parse_target(host) == target.name

    async def _find_process(self, target: Target) -> tuple[str, tuple[str, ...]]:
        """Name and command line of the process that serves a target, as far as they are known."""
        items = await self._listing.ports() if target.port is not None else []
        item: dict[str, Any] = next((each for each in items if each["port"] == target.port), {})
        if not item.get("command") and target.template is not None:
            command = self._gateway.services.templates.get(target.template)
            words = [str(word) for word in command.command] if command is not None else []
            return printable(words[0]) if words else "", tuple(mask_secrets(tuple(words)))
        return item.get("process", ""), tuple(item.get("command", ()))


def _find_kept_route(port: int, path: str, base_url: str) -> Route | None:
    """The route of a path that is itself a URL of the port, in a form that keeps the prefix: the service is mounted there."""
    try:
        route = urls.parse_url(path, base_url)
    except GatewayError:
        return None
    if not isinstance(route, Route) or not route.keep_prefix or route.scheme != "http" or route.target_name != str(port):
        return None
    return route


def caller_fields(request: HTTPServerRequest, token: str = "") -> Fields:
    """The fields by which a request's sender is known: all but those that describe the request itself."""
    fields = [(name, value) for name, value in request.headers.get_all() if not _is_own_field(normalize_name(name))]
    has_login = any(name.lower() == "authorization" for name, _ in fields)
    return fields if has_login or not token else [*fields, ("Authorization", f"token {token}")]


def make_request(target: str, fields: Fields, like: HTTPServerRequest) -> HTTPServerRequest:
    """A GET as this server would get it on the connection of another request."""
    headers = HTTPHeaders()
    for name, value in fields:
        headers.add(name, value)
    line = RequestStartLine("GET", target, "HTTP/1.1")
    return HTTPServerRequest(headers=headers, connection=like.connection, start_line=line)


def _is_own_field(name: str) -> bool:
    return name in HOP_BY_HOP or _OWN_FIELDS.fullmatch(name) is not None


def own_upstream(request: HTTPServerRequest) -> Upstream:
    """This server, at the address at which it got a request."""
    stream = request.connection.stream  # type: ignore[union-attr]
    scheme = "https" if isinstance(stream, SSLIOStream) else "http"
    name = stream.socket.getsockname()
    if stream.socket.family == getattr(socket, "AF_UNIX", None):
        return Upstream(LOOPBACK_NAME, 80, LOOPBACK, name, scheme)
    return Upstream(LOOPBACK_NAME, name[1], (name[0],), "", scheme)


def _origin_of(request: HTTPServerRequest) -> str:
    """The origin by which the sender of a request reaches Jupyter, as far as this server knows it."""
    host, origin = request.headers.get("Host", "").lower(), request.headers.get("Origin", "").lower()
    return origin if origin.endswith(f"://{host}") else f"{request.protocol}://{host}"


def _is_at(host: str, upstream: Upstream) -> bool:
    """True for an authority by which a browser on this machine reaches an upstream."""
    name, port = urls.split_port(host)
    is_here = name in (upstream.host, _UNSPECIFIED) or urls.is_below_loopback(name.strip("[]"))
    return is_here and (port or str(urls.DEFAULT_PORTS[upstream.scheme])) == str(upstream.port)
