"""The ports that this server's user has allowed besides `allowed_ports`, in a file of the user's data folder (user_file)."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput, NotFound
from .user_file import UserDataFile, find_entries, is_time, parse_seconds

MAX_PORTS = 1000


@dataclass(frozen=True, slots=True)
class UserPort:
    """An allowed port. `until`: seconds since 1970; None for no end."""

    port: int
    until: float | None = None


class UserPorts:
    """The list in one file. Methods that change it raise BadInput if it cannot be used."""

    def __init__(self, path: Path, log: logging.Logger) -> None:
        self._file = UserDataFile(path, "allowed ports", _load, _dump, log)

    def get(self, port: int) -> UserPort | None:
        """The entry of a port; None if it is not allowed, or not any more."""
        allowed = self._file.read().get(port)
        return allowed if allowed is not None and not _has_ended(allowed) else None

    def list(self) -> list[UserPort]:
        """All entries that have not ended, by port."""
        return sorted((each for each in self._file.read().values() if not _has_ended(each)), key=lambda each: each.port)

    def add(self, port: int, seconds: object = None) -> UserPort:
        """Allow a port.

        Args:
            seconds: from now on, at most 366 days; None for no end.

        Raises:
            BadInput: the time is invalid, or there are too many ports.
        """
        added = UserPort(port, None if seconds is None else time.time() + parse_seconds(seconds))
        with self._file.change() as ports:
            for each in [each for each in ports.values() if _has_ended(each)]:
                del ports[each.port]
            ports[port] = added
            if len(ports) > MAX_PORTS:
                raise BadInput(f"{MAX_PORTS} ports are allowed already.", "Take back one that you do not need.")
        return added

    def remove(self, port: int) -> None:
        """Take a port back.

        Raises:
            NotFound: it was not allowed here.
        """
        with self._file.change() as ports:
            removed = ports.pop(port, None)
            if removed is None or _has_ended(removed):
                raise NotFound.allowed_port(port)


def _load(data: Any) -> dict[int, UserPort]:
    """Raises: ValueError, OverflowError"""
    ports = {}
    for text, until in find_entries(data, "ports", dict, MAX_PORTS).items():
        is_end = until is None or is_time(until)
        if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535) or not is_end:
            raise ValueError(f"invalid entry {text[:20]!r}")
        ports[int(text)] = UserPort(int(text), until)
    return ports


def _dump(ports: dict[int, UserPort]) -> object:
    return {"ports": {str(port): each.until for port, each in sorted(ports.items())}}


def _has_ended(allowed: UserPort) -> bool:
    return allowed.until is not None and allowed.until <= time.time()
