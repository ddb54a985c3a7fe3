"""`jupyter portproxy forward`: ports and services beside the server become ports of this machine.

Standard output has one line for each forward, or one JSON object with `--json`, or the bytes of the connection with `--stdio`;
all messages go to standard error.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING

from .api_command import add_api_command
from .output import PROGRAM, Commands, Options, printable

if TYPE_CHECKING:
    import asyncio
    import socket

    from ..protocol.forwards import Forward
    from ..upstream.websocket_client import ServerAccess
    from .api_client import ApiClient
    from .server_address import ServerAddress
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
    import asyncio
    import logging

    from ..system.descriptors import raise_limit

    logging.getLogger("tornado").addHandler(logging.NullHandler())  # what it warns of is in our sentences
    raise_limit()
    access = server_access(client.server)
    if options.reverse:
        from .reverse import forward_reverse

        return asyncio.run(forward_reverse(access, options))
    return asyncio.run(_forward_to_stdio(access, options) if options.stdio else _forward_ports(access, options))


def server_access(server: ServerAddress) -> ServerAccess:
    """What `open_websocket` takes. Raises: CliError, if the environment names a proxy that cannot be used."""
    from ..upstream.websocket_client import ServerAccess
    from .connection import check_owner, find_proxy
    from .refusals import explain_refusal

    approve, explain = partial(check_owner, server), partial(explain_refusal, server)
    return ServerAccess(server.url, server.token, server.trust, find_proxy(server), approve, explain)


# ---- ports ----


async def _forward_ports(access: ServerAccess, options: Options) -> int:
    from ..protocol.forwards import parse_forward
    from .listening_sockets import close_listener, listen
    from .tcp_forwarder import TcpForwarder

    forwards = [parse_forward(argument) for argument in options.arguments]
    stop, listeners = _stop_signals(), list[tuple["socket.socket", "Forward"]]()
    forwarder = TcpForwarder(access, forwards[0].remote, _messages(options))
    try:
        listeners += (listen(forward) for forward in forwards)
        await _check(access, forwards)
        for sock, forward in listeners:
            forwarder.serve(sock, forward)
            _print_forward(access, forward, options)
        return await _first(forwarder.wait_ended(), stop)
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
    remote, stop = parse_remote(options.arguments[0]), _stop_signals()
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
        return await _first(relay(), stop)
    finally:
        await forwarder.close()


# ---- both ----


def _messages(options: Options) -> Messages:
    from .tcp_forwarder import Messages

    def say(text: str) -> None:
        print(printable(text), file=sys.stderr, flush=True)

    return Messages(say, say if options.verbose else lambda text: None)


async def _first(*works: Awaitable[int]) -> int:
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


def _stop_signals() -> asyncio.Future[int]:
    """The exit code after SIGINT or SIGTERM. Windows has KeyboardInterrupt instead."""
    import asyncio

    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[int] = loop.create_future()

    def stop(code: int) -> None:
        if not stopped.done():
            stopped.set_result(code)

    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 0)):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop, code)
    return stopped
