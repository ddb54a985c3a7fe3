"""Name resolution: an upstream's host becomes the IP literals to connect to, looked up once per request."""

from __future__ import annotations

import asyncio
import socket

from ..protocol.urls import LOOPBACK_NAME, ip_literal

LOOPBACK = ("127.0.0.1", "::1")


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
