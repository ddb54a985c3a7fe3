"""Templates: recipes for services, as data. Loads, checks and fills them in; starts nothing.

Rule of this file: a template is complete and valid or it is a TemplateError that names the template, the key and the remedy.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .hooks import Endpoint, TemplateHooks

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", re.ASCII)
NAME_HINT = "Use up to 64 letters, digits, '.', '_' and '-'."
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_STANDARD = frozenset({"port", "unix_socket", "base_url", "prefix", "name"})
_ARGUMENT_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}\Z", re.ASCII)
_PATH = re.compile(r"/[!-~]*\Z")  # as it goes into a request
_KINDS = ("path", "text", "number", "choice")
_SHIPPED = Path(__file__).parent / "templates.json"


class TemplateError(ValueError):
    """A template that cannot be used, or arguments that do not fit it; the text is for people."""


@dataclass(frozen=True, slots=True)
class Argument:
    """Something that the user fills in before a start.

    Attributes:
        kind: "path" (below the server's root), "text", "number" or "choice" (one of `choices`).
        must_exist: of a path: a service is started only where there is such a file or folder.
    """

    name: str
    label: str = ""
    default: str = ""
    kind: str = "text"
    choices: tuple[str, ...] = ()
    must_exist: bool = True

    def check(self, value: object) -> str:
        """The value as it goes into the command.

        Raises:
            TemplateError: it is of another kind.
        """
        text = str(value)
        fits = isinstance(value, (str, int, float)) and not isinstance(value, bool) and len(text) <= 4096
        if not fits or "\0" in text or not _is_encodable(text):
            raise TemplateError(f"The argument '{self.name}' is no text of at most 4096 characters.")
        if self.kind == "number" and not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", text, re.ASCII):
            raise TemplateError(f"The argument '{self.name}' is no number: {text[:80]!r}.")
        if self.kind == "choice" and text not in self.choices:
            raise TemplateError(f"The argument '{self.name}' is none of {', '.join(self.choices)}: {text[:80]!r}.")
        return text


@dataclass(frozen=True, slots=True)
class Requires:
    """The program that a template needs, and how to get it."""

    program: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Template:
    """A recipe for a service. Times are in seconds; 0 for `idle_timeout` never stops it.

    Attributes:
        command: program and arguments, with placeholders `{port} {unix_socket} {base_url} {prefix} {name}` and `{argument}`.
        ready: "tcp", or a path: the service is ready when it accepts a connection, or answers there with a status below 500.
        restart: "never" or "on-failure".
        scheme: "http", or "https" where the service speaks TLS.
        keep_prefix: the service is told its prefix and wants to see it in every request.
        keep_host: the service sees the Host, Origin and Referer that the browser sent, for it makes absolute URLs of them.
        path_info: where its first page is, below the prefix.
        open_in: "lab" or "browser".
        needs_storage: its page does not work without `localStorage`, which browsers may deny to frames of other sites.
        start_on_open: whoever opens its URL starts it.
        at_root: its URL is `{base_url}NAME/`, as jupyter-server-proxy had it.
        endpoint: where it listens, if that is fixed.
        external: somebody else starts it; it has no command.
        launcher: the category of its tile in the launcher; empty if it has none.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    arguments: tuple[Argument, ...] = ()
    ready: str = "tcp"
    ready_timeout: float = 60.0
    stop_timeout: float = 10.0
    idle_timeout: float = 0.0
    restart: str = "never"
    scheme: str = "http"
    keep_prefix: bool = False
    keep_host: bool = False
    unix_socket: bool = False
    path_info: str = ""
    title: str = ""
    icon: str = ""
    category: str = "Services"
    open_in: str = "lab"
    needs_storage: bool = False
    requires: Requires | None = None
    start_on_open: bool = False
    at_root: bool = False
    endpoint: Endpoint | None = None
    external: bool = False
    launcher: str = "Services"
    hooks: TemplateHooks | None = None

    @property
    def available(self) -> bool:
        """True if the program that it needs is installed."""
        return self.requires is None or shutil.which(self.requires.program, path=program_path()) is not None

    @property
    def knows_prefix(self) -> bool:
        """True if the service is told its prefix, and so may put it before its links."""
        told = (*self.command, *self.environment.values())
        return self.keep_prefix or self.hooks is not None or any("{prefix}" in text for text in told)

    def fill_in(self, given: Mapping[str, object]) -> dict[str, str]:
        """The arguments of a start: what was given, else the defaults.

        Raises:
            TemplateError: an argument is unknown, or not of its kind.
        """
        known = {argument.name: argument for argument in self.arguments}
        for name in given:
            if name not in known:
                has = ", ".join(known) or "none"
                raise TemplateError(f"The template '{self.name}' has no argument '{str(name)[:80]}'. It has {has}.")
        return {name: argument.check(given.get(name, argument.default)) for name, argument in known.items()}

    def expand(self, values: Mapping[str, str]) -> tuple[list[str], dict[str, str], str]:
        """Command, environment and working directory with every placeholder replaced by its value.

        Raises:
            TemplateError: a function of a configuration file gave no command or no environment.
        """
        if self.hooks is not None:
            return self.hooks.command(values), self.hooks.environment(values), self.cwd
        command = [expand(part, values) for part in self.command]
        return command, {name: expand(value, values) for name, value in self.environment.items()}, expand(self.cwd, values)


def program_path() -> str:
    """Where programs are looked for: first beside this server's own Python, for it may have been started by its full path."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def load(name: str, data: object) -> Template:
    """A template from plain data (JSON, or a dict of a configuration file).

    Raises:
        TemplateError: an unknown key or placeholder, a missing command, or a value of the wrong kind.
    """
    if not isinstance(name, str) or not NAME.match(name):
        raise TemplateError(f"{str(name)[:80]!r} is no name for a template: use up to 64 letters, digits, '.', '_' and '-'.")
    if not isinstance(data, Mapping):
        raise TemplateError(f"Template '{name}': it is no mapping of keys to values.")
    known = _READERS.keys()
    for key in data:
        if key not in known:
            raise TemplateError(f"Template '{name}': the key '{key}' is unknown; there are {', '.join(sorted(known))}.")
    values = {key: _READERS[key](name, key, value) for key, value in data.items()}
    if not values.get("command"):
        raise TemplateError(f"Template '{name}': it has no command.")
    template = Template(name=name, **{"title": name, **values})
    _check_placeholders(template)
    return template


def load_all(*sources: Mapping[str, object]) -> tuple[dict[str, Template], list[str]]:
    """Templates of several sources, later ones over earlier ones; and what was wrong with those that were left out."""
    templates: dict[str, Template] = {}
    problems: list[str] = []
    for source in sources:
        for name, data in source.items():
            try:
                templates[name] = load(name, data)
            except TemplateError as error:
                problems.append(str(error))
    return templates, problems


def shipped() -> Mapping[str, object]:
    """The data of the templates that come with the package."""
    data: Mapping[str, object] = json.loads(_SHIPPED.read_text("utf-8"))
    return data


def from_directories(directories: Iterable[str]) -> tuple[dict[str, object], list[str]]:
    """The data of all `jupyter_portproxy.d/*.json` below the given directories, earlier directories over later ones.

    Returns:
        name -> data, and what was wrong with files that could not be read.
    """
    found: dict[str, object] = {}
    problems: list[str] = []
    for directory in reversed(list(directories)):
        for file in sorted(Path(directory, "jupyter_portproxy.d").glob("*.json")):
            try:
                data = json.loads(file.read_text("utf-8"))
            except (OSError, ValueError) as error:
                problems.append(f"{file}: it cannot be read as JSON: {error}")
                continue
            if isinstance(data, dict):
                found.update(data)
            else:
                problems.append(f"{file}: it holds no mapping of template names to templates.")
    return found, problems


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace `{name}`; `{{` and `}}` stand for braces. A value is put in as it is and never expanded again."""
    return _PLACEHOLDER.sub(lambda m: m[0][0] if m[1] is None else values[m[1]], text)


def _check_placeholders(template: Template) -> None:
    allowed = _STANDARD | {argument.name for argument in template.arguments}
    texts = {"command": template.command, "environment": template.environment.values(), "cwd": (template.cwd,)}
    for key, parts in texts.items():
        for part in parts:
            for match in _PLACEHOLDER.finditer(part):
                if match[1] is not None and match[1] not in allowed:
                    raise TemplateError(
                        f"Template '{template.name}': the placeholder '{{{match[1]}}}' in '{key}' is unknown; "
                        f"there are {', '.join(sorted(allowed))} (write '{{{{' for a brace)."
                    )


def _is_encodable(text: str) -> bool:
    """Whether a program can be given it: JSON can write half a surrogate pair, which is no character."""
    try:
        os.fsencode(text)
    except UnicodeError:
        return False
    return True


# ---- readers: one for each kind of value ----


def _text(name: str, key: str, value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TemplateError(f"Template '{name}': '{key}' is no text: {value!r}.")
    return value


def _truth(name: str, key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TemplateError(f"Template '{name}': '{key}' is neither true nor false: {value!r}.")
    return value


def _seconds(name: str, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 86400 * 365:
        raise TemplateError(f"Template '{name}': '{key}' is no number of seconds: {value!r}.")
    return float(value)


def _texts(name: str, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise TemplateError(f"Template '{name}': '{key}' is no list of texts: {value!r}.")
    return tuple(_text(name, key, part) for part in value)


def _environment(name: str, key: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise TemplateError(f"Template '{name}': '{key}' is no mapping of names to texts: {value!r}.")
    for variable in value:
        if not _text(name, key, variable) or "=" in variable:
            raise TemplateError(f"Template '{name}': {variable!r} in '{key}' is no name for a variable.")
    return {variable: _text(name, key, text) for variable, text in value.items()}


def _one_of(*choices: str) -> Any:
    def read(name: str, key: str, value: object) -> str:
        if value not in choices:
            raise TemplateError(f"Template '{name}': '{key}' is none of {', '.join(choices)}: {value!r}.")
        return str(value)

    return read


def _ready(name: str, key: str, value: object) -> str:
    text = _text(name, key, value)
    if text != "tcp" and not _PATH.match(text):
        raise TemplateError(f"Template '{name}': '{key}' is neither 'tcp' nor a path: {value!r}.")
    return text


def _arguments(name: str, key: str, value: object) -> tuple[Argument, ...]:
    if not isinstance(value, (list, tuple)):
        raise TemplateError(f"Template '{name}': '{key}' is no list of arguments: {value!r}.")
    return tuple(_argument(name, item) for item in value)


def _argument(name: str, data: object) -> Argument:
    known = {f.name for f in fields(Argument)}
    if not isinstance(data, Mapping) or not set(data) <= known:
        raise TemplateError(f"Template '{name}': an argument has keys other than {', '.join(sorted(known))}: {data!r}.")
    choices = _texts(name, "choices", data.get("choices", ()))
    must_exist = _truth(name, "arguments.must_exist", data.get("must_exist", True))
    values = {key: _text(name, f"arguments.{key}", data[key]) for key in data.keys() - {"choices", "must_exist"}}
    argument = Argument(**{"name": "", **values}, choices=choices, must_exist=must_exist)
    if not _ARGUMENT_NAME.match(argument.name) or argument.name in _STANDARD:
        raise TemplateError(f"Template '{name}': {argument.name!r} is no name for an argument.")
    if argument.kind not in _KINDS or (argument.kind == "choice") != bool(choices):
        raise TemplateError(f"Template '{name}': the argument '{argument.name}' is none of {', '.join(_KINDS)} with its choices.")
    return argument


def _requires(name: str, key: str, value: object) -> Requires:
    if not isinstance(value, Mapping) or not {"program"} <= set(value) <= {"program", "hint"}:
        raise TemplateError(f"Template '{name}': '{key}' is not of the form {{program, hint}}: {value!r}.")
    return Requires(**{part: _text(name, f"{key}.{part}", text) for part, text in value.items()})


_READERS: Mapping[str, Any] = {
    "command": _texts,
    "environment": _environment,
    "cwd": _text,
    "arguments": _arguments,
    "ready": _ready,
    "ready_timeout": _seconds,
    "stop_timeout": _seconds,
    "idle_timeout": _seconds,
    "restart": _one_of("never", "on-failure"),
    "scheme": _one_of("http", "https"),
    "keep_prefix": _truth,
    "keep_host": _truth,
    "unix_socket": _truth,
    "path_info": _text,
    "title": _text,
    "icon": _text,
    "category": _text,
    "open_in": _one_of("lab", "browser"),
    "needs_storage": _truth,
    "requires": _requires,
    "start_on_open": _truth,
}
