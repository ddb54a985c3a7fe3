"""Decisions of the pipeline that hold for the next request, if it differs in its path alone.

A `CachedDecision` is made by `HttpDelegate` after `pipeline.admit` has let a request pass, and never changes. It is in one of
three states:

- valid: for `MAX_AGE` after it was made, for requests of the same client address with the same method and header fields to a URL
  below the same prefix. `DecisionCache.find` returns it.
- valid if confirmed: as above, but `may_change`; `pipeline.readmit` calls the identity provider, the authorizer, the chain and
  the service manager again, as far as each had a part in it, before it is used.
- expired: after `MAX_AGE`, or when the user's rules for ports have changed. Requests do not prolong it; `keep` removes it.

`DecisionCache` holds all of them, the oldest first.
"""

from __future__ import annotations

import time
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from jupyter_server.auth.identity import User
from tornado.httputil import HTTPHeaders, HTTPServerRequest

from ..gateway.destinations import Destination
from ..protocol import credentials, framing
from ..protocol.headers import Client, Fields
from ..protocol.urls import BaseRoute
from ..upstream.exchange import Outbound

MAX_AGE = 1.0  # s
MAX_DECISIONS = 1024


@dataclass(frozen=True, slots=True)
class CachedDecision:
    """A request that may go on, and how.

    Attributes:
        by_token: its user is logged in by a token.
        outbound: the request that is sent to the upstream.
        logs_success: successful requests are logged.
        is_revocable: see ProxyRequest.
        fields: the request's header fields.
        prefix: of the URLs for which it holds, without the slash; empty if it holds for no other request. With a `url_mapping`
            only those with the same port.
        until: the time (`time.monotonic`) up to which it holds.
        rules_version: of the user's rules for ports before it was made.
    """

    route: BaseRoute
    user: User
    by_token: bool
    client: Client
    destination: Destination
    outbound: Outbound
    is_activity: bool
    logs_success: bool
    is_revocable: bool
    fields: Fields
    prefix: str
    until: float
    rules_version: int

    @property
    def may_change(self) -> bool:
        """True if it has to be confirmed before it is used again."""
        return self.is_revocable or self.destination.service is not None or self.destination.hooks is not None

    def outbound_to(self, destination: Destination) -> Outbound:
        """The outbound request for another path of the destination."""
        return self.outbound.with_target(credentials.remove_secret_parameters(destination.route.target, self.client.secrets))


def cacheable_prefix(
    route: BaseRoute, destination: Destination, content: framing.Content | None, arguments: Container[str]
) -> str:
    """The prefix of the URLs for which the decision about this request holds too; empty if there are none.

    A function of the configuration may read the whole URL; so does the response to a path whose final slash is missing.

    Args:
        arguments: names in the query; a login by one of them does not hold for another URL.
    """
    hooks, mapping = destination.hooks, destination.url_mapping
    if content is not None or "token" in arguments or not destination.is_stable:
        return ""
    if mapping is not None:
        return mapping.client_prefix
    if destination.route.with_slash or (hooks is not None and hooks.depends_on_request):
        return ""
    return route.stable_prefix


class DecisionCache:
    """The decisions of the last second, for all connections. `hits`: requests for which one was found."""

    def __init__(self) -> None:
        self.hits = 0
        self._decisions: dict[tuple[object, ...], CachedDecision] = {}  # the oldest first
        self._until = 0.0  # none is valid longer

    def __len__(self) -> int:
        return len(self._decisions)

    def keep(self, decision: CachedDecision, request: HTTPServerRequest) -> None:
        """Replace the decision about the request before with the same client, method and fields."""
        context: Any = request.connection.context  # type: ignore[union-attr]
        key = _key_of(context, decision.outbound.method, decision.fields)
        self._decisions.pop(key, None)
        self._decisions[key] = decision
        self._until = max(self._until, decision.until)
        now = time.monotonic()
        while self._decisions:
            oldest = next(iter(self._decisions))
            if len(self._decisions) <= MAX_DECISIONS and self._decisions[oldest].until > now:
                break
            del self._decisions[oldest]

    def find(self, context: object, method: str, uri: str, headers: HTTPHeaders) -> CachedDecision | None:
        """The decision that holds for this request, too; `context` is its connection's."""
        now = time.monotonic()
        if self._until <= now or credentials.has_token_parameter(uri):
            return None
        decision = self._decisions.get(_key_of(context, method, list(headers.get_all())))
        if decision is None or decision.until <= now or not _covers(decision, uri):
            return None
        self.hits += 1
        return decision


def _covers(decision: CachedDecision, uri: str) -> bool:
    mapping = decision.destination.url_mapping
    return uri.startswith(f"{decision.prefix}/") and (mapping is None or mapping.covers(uri))


def _key_of(context: Any, method: str, fields: Fields) -> tuple[object, ...]:
    """Everything in a request that a check reads, except its URL; with the addresses of connection and reverse proxy."""
    peer = getattr(context, "_orig_remote_ip", context.remote_ip)
    return (peer, context.remote_ip, context.protocol, method, *fields)
