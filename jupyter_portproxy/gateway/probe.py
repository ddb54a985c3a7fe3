"""The gateway's own requests: for the page of a port in the list, and for the readiness of a service."""

from __future__ import annotations

import asyncio

from ..errors import BadUpstream, GatewayError
from ..protocol import urls
from ..protocol.headers import Fields
from ..protocol.urls import Route, Upstream
from ..services.hooks import Endpoint
from ..services.service import Service
from ..services.templates import Template
from ..system.addresses import LOOPBACK
from ..upstream.exchange import Exchange, Outbound
from .connector import Connector
from .policy import Policy

_TIMEOUT = 2.0  # s
_MAX_PAGE = 65536  # bytes


class Probe:
    def __init__(self, policy: Policy, connector: Connector) -> None:
        self._policy, self._connector = policy, connector

    async def page(self, port: int) -> tuple[Fields, bytes] | None:
        """Fields and first 64 KiB of content of a loopback port's response to `GET /`; None without one within two seconds.

        Raises:
            BadUpstream: what it answers is not HTTP.
        """
        route = Route(urls.LOOPBACK_NAME, port, "", "/", "")
        upstream = Upstream(route.host, port, LOOPBACK, scheme=self._policy.scheme_of(route))
        fields = [("Host", upstream.authority), ("Accept", "text/html"), ("User-Agent", "jupyter_portproxy")]
        exchange = self._open(upstream, "/", fields)
        try:
            return await asyncio.wait_for(_beginning(exchange), _TIMEOUT)
        except BadUpstream:
            if not exchange.head.done() or exchange.head.exception() is not None:
                raise
            return None
        except (GatewayError, asyncio.TimeoutError):
            return None
        finally:
            exchange.abort()

    async def is_ready(self, service: Service) -> bool:
        """True if a service accepts connections, or answers its template's `ready` path, within two seconds."""
        template = service.template
        upstream = upstream_of(service.endpoint, template)
        try:
            if template.ready == "tcp":
                await self.connect(upstream)
                return True
            return await self.status(upstream, target_of(service, template.ready)) < 500
        except (GatewayError, asyncio.TimeoutError):
            return False

    async def connect(self, upstream: Upstream) -> None:
        """Connect and close. Raises: GatewayError: it does not accept connections, or not within two seconds."""
        await self._connector.connect(upstream, _TIMEOUT)

    async def status(self, upstream: Upstream, target: str) -> int:
        """The status of the response to a GET.

        Raises:
            GatewayError: it does not accept connections, or does not answer HTTP.
            asyncio.TimeoutError: it does not answer within two seconds.
        """
        exchange = self._open(upstream, target, [("Host", upstream.authority), ("User-Agent", "jupyter_portproxy")])
        try:
            return (await asyncio.wait_for(asyncio.shield(exchange.head), _TIMEOUT)).status
        finally:
            exchange.abort()

    def _open(self, upstream: Upstream, target: str, fields: Fields) -> Exchange:
        return self._connector.open(Outbound("GET", upstream, target, fields, approve=self._policy.approval_of(upstream)))


def target_of(service: Service, path: str) -> str:
    """What a request for a path of a service has as its target."""
    return service.prefix + path if service.template.keep_prefix else path


def upstream_of(endpoint: Endpoint, template: Template) -> Upstream:
    return Upstream(urls.LOOPBACK_NAME, endpoint.port or 80, LOOPBACK, endpoint.unix_socket, template.protocol)


async def _beginning(exchange: Exchange) -> tuple[Fields, bytes]:
    head, content = await exchange.head, b""
    while len(content) < _MAX_PAGE and (more := await exchange.read()):
        content += more
    return head.fields, content[:_MAX_PAGE]
