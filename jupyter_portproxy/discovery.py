"""What this machine's kernel knows of its sockets: who holds the other end of a connection, and who listens where.

Rule of this file: only questions to the kernel, never a packet to a service. Linux answers by netlink (sock_diag(7));
elsewhere psutil lists the listeners, and nobody can tell who holds a connection's other end.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import psutil

SUPPORTED = sys.platform == "linux"

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLM_F_DUMP = 0x300
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_LISTEN = 10
_HALF_OPEN = (3, 12)  # TCP_SYN_RECV, TCP_NEW_SYN_RECV
_ANY_STATE = 0xFFFFFFFF
_NO_COOKIE = 0xFFFFFFFF
_CREDENTIALS = struct.Struct("=3i")  # of SO_PEERCRED: pid, uid, gid
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI2s2s16s16sI2I")
_ANSWER = struct.Struct("=4B2s2s16s16sI2IIIIII")


class Socket(NamedTuple):
    """A listening TCP socket. `inode` is 0 and `uid` None where the system does not tell; `pid` is None until asked for."""

    address: str
    port: int
    uid: int | None
    inode: int
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Process:
    """A process, as far as this user may see it. `since` is its start in seconds since 1970."""

    pid: int
    name: str
    command: tuple[str, ...]
    since: float


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP port that somebody listens on.

    Attributes:
        addresses: IP literals it is bound to, sorted.
        owner: the user's name; empty where the system does not tell.
        mine: True if the owner is this process's own user.
        process: None if it is another user's, or hidden.
    """

    port: int
    addresses: tuple[str, ...]
    owner: str
    mine: bool
    process: Process | None


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
            state, owner = self._ask(remote, remote_port, local, local_port)
            if state in _HALF_OPEN:
                # Not yet a socket of its own (TCP_DEFER_ACCEPT, or an ACK on its way): the kernel says uid 0 for it.
                nobody = "::" if ":" in remote else "0.0.0.0"  # noqa: S104 (a question, nothing is bound)
                state, owner = self._ask(remote, remote_port, nobody, 0)
                if state != _LISTEN:
                    raise OwnerUnknown("the connection is not established")
            return owner
        except OSError as error:
            self.close()
            raise OwnerUnknown(str(error)) from error

    def listener_owner(self, address: str, port: int) -> int | None:
        """The uid of who listens on a local address; None if nobody does, or if the kernel does not tell."""
        nobody = "::" if ":" in address else "0.0.0.0"  # noqa: S104 (a question, nothing is bound)
        try:
            state, owner = self._ask(address, port, nobody, 0)
        except OSError:
            return None
        return owner if state == _LISTEN else None

    def close(self) -> None:
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def _ask(self, source: str, source_port: int, peer: str, peer_port: int) -> tuple[int, int]:
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
        found = _ANSWER.unpack_from(answer, _HEADER.size)
        return found[1], found[-2]


def unix_peer_owner(fd: int) -> int:
    """The uid of who listens at the other end of our connection to a Unix socket, as it was when they began. Linux only."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, os.dup(fd)) as sock:
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])


class Listeners:
    """Lists who listens on this machine. What it has learnt of a socket's process it keeps until the socket is gone."""

    def __init__(self) -> None:
        self._pids: dict[int, int | None] = {}
        self._processes: dict[int, Process] = {}

    def refresh(self) -> list[Listener]:
        """All TCP listeners, by port. Sockets of one process on one port are one listener."""
        sockets = _linux_sockets() if SUPPORTED else _psutil_sockets()
        if SUPPORTED:
            sockets = self._with_pids(sockets)
        groups: dict[tuple[int, int | None, int | None], set[str]] = {}
        for found in sockets:
            groups.setdefault((found.port, found.uid, found.pid), set()).add(found.address)
        self._processes = {pid: process for pid in {pid for _, _, pid in groups} if pid and (process := self._process(pid))}
        listeners = [self._listener(port, addresses, uid, pid) for (port, uid, pid), addresses in groups.items()]
        return sorted(listeners, key=lambda listener: (listener.port, listener.addresses))

    def _listener(self, port: int, addresses: set[str], uid: int | None, pid: int | None) -> Listener:
        process = self._processes.get(pid) if pid else None
        mine = uid == os.getuid() if uid is not None else process is not None
        return Listener(port, tuple(sorted(addresses)), user_name(uid) if uid is not None else "", mine, process)

    def _with_pids(self, sockets: list[Socket]) -> list[Socket]:
        """Linux: find the process of every socket; /proc is searched for those that are new only."""
        inodes = {found.inode for found in sockets}
        alive = {pid for pid in set(self._pids.values()) if pid is None or psutil.pid_exists(pid)}
        kept = {inode: pid for inode, pid in self._pids.items() if inode in inodes and pid in alive}
        unknown = inodes - kept.keys()
        self._pids = {**kept, **dict.fromkeys(unknown), **(_holders(unknown) if unknown else {})}
        return [found._replace(pid=self._pids[found.inode]) for found in sockets]

    def _process(self, pid: int) -> Process | None:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            known = self._processes.get(pid)
            if known is not None and known.since == process.create_time():
                return known
            with process.oneshot():
                return Process(pid, process.name(), tuple(process.cmdline()), process.create_time())
        return None


@lru_cache(maxsize=256)
def user_name(uid: int) -> str:
    """The name of a user of this machine; `uid 1234` if it has none."""
    import pwd  # POSIX only, as is every uid

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _linux_sockets() -> list[Socket]:
    with closing(socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)) as netlink:
        netlink.settimeout(1)
        return [found for family in (socket.AF_INET, socket.AF_INET6) for found in _dump(netlink, family)]


def _dump(netlink: socket.socket, family: int) -> Iterator[Socket]:
    """Every listening socket of one address family (sock_diag(7), the dump form)."""
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << _LISTEN, b"", b"", b"", b"", 0, _NO_COOKIE, _NO_COOKIE)
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    netlink.send(_HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, flags, family, 0) + body)
    while True:
        answer, at = netlink.recv(1 << 16), 0
        while at < len(answer):
            length, kind, *_ = _HEADER.unpack_from(answer, at)
            if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                return
            fields = _ANSWER.unpack_from(answer, at + _HEADER.size)
            address = socket.inet_ntop(family, fields[6][: 4 if family == socket.AF_INET else 16])
            yield Socket(address, int.from_bytes(fields[4], "big"), fields[-2], fields[-1])
            at += (length + 3) & ~3


def _psutil_sockets() -> list[Socket]:
    """The listeners of processes that this user may look into: all, where the system permits, else only its own."""
    try:
        found: list[tuple[Any, int | None]] = [(entry, entry.pid) for entry in psutil.net_connections("tcp")]
    except psutil.AccessDenied:
        found = list(_own_connections())
    return [Socket(entry.laddr.ip, entry.laddr.port, None, 0, pid) for entry, pid in found if entry.status == psutil.CONN_LISTEN]


def _own_connections() -> Iterator[tuple[Any, int]]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            yield from ((entry, process.pid) for entry in process.net_connections("tcp"))


def _holders(inodes: set[int]) -> dict[int, int]:
    """Which process has each socket open; of several, the eldest."""
    holders: dict[int, int] = {}
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    for pid in sorted(int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()):
        with suppress(OSError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    inode = wanted.get(os.readlink(entry.path))
                    if inode is not None:
                        holders.setdefault(inode, pid)
    return holders


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
