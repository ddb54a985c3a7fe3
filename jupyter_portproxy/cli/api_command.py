"""Commands that call the API of a running server."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from .output import Commands, Options

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
    """Add a command that calls the server's API."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    for argument in arguments:
        command.add_argument(argument)

    def call(options: Options) -> int | None:
        from .api_client import find_server  # imports what a help text does not need

        return run(find_server(options.server, options.timeout), options)

    command.set_defaults(run=call)
    if as_json:
        command.add_argument("--json", action="store_true", help="print JSON")
    return command
