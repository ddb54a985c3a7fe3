"""Commands that call the API of a running server."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import CliError
from .output import Commands, Options, parse_name

if TYPE_CHECKING:
    from .api_client import ApiClient

REQUEST_TIMEOUT = 30.0  # s without a byte


def add_api_command(
    commands: Commands,
    name: str,
    run: Callable[[ApiClient, Options], int | None],
    text: str,
    *arguments: str,
    as_json: bool = False,
) -> argparse.ArgumentParser:
    """Add a command that calls the server's API. An answer without the API's keys becomes a CliError."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    for argument in arguments:
        command.add_argument(argument, type=parse_name)

    def call(options: Options) -> int | None:
        client = open_client(options)
        try:
            return run(client, options)
        except (KeyError, TypeError):
            reason = "in a form that this program does not know.\nIs its jupyter_portproxy of another version?"
            raise CliError(f"{client.server.url} answers {reason}") from None
        except UnicodeEncodeError as error:  # a name or path of bytes, for a URL
            raise CliError(f"{error.object!r} is not UTF-8 text.\nRename it.") from None

    command.set_defaults(run=call)
    add_server_options(command)
    if as_json:
        command.add_argument("--json", action="store_true", help="print JSON")
    return command


def open_client(options: Options) -> ApiClient:
    """The API of the server that the options choose. Raises: CliError"""
    from .api_client import ApiClient  # these import what a help text does not need
    from .server_choice import choose_server

    return ApiClient(choose_server(options.server, options.ca_file), options.timeout)


def add_server_options(parser: argparse.ArgumentParser, *, with_server: bool = True) -> None:
    """Add `--server` and `--ca-file` to a command; before the command's name they are options, too."""
    text = "the Jupyter server, here or elsewhere, as the browser shows it; by default the only one that runs or is logged in to"
    if with_server:
        parser.add_argument("--server", metavar="URL", default=argparse.SUPPRESS, help=text)
    text = "a PEM file with the certificates that are trusted in place of the system's"
    parser.add_argument("--ca-file", metavar="FILE", default=argparse.SUPPRESS, help=text)
