"""Templates: recipes for services, as data. Loads, validates and fills them in; a TemplateError says what is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..protocol.activity import ALL, KINDS, ActivityRule
from . import template_keys as keys
from .dependencies import link
from .hooks import Endpoint, TemplateHooks
from .kernel_environments import KernelEnvironment
from .template_keys import NAME, NAME_HINT, Argument, Requires, TemplateError

PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_OF_DEPENDENCIES = ("port", "unix_socket", "prefix")  # placeholders `{NAME.port}` and so on
MAX_STOP_TIMEOUT = 300  # s for services of folders: the end of the server waits for them
_SHIPPED = Path(__file__).parent / "templates.json"


@dataclass(frozen=True, slots=True)
class Template:
    """A recipe for a service. Times are in seconds; 0 for `idle_timeout` never stops it.

    Attributes:
        command: program and arguments, with placeholders `{port} {unix_socket} {base_url} {prefix} {name}`, `{argument}`, and
            `{NAME.port} {NAME.unix_socket} {NAME.prefix}` of what it depends on.
        environment_file: a file of variables, relative as `cwd`; those of `environment` have precedence.
        ready: "tcp", or a path: the service is ready when it accepts a connection, or answers there with a status below 500.
            "started": as soon as its process runs.
        restart: "never", "on-failure", "on-unhealthy" (also when it is unhealthy) or "always" (also after exit code 0, and after
            a restart of the server).
        protocol: "http", "https" where the service speaks TLS, "tcp" where it speaks no HTTP, or "none" where it listens nowhere.
        port: the port where it listens; 0 for any.
        depends_on: names of the services that are ready before it is started.
        autostart: "never", "ask" (a folder's, as soon as the person agrees) or "always" (with the server).
        kernel: the kernel spec in whose environment it runs; empty for the server's own.
        health_period: between two health checks of a ready service; 0 for none.
        health_failures: failed checks in a row after which it is unhealthy.
        activity: the requests that are activity of the Jupyter server: "all", "people" or "none".
        activity_exclude: regular expressions of paths that are none.
        running_is_activity: the Jupyter server is active while it runs.
        keep_prefix: the paths of requests keep the prefix.
        keep_host: requests keep the browser's Host, Origin and Referer; for services that make absolute URLs of them.
        path_info: where its first page is, below the prefix.
        open_in: "lab" or "browser".
        start_on_open: a request for its URL starts it.
        at_root: its URL is `{base_url}NAME/`, as in jupyter-server-proxy.
        endpoint: where it listens, if that is fixed.
        external: it is started outside of this server; it has no command.
        launcher: the category of its tile in the launcher; empty if it has none.
        folder: the real path of the folder whose project file has it; empty otherwise.
        dependencies: the templates of `depends_on`.
        file_variables: those of `environment_file`, as they were when the user allowed the folder's files; None: it is read at
            each start.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_file: str = ""
    cwd: str = ""
    kernel: str = ""
    arguments: tuple[Argument, ...] = ()
    ready: str = "tcp"
    ready_timeout: float = 60.0
    stop_timeout: float = 10.0
    idle_timeout: float = 0.0
    restart: str = "never"
    health_period: float = 0.0
    health_failures: int = 2
    depends_on: tuple[str, ...] = ()
    autostart: str = "never"
    activity: str = "all"
    activity_exclude: tuple[str, ...] = ()
    running_is_activity: bool = False
    protocol: str = "http"
    keep_prefix: bool = False
    keep_host: bool = False
    unix_socket: bool = False
    port: int = 0
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
    folder: str = ""
    dependencies: tuple[Template, ...] = ()
    file_variables: Mapping[str, str] | None = None

    @property
    def activity_rule(self) -> ActivityRule:
        """Which requests are activity of the Jupyter server."""
        return _activity_rule(self.activity, self.activity_exclude)

    def is_available(self, kernel: KernelEnvironment | None = None) -> bool:
        """True if the required program is installed in the environment of a kernel; None for the server's own."""
        if self.requires is None:
            return True
        if kernel is None:
            return shutil.which(self.requires.program, path=program_path()) is not None
        path = kernel.variables({**os.environ, "PATH": program_path()})["PATH"]
        return kernel.find_program(self.requires.program, path) is not None

    @property
    def passes_prefix(self) -> bool:
        """True if the service gets its prefix, and so may put it before its links."""
        return self.keep_prefix or self.hooks is not None or self.uses("prefix")

    @property
    def key(self) -> tuple[str, str]:
        """Identifies it: folders may have templates of the same name."""
        return self.folder, self.name

    @property
    def listens(self) -> bool:
        """True if it has a port or a Unix socket."""
        return self.protocol != "none"

    @property
    def has_page(self) -> bool:
        """True if browsers can open it."""
        return self.protocol in ("http", "https")

    def uses(self, placeholder: str) -> bool:
        """True if the placeholder of this name is in its command, environment or working directory."""
        return any(f"{{{placeholder}}}" in text for text in (*self.command, *self.environment.values(), self.cwd))

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


@lru_cache(maxsize=256)
def _activity_rule(kind: str, patterns: tuple[str, ...]) -> ActivityRule:
    return ActivityRule(kind, tuple(map(re.compile, patterns))) if (kind, patterns) != ("all", ()) else ALL


def program_path() -> str:
    """The search path of programs. The folder of this server's Python is first: the server may have been started by full path."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def load(name: str, data: object, folder: str = "") -> Template:
    """A template from plain data (JSON, or a dict of a configuration file). Its `depends_on` is not resolved yet.

    Args:
        folder: the real path of the folder whose project file has it; empty for a configuration.

    Raises:
        TemplateError: an unknown key or placeholder, a missing command, or a value of the wrong kind.
    """
    if not isinstance(name, str) or not NAME.match(name):
        raise TemplateError(f"Invalid template name: {str(name)[:80]!r}. {NAME_HINT}")
    try:
        values = _read_keys(data)
        if not values.get("command"):
            raise TemplateError("it has no command", "command")
        if values.get("protocol") == "none":
            values.setdefault("ready", "started")
        template = Template(name=name, folder=folder, **{"title": name, **values})
        _check_placeholders(template)
        _check_protocol(template)
        _check_start(template)
    except TemplateError as error:
        raise TemplateError(f"Template '{name}': {error}.", error.key, error.reason) from None
    return template


def _read_keys(data: object) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise TemplateError("it is not a mapping of keys to values")
    for key in data:
        if key not in KEYS:
            raise TemplateError(f"the key '{str(key)[:80]}' is unknown; there are {', '.join(sorted(KEYS))}", str(key))
    values = {}
    for key, value in data.items():
        try:
            values[key] = KEYS[key](key, value)
        except TemplateError as error:
            raise TemplateError(str(error), key) from None
    return values


def load_all(
    *sources: Mapping[str, object], others: Mapping[str, Template] = MappingProxyType({})
) -> tuple[dict[str, Template], list[str]]:
    """Templates of several sources, later ones over earlier ones; and why others are left out.

    Args:
        others: templates that these may depend on.
    """
    templates: dict[str, Template] = {}
    problems: list[str] = []
    for source in sources:
        for name, data in source.items():
            try:
                templates[name] = load(name, data)
            except TemplateError as error:
                problems.append(str(error))
    linked, left_out = link(templates, others)
    problems.extend(f"Template '{name}': {reason}." for name, reason in left_out.items())
    return linked, problems


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
    return PLACEHOLDER.sub(lambda m: m[0][0] if m[1] is None else values[m[1]], text)


def _check_placeholders(template: Template) -> None:
    allowed = keys.STANDARD_PLACEHOLDERS | {argument.name for argument in template.arguments}
    allowed |= {f"{name}.{part}" for name in template.depends_on for part in _OF_DEPENDENCIES}
    texts = {"command": template.command, "environment": template.environment.values(), "cwd": (template.cwd,)}
    for key, parts in texts.items():
        for part in parts:
            for match in PLACEHOLDER.finditer(part):
                if match[1] is not None and match[1] not in allowed:
                    raise TemplateError(
                        f"the placeholder '{{{match[1]}}}' in '{key}' is unknown; "
                        f"there are {', '.join(sorted(allowed))} (write '{{{{' for a brace)",
                        key,
                    )


def _check_protocol(template: Template) -> None:
    """Refuse keys that have no meaning for a service without HTTP: it has no URL to open, and no page."""
    protocol = template.protocol
    if (template.ready == "started") != (protocol == "none"):
        fits = "'started'" if protocol == "none" else "'tcp' or a path: with 'started' the protocol must be 'none'"
        raise TemplateError(f"'ready' is {template.ready!r}: with the protocol '{protocol}' it can only be {fits}", "ready")
    if protocol == "tcp" and template.ready != "tcp":
        raise TemplateError(f"'ready' is {template.ready!r}: with the protocol 'tcp' it can only be 'tcp'", "ready")
    if not template.has_page:
        for key in ("start_on_open", "keep_prefix", "keep_host", "path_info"):
            if getattr(template, key):
                reason = f"'{key}' has no meaning with the protocol '{protocol}', as there is no URL to open: leave it out"
                raise TemplateError(reason, key)
    if protocol == "none":
        for key in ("port", "unix_socket", "idle_timeout", "health_period"):
            if getattr(template, key):
                reason = f"'{key}' has no meaning with the protocol 'none', as the service listens nowhere: leave it out"
                raise TemplateError(reason, key)
        for name in ("port", "unix_socket", "prefix"):
            if template.uses(name):
                raise TemplateError(f"the placeholder '{{{name}}}' has no meaning with the protocol 'none'", "command")
    if template.port and template.unix_socket:
        raise TemplateError("it has a 'port' and a 'unix_socket': leave one of them out", "port")


def _check_start(template: Template) -> None:
    if template.autostart == "ask" and not template.folder:
        reason = "'autostart' is 'ask', which only a folder's project file may have: write 'always' or 'never'"
        raise TemplateError(reason, "autostart")
    if template.folder and template.stop_timeout > MAX_STOP_TIMEOUT:
        reason = f"'stop_timeout' is {template.stop_timeout:g}: in a folder's project file it is at most {MAX_STOP_TIMEOUT}"
        raise TemplateError(reason, "stop_timeout")
    if template.restart == "on-unhealthy" and not template.health_period:
        raise TemplateError("'restart' is 'on-unhealthy' without a 'health_period', for example 10", "restart")
    if template.name in template.depends_on:
        raise TemplateError("'depends_on' has its own name", "depends_on")


# Set by the loaders of folders, and of jupyter-server-proxy's servers.
_NOT_KEYS = frozenset(
    {"name", "at_root", "endpoint", "external", "launcher", "hooks", "folder", "dependencies", "file_variables"}
)
_READERS_OF_TYPES: Mapping[str, Any] = {"str": keys.read_text, "bool": keys.read_boolean, "float": keys.read_seconds}
KEYS: Mapping[str, Any] = {
    **{key.name: _READERS_OF_TYPES.get(str(key.type)) for key in fields(Template) if key.name not in _NOT_KEYS},
    "command": keys.read_texts,
    "environment": keys.read_environment,
    "arguments": keys.read_arguments,
    "ready": keys.read_ready,
    "path_info": keys.read_path_info,
    "restart": keys.one_of("never", "on-failure", "on-unhealthy", "always"),
    "protocol": keys.one_of("http", "https", "tcp", "none"),
    "open_in": keys.one_of("lab", "browser"),
    "requires": keys.read_requires,
    "depends_on": keys.read_names,
    "autostart": keys.one_of("never", "ask", "always"),
    "port": keys.read_port,
    "health_period": keys.read_health_period,
    "health_failures": keys.read_failures,
    "activity": keys.one_of(*KINDS),
    "activity_exclude": keys.read_patterns,
}
