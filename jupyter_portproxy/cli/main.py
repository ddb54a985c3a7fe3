"""`jupyter portproxy ...`: the parser of all commands, and what it does without one.

Commands print tables for people and JSON with `--json`. An error is one sentence on standard error and exit code 1. Each subject
has its module with `add_commands`; those of operators are in `cli.projects`. What a help text does not need is imported by the
command that needs it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

from ..errors import CliError
from . import attach, check, folders, forward, links, lists, logins, ready, services, user_ports, watch
from .api_command import REQUEST_TIMEOUT, add_server_options, open_client
from .output import PROGRAM, Options, discard_output, is_output_error, prepare_streams, printable

_SUBJECTS = (lists, links, services, folders, ready, user_ports, check, watch, forward, attach, logins)


def main(arguments: Sequence[str] | None = None, *, timeout: float = REQUEST_TIMEOUT) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: default: those of the process.
        timeout: of requests to the server, in seconds.
    """
    prepare_streams()
    try:
        options = _parse(list(sys.argv[1:] if arguments is None else arguments), timeout)
        code = int(options.run(options) or 0)
        sys.stdout.flush()
        return code
    except CliError as error:
        print(printable(str(error)), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if not is_output_error(error):
            raise
        discard_output()
        if isinstance(error, BrokenPipeError):  # as of `| head -1`
            return 0
        print(f"The output cannot be written: {error.strerror}.", file=sys.stderr)
        return 1


def _overview(parser: argparse.ArgumentParser, options: Options) -> None:
    """Without a command: the server, its services and ports, and the commands."""
    try:
        client = open_client(options)
        print(f"Jupyter server: {client.url}\n")
        lists.print_lists(client, argparse.Namespace(json=False, all=False))
    except CliError as error:
        print(f"{printable(str(error))}\n")
    print(parser.epilog)


def _parse(arguments: list[str], timeout: float) -> Options:
    """The options of a command line. What follows `--`, and positional arguments after an option, are added to `arguments`.

    argparse treats `--` differently in each version of Python, and counts positional arguments after an option as unknown.
    """
    parser = _parser()
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options, unknown = parser.parse_known_args(arguments[:end], argparse.Namespace(timeout=timeout))
    more = [*unknown, *arguments[end + 1 :]]
    if more and (not hasattr(options, "arguments") or any(item.startswith("-") for item in unknown)):
        parser.error(f"unknown: {' '.join(more)}")
    if "" in more:
        parser.error("an argument is empty: is a variable of the shell not set?")
    if more:
        options.arguments = [*options.arguments, *more]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [-h] [--version] [--server URL] [--ca-file FILE] [COMMAND ...]",
        description="Web services beside your Jupyter server. Without a command: list them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_PrintVersion, nargs=0, help="show program's version number and exit")
    add_server_options(parser)
    parser.set_defaults(run=partial(_overview, parser), server=None, ca_file=None)
    commands = parser.add_subparsers(metavar="COMMAND", prog=PROGRAM, help=argparse.SUPPRESS)  # the epilog lists them
    for subject in _SUBJECTS:
        subject.add_commands(commands)
    if find_spec("jupyter_portproxy.cli.project_file") is not None:  # the one file for machines without Jupyter leaves it out
        from . import project_file

        project_file.add_commands(commands)
    for_users = len(commands.choices)
    if find_spec("jupyter_portproxy.projects") is not None:  # an installation for one machine may leave that package out
        from . import projects, users

        projects.add_commands(commands)
        users.add_commands(commands)
    lines = [f"  {name:<12} {command.description}" for name, command in commands.choices.items()]
    if lines[for_users:]:
        lines[for_users:for_users] = ["\nFor the operators of hubs and project hosts:"]
    parser.epilog = "\n".join(["Commands:", *lines])
    return parser


class _PrintVersion(argparse.Action):
    """`--version`: reading the package's metadata takes longer than all other work of a help text."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(version("jupyter_portproxy"))
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
