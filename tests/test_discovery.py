"""What the kernel tells: owners of connections, listeners and their processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from jupyter_portproxy import discovery
from jupyter_portproxy.discovery import Listeners, OwnerUnknown, SocketOwners

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who owns a socket")
LISTEN = """
import os, socket, sys
if len(sys.argv) > 1:
    os.setgid(65534), os.setuid(65534)
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def owners():
    owners = SocketOwners()
    yield owners
    owners.close()


@pytest.fixture
def listen():
    """Starts a listening process, as another user if asked; returns (port, pid)."""
    running = []

    def start(*arguments: str):
        process = subprocess.Popen([sys.executable, "-c", LISTEN, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        running.append(process)
        return int(process.stdout.readline()), process.pid

    yield start
    for process in running:
        process.communicate()


def connected(port: int, host: str = "127.0.0.1"):
    client = socket.create_connection((host, port))
    return client, client.getsockname()[:2], client.getpeername()[:2]


@linux
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_owner_is_known_before_and_after_accept(owners, host):
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        client, local, remote = connected(server.getsockname()[1], host)
        with client:
            assert owners.peer_owner(*local, *remote) == os.getuid()
            with server.accept()[0]:
                assert owners.peer_owner(*local, *remote) == os.getuid()


@linux
@pytest.mark.skipif(os.name == "posix" and os.getuid() != 0, reason="only root can start another user's process")
def test_another_users_listener_is_told_apart(owners, listen):
    port, _ = listen("nobody")
    client, local, remote = connected(port)
    with client:
        assert owners.peer_owner(*local, *remote) == 65534
    (found,) = [listener for listener in Listeners().refresh() if listener.port == port]
    assert (found.owner, found.mine) == ("nobody", False)


@linux
def test_a_connection_that_is_none_has_no_owner(owners):
    with pytest.raises(OwnerUnknown):
        owners.peer_owner("127.0.0.1", 1, "127.0.0.1", 2)


@linux
def test_a_thousand_questions_take_one_descriptor_and_give_it_back(owners):
    with socket.create_server(("127.0.0.1", 0)) as server:
        client, local, remote = connected(server.getsockname()[1])
        with client:
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(1000):
                owners.peer_owner(*local, *remote)
            assert len(os.listdir("/proc/self/fd")) == before + 1
            owners.close()
            assert len(os.listdir("/proc/self/fd")) == before
            assert owners.peer_owner(*local, *remote) == os.getuid()


def test_a_listener_has_its_process_and_disappears_with_it(listen):
    listeners = Listeners()
    port, pid = listen()
    (found,) = [listener for listener in listeners.refresh() if listener.port == port]
    assert (found.addresses, found.mine, found.process.pid) == (("127.0.0.1",), True, pid)
    assert found.process.command[1:] == ("-c", LISTEN)
    assert 0 <= time.time() - found.process.since < 30


def test_a_listener_that_is_gone_is_not_listed():
    listeners = Listeners()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port in {listener.port for listener in listeners.refresh()}
    assert port not in {listener.port for listener in listeners.refresh()}


def test_one_port_on_two_addresses_is_one_listener():
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with socket.create_server(("::1", port), family=socket.AF_INET6):
            (found,) = [listener for listener in Listeners().refresh() if listener.port == port]
    assert found.addresses == ("127.0.0.1", "::1")


@linux
def test_psutil_finds_the_same_listeners(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(discovery, "SUPPORTED", False)
        (found,) = [listener for listener in Listeners().refresh() if listener.port == port]
    assert (found.addresses, found.process.pid) == (("127.0.0.1",), os.getpid())


@linux
def test_two_hundred_listeners_are_refreshed_in_under_20_ms():
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(200)]
    listeners = Listeners()
    took = []
    for _ in range(5):
        started = time.perf_counter()
        listeners.refresh()
        took.append(time.perf_counter() - started)
    for server in servers:
        server.close()
    assert min(took) < 0.02
