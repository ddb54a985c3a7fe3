"""The running Jupyter servers of this user, found by their runtime files, and connections that reach no other user's process.

A runtime file may be out of date: another user's process may have its pid and its port by now. Nothing is sent before the owner
of the connection's other end was checked (Linux), or else the owner of the process.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from contextlib import closing
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

import psutil
from jupyter_core.paths import allow_insecure_writes, jupyter_runtime_dir

from ..errors import CliError
from ..system.socket_owners import NotAnswered, OwnerUnknown, SocketOwners, user_name


def running_servers() -> tuple[list[dict[str, Any]], list[str]]:
    """What `jupyter server list` shows, without importing the server, which takes a second.

    Returns:
        the content of the files of running servers, and one sentence for each file that is ignored.
    """
    running, ignored = [], []
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


def opener() -> OpenerDirector:
    """An opener for URLs of this user's servers. As requests contain the token, it uses no proxy and follows no redirect."""
    return build_opener(ProxyHandler({}), _Http, _Https, _NoRedirects)


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


def _check_connection(sock: socket.socket) -> None:
    """Raise a CliError if a new connection's other end is not this user's."""
    local, remote = sock.getsockname(), sock.getpeername()
    with closing(SocketOwners()) as owners:
        try:
            owner = owners.peer_owner(*local[:2], *remote[:2])
        except NotAnswered:
            return
        except OwnerUnknown as error:
            raise CliError(f"Nothing was sent to port {remote[1]}, as its owner is unknown: {error}.") from None
    if owner != os.getuid():
        raise CliError(f"Nothing was sent to port {remote[1]}: it belongs to another user of this machine ({user_name(owner)}).")


class _Connection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _check_connection(self.sock)


class _TlsConnection(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _check_connection(self.sock)


class _Http(HTTPHandler):
    def http_open(self, req: Request) -> Any:
        return self.do_open(_Connection, req)


class _Https(HTTPSHandler):
    def https_open(self, req: Request) -> Any:
        return self.do_open(_TlsConnection, req)


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Return None, so that the redirect becomes an HTTPError: urllib would send the token to its target."""
