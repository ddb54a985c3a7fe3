"""Logs of services: the end of their output in memory, and files in a private folder for each server.

A full disk does not block a service. Folders of ended servers are removed but for the last five. Only this user can read or write
the files, also where others may write the folder above.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
from collections import deque
from collections.abc import Iterator
from functools import partial
from io import FileIO
from pathlib import Path

import psutil

MAX_MEMORY = 1 << 20  # bytes of output
MAX_FILE_SIZE = 10 << 20  # bytes
MAX_ENDED_SERVERS = 5  # whose logs are kept, to see why they ended
_CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*\x07?|[@-Z\\^_])?|[\x00-\x08\x0e-\x1a\x7f]")  # ECMA-48
_ERROR = re.compile(r"(?:error|exception|fatal|panic)\W*:", re.IGNORECASE)
_FRAME = " \t│┃║|"  # of boxes around messages
_FOLDER = re.compile(r"jpserver-([0-9]{1,9})\Z", re.ASCII)  # with a pid
_FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)  # Windows has neither, and no services


def folder(parent: Path) -> Path:
    """The folder of this server's logs. It has the name of the server's file in Jupyter's runtime folder, with its pid."""
    return parent / f"jpserver-{os.getpid()}"


def prepare(own: Path, log: logging.Logger) -> int | None:
    """Open this server's folder, private to this user, and remove those of ended servers but the last five.

    Returns:
        a descriptor, which stays valid if the path is replaced later. None if the folder cannot be used; the reason is logged.
    """
    try:
        own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        parent = _open_private(own.parent)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(own.name, 0o700, dir_fd=parent)
            folder = _open_private(own.name, parent)
            _remove_ended(parent, own.name)
        finally:
            os.close(parent)
    except OSError as error:
        why = "it is a link, or not a folder" if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EEXIST) else error.strerror
        log.error(
            "portproxy: the output of services is kept in memory only: %s cannot be used (%s). "
            "Remove it, or set JUPYTER_RUNTIME_DIR to a private folder.",
            own, why,
        )  # fmt: skip
        return None
    return folder


def _open_private(path: Path | str, parent: int | None = None) -> int:
    """Open a folder of this user, and take access to it from all others.

    Raises:
        OSError: it is a link, not a folder, or another user's.
    """
    folder = os.open(path, _FOLDER_FLAGS, dir_fd=parent)
    try:
        status = os.fstat(folder)
        if status.st_uid != os.geteuid():
            raise OSError(errno.EPERM, f"it belongs to another user, uid {status.st_uid}")
        if stat.S_IMODE(status.st_mode) & 0o077:
            os.fchmod(folder, 0o700)
    except OSError:
        os.close(folder)
        raise
    return folder


def _remove_ended(parent: int, own: str) -> None:
    matches = [(name, _FOLDER.match(name)) for name in os.listdir(parent)]
    ended = [name for name, match in matches if match and name != own and not psutil.pid_exists(int(match[1]))]
    for name in sorted(ended, key=partial(_last_write, parent), reverse=True)[MAX_ENDED_SERVERS:]:
        with contextlib.suppress(OSError), _open_folder(name, parent) as folder:
            for file in os.listdir(folder):
                os.unlink(file, dir_fd=folder)
            os.rmdir(name, dir_fd=parent)


def _last_write(parent: int, name: str) -> float:
    """Time of the last write to the folder. A server on another machine that shares it may still write; its pid is not known."""
    times = [0.0]
    with contextlib.suppress(OSError), _open_folder(name, parent) as folder:  # another server may remove it meanwhile
        times.append(os.fstat(folder).st_mtime)
        times += [os.stat(file, dir_fd=folder, follow_symlinks=False).st_mtime for file in os.listdir(folder)]
    return max(times)


@contextlib.contextmanager
def _open_folder(name: str, parent: int) -> Iterator[int]:
    folder = os.open(name, _FOLDER_FLAGS, dir_fd=parent)
    try:
        yield folder
    finally:
        os.close(folder)


def _open_log(folder: int | None, name: str) -> FileIO:
    """An unbuffered file, so that closing it writes nothing to a disk that may be full; /dev/null if it cannot be opened.

    A path that is not a private plain file of this user was created while the folder was open to others: it is removed.
    """
    if folder is None:
        return FileIO(os.devnull, "ab")
    with contextlib.suppress(OSError):
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        is_own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1
        if not is_own or stat.S_IMODE(status.st_mode) & 0o077:
            os.unlink(name, dir_fd=folder)
    try:
        return FileIO(name, "ab", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o600, dir_fd=folder))
    except OSError:
        return FileIO(os.devnull, "ab")


class Log:
    """The output of a service: the last MiB in memory, and a file that is renamed to `.1` when it is full.

    Args:
        folder: a descriptor of `prepare`, which is closed with the log; without one there is no file.
        max_file_size: bytes.
    """

    def __init__(self, folder: int | None, name: str, *, max_file_size: int = MAX_FILE_SIZE) -> None:
        self._folder, self._name, self._max_file_size = folder, name, max_file_size
        self.written = 0  # bytes since the first start of the service
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._file = _open_log(folder, name)

    def write(self, data: bytes) -> None:
        self.written += len(data)
        self._pieces.append(data)
        self._size += len(data)
        while self._size - len(self._pieces[0]) >= MAX_MEMORY:
            self._size -= len(self._pieces.popleft())
        with contextlib.suppress(OSError):  # a full disk: the output in memory remains
            self._write_file(data)

    def _write_file(self, data: bytes) -> None:
        if self._file.tell() + len(data) > self._max_file_size:
            os.replace(self._name, f"{self._name}.1", src_dir_fd=self._folder, dst_dir_fd=self._folder)
            full, self._file = self._file, _open_log(self._folder, self._name)
            full.close()
        self._file.write(data)

    def tail(self, size: int = MAX_MEMORY) -> bytes:
        """The last bytes in memory, at most `size`."""
        return b"".join(self._pieces)[-size:]

    def last_lines(self, count: int = 20, begin: int = 0) -> list[str]:
        """The last lines without colours, at most 400 characters of each.

        Args:
            begin: bytes that had been written before the first of them.
        """
        lines = self._text_since(begin, 64 << 10).splitlines()
        return [line[:400] for line in lines[-count:]]

    def cause(self, begin: int) -> str:
        """The line that explains the end of a program: the last one that names an error, else the last one with a letter.

        Args:
            begin: bytes that had been written when the program began.
        """
        lines = [line for line in self._text_since(begin, 16 << 10).splitlines() if any(map(str.isalpha, line))]
        outer = [line for line in lines if not line[0].isspace()] or lines  # indented lines continue the line above
        named = [line for line in outer if _ERROR.search(line)]
        return next((line.strip(_FRAME)[:300] for line in reversed(named or outer)), "")

    def _text_since(self, begin: int, limit: int) -> str:
        """What was written since then, without control sequences: the last `limit` bytes of it."""
        size = min(self.written - begin, limit)
        return _CONTROL.sub("", self.tail(size).decode("utf-8", "replace")) if size else ""

    def close(self) -> None:
        self._file.close()
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None
