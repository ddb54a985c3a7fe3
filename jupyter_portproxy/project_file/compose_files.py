"""The services of a Compose application: its files merged, with `extends` and `include`, as far as their ports need it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from types import NoneType
from typing import Any

from ..errors import print_value
from . import yaml_text
from .document import ParsedDocument, UnreadableFile, print_path, quote, suggest
from .entries import MAX_PORTS, Entries
from .folder_files import FolderFiles
from .interpolation import Interpolation, InvalidVariable, insert_variables
from .yaml_text import Tagged

ENVIRONMENT_FILE = ".env"
TOP_LEVEL = ("configs", "include", "models", "name", "networks", "secrets", "services", "version", "volumes")  # and `x-...`
MAX_EXTENDS = 10  # services in a chain
MAX_INCLUDED = 50  # applications
MAX_COMPOSE_SERVICES = 200
MAX_ITEMS = MAX_PORTS + 1  # of a list of a service
_REMOTE = re.compile(r"[A-Za-z0-9+.-]+://|git@|oci:", re.ASCII)


@dataclass(frozen=True, slots=True)
class Item:
    """A value of a list, and where it is. `interpolation` is that of its file."""

    value: Any
    file: str
    line: int | None
    interpolation: Interpolation


@dataclass(slots=True)
class ComposeService:
    """What counts of a service, of all files that have it. Lists are in the order of the files."""

    name: str
    file: str
    line: int | None
    ports: list[Item] = field(default_factory=list)
    labels: list[Item] = field(default_factory=list)  # of texts `key=value`, or pairs of both
    profiles: list[str] = field(default_factory=list)
    depends_on: list[str] = field(default_factory=list)
    network_mode: str = ""
    exposes: bool = False


class _File:
    """A document of a Compose file."""

    def __init__(self, name: str, document: ParsedDocument, interpolation: Interpolation, base: str) -> None:
        self.name, self.document, self.interpolation = name, document, interpolation
        self.base = base  # the folder of the application, to which paths are relative
        services = document.value.get("services") if isinstance(document.value, dict) else None
        self.services: dict[str, Any] = services if isinstance(services, dict) else {}

    def item(self, value: Any, *path: str | int) -> Item:
        return Item(value, self.name, self.document.line(*path), self.interpolation)


class ComposeFiles:
    """Reads the files of applications in one folder.

    Args:
        entries: where problems and notes are added.
    """

    def __init__(self, files: FolderFiles, entries: Entries) -> None:
        self._files, self._entries = files, entries
        self._parsed: dict[str, list[ParsedDocument]] = {}
        self._applications: set[tuple[str, ...]] = set()  # by their files
        self._interpolations: list[tuple[str, Interpolation]] = []  # of applications, with their first files

    @property
    def names(self) -> list[str]:
        """The Compose files that were read, without those of variables."""
        return list(self._parsed)

    def read_environment(self, path: str) -> dict[str, str]:
        """The variables of a `.env` file; none if it does not exist or cannot be read."""
        if not self._files.exists(path):
            return {}
        try:
            return self._files.read_variables(path, insert_variables)
        except UnreadableFile as error:
            self._entries.add_unreadable(error, path)
            return {}

    def load(self, names: Iterable[str], base: str, variables: Mapping[str, str]) -> dict[str, ComposeService]:
        """The services of one application, and of those that it includes. An application is read once.

        Args:
            names: its files, relative to the folder; later ones over earlier ones.
            base: the folder of the application, relative to the folder.
        """
        names = tuple(names)
        if names in self._applications or len(self._applications) > MAX_INCLUDED:
            return {}
        self._applications.add(names)
        interpolation = Interpolation(variables)
        self._interpolations.append((names[0], interpolation))
        documents = [document for name in names for document in self._parse(name, interpolation, base)]
        services: dict[str, ComposeService] = {}
        for document in documents:
            for name in document.services:
                if name not in services and len(services) >= MAX_COMPOSE_SERVICES:
                    message = f"There are more than {MAX_COMPOSE_SERVICES} services; the others are not read."
                    self._entries.add_problem(None, "services", message, "Remove some.", document.name)
                    break
                service = services.setdefault(name, ComposeService(name, document.name, document.document.line("services", name)))
                self._apply(service, name, document, ())
        for document in documents:
            for name, service in self._included(document, variables):
                if name in services:
                    message = f"The service '{name[:80]}' is there already; that of {service.file} is left out."
                    self._entries.add_problem(service.line, f"services.{name[:80]}", message, "Rename one of them.", service.file)
                services.setdefault(name, service)
        return services

    def add_notes(self) -> None:
        """Add notes of what the interpolation of values has found."""
        for name, interpolation in self._interpolations:
            for variable in sorted(interpolation.unset):
                self._entries.add_note(
                    None, f"The variable {variable[:80]} is not set in {ENVIRONMENT_FILE}, and counts as empty.", name
                )

    def _parse(self, name: str, interpolation: Interpolation, base: str) -> list[_File]:
        if name not in self._parsed:
            self._parsed[name] = []
            try:
                self._parsed[name] = list(self._parse_documents(name))
            except UnreadableFile as error:
                self._entries.add_unreadable(error, name)
        return [_File(name, document, interpolation, base) for document in self._parsed[name]]

    def _parse_documents(self, name: str) -> Iterator[ParsedDocument]:
        """Raises: UnreadableFile"""
        for document in yaml_text.parse(self._files.read_text(name)):
            if document.value is not None and not isinstance(document.value, dict):
                raise UnreadableFile("It is not a mapping of keys to values.", "Begin it with 'services:'.", 1)
            parsed = ParsedDocument(document.value or {}, document.lines)
            for key in parsed.value:
                if key not in TOP_LEVEL and not key.startswith("x-"):
                    message = f"There is no key '{key[:80]}' at the top level; services are below 'services'."
                    self._entries.add_problem(parsed.line(key), key, message, suggest(key, TOP_LEVEL), name)
            if not isinstance(parsed.value.get("services", {}), (dict, NoneType)):
                message = f"'services' is not a mapping: {quote(parsed.value['services'])}."
                self._entries.add_problem(parsed.line("services"), "services", message, "Write each service as a key.", name)
            for path, line in document.repeated:
                message = f"'{str(path[-1])[:80]}' is there twice; the first one counts."
                self._entries.add_problem(line, print_path(path), message, "Remove one of them.", name)
            yield document

    # ---- one service ----

    def _apply(self, service: ComposeService, name: str, file: _File, chain: tuple[tuple[str, str], ...]) -> None:
        """Add what a file says of a service, after what it extends."""
        data = file.services[name]
        data = data.value if isinstance(data, Tagged) else data
        if data is None:
            return
        if not isinstance(data, dict):
            message = f"The service '{name[:80]}' is not a mapping: {quote(data)}."
            return self._entries.add_problem(
                file.document.line("services", name), f"services.{name[:80]}", message, "", file.name
            )
        if "extends" in data:
            self._extend(service, name, data["extends"], file, (*chain, (file.name, name)))
        ports = data.get("ports")
        if not isinstance(ports, (list, Tagged, NoneType)):
            line, message = file.document.line("services", name, "ports"), f"'ports' is not a list: {quote(ports)}."
            self._entries.add_problem(line, f"services.{name[:80]}.ports", message, 'Write ["8080:80"].', file.name)
            ports = None
        _merge(service.ports, ports, file, name, "ports")
        _merge(service.labels, data.get("labels"), file, name, "labels")
        if isinstance(data.get("profiles"), list):
            service.profiles += [print_value(profile) for profile in data["profiles"][:MAX_ITEMS]]
        if isinstance(data.get("depends_on"), (list, dict)):
            service.depends_on += [need for need in list(data["depends_on"])[:MAX_ITEMS] if isinstance(need, str)]
        if isinstance(data.get("network_mode"), str):
            service.network_mode = data["network_mode"]
        service.exposes |= bool(data.get("expose"))

    def _extend(self, service: ComposeService, name: str, extends: Any, file: _File, chain: tuple[tuple[str, str], ...]) -> None:
        base, other = (extends.get("service"), extends.get("file")) if isinstance(extends, dict) else (extends, None)
        line, key = file.document.line("services", name, "extends"), f"services.{name[:80]}.extends"
        if not isinstance(base, str) or not isinstance(other, (str, type(None))):
            return self._entries.add_problem(
                line, key, f"'extends' is {quote(extends)}.", "Write the name of a service.", file.name
            )
        try:
            path = file.name if other is None else self._files.locate(file.interpolation.replace(other), file.base)
            sources = [file] if path == file.name else self._parse(path, file.interpolation, posixpath.dirname(path))
        except (UnreadableFile, InvalidVariable) as error:
            return self._entries.add_problem(line, key, f"'extends' cannot be read: {error}", "Correct it.", file.name)
        source = next((source for source in sources if base in source.services), None)
        if source is None:
            if sources:
                message = f"'extends' names '{base[:80]}', which {path} does not have."
                self._entries.add_problem(line, key, message, "Correct it.", file.name)
            return
        if (path, base) in chain or len(chain) > MAX_EXTENDS:
            names = " -> ".join([*(each[:80] for _, each in chain), base[:80]])
            return self._entries.add_problem(line, key, f"'extends' is a cycle: {names}.", "Correct it.", file.name)
        self._apply(service, base, source, chain)

    # ---- other applications ----

    def _included(self, file: _File, variables: Mapping[str, str]) -> Iterator[tuple[str, ComposeService]]:
        items = file.document.value.get("include") if isinstance(file.document.value, dict) else None
        for index, item in enumerate(items[:MAX_ITEMS] if isinstance(items, list) else []):
            line, key = file.document.line("include", index), f"include[{index}]"
            long = item if isinstance(item, dict) else {"path": item}
            try:
                paths = [file.interpolation.replace(path) for path in _texts(long.get("path"))]
                if any(_REMOTE.match(path) for path in paths):
                    self._entries.add_note(line, f"{quote(item)} is left out: it is not in this folder.", file.name)
                    continue
                if not paths:
                    self._entries.add_problem(line, key, f"{quote(item)} has no path.", "Write the path of a file.", file.name)
                    continue
                names = tuple(self._files.locate(path, file.base) for path in paths)
                if names in self._applications:
                    continue
                folder = long.get("project_directory")
                base = self._files.locate(folder, file.base) if isinstance(folder, str) else posixpath.dirname(names[0])
                own: dict[str, str] = {}
                for path in _texts(long.get("env_file")) or [posixpath.join(base, ENVIRONMENT_FILE)]:
                    own |= self.read_environment(self._files.locate(path, file.base if long.get("env_file") else ""))
            except (UnreadableFile, InvalidVariable) as error:
                self._entries.add_problem(line, key, f"{quote(item)} is left out: {error}", "Correct it.", file.name)
                continue
            yield from self.load(names, base, {**own, **variables}).items()


def _texts(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, str)]


def _merge(items: list[Item], value: Any, file: _File, name: str, key: str) -> None:
    """Add the values of a file to those of files before it."""
    if isinstance(value, Tagged):
        items.clear()
        if value.tag == "!reset":
            return
        value = value.value
    path = ("services", name, key)
    room = MAX_ITEMS - len(items)
    if isinstance(value, list):
        items += [file.item(item, *path, index) for index, item in enumerate(value[:room])]
    elif isinstance(value, dict):
        items += [file.item((label, text), *path, label) for label, text in islice(value.items(), room)]
