"""What a real kernel tells. Who holds the other end of a connection: our own sockets, those of another user (a process that this
file starts as uid 65534, which needs root), accepted and not yet accepted, and what the kernel does not know; that answer guards
the promise that no byte reaches another user's port, so a wrong uid is worse here than none. And who listens, with its process.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from jupyter_portproxy import discovery
from jupyter_portproxy.discovery import Listeners, OwnerUnknown, SocketOwners, unix_peer_owner

from .upstreams import free_port

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who owns a socket")
root = pytest.mark.skipif(getattr(os, "getuid", lambda: 0)() != 0, reason="only root can start a process of another user")
NOBODY = 65534
# Becomes another user, listens on argv[1] (argv[2]: accept, wait or defer), and prints the port.
LISTENER = """
import os, socket, sys
os.setgid(65534), os.setuid(65534)
host, how = sys.argv[1:]
listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
if ":" in host:
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
if how == "defer":
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
listener.bind((host, 0))
listener.listen(5)
print(listener.getsockname()[1], flush=True)
if how == "accept":
    kept = listener.accept()
    print("accepted", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def owners():
    made = SocketOwners()
    yield made
    made.close()


@contextlib.contextmanager
def connected(host: str, accept: bool = True) -> Iterator[tuple[socket.socket, socket.socket | None]]:
    """A loopback connection of our own: (our end, the accepted end or None)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((host, 0), family=family))
        ours = stack.enter_context(socket.create_connection(listener.getsockname()[:2]))
        yield ours, stack.enter_context(listener.accept()[0]) if accept else None


@contextlib.contextmanager
def another_users_listener(host: str, how: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-c", LISTENER, host, how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def ends(sock: socket.socket) -> tuple[str, int, str, int]:
    return (*sock.getsockname()[:2], *sock.getpeername()[:2])


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


# ---- who ----


@linux
@pytest.mark.parametrize("accept", [True, False], ids=["accepted", "not accepted"])
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.77", "::1"])
def test_our_own_listener_is_ours(owners, host, accept):
    with connected(host, accept) as (ours, theirs):
        assert owners.peer_owner(*ends(ours)) == os.getuid()
        if theirs is not None:
            assert owners.peer_owner(*ends(theirs)) == os.getuid(), "and so is the end that connected"


@linux
@root
@pytest.mark.parametrize("how", ["accept", "wait"], ids=["accepted", "not accepted"])
@pytest.mark.parametrize(
    ("host", "dialled"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1"), ("0.0.0.0", "127.0.0.9")]
)
def test_another_users_listener_is_theirs(owners, host, dialled, how):
    with another_users_listener(host, how) as (process, port), socket.create_connection((dialled, port)) as ours:
        if how == "accept":
            assert process.stdout.readline() == "accepted\n"
        assert owners.peer_owner(*ends(ours)) == NOBODY


@linux
@root
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_another_user_cannot_pass_for_root_by_deferring_the_accept(owners, host):
    """With TCP_DEFER_ACCEPT (Apache's default) the other end stays in SYN_RECV; the kernel then says uid 0, whoever listens."""
    with another_users_listener(host, "defer") as (_, port), socket.create_connection((host, port)) as ours:
        assert owners.peer_owner(*ends(ours)) == NOBODY


@linux
def test_who_listens_on_a_unix_socket_is_told_by_the_connection(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as ours:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        ours.connect(str(tmp_path / "s"))
        before = descriptors()
        assert unix_peer_owner(ours.fileno()) == os.getuid()
        assert descriptors() == before
        ours.send(b"it is open still")


@root
def test_connections_of_different_users_are_told_apart(owners):
    with another_users_listener("127.0.0.1", "wait") as (_, port), connected("127.0.0.1") as (ours, _):
        with socket.create_connection(("127.0.0.1", port)) as foreign:
            told = [owners.peer_owner(*ends(sock)) for sock in (foreign, ours) * 20]
        assert told == [NOBODY, os.getuid()] * 20


# ---- nobody knows ----


@linux
def test_a_connection_that_does_not_exist_has_no_known_owner(owners):
    with connected("127.0.0.1") as (ours, _):
        local, local_port, remote, remote_port = ends(ours)
        dead = free_port()
        for unknown in ((local, local_port, remote, dead), ("::1", local_port, "::1", remote_port), (remote, dead, local, dead)):
            with pytest.raises(OwnerUnknown):
                owners.peer_owner(*unknown)
        assert owners.peer_owner(local, local_port, remote, remote_port) == os.getuid(), "and the next question is answered"


@linux
def test_what_is_no_address_has_no_known_owner(owners):
    with pytest.raises(OwnerUnknown):
        owners.peer_owner("127.0.0.1", 1, "localhost", 2)


def test_nobody_can_be_told_where_the_kernel_does_not_tell(owners, monkeypatch):
    monkeypatch.setattr(discovery, "SUPPORTED", False)
    with pytest.raises(OwnerUnknown, match="only Linux"):
        owners.peer_owner("127.0.0.1", 1, "127.0.0.1", 2)


# ---- descriptors ----


@linux
def test_1000_questions_hold_one_descriptor_which_close_gives_back(owners):
    with connected("127.0.0.1") as (ours, _):
        before = descriptors()
        for _ in range(1000):
            assert owners.peer_owner(*ends(ours)) == os.getuid()
        assert descriptors() == before + 1
        owners.close()
        owners.close()
        assert descriptors() == before
        assert owners.peer_owner(*ends(ours)) == os.getuid(), "a closed one may be asked again"
        assert descriptors() == before + 1


@linux
def test_questions_without_an_answer_leave_no_descriptor(owners):
    before = descriptors()
    for _ in range(100):
        with pytest.raises(OwnerUnknown):
            owners.peer_owner("127.0.0.1", 1, "127.0.0.1", 2)
    owners.close()
    assert descriptors() == before


# ---- who listens ----

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
        started = time.thread_time()
        listeners.refresh()
        took.append(time.thread_time() - started)
    for server in servers:
        server.close()
    assert min(took) < 0.02
