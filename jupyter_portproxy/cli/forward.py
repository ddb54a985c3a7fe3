"""`jupyter portproxy forward`: ports and services beside the server become ports of this machine.

Standard output has one line for each forward, or one JSON object with `--json`, or the bytes of the connection with `--stdio`;
all messages go to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from .api_command import add_api_command
from .output import PROGRAM, Commands, Options
from .relay_command import exit_code_of_signals, print_message, run_relay, server_access

if TYPE_CHECKING:
    import socket

    from ..protocol.forwards import Forward
    from ..upstream.websocket_client import ServerAccess
    from .api_client import ApiClient
    from .tcp_forwarder import Messages

_TEXT = "Forward ports of this machine to ports or services beside the server."
_FORWARD_HELP = (
    "5432 (the same port here), 5433:5432, 0:5432 (a free port), db or 5433:db (a service), KEY/5432 (in a project), "
    "0.0.0.0:5433:5432 or [::1]:5433:5432 (another address than 127.0.0.1), /path.sock:5432 (a Unix socket)"
)


def add_commands(commands: Commands) -> None:
    command = add_api_command(commands, "forward", _forward, _TEXT, as_json=True)
    command.add_argument("arguments", nargs="+", metavar="[BIND:]LOCAL:REMOTE", help=_FORWARD_HELP)
    command.add_argument(
        "--stdio", action="store_true", help="join standard input and output to one REMOTE, for ssh's ProxyCommand"
    )
    text = "the other way: each REMOTE:LOCAL makes a port of this machine one beside the server, at 127.0.0.1"
    command.add_argument("--reverse", action="store_true", help=text)
    command.add_argument("-v", "--verbose", action="store_true", help="print a line for each connection")


def _forward(client: ApiClient, options: Options) -> int:
    access = server_access(client.server)
    if options.reverse:
        from .reverse import forward_reverse

        return run_relay(forward_reverse(access, options))
    return run_relay(_forward_to_stdio(access, options) if options.stdio else _forward_ports(access, options))


# ---- ports ----


async def _forward_ports(access: ServerAccess, options: Options) -> int:
    from ..protocol.forwards import parse_forward
    from .listening_sockets import close_listener, listen
    from .tcp_forwarder import TcpForwarder

    forwards = [parse_forward(argument) for argument in options.arguments]
    stop, listeners = exit_code_of_signals(), list[tuple["socket.socket", "Forward"]]()
    forwarder = TcpForwarder(access, forwards[0].remote, _messages(options))
    try:
        listeners += (listen(forward) for forward in forwards)
        await _check(access, forwards)
        for sock, forward in listeners:
            forwarder.serve(sock, forward)
            _print_forward(access, forward, options)
        return await _result_of_first(forwarder.wait_ended(), stop)
    finally:
        await forwarder.close()
        for sock, forward in listeners:
            close_listener(sock, forward)


async def _check(access: ServerAccess, forwards: list[Forward]) -> None:
    """Whether the server forwards all of these. It need not have a listener there yet. Raises: CliError."""
    import asyncio

    from ..upstream.websocket_client import check_websocket

    await asyncio.gather(*(check_websocket(access, path) for path in {forward.remote.path for forward in forwards}))


def _print_forward(access: ServerAccess, forward: Forward, options: Options) -> None:
    remote = forward.remote
    if options.json:
        where = {"path": forward.unix_socket} if forward.unix_socket else {"host": forward.host, "port": forward.port}
        print(json.dumps({"local": forward.local, **where, "remote": str(remote), "server": access.url}), flush=True)
    else:
        what = f"port {remote.port}" if remote.port else f"service {remote.service}"
        project = f" of project {remote.key}" if remote.key else ""
        print(f"{forward.local} leads to {what}{project} at {access.url}", flush=True)
    if forward.is_exposed:
        print(f"Every machine that reaches {forward.local} can use it, with your login.", file=sys.stderr)


# ---- standard input and output ----


async def _forward_to_stdio(access: ServerAccess, options: Options) -> int:
    from tornado.iostream import IOStream

    from ..errors import CliError
    from ..protocol.forwards import parse_remote
    from ..upstream.websocket_client import open_websocket
    from .standard_streams import StandardStreams
    from .tcp_forwarder import TcpForwarder

    if len(options.arguments) != 1 or ":" in options.arguments[0] or options.json:
        raise CliError(f"--stdio joins one REMOTE and prints nothing else: {PROGRAM} forward --stdio 15022")
    remote, stop = parse_remote(options.arguments[0]), exit_code_of_signals()
    forwarder = TcpForwarder(access, remote, _messages(options))

    async def relay() -> int:
        websocket = await open_websocket(access, remote.path)
        streams = StandardStreams()
        is_whole = await forwarder.relay(websocket, IOStream(streams.far), f"standard input -> {remote}")
        await streams.wait_written()
        if not is_whole:
            print(f"The connection to {remote} was cut.", file=sys.stderr)
        return 0 if is_whole else 1

    try:
        return await _result_of_first(relay(), stop)
    finally:
        await forwarder.close()


# ---- both ----


def _messages(options: Options) -> Messages:
    from .tcp_forwarder import Messages

    return Messages(print_message, print_message if options.verbose else lambda text: None)


async def _result_of_first(*works: Awaitable[int]) -> int:
    """The result of the work that ends first; the other work is cancelled."""
    import asyncio

    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
