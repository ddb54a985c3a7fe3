"""The connector: exchanges and connections to real upstreams. The owner checks are tested in test_policy.py."""

from __future__ import annotations

import pytest

from jupyter_portproxy.config import PortProxy
from jupyter_portproxy.errors import Unreachable
from jupyter_portproxy.gateway.connector import Connector
from jupyter_portproxy.gateway.policy import Policy
from jupyter_portproxy.protocol.urls import Upstream
from jupyter_portproxy.upstream.exchange import Outbound

from ..support.upstreams import answers, free_port, never_answers, serve


@pytest.fixture
def connector():
    policy = Policy(PortProxy())
    made = Connector(policy, connect_timeout=1.0)
    yield made
    made.close()
    policy.close()


def at(port: int) -> Upstream:
    return Upstream("localhost", port, ("127.0.0.1",))


async def test_it_opens_exchanges_and_connections(connector):
    async with serve(answers(b"here")) as upstream:
        exchange = connector.open(Outbound("GET", at(upstream.port), "/", [("Host", "h")]))
        assert (len(connector), (await exchange.head).status) == (1, 200)
        (await connector.dial(at(upstream.port))).close()
    with pytest.raises(Unreachable):
        await connector.dial(at(free_port()))


async def test_close_aborts_what_is_in_flight(connector):
    async with serve(never_answers) as upstream:
        exchange = connector.open(Outbound("GET", at(upstream.port), "/", [("Host", "h")]))
        connector.close()
        assert len(connector) == 0
        with pytest.raises(Exception, match="given up"):
            await exchange.head
