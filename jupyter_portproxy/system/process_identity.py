"""Boots and births: whether a process that somebody wrote down is the one that has its number now.

Rule of this file: no wall clock; it jumps. A process is known by its number and by when it began in the kernel's own ticks.
"""

from __future__ import annotations

import os
import select
import sys
from collections import OrderedDict
from pathlib import Path

import psutil

_MOST = 256


def boot() -> str:
    """Tells this boot of the machine from others; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def born(pid: int) -> str:
    """When a process began; empty if there is none with that number, or if it has ended and nobody has collected it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # proc(5): the name before it may hold blanks and brackets
        return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
    except OSError:
        pass
    if os.path.exists("/proc/self/stat"):
        return ""
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.Error:
        return ""


class Lives:
    """Whether processes that somebody wrote down still run.

    On Linux the kernel's handle of each is kept (pidfd_open(2)): asking that costs a thirtieth of reading /proc.
    """

    def __init__(self) -> None:
        self._handles: OrderedDict[tuple[int, str], _Handle] = OrderedDict()

    def run(self, pid: int, birth: str) -> bool:
        """True if the process of that number and that birth has not ended."""
        key = (pid, birth)
        handle = self._handles.get(key)
        if handle is None:
            return self._first(key)
        if handle.has_ended:
            self._handles.pop(key).close()
            return False
        self._handles.move_to_end(key)
        return True

    def close(self) -> None:
        """Give the handles back."""
        while self._handles:
            self._handles.popitem()[1].close()

    def _first(self, key: tuple[int, str]) -> bool:
        """The handle comes first: if the birth is right after that, it is that process'."""
        handle = _handle_of(key[0])
        if born(key[0]) != key[1]:
            if handle is not None:
                handle.close()
            return False
        if handle is not None:
            self._handles[key] = handle
            if len(self._handles) > _MOST:
                self._handles.popitem(last=False)[1].close()
        return True


class _Handle:
    """The kernel's handle of a process, and what asks it: made once, for that costs more than the question."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._poll = descriptor, select.poll()
        self._poll.register(descriptor, select.POLLIN)

    @property
    def has_ended(self) -> bool:
        return bool(self._poll.poll(0))

    def close(self) -> None:
        os.close(self._descriptor)


def _handle_of(pid: int) -> _Handle | None:
    """None where there is no such process, or where the system knows no handles."""
    if sys.platform != "linux":
        return None
    try:
        return _Handle(os.pidfd_open(pid))
    except (OSError, ValueError):
        return None
