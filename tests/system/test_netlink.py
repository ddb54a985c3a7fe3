"""sock_diag(7) on a real kernel."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from jupyter_portproxy.system.netlink import ESTABLISHED, LISTENING, find_socket, listening_sockets, open_netlink

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


@pytest.fixture
def netlink():
    with open_netlink() as sock:
        yield sock


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_a_listening_socket_is_found_and_listed(netlink, host, family):
    with socket.create_server((host, 0), family=family) as server:
        port, inode = server.getsockname()[1], os.fstat(server.fileno()).st_ino
        expected = (LISTENING, host, port, os.getuid(), inode)
        assert find_socket(netlink, 1, host, port, "::" if ":" in host else "0.0.0.0", 0) == expected
        assert expected in list(listening_sockets(netlink, family))
    assert find_socket(netlink, 2, host, port, "::" if ":" in host else "0.0.0.0", 0) is None


def test_a_connection_is_found_by_its_ends(netlink):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        record = find_socket(netlink, 1, *ours.getsockname(), *ours.getpeername())
        assert (record.state, record.inode) == (ESTABLISHED, os.fstat(ours.fileno()).st_ino)


def test_a_host_name_is_not_an_address(netlink):
    with pytest.raises(OSError, match="illegal IP address"):
        find_socket(netlink, 1, "localhost", 1, "127.0.0.1", 2)
