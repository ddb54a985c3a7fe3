"""The TCP ports that processes of this machine listen on, with their owners and processes, for the list of ports.

Linux answers by sock_diag(7) and /proc; elsewhere psutil does, which may show this user's processes only. What is known of a
socket's process is kept until the socket is gone, as a search of /proc is expensive.
"""

from __future__ import annotations

import heapq
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from ..system.netlink import SUPPORTED, listening_sockets, open_netlink
from ..system.socket_owners import user_name

MAX_SOCKETS = 1000  # listening sockets in one list
_MAX_QUERIED = 100_000  # sockets read from the kernel, per address family


class ListeningSocket(NamedTuple):
    """A listening TCP socket. `inode` is 0 and `uid` None where the system does not provide them."""

    address: str
    port: int
    uid: int | None
    inode: int
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class ListenerProcess:
    """A process, as far as this user may see it. `since` is its start in seconds since 1970. Another user's has no `command`."""

    pid: int
    name: str
    command: tuple[str, ...]
    since: float


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP port that a process listens on.

    Attributes:
        addresses: IP literals it is bound to, sorted.
        owner: the user's name; empty where the system does not provide it.
        mine: True if the owner is this process's user.
        process: None if it is another user's, or hidden.
    """

    port: int
    addresses: tuple[str, ...]
    owner: str
    mine: bool
    process: ListenerProcess | None


class Listeners:
    """Lists the listeners.

    Args:
        use_netlink: query sock_diag(7); else psutil.

    Attributes:
        left_out: how many sockets the last list lacks, because there were more than `MAX_SOCKETS`.
    """

    def __init__(self, use_netlink: bool = SUPPORTED) -> None:
        self._use_netlink = use_netlink
        self._pids: dict[int, int | None] = {}  # by inode
        self._processes: dict[int, ListenerProcess] = {}
        self._lock = threading.Lock()
        self.left_out = 0

    def refresh(self) -> list[Listener]:
        """The listeners, by port; if too many, this user's and root's first. Sockets of one process and port are one listener.

        Takes up to a second where other users have very many sockets: call it in a thread.
        """
        with self._lock:
            return self._refresh()

    def _refresh(self) -> list[Listener]:
        every = _netlink_sockets() if self._use_netlink else _psutil_sockets()
        sockets = heapq.nsmallest(MAX_SOCKETS, every, key=_rank)
        self.left_out = len(every) - len(sockets)
        if self._use_netlink:
            sockets = self._with_pids(sockets)
        groups: dict[tuple[int, int | None, int | None], set[str]] = {}
        for sock in sockets:
            groups.setdefault((sock.port, sock.uid, sock.pid), set()).add(sock.address)
        self._processes = {pid: process for pid in {pid for _, _, pid in groups} if pid and (process := self._process(pid))}
        listeners = [self._listener(port, addresses, uid, pid) for (port, uid, pid), addresses in groups.items()]
        return sorted(listeners, key=lambda listener: (listener.port, listener.addresses))

    def _listener(self, port: int, addresses: set[str], uid: int | None, pid: int | None) -> Listener:
        process = self._processes.get(pid) if pid else None
        mine = uid == os.getuid() if uid is not None else process is not None
        return Listener(port, tuple(sorted(addresses)), user_name(uid) if uid is not None else "", mine, process)

    def _with_pids(self, sockets: list[ListeningSocket]) -> list[ListeningSocket]:
        """Linux: find the process of every socket; /proc is searched for new sockets only."""
        inodes = {sock.inode for sock in sockets}
        alive = {pid for pid in set(self._pids.values()) if pid is None or psutil.pid_exists(pid)}
        kept = {inode: pid for inode, pid in self._pids.items() if inode in inodes and pid in alive}
        unknown = inodes - kept.keys()
        visible = unknown & {sock.inode for sock in sockets if os.getuid() == 0 or sock.uid in (0, os.getuid())}
        self._pids = {**kept, **dict.fromkeys(unknown), **(_holders(visible) if visible else {})}
        return [sock._replace(pid=self._pids[sock.inode]) for sock in sockets]

    def _process(self, pid: int) -> ListenerProcess | None:
        with suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            known = self._processes.get(pid)
            if known is not None and known.since == process.create_time():
                return known
            with process.oneshot():
                if not self._use_netlink or process.uids().real == os.getuid():
                    return ListenerProcess(pid, process.name(), tuple(process.cmdline()), process.create_time())
                # To read another user's command line is to read memory that they may have made slow or endless.
                name = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").rstrip("\n")
                return ListenerProcess(pid, name, (), process.create_time())
        return None


def ports_of_descendants(pid: int) -> list[int]:
    """The TCP ports that the processes below this one listen on, as far as they are seen."""
    with suppress(psutil.Error):
        return sorted(set().union(*map(ports_of, psutil.Process(pid).children(recursive=True))))
    return []


def ports_of(process: psutil.Process) -> set[int]:
    """The TCP ports that a process listens on; none if this user may not see them."""
    with suppress(psutil.Error):
        connections = getattr(process, "net_connections", None) or process.connections  # psutil < 6
        return {each.laddr.port for each in connections("tcp") if each.status == psutil.CONN_LISTEN}
    return set()


def _rank(sock: ListeningSocket) -> tuple[int, int]:
    """This user's sockets come first, then root's and those whose user is unknown, then others'."""
    return 1 if not sock.uid else 0 if sock.uid == os.getuid() else 2, sock.port


def _netlink_sockets() -> list[ListeningSocket]:
    sockets: list[ListeningSocket] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        with open_netlink() as netlink:
            records = islice(listening_sockets(netlink, family), _MAX_QUERIED)
            sockets += (ListeningSocket(record.address, record.port, record.uid, record.inode) for record in records)
    return sockets


def _psutil_sockets() -> list[ListeningSocket]:
    """The listeners of all processes where the system permits that, else of this user's."""
    try:
        connections: list[tuple[Any, int | None]] = [(entry, entry.pid) for entry in psutil.net_connections("tcp")]
    except psutil.AccessDenied:
        connections = list(_own_connections())
    listening = [(entry.laddr, pid) for entry, pid in connections if entry.status == psutil.CONN_LISTEN]
    return [ListeningSocket(address.ip, address.port, None, 0, pid) for address, pid in listening]


def _own_connections() -> Iterator[tuple[Any, int]]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            yield from ((entry, process.pid) for entry in process.net_connections("tcp"))


def _holders(inodes: set[int]) -> dict[int, int]:
    """The process that has each socket open; of several, the one with the lowest pid."""
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
