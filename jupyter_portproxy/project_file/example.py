"""The text of a new `portproxy.toml`: from services and ports that are there, or as an example in comments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class RunningProgram:
    """A program that listens on a port.

    Attributes:
        name: of its service; empty if it is none.
        command: may be unknown, and then empty.
        protocol: "http", "https" or "tcp".
    """

    port: int
    command: Sequence[str]
    name: str = ""
    label: str = ""
    protocol: str = "http"
    kernel: str = ""


def print_example(programs: Iterable[RunningProgram], folder: str) -> str:
    """The text of the file.

    Args:
        folder: where it will be; paths below it become relative.
    """
    programs = list(programs)
    services = [program for program in programs if program.name and program.command]
    ports = [program for program in programs if not program.name]
    parts = [_HEAD, *(_print_service(service, folder) for service in services)]
    if not services:
        parts.append("\n".join([_EXAMPLE.rstrip(), *(_KEYS.splitlines()), ""]))
    parts += [_print_port(port, folder) for port in ports]
    if not ports:
        parts.append(_PORT_EXAMPLE)
    return "\n".join(parts)


def _print_service(program: RunningProgram, folder: str) -> str:
    lines = [f"[services.{_quote(program.name)}]", f"command = {_print_command(program, folder)}"]
    if any(MASK in word for word in program.command):
        lines.append(f"# {MASK} stands for a secret: write it into an environment_file that is not committed.")
    if program.protocol != "http":
        lines.append(f"protocol = {_quote(program.protocol)}")
    if program.kernel:
        lines.append(f"kernel = {_quote(program.kernel)}")
    return "\n".join([*lines, _KEYS])


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
    escaped = (below.sub("", word).replace("{", "{{").replace("}", "}}") for word in words)
    return f"[{', '.join(_quote(port.sub('{port}', word)) for word in escaped)}]"


def _quote(text: str) -> str:
    """A text as a basic string of TOML."""
    characters = (f"\\{c}" if c in '"\\' else c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return f'"{"".join(c for c in characters if len(c) < 7)}"'
