"""How names become addresses: what needs no lookup gets none, and what is looked up comes out as IP literals, each once and in
the order of the system. The system's own `getaddrinfo` is asked, or counted, or replaced where its answer is the point.
"""

from __future__ import annotations

import socket

import pytest

from jupyter_portproxy.protocol.urls import ip_literal
from jupyter_portproxy.system.addresses import ephemeral_ports, resolve_host


@pytest.fixture
def lookups(monkeypatch):
    """The names that were looked up; `lookups.answer` replaces what the system says."""

    class Lookups(list):
        answer = None

    queries, system = Lookups(), socket.getaddrinfo

    def getaddrinfo(host, port, *args, **more):
        queries.append((host, port))
        return system(host, port, *args, **more) if queries.answer is None else queries.answer

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return queries


async def test_localhost_is_loopback_without_a_lookup(lookups):
    assert await resolve_host("localhost", 80) == ("127.0.0.1", "::1")
    assert not lookups


@pytest.mark.parametrize(
    "literal", ["127.0.0.1", "127.0.0.9", "10.1.2.3", "::1", "::ffff:127.0.0.1", "2001:db8::1", "fe80::1", "0.0.0.0"]
)
async def test_a_literal_is_its_own_address_without_a_lookup(lookups, literal):
    assert await resolve_host(literal, 80) == (literal,)
    assert not lookups


@pytest.mark.parametrize("name", ["no-such-name.invalid", "a" * 64 + ".invalid", "a..b", "x" * 300, "\ud800.invalid"])
async def test_a_name_that_does_not_exist_has_no_address(name):
    assert await resolve_host(name, 80) == ()


async def test_the_machines_own_name_is_looked_up_once_and_becomes_literals(lookups):
    name = socket.gethostname()
    found = await resolve_host(name, 8050)
    assert lookups == [(name, 8050)]
    assert found and all(ip_literal(address.partition("%")[0]) for address in found)
    assert len(set(found)) == len(found)


async def test_numbers_that_only_the_c_library_takes_for_an_address_become_literals(lookups):
    assert await resolve_host("127.1", 80) == ("127.0.0.1",)
    assert await resolve_host("0x7f000001", 80) == ("127.0.0.1",)
    assert len(lookups) == 2


async def test_duplicates_are_removed_and_the_order_is_the_systems(lookups):
    tcp = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
    four, six = (socket.AF_INET, *tcp), (socket.AF_INET6, *tcp)
    lookups.answer = [
        (*six, ("2001:db8::2", 80, 0, 0)),
        (*four, ("10.0.0.2", 80)),
        (*six, ("2001:db8::2", 80, 0, 0)),
        (*four, ("10.0.0.1", 80)),
        (*four, ("10.0.0.2", 80)),
    ]
    assert await resolve_host("many.example", 80) == ("2001:db8::2", "10.0.0.2", "10.0.0.1")


def test_the_systems_own_ports_are_those_that_it_gives_out():
    assert len(ephemeral_ports()) > 1000
    for _ in range(20):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            assert listener.getsockname()[1] in ephemeral_ports()
