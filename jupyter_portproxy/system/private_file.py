"""Files that only their user can read, written as a whole by several processes."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: two processes that write at the same moment may lose one of the two changes
    fcntl = None  # type: ignore[assignment]


def replace_file(path: Path, content: str) -> None:
    """Write a file of mode 0600; other processes see the old content or the new one. Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        # The system's own times have steps of some milliseconds, in which an inode may be reused.
        os.utime(temporary, ns=(now := time.time_ns(), now))
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def hold_lock(path: Path, timeout: float) -> Iterator[None]:
    """Hold the lock of a file, `NAME.lock` beside it, among all processes of the user.

    Args:
        timeout: seconds to wait for another process, which may be stopped.

    Raises:
        TimeoutError: another process holds it.
        OSError: the lock cannot be created.
    """
    descriptor = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    end = time.monotonic() + timeout
    try:
        while fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise TimeoutError from None
            time.sleep(0.001)
        yield
    finally:
        os.close(descriptor)
