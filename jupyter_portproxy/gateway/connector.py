"""Opens exchanges and connections to upstreams, each approved by the policy before the first byte is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tornado.iostream import IOStream

from ..protocol.urls import Upstream
from ..system.tls import Trust
from ..upstream.connect import connect, dial
from ..upstream.exchange import Exchange, Outbound
from .policy import Policy

if TYPE_CHECKING:
    from ..upstream.curl import CurlTransport


class Connector:
    """The transport and the policy's approval of what it connects to.

    Args:
        connect_timeout: seconds.
    """

    def __init__(self, policy: Policy, connect_timeout: float) -> None:
        self._policy, self._connect_timeout = policy, connect_timeout
        self._transport: CurlTransport | None = None  # made by the first exchange: it needs the running event loop

    def open(self, outbound: Outbound, trust: Trust | None = None) -> Exchange:
        """Start an exchange.

        Args:
            trust: in the certificate of an https upstream, where that is not the policy's.

        Raises:
            Forbidden: another user of this machine listens there; for https, where no connection is shown before the handshake.
        """
        if self._transport is None:
            from ..upstream.curl import CurlTransport  # libcurl takes 6 MiB, which a server without proxied traffic does not need

            self._transport = CurlTransport(force_instance=True)
        if outbound.upstream.scheme == "https":
            self._policy.approve_listeners(outbound.upstream)
            outbound = replace(outbound, trust=trust or self._policy.trust_in(outbound.upstream))
        return self._transport.open(outbound)

    async def dial(self, upstream: Upstream, timeout: float | None = None, trust: Trust | None = None) -> IOStream:
        """A connection for an upgrade; raises what `connect.dial` raises. Args: see `open`."""
        policy, timeout = self._policy, timeout or self._connect_timeout
        return await dial(upstream, policy.approval_of(upstream), timeout, trust or policy.trust_in(upstream))

    async def connect(self, upstream: Upstream, timeout: float) -> None:
        """Connect and close; raises what `connect.connect` raises."""
        await connect(upstream, self._policy.approval_of(upstream), timeout)

    def __len__(self) -> int:
        """Exchanges in flight."""
        return len(self._transport) if self._transport is not None else 0

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None
