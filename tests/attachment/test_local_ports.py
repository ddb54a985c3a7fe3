"""The ports of an agent's machine: who may be reached there, and the sentence about what may not."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from jupyter_portproxy.attachment.local_ports import LocalPorts
from jupyter_portproxy.errors import Forbidden, Unreachable
from jupyter_portproxy.system.socket_owners import NoLocalSocket, NotAnswered, SocketOwners

from ..support.upstreams import free_port, mirror, serve


class OtherOwner(SocketOwners):
    """A kernel that gives one answer."""

    def __init__(self, answer) -> None:
        super().__init__()
        self.answer = answer

    def peer_owner(self, *args):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def listener_owners(self, *args):
        if isinstance(self.answer, Exception):
            raise self.answer
        return {self.answer}


@pytest.fixture
def ports(jp_asyncio_loop):
    made = LocalPorts("n0123")
    yield made
    made.close()


async def test_a_port_of_the_own_user_is_reached(ports):
    async with serve(mirror) as upstream:
        assert await ports.find_error(upstream.port) == "" and upstream.connections == 0
        stream = await ports.dial(upstream.port)
        await stream.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await stream.read_bytes(8) == b"HTTP/1.1"
        stream.close()


async def test_a_port_on_which_nothing_listens(ports):
    port = free_port()
    assert await ports.find_error(port) == f"Nothing listens on port {port} of n0123."
    with pytest.raises(Unreachable) as caught:
        await ports.dial(port)
    assert caught.value.message == f"Nothing listens on port {port} of n0123."


async def test_an_ipv6_port_is_reached(ports):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        port = listening.getsockname()[1]
        assert await ports.find_error(port) == ""
        (await ports.dial(port)).close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names the owners of sockets")
async def test_a_port_of_another_user_is_not_reached(jp_asyncio_loop):
    ports = LocalPorts("n0123", owners=OtherOwner(os.getuid() + 4321))
    async with serve(mirror) as upstream:
        sentence = f"Port {upstream.port} of n0123 belongs to another user there (uid {os.getuid() + 4321})."
        assert await ports.find_error(upstream.port) == sentence
        with pytest.raises(Forbidden) as caught:
            await ports.dial(upstream.port)
        assert caught.value.message == sentence and upstream.requests == []
        lax = LocalPorts("n0123", any_owner=True, owners=OtherOwner(os.getuid() + 4321))
        assert await lax.find_error(upstream.port) == ""
        (await lax.dial(upstream.port)).close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names the owners of sockets")
@pytest.mark.parametrize("answer", [NotAnswered("no netlink"), NoLocalSocket("it is forwarded by the packet filter")])
async def test_an_unknown_owner_is_not_reached(jp_asyncio_loop, answer):
    ports = LocalPorts("n0123", owners=OtherOwner(answer))
    async with serve(mirror) as upstream:
        with pytest.raises(Forbidden, match=f"does not name the owner of port {upstream.port}: .* attach with --any-owner"):
            await ports.dial(upstream.port)
        assert "does not name the owner" in await ports.find_error(upstream.port)
