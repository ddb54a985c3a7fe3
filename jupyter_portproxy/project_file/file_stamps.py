"""Whether files have changed since they were read, by what the file system says of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

RESOLUTION = 2.0  # s within which another change may leave the times of a file as they are
Stamp = tuple[object, ...]


def take(folder: str, watched: Iterable[str]) -> Stamp:
    """What changes with each change of the files, and of the links that lead to them.

    Args:
        watched: paths relative to the folder, also of files that do not exist.
    """
    return tuple(_look(look, os.path.join(folder, path)) for path in watched for look in (os.lstat, os.stat))


def may_hide_change(folder: str, watched: Iterable[str]) -> bool:
    """True if a file has changed so recently that another change may leave its times as they are."""
    now = time.time()
    looks = (_look(os.stat, os.path.join(folder, path)) for path in watched)
    return any(abs(now - look[4] / 1e9) < RESOLUTION for look in looks if look is not None)


def _look(look: Callable[[str], os.stat_result], path: str) -> tuple[int, ...] | None:
    try:
        status = look(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
