"""The text of a new `portproxy.toml`: from services and ports that are there, or as an example in comments."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..services.arguments import masked
from ..services.templates import PLACEHOLDER, Template
from ..system.command_lines import MASK

_HEAD = """\
# What belongs to this folder: services to start, and what is known of its ports.
# "jupyter portproxy project" shows what is understood. Nothing is started before a person has allowed the content of this file.

version = 1
"""
_KEYS = """\
# autostart = "ask"            # as soon as the person agrees; "always", "never"
# depends_on = ["db"]          # services that are ready before it; {db.port} in the command is the port of "db"
# environment_file = ".env"    # a file in this folder
# kernel = "python3"           # run in the environment of this kernel
# ready = "/health"            # ready when this path answers
# restart = "on-failure"
"""
_EXAMPLE = """\
# A service. {port} is a free port, which is chosen when it starts.
#
# [services.docs]
# command = ["python", "-m", "http.server", "--bind", "127.0.0.1", "{port}"]
"""
_PORT_EXAMPLE = """\
# What is known of a port that a program opens by itself.
#
# [[ports]]
# port = 3000                  # or a range, "3000-3010", or process = "vite"
# label = "Front end"
# on_appear = "open-once"      # or "open", "preview", "notify", "silent", "ignore"
"""
_BIN = re.compile(r"/.*/bin/([^/]+)\Z")
_PYTHON = re.compile(r"python[0-9.]*\Z", re.ASCII)
_TEMPLATE_KEYS = (  # those that a service in a project file takes over from its template
    "title", "command", "cwd", "environment", "environment_file", "depends_on", "protocol", "port", "unix_socket", "keep_prefix",
    "keep_host", "path_info", "open_in", "ready", "ready_timeout", "stop_timeout", "idle_timeout", "health_period",
    "health_failures", "restart", "activity", "activity_exclude", "running_is_activity",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunningProgram:
    """A program that listens on a port.

    Attributes:
        name: of its service; empty if it is none.
        command: may be unknown, and then empty.
        protocol: "http", "https" or "tcp".
        template: of its service, if it is known. It counts instead of `command`, which may be that of a child process, and lacks
            the variables.
        arguments: those of the service; paths are absolute.
    """

    port: int
    command: Sequence[str]
    name: str = ""
    label: str = ""
    protocol: str = "http"
    kernel: str = ""
    template: Template | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_service(self) -> bool:
        """True if it can be written as a service."""
        return bool(self.name and (self.command or self.template))


def print_example(programs: Iterable[RunningProgram], folder: str) -> str:
    """The text of the file.

    Args:
        folder: where it will be; paths below it become relative.
    """
    programs = list(programs)
    services = [program for program in programs if program.is_service]
    ports = [program for program in programs if not program.name]
    parts = [_HEAD, *(_print_service(service, folder) for service in services)]
    if not services:
        parts.append("\n".join([_EXAMPLE.rstrip(), *(_KEYS.splitlines()), ""]))
    parts += [_print_port(port, folder) for port in ports]
    if not ports:
        parts.append(_PORT_EXAMPLE)
    return "\n".join(parts)


def _print_service(program: RunningProgram, folder: str) -> str:
    lines = [f"[services.{_quote(program.name)}]"]
    if program.template is not None:
        lines += _print_template(program.template, program.arguments, folder)
    else:
        lines.append(f"command = {_print_command(program, folder)}")
        if program.protocol != "http":
            lines.append(f"protocol = {_quote(program.protocol)}")
    if any(MASK in line for line in lines):
        lines.append(f"# {MASK} stands for a secret: write it into an environment_file that is not committed.")
    if program.kernel:
        lines.append(f"kernel = {_quote(program.kernel)}")
    return "\n".join([*lines, _KEYS])


def _print_template(template: Template, arguments: Mapping[str, str], folder: str) -> list[str]:
    """The keys of a template that differ from the defaults, with the arguments filled in; other placeholders stay."""
    paths = {argument.name for argument in template.arguments if argument.kind == "path"}
    values = {name: _relative(value, folder) if name in paths else masked(name, value) for name, value in arguments.items()}
    in_cwd = {**values, **({name: arguments[name] for name in paths & arguments.keys()} if template.cwd else {})}

    def fill_in(text: str, values: Mapping[str, str]) -> str:
        return PLACEHOLDER.sub(lambda m: _escape(values[m[1]]) if m[1] in values else m[0], text)

    default = Template(template.name, (), title=template.name, ready="started" if template.protocol == "none" else "tcp")
    keys = {key: getattr(template, key) for key in _TEMPLATE_KEYS if getattr(template, key) != getattr(default, key)}
    keys["command"] = [fill_in(word, in_cwd) for word in template.command]
    if template.cwd:
        keys["cwd"] = fill_in(template.cwd, values)
    if template.environment:
        keys["environment"] = {name: masked(name, fill_in(value, in_cwd)) for name, value in template.environment.items()}
    return [f"{key} = {_print_value(value)}" for key, value in keys.items()]


def _relative(path: str, folder: str) -> str:
    """A path below the folder, relative to it; any other path unchanged."""
    return os.path.relpath(path, folder) if os.path.join(path, "").startswith(os.path.join(folder, "")) else path


def _print_value(value: object) -> str:
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_quote(key)} = {_print_value(item)}' for key, item in value.items())} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_print_value, value))}]"
    return f"{value:g}"


def _print_port(program: RunningProgram, folder: str) -> str:
    lines = [
        "[[ports]]",
        f"port = {program.port}",
        f"label = {_quote(program.label)}" if program.label else '# label = "Front end"',
    ]
    if program.protocol != "http":
        lines.append(f"protocol = {_quote(program.protocol)}")
    lines.append('# on_appear = "open-once"      # or "open", "preview", "notify", "silent", "ignore"')
    if program.command:
        lines += ["#", "# The same program as a service, with a port of its own:", "# [services.NAME]"]
        lines.append(f"# command = {_print_command(program, folder)}")
    return "\n".join([*lines, ""])


def _print_command(program: RunningProgram, folder: str) -> str:
    words = list(program.command)
    if len(words) > 1 and _PYTHON.match(words[0].rpartition("/")[2]) and (script := _BIN.match(words[1])):
        words[:2] = [script[1]]  # a program that pip installed
    words[0] = words[0].rpartition("/")[2] if words[0].startswith("/") else words[0]
    port = re.compile(rf"(?<![0-9]){program.port}(?![0-9])")
    below = re.compile(rf"(?<![^=:]){re.escape(folder.rstrip('/'))}/")
    escaped = (_escape(below.sub("", word)) for word in words)
    return f"[{', '.join(_quote(port.sub('{port}', word)) for word in escaped)}]"


def _escape(text: str) -> str:
    """A text without placeholders."""
    return text.replace("{", "{{").replace("}", "}}")


def _quote(text: str) -> str:
    """A text as a basic string of TOML."""
    characters = (f"\\{c}" if c in '"\\' else c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return f'"{"".join(c for c in characters if len(c) < 7)}"'
