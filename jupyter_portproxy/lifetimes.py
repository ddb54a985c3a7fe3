"""Boots and births: whether a process that somebody wrote down is the one that has its number now.

Rule of this file: no wall clock; it jumps. A process is known by its number and by when it began in the kernel's own ticks.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil


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
