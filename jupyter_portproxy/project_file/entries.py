"""What one project file says, as its reader finds it: entries, and what is wrong with others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import BadInput
from ..services.port_rules import MAX_LABEL, PortRule, parse_rule
from ..services.process_pattern import check_pattern
from ..services.templates import Template
from .document import UnreadableFile
from .model import Note, Problem

MAX_PORTS = 200
MAX_MESSAGE = 500  # characters
MAX_MESSAGES = 200  # problems, and notes, of one file


class WrongEntry(Exception):
    """An entry is left out. The texts are shown to users.

    Args:
        key: within the entry; empty for the whole of it.
        message: a sentence with the wrong value.
        hint: a sentence: what to do.
    """

    def __init__(self, key: str, message: str, hint: str = "Correct it.") -> None:
        super().__init__(message)
        self.key, self.message, self.hint = key, message, hint


@dataclass
class Entries:
    """Filled by the reader of a file.

    Attributes:
        file: relative to the folder.
        ports: the first of two for the same ports counts.
        is_full: there are more ports than may be.
    """

    file: str
    templates: dict[str, Template] = field(default_factory=dict)
    ports: list[PortRule] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    is_full: bool = False

    def add_problem(self, line: int | None, key: str, message: str, hint: str = "", file: str = "") -> None:
        """Args: file: another file, which this one names."""
        if len(self.problems) < MAX_MESSAGES:
            self.problems.append(Problem(file or self.file, line, clean(key), clean(message), clean(hint)))

    def add_note(self, line: int | None, message: str, file: str = "") -> None:
        if len(self.notes) < MAX_MESSAGES:
            self.notes.append(Note(file or self.file, line, clean(message)))

    def add_unreadable(self, error: UnreadableFile, file: str = "") -> None:
        """Add the problem of a file that cannot be read."""
        self.add_problem(error.line, "", error.message, error.hint, file)

    def add_port(self, line: int | None, key: str, values: Mapping[str, object], file: str = "") -> None:
        """Add a rule with these values of `services.port_rules.KEYS`, or a problem."""
        if len(self.ports) == MAX_PORTS:
            if not self.is_full:
                self.add_problem(line, key, f"There are more than {MAX_PORTS} ports.", "Write ranges, or remove some.", file)
            self.is_full = True
            return
        try:
            rule = parse_rule(values)
            if rule.process is not None:
                check_pattern(rule.process)
        except BadInput as error:
            self.add_problem(line, key, error.message, error.hint, file)
        else:
            self.ports.append(rule)


def clean(text: str) -> str:
    """A text that quotes a file, in one line that can be printed, and not too long."""
    text = text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 1]}\N{HORIZONTAL ELLIPSIS}"
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def clean_label(text: object) -> object:
    """A label that another tool has no limit for, cut; anything else as it is."""
    return text if not isinstance(text, str) or len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 1]}\N{HORIZONTAL ELLIPSIS}"
