"""sock_diag(7): the Linux kernel's records of TCP sockets, over netlink. No packet is sent to any service."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

SUPPORTED = sys.platform == "linux"
TIMEOUT = 0.25  # s
ESTABLISHED, SYN_RECEIVED, LISTENING, NEW_SYN_RECEIVED = 1, 3, 10, 12  # TCP states, as in the kernel's tcp_states.h

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLM_F_DUMP = 0x300
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_LOOPBACK_INTERFACE = 1  # LOOPBACK_IFINDEX: where traffic within the machine arrives
_ANY_STATE = 0xFFFFFFFF
_NO_COOKIE = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_REQUEST = struct.Struct("=BBBxI36sI2I")  # inet_diag_req_v2
_ENDS = struct.Struct(">HH16s16s")  # in it: ports and addresses of source and peer
_RESPONSE = struct.Struct("=4B2s2s16s16sI2IIIIII")  # inet_diag_msg


class SocketRecord(NamedTuple):
    """A socket as the kernel describes it. `inode` is 0 while no process has it: not accepted yet, or closed."""

    state: int
    address: str
    port: int
    uid: int
    inode: int


def open_netlink() -> socket.socket:
    """A socket for the functions below."""
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
    netlink.settimeout(TIMEOUT)
    return netlink


def find_socket(
    netlink: socket.socket, sequence: int, source: str, source_port: int, peer: str, peer_port: int
) -> SocketRecord | None:
    """The socket of a connection. Where there is none, or with port 0 of the peer: the socket that listens at `source`.

    Args:
        sequence: of the request; responses to earlier ones are skipped.

    Returns:
        None if there is no such socket.

    Raises:
        OSError
    """
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    ends = _ENDS.pack(source_port, peer_port, socket.inet_pton(family, source), socket.inet_pton(family, peer))
    netlink.send(_request(_NLM_F_REQUEST, sequence, family, _ANY_STATE, ends, _LOOPBACK_INTERFACE))
    while True:
        response = netlink.recv(4096)
        _, kind, _, response_sequence, _ = _HEADER.unpack_from(response)
        if response_sequence == sequence:
            break
    if kind != _NLMSG_ERROR:
        return _record(response, _HEADER.size)
    code = -struct.unpack_from("=i", response, _HEADER.size)[0]
    if code == errno.ENOENT:
        return None
    raise OSError(code, os.strerror(code))


def listening_sockets(netlink: socket.socket, family: int) -> Iterator[SocketRecord]:
    """Every listening socket of one address family (the dump form of the request)."""
    netlink.send(_request(_NLM_F_REQUEST | _NLM_F_DUMP, family, family, 1 << LISTENING))
    while True:
        response, at = netlink.recv(1 << 16), 0
        while at < len(response):
            length, kind, *_ = _HEADER.unpack_from(response, at)
            if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                return
            yield _record(response, at + _HEADER.size)
            at += (length + 3) & ~3


def _request(flags: int, sequence: int, family: int, states: int, ends: bytes = b"", interface: int = 0) -> bytes:
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, states, ends, interface, _NO_COOKIE, _NO_COOKIE)
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, flags, sequence, 0) + body


def _record(response: bytes, at: int) -> SocketRecord:
    family, state, _, _, port, _, address, *_, uid, inode = _RESPONSE.unpack_from(response, at)
    address = socket.inet_ntop(family, address[: 4 if family == socket.AF_INET else 16])
    return SocketRecord(state, address, int.from_bytes(port, "big"), uid, inode)
