"""Raw TCP through a WebSocket, for programs: `proxy/tcp/N` and `proxy/tcp/service/NAME`.

Raw TCP reaches more than HTTP does: databases, shells, debuggers. So nothing that a browser sends by itself logs in here:
`TcpRequest` accepts a token in the field Authorization alone, and refuses requests with `Origin`, which browsers add to the
WebSockets of every page. The rest is the pipeline of all requests. The server of the port relays bytes (upstream.byte_tunnel);
each hop before it relays the next one's WebSocket. The log has a line for the start and the end of each connection.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from jupyter_server.auth.identity import IdentityProvider
from tornado.httputil import HTTPServerRequest
from tornado.web import Application

from ..errors import TokenOnly
from ..gateway.gateway import Gateway
from ..isolation.sessions import Origins
from ..protocol import credentials
from ..upstream.byte_tunnel import ByteTunnel
from ..upstream.tunnel import Tunnel
from .base import ProxyRequest
from .websocket import TunnelHandler

_OTHER_LOGINS = ("Cookie", "Sec-WebSocket-Protocol")


class TcpRequest(ProxyRequest):
    """A handshake for raw TCP. Its URL has no query: `protocol.urls` refuses that."""

    def __init__(
        self, application: Application, request: HTTPServerRequest, gateway: Gateway, isolated: Origins | None = None
    ) -> None:
        for name in _OTHER_LOGINS:  # before an identity provider sees them
            request.headers.pop(name, None)
        super().__init__(application, request, gateway, isolated)

    async def authenticate(self) -> None:
        """Find the user by the token. Raises: TokenOnly, Unauthenticated, Forbidden, LoginUnavailable"""
        headers, provider = self.request.headers, self.jupyter.identity_provider
        if "Origin" in headers:
            raise TokenOnly.page()
        if not provider.auth_enabled or not _accepts_tokens(provider):
            raise TokenOnly.unavailable()
        if not credentials.parse_authorization_token(headers.get("Authorization", "")):
            raise TokenOnly.missing()
        await super().authenticate()
        if not self.jupyter.token_authenticated:
            raise TokenOnly.missing()


def _accepts_tokens(provider: IdentityProvider) -> bool:
    """False for a provider that looks for Jupyter's own token alone, while there is none."""
    kind = type(provider)
    has_own_way = kind.get_user is not IdentityProvider.get_user or kind.get_user_token is not IdentityProvider.get_user_token
    return bool(provider.token) or has_own_way


class TcpHandler(TunnelHandler):
    """One raw TCP connection."""

    _record: ConnectionRecord

    async def accept(self) -> None:
        admitted, request = self._admitted, self._proxy_request
        self._record = ConnectionRecord(self._gateway.log, request.user.username, self._route.tcp_target, request.client.address)
        if admitted.destination.upstream.scheme != "tcp":  # it is the next hop
            await super().accept()
            return
        idle_timeout = self._gateway.settings.tcp_idle_timeout
        tunnel = ByteTunnel(self._make_counter(), self._on_message, dials=False, idle_timeout=idle_timeout)
        await self._accept_bytes(tunnel, [])

    def _make_counter(self) -> Callable[[int], None]:
        count, record = super()._make_counter(), self._record

        def count_both(size: int) -> None:
            record.bytes += size
            count(size)

        return count_both

    def _watch(self, tunnel: Tunnel) -> None:
        self._record.begin(tunnel)
        super()._watch(tunnel)


class ConnectionRecord:
    """The lines of a connection in the log: user, address and target; at its end also the duration and the number of bytes.

    Attributes:
        bytes: relayed in both directions.
    """

    __slots__ = ("_log", "_started", "_what", "bytes")

    def __init__(self, log: logging.Logger, user: str, target: str, address: str) -> None:
        self._log, self._what = log, f"{target!r} for {user!r} at {address}"
        self._started, self.bytes = time.monotonic(), 0

    def begin(self, tunnel: Tunnel) -> None:
        self._log.info("portproxy: raw TCP to %s is open", self._what)
        tunnel.add_close_callback(self._end)

    def _end(self, tunnel: object) -> None:
        seconds = time.monotonic() - self._started
        self._log.info("portproxy: raw TCP to %s has closed after %.1f s and %d bytes", self._what, seconds, self.bytes)
