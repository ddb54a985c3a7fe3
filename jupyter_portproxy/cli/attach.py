"""`jupyter portproxy attach`, `attach-token`, `attached` and `detach`: services that attach from elsewhere.

`attach` runs beside the services, in a job, pod or worker. The others call the server's API.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin

from ..errors import BadAttachToken, CliError
from .api_command import add_api_command, add_server_options
from .output import Commands, Options, parse_duration, parse_port_operand, print_json, print_table, read_secret
from .relay_command import exit_code_of_signals, print_message, run_relay, server_access

if TYPE_CHECKING:
    from ..attachment.agent import Offer
    from ..upstream.websocket_client import ServerAccess
    from .api_client import ApiClient

TOKEN_VARIABLE = "PORTPROXY_ATTACH_TOKEN"  # noqa: S105 (a name)
_NO_TOKEN = (
    f"There is no attach token: give --token-file FILE, set {TOKEN_VARIABLE}, or send it to standard input.\n"
    f"{BadAttachToken.hint}"
)


def add_commands(commands: Commands) -> None:
    """Add the commands to the command line; `options.run(options)` executes one."""
    text = "Attach ports of this machine to a Jupyter server elsewhere, as services."
    attaching = commands.add_parser("attach", help=text, description=text)
    attaching.add_argument("arguments", nargs="+", metavar="PORT", help="on which programs of yours listen here, or will")
    attaching.add_argument("--name", help="of the services, before `-PORT`; by default this machine's")
    attaching.add_argument(
        "--token-file", metavar="FILE", help=f"a file with the attach token (- is standard input); else {TOKEN_VARIABLE}"
    )
    attaching.add_argument("--any-owner", action="store_true", help="also attach ports of other users of this machine")
    add_server_options(attaching)
    attaching.set_defaults(run=_attach)

    text = "Make a token with which programs elsewhere attach services, and print it."
    making = add_api_command(commands, "attach-token", _make_token, text, as_json=True)
    making.add_argument(
        "--for", dest="seconds", type=parse_duration, metavar="TIME", default=8 * 3600.0, help="30m, 8h or 7d (default: 8h)"
    )
    making.add_argument("--name", default="", help="of the token, for the list")
    add_api_command(commands, "attached", _list, "List what is attached from elsewhere, and the attach tokens.", as_json=True)
    text = "Detach what is attached from elsewhere, by its name, or revoke an attach token, by its ID."
    add_api_command(commands, "detach", _detach, text, "name")


# ---- at the server's user ----


def _make_token(client: ApiClient, options: Options) -> None:
    """Print only the token to standard output: for `jupyter portproxy attach-token > FILE`."""
    token = client.call("POST", "attach-tokens", {"seconds": options.seconds, "name": options.name})
    if options.json:
        return print_json(token)
    print(token["token"], flush=True)
    end = f"It is valid until {_time(token['until'])}. Revoke it: jupyter portproxy detach {token['id']}"
    print(f"This token attaches services to {client.url}\n{end}", file=sys.stderr)


def _list(client: ApiClient, options: Options) -> None:
    agents, tokens = client.call("GET", "attached"), client.call("GET", "attach-tokens")
    if options.json:
        return print_json({"agents": agents, "tokens": tokens})
    print_table(
        ["AGENT", "ON", "STATE", "SINCE", "TOKEN", "SERVICES"],
        [[a["name"], a["host"], a["state"], _time(a["since"]), a["token"], " ".join(a["services"])] for a in agents],
    )
    print_table(
        ["ATTACH TOKEN", "NAME", "UNTIL", "LAST USED"],
        [[t["id"], t["name"], _time(t["until"]), _time(t["used"]) if t["used"] else "never"] for t in tokens],
    )


def _detach(client: ApiClient, options: Options) -> None:
    """A name is looked for among the agents first: a token's ID may be the name of one."""
    path = quote(options.name, safe="")
    if any(agent["name"] == options.name for agent in client.call("GET", "attached")):
        client.call("DELETE", f"attached/{path}")
        print(f"{options.name} is detached.")
    elif any(token["id"] == options.name for token in client.call("GET", "attach-tokens")):
        client.call("DELETE", f"attach-tokens/{path}")
        print(f"The attach token {options.name} is revoked.")
    else:
        raise CliError(f"Nothing is attached with the name '{options.name}', and no attach token has that ID.\n"
                       "List both: jupyter portproxy attached")  # fmt: skip


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


# ---- beside the services ----


def _attach(options: Options) -> int:
    import socket

    from ..attachment.agent import AttachedPorts
    from ..attachment.local_ports import LocalPorts
    from ..protocol.attach_messages import clean_host

    ports = [parse_port_operand(argument) for argument in options.arguments]
    access = attach_access(options.server, _read_token(options.token_file), options.ca_file)
    host = clean_host(socket.gethostname())
    offer = AttachedPorts(check_name(options.name or host), host, ports, LocalPorts(host, any_owner=options.any_owner))

    def print_addresses(addresses: dict[int, str]) -> None:
        for port, path in sorted(addresses.items()):
            print(f"Port {port} is attached: {urljoin(access.url, path)}", flush=True)

    return run_relay(run_agent(access, offer, print_addresses))


async def run_agent(access: ServerAccess, offer: Offer, print_addresses: Callable[[dict[int, str]], None]) -> int:
    """Keep an offer attached until a signal, and return the exit code. Raises: CliError"""
    import asyncio

    from ..attachment.agent import Agent

    stop, code = asyncio.Event(), exit_code_of_signals()
    code.add_done_callback(lambda _: stop.set())
    await Agent(access, offer, print_message, print_addresses).run(stop)
    return await code


def attach_access(url: str | None, token: str, ca_file: str | None) -> ServerAccess:
    """How a server is dialled with an attach token. Raises: CliError"""
    from ..protocol.credentials import ATTACH_TOKEN_START
    from .server_address import ServerAddress, parse_server_url

    if url is None:
        raise CliError("Name the Jupyter server: --server https://hub.example.org/user/ada/")
    if not token:
        raise CliError(_NO_TOKEN)
    if not token.startswith(ATTACH_TOKEN_START):
        raise CliError(f"This is no attach token.\n{BadAttachToken.hint}")
    base, _ = parse_server_url(url)
    return server_access(ServerAddress(base, token, os.path.abspath(ca_file) if ca_file else ""))


def check_name(name: str) -> str:
    """The name itself. Raises: CliError"""
    from ..protocol.attach_messages import MAX_NAME, NAME

    if not NAME.match(name):
        raise CliError(f"Invalid name: {name[:80]!r}. Use up to {MAX_NAME} letters, digits, '.', '_' and '-'.")
    return name


def _read_token(file: str | None) -> str:
    if file is not None:
        return read_secret(file).strip()
    if os.environ.get(TOKEN_VARIABLE):
        return os.environ[TOKEN_VARIABLE].strip()
    return "" if sys.stdin is None or sys.stdin.isatty() else read_secret("-").strip()
