"""What the project files of one folder say. Pure data, without any effect: `read.read_folder` makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..services.port_rules import PortRule
from ..services.templates import Template

SourceKind = Literal["portproxy.toml", "devcontainer.json", ".gitpod.yml", "Procfile", "compose.yaml"]


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read.

    Attributes:
        path: relative to the folder, with `/`.
        kind: the name by which its form is known, also where the file has another one (`docker-compose.yml`).
    """

    path: str
    kind: SourceKind


@dataclass(frozen=True, slots=True)
class Problem:
    """An entry that is wrong and left out, or a whole file that cannot be read. Its texts are shown to users.

    Attributes:
        file: relative to the folder.
        line: the first is 1; None if it is unknown.
        key: where in the file, such as `services.api.restart`; empty for the whole file.
        message: a sentence with the wrong value.
        hint: a sentence: what to do.
    """

    file: str
    line: int | None
    key: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """What is right and left out on purpose, as this server has no such thing.

    Attributes:
        file: relative to the folder.
        line: the first is 1; None if it is unknown.
        message: a sentence.
    """

    file: str
    line: int | None
    message: str


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """What a folder needs, by all of its project files together.

    Attributes:
        folder: its real path.
        sources: the files that were read, also those with problems.
        templates: by name, in the order of the files, with `dependencies` resolved.
        ports: rules for ports; of two for the same ports, the first counts.
        problems: what is wrong; those entries are left out.
        notes: what is left out on purpose.
        digest: SHA-256 in hexadecimal over names and bytes of the sources and of every `environment_file`: what a person allows.
        watched: paths relative to the folder, also of files that do not exist. While their `stat` is the same, so is all of this.
    """

    folder: str
    sources: tuple[Source, ...] = ()
    templates: Mapping[str, Template] = field(default_factory=dict)
    ports: tuple[PortRule, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[Note, ...] = ()
    digest: str = ""
    watched: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder's own name, for people."""
        return self.folder.rstrip("/").rpartition("/")[2] or "/"
