"""Socket owners on a real kernel: this user's sockets, those of another user (a process that this file starts as uid 65534,
which needs root), accepted and not yet accepted, and what the kernel does not know.

The answer guards the promise that no byte reaches another user's port: a wrong uid is worse than none.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from jupyter_portproxy.system.netlink import open_netlink
from jupyter_portproxy.system.socket_owners import (
    NoLocalSocket,
    NotAnswered,
    OwnerUnknown,
    SocketOwners,
    is_established,
    unix_peer_owner,
    user_id,
)

from ..support.kernels import OldNetlink, as_user
from ..support.upstreams import free_port

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who owns a socket")
root = pytest.mark.skipif(getattr(os, "getuid", lambda: 0)() != 0, reason="only root can start a process of another user")
NOBODY = 65534
# Becomes another user, listens on argv[1] (argv[2]: accept, wait, defer, full or device), and prints the port. Told to by a line,
# it accepts and closes its listening socket.
LISTENER = """
import os, socket, sys
host, how = sys.argv[1:]
os.setgid(65534), os.setuid(65534)
listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
if ":" in host:
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if how == "defer":
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
if how == "device":
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
listener.bind((host, 0))
listener.listen(0 if how == "full" else 5)
print(listener.getsockname()[1], flush=True)
if how == "accept":
    kept = listener.accept()
    print("accepted", flush=True)
if sys.stdin.readline():
    kept = listener.accept()
    listener.close()
    print("alone", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=[open_netlink, OldNetlink], ids=["this kernel", "older kernel"])
def owners(request):
    """Before accept(), this kernel may know the uid of a connection's other end; older ones say 0 for all."""
    made = SocketOwners(request.param)
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
@pytest.mark.parametrize("how", ["accept", "wait", "full", "device", "defer"])
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
@pytest.mark.parametrize("netlink", [open_netlink, OldNetlink])
def test_a_users_socket_differs_from_roots_and_others_before_accept(netlink):
    roots = socket.create_server(("127.0.0.1", 0))
    with (
        another_users_listener("127.0.0.1", "wait") as (_, port),
        as_user(65001),
        contextlib.closing(SocketOwners(netlink)) as owners,
    ):
        ours = socket.create_server(("127.0.0.1", 0))
        found = []
        for listening in (roots.getsockname(), ours.getsockname(), ("127.0.0.1", port)):
            with socket.create_connection(listening) as connection:
                found.append(owners.peer_owner(*ends(connection)))
    roots.close()
    ours.close()
    assert found == [0, 65001, NOBODY]


@linux
@root
@pytest.mark.parametrize("question", [2, 3, 4])
def test_a_listener_that_accepts_between_two_queries_keeps_the_connection(question):
    """Asked after that, the listener would be ours and the connection's other end still another user's."""
    with another_users_listener("127.0.0.1", "wait") as (process, port), contextlib.ExitStack() as stack:

        def hand_over(number: int) -> None:
            if number == question:
                process.stdin.write("\n")
                process.stdin.flush()
                assert process.stdout.readline() == "alone\n"
                stack.enter_context(socket.create_server(("127.0.0.1", port)))

        owners = stack.enter_context(contextlib.closing(SocketOwners(functools.partial(OldNetlink, hand_over))))
        ours = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert owners.peer_owner(*ends(ours)) == NOBODY


@linux
@root
def test_where_two_users_listen_neither_is_named(owners):
    """Only root can make that (fchown): else the kernel lets one user listen on an address and on all addresses, no two."""
    with socket.socket() as every, socket.socket() as one:
        for listener in (every, one):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        every.bind(("0.0.0.0", 0))
        one.bind(("127.0.0.1", every.getsockname()[1]))
        one.listen()
        every.listen()
        os.fchown(one.fileno(), NOBODY, -1)
        with socket.create_connection(one.getsockname()) as ours, pytest.raises(OwnerUnknown, match="several users"):
            owners.peer_owner(*ends(ours))


@linux
@root
@pytest.mark.parametrize("first", ["0.0.0.0", "127.0.0.1"])
@pytest.mark.parametrize("option", [socket.SO_REUSEADDR, getattr(socket, "SO_REUSEPORT", 0)])
def test_no_two_users_listen_on_one_port(first, option):
    """What the answer for a listener rests on. A kernel that allows it needs a look at all listeners of the port."""
    with as_user(NOBODY):
        theirs = socket.socket()
    with theirs, socket.socket() as ours:
        for listener in (theirs, ours):
            listener.setsockopt(socket.SOL_SOCKET, option, 1)
        theirs.bind((first, 0))
        theirs.listen()
        with pytest.raises(OSError, match="in use"):
            ours.bind(("127.0.0.1", theirs.getsockname()[1]))


@linux
@pytest.mark.parametrize("how", ["closed", "reset", "listener closed"])
def test_a_connection_that_has_ended_has_no_known_owner(owners, how):
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as ours:
        its_ends = ends(ours)
        assert is_established(ours.fileno())
        if how == "listener closed":
            listener.close()
        else:
            theirs, _ = listener.accept()
            if how == "reset":
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs.close()
        with pytest.raises(OwnerUnknown) as caught:
            owners.peer_owner(*its_ends)
        assert not isinstance(caught.value, NoLocalSocket)
        assert not is_established(ours.fileno())


@linux
def test_a_connection_to_a_unix_socket_shows_its_listeners_owner(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as ours:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        ours.connect(str(tmp_path / "s"))
        before = descriptors()
        assert unix_peer_owner(ours.fileno()) == os.getuid()
        assert descriptors() == before
        ours.send(b"it is open still")


@root
def test_connections_of_different_users_are_distinguished(owners):
    with another_users_listener("127.0.0.1", "wait") as (_, port), connected("127.0.0.1") as (ours, _):
        with socket.create_connection(("127.0.0.1", port)) as foreign:
            found = [owners.peer_owner(*ends(sock)) for sock in (foreign, ours) * 20]
        assert found == [NOBODY, os.getuid()] * 20


# ---- no owner is known ----


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


def test_no_owner_is_known_where_the_kernel_does_not_answer():
    with pytest.raises(NotAnswered, match="only Linux"):
        SocketOwners(supported=False).peer_owner("127.0.0.1", 1, "127.0.0.1", 2)


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


def test_the_uid_of_a_user_of_this_machine():
    assert user_id("root") == 0
    assert user_id("not-a-user") is user_id("") is user_id("a\0b") is None
