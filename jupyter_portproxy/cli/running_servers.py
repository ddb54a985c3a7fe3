"""The running Jupyter servers of this user, found by their runtime files.

A runtime file may be out of date: another user's process may have its pid and its port by now. So the owners of the process and
of the port are checked here, and that of the connection's other end in `connection`. Without psutil and jupyter_core, as on a
laptop without Jupyter, no server runs here.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import CliError
from ..system.socket_owners import OwnerUnknown, SocketOwners, user_name

try:
    import psutil
    from jupyter_core.paths import allow_insecure_writes, jupyter_runtime_dir
except ImportError:
    psutil = None  # type: ignore[assignment]


def running_servers() -> tuple[list[dict[str, Any]], list[str]]:
    """What `jupyter server list` shows, without importing the server, which takes a second.

    Returns:
        the content of the files of running servers, and one sentence for each file that is ignored.
    """
    running: list[dict[str, Any]] = []
    ignored: list[str] = []
    if psutil is None:
        return running, ignored
    for file in sorted(Path(jupyter_runtime_dir()).glob("jpserver-*.json")):
        try:
            info = _read(file)
            if info is not None and psutil.pid_exists(info["pid"]):
                _check_process(info["pid"])
                _check_listener(info)
                running.append(info)
        except CliError as error:
            ignored.append(f"{file} is ignored: {error}")
    return running, ignored


def _read(file: Path) -> dict[str, Any] | None:
    """The file's content; None if it is being written or removed, or is not a runtime file."""
    try:
        with open(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), encoding="utf-8") as opened:
            _check_file(os.fstat(opened.fileno()))
            info = json.loads(opened.read())
    except (OSError, ValueError, RecursionError):
        return None
    complete = isinstance(info, dict) and isinstance(info.get("pid"), int) and isinstance(info.get("url"), str)
    return info if complete and 0 < info["pid"] < 1 << 31 else None


def _check_file(status: os.stat_result) -> None:
    if not hasattr(os, "getuid"):
        return
    if status.st_uid != os.getuid():
        raise CliError(f"it belongs to another user ({user_name(status.st_uid)}).")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not allow_insecure_writes:  # as on file systems without modes
        raise CliError("other users may write it.")


def _check_process(pid: int) -> None:
    try:
        owner = psutil.Process(pid).username()
    except psutil.Error:
        owner = "unknown"
    if owner != psutil.Process().username():
        raise CliError(f"its process {pid} belongs to another user ({owner}).")


def _check_listener(info: dict[str, Any]) -> None:
    """Raise a CliError if other users listen on the server's port. Only the check of the connection itself is certain."""
    if info.get("sock"):
        return
    parts = urlsplit(info["url"])
    with closing(SocketOwners()) as owners:
        try:
            addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)}
            users = {user for address in addresses for user in owners.listener_owners(address, parts.port or 0)}
        except (OwnerUnknown, OSError, ValueError):
            return
    if users and os.getuid() not in users:
        raise CliError(f"port {parts.port} belongs to another user ({', '.join(map(user_name, users))}).")


def nearest(running: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The server in whose terminal this process runs; else those that no other of the servers started (a nested Jupyter).

    Servers that listen on a Unix socket only have no URL to call and are left out.
    """
    by_pid = {int(info["pid"]): info for info in running if not info.get("sock")}
    for parent in psutil.Process().parents():
        if parent.pid in by_pid:
            return [by_pid[parent.pid]]
    return [info for pid, info in by_pid.items() if not any(parent.pid in by_pid for parent in _parents(pid))]


def _parents(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).parents()
    except psutil.Error:
        return []  # it has just ended
