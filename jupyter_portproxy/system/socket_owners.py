"""What this machine's kernel knows of its sockets: who holds the other end of a connection, and who listens where.

Rule of this file: only questions to the kernel, never a packet to a service. Linux answers by netlink (sock_diag(7));
elsewhere psutil lists the listeners, and nobody can tell who holds a connection's other end.
"""

from __future__ import annotations

import errno
import heapq
import ipaddress
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import psutil

SUPPORTED = sys.platform == "linux"
MAX_SOCKETS = 1000  # listening sockets in one list
MAX_ASKED = 100_000  # that the kernel is asked for, of each address family

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLM_F_DUMP = 0x300
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_ESTABLISHED = 1
_LISTEN = 10
# TCP_SYN_RECV and TCP_NEW_SYN_RECV: TCP_DEFER_ACCEPT, a full backlog, or an ACK on its way.
_NOT_ACCEPTED = (_ESTABLISHED, 3, 12)
_LOOPBACK_INTERFACE = 1  # Linux' LOOPBACK_IFINDEX: what stays within the machine comes in there
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
    """A process, as far as this user may see it. `since` is its start in seconds since 1970. Another user's has no `command`."""

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
    """The kernel's answers do not name one user."""


class NotAnswered(OwnerUnknown):
    """The kernel cannot be asked: no Linux, or a sandbox without sock_diag."""


class NoLocalSocket(OwnerUnknown):
    """The connection stands, but no socket of this network namespace is its other end, and none listens there."""


class _Known(NamedTuple):
    """A socket as the kernel describes it. `inode` is 0 while no process has it: not accepted yet, or closed."""

    state: int
    uid: int
    inode: int


def open_netlink() -> socket.socket:
    """A socket for questions of sock_diag(7)."""
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
    netlink.settimeout(0.25)
    return netlink


class SocketOwners:
    """Answers who holds the other end of our own connections. Holds one netlink socket; close it.

    The kernel describes a connection that is not accepted yet with inode 0. The uid beside it is the listener's on Linux 6.18,
    and 0, which is root's, on 6.1 and older. So only an inode makes a uid credible; without one the listener's counts.

    Args:
        open_netlink: makes the socket that is asked.
    """

    def __init__(self, open_netlink: Callable[[], socket.socket] = open_netlink) -> None:
        self._open_netlink = open_netlink
        self._netlink: socket.socket | None = None
        self._sequence = 0

    def peer_owner(self, local: str, local_port: int, remote: str, remote_port: int) -> int:
        """The uid of the socket at the other end of a connection within this machine, accepted yet or not.

        Args:
            local: our end's IP address; `remote` is theirs.

        Raises:
            NoLocalSocket: the kernel sends its packets elsewhere (DNAT).
            NotAnswered
            OwnerUnknown: several users listen there, or the connection has ended.
        """
        known = self._connected(remote, remote_port, local, local_port)
        if known is not None and known.inode:
            return known.uid
        owners = self.listener_owners(remote, remote_port)
        # Once more: if it is still not accepted, the listener that will accept it was among those just seen.
        known = self._connected(remote, remote_port, local, local_port)
        if known is not None and known.inode:
            return known.uid
        if known is None and self._connected(local, local_port, remote, remote_port) is None:
            raise NotAnswered("the system knows neither end of the connection")
        if known is None and not owners:
            raise NoLocalSocket("it is forwarded by the packet filter")
        if known is None or known.state not in _NOT_ACCEPTED or not owners:
            raise OwnerUnknown("no socket that is open is the other end of the connection")
        if len(owners) > 1:
            raise OwnerUnknown("several users listen there")
        return owners.pop()

    def listener_owners(self, address: str, port: int) -> set[int]:
        """The uids of those who listen for connections to a local address: on the address itself, and on all addresses.

        Sockets with SO_REUSEPORT count once: the kernel lets only one user share a port (socket(7)).

        Raises:
            NotAnswered
        """
        plain = _unmapped(address)
        every = _every_address(plain)
        found = [self._find(listening, port, every, 0) for listening in (plain, every)]
        return {known.uid for known in found if known is not None and known.state == _LISTEN}

    def close(self) -> None:
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def _connected(self, source: str, source_port: int, peer: str, peer_port: int) -> _Known | None:
        """One end of a connection; where there is none, the kernel answers with who listens there."""
        known = self._find(source, source_port, peer, peer_port)
        return known if known is not None and known.state != _LISTEN else None

    def _find(self, source: str, source_port: int, peer: str, peer_port: int) -> _Known | None:
        """The socket of a connection, or with port 0 of the peer the one that listens; None if there is none."""
        if not SUPPORTED:
            raise NotAnswered("only Linux tells who owns a socket")
        try:
            return self._ask(source, source_port, peer, peer_port)
        except OSError as error:
            self.close()
            raise NotAnswered(str(error)) from error

    def _ask(self, source: str, source_port: int, peer: str, peer_port: int) -> _Known | None:
        if self._netlink is None:
            self._netlink = self._open_netlink()
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        self._netlink.send(_question(self._sequence, source, source_port, peer, peer_port))
        while True:
            answer = self._netlink.recv(4096)
            _, kind, _, sequence, _ = _HEADER.unpack_from(answer)
            if sequence == self._sequence:
                break
        if kind == _NLMSG_ERROR:
            code = -struct.unpack_from("=i", answer, _HEADER.size)[0]
            if code == errno.ENOENT:
                return None
            raise OSError(code, os.strerror(code))
        found = _ANSWER.unpack_from(answer, _HEADER.size)
        return _Known(found[1], found[-2], found[-1])


