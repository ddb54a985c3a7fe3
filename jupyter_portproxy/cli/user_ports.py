"""`jupyter portproxy allow`, `disallow` and `allowed`: the ports that a user allows outside the configured ones."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .api_command import add_api_command
from .links import path_of, print_links
from .output import Commands, Options, parse_duration, parse_port_argument, print_json, print_table

if TYPE_CHECKING:
    from .api_client import ApiClient


def add_commands(commands: Commands) -> None:
    """Add the commands to the command line; `options.run(options)` executes one."""
    allowing = add_api_command(commands, "allow", _allow, "Allow a port outside the configured ones, for yourself.", as_json=True)
    allowing.add_argument(
        "--for", dest="seconds", type=parse_duration, metavar="TIME", help="until then, for example 30m, 8h or 7d"
    )
    disallowing = add_api_command(commands, "disallow", _disallow, "Take back a port that you have allowed.")
    for command in (allowing, disallowing):
        command.add_argument("port", type=parse_port_argument)
    add_api_command(commands, "allowed", _allowed, "List the ports that you have allowed.", as_json=True)


def _allow(client: ApiClient, options: Options) -> None:
    allowed = client.call("PUT", "allowed-ports", {"port": options.port, "seconds": options.seconds})
    if options.json:
        return print_json(allowed)
    print_links(client, f"Port {options.port} is allowed{_end(allowed)}: ", str(options.port), path_of(client, str(options.port)))


def _disallow(client: ApiClient, options: Options) -> None:
    client.call("DELETE", f"allowed-ports/{options.port}")
    print(f"Port {options.port} is not allowed any more.")


def _allowed(client: ApiClient, options: Options) -> None:
    ports = client.call("GET", "allowed-ports")
    if options.json:
        return print_json(ports)
    print_table(["ALLOWED PORT", "UNTIL"], [[p["port"], _end(p).removeprefix(" until ")] for p in ports])


def _end(allowed: dict[str, Any]) -> str:
    return f" until {time.strftime('%Y-%m-%d %H:%M', time.localtime(allowed['until']))}" if allowed["until"] else ""
