"""Whether a recorded process is the one that has its pid now, and whether it still runs.

A process is identified by its pid and its start time in the kernel's clock ticks: the wall clock jumps, and pids are reused. A
boot id distinguishes them from processes of an earlier boot.
"""

from __future__ import annotations

import os
import select
import sys
from collections import OrderedDict
from pathlib import Path

import psutil

MAX_HANDLES = 256


def boot_id() -> str:
    """Identifies this boot of the machine; empty where the system does not provide it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def start_time(pid: int) -> str:
    """When a process began, in a unit of the system; empty if there is none, or if it is a zombie."""
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


class ProcessHandles:
    """Answers whether recorded processes still run.

    On Linux the kernel's handles (pidfd_open(2)) of the last `max_handles` processes stay open: that costs a thirtieth of reading
    /proc. Close it.

    Args:
        max_handles: how many stay open; with 0, /proc is read each time.
    """

    def __init__(self, max_handles: int = MAX_HANDLES) -> None:
        self._max_handles = max_handles if sys.platform == "linux" else 0
        self._handles: OrderedDict[tuple[int, str], _PidHandle] = OrderedDict()

    def is_running(self, pid: int, started: str) -> bool:
        """True if the process with that pid and that start time has not ended."""
        key = (pid, started)
        handle = self._handles.get(key)
        if handle is None:
            return self._open(key)
        if handle.has_ended:
            self._handles.pop(key).close()
            return False
        self._handles.move_to_end(key)
        return True

    def close(self) -> None:
        while self._handles:
            self._handles.popitem()[1].close()

    def _open(self, key: tuple[int, str]) -> bool:
        # The handle comes first: if the start time is right after that, the handle is that process's.
        handle = _open_handle(key[0]) if self._max_handles else None
        if start_time(key[0]) != key[1]:
            if handle is not None:
                handle.close()
            return False
        if handle is not None:
            self._handles[key] = handle
            if len(self._handles) > self._max_handles:
                self._handles.popitem(last=False)[1].close()
        return True


class _PidHandle:
    """A pidfd and its poll object, which is reused as it costs more than a poll."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._poll = descriptor, select.poll()
        self._poll.register(descriptor, select.POLLIN)

    @property
    def has_ended(self) -> bool:
        return bool(self._poll.poll(0))

    def close(self) -> None:
        os.close(self._descriptor)


def _open_handle(pid: int) -> _PidHandle | None:
    """None if there is no such process, or no descriptor left."""
    try:
        return _PidHandle(os.pidfd_open(pid))
    except (OSError, ValueError):
        return None
