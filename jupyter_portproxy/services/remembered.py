"""Services that are started again when this server was restarted, in a file of the user's data folder.

A server with the same root folder takes over what one that has ended has left. Entries of a server that still runs are its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..errors import GatewayError
from ..system import process_identity
from .service import Service
from .user_file import UserDataFile, in_thread

_Key = tuple[str, str]
_TEXTS = ("root_dir", "name", "template", "folder", "kernel", "started_by", "process_started", "boot")


@dataclass(frozen=True, slots=True)
class RememberedService:
    """A service, and the server that has started it.

    Attributes:
        template: its template's name.
        folder: its template's folder; empty if it is of the configuration.
        pid, process_started, boot: identify the server's process.
    """

    root_dir: str
    name: str
    template: str
    folder: str
    arguments: dict[str, str]
    kernel: str
    started_by: str
    pid: int
    process_started: str
    boot: str


class RememberedServices:
    """The services of this server in that file, which is changed in the background.

    Args:
        root_dir: identifies the server among those of the user.
    """

    def __init__(self, path: Path, root_dir: str, log: logging.Logger) -> None:
        self._file = UserDataFile[_Key, RememberedService](path, "remembered services", _load, _dump, log)
        self._root_dir, self._log = os.path.realpath(root_dir), log
        self._changes: set[asyncio.Task[None]] = set()

    def remember(self, service: Service) -> None:
        entry = RememberedService(
            self._root_dir, service.name, service.template.name, service.template.folder, dict(service.arguments),
            service.kernel, service.started_by, **_own_identity(),
        )  # fmt: skip
        self._change(lambda entries: entries.update({(self._root_dir, service.name): entry}))

    def forget(self, name: str) -> None:
        if (self._root_dir, name) in self._file.read() or self._changes:
            self._change(lambda entries: entries.pop((self._root_dir, name), None))

    async def take_over(self) -> list[RememberedService]:
        """The services that a server of this root folder has left. From now on they are this server's."""
        try:
            return await in_thread(self._take_over) if self._file.read() else []
        except GatewayError as error:
            self._log.error("portproxy: %s No service of the last server is started. %s", error.message, error.hint)
            return []

    async def close(self) -> None:
        """Wait until the file has all changes."""
        if self._changes:
            await asyncio.wait(self._changes)

    def _take_over(self) -> list[RememberedService]:
        boot = process_identity.boot_id()
        with self._file.change() as entries:
            left = [entry for entry in entries.values() if entry.root_dir == self._root_dir and not _has_server(entry, boot)]
            entries.update({(entry.root_dir, entry.name): replace(entry, **_own_identity()) for entry in left})
        return left

    def _change(self, change: Callable[[dict[_Key, RememberedService]], object]) -> None:
        task = asyncio.get_running_loop().create_task(self._apply(change), name="portproxy remembered services")
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)

    async def _apply(self, change: Callable[[dict[_Key, RememberedService]], object]) -> None:
        def write() -> None:
            with self._file.change() as entries:
                change(entries)

        try:
            await in_thread(write)
        except GatewayError as error:
            self._log.warning("portproxy: %s It counts for services after a restart of the server. %s", error.message, error.hint)


def _own_identity() -> dict[str, Any]:
    pid = os.getpid()
    return {"pid": pid, "process_started": process_identity.start_time(pid), "boot": process_identity.boot_id()}


def _has_server(entry: RememberedService, boot: str) -> bool:
    """True if the server that has started it runs, and is not this one."""
    if entry.boot != boot or entry.pid == os.getpid():
        return False
    return process_identity.is_running(entry.pid, entry.process_started)


def _load(data: Any) -> dict[_Key, RememberedService]:
    if not isinstance(data, list):
        raise ValueError("it is not a list")
    entries = [_load_entry(entry) for entry in data]
    return {(entry.root_dir, entry.name): entry for entry in entries}


def _load_entry(data: Any) -> RememberedService:
    if not isinstance(data, dict) or data.keys() != {field.name for field in fields(RememberedService)}:
        raise ValueError(f"an entry has other keys: {str(data)[:200]}")
    arguments = data["arguments"]
    texts = [*(data[key] for key in _TEXTS), *(arguments.items() if isinstance(arguments, dict) else [None])]
    flat = [part for text in texts for part in (text if isinstance(text, tuple) else (text,))]
    if not all(isinstance(text, str) for text in flat) or type(data["pid"]) is not int:
        raise ValueError(f"an entry has other types: {str(data)[:200]}")
    return RememberedService(**data)


def _dump(entries: dict[_Key, RememberedService]) -> object:
    return [asdict(entry) for entry in entries.values()]
