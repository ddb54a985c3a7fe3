"""Whether a recorded process is the one that has its pid now, and whether it still runs.

A process is identified by its pid and its start time in the kernel's clock ticks: the wall clock jumps, and pids are reused. A
boot id distinguishes them from processes of an earlier boot.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil


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


def is_running(pid: int, started: str) -> bool:
    """True if the process with that pid and that start time has not ended."""
    return start_time(pid) == started
