"""The arguments of `jupyter portproxy forward`: `[BIND:]LOCAL:REMOTE`, or REMOTE alone.

    LOCAL    a port of this machine, 0 for a free one, or the path of a Unix socket, which begins with `/`, `./` or `~/`
    BIND     an IP address of this machine, IPv6 in brackets; 127.0.0.1 by default
    REMOTE   a port beside the server, the name of a service, or KEY/PORT and KEY/NAME in a project

REMOTE alone: the same port on this machine, and a free one for a service, whose own port the server has chosen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import BadRoute, CliError
from .project_urls import is_key
from .urls import LOOPBACK_NAME, bracket_host, ip_literal, is_loopback, parse_port

_LOOPBACK = "127.0.0.1"
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z", re.ASCII)
_FORM = "Write [BIND:]LOCAL:REMOTE, for example 5432, 5433:5432 or 5433:db."


@dataclass(frozen=True, slots=True)
class Remote:
    """What a connection leads to.

    Attributes:
        key: of the project; empty for the server itself.
        port: beside the server; 0 for a service.
        service: its name; empty for a port.
    """

    key: str = ""
    port: int = 0
    service: str = ""

    @property
    def path(self) -> str:
        """The path of its WebSocket below the server's base URL."""
        return f"{self.key}{'/' if self.key else ''}proxy/tcp/{self.port or f'service/{self.service}'}"

    def __str__(self) -> str:
        return f"{self.key}{'/' if self.key else ''}{self.port or self.service}"


@dataclass(frozen=True, slots=True)
class Forward:
    """A listening socket on this machine and what its connections lead to.

    Attributes:
        host: the IP address to listen on.
        port: 0 for a free one.
        unix_socket: the path to listen on instead, if not empty.
    """

    remote: Remote
    host: str = _LOOPBACK
    port: int = 0
    unix_socket: str = ""

    @property
    def is_exposed(self) -> bool:
        """True if other machines may reach it."""
        return not self.unix_socket and not is_loopback(self.host)

    @property
    def local(self) -> str:
        """The address or path to listen on."""
        return self.unix_socket or f"{bracket_host(self.host)}:{self.port}"

    @property
    def argument(self) -> str:
        """The argument of the command that is parsed to this."""
        if self.unix_socket:
            return f"{self.unix_socket}:{self.remote}"
        return f"{f'{bracket_host(self.host)}:' if self.host != _LOOPBACK else ''}{self.port}:{self.remote}"


def parse_forward(text: str) -> Forward:
    """Raises: CliError."""
    local, colon, last = text.rpartition(":")
    remote = parse_remote(last, text)
    if not colon:
        return Forward(remote, port=remote.port)
    if local.startswith(("/", "./", "../", "~/")):
        return Forward(remote, unix_socket=local)
    if ip_literal(local.strip("[]")) is not None:
        raise CliError(f"The local port is missing in {text!r}. Write {local}:PORT:{last}, or 0 as PORT for a free one.")
    bind, colon, port = local.rpartition(":")
    return Forward(remote, _parse_bind(bind, text) if colon else _LOOPBACK, _parse_local_port(port, text))


def parse_remote(text: str, whole: str = "") -> Remote:
    """REMOTE of a forward; `whole` is quoted in the error. Raises: CliError"""
    key, slash, last = text.rpartition("/")
    if slash and not is_key(key):
        raise CliError(f"Invalid project in {whole or text!r}: {key!r}. Write its key, for example f3a1/5432.")
    if last.isascii() and last.isdigit():
        try:
            return Remote(key, parse_port(last))
        except BadRoute:
            raise CliError(f"Invalid port in {whole or text!r}: {last!r}. A port is a whole number from 1 to 65535.") from None
    if not _SERVICE.match(last):
        raise CliError(f"Invalid forward: {whole or text!r}. {_FORM}")
    return Remote(key, service=last)


def _parse_local_port(text: str, whole: str) -> int:
    try:
        return parse_port(text) if text != "0" else 0
    except BadRoute:
        raise CliError(
            f"Invalid local port in {whole!r}: {text!r}. It is 0 for a free port, or a whole number up to 65535."
        ) from None


def _parse_bind(text: str, whole: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if bare == LOOPBACK_NAME:
        return _LOOPBACK
    address = ip_literal(bare)
    if address is None or (address.version == 6) != (bare != text):
        raise CliError(
            f"Invalid address in {whole!r}: {text!r}. "
            "It is an IP address of this machine, for example 127.0.0.1, or an IPv6 address in brackets: [::1]."
        )
    return str(address)
