"""The ports that this server's user has allowed besides `allowed_ports`, in a file of the user's data folder.

All servers of the user read the same file. A change in it counts for the next request: `get` compares the file's identity and
times with those of the last read. States of the file: missing (no port is allowed), read, or damaged (no port is allowed, and
nothing is written over it).
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadInput, NotFound

try:
    import fcntl
except ImportError:  # Windows: two servers that write at the same moment may lose one of the two changes
    fcntl = None  # type: ignore[assignment]

MAX_PORTS = 1000
MAX_SECONDS = 366 * 86400
_LOCK_TIMEOUT = 0.2  # seconds, in which the event loop stands still
_DAMAGED = "The list of allowed ports is damaged."
_FileState = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UserPort:
    """An allowed port. `until`: seconds since 1970; None for no end."""

    port: int
    until: float | None = None


class UserPorts:
    """The list in one file, which only its user can read.

    Args:
        path: of the file; it and its folder are made with the first port.
    """

    def __init__(self, path: Path, log: logging.Logger) -> None:
        self._path, self._log = path, log
        self._name = str(path)  # os.stat takes it faster than a Path
        self._state: _FileState | None = None
        self._ports: dict[int, UserPort] = {}
        self._damage = ""

    def get(self, port: int) -> UserPort | None:
        """The entry of a port; None if it is not allowed, or not any more."""
        self._read()
        allowed = self._ports.get(port)
        return allowed if allowed is not None and not _has_ended(allowed) else None

    def list(self) -> list[UserPort]:
        """All entries that have not ended, by port."""
        self._read()
        return sorted((each for each in self._ports.values() if not _has_ended(each)), key=lambda each: each.port)

    def add(self, port: int, seconds: object = None) -> UserPort:
        """Allow a port.

        Args:
            seconds: from now on, at most 366 days; None for no end.

        Raises:
            BadInput: the time is invalid, there are too many ports, or the file cannot be used.
        """
        is_time = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 < seconds <= MAX_SECONDS
        if seconds is not None and not is_time:
            raise BadInput(f"Invalid time: {seconds!r:.40}.", f"Give seconds above 0, at most {MAX_SECONDS} (366 days).")
        added = UserPort(port, time.time() + float(seconds) if isinstance(seconds, (int, float)) else None)
        with self._change() as ports:
            ports[port] = added
            if len(ports) > MAX_PORTS:
                raise BadInput(f"{MAX_PORTS} ports are allowed already.", "Take back one that you do not need.")
        return added

    def remove(self, port: int) -> None:
        """Take a port back.

        Raises:
            NotFound: it was not allowed here.
            BadInput: the file cannot be used.
        """
        with self._change() as ports:
            if ports.pop(port, None) is None:
                raise NotFound.allowed_port(port)

    # ---- the file ----

    def _read(self) -> None:
        try:
            status = os.stat(self._name)
        except OSError as error:
            self._state, self._ports = None, {}
            self._set_damage("" if isinstance(error, FileNotFoundError) else str(error))
            return
        state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if state == self._state:
            return
        self._state, self._ports, damage = state, {}, ""
        try:
            if os.name == "posix" and status.st_uid != os.getuid():
                raise PermissionError("it belongs to another user")
            self._ports = _parse(self._path.read_bytes())
        except (OSError, ValueError, RecursionError, OverflowError) as error:
            damage = str(error)
        self._set_damage(damage)

    def _set_damage(self, damage: str) -> None:
        if damage and damage != self._damage:
            self._log.error("portproxy: the allowed ports in %s cannot be read: %s", self._path, damage)
        self._damage = damage

    @contextlib.contextmanager
    def _change(self) -> Iterator[dict[int, UserPort]]:
        """The entries, to be changed in place and then written. An exception leaves the file as it is."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _lock(self._path.with_suffix(".lock")):
                self._read()
                if self._damage:
                    raise BadInput(
                        _DAMAGED, f"Mend or delete {self._path.name} in the folder portproxy of Jupyter's data folder."
                    )
                ports = {each.port: each for each in self.list()}
                yield ports
                self._write(ports)
        except OSError as error:
            self._log.error("portproxy: the allowed ports in %s cannot be written: %s", self._path, error)
            reason = error.strerror or type(error).__name__
            raise BadInput(f"The list of allowed ports cannot be written: {reason}.", "See the server's log.") from None
        self._read()

    def _write(self, ports: dict[int, UserPort]) -> None:
        content = json.dumps({"ports": {str(each.port): each.until for each in ports.values()}}, indent=1)
        descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}-")  # mode 0600
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(content)
            # The system's own times have steps of some milliseconds, in which an inode may be reused.
            os.utime(temporary, ns=(now := time.time_ns(), now))
            os.replace(temporary, self._path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _parse(content: bytes) -> dict[int, UserPort]:
    """Raises: ValueError, RecursionError, OverflowError"""
    data = json.loads(content)
    entries = data.get("ports") if isinstance(data, dict) else None
    if not isinstance(entries, dict) or len(entries) > MAX_PORTS:
        raise ValueError(f"it has no object 'ports' of at most {MAX_PORTS} entries")
    ports = {}
    for text, until in entries.items():
        is_time = until is None or (isinstance(until, (int, float)) and not isinstance(until, bool) and math.isfinite(until))
        if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535) or not is_time:
            raise ValueError(f"invalid entry {text[:20]!r}")
        ports[int(text)] = UserPort(int(text), until)
    return ports


def _has_ended(allowed: UserPort) -> bool:
    return allowed.until is not None and allowed.until <= time.time()


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock of all processes of the user, for the time of one small write.

    Raises:
        BadInput: another process holds it; that one may be stopped.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    end = time.monotonic() + _LOCK_TIMEOUT
    try:
        while fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise BadInput("Another program changes the list of allowed ports.", "Try again.") from None
            time.sleep(0.001)
        yield
    finally:
        os.close(descriptor)
