"""What services have printed: the last of it in memory, all of it in files of this server's own.

Rule of this file: no service waits for a disk, two servers never write one file, what ended servers leave is bounded, and only
this user reads or writes there, also where others may write the folder above.
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

_RING = 1 << 20
_LOG_FILE = 10 << 20
_ENDED = 5  # servers whose logs are kept, to see why they ended
_CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*\x07?|[@-Z\\^_])?|[\x00-\x08\x0e-\x1a\x7f]")  # ECMA-48
_ERROR = re.compile(r"(?:error|exception|fatal|panic)\W*:", re.IGNORECASE)
_FRAME = " \t│┃║|"  # of boxes around messages
_FOLDER = re.compile(r"jpserver-([0-9]{1,9})\Z", re.ASCII)  # with a pid
_FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)  # Windows has neither, and no services


def folder(parent: Path) -> Path:
    """Where this server's logs are: it has the name of the server's file in Jupyter's runtime folder, with its pid."""
    return parent / f"jpserver-{os.getpid()}"


def prepare(own: Path, log: logging.Logger) -> int | None:
    """Open this server's folder, private to this user, and remove those of ended servers but the last five.

    Returns:
        its descriptor: what becomes of the path later changes nothing. None if there can be no such folder; the log says why.
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
        why = "it is no folder, or a link" if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EEXIST) else error.strerror
        log.error(
            "portproxy: what services print is kept in memory only: %s cannot be used (%s). "
            "Remove it, or set JUPYTER_RUNTIME_DIR to a folder that is yours alone.",
            own, why,
        )  # fmt: skip
        return None
    return folder


def _open_private(path: Path | str, parent: int | None = None) -> int:
    """A folder of this user, which from now on nobody else can enter.

    Raises:
        OSError: it is a link, no folder, or another user's.
    """
    folder = os.open(path, _FOLDER_FLAGS, dir_fd=parent)
    try:
        found = os.fstat(folder)
        if found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, f"it belongs to another user, uid {found.st_uid}")
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(folder, 0o700)
    except OSError:
        os.close(folder)
        raise
    return folder


def _remove_ended(parent: int, own: str) -> None:
    found = [(name, _FOLDER.match(name)) for name in os.listdir(parent)]
    ended = [name for name, match in found if match and name != own and not psutil.pid_exists(int(match[1]))]
    for name in sorted(ended, key=partial(_written, parent), reverse=True)[_ENDED:]:
        with contextlib.suppress(OSError), _opened(name, parent) as folder:
            for file in os.listdir(folder):
                os.unlink(file, dir_fd=folder)
            os.rmdir(name, dir_fd=parent)


def _written(parent: int, name: str) -> float:
    """When something was written there last. Another machine that shares the folder may still do it: there, pids tell nothing."""
    times = [0.0]
    with contextlib.suppress(OSError), _opened(name, parent) as folder:  # another server may remove it meanwhile
        times.append(os.fstat(folder).st_mtime)
        times += [os.stat(file, dir_fd=folder, follow_symlinks=False).st_mtime for file in os.listdir(folder)]
    return max(times)


@contextlib.contextmanager
def _opened(name: str, parent: int) -> Iterator[int]:
    folder = os.open(name, _FOLDER_FLAGS, dir_fd=parent)
    try:
        yield folder
    finally:
        os.close(folder)


def _open_log(folder: int | None, name: str) -> FileIO:
    """Unbuffered: nothing is left to write when it is closed, however full the disk is. Where there is no room, nowhere.

    What is there already and is no plain file of this user alone was put there while the folder was open to others.
    """
    if folder is None:
        return FileIO(os.devnull, "ab")
    with contextlib.suppress(OSError):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        mine = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1
        if not mine or stat.S_IMODE(found.st_mode) & 0o077:
            os.unlink(name, dir_fd=folder)
    try:
        return FileIO(name, "ab", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o600, dir_fd=folder))
    except OSError:
        return FileIO(os.devnull, "ab")


class Log:
    """What a service has printed: the last MiB in memory, and a file of at most 10 MiB, the file before it kept as `.1`.

    Args:
        folder: a descriptor of `prepare`, which is closed with the log; None keeps no file.
    """

    def __init__(self, folder: int | None, name: str) -> None:
        self._folder, self._name = folder, name
        self.written = 0  # bytes since the service's first start
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._file = _open_log(folder, name)

    def write(self, data: bytes) -> None:
        self.written += len(data)
        self._pieces.append(data)
        self._size += len(data)
        while self._size - len(self._pieces[0]) >= _RING:
            self._size -= len(self._pieces.popleft())
        with contextlib.suppress(OSError):  # a full disk: what is in memory is all there is; the service must not wait for it
            self._write_file(data)

    def _write_file(self, data: bytes) -> None:
        if self._file.tell() + len(data) > _LOG_FILE:
            os.replace(self._name, f"{self._name}.1", src_dir_fd=self._folder, dst_dir_fd=self._folder)
            full, self._file = self._file, _open_log(self._folder, self._name)
            full.close()
        self._file.write(data)

    def tail(self, size: int = _RING) -> bytes:
        """The last bytes, at most `size` of what is in memory."""
        return b"".join(self._pieces)[-size:]

    def last_lines(self, count: int = 20) -> list[str]:
        """The last lines without colours, at most 400 characters of each."""
        lines = _CONTROL.sub("", self.tail(64 << 10).decode("utf-8", "replace")).splitlines()
        return [line[:400] for line in lines[-count:]]

    def cause(self, begin: int) -> str:
        """The line that says why a program ended: the last one that names an error, else the last one with a word in it.

        Args:
            begin: bytes that had been written when the program began.
        """
        size = min(self.written - begin, 16 << 10)
        text = _CONTROL.sub("", self.tail(size).decode("utf-8", "replace")) if size else ""
        lines = [line for line in text.splitlines() if any(map(str.isalpha, line))]
        outer = [line for line in lines if not line[0].isspace()] or lines  # what is indented belongs to what stands above it
        named = [line for line in outer if _ERROR.search(line)]
        return next((line.strip(_FRAME)[:300] for line in reversed(named or outer)), "")

    def close(self) -> None:
        self._file.close()
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None
