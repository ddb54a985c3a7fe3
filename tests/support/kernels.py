"""Machines unlike this one: kernels that answer otherwise, and other users with very many sockets.

What another kernel answers is played: the real answers of sock_diag(7) with the bytes that differ rewritten.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

_UID, _INODE, _END = 80, 84, 88  # offsets in a netlink message with one inet_diag_msg
_SPORT = 24  # in one with an inet_diag_req_v2
_SOCK_DIAG_BY_FAMILY = 20
_VERY_MANY = 4000
_LISTEN = f"""
import os, resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({_VERY_MANY + 50}, {_VERY_MANY + 50}))
os.setgid(65534), os.setuid(65534)
kept = [socket.create_server((f"127.0.{{1 + i // 250}}.{{1 + i % 250}}", 20000 + i)) for i in range({_VERY_MANY})]
print("up", flush=True)
sys.stdin.read()
"""


class OldNetlink(socket.socket):
    """Linux 6.1 and older: a socket that no process has is uid 0's. `make old-kernel` asks the real one."""

    def __init__(self, at_question: Callable[[int], None] = lambda number: None) -> None:
        super().__init__(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 4)
        self.settimeout(5)
        self._at_question, self._asked = at_question, 0

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        """`at_question` is called before each question, with its number from 1."""
        self._asked += 1
        self._at_question(self._asked)
        return super().send(data, flags)

    def recv(self, size: int, flags: int = 0) -> bytes:
        answer = super().recv(size, flags)
        kind = int.from_bytes(answer[4:6], "little")
        if kind == _SOCK_DIAG_BY_FAMILY and answer[_INODE:_END] == bytes(4):
            answer = answer[:_UID] + bytes(4) + answer[_INODE:]
        return answer


class ForwardingNetlink(OldNetlink):
    """A packet filter with a DNAT rule for the port that is asked for first: the kernel knows no socket of this machine there."""

    def __init__(self) -> None:
        super().__init__()
        self._port = b""

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        port = data[_SPORT : _SPORT + 2]
        self._port = self._port or port
        return super().send(data[:_SPORT] + b"\0\1" + data[_SPORT + 2 :] if port == self._port else data, flags)


@pytest.fixture
def very_many_sockets() -> Iterator[int]:
    """Another user listens on as many sockets. Needs root."""
    with subprocess.Popen([sys.executable, "-c", _LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"up\n"
        yield _VERY_MANY
        process.communicate()


@contextlib.contextmanager
def as_user(uid: int) -> Iterator[None]:
    """This process is that user's for a while; it begins as root."""
    os.setresuid(uid, uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
