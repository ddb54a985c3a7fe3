"""Templates: recipes for services, as data. Loads, validates and fills them in; a TemplateError says what is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
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
    """A template that cannot be used, or arguments that do not fit it. The text is shown to users."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A value that the user fills in before a start.

    Attributes:
        kind: "path" (below the server's root), "text", "number" or "choice" (one of `choices`).
        must_exist: a path must exist when the service is started.
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
            TemplateError
        """
        text = str(value)
        fits = isinstance(value, (str, int, float)) and not isinstance(value, bool) and len(text) <= 4096
        if not fits or "\0" in text or not _is_encodable(text):
            raise TemplateError(f"The argument '{self.name}' must be a text of at most 4096 characters.")
        if self.kind == "number" and not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", text, re.ASCII):
            raise TemplateError(f"The argument '{self.name}' is not a number: {text[:80]!r}.")
        if self.kind == "choice" and text not in self.choices:
            raise TemplateError(f"The argument '{self.name}' is not one of {', '.join(self.choices)}: {text[:80]!r}.")
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
        protocol: "http", "https" where the service speaks TLS, or "tcp" where it speaks no HTTP.
        keep_prefix: the paths of requests keep the prefix.
        keep_host: requests keep the browser's Host, Origin and Referer; for services that make absolute URLs of them.
        path_info: where its first page is, below the prefix.
        open_in: "lab" or "browser".
        start_on_open: a request for its URL starts it.
        at_root: its URL is `{base_url}NAME/`, as in jupyter-server-proxy.
        endpoint: where it listens, if that is fixed.
        external: it is started outside of this server; it has no command.
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
    protocol: str = "http"
    keep_prefix: bool = False
    keep_host: bool = False
    unix_socket: bool = False
    path_info: str = ""
    title: str = ""
    icon: str = ""
    category: str = "Services"
    open_in: str = "lab"
    requires: Requires | None = None
    start_on_open: bool = False
    at_root: bool = False
    endpoint: Endpoint | None = None
    external: bool = False
    launcher: str = "Services"
    hooks: TemplateHooks | None = None

    @property
    def available(self) -> bool:
        """True if the required program is installed."""
        return self.requires is None or shutil.which(self.requires.program, path=program_path()) is not None

    @property
    def passes_prefix(self) -> bool:
        """True if the service gets its prefix, and so may put it before its links."""
        texts = (*self.command, *self.environment.values())
        return self.keep_prefix or self.hooks is not None or any("{prefix}" in text for text in texts)

    def fill_in(self, given: Mapping[str, object]) -> dict[str, str]:
        """The arguments of a start, with defaults for those that are not given.

        Raises:
            TemplateError: an argument is unknown, or not of its kind.
        """
        known = {argument.name: argument for argument in self.arguments}
        for name in given:
            if name not in known:
                names = ", ".join(known) or "none"
                raise TemplateError(f"The template '{self.name}' has no argument '{str(name)[:80]}'. It has {names}.")
        return {name: argument.check(given.get(name, argument.default)) for name, argument in known.items()}

    def expand(self, values: Mapping[str, str]) -> tuple[list[str], dict[str, str], str]:
        """Command, environment and working directory with every placeholder replaced by its value.

        Raises:
            TemplateError: a function of the configuration failed.
        """
        if self.hooks is not None:
            return self.hooks.command(values), self.hooks.environment(values), self.cwd
        command = [expand(part, values) for part in self.command]
        return command, {name: expand(value, values) for name, value in self.environment.items()}, expand(self.cwd, values)


def program_path() -> str:
    """The search path of programs. The folder of this server's Python is first: the server may have been started by full path."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def load(name: str, data: object) -> Template:
    """A template from plain data (JSON, or a dict of a configuration file).

    Raises:
        TemplateError: an unknown key or placeholder, a missing command, or a value of the wrong kind.
    """
    if not isinstance(name, str) or not NAME.match(name):
        raise TemplateError(f"Invalid template name: {str(name)[:80]!r}. {NAME_HINT}")
    try:
        values = _read_keys(data)
        if not values.get("command"):
            raise TemplateError("it has no command")
        template = Template(name=name, **{"title": name, **values})
        _check_placeholders(template)
        _check_protocol(template)
    except TemplateError as error:
        raise TemplateError(f"Template '{name}': {error}.") from None
    return template


def _read_keys(data: object) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise TemplateError("it is not a mapping of keys to values")
    for key in data:
        if key not in _READERS:
            raise TemplateError(f"the key '{key}' is unknown; there are {', '.join(sorted(_READERS))}")
    return {key: _READERS[key](key, value) for key, value in data.items()}


def load_all(*sources: Mapping[str, object]) -> tuple[dict[str, Template], list[str]]:
    """Templates of several sources, later ones over earlier ones; and why others are left out."""
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
    data: Mapping[str, object] = json.loads(_SHIPPED.read_text("utf-8"))
    return data


def from_directories(directories: Iterable[str]) -> tuple[dict[str, object], list[str]]:
    """The data of all `jupyter_portproxy.d/*.json` below the given directories, earlier directories over later ones.

    Returns:
        name -> data, and why other files are left out.
    """
    data_by_name: dict[str, object] = {}
    problems: list[str] = []
    for directory in reversed(list(directories)):
        for file in sorted(Path(directory, "jupyter_portproxy.d").glob("*.json")):
            try:
                data = json.loads(file.read_text("utf-8"))
            except (OSError, ValueError) as error:
                problems.append(f"{file}: it cannot be read as JSON: {error}")
                continue
            if isinstance(data, dict):
                data_by_name.update(data)
            else:
                problems.append(f"{file}: it must be a mapping of template names to templates.")
    return data_by_name, problems


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace `{name}` by its value, which is not expanded again; `{{` and `}}` stand for braces."""
    return _PLACEHOLDER.sub(lambda m: m[0][0] if m[1] is None else values[m[1]], text)


def _check_placeholders(template: Template) -> None:
    allowed = _STANDARD | {argument.name for argument in template.arguments}
    texts = {"command": template.command, "environment": template.environment.values(), "cwd": (template.cwd,)}
    for key, parts in texts.items():
        for part in parts:
            for match in _PLACEHOLDER.finditer(part):
                if match[1] is not None and match[1] not in allowed:
                    raise TemplateError(
                        f"the placeholder '{{{match[1]}}}' in '{key}' is unknown; "
                        f"there are {', '.join(sorted(allowed))} (write '{{{{' for a brace)"
                    )


def _check_protocol(template: Template) -> None:
    """Refuse keys that have no meaning for a service without HTTP: it has no URL to open, and no page."""
    if template.protocol != "tcp":
        return
    if template.ready != "tcp":
        raise TemplateError(f"'ready' is {template.ready!r}: with the protocol 'tcp' it can only be 'tcp'")
    for key in ("start_on_open", "keep_prefix", "keep_host", "path_info"):
        if getattr(template, key):
            raise TemplateError(f"'{key}' has no meaning with the protocol 'tcp', as there is no URL to open: leave it out")


def _is_encodable(text: str) -> bool:
    """True if it can be passed to a program. JSON can express half a surrogate pair, which is not a character."""
    try:
        os.fsencode(text)
    except UnicodeError:
        return False
    return True


# ---- readers of values: (key, value) -> value, or a TemplateError ----


def _refuse(key: str, value: object, expected: str) -> TemplateError:
    return TemplateError(f"'{key}' must be {expected}: {value!r}")


def _reader(expected: str, is_valid: Callable[[Any], bool]) -> Callable[[str, object], Any]:
    def read(key: str, value: object) -> Any:
        if not is_valid(value):
            raise _refuse(key, value, expected)
        return value

    return read


def _one_of(*choices: str) -> Callable[[str, object], Any]:
    return _reader(f"one of {', '.join(choices)}", lambda value: value in choices)


def _is_seconds(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and 0 <= value <= 86400 * 365


_text = _reader("a text", lambda value: isinstance(value, str) and "\0" not in value)
_boolean = _reader("true or false", lambda value: isinstance(value, bool))
_seconds = _reader("a number of seconds", _is_seconds)
_ready = _reader("'tcp' or a path", lambda value: isinstance(value, str) and (value == "tcp" or _PATH.match(value) is not None))


def _texts(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise _refuse(key, value, "a list of texts")
    return tuple(_text(key, part) for part in value)


def _environment(key: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise _refuse(key, value, "a mapping of names to texts")
    for variable in value:
        if not _text(key, variable) or "=" in variable:
            raise TemplateError(f"invalid name of a variable in '{key}': {variable!r}")
    return {variable: _text(key, text) for variable, text in value.items()}


def _arguments(key: str, value: object) -> tuple[Argument, ...]:
    if not isinstance(value, (list, tuple)):
        raise _refuse(key, value, "a list of arguments")
    return tuple(map(_argument, value))


def _argument(data: object) -> Argument:
    known = {f.name for f in fields(Argument)}
    if not isinstance(data, Mapping) or not set(data) <= known:
        raise TemplateError(f"an argument has keys other than {', '.join(sorted(known))}: {data!r}")
    choices = _texts("choices", data.get("choices", ()))
    must_exist = _boolean("arguments.must_exist", data.get("must_exist", True))
    values = {key: _text(f"arguments.{key}", data[key]) for key in data.keys() - {"choices", "must_exist"}}
    argument = Argument(**{"name": "", **values}, choices=choices, must_exist=must_exist)
    if not _ARGUMENT_NAME.match(argument.name) or argument.name in _STANDARD:
        raise TemplateError(f"invalid argument name: {argument.name!r}")
    if argument.kind not in _KINDS or (argument.kind == "choice") != bool(choices):
        raise TemplateError(f"the argument '{argument.name}' must be one of {', '.join(_KINDS)}, a choice with its choices")
    return argument


def _requires(key: str, value: object) -> Requires:
    if not isinstance(value, Mapping) or not {"program"} <= set(value) <= {"program", "hint"}:
        raise _refuse(key, value, "of the form {program, hint}")
    return Requires(**{part: _text(f"{key}.{part}", text) for part, text in value.items()})


_NOT_KEYS = frozenset({"name", "at_root", "endpoint", "external", "launcher", "hooks"})  # set by jupyter-server-proxy's servers
_READERS_OF_TYPES: Mapping[str, Any] = {"str": _text, "bool": _boolean, "float": _seconds}
_READERS: Mapping[str, Any] = {
    **{key.name: _READERS_OF_TYPES.get(str(key.type)) for key in fields(Template) if key.name not in _NOT_KEYS},
    "command": _texts,
    "environment": _environment,
    "arguments": _arguments,
    "ready": _ready,
    "restart": _one_of("never", "on-failure"),
    "protocol": _one_of("http", "https", "tcp"),
    "open_in": _one_of("lab", "browser"),
    "requires": _requires,
}
