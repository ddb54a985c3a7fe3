"""Entries in a JSON file of the user's data folder, which all servers of the user read and write.

A change in the file counts for the next `read`, which compares the file's identity and times with those of the last. States of
the file: missing (no entries), read, or damaged (no entries, and nothing is written over it).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

from ..errors import BadInput
from ..system.private_file import hold_lock, replace_file

_LOCK_TIMEOUT = 0.2  # seconds
_MAX_SIZE = 4 << 20  # bytes
MAX_SECONDS = 366 * 86400  # for which an entry may count
_FileState = tuple[int, ...]
K = TypeVar("K")
V = TypeVar("V")
P = ParamSpec("P")
T = TypeVar("T")
_CHANGES = ThreadPoolExecutor(1, thread_name_prefix="portproxy-changes")


async def in_thread(change: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that changes a file, in the one thread for changes: it may wait for a lock or the disk."""
    return await asyncio.get_running_loop().run_in_executor(_CHANGES, partial(change, *args, **kwargs))


def parse_seconds(value: object) -> float:
    """The time for which an entry is to count. Raises: BadInput"""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_SECONDS:
        raise BadInput(f"Invalid time: {value!r:.40}.", f"Give seconds above 0, at most {MAX_SECONDS} (366 days).")
    return float(value)


def is_time(value: object) -> bool:
    """True for a time in a file. Raises: OverflowError"""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def find_entries(data: Any, key: str, kind: type[T], maximum: int) -> T:
    """The list or object of entries in a file's JSON value. Raises: ValueError"""
    entries = data.get(key) if isinstance(data, dict) else None
    if not isinstance(entries, kind) or len(entries) > maximum:  # type: ignore[arg-type]
        raise ValueError(f"it has no {'list' if kind is list else 'object'} '{key}' of at most {maximum} entries")
    return entries


@dataclass(frozen=True, slots=True)
class _Content(Generic[K, V]):
    """What one look has found. It is replaced as a whole, as another thread may read while one changes the file.

    Attributes:
        state: of the file; None if it does not exist or could not be read.
        damage: why its entries are unknown; else empty.
    """

    state: _FileState | None
    entries: dict[K, V]
    damage: str


class UserDataFile(Generic[K, V]):
    """The entries in one file, which only its user can read.

    Args:
        path: of the file; it and its folder are made with the first entry.
        noun: for the entries, in errors and in the log: "allowed ports".
        load: the entries in the file's JSON value. Raises ValueError, RecursionError, OverflowError.
        dump: the JSON value of the entries.

    Attributes:
        version: another number after each change that `read` has seen.
    """

    def __init__(
        self,
        path: Path,
        noun: str,
        load: Callable[[Any], dict[K, V]],
        dump: Callable[[dict[K, V]], object],
        log: logging.Logger,
    ) -> None:
        self.path, self._noun, self._load, self._dump, self._log = path, noun, load, dump, log
        self._name = str(path)  # os.stat takes it faster than a Path
        self._content: _Content[K, V] = _Content(None, {}, "")
        self.version = 0

    def read(self) -> dict[K, V]:
        """The entries, not to be changed; the same object as before if the file has not changed."""
        return self._look().entries

    @property
    def damage(self) -> str:
        """Why the entries are unknown now; else empty."""
        return self._look().damage

    def _look(self) -> _Content[K, V]:
        known = self._content
        try:
            status = os.stat(self._name)
            state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if state == known.state:
                return known
            try:
                found = _Content(state, self._parse(status), "")
            except (ValueError, RecursionError, OverflowError) as error:
                found = _Content(state, {}, str(error))
        except OSError as error:  # perhaps for a moment alone: the next look reads the file again
            damage = "" if isinstance(error, FileNotFoundError) else str(error)
            if known.state is None and known.damage == damage:
                return known
            found = _Content(None, {} if known.state else known.entries, damage)
        if found.damage and found.damage != known.damage:
            self._log.error("portproxy: the %s in %s cannot be read: %s", self._noun, self.path, found.damage)
        self._content = found
        self.version += found.state != known.state
        return found

    def _parse(self, status: os.stat_result) -> dict[K, V]:
        if os.name == "posix" and status.st_uid != os.getuid():
            raise PermissionError("it belongs to another user")
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_SIZE:
            raise ValueError(f"it is not a file of at most {_MAX_SIZE} bytes")
        return self._load(json.loads(self.path.read_bytes()))

    @contextlib.contextmanager
    def change(self) -> Iterator[dict[K, V]]:
        """A copy of the entries, to be changed in place and then written. An exception leaves the file as it is.

        Raises:
            BadInput: the file is damaged, another process changes it, or it cannot be written.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with hold_lock(self.path, _LOCK_TIMEOUT):
                content = self._look()
                if content.damage:
                    hint = f"Mend or delete {self.path.name} in the folder portproxy of Jupyter's data folder."
                    raise BadInput(f"The list of {self._noun} is damaged.", hint)
                entries = dict(content.entries)
                yield entries
                replace_file(self.path, json.dumps(self._dump(entries), indent=1))
        except TimeoutError:
            raise BadInput(f"Another program changes the list of {self._noun}.", "Try again.") from None
        except OSError as error:
            self._log.error("portproxy: the %s in %s cannot be written: %s", self._noun, self.path, error)
            reason = error.strerror or type(error).__name__
            raise BadInput(f"The list of {self._noun} cannot be written: {reason}.", "See the server's log.") from None
        self.read()
