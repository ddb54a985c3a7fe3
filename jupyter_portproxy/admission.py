"""What the checks have said of a request, and what follows from it; kept for the next one that differs in its path alone.

Rule of this file: an admission is the outcome of checks, never one itself. It is found again for a second, on the same
connection, for the same method, header fields and prefix, and only where nothing but these had a say.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from jupyter_server.auth.identity import User
from tornado.httputil import HTTPServerRequest

from . import fields as f
from .exchange import Outbound
from .gateway import Destination

_KEPT = "_portproxy_admission"


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that may go on, and how.

    Attributes:
        destination: where it goes.
        outbound: the request that is sent there.
        counted: it is activity of this server.
        is_told: somebody reads of successes in the log.
        fields: as it came.
        until: the time (`time.monotonic`) up to which it holds for others too; 0 if for none.
    """

    user: User
    client: f.Client
    destination: Destination
    outbound: Outbound
    counted: bool
    is_told: bool
    fields: f.Fields
    until: float

    @property
    def has_content(self) -> bool:
        return self.outbound.content is not None

    def outbound_of(self, uri: str) -> Outbound:
        """The same for another path below the prefix."""
        route = self.destination.route
        target = uri if route.keep else uri[len(route.prefix) :]
        return self.outbound.at(f.target_without_secrets(target, self.client))


def keep(admission: Admission, request: HTTPServerRequest) -> None:
    """Keep it with the request's connection, in place of the one before."""
    context: Any = request.connection.context  # type: ignore[union-attr]
    setattr(context, _KEPT, admission)


def find(request: HTTPServerRequest) -> Admission | None:
    """The one that lets this request in, too."""
    kept: Admission | None = getattr(request.connection.context, _KEPT, None)  # type: ignore[union-attr]
    if kept is None or kept.until <= time.monotonic() or kept.outbound.method != request.method:
        return None
    uri, prefix = request.uri or "", kept.destination.route.prefix
    if not uri.startswith(prefix) or uri[len(prefix) : len(prefix) + 1] != "/" or "token=" in uri:
        return None
    return kept if list(request.headers.get_all()) == kept.fields else None
