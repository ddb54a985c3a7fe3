"""What services have printed: the last of it in memory, all of it in files of this server's own.

Rule of this file: no service waits for a disk, two servers never write one file, and what ended servers leave is bounded.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections import deque
from io import FileIO
from pathlib import Path

import psutil

_RING = 1 << 20
_LOG_FILE = 10 << 20
_ENDED = 5  # servers whose logs are kept, to see why they ended
_FOLDER = re.compile(r"jpserver-([0-9]+)\Z", re.ASCII)


def folder(parent: Path) -> Path:
    """Where this server's logs are: it has the name of the server's file in Jupyter's runtime folder, with its pid."""
    return parent / f"jpserver-{os.getpid()}"


def prepare(own: Path) -> None:
    """Make this server's folder, private to this user, and remove those of ended servers but the last five."""
    for path in (own.parent, own):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    ended = []
    for path in own.parent.iterdir():
        found = _FOLDER.match(path.name)
        if found and path != own and not psutil.pid_exists(int(found[1])):
            ended.append(path)
    for path in sorted(ended, key=_written, reverse=True)[_ENDED:]:
        shutil.rmtree(path, ignore_errors=True)


def _written(path: Path) -> float:
    """When something was written there last. Another machine that shares the folder may still do it: there, pids tell nothing."""
    times = [0.0]
    with contextlib.suppress(OSError):  # another server removes it, too
        times += [file.stat().st_mtime for file in (path, *path.iterdir())]
    return max(times)


def _open_log(path: Path) -> FileIO:
    """Unbuffered: nothing is left to write when it is closed, however full the disk is. Where there is no room, nowhere."""
    try:
        return FileIO(path, "ab")
    except OSError:
        return FileIO(os.devnull, "ab")


class Log:
    """What a service has printed: the last MiB in memory, and a file of at most 10 MiB, the file before it kept as `.1`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0  # bytes since the service's first start
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._file = _open_log(path)

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
            self.path.replace(self.path.with_suffix(".log.1"))
            full, self._file = self._file, _open_log(self.path)
            full.close()
        self._file.write(data)

    def tail(self, size: int = _RING) -> bytes:
        """The last bytes, at most `size` of what is in memory."""
        return b"".join(self._pieces)[-size:]

    def last_lines(self, count: int = 20) -> list[str]:
        """The last lines, at most 400 characters of each."""
        lines = self.tail(64 << 10).decode("utf-8", "replace").splitlines()
        return [line[:400] for line in lines[-count:]]

    def close(self) -> None:
        self._file.close()
