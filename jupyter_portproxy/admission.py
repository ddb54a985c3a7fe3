"""What the checks have said of a request, and what follows from it; kept for the next one that differs in its path alone.

Rule of this file: an admission is the outcome of checks, never one itself. It is found again for a second, on the same
connection, for the same method, header fields and prefix. Who may have changed their mind meanwhile is asked again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from jupyter_server.auth.identity import User
from tornado.httputil import HTTPHeaders, HTTPServerRequest

from . import fields as f
from . import framing
from .chain import Hop
from .exchange import Outbound
from .gateway import Destination
from .projects import ProjectRoute
from .routes import Route, ServiceRoute, ip_literal, is_loopback, parse

SECONDS = 1.0
_KEPT = "_portproxy_admission"
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
    client: f.Client
    destination: Destination
    outbound: Outbound
    counted: bool
    is_told: bool
    is_asked: bool
    fields: f.Fields
    begin: str
    until: float

    @property
    def may_change(self) -> bool:
        """Somebody may have changed their mind, or moved something, since it was made."""
        return self.is_asked or self.destination.service is not None or self.destination.special is not None

    def outbound_of(self, uri: str) -> Outbound:
        """The same for another path."""
        route = self.destination.route
        target = uri if route.keep else uri[len(route.prefix) :]
        return self.outbound.at(f.target_without_secrets(target, self.client))

    def asked_at(self, uri: str) -> Route | ServiceRoute | ProjectRoute:
        """What another URL of those for which it holds asks for."""
        asked = self.asked
        assert isinstance(asked, (Route, ServiceRoute, ProjectRoute))  # `begin` is empty for all others
        path, mark, query = uri.partition("?")
        return replace(asked, path=path[len(asked.prefix) :], query=mark + query)


def begin_of(asked: object, destination: Destination, content: framing.Content | None) -> str:
    """The beginning of the URLs that differ from this one in nothing that a check looks at; empty if there are none.

    A function of somebody's configuration may look at all of it, and a host's name may lead elsewhere the next time.
    """
    is_hop = isinstance(destination.special, Hop)
    if content is not None or destination.alias is not None or (destination.special is not None and not is_hop):
        return ""
    if isinstance(asked, ServiceRoute):
        return asked.prefix if destination.service is not None and not destination.upstream.unix_socket else ""
    if isinstance(asked, Route) and is_loopback(asked.host):
        return asked.prefix
    if isinstance(asked, ProjectRoute) and asked.port is not None and ip_literal(destination.upstream.host) is not None:
        below = parse(f"{asked.prefix}{asked.path}", f"{asked.prefix}/")
        return below.prefix if isinstance(below, Route) else ""
    return ""


def keep(admission: Admission, request: HTTPServerRequest) -> None:
    """Keep it with the request's connection, in place of the one before."""
    context: Any = request.connection.context  # type: ignore[union-attr]
    setattr(context, _KEPT, admission)


def find(context: object, method: str, uri: str, headers: HTTPHeaders) -> Admission | None:
    """The one of a connection's context that lets this request in, too."""
    kept: Admission | None = getattr(context, _KEPT, None)
    if kept is None or kept.until <= time.monotonic() or kept.outbound.method != method:
        return None
    begin = kept.begin
    if not uri.startswith(begin) or uri[len(begin) : len(begin) + 1] != "/" or "token=" in uri or uri.count("&") > _PARAMETERS:
        return None
    return kept if list(headers.get_all()) == kept.fields else None
