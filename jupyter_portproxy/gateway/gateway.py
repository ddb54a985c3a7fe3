"""The gateway: exchanges and tunnels in flight, their time limits, and their end.

`Gateway` starts exchanges and connections until `drain` or `close` begins the shutdown, which cannot be undone: from then on
each attempt raises ShuttingDown. A tunnel is registered by `add_tunnel` and removed when it closes. Errors are GatewayErrors;
responses are written by the handlers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection

from ..config import PortProxy
from ..errors import BadUpstream, ShuttingDown, UpstreamTimeout
from ..services.manager import ServiceManager
from ..services.ports import Reservations
from ..upstream.closable import Closable
from ..upstream.exchange import Exchange, Head, Outbound
from .connector import Connector
from .counters import Counters
from .destinations import Destination, DestinationFinder, Projects
from .limits import Limits, Slot
from .lingering_close import LingeringClose
from .logins import Logins
from .notices import Report
from .observer import Observer
from .outbound import OutboundBuilder
from .page_failures import PageFailures
from .policy import Policy

_MAX_LOGGED_NAMES = 200
_MAX_WHOLE_CONTENT = 100 << 20  # bytes of a response that a rewrite_response function gets
_ACTIVITY_PERIOD = 0.01  # s: shorter than any period in which activity is looked at
_DRAIN_PERIOD = 0.05  # s


class Gateway:
    """What the handlers relay through; its collaborators are attributes.

    Args:
        projects: None unless the configuration has a `project_resolver`.
        foreign_names: first segments below base_url that another extension serves.
        on_activity: called when traffic passes that counts as activity of this server.
        report: publishes a notice.

    Attributes:
        dial: see `Connector.dial`.
        observer: what records requests; None, as a rule.
    """

    def __init__(
        self,
        *,
        settings: PortProxy,
        policy: Policy,
        limits: Limits,
        counters: Counters,
        connector: Connector,
        outbound: OutboundBuilder,
        destinations: DestinationFinder,
        services: ServiceManager,
        reservations: Reservations,
        logins: Logins,
        base_url: str = "/",
        projects: Projects | None = None,
        foreign_names: Collection[str] = (),
        on_activity: Callable[[], None] = lambda: None,
        report: Report = lambda notice: None,
    ) -> None:
        self.settings, self.policy, self.limits, self.counters = settings, policy, limits, counters
        self.outbound, self.destinations, self.projects, self.logins = outbound, destinations, projects, logins
        self.services, self.reservations = services, reservations
        self.base_url, self.foreign_names = base_url, foreign_names
        self.report, self.page_failures = report, PageFailures(report)
        self.lingering_close = LingeringClose()
        self.observer: Observer | None = None
        self.log: logging.Logger = settings.log
        self._connector, self._on_activity = connector, on_activity
        self.dial = connector.dial
        self._tunnels: dict[Closable, Slot] = {}
        self._dropped: set[tuple[str, str]] = set()  # upstream and name of the fields that the log has
        self._closing = False
        self._last_activity = 0.0

    def observe(self, observer: Observer | None) -> None:
        """Let `observer` record the requests from the next one on; None: they are not recorded."""
        self.observer = observer

    # ---- start ----

    def start(self, outbound: Outbound, *, is_activity: bool = True) -> Exchange:
        """Start an exchange; raises what `begin` and `Connector.open` raise."""
        self.begin(is_activity=is_activity)
        return self._connector.open(outbound)

    def begin(self, *, is_activity: bool) -> None:
        """Record that an exchange or upgrade starts. Raises: ShuttingDown"""
        if self._closing:
            raise ShuttingDown()
        if is_activity:
            self.record_activity()

    # ---- the response ----

    async def read_head(self, exchange: Exchange) -> Head:
        """The head of a response, at most first_byte_timeout after the last byte of the request that was sent.

        Raises:
            UpstreamTimeout; GatewayError: the exchange failed.
        """
        timeout = self.settings.first_byte_timeout
        while timeout and not exchange.head.done():
            left = exchange.last_sent + timeout - asyncio.get_running_loop().time()
            if left <= 0:
                raise UpstreamTimeout.first_byte(timeout)
            await asyncio.wait({exchange.head}, timeout=left)
        head = await exchange.head
        if head.dropped:
            self._log_dropped(exchange.outbound.upstream.authority, head.dropped)
        return head

    def _log_dropped(self, authority: str, names: list[str]) -> None:
        """Log each field that cannot be passed on once, up to a total of _MAX_LOGGED_NAMES."""
        for name in names:
            if len(self._dropped) < _MAX_LOGGED_NAMES and (authority, name) not in self._dropped:
                self._dropped.add((authority, name))
                self.log.warning("portproxy: a header line of the service at %s cannot pass: %r", authority, name[:100])

    async def read_content(self, exchange: Exchange) -> bytes:
        """The next piece of a response's content, within idle_timeout; empty at its end.

        Raises:
            UpstreamTimeout; GatewayError: the exchange failed.
        """
        timeout = self.settings.idle_timeout
        if exchange.readable or not timeout:
            return await exchange.read()
        try:
            return await asyncio.wait_for(exchange.read(), timeout)
        except asyncio.TimeoutError:
            if exchange.readable:  # it came in time, but the event loop was busy
                return await exchange.read()
            raise UpstreamTimeout.first_byte(timeout) from None

    async def read_whole_content(self, exchange: Exchange) -> bytes:
        """All of a response's content.

        Raises:
            BadUpstream: it is larger than 100 MiB. And what `read_content` raises.
        """
        pieces: list[bytes] = []
        size = 0
        while piece := await self.read_content(exchange):
            size += len(piece)
            if size > _MAX_WHOLE_CONTENT:
                raise BadUpstream("it is larger than 100 MiB, and a rewrite_response function must see it whole")
            pieces.append(piece)
        return b"".join(pieces)

    # ---- activity and tunnels ----

    def record_activity(self) -> None:
        """Record activity of this server, at most once per _ACTIVITY_PERIOD."""
        now = time.monotonic()
        if now - self._last_activity >= _ACTIVITY_PERIOD and self.settings.count_activity:
            self._last_activity = now
            self._on_activity()

    def make_tunnel_counter(self, destination: Destination, *, is_activity: bool) -> Callable[[int], None]:
        """The function that a tunnel calls with the number of bytes that it relays; `is_activity`: they count as activity."""

        def count(size: int) -> None:
            self.counters.bytes_in_tunnels += size
            if is_activity:
                self.record_activity()
            if destination.service is not None:
                destination.service.touch()

        return count

    def add_tunnel(self, tunnel: Closable, slot: Slot) -> None:
        """Register an open tunnel; its slot is released when it closes. Raises: ShuttingDown"""
        if self._closing:
            raise ShuttingDown()
        self._tunnels[tunnel] = slot
        tunnel.add_close_callback(self._remove_tunnel)

    def _remove_tunnel(self, tunnel: Closable) -> None:
        self._tunnels.pop(tunnel).release()

    @property
    def tunnels(self) -> int:
        return len(self._tunnels)

    @property
    def exchanges(self) -> int:
        return len(self._connector)

    # ---- shutdown ----

    async def drain(self) -> None:
        """Begin the shutdown: close every tunnel, and wait for the end of exchanges for at most shutdown_grace seconds."""
        self._shut_tunnels()
        end = time.monotonic() + self.settings.shutdown_grace
        while self.limits.exchanges.in_all and time.monotonic() < end:  # noqa: ASYNC110 (an event would cost each request)
            await asyncio.sleep(_DRAIN_PERIOD)
        left = self.limits.exchanges.in_all
        if left:
            self.log.warning("portproxy: %d requests had not ended within %g s and are cut", left, self.settings.shutdown_grace)

    def _shut_tunnels(self) -> None:
        self._closing = True
        for tunnel in list(self._tunnels):
            tunnel.shut_down()

    def close(self) -> None:
        """Close every tunnel (1001 where a frame boundary allows it), and abort every exchange."""
        self._shut_tunnels()
        self.page_failures.close()
        self.lingering_close.close()
        self._connector.close()
