"""The folders with project files that this server knows: the one that Jupyter serves, and those that were asked for.

What their files say has no effect until the user has allowed this very content. The consent is to the digest of a reading:

    none       no content of the folder was allowed
    given      the content that was read last was allowed: its rules for ports count, its services may be started
    changed    another content was allowed

`up` starts each service from the template of a reading that was made at that moment, and whose digest is the allowed one. So a
file that changes between the question and the answer, or between two starts, starts nothing more. A restart uses the template of
the start, as long as the last reading has it, too. What runs goes on when a file changes or the folder is deleted; what the files
no longer have leaves the list of services when it does not run. When the consent is withdrawn, all is stopped and deleted.

Files are read in threads: before each start, and for requests and the event stream if a `stat` has changed, at most once a second
for a folder. Without a request, files are read only while a client follows the event stream.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import BadInput, ConsentMissing, FolderChanged, GatewayError, NotFound, ShuttingDown
from ..services.dependencies import in_order
from ..services.folder_rules import FolderRules
from ..services.manager import ServiceManager
from ..services.service import Service
from ..services.start_order import with_related
from ..services.template_keys import is_encodable
from ..services.templates import Template
from ..services.user_file import in_thread
from . import file_stamps, read
from .consents import Consents
from .description import describe
from .file_stamps import Stamp
from .model import ProjectFile

MAX_FOLDERS = 50
MAX_PATH = 4096  # characters
READ_INTERVAL = 1.0  # s between two readings of a folder, except before a start
_REFRESH_LIMIT = 1.0  # s for which the event stream waits for a slow file system
Item = dict[str, Any]
Consent = Literal["none", "given", "changed"]


@dataclass(eq=False)
class KnownFolder:
    """What is known of one folder.

    Attributes:
        path: its real path.
        file: what was read last; None if there is no project file.
        content: that as the API shows it.
        stamp: of the watched files at that time; None before the first reading, and if they may have changed since.
        read_at: monotonic time of the last reading.
        is_opened: it was opened by a person, or is the one that Jupyter serves.
        reading: held while it is read.
        changing: held while its services are started or stopped.
    """

    path: str
    file: ProjectFile | None = None
    content: Item = field(init=False)
    stamp: Stamp | None = None
    read_at: float = float("-inf")
    is_opened: bool = False
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.content = describe(ProjectFile(self.path))

    @property
    def name(self) -> str:
        return str(self.content["name"])


class Folders:
    """The known folders.

    Args:
        root_dir: the folder that Jupyter serves; relative paths count from it.
        rules: where the rules for ports of allowed folders go.
    """

    def __init__(
        self, root_dir: str, consents: Consents, services: ServiceManager, rules: FolderRules, log: logging.Logger
    ) -> None:
        self._root = os.path.realpath(root_dir)
        self._consents, self._services, self._rules, self._log = consents, services, rules, log
        self._known: dict[str, KnownFolder] = {}  # the least recently used first
        self._refreshing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the folder that Jupyter serves, and start its services that start by themselves."""
        root = self._remember(await self._locate(""))
        await self._update(root)
        await self._open(root)

    def close(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()

    # ---- queries ----

    def items(self) -> list[Item]:
        """The known folders that have a project file, or services (schema `Folder` of docs/openapi.yaml)."""
        return [self.describe(known) for _, known in sorted(self._known.items()) if self._has_anything(known)]

    def describe(self, known: KnownFolder) -> Item:
        """One folder (schema `Folder` of docs/openapi.yaml)."""
        by_template = {
            service.template.name: service for service in sorted(self._services_of(known), key=lambda each: each.alive)
        }
        services = []
        for item in known.content["services"]:
            service = by_template.get(item["name"])
            state = {"service": service.name, "state": service.state} if service is not None else {"service": None, "state": None}
            services.append({**item, **state})
        inside = os.path.relpath(known.path, self._root)
        is_inside = inside != ".." and not inside.startswith("../")
        path = ("" if inside == "." else inside) if is_inside else known.path
        return {**known.content, "path": path, "services": services, "consent": self._consent_of(known)}

    def may_start(self, template: Template) -> bool:
        """True if a template is that of the last reading of its folder, which the user has allowed."""
        known = self._known.get(template.folder)
        return (
            known is not None
            and known.file is not None
            and known.file.templates.get(template.name) == template
            and self._consent_of(known) == "given"
        )

    async def find_allowed(self, path: str, name: str) -> Template | None:
        """The template of a service that ran before the server's start; None if the user has not allowed it as it is now."""
        try:
            known = await self.find(path)
        except GatewayError:
            return None
        template = known.file.templates.get(name) if known.file is not None else None
        return template if template is not None and self.may_start(template) else None

    async def find(self, path: object) -> KnownFolder:
        """A folder, read again if its files have changed.

        Args:
            path: relative to `root_dir`, or absolute.

        Raises:
            NotFound: there is no project file, or no such folder.
            BadInput: the path is no text, or too many folders with services are known.
        """
        known = await self._locate(path)
        await self._update(known)
        known = self._remember(known)
        if not self._has_anything(known):
            is_missing = await asyncio.to_thread(_is_missing, known.path)
            raise NotFound.folder(known.path) if is_missing else NotFound.project_file(known.name)
        return known

    async def refresh(self) -> None:
        """Read the folders whose files have changed, for the event stream."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh(), name="portproxy folders")
        await asyncio.wait({self._refreshing}, timeout=_REFRESH_LIMIT)
        if self._refreshing.done() and not self._refreshing.cancelled() and (error := self._refreshing.exception()):
            self._log.error("portproxy: the project files cannot be read: %r", error)

    # ---- commands ----

    async def open(self, path: object) -> Item | None:
        """A person looks at a folder: at the first time, its services that start by themselves are started, if it is allowed.

        Returns:
            None if there is no project file.

        Raises:
            BadInput: see `find`.
        """
        try:
            known = await self.find(path)
        except NotFound:
            return None
        await self._open(known)
        return self.describe(known)

    async def allow(self, path: object, digest: object) -> Item:
        """Allow the content with this digest.

        Raises:
            FolderChanged: the folder has another content by now.
            NotFound, BadInput: see `find`; and the consent cannot be stored.
        """
        known = await self.find(path)
        await self._read_now(known)
        if known.file is None or digest != known.file.digest:
            raise FolderChanged(known.name)
        await in_thread(self._consents.give, known.path, known.file.digest)
        self._apply_rules(known)
        return self.describe(known)

    async def withdraw(self, path: object) -> Item:
        """Take the consent back: the rules for ports end, and its services are stopped and deleted.

        Raises:
            BadInput: see `find`; and the consent cannot be removed.
        """
        known = await self._locate(path)
        await in_thread(self._consents.withdraw, known.path)
        self._apply_rules(known)
        async with known.changing:
            await self._services.stop_all(self._services_of(known))
            for service in self._services_of(known):
                await self._services.delete(service.name)
        await self._update(known)
        return self.describe(known)

    async def up(self, path: object, digest: object, started_by: str, names: Collection[str] | None = None) -> Item:
        """Start the services of a folder that do not run, and again those that run with another template.

        Args:
            names: which ones, which are started with what they depend on; None for all.

        Returns:
            the folder, with its `failures`: those that could not be started. What does not depend on them is started.

        Raises:
            ConsentMissing: the user has not allowed this content.
            FolderChanged: the folder has another content than `digest`. What was started before that goes on.
            NotFound, BadInput: see `find`; and there is no service of a given name.
        """
        known = await self.find(path)
        if names is not None and known.file is not None:
            _check_names(known, names, known.file.templates)
        failures = await self._start(known, digest, started_by, names)
        return {**self.describe(known), "failures": failures}

    async def down(self, path: object, names: Collection[str] | None = None) -> Item:
        """Stop services of a folder, each after those that depend on it. The folder need not exist any more.

        Args:
            names: which ones, with what depends on them, and what only they need; None for all.

        Raises:
            NotFound: it has neither a project file nor services; or no service of a given name.
            BadInput: see `find`.
        """
        known = await self.find(path)
        if names is not None:  # now: one that is being stopped may have left the list when it is this call's turn
            templates = known.file.templates if known.file is not None else {}
            _check_names(known, names, {*templates, *(service.template.name for service in self._services_of(known))})
        async with known.changing:
            services = self._services_of(known)
            if names is not None:
                services = with_related([service for service in services if service.template.name in names], services)
            await self._services.stop_all(services)
        await self._apply(known)  # what the files no longer have leaves the list
        return self.describe(known)

    async def _open(self, known: KnownFolder) -> None:
        if known.is_opened:
            return
        known.is_opened = True
        file = known.file
        if file is None or self._consent_of(known) != "given":
            return
        names = [name for name, template in file.templates.items() if template.autostart == "always"]
        try:
            failures = await self._start(known, file.digest, "", names)
        except GatewayError as error:
            return self._log.warning("portproxy: services of %s are not started: %s", known.path, error.message)
        for failure in failures:
            self._log.warning("portproxy: '%s' of %s is not started: %s", failure["name"], known.path, failure["message"])

    async def _start(self, known: KnownFolder, digest: object, started_by: str, names: Collection[str] | None) -> list[Item]:
        """Start services in their order. Returns those that could not be started, each with a sentence."""
        failures: dict[str, str] = {}
        async with known.changing:
            file = await self._read_allowed(known, digest)
            for number, name in enumerate(in_order(file.templates, names)):
                template = file.templates[name]
                running = self._services.find_running(template)
                if running and running.template == template:
                    continue
                if running is not None:
                    await self._services.stop(running.name)
                if number or running:
                    file = await self._read_allowed(known, digest)
                if need := next((need for need in template.depends_on if need in failures), ""):
                    failures[name] = f"It needs '{need}', which is not started."
                    continue
                try:
                    self._services.start_template(template, started_by=started_by)
                except (ConsentMissing, ShuttingDown):
                    raise
                except GatewayError as error:
                    failures[name] = error.message
        return [{"name": name, "message": message} for name, message in failures.items()]

    async def _read_allowed(self, known: KnownFolder, digest: object) -> ProjectFile:
        """A reading that the user has allowed, made now. Raises: ConsentMissing, FolderChanged"""
        file = await self._read_now(known)
        if file is None or file.digest != digest:
            raise FolderChanged(known.name)
        if self._consent_of(known) != "given":
            raise ConsentMissing(known.name)
        return file

    # ---- services ----

    def _services_of(self, known: KnownFolder) -> list[Service]:
        return [service for service in self._services.list() if service.template.folder == known.path]

    def _has_anything(self, known: KnownFolder) -> bool:
        return known.file is not None or bool(self._services_of(known))

    # ---- consent ----

    def _consent_of(self, known: KnownFolder) -> Consent:
        digest = self._consents.get(known.path)
        if digest is None or known.file is None:
            return "none"
        return "given" if digest == known.file.digest else "changed"

    def _apply_rules(self, known: KnownFolder) -> None:
        """Let the rules for ports count exactly while the content is allowed."""
        is_given = known.file is not None and self._consent_of(known) == "given"
        self._rules.put(known.path, known.file.ports if known.file is not None and is_given else ())

    async def _apply(self, known: KnownFolder) -> None:
        """Apply the last reading to the rules for ports and to the list of services."""
        self._apply_rules(known)
        for service in self._services_of(known):
            is_removed = _has_removed(known.file, service.template.name)
            self._services.set_removed(service, is_removed)
            is_listed = service.name in self._services  # another request may have deleted it meanwhile
            if is_removed and is_listed and not service.alive and not known.changing.locked():
                await self._services.delete(service.name)

    # ---- which folders are known ----

    async def _locate(self, path: object) -> KnownFolder:
        """The folder at a path, known or not. Raises: BadInput"""
        if not isinstance(path, str) or len(path) > MAX_PATH or "\0" in path or not is_encodable(path):
            raise BadInput.value("path", path, f"Send a text of at most {MAX_PATH} characters, relative to Jupyter's folder.")
        folder = await asyncio.to_thread(os.path.realpath, os.path.join(self._root, path))
        return self._known.get(folder) or KnownFolder(folder)

    def _remember(self, known: KnownFolder) -> KnownFolder:
        """Make a folder the most recently used one, and return what is known of it by now.

        Raises:
            BadInput: there are too many with services.
        """
        if known.path not in self._known and known.file is None and known.path != self._root:
            return known
        known = self._known.pop(known.path, known)  # another request may have been faster
        while len(self._known) >= MAX_FOLDERS:
            idle = (each for each in self._known.values() if each.path != self._root and not self._services_of(each))
            oldest = next(idle, None)
            if oldest is None:
                raise BadInput(f"{MAX_FOLDERS} folders have services already.", "Delete the services of one first.")
            del self._known[oldest.path]
            self._rules.put(oldest.path, ())
        self._known[known.path] = known
        return known

    # ---- reading ----

    async def _update(self, known: KnownFolder) -> None:
        """Read a folder if its files have changed, but not within a second after the last time: wait until then.

        Requests that wait at the same time share one reading.
        """
        asked = time.monotonic()
        async with known.reading:
            if known.read_at > asked:  # while this one waited for the lock
                pass
            elif known.stamp is None or known.stamp != await asyncio.to_thread(
                file_stamps.take, known.path, _watched(known.file)
            ):
                await asyncio.sleep(known.read_at + READ_INTERVAL - time.monotonic())
                await self._read(known)
        await self._apply(known)

    async def _read_now(self, known: KnownFolder) -> ProjectFile | None:
        async with known.reading:
            await self._read(known)
        await self._apply(known)
        return known.file

    async def _read(self, known: KnownFolder) -> None:
        known.read_at = time.monotonic()
        known.file, known.content, known.stamp = await asyncio.to_thread(_read_and_stamp, known.path, self._services.templates)

    async def _refresh(self) -> None:
        known = list(self._known.values())
        stamps = await asyncio.to_thread(lambda: [file_stamps.take(each.path, _watched(each.file)) for each in known])
        for each, stamp in zip(known, stamps, strict=True):
            if stamp != each.stamp and time.monotonic() - each.read_at >= READ_INTERVAL:
                await self._read_now(each)
            else:
                await self._apply(each)  # another server of this user may have changed the consent


def _check_names(known: KnownFolder, names: Iterable[str], available: Iterable[str]) -> None:
    """Raises: NotFound: a name is not one of those that are available."""
    for name in names:
        if name not in available:
            raise NotFound.service_of_folder(name, known.name, available)


def _is_missing(path: str) -> bool:
    """True if there is no such folder; False if that cannot be known, as it is below one that this user may not read."""
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def _has_removed(file: ProjectFile | None, name: str) -> bool:
    """True if the files no longer have a service. A service with a problem, or in a file with one, is not removed."""
    if file is None:
        return True
    return name not in file.templates and not any(
        problem.key in ("", "services") or f".{name}." in f".{problem.key}." for problem in file.problems
    )


def _watched(file: ProjectFile | None) -> list[str]:
    return sorted({*read.CANDIDATES, *(file.watched if file is not None else ())})


def _read_and_stamp(folder: str, others: dict[str, Template]) -> tuple[ProjectFile | None, Item, Stamp | None]:
    """A reading, as the API shows it, and the stamp of its files: None if one has changed so recently that the times cannot tell
    another change.
    """
    file = read.read_folder(folder, others)
    watched = _watched(file)
    stamp = file_stamps.take(folder, watched)
    is_certain = not file_stamps.may_hide_change(folder, watched)
    return file, describe(file or ProjectFile(folder)), stamp if is_certain else None
