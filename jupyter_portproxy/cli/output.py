"""What commands have in common: tables for people, JSON for programs, what went wrong, how a command is added.

Rule of this file: it prints what it is given, and asks nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ..errors import CliError, GatewayError, UnknownProject

_LARGEST = 8192  # characters of a secret's file, and more than a secret may have
Options = argparse.Namespace
Commands = Any  # argparse's _SubParsersAction
Work = Callable[[Options], Coroutine[Any, Any, int | None]]


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2), flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns of at most 40 characters, the last one as long as the terminal allows."""
    if not rows:
        print(f"No {head[0].lower()}s.\n")
        return
    lines = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    room = max(40, shutil.get_terminal_size((120, 24)).columns) if sys.stdout.isatty() else 1000
    for line in lines:
        text = "  ".join([*(cell[:40].ljust(min(width, 40)) for cell, width in zip(line, widths, strict=False)), line[-1]])
        print(text[:room])
    print()


def say(options: Options, text: str, **values: object) -> None:
    """The text, or with --json the values."""
    if options.json:
        return print_json(values)
    print(text, flush=True)


def read_secret(name: str) -> str:
    """A file's text without the end of its line; `-` is standard input.

    Raises:
        CliError
    """
    try:
        if name == "-":
            return sys.stdin.read(_LARGEST).rstrip("\r\n")
        with open(name, encoding="utf-8") as file:
            return file.read(_LARGEST).rstrip("\r\n")
    except (OSError, UnicodeError) as error:
        raise CliError(f"The file {name} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}.") from None


def port_number(text: str) -> int:
    """A port, for argparse."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a port is a whole number from 1 to 65535")
    return int(text)


def silent_log() -> logging.Logger:
    """For what raises all that it logs: a log's text may quote a password."""
    log = logging.Logger("portproxy console")
    log.addHandler(logging.NullHandler())
    return log


def add_command(commands: Commands, name: str, work: Work, text: str) -> argparse.ArgumentParser:
    """A command with `--json`. `options.run(options)` does the work, and what it refuses is a CliError."""

    def run(options: Options) -> int:
        try:
            return asyncio.run(work(options)) or 0
        except UnknownProject as error:  # its hint is for a browser
            raise CliError(f"{error.message}\nList the projects: jupyter portproxy projects") from None
        except GatewayError as error:
            raise CliError("\n".join(filter(None, [error.message, error.hint]))) from None

    added: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    added.set_defaults(run=run)
    added.add_argument("--json", action="store_true", help="print JSON")
    return added
