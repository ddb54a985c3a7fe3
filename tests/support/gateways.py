"""Gateways without a Jupyter server, for the tests of the policy and of the work."""

from __future__ import annotations

import pytest
from traitlets.config import Config

from jupyter_portproxy.gateway.gateway import Destination, PortProxy
from jupyter_portproxy.protocol.headers import Client
from jupyter_portproxy.protocol.urls import Route
from jupyter_portproxy.system.socket_owners import SocketOwners, open_netlink

CLIENT = Client("127.0.0.1", "127.0.0.1", "http", "127.0.0.1:8888")


@pytest.fixture
def make_gateway():
    """Builds gateways from traits and closes them; `netlink` opens what is asked for owners."""
    made = []

    def build(netlink=open_netlink, **traits) -> PortProxy:
        made.append(PortProxy(owners=SocketOwners(netlink), config=Config({"PortProxy": traits})))
        return made[-1]

    yield build
    for gateway in made:
        gateway.close()


def route(host: str, port: int) -> Route:
    return Route(host, port, f"/proxy/{host}:{port}", "/", "")


async def found(gateway: PortProxy, to: Route) -> Destination:
    return Destination(to, await gateway.resolve(to))
