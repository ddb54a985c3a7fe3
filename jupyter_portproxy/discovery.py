"""What this machine's kernel knows of its sockets: who holds the other end of a connection.

Rule of this file: only questions to the kernel, never a packet to a service. Linux only (netlink `sock_diag`, sock_diag(7));
elsewhere nobody can be told and `peer_owner` says so.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys

SUPPORTED = sys.platform == "linux"

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_ANY_STATE = 0xFFFFFFFF
_NO_COOKIE = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI2s2s16s16sI2I")
_ANSWER = struct.Struct("=4B2s2s16s16sI2IIIIII")


class OwnerUnknown(Exception):
    """The kernel could not be asked, or knows no such socket."""


class SocketOwners:
    """Answers who holds the other end of our own connections. Holds one netlink socket; close it."""

    def __init__(self) -> None:
        self._netlink: socket.socket | None = None
        self._sequence = 0

    def peer_owner(self, local: str, local_port: int, remote: str, remote_port: int) -> int:
        """The uid of the socket at the other end of a loopback connection, accepted yet or not.

        Args:
            local: our end's IP address; `remote` is theirs.

        Raises:
            OwnerUnknown: no Linux, a sandbox without sock_diag, or the socket is in another network namespace.
        """
        if not SUPPORTED:
            raise OwnerUnknown("only Linux tells who owns a socket")
        try:
            return self._ask(remote, remote_port, local, local_port)
        except OSError as error:
            self.close()
            raise OwnerUnknown(str(error)) from error

    def close(self) -> None:
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def _ask(self, source: str, source_port: int, peer: str, peer_port: int) -> int:
        if self._netlink is None:
            self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
            self._netlink.settimeout(0.25)
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        self._netlink.send(_question(self._sequence, source, source_port, peer, peer_port))
        while True:
            answer = self._netlink.recv(4096)
            _, kind, _, sequence, _ = _HEADER.unpack_from(answer)
            if sequence == self._sequence:
                break
        if kind == _NLMSG_ERROR:
            code = -struct.unpack_from("=i", answer, _HEADER.size)[0]
            raise OSError(code or errno.ENOENT, os.strerror(code) if code else "no such socket")
        return int(_ANSWER.unpack_from(answer, _HEADER.size)[-2])


def _question(sequence: int, source: str, source_port: int, peer: str, peer_port: int) -> bytes:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    body = _REQUEST.pack(
        family,
        socket.IPPROTO_TCP,
        0,
        _ANY_STATE,
        source_port.to_bytes(2, "big"),
        peer_port.to_bytes(2, "big"),
        socket.inet_pton(family, source).ljust(16, b"\0"),
        socket.inet_pton(family, peer).ljust(16, b"\0"),
        0,
        _NO_COOKIE,
        _NO_COOKIE,
    )
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, sequence, 0) + body
