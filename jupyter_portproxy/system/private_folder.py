"""Folders that only their user can enter, for the Unix sockets of one process, and the removal of those of killed processes.

The process holds the lock of a file in its folder. The kernel releases that with the process, however it ends, and knows it in
containers that share the parent folder, where process IDs mean something else. The file gets its name when it is locked
already: a folder without one belongs to a process that is still making it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, which has no Unix sockets for services
    fcntl = None  # type: ignore[assignment]

_LOCK, _NEW_LOCK = "lock", "lock.new"


class PrivateFolder:
    """A new folder of mode 0700, which `close` removes with all that is in it.

    Args:
        parent: the folder in which it is made; None for the system's folder for temporary files.
    """

    def __init__(self, prefix: str, parent: str | None = None) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix=prefix, dir=parent)
        self.path = Path(self._directory.name)
        self._lock = os.open(self.path / _NEW_LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        if fcntl is not None:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.rename(self.path / _NEW_LOCK, self.path / _LOCK)

    def close(self) -> None:
        os.close(self._lock)
        self._directory.cleanup()


def remove_stale_folders(prefix: str, parent: str | None = None) -> None:
    """Remove the folders of this user whose processes have ended without `close`; arguments as those of `PrivateFolder`.

    Only sockets and the locked file are removed, through a descriptor of the folder: no link is followed. A folder that another
    user owns or can enter, or that has anything else in it, is left.
    """
    with contextlib.suppress(OSError):
        if fcntl is not None:
            parent_fd = os.open(parent or tempfile.gettempdir(), os.O_RDONLY | os.O_DIRECTORY)
            try:
                for name in os.listdir(parent_fd):
                    if name.startswith(prefix):
                        with contextlib.suppress(OSError):
                            _remove_if_stale(parent_fd, name)
            finally:
                os.close(parent_fd)


def _remove_if_stale(parent_fd: int, name: str) -> None:
    """Raises: OSError: it is not such a folder, or its process runs."""
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent_fd)
    try:
        if not _is_private(os.fstat(folder)):
            return
        lock = os.open(_LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            entries = os.listdir(folder)
            if all(entry == _LOCK or _is_socket(entry, folder) for entry in entries):
                for entry in entries:
                    os.unlink(entry, dir_fd=folder)
                os.rmdir(name, dir_fd=parent_fd)
        finally:
            os.close(lock)
    finally:
        os.close(folder)


def _is_socket(entry: str, folder: int) -> bool:
    return stat.S_ISSOCK(os.stat(entry, dir_fd=folder, follow_symlinks=False).st_mode)


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid == os.getuid() and not stat.S_IMODE(status.st_mode) & 0o077
