"""The listening sockets of `jupyter portproxy forward`: TCP ports and Unix sockets of this machine."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from dataclasses import replace
from pathlib import Path

from ..errors import CliError
from ..protocol.forwards import Forward

_BACKLOG = 1024
_NO_UNIX_SOCKETS = "This system has no Unix sockets: name a port instead of {!r}."


def listen(forward: Forward) -> tuple[socket.socket, Forward]:
    """A listening socket, and the forward with the port or path that it has.

    Raises:
        CliError: the port is taken, for example.
    """
    sock, bound = _listen_at_path(forward) if forward.unix_socket else _listen_at_port(forward)
    sock.setblocking(False)
    return sock, bound


def close_listener(sock: socket.socket, forward: Forward) -> None:
    """Close it, and remove a Unix socket's file."""
    sock.close()
    if forward.unix_socket:
        with contextlib.suppress(OSError):
            os.unlink(forward.unix_socket)


def _listen_at_port(forward: Forward) -> tuple[socket.socket, Forward]:
    family = socket.AF_INET6 if ":" in forward.host else socket.AF_INET
    try:
        sock = socket.create_server((forward.host, forward.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise CliError(_explain(error, forward)) from None
    return sock, replace(forward, port=sock.getsockname()[1])


def _explain(error: OSError, forward: Forward) -> str:
    address, remote = forward.local, forward.remote
    match error.errno:
        case errno.EADDRINUSE:
            free = replace(forward, port=0).argument
            return f"Port {forward.port} of this machine is taken ({address}). Choose another one, or 0 for a free one: {free}"
        case errno.EACCES | errno.EPERM:
            return f"Port {forward.port} of this machine needs more rights. Choose one from 1024 on, for example 8022:{remote}"
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            return f"This machine has no address {forward.host}."
    return f"This machine cannot listen on {address}: {error.strerror or error}."


def _listen_at_path(forward: Forward) -> tuple[socket.socket, Forward]:
    path = Path(forward.unix_socket).expanduser().absolute()
    if not hasattr(socket, "AF_UNIX"):
        raise CliError(_NO_UNIX_SOCKETS.format(forward.unix_socket))
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        mask = os.umask(0o177)  # for this user only
        try:
            sock.bind(str(path))
        finally:
            os.umask(mask)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        reason = error.strerror or str(error)  # "AF_UNIX path too long" has no number
        raise CliError(f"This machine cannot listen on {path}: {reason}.") from None
    except BaseException:
        sock.close()
        raise
    return sock, replace(forward, unix_socket=str(path))


def _remove_stale(path: Path) -> None:
    """Remove the socket's file if no process listens on it any more.

    Raises:
        CliError: one does, or it is another file.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise CliError(f"{path} is there already, and not a socket. Choose another path.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise CliError(f"Another process listens on {path} already. Choose another path.")
