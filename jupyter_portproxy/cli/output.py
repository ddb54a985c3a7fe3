"""Input and output of all commands: tables for people, JSON for programs, secrets from files, errors as sentences."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import BadRoute, CliError, GatewayError, UnknownProject

if TYPE_CHECKING:
    import logging

# How people call this program. The one file for machines without Jupyter is called by its name.
PROGRAM = "jupyter portproxy" if os.path.exists(__file__) else os.path.basename(sys.argv[0])
_MAX_SECRET_SIZE = 8192  # characters that are read; more than a secret may have
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd])", re.ASCII)
MAX_DURATION = 366 * 86400  # s, that servers accept
_WRITE_ERRORS = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
_PLAIN_WORD = re.compile(r"[\w@%+=:,./{}~-]+", re.ASCII)  # with the braces of placeholders
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # seconds
Options = argparse.Namespace
Commands = Any  # argparse's _SubParsersAction
Work = Callable[[Options], Coroutine[Any, Any, int | None]]


def prepare_streams() -> None:
    """Open /dev/null in place of standard streams that the caller has closed (`>&-`), and let any text be printed.

    For a closed stream Python has None, and the next socket or file gets its number. A character that the encoding of standard
    output lacks, as of a page's title in a locale without UTF-8, is printed as its escape.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def is_output_error(error: OSError) -> bool:
    """True for the error of a stream that cannot be written, such as one on a full disk. Those of files have their name."""
    return error.errno in _WRITE_ERRORS and error.filename is None


def discard_output() -> None:
    """Let standard output lead to /dev/null: Python writes what is left there when it exits."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2), flush=True)


def print_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print columns of at most 40 characters; the last one is cut at the terminal's width. `-` stands for None and empty text."""
    if not rows:
        print(f"No {head[0].lower()}s.\n")
        return
    lines = [list(head), *(["-" if cell in (None, "") else _printable_line(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    width = max(40, shutil.get_terminal_size((120, 24)).columns) if sys.stdout.isatty() else 1000
    for line in lines:
        text = "  ".join([*(cell[:40].ljust(min(size, 40)) for cell, size in zip(line, widths, strict=False)), line[-1]])
        print(text[:width])
    print()


def print_result(options: Options, text: str, **values: object) -> None:
    if options.json:
        return print_json(values)
    print(printable(text), flush=True)


def printable(text: str) -> str:
    """The text without control characters: what a server answers may be quoted, and must not command the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _printable_line(value: object) -> str:
    return printable(str(value)).replace("\n", " ").replace("\t", " ")


def quote_command(words: Sequence[str]) -> str:
    """A command as a shell would take it; what cannot be printed is shown as its escape, so that it cannot hide what is run."""
    return " ".join(map(_quote_word, words))


def _quote_word(word: str) -> str:
    if not word.isprintable():
        return "$'" + "".join(_escape(character) for character in word) + "'"
    return word if _PLAIN_WORD.fullmatch(word) else shlex.quote(word)


def _escape(character: str) -> str:
    if character.isprintable():
        return f"\\{character}" if character in "\\'" else character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def read_secret(name: str) -> str:
    """A file's text without its line end; `-` is standard input. Raises a CliError if it cannot be read."""
    try:
        if name == "-":
            return sys.stdin.read(_MAX_SECRET_SIZE).rstrip("\r\n")
        with open(name, encoding="utf-8") as file:
            return file.read(_MAX_SECRET_SIZE).rstrip("\r\n")
    except (OSError, UnicodeError) as error:
        raise CliError(f"The file {name} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.") from None


def parse_port_argument(text: str) -> int:
    """For argparse."""
    from ..protocol.urls import parse_port

    try:
        return parse_port(text)
    except BadRoute:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a port is a whole number from 1 to 65535") from None


def parse_port_operand(text: str) -> int:
    """A port among `arguments`, which argparse does not parse. Raises: CliError"""
    try:
        return parse_port_argument(text)
    except argparse.ArgumentTypeError as error:
        raise CliError(f"{error}.") from None


def parse_name(text: str) -> str:
    """A name, port or folder, for argparse. An empty one, as of a variable that is not set, must not mean the default."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty: is a variable of the shell not set?")
    return text


def parse_seconds(text: str) -> float:
    """For argparse."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, for example 600") from None


def parse_duration(text: str) -> float:
    """Seconds, minutes, hours or days as `90s`, `30m`, `8h`, `7d` -> seconds, for argparse."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: write a number and s, m, h or d, for example 8h")
    seconds = float(match[1]) * _UNITS[match[2]]
    if not 0 < seconds <= MAX_DURATION:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time above 0 of at most {MAX_DURATION // 86400} days")
    return seconds


def silent_log() -> logging.Logger:
    """A log without output, for code that also raises what it logs: its text may quote a password."""
    import logging

    log = logging.Logger("portproxy console")
    log.addHandler(logging.NullHandler())
    return log


def add_command(commands: Commands, name: str, work: Work, text: str) -> argparse.ArgumentParser:
    """Add a command with `--json`. `options.run(options)` runs `work`; GatewayErrors become CliErrors."""

    def run(options: Options) -> int:
        import asyncio

        try:
            return asyncio.run(work(options)) or 0
        except UnknownProject as error:  # its own hint is for browsers
            raise CliError(f"{error.message}\nList the projects: jupyter portproxy projects") from None
        except GatewayError as error:
            raise CliError("\n".join(filter(None, [error.message, error.hint]))) from None

    added: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    added.set_defaults(run=run)
    added.add_argument("--json", action="store_true", help="print JSON")
    return added
