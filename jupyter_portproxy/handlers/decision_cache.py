"""What the checks have said of a request, and what follows from it; kept for the next one that differs in its path alone.

Rule of this file: an admission is the outcome of checks, never one itself. It is found again for a second, for a request from
the same address with the same method, header fields and prefix. Who may have changed their mind meanwhile is asked again.
"""

from __future__ import annotations

import time
from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Any

from jupyter_server.auth.identity import User
from tornado.httputil import HTTPHeaders, HTTPServerRequest

from ..gateway.gateway import Destination
from ..protocol import credentials, framing
from ..protocol.credentials import remove_secret_parameters
from ..protocol.headers import Client, Fields
from ..protocol.project_urls import ProjectRoute
from ..protocol.urls import Route, ServiceRoute, ip_literal, is_loopback, parse_url
from ..upstream.exchange import Outbound

SECONDS = 1.0
_LAST = "_portproxy_admission"
_MOST = 1024
_PARAMETERS = 100  # of a query; Tornado refuses requests that have too many


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that may go on, and how.

    Attributes:
        asked: by its URL.
        by_token: how its user is logged in.
        destination: where it goes.
        outbound: the request that is sent there.
        counted: it is activity of this server.
        is_told: somebody reads of successes in the log.
        is_asked: see PortHandler.
        fields: as they came.
        begin: of the URLs for which it holds, up to the slash; empty if it holds for no other request.
        until: the time (`time.monotonic`) up to which it does.
    """

    asked: object
    user: User
    by_token: bool
    client: Client
    destination: Destination
    outbound: Outbound
    counted: bool
    is_told: bool
    is_asked: bool
    fields: Fields
    begin: str
    until: float

    @property
    def may_change(self) -> bool:
        """Somebody may have changed their mind, or moved something, since it was made."""
        return self.is_asked or self.destination.service is not None or self.destination.hooks is not None

    def outbound_of(self, uri: str) -> Outbound:
        """The same for another path."""
        route = self.destination.route
        target = uri if route.keep else uri[len(route.prefix) :]
        return self.outbound.with_target(remove_secret_parameters(target, self.client.secrets))

    def asked_at(self, uri: str) -> Route | ServiceRoute | ProjectRoute:
        """What another URL of those for which it holds asks for."""
        asked = self.asked
        assert isinstance(asked, (Route, ServiceRoute, ProjectRoute))  # `begin` is empty for all others
        path, mark, query = uri.partition("?")
        return replace(asked, path=path[len(asked.prefix) :], query=mark + query)


def begin_of(asked: object, destination: Destination, content: framing.Content | None, arguments: Container[str]) -> str:
    """The beginning of the URLs that differ from this one in nothing that a check looks at; empty if there are none.

    A function of somebody's configuration may look at all of it, and a host's name may lead elsewhere the next time.

    Args:
        arguments: names in its query; a login by one of them is no other URL's.
    """
    is_changed = destination.hooks is not None and destination.hooks.depends_on_request
    if content is not None or "token" in arguments or destination.alias is not None or is_changed:
        return ""
    if destination.route.with_slash:  # its answer depends on the URL
        return ""
    if isinstance(asked, ServiceRoute):
        return asked.prefix if destination.service is not None and not destination.upstream.unix_socket else ""
    if isinstance(asked, Route) and is_loopback(asked.host):
        return asked.prefix
    if isinstance(asked, ProjectRoute) and asked.port is not None and ip_literal(destination.upstream.host) is not None:
        below = parse_url(f"{asked.prefix}{asked.path}", f"{asked.prefix}/")
        return below.prefix if isinstance(below, Route) else ""
    return ""


class Admissions:
    """Those of the last second, of all connections. What a connection was let in by last is looked at first."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], Admission] = {}  # the eldest first
        self._until = 0.0  # none holds longer

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, admission: Admission, request: HTTPServerRequest) -> None:
        """Keep it in place of the one before of such a request."""
        context: Any = request.connection.context  # type: ignore[union-attr]
        setattr(context, _LAST, admission)
        key = _key_of(context, admission.outbound.method, admission.fields)
        self._kept.pop(key, None)
        self._kept[key] = admission
        self._until = max(self._until, admission.until)
        now = time.monotonic()
        while self._kept:
            eldest = next(iter(self._kept))
            if len(self._kept) <= _MOST and self._kept[eldest].until > now:
                break
            del self._kept[eldest]

    def find(self, context: object, method: str, uri: str, headers: HTTPHeaders) -> Admission | None:
        """The one that lets this request in, too; `context` is its connection's."""
        now = time.monotonic()
        if self._until <= now or uri.count("&") > _PARAMETERS or credentials.has_token_parameter(uri):
            return None
        fields = list(headers.get_all())
        last: Admission | None = getattr(context, _LAST, None)
        if last is not None and last.until > now and _is_for(last, method, fields) and _covers(last, uri):
            return last
        other = self._kept.get(_key_of(context, method, fields))
        if other is None or other.until <= now or not _covers(other, uri):
            return None
        setattr(context, _LAST, other)
        return other


def _is_for(kept: Admission, method: str, fields: Fields) -> bool:
    return kept.outbound.method == method and kept.fields == fields


def _covers(kept: Admission, uri: str) -> bool:
    begin = kept.begin
    return uri.startswith(begin) and uri[len(begin) : len(begin) + 1] == "/"


def _key_of(context: Any, method: str, fields: Fields) -> tuple[object, ...]:
    """All of a request that a check looks at, but for its URL; whence it comes as the connection says, and as a front does."""
    peer = getattr(context, "_orig_remote_ip", context.remote_ip)
    return (peer, context.remote_ip, context.protocol, method, *fields)
