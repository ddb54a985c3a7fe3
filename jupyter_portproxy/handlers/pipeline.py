"""Steps 1 to 5 of every proxied request, before the first byte goes to an upstream.

`admit` is called by HTTP (http), WebSocket (websocket), raw socket (raw_socket) and, with requests of their own, by isolated
origins and by entering them (isolation.handlers); `readmit` replaces it for a request that equals one of the last second
(decision_cache). The outbound request, the relay and the response are the callers' (steps 6 to 9).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import BadFraming, BadUpgrade, MethodRefused
from ..gateway.destinations import Destination
from ..gateway.limits import Slot
from ..protocol import framing
from ..protocol.urls import BaseRoute
from .base import ProxyRequest
from .decision_cache import CachedDecision


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may go on.

    Attributes:
        content: how its content is framed; None if it has none.
        is_activity: it counts as activity of this server, unless `destination.activity` excludes its path.
        slot: to be released exactly once, when the exchange or tunnel has ended.
    """

    destination: Destination
    content: framing.Content | None
    is_activity: bool
    slot: Slot


async def admit(request: ProxyRequest, route: BaseRoute, *, upgrade: bool = False) -> Admitted:
    """Decide about a request.

    Args:
        upgrade: it is a WebSocket handshake.

    Raises:
        Redirected: it is answered with a redirect.
        GatewayError: it is refused.
        StreamClosedError: the client has gone.
    """
    request.begin(route)
    # 1. Framing and method.
    content = _check_framing(request)
    # 2. Authenticate and authorize, 3. origin check.
    if request.is_vouched_for:
        request.accept_previous_hop()  # which has done both
    elif route.needs_login:
        await request.authenticate()
        await request.authorize()
        request.check_origin()
        request.check_isolation(route)
    # 4. Route -> destination: policy for ports and hosts, services, projects.
    if upgrade:
        _check_upgrade(request, content)
    destination = await route.resolve(request)
    if destination.hooks is not None and destination.hooks.raw_socket and not upgrade:
        raise MethodRefused("This service speaks over WebSockets only.", "Open it with a program that does.")
    # 5. Take a slot.
    is_activity = request.is_activity(destination, upgrade=upgrade)
    slots = request.gateway.limits.tunnels if upgrade else request.gateway.limits.exchanges
    return Admitted(destination, content, is_activity, slots.acquire(request.user.username, destination.port))


async def readmit(request: ProxyRequest, cached: CachedDecision) -> Slot | None:
    """Take a slot for a request that equals one which `admit` let pass; None if that decision does not hold any more.

    Raises:
        GatewayError, StreamClosedError
    """
    request.begin(cached.route)
    request.restore(cached)
    has_same_rules = cached.rules_version == request.gateway.policy.rules_version
    if not has_same_rules or (cached.may_change and not await request.still_holds(cached)):
        request.reset()
        return None
    return request.gateway.limits.exchanges.acquire(cached.user.username, cached.destination.port)


def _check_framing(request: ProxyRequest) -> framing.Content | None:
    method = request.request.method or ""
    request.gateway.limits.check_fields(request.fields)
    content = framing.parse_request_content(request.request.version, request.fields)
    if method in ("CONNECT", "TRACE"):
        raise MethodRefused(f"The method {method} cannot pass a gateway.", "Use another method.")
    if not framing.is_token(method):
        raise BadFraming("The request's method is not a valid token.", "See RFC 9110, section 9.1.")
    return content


def _check_upgrade(request: ProxyRequest, content: framing.Content | None) -> None:
    if content not in (None, framing.Content(0)):
        raise BadFraming("A WebSocket request has no content.", "See RFC 6455, section 4.1.")
    if not request.request.headers.get("Sec-WebSocket-Key"):
        raise BadUpgrade("The WebSocket request has no Sec-WebSocket-Key.", "See RFC 6455, section 4.1.")
