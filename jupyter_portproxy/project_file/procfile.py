"""`Procfile`: a line `NAME: COMMAND` for each process, as Heroku, foreman and honcho read it.

`web`, and each process whose command has `$PORT`, is a service with a port; the others are workers. As with foreman, a shell runs
the command, and more variables come from `.env` if there is one.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ..services.service_list import MAX_SERVICES
from ..services.template_keys import TemplateError
from ..services.templates import load
from .document import UnreadableFile, quote
from .entries import Entries
from .folder_files import FolderFiles

ENVIRONMENT_FILE = ".env"
_LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(.+)\Z", re.ASCII)
_PORT = re.compile(r"\$(?:PORT\b|\{PORT\b)", re.ASCII)


def read(text: str, entries: Entries, files: FolderFiles) -> None:
    """Add what the file says.

    Args:
        files: of the folder; `.env` is read for its digest.
    """
    variables = _read_environment_file(entries, files)
    names: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith(("#", "//")):
            continue
        match = _LINE.match(line)
        if match is None:
            entries.add_note(number, f"{quote(line)} is not of the form NAME: COMMAND, and left out.")
            continue
        name, command = match.groups()
        if name == "release":
            entries.add_note(number, "'release' is left out: it runs before a deployment, and not with the app.")
            continue
        other, other_line = names.setdefault(name.casefold(), (name, number))
        if other_line != number:
            same = (
                f"is there in line {other_line} already"
                if other == name
                else f"differs from '{other}' only in upper and lower case"
            )
            entries.add_problem(number, name, f"The process '{name}' {same}.", "Rename one of them.")
        elif len(entries.templates) == MAX_SERVICES:
            return entries.add_problem(number, "", f"There are more than {MAX_SERVICES} processes.", "Remove some.")
        else:
            _add(name, command, number, variables, entries, files)


def _read_environment_file(entries: Entries, files: FolderFiles) -> dict[str, str] | None:
    """The variables of `.env`; None if there is none that can be used."""
    if not files.exists(ENVIRONMENT_FILE):
        return None
    try:
        return files.read_variables(ENVIRONMENT_FILE)
    except UnreadableFile as error:
        entries.add_unreadable(error, ENVIRONMENT_FILE)
        return None


def _add(name: str, command: str, line: int, variables: dict[str, str] | None, entries: Entries, files: FolderFiles) -> None:
    is_web = name == "web" or _PORT.search(command) is not None
    data: dict[str, object] = {"command": ["sh", "-c", command.replace("{", "{{").replace("}", "}}")]}
    data |= {"environment": {"PORT": "{port}"}} if is_web else {"protocol": "none", "ready": "started"}
    if variables is not None:
        data["environment_file"] = ENVIRONMENT_FILE
    try:
        entries.templates[name] = replace(load(name, data, files.folder), file_variables=variables)
    except TemplateError as error:
        entries.add_problem(line, name, f"The process '{name[:80]}' is left out: {error.reason.rstrip('.')}.", "Correct it.")
