"""`jupyter portproxy forward --reverse REMOTE:LOCAL`: ports of this machine become ports beside the server, at 127.0.0.1."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

from ..errors import CliError
from .attach import run_agent
from .output import Options, parse_port_operand

if TYPE_CHECKING:
    from ..upstream.websocket_client import ServerAccess


async def forward_reverse(access: ServerAccess, options: Options) -> int:
    """Forward until a signal, and return the exit code. Raises: CliError"""
    from ..attachment.agent import ReversePorts
    from ..attachment.local_ports import LocalPorts
    from ..protocol.attach_messages import MAX_PORTS, clean_host

    if options.stdio:
        raise CliError("--reverse and --stdio exclude each other.")
    pairs = parse_pairs(options.arguments)
    if len(pairs) > MAX_PORTS:
        raise CliError(f"At most {MAX_PORTS} ports can be forwarded by one command; there are {len(pairs)}.")
    host = clean_host(socket.gethostname())

    def print_addresses(addresses: dict[int, str]) -> None:
        for remote, address in addresses.items():
            if options.json:
                print(json.dumps({"remote": address, "local": f"127.0.0.1:{pairs[remote]}", "server": access.url}), flush=True)
            else:
                print(f"{address} beside {access.url} leads to port {pairs[remote]} of this machine", flush=True)

    return await run_agent(access, ReversePorts(host, pairs, LocalPorts(host)), print_addresses)


def parse_pairs(arguments: list[str]) -> dict[int, int]:
    """`REMOTE:LOCAL`, or one port for both -> port beside the server: port of this machine. Raises: CliError"""
    pairs: dict[int, int] = {}
    for argument in arguments:
        remote, separator, local = argument.partition(":")
        try:
            port = parse_port_operand(remote)
            local_port = parse_port_operand(local) if separator else port
        except CliError as error:
            raise CliError(f"{error}\nWrite REMOTE:LOCAL, for example 17000:27000.") from None
        if port in pairs:
            raise CliError(f"Port {port} of the server is named twice.")
        pairs[port] = local_port
    return pairs
