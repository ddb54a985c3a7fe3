"""Destinations: ports and reservations, and the key by which the limits count. Services are tested in tests/services."""

from __future__ import annotations

import pytest

from jupyter_portproxy.errors import NotFound
from jupyter_portproxy.gateway.destinations import Destination
from jupyter_portproxy.protocol.urls import Route, ServiceRoute, Upstream

from ..support.gateways import route


async def test_a_reservation_leads_to_its_port(make_gateway):
    gateway = make_gateway()
    port = gateway.reservations.reserve("mine").port
    destination = await gateway.destinations.find_service(ServiceRoute("mine", "/proxy/service/mine", "/x", "?a"), wait=True)
    assert (destination.upstream.port, destination.route.target, destination.is_stable) == (port, "/x?a", False)
    with pytest.raises(NotFound):
        await gateway.destinations.find_service(ServiceRoute("other", "/proxy/service/other", "/", ""), wait=True)


async def test_a_port_is_a_destination_of_its_own(make_gateway):
    destination = await make_gateway().destinations.find_port(route("localhost", 15000))
    assert (destination.upstream.port, destination.service, destination.hooks) == (15000, None, None)


def test_what_is_one_port_to_the_limits():
    route = Route("localhost", 80, "/p", "/", "")
    plain = Destination(route, Upstream("localhost", 8050, ("127.0.0.1",)))
    assert plain.port == Destination(route, Upstream("localhost", 8050, ("127.0.0.1", "::1"))).port
    assert plain.port != Destination(route, Upstream("10.0.0.1", 8050, ("10.0.0.1",))).port
    sockets = [Destination(route, Upstream("localhost", 80, (), unix_socket=path)).port for path in ("/a", "/b")]
    assert sockets[0] != sockets[1]
    assert Destination(route, plain.upstream, counted_as=("project-1", 8050)).port == ("project-1", 8050)
