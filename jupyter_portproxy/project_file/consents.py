"""What a person has allowed: folder -> digest of its project files, in a file of the user's data folder (services.user_file)."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from ..services.user_file import UserDataFile, find_entries

MAX_CONSENTS = 1000
_DIGEST = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)


class Consents:
    """The consents in one file. Methods that change them raise BadInput if it cannot be used.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path, log: logging.Logger) -> None:
        self._file = UserDataFile(path, "allowed folders", _load, _dump, log)

    def get(self, folder: str) -> str | None:
        """The digest that was allowed for a folder, a real path; None if there is none."""
        return self._file.read().get(folder)

    def give(self, folder: str, digest: str) -> None:
        """Allow this very content. Of more than `MAX_CONSENTS` the oldest is dropped."""
        with self._file.change() as consents:
            consents.pop(folder, None)  # the newest is last
            consents[folder] = digest
            while len(consents) > MAX_CONSENTS:
                del consents[next(iter(consents))]

    def withdraw(self, folder: str) -> None:
        """Take a consent back, if there is one."""
        if folder in self._file.read():
            with self._file.change() as consents:
                consents.pop(folder, None)


def _load(data: Any) -> dict[str, str]:
    """Raises: ValueError"""
    entries = find_entries(data, "folders", dict, MAX_CONSENTS)
    for folder, digest in entries.items():
        if not folder.startswith("/") or not isinstance(digest, str) or not _DIGEST.match(digest):
            raise ValueError(f"invalid entry {folder[:80]!r}")
    return entries


def _dump(consents: dict[str, str]) -> object:
    return {"folders": consents}
