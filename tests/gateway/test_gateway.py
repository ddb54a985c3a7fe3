"""What the gateway does with exchanges: time limits, loops, activity, their end. Without a Jupyter server."""

from __future__ import annotations

import pytest

from jupyter_portproxy.errors import ShuttingDown, UpstreamTimeout
from jupyter_portproxy.gateway.gateway import Gateway
from jupyter_portproxy.protocol.urls import Route

from ..support.gateways import found, open_exchange
from ..support.upstreams import drips, never_answers, serve


async def begin(gateway: Gateway, port: int, fields=(), path="/"):
    to = Route("localhost", port, f"/proxy/port/{port}", path, "")
    return open_exchange(gateway, "GET", await found(gateway, to), list(fields))


async def test_the_head_must_come_within_first_byte_timeout(make_gateway):
    gateway = make_gateway(first_byte_timeout=0.2)
    async with serve(never_answers) as upstream:
        exchange = await begin(gateway, upstream.port)
        with pytest.raises(UpstreamTimeout, match=r"within 0\.2 s"):
            await gateway.read_head(exchange)
        exchange.abort()


async def test_content_must_move_within_idle_timeout(make_gateway):
    gateway = make_gateway(idle_timeout=0.3)
    async with serve(drips([b"a", b"b"], 0.1)) as upstream:
        exchange = await begin(gateway, upstream.port)
        await gateway.read_head(exchange)
        assert await gateway.read_content(exchange) == b"a"
        assert await gateway.read_content(exchange) == b"b"
        with pytest.raises(UpstreamTimeout):
            await gateway.read_content(exchange)
        exchange.abort()


async def test_traffic_counts_as_activity_once_a_second(make_gateway):
    reports = []
    for count, expected in ((True, 1), (False, 1)):
        gateway = make_gateway(count_activity=count, on_activity=lambda: reports.append(1))
        for _ in range(5):
            gateway.record_activity()
        assert len(reports) == expected


async def test_close_ends_exchanges_in_flight_and_refuses_new_ones(make_gateway):
    gateway = make_gateway()
    async with serve(never_answers) as upstream:
        exchange = await begin(gateway, upstream.port)
        assert gateway.exchanges == 1
        gateway.close()
        assert gateway.exchanges == 0
        with pytest.raises(Exception, match="given up"):
            await exchange.head
        with pytest.raises(ShuttingDown):
            await begin(gateway, upstream.port)
