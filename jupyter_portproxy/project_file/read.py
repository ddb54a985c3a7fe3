"""Reads what a folder needs: `portproxy.toml`, or else all of the files that repositories have for other tools."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from ..services.port_rules import PortRule
from ..services.templates import Template
from . import compose, devcontainer, gitpod, portproxy_toml, procfile
from .devcontainer import ComposeUse
from .document import UnreadableFile
from .entries import MAX_PORTS, Entries
from .folder_files import FolderFiles
from .model import Problem, ProjectFile, Source, SourceKind
from .port_order import resolve

PROJECT_FILE = "portproxy.toml"
DEVCONTAINER_FOLDER = ".devcontainer"
DEVCONTAINERS = (".devcontainer/devcontainer.json", ".devcontainer.json")  # the first that exists is read
GITPOD = ".gitpod.yml"
PROCFILE = "Procfile"
CANDIDATES = (
    PROJECT_FILE,
    *DEVCONTAINERS,
    DEVCONTAINER_FOLDER,
    GITPOD,
    PROCFILE,
    *compose.NAMES,
)  # any of them makes a project file
T = TypeVar("T")


def read_folder(path: str | os.PathLike[str], others: Mapping[str, Template] = MappingProxyType({})) -> ProjectFile | None:
    """What the project files of a folder say; None if it has none, or is no folder. Nothing is started or changed.

    Args:
        others: templates of this server, on which those of a `portproxy.toml` may depend.
    """
    folder = os.path.realpath(path)
    if not os.path.isdir(folder):
        return None
    reading = _Reading(folder)
    if reading.files.exists(PROJECT_FILE):
        reading.read_project_file(others)
    else:
        reading.read_others()
    return reading.result()


class _Reading:
    """One reading of one folder."""

    def __init__(self, folder: str) -> None:
        self.files = FolderFiles(folder)
        self._sources: list[Source] = []
        self._entries: list[Entries] = []

    def result(self) -> ProjectFile | None:
        if not self._entries:
            return None
        ports = self._order_ports()
        # Two files may use the same `.env`.
        problems = list(dict.fromkeys(problem for entries in self._entries for problem in entries.problems))
        if len(ports) > MAX_PORTS:
            message = f"All files together have {len(ports)} entries for ports; only the first {MAX_PORTS} are used."
            problems.append(Problem(self._entries[-1].file, None, "", message, "Write ranges, or remove some."))
        return ProjectFile(
            folder=self.files.folder,
            sources=tuple(self._sources),
            templates={name: template for entries in self._entries for name, template in entries.templates.items()},
            ports=tuple(ports[:MAX_PORTS]),
            problems=tuple(problems),
            notes=tuple(note for entries in self._entries for note in entries.notes),
            digest=self.files.digest,
            watched=tuple(self.files.watched),
        )

    def _order_ports(self) -> list[PortRule]:
        """The rules of all files. In those of other tools, single ports count before ranges."""
        if self._sources and self._sources[0].kind == "portproxy.toml":
            return self._entries[0].ports
        return resolve([rule for entries in self._entries for rule in sorted(entries.ports, key=_is_range)])

    def read_project_file(self, others: Mapping[str, Template]) -> None:
        entries = self._begin(PROJECT_FILE, "portproxy.toml")
        left_out = [path for path in (*self._devcontainers(), GITPOD, PROCFILE, *compose.NAMES) if self.files.exists(path)]
        if left_out:
            verb = "is" if len(left_out) == 1 else "are"
            entries.add_note(None, f"{', '.join(left_out)} {verb} left out, as there is a {PROJECT_FILE}.")
        self._read(entries, lambda text: portproxy_toml.read(text, entries, self.files, others))

    def read_others(self) -> None:
        """Read the files of other tools, in the order in which their attributes of ports count."""
        compose_use = self._read_devcontainer()
        if self.files.exists(GITPOD):
            entries = self._begin(GITPOD, ".gitpod.yml")
            self._read(entries, lambda text: gitpod.read(text, entries))
        if self.files.exists(PROCFILE):
            entries = self._begin(PROCFILE, "Procfile")
            self._read(entries, lambda text: procfile.read(text, entries, self.files))
        self._read_compose(compose_use)

    def _begin(self, path: str, kind: SourceKind) -> Entries:
        self._sources.append(Source(path, kind))
        self._entries.append(Entries(path))
        return self._entries[-1]

    def _read(self, entries: Entries, read: Callable[[str], T]) -> T | None:
        try:
            return read(self.files.read_text(entries.file))
        except UnreadableFile as error:
            entries.add_unreadable(error)
            return None

    def _read_devcontainer(self) -> ComposeUse | None:
        """Returns: the use of Compose; its files are relative to the folder."""
        found = self._devcontainers()
        if not found:
            return None
        if len(found) > 1:
            entries = Entries(found[0])
            self._entries.append(entries)
            choices = ", ".join(found)
            entries.add_note(None, f"{choices} are left out, as each is a choice: copy one of them to {DEVCONTAINERS[0]}.")
            return None
        entries = self._begin(found[0], "devcontainer.json")
        use = self._read(entries, lambda text: devcontainer.read(text, entries, self.files.folder))
        if use is None:
            return None
        try:
            base = posixpath.dirname(found[0])
            return replace(use, files=tuple(self.files.locate(name, base) for name in use.files))
        except UnreadableFile as error:
            entries.add_problem(None, "dockerComposeFile", error.message, error.hint)
            return None

    def _devcontainers(self) -> list[str]:
        """The devcontainer.json of this folder; several only if the tools that read them offer a choice."""
        for path in DEVCONTAINERS:
            if self.files.exists(path):
                return [path]
        names = self.files.list_folders(DEVCONTAINER_FOLDER)
        return [path for name in names if self.files.exists(path := f"{DEVCONTAINER_FOLDER}/{name}/devcontainer.json")]

    def _read_compose(self, use: ComposeUse | None) -> None:
        """Read the files that devcontainer.json names, or else those that `docker compose` finds."""
        entries = Entries(use.files[0] if use and use.files else "compose.yaml")
        if use and use.files:
            names = compose.read_files(list(use.files), use.services, self.files, entries)
            left_out = [name for name in compose.NAMES if name not in names and self.files.exists(name)]
            for name in left_out:
                entries.add_note(None, f"{name} is left out: devcontainer.json has other files.", name)
        else:
            names = compose.read(self.files, entries)
        self._sources += [Source(name, "compose.yaml") for name in names]
        if names or entries.problems or entries.notes:
            self._entries.append(entries)


def _is_range(rule: PortRule) -> bool:
    return rule.ports is not None and "-" in rule.ports
