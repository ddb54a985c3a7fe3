"""What the gateway does with exchanges: time limits, loops, activity, their end. Without a Jupyter server."""

from __future__ import annotations

import pytest

from jupyter_portproxy.errors import LoopDetected, ShuttingDown, UpstreamTimeout
from jupyter_portproxy.gateway.gateway import Destination, Gateway
from jupyter_portproxy.protocol.headers import Client
from jupyter_portproxy.protocol.urls import Route, Upstream

from ..support.gateways import found, open_exchange
from ..support.upstreams import answers, drips, never_answers, serve


async def begin(gateway: Gateway, port: int, fields=(), path="/"):
    to = Route("localhost", port, f"/proxy/port/{port}", path, "")
    return open_exchange(gateway, "GET", await found(gateway, to), list(fields))


async def test_the_head_must_come_within_first_byte_timeout(make_gateway):
    gateway = make_gateway(first_byte_timeout=0.2)
    async with serve(never_answers) as upstream:
        exchange = await begin(gateway, upstream.port)
        with pytest.raises(UpstreamTimeout, match=r"within 0\.2 s"):
            await gateway.head_of(exchange)
        exchange.abort()


async def test_content_must_move_within_idle_timeout(make_gateway):
    gateway = make_gateway(idle_timeout=0.3)
    async with serve(drips([b"a", b"b"], 0.1)) as upstream:
        exchange = await begin(gateway, upstream.port)
        await gateway.head_of(exchange)
        assert await gateway.content_of(exchange) == b"a"
        assert await gateway.content_of(exchange) == b"b"
        with pytest.raises(UpstreamTimeout):
            await gateway.content_of(exchange)
        exchange.abort()


async def test_a_request_that_passed_here_before_is_a_loop(make_gateway):
    gateway = make_gateway()
    with pytest.raises(LoopDetected):
        await begin(gateway, 15000, [("Via", f"1.0 other, 1.1 {gateway.via} (comment)")])


async def test_traffic_counts_as_activity_once_a_second(make_gateway):
    told = []
    for count, expected in ((True, 1), (False, 1)):
        gateway = make_gateway(count_activity=count, on_activity=lambda: told.append(1))
        for _ in range(5):
            gateway.count()
        assert len(told) == expected


async def test_close_ends_what_is_under_way_and_refuses_what_is_new(make_gateway):
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


async def test_an_exchange_carries_no_secret_in_its_target(make_gateway):
    gateway = make_gateway()
    async with serve(answers()) as upstream:
        to = Route("localhost", upstream.port, f"/proxy/port/{upstream.port}", "/x", "?a=1&token=s3cret&b=%20")
        client = Client("127.0.0.1", "127.0.0.1", "http", "h", secrets=frozenset({"s3cret"}))
        exchange = open_exchange(gateway, "GET", await found(gateway, to), [], client)
        await exchange.head
    assert upstream.last.target == "/x?a=1&b=%20"


def test_what_is_one_port_to_the_limits():
    route = Route("localhost", 80, "/p", "/", "")
    plain = Destination(route, Upstream("localhost", 8050, ("127.0.0.1",)))
    assert plain.port == Destination(route, Upstream("localhost", 8050, ("127.0.0.1", "::1"))).port
    assert plain.port != Destination(route, Upstream("10.0.0.1", 8050, ("10.0.0.1",))).port
    sockets = [Destination(route, Upstream("localhost", 80, (), unix_socket=path)).port for path in ("/a", "/b")]
    assert sockets[0] != sockets[1]
    assert Destination(route, plain.upstream, counted_as=("project-1", 8050)).port == ("project-1", 8050)
