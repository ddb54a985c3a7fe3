"""Outbound requests: loops, and secrets in the target. Header fields are tested in tests/protocol/test_headers.py."""

from __future__ import annotations

import pytest

from jupyter_portproxy.errors import LoopDetected
from jupyter_portproxy.protocol.headers import Client
from jupyter_portproxy.protocol.urls import Route

from ..support.gateways import found, open_exchange, route
from ..support.upstreams import answers, serve


async def test_a_request_that_passed_here_before_is_a_loop(make_gateway):
    gateway = make_gateway()
    with pytest.raises(LoopDetected):
        open_exchange(
            gateway,
            "GET",
            await found(gateway, route("localhost", 15000)),
            [("Via", f"1.0 other, 1.1 {gateway.outbound.via} (comment)")],
        )


async def test_an_exchange_carries_no_secret_in_its_target(make_gateway):
    gateway = make_gateway()
    async with serve(answers()) as upstream:
        to = Route("localhost", upstream.port, f"/proxy/port/{upstream.port}", "/x", "?a=1&token=s3cret&b=%20")
        client = Client("127.0.0.1", "127.0.0.1", "http", "h", secrets=frozenset({"s3cret"}))
        exchange = open_exchange(gateway, "GET", await found(gateway, to), [], client)
        await exchange.head
    assert upstream.last.target == "/x?a=1&b=%20"
