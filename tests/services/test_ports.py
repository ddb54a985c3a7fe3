"""A port is lent to one at a time; a reservation ends with its time or its listener."""

from __future__ import annotations

import socket
import time
from dataclasses import replace

import pytest

from jupyter_portproxy.errors import BadInput, NotFound, ServiceFailed
from jupyter_portproxy.services import ports as ports_module
from jupyter_portproxy.services.hooks import Endpoint
from jupyter_portproxy.services.ports import EndpointLeases, PortLeases, Reservations, is_free
from jupyter_portproxy.services.templates import load

from ..support.upstreams import free_port


def test_every_port_is_lent_once():
    first = free_port(range(31000, 32000))
    ports = PortLeases([range(first, first + 1)])
    assert ports.lease() == first
    with pytest.raises(ServiceFailed):
        ports.lease()
    ports.release(first)
    assert ports.lease() == first


def test_a_port_that_a_project_claims_is_lent_to_that_project_alone():
    first = free_port(range(31000, 32000))
    ports = PortLeases([range(first, first + 1)])
    ports.set_claims(bytes(first) + b"\1" + bytes(65535 - first))
    with pytest.raises(ServiceFailed, match="No allowed port is free"):
        ports.lease()
    assert ports.lease(lambda port: port == first) == first
    ports.release(first)
    ports.set_claims(bytes(65536))
    assert ports.lease() == first


def test_the_last_free_port_of_a_range_is_found():
    last = free_port(range(31000, 31400))
    for _ in range(20):
        ports = PortLeases([range(31000, 31200), range(31200, 31400)])
        ports._leased = set(range(31000, 31400)) - {last}
        assert ports.lease() == last


def test_a_port_that_is_allowed_by_itself_is_not_lent_before_others():
    single = free_port(range(31000, 32000))
    ports = PortLeases([range(single, single + 1), range(10000, 20001)])
    leased = []
    for _ in range(20):
        leased.append(ports.lease())
        ports.release(leased[-1])
    assert leased.count(single) < 5


@pytest.mark.parametrize("ranges", [[], [range(80, 81)], [range(1, 1024)]])
def test_privileged_ports_are_not_lent(ranges):
    with pytest.raises(ServiceFailed, match="No allowed port is free"):
        PortLeases(ranges).lease()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_port_with_a_listener_is_not_free(family):
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.create_server((host, 0), family=family) as server:
        assert not is_free(server.getsockname()[1])


def test_a_reservation_ends_with_its_time(monkeypatch):
    reservations = Reservations(PortLeases([range(10000, 20001)]))
    reservation = reservations.reserve("a", 5)
    assert reservations.get("a") is reservation
    now = time.monotonic()
    monkeypatch.setattr(ports_module.time, "monotonic", lambda: now + 6)
    assert reservations.list() == []


@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_a_clock_that_jumps_ends_no_reservation(monkeypatch, jump):
    reservations = Reservations(PortLeases([range(10000, 20001)]))
    reservation = reservations.reserve("a", 5)
    now = time.time() + jump
    monkeypatch.setattr(ports_module.time, "time", lambda: now)
    assert reservations.get("a") is reservation and now < reservation.until <= now + 5


def test_a_reservation_that_is_used_outlives_its_time_and_ends_with_its_listener(monkeypatch):
    reservations = Reservations(PortLeases([range(10000, 20001)]))
    reservation = reservations.reserve("a", 5)
    with socket.create_server(("127.0.0.1", reservation.port)):
        assert reservations.list()[0].used
        now = time.monotonic()
        monkeypatch.setattr(ports_module.time, "monotonic", lambda: now + 600)
        assert reservations.get("a") is reservation
    assert reservations.get("a") is None


@pytest.mark.parametrize(
    ("name", "seconds"), [("", 1), ("a/b", 1), ("15000", 1), (None, 1), ("a", 0), ("a", -1), ("a", 1e9), ("a", True), ("a", "1")]
)
def test_bad_input_is_refused(name, seconds):
    with pytest.raises(BadInput, match=r"Invalid (reservation name|time): "):
        Reservations(PortLeases([range(10000, 20001)])).reserve(name, seconds)


def test_a_name_is_taken_once_and_given_back():
    reservations = Reservations(PortLeases([range(10000, 20001)]))
    reservations.reserve("a")
    with pytest.raises(BadInput, match="reserved already"):
        reservations.reserve("a")
    reservations.release("a")
    with pytest.raises(NotFound):
        reservations.release("a")


def test_a_fixed_port_is_leased_once_and_only_if_it_may_be_used():
    port = free_port(range(31000, 32000))
    ports = PortLeases([range(10000, 20001)], lambda number: number != port + 1)
    endpoints = EndpointLeases(ports)
    template = load("web", {"command": ["x"], "port": port})
    assert endpoints.lease("web", template) == Endpoint(port)
    with pytest.raises(ServiceFailed, match=f"Port {port} of the service 'other' is in use by another service, or reserved"):
        endpoints.lease("other", template)
    endpoints.release(Endpoint(port))
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(ServiceFailed, match=f"Port {port} of the service 'web' is in use by another program"),
    ):
        endpoints.lease("web", template)
    with pytest.raises(
        ServiceFailed, match=r" of the service 'web' is not allowed on this server \(c\.PortProxy\.allowed_ports\)"
    ) as caught:
        endpoints.lease("web", replace(template, port=port + 1))
    assert caught.value.message.startswith(f"Port {port + 1} of ") and "or leave it out" in caught.value.hint
    ports.set_claims(bytes(port) + b"\1" + bytes(65535 - port))
    with pytest.raises(ServiceFailed, match=f"Port {port} of the service 'web' is not allowed"):
        endpoints.lease("web", template)


def test_what_listens_nowhere_takes_no_port():
    ports = PortLeases([range(10000, 20001)])
    assert EndpointLeases(ports).lease("worker", load("worker", {"command": ["x"], "protocol": "none"})) == Endpoint(0)
    assert ports._leased == set()
