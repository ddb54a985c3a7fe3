"""Which user holds the other end of a connection within this machine, and who listens at an address.

Linux answers by sock_diag(7); elsewhere the questions raise NotAnswered.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Callable
from functools import lru_cache

from .netlink import ESTABLISHED, LISTENING, NEW_SYN_RECEIVED, SUPPORTED, SYN_RECEIVED, SocketRecord, find_socket, open_netlink

# The other states: TCP_DEFER_ACCEPT, a full backlog, or an ACK in transit.
_NOT_ACCEPTED = (ESTABLISHED, SYN_RECEIVED, NEW_SYN_RECEIVED)
_CREDENTIALS = struct.Struct("=3i")  # of SO_PEERCRED: pid, uid, gid


class OwnerUnknown(Exception):
    """The kernel's answers do not name one user."""


class NotAnswered(OwnerUnknown):
    """The kernel gives no answer: not Linux, or a sandbox without sock_diag."""


class NoLocalSocket(OwnerUnknown):
    """The connection is established, but its other end is in another network namespace or on another machine."""


class SocketOwners:
    """Finds the owners of sockets. Holds one netlink socket; close it.

    The kernel describes a connection that is not accepted yet with inode 0. Its uid is the listener's on Linux 6.18, and 0,
    which is root's, on 6.1 and older. So a uid counts only with an inode; without one the listener's uid counts.

    Args:
        open_netlink: makes the netlink socket.
    """

    def __init__(self, open_netlink: Callable[[], socket.socket] = open_netlink, supported: bool = SUPPORTED) -> None:
        self._open_netlink, self._supported = open_netlink, supported
        self._netlink: socket.socket | None = None
        self._sequence = 0

    def peer_owner(self, local: str, local_port: int, remote: str, remote_port: int) -> int:
        """The uid of the socket at the other end of a connection within this machine, accepted yet or not.

        Args:
            local: IP address of this process's end; `remote` is the other's.

        Raises:
            NoLocalSocket: the kernel forwards its packets (DNAT).
            NotAnswered
            OwnerUnknown: several users listen there, or the connection has ended.
        """
        peer = self._connected(remote, remote_port, local, local_port)
        if peer is not None and peer.inode:
            return peer.uid
        owners = self.listener_owners(remote, remote_port)
        # Again: if it is still not accepted, the listener that will accept it was among those just seen.
        peer = self._connected(remote, remote_port, local, local_port)
        if peer is not None and peer.inode:
            return peer.uid
        if peer is None and self._connected(local, local_port, remote, remote_port) is None:
            raise NotAnswered("the system reports neither end of the connection")
        if peer is None and not owners:
            raise NoLocalSocket("it is forwarded by the packet filter")
        if peer is None or peer.state not in _NOT_ACCEPTED or not owners:
            raise OwnerUnknown("no socket that is open is the other end of the connection")
        if len(owners) > 1:
            raise OwnerUnknown("several users listen there")
        return owners.pop()

    def listener_owners(self, address: str, port: int) -> set[int]:
        """The uids of the sockets that listen at a local address: on the address itself, and on all addresses.

        Of sockets with SO_REUSEPORT one is enough: the kernel lets only one user share a port (socket(7)).

        Raises:
            NotAnswered
        """
        # An IPv4-mapped address (::ffff:127.0.0.1) stands for the IPv4 address.
        plain = str(getattr(ipaddress.ip_address(address), "ipv4_mapped", None) or address)
        unspecified = "::" if ":" in plain else "0.0.0.0"  # noqa: S104 (a question, nothing is bound)
        records = [self._find(listening, port, unspecified, 0) for listening in (plain, unspecified)]
        return {record.uid for record in records if record is not None and record.state == LISTENING}

    def close(self) -> None:
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def _connected(self, source: str, source_port: int, peer: str, peer_port: int) -> SocketRecord | None:
        """One end of a connection; where there is none, the kernel answers with the listening socket."""
        record = self._find(source, source_port, peer, peer_port)
        return record if record is not None and record.state != LISTENING else None

    def _find(self, source: str, source_port: int, peer: str, peer_port: int) -> SocketRecord | None:
        if not self._supported:
            raise NotAnswered("only Linux reports the owners of sockets")
        try:
            if self._netlink is None:
                self._netlink = self._open_netlink()
            self._sequence = (self._sequence + 1) & 0xFFFFFFFF
            return find_socket(self._netlink, self._sequence, source, source_port, peer, peer_port)
        except OSError as error:
            self.close()
            raise NotAnswered(str(error)) from error


def is_established(fd: int) -> bool:
    """True while neither end of this process's TCP connection has closed or reset it. Linux only."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, os.dup(fd)) as sock:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED


def unix_peer_owner(fd: int) -> int:
    """The uid that listened at the other end of a connection to a Unix socket (SO_PEERCRED). Linux only."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, os.dup(fd)) as sock:
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])


@lru_cache(maxsize=256)
def user_name(uid: int) -> str:
    """The name of a user of this machine; `uid 1234` if it has none."""
    import pwd  # POSIX only, as is every uid

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def user_id(name: str) -> int | None:
    """The uid of a user of this machine; None if there is no such user."""
    try:
        return _find_user_id(name)
    except (KeyError, ImportError, ValueError):  # unknown, not POSIX, or with a null character
        return None


@lru_cache(maxsize=256)
def _find_user_id(name: str) -> int:
    import pwd  # POSIX only, as is every uid

    return pwd.getpwnam(name).pw_uid
