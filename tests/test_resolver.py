"""Names become IP literals, once."""

from __future__ import annotations

import socket

import pytest

from jupyter_portproxy.resolver import addresses_of
from jupyter_portproxy.routes import ip_literal


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("localhost", ("127.0.0.1", "::1")),
        ("127.0.0.9", ("127.0.0.9",)),
        ("::1", ("::1",)),
        ("nowhere.invalid", ()),
        ("a..b", ()),
        ("x" * 300, ()),
    ],
)
async def test_a_host_becomes_addresses(host, addresses):
    assert await addresses_of(host, 80) == addresses


async def test_a_name_becomes_literals_each_once():
    found = await addresses_of(socket.gethostname(), 80)
    assert len(set(found)) == len(found)
    assert all(ip_literal(address.partition("%")[0]) for address in found)
