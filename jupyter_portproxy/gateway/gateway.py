"""The gateway: where a request goes, what is done with it on its way, and what is under way.

Rule of this file: it knows no Tornado handler and writes no answer; it raises GatewayErrors. Who may reach what is its policy's.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Protocol

from jupyter_server.auth.identity import User
from tornado.iostream import IOStream

from ..config import PortProxy
from ..errors import (
    BadUpstream,
    GatewayError,
    Internal,
    LoopDetected,
    ServiceStarting,
    ShuttingDown,
    UpstreamTimeout,
)
from ..isolation.sessions import Origins
from ..protocol import framing, urls
from ..protocol.credentials import remove_secret_parameters
from ..protocol.headers import (
    Client,
    Fields,
    build_request_fields,
    find_identity_fields,
    has_loop,
    replace_fields,
)
from ..protocol.hop_header import HopHeader
from ..protocol.named_project_urls import NamedProjectRoute, UrlMapping
from ..protocol.project_urls import ProjectRoute
from ..protocol.urls import Redirect, Route, ServiceRoute, Upstream
from ..services.hooks import Endpoint, RequestHooks
from ..services.manager import Service, ServiceManager
from ..services.ports import Reservations
from ..services.templates import Template, TemplateError
from ..upstream.closable import Closable
from ..upstream.exchange import Exchange, Head, Outbound
from .connector import Connector
from .counters import Counters
from .limits import Limits, Slot
from .logins import Logins
from .policy import Policy, check_socket
from .probe import upstream_of

_MAX_LOGGED_NAMES = 200
_ACTIVITY_PERIOD = 0.01
_DRAIN_PERIOD = 0.05


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a request goes, what a configuration file wants to be done with it on its way, and how the client spells it.

    Attributes:
        counted_as: what is one port to the limits, where the upstream's address is that of many.
        told: what the next hop of a chain is told; None where the upstream is none.
        is_stable: requests with the same header fields and prefix lead here for at least a second.
    """

    route: Route
    upstream: Upstream
    hooks: RequestHooks | None = None
    service: Service | None = None
    counted_as: Hashable = None
    alias: UrlMapping | None = None
    told: HopHeader | None = None
    is_stable: bool = True

    @property
    def port(self) -> Hashable:
        """What is one port to the limits."""
        upstream = self.upstream
        return self.counted_as or upstream.unix_socket or (upstream.host, upstream.port)


class Projects(Protocol):
    """What the doors ask of a chain of hops; projects/chain.py is it."""

    @property
    def believes_credentials(self) -> bool: ...

    @property
    def finds_names(self) -> bool: ...

    def admits(self, credential: str) -> bool: ...

    async def start(self, asked: ProjectRoute, asker: Requester) -> Redirect | None: ...

    async def locate(self, asked: ProjectRoute | NamedProjectRoute, asker: Requester) -> Destination: ...

    async def holds(self, to: Destination) -> bool: ...

    def translate(self, error: GatewayError, to: Destination) -> GatewayError: ...

    def watch(self, open_: Closable, to: Destination) -> None: ...


