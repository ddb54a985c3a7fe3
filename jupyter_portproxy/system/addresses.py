"""What the system gives out: the IP literals of a host name, looked up once per request, and ephemeral ports."""

from __future__ import annotations

import asyncio
import socket

from ..protocol.urls import LOOPBACK_NAME, ip_literal

LOOPBACK = ("127.0.0.1", "::1")
_EPHEMERAL_PORTS = range(49152, 65536)  # RFC 6335 6
_PORT_RANGE = "/proc/sys/net/ipv4/ip_local_port_range"


async def resolve_host(host: str, port: int) -> tuple[str, ...]:
    """The addresses of a host in the order in which to try them; empty if the name does not resolve.

    "localhost" is loopback by definition (RFC 6761 6.3) and never looked up.
    """
    if host == LOOPBACK_NAME:
        return LOOPBACK
    if ip_literal(host) is not None:
        return (host,)
    try:
        entries = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in entries))


def ephemeral_ports() -> range:
    """The ports from which the system chooses one for a program that listens on port 0: on Linux the kernel's own range."""
    try:
        with open(_PORT_RANGE, encoding="ascii") as file:
            first, last = map(int, file.read().split())
    except (OSError, ValueError):
        return _EPHEMERAL_PORTS
    return range(first, last + 1)