def is_established(fd: int) -> bool:
    """True while neither end of our TCP connection has closed or reset it. Linux only."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, os.dup(fd)) as sock:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED


def unix_peer_owner(fd: int) -> int:
    """The uid of who listens at the other end of our connection to a Unix socket, as it was when they began. Linux only."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, os.dup(fd)) as sock:
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])


class Listeners:
    """Lists who listens on this machine. What it has learnt of a socket's process it keeps until the socket is gone.

    Attributes:
        left_out: how many sockets the last list lacks, because there were more than `MAX_SOCKETS`.
    """

    def __init__(self) -> None:
        self._pids: dict[int, int | None] = {}
        self._processes: dict[int, Process] = {}
        self._refreshing = threading.Lock()
        self.left_out = 0

    def refresh(self) -> list[Listener]:
        """The TCP listeners, by port; of many this user's and root's first. Sockets of one process on one port are one listener.

        It may take a second where other users have very many sockets: not for the event loop's thread.
        """
        with self._refreshing:
            return self._refresh()

    def _refresh(self) -> list[Listener]:
        every = _linux_sockets() if SUPPORTED else _psutil_sockets()
        sockets = heapq.nsmallest(MAX_SOCKETS, every, key=_rank)
        self.left_out = len(every) - len(sockets)
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
        visible = unknown & {found.inode for found in sockets if os.getuid() == 0 or found.uid in (0, os.getuid())}
        self._pids = {**kept, **dict.fromkeys(unknown), **(_holders(visible) if visible else {})}
        return [found._replace(pid=self._pids[found.inode]) for found in sockets]

    def _process(self, pid: int) -> Process | None:
        with suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            known = self._processes.get(pid)
            if known is not None and known.since == process.create_time():
                return known
            with process.oneshot():
                if not SUPPORTED or process.uids().real == os.getuid():
                    return Process(pid, process.name(), tuple(process.cmdline()), process.create_time())
                # To read another user's command line is to read memory that they may have made slow or endless.
                name = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").rstrip("\n")
                return Process(pid, name, (), process.create_time())
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
    found: list[Socket] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        with open_netlink() as netlink:
            found += islice(_dump(netlink, family), MAX_ASKED)
    return found


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


def _rank(found: Socket) -> tuple[int, int]:
    """This user's sockets come first, then root's and those whose user is unknown, then others'."""
    return 1 if not found.uid else 0 if found.uid == os.getuid() else 2, found.port


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
        if len(holders) == len(wanted):
            break
    return holders


def _unmapped(address: str) -> str:
    """The IPv4 address of an IPv4-mapped one (::ffff:127.0.0.1); any other as it is."""
    mapped = getattr(ipaddress.ip_address(address), "ipv4_mapped", None)
    return str(mapped or address)


def _every_address(address: str) -> str:
    """The unspecified address of the same family: to listen there is to listen on every address."""
    return "::" if ":" in address else "0.0.0.0"  # noqa: S104 (a question, nothing is bound)


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
        _LOOPBACK_INTERFACE,
        _NO_COOKIE,
        _NO_COOKIE,
    )
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, sequence, 0) + body
