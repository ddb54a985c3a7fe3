"""The list of listeners: owners, processes, and what is left out of very many."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from jupyter_portproxy.services.listeners import MAX_SOCKETS, Listeners, ports_of_descendants

from ..support.cpu_time import takes_less_than
from ..support.upstreams import free_port

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who owns a socket")
root = pytest.mark.skipif(getattr(os, "getuid", lambda: 0)() != 0, reason="only root can start a process of another user")
LISTEN = """
import os, socket, sys
if len(sys.argv) > 1:
    os.setgid(65534), os.setuid(65534)
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
sys.stdin.read()
"""


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


@linux
@root
def test_another_users_listener_is_listed_as_theirs(listen):
    port, _ = listen("nobody")
    (found,) = [listener for listener in Listeners().refresh() if listener.port == port]
    assert (found.owner, found.mine) == ("nobody", False)


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
def test_psutil_finds_the_same_listeners():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (found,) = [listener for listener in Listeners(use_netlink=False).refresh() if listener.port == port]
    assert (found.addresses, found.process.pid) == (("127.0.0.1",), os.getpid())


@linux
@root
def test_of_very_many_sockets_ones_own_are_listed_first(very_many_sockets):
    listeners = Listeners()
    with socket.create_server(("127.0.0.1", 65535)):
        found = listeners.refresh()
    assert listeners.left_out >= very_many_sockets - MAX_SOCKETS
    assert sum(len(listener.addresses) for listener in found) == MAX_SOCKETS
    assert [listener.mine for listener in found if listener.port == 65535] == [True]


@linux
@root
def test_the_command_line_of_another_users_process_is_not_read(listen):
    """Its memory may be slow on purpose. This process is root, which could read it."""
    port, pid = listen("nobody")
    (found,) = [listener for listener in Listeners().refresh() if listener.port == port]
    assert (found.process.pid, found.process.command) == (pid, ())
    assert found.process.name.startswith("python")


@linux
def test_two_hundred_listeners_are_refreshed_in_under_20_ms():
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(200)]
    listeners = Listeners()
    is_quick = takes_less_than(0.02, listeners.refresh)
    for server in servers:
        server.close()
    assert is_quick


def test_the_ports_of_descendants_are_found():
    port = free_port()
    program = f"import socket; s = socket.create_server(('127.0.0.1', {port})); print(flush=True); input()"
    shell = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {program!r}])"
    with subprocess.Popen([sys.executable, "-c", shell], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert port in ports_of_descendants(os.getpid())
        assert ports_of_descendants(child.pid) == [port]
        child.communicate(b"\n")
    assert ports_of_descendants(child.pid) == []