class Gateway:
    """What the handlers relay through.

    Args:
        base_url: the Jupyter server's.
        projects: None where the configuration has no `project_resolver`.
        origins: None where the configuration isolates nothing.
        port_hooks: what a configuration file wants to be done with answers of plain ports.
        foreign_names: first segments below base_url that another extension serves.
        on_activity: called when traffic passes that counts as activity of this server.
    """

    max_whole_body = 100 << 20  # bytes

    def __init__(
        self,
        settings: PortProxy,
        policy: Policy,
        connector: Connector,
        limits: Limits,
        counters: Counters,
        services: ServiceManager,
        reservations: Reservations,
        logins: Logins,
        *,
        base_url: str = "/",
        projects: Projects | None = None,
        origins: Origins[User] | None = None,
        port_hooks: RequestHooks | None = None,
        foreign_names: Collection[str] = (),
        on_activity: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings, self.policy, self.limits, self.counters, self.logins = settings, policy, limits, counters, logins
        self.services, self.reservations, self.projects, self.origins = services, reservations, projects, origins
        self.port_hooks, self.foreign_names, self.base_url = port_hooks, foreign_names, base_url
        self.log: logging.Logger = settings.log
        self.via = f"portproxy-{secrets.token_hex(4)}"
        self._connector, self._on_activity = connector, on_activity
        self._tunnels: dict[Closable, Slot] = {}
        self._dropped: set[tuple[str, str]] = set()  # names of answers' fields that the log has
        self._closing = False
        self._last_activity = 0.0

    # ---- where ----

    async def locate(self, asked: ServiceRoute, *, patient: bool) -> Destination:
        """Where a service is now; one that starts when it is opened is started.

        Args:
            patient: wait while it is starting.

        Raises:
            NotFound, ServiceStarting, ServiceFailed
            Forbidden: it is a Unix socket of another user.
        """
        reserved = self.reservations.get(asked.name)
        if reserved is not None and asked.name not in self.services:
            route = Route(urls.LOOPBACK_NAME, reserved.port, asked.prefix, asked.path, asked.query)
            return Destination(route, await self.policy.resolve(route), is_stable=False)
        template = self.services.templates.get(asked.name)
        if template is not None and template.external and template.endpoint is not None:
            return self._at(template.endpoint, template, asked)
        service = self.services.open(asked.name, by_page=not patient)
        if service.state == "starting" and not patient:
            raise ServiceStarting(service.name, service.log.last_lines())
        await self.services.wait_ready(service)
        service.touch()
        if template is None or service.name == asked.name:  # else two templates have one fixed place
            template = service.template
        return self._at(service.endpoint, template, asked, service)

    def _at(self, endpoint: Endpoint, template: Template, asked: ServiceRoute, service: Service | None = None) -> Destination:
        upstream, hooks = upstream_of(endpoint, template), template.hooks
        if upstream.unix_socket:
            check_socket(upstream.unix_socket)
        try:
            path = hooks.path(asked.path) if hooks is not None else asked.path
        except Exception:
            self.log.exception("portproxy: 'mappath' of '%s' failed", template.name)
            raise Internal() from None
        route = Route(upstream.host, upstream.port, asked.prefix, path, asked.query, template.keep_prefix)
        is_stable = service is not None and not upstream.unix_socket
        return Destination(route, upstream, hooks, service, is_stable=is_stable)

    def is_there(self, to: Destination) -> bool:
        """True unless it is a service that does not run where it ran."""
        service = to.service
        if service is None:
            return True
        if service.state not in ("up", "unhealthy") or service.endpoint.port != to.upstream.port:
            return False
        service.touch()
        return True

    def hooks_of(self, name: str) -> RequestHooks | None:
        """What the template of a service of that name asks for; None if nothing, or if nothing is known of it."""
        template = self.template_of(name)
        return template.hooks if template is not None else None

    def sees_prefix(self, name: str) -> bool:
        """A service of that name gets the whole path, and nobody's configuration changes it."""
        template = self.template_of(name)
        return template is not None and template.keep_prefix and template.hooks is None

    def template_of(self, name: str) -> Template | None:
        """The template of a service, or the one of that name."""
        return self.services.get(name).template if name in self.services else self.services.templates.get(name)

    def known_prefix(self, target: str) -> tuple[str, bool]:
        """The prefix that a service puts before its links, wherever it is opened, and whether it wants to see it in requests.

        Args:
            target: its name or its port.

        Returns:
            an empty prefix if it knows of none.
        """
        name = next((s.name for s in self.services.list() if str(s.endpoint.port) == target), "") if target.isdigit() else target
        template = self.template_of(name)
        if template is None or not template.passes_prefix:
            return "", False
        return self.services.prefix(name) or "", template.keep_prefix

    # ---- work ----

    def outbound(
        self, method: str, to: Destination, fields: Fields, client: Client, content: framing.Content | None = None
    ) -> Outbound:
        """The request that goes on.

        Args:
            fields: the inbound request's.
            content: how its content is framed; None if it has none.

        Raises:
            LoopDetected
        """
        return Outbound(
            method,
            to.upstream,
            remove_secret_parameters(to.route.target, client.secrets),
            self.outbound_fields(to, fields, client, method),
            content,
            self.settings.connect_timeout,
            self.policy.approve_connection,
        )

    def start(self, outbound: Outbound, *, counted: bool = True) -> Exchange:
        """Start one exchange; what `begin` raises."""
        self.begin(counted=counted)
        return self._connector.open(outbound)

    def begin(self, *, counted: bool) -> None:
        """Something is about to go on.

        Args:
            counted: it is activity of this server.

        Raises:
            ShuttingDown
        """
        if self._closing:
            raise ShuttingDown()
        if counted:
            self.count()

    def outbound_fields(self, to: Destination, fields: Fields, client: Client, method: str = "GET") -> Fields:
        """The outbound request's fields; every way out passes here.

        Raises:
            LoopDetected
        """
        if has_loop(fields, self.via):
            raise LoopDetected()
        if self.log.isEnabledFor(logging.DEBUG) and (names := find_identity_fields(fields)):
            self.log.debug("portproxy: not passed on, as only this server may tell who asks: %s", ", ".join(names))
        if to.alias is not None:
            fields = to.alias.map_request_fields(fields, client)
        keep_host = self.policy.keeps_host(to.upstream.port) or (to.service is not None and to.service.template.keep_host)
        out = build_request_fields(
            fields, to.route, to.upstream, client, via=self.via, method=method, keep_host=keep_host, hop=to.told
        )
        return out if to.hooks is None else replace_fields(out, self._fields_of(to, to.hooks), to.hooks.renamed_fields)

    def _fields_of(self, to: Destination, hooks: RequestHooks) -> Fields:
        try:
            return hooks.request_fields(Endpoint(to.upstream.port, to.upstream.unix_socket), self.base_url)
        except TemplateError as error:
            self.log.error("portproxy: %s", error)
            raise Internal() from None

    async def head_of(self, exchange: Exchange) -> Head:
        """The head of an exchange's answer, within first_byte_timeout of the request's last byte that moved."""
        while self.settings.first_byte_timeout and not exchange.head.done():
            left = exchange.last_sent + self.settings.first_byte_timeout - asyncio.get_running_loop().time()
            if left <= 0:
                raise UpstreamTimeout.first_byte(self.settings.first_byte_timeout)
            await asyncio.wait({exchange.head}, timeout=left)
        head = await exchange.head
        if head.dropped:
            self._tell_dropped(exchange.outbound.upstream.authority, head.dropped)
        return head

    def _tell_dropped(self, authority: str, names: list[str]) -> None:
        """Each name once, while there are not too many."""
        for name in names:
            if len(self._dropped) < _MAX_LOGGED_NAMES and (authority, name) not in self._dropped:
                self._dropped.add((authority, name))
                self.log.warning("portproxy: a header line of the service at %s cannot pass: %r", authority, name[:100])

    async def dial(self, upstream: Upstream) -> IOStream:
        """A connection for an upgrade; raises what `connect.dial` raises."""
        return await self._connector.dial(upstream)

    async def content_of(self, exchange: Exchange) -> bytes:
        """The next piece of an exchange's content, within idle_timeout; empty at its end."""
        if exchange.readable or not self.settings.idle_timeout:
            return await exchange.read()
        try:
            return await asyncio.wait_for(exchange.read(), self.settings.idle_timeout)
        except asyncio.TimeoutError:
            if exchange.readable:  # it came in time, but something else held the loop up
                return await exchange.read()
            raise UpstreamTimeout.first_byte(self.settings.idle_timeout) from None

    async def whole_content_of(self, exchange: Exchange) -> bytes:
        """All of an exchange's content.

        Raises:
            BadUpstream: it is larger than 100 MiB.
        """
        pieces: list[bytes] = []
        size = 0
        while piece := await self.content_of(exchange):
            size += len(piece)
            if size > self.max_whole_body:
                raise BadUpstream("it is larger than 100 MiB, and a rewrite_response function must see it whole")
            pieces.append(piece)
        return b"".join(pieces)

    def count(self) -> None:
        """Something moved: tell the server, not for every piece of a stream."""
        now = time.monotonic()
        if now - self._last_activity >= _ACTIVITY_PERIOD and self.settings.count_activity:
            self._last_activity = now
            self._on_activity()

    def counter(self, to: Destination, *, counted: bool) -> Callable[[int], None]:
        """What a tunnel calls with the number of bytes that have passed; `counted`: they are activity of this server."""

        def count(size: int) -> None:
            self.counters.bytes_in_tunnels += size
            if counted:
                self.count()
            if to.service is not None:
                to.service.touch()

        return count

    def add_tunnel(self, tunnel: Closable, slot: Slot) -> None:
        """Keep an open tunnel, and its slot, until it closes.

        Raises:
            ShuttingDown
        """
        if self._closing:
            raise ShuttingDown()
        self._tunnels[tunnel] = slot
        tunnel.add_close_callback(self._forget)

    def _forget(self, tunnel: Closable) -> None:
        slot = self._tunnels.pop(tunnel, None)
        if slot is not None:
            slot.release()

    @property
    def tunnels(self) -> int:
        """Open tunnels."""
        return len(self._tunnels)

    @property
    def exchanges(self) -> int:
        """Exchanges in flight."""
        return len(self._connector)

    async def drain(self) -> None:
        """Take nothing new, close every tunnel, and let exchanges end for at most shutdown_grace seconds."""
        self._shut_tunnels()
        end = time.monotonic() + self.settings.shutdown_grace
        while self.limits.exchanges.in_all and time.monotonic() < end:  # noqa: ASYNC110 (no request pays for an event)
            await asyncio.sleep(_DRAIN_PERIOD)
        left = self.limits.exchanges.in_all
        if left:
            self.log.warning("portproxy: %d requests had not ended within %g s and are cut", left, self.settings.shutdown_grace)

    def _shut_tunnels(self) -> None:
        self._closing = True
        for tunnel in list(self._tunnels):
            tunnel.shut_down()

    def close(self) -> None:
        """Close every tunnel (1001 where a frame boundary allows it), abort every exchange, give all sockets back."""
        self._shut_tunnels()
        self._connector.close()


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks for something of a project, as the login or the hop before this one has it.

    Attributes:
        may_start: they may start the project, says the hop before this one.
        posts: the request is a POST.
    """

    name: str
    may_start: bool = False
    posts: bool = False
