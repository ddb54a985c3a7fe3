"""Gateways without a Jupyter server, for the tests of the policy and of the work."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from traitlets.config import Config

from jupyter_portproxy.config import PortProxy
from jupyter_portproxy.gateway.connector import Connector
from jupyter_portproxy.gateway.counters import Counters
from jupyter_portproxy.gateway.gateway import Destination, Gateway
from jupyter_portproxy.gateway.limits import Limits
from jupyter_portproxy.gateway.logins import Logins
from jupyter_portproxy.gateway.policy import Policy
from jupyter_portproxy.gateway.probe import Probe
from jupyter_portproxy.protocol.headers import Client, Fields
from jupyter_portproxy.protocol.urls import Route
from jupyter_portproxy.services.manager import ServiceManager
from jupyter_portproxy.services.ports import PortLeases, Reservations
from jupyter_portproxy.system.netlink import open_netlink
from jupyter_portproxy.system.socket_owners import SocketOwners
from jupyter_portproxy.upstream.exchange import Exchange

LOG = logging.getLogger("test")
CLIENT = Client("127.0.0.1", "127.0.0.1", "http", "127.0.0.1:8888")


def build_gateway(
    settings: PortProxy, owners: SocketOwners | None = None, on_activity: Callable[[], None] = lambda: None, **policy
) -> Gateway:
    """A gateway without templates; `policy` are arguments of Policy."""
    decides = Policy(settings, owners=owners, **policy)
    connector, counters, ports = Connector(decides, settings.connect_timeout), Counters(), PortLeases(decides.ports)
    is_ready = Probe(decides, connector).is_ready
    services = ServiceManager(ports, lambda name, template: f"/{name}", "/", is_ready, Path("unused"), {})
    limits, logins = Limits(settings, counters.refusal), Logins(LOG)
    return Gateway(settings, decides, connector, limits, counters, services, Reservations(ports), logins, on_activity=on_activity)


@pytest.fixture
def make_gateway():
    """Builds gateways from traits and closes them; `netlink` opens what is asked for owners."""
    made = []

    def build(netlink=open_netlink, base_url="/", own_port=lambda: None, on_activity=lambda: None, **traits) -> Gateway:
        settings, owners = PortProxy(config=Config({"PortProxy": traits})), SocketOwners(netlink)
        made.append(build_gateway(settings, owners, on_activity, base_url=base_url, own_port=own_port))
        return made[-1]

    yield build
    for gateway in made:
        gateway.close()
        gateway.policy.close()


def open_exchange(gateway: Gateway, method: str, to: Destination, fields: Fields, client: Client = CLIENT) -> Exchange:
    """Starts an exchange with a destination."""
    return gateway.start(gateway.outbound(method, to, fields, client))


def route(host: str, port: int) -> Route:
    return Route(host, port, f"/proxy/{host}:{port}", "/", "")


async def found(gateway: Gateway, to: Route) -> Destination:
    return Destination(to, await gateway.policy.resolve(to))
