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
from jupyter_portproxy.gateway.destinations import Destination, DestinationFinder
from jupyter_portproxy.gateway.gateway import Gateway
from jupyter_portproxy.gateway.limits import Limits
from jupyter_portproxy.gateway.logins import Logins
from jupyter_portproxy.gateway.outbound import OutboundBuilder
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
    settings: PortProxy, owners: SocketOwners | None = None, on_activity: Callable[[], None] = lambda: None, **arguments
) -> Gateway:
    """A gateway without templates; `arguments` are those of Policy."""
    policy = Policy(settings, owners=owners, **arguments)
    connector, counters, ports = Connector(policy, settings.connect_timeout), Counters(), PortLeases(policy.ports)
    is_ready, reservations = Probe(policy, connector).is_ready, Reservations(ports)
    services = ServiceManager(ports, lambda name, template: f"/{name}", "/", is_ready, Path("unused"), {})
    return Gateway(
        settings=settings,
        policy=policy,
        limits=Limits(settings, counters.count_refusal),
        counters=counters,
        connector=connector,
        outbound=OutboundBuilder(settings, policy, "/"),
        destinations=DestinationFinder(policy, services, reservations, None, LOG),
        services=services,
        reservations=reservations,
        logins=Logins(LOG),
        on_activity=on_activity,
    )


@pytest.fixture
def make_gateway():
    """Builds gateways from traits and closes them; `netlink` opens what is asked for owners."""
    made = []

    def build(
        netlink=open_netlink,
        base_url="/",
        own_port=lambda: None,
        on_activity=lambda: None,
        user_ports=None,
        port_rules=None,
        folder_rules=None,
        **traits,
    ):
        settings, owners = PortProxy(config=Config({"PortProxy": traits})), SocketOwners(netlink)
        files = {"user_ports": user_ports, "port_rules": port_rules, "folder_rules": folder_rules}
        made.append(build_gateway(settings, owners, on_activity, base_url=base_url, own_port=own_port, **files))
        return made[-1]

    yield build
    for gateway in made:
        gateway.close()
        gateway.policy.close()


def open_exchange(gateway: Gateway, method: str, to: Destination, fields: Fields, client: Client = CLIENT) -> Exchange:
    """Starts an exchange with a destination."""
    return gateway.start(gateway.outbound.build(method, to, fields, client))


def route(host: str, port: int) -> Route:
    return Route(host, port, f"/proxy/{host}:{port}", "/", "")


async def found(gateway: Gateway, to: Route) -> Destination:
    return await gateway.destinations.find_port(to)
