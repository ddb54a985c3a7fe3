"""The next hop of a project, the interface of what finds it, and the rules for keys, credentials and host URLs."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from ..errors import BadInput, BadRoute, UnknownProject
from ..protocol.project_urls import KEY_RULE, is_key
from ..protocol.urls import ip_literal, parse_authority

ANY_PROJECT = ""  # passed to subscribers in place of a key: any project may have changed
ROLES = ("owner", "member", "viewer")  # the highest first
VISIBILITIES = ("private", "public")
LOCAL_HOST = "local"  # the host id of projects whose services are on this machine
Ports = tuple[range, ...] | None  # None: no restriction
_HOST_URL = re.compile(r"(https?)://([^/?#@\s]{1,300})/?\Z", re.ASCII)
_CREDENTIAL = re.compile(r"[\x21-\x7e]{1,4096}\Z", re.ASCII)  # it becomes a header field's value


@dataclass(frozen=True, slots=True)
class NextHop:
    """The next hop of a project, for one user.

    Attributes:
        scheme: "http" or "https".
        host: name or address literal, without brackets.
        credential: what authenticates this hop at the next one; never shown to a client.
        generation: rises with each change of the location: two objects with the same number have the same location.
        allowed_ports: the project's ports, a restriction of the server's `allowed_ports`.
        user_ports: the user's ports, a restriction of the project's.
        system_user: the user of the machine to whom the project's services must belong; None for no such restriction.
        is_local: its services are on this machine: there is no next hop, and `port` is 0.
        claimed_ports: of a local project without ports of its own: a byte for each port, 1 for ports of other projects.
        role: the user's; None where this hop does not know the members, and the hop before it has checked them.
        owner, name: by which the project can be addressed; empty where this hop does not know them.
    """

    key: str
    scheme: str
    host: str
    port: int
    credential: str = field(repr=False)
    generation: int
    allowed_ports: Ports = None
    user_ports: Ports = None
    role: str | None = None
    system_user: str | None = None
    is_local: bool = False
    claimed_ports: bytes | None = field(default=None, repr=False)
    owner: str = ""
    name: str = ""

    def allows(self, port: int) -> bool:
        """True if the project's ports include the port. A local project without a list has all that no other one claims."""
        if self.allowed_ports is None:
            return self.claimed_ports is None or not self.claimed_ports[port]
        return any(port in ports for ports in self.allowed_ports)

    def allows_user(self, port: int) -> bool:
        """True if the user's ports include the port."""
        return self.user_ports is None or any(port in ports for ports in self.user_ports)


class ProjectResolver(Protocol):
    """Finds the next hop of projects. All exceptions are GatewayErrors that name the hop."""

    async def resolve(self, key: str, username: str | None) -> NextHop:
        """The next hop of a project.

        Args:
            username: a project that this user may not see is an UnknownProject, whatever its state. None: no check of the
                members. A hop without a members table ignores it.

        Raises:
            UnknownProject, NotPlaced, HostDown, ProjectStopped, ProjectStarting, RegistryAway
        """

    def report_failure(self, key: str, generation: int) -> None:
        """The next hop of that generation did not answer: look it up again for the next request."""

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call back with the key of each project that may have changed, or with ANY_PROJECT. The result ends that."""

    async def start(self) -> None:
        """Start. An unavailable database is not an error: the connection is retried."""

    async def close(self) -> None: ...


@runtime_checkable
class NameResolver(Protocol):
    """A ProjectResolver that also finds projects by owner and name."""

    async def find(self, owner: str, name: str, username: str | None) -> str:
        """The key of the project of that owner and name. `username` and exceptions are as for `resolve`."""


class ChangeSubscriptions:
    """Callbacks that get the keys of changed projects. An exception in one is logged and does not affect the others."""

    def __init__(self, log: logging.Logger) -> None:
        self._callbacks: dict[object, Callable[[str], None]] = {}
        self._log = log

    def add(self, callback: Callable[[str], None]) -> Callable[[], None]:
        ticket = object()
        self._callbacks[ticket] = callback

        def end() -> None:
            self._callbacks.pop(ticket, None)

        return end

    def notify(self, keys: Iterable[str]) -> None:
        for key in keys:
            for callback in list(self._callbacks.values()):
                try:
                    callback(key)
                except Exception:
                    self._log.exception("portproxy: a subscriber to changes of projects failed")


def require_key(text: str, hop: str) -> None:
    """Raise UnknownProject for a key of a URL that no project can have: it needs no look-up."""
    if not is_key(text):
        raise UnknownProject(text, hop)


def check_new_key(text: str) -> None:
    """Raise BadInput for a key that no project can have."""
    if not is_key(text):
        raise BadInput.value("project key", text, KEY_RULE)


def is_credential(text: object) -> bool:
    """True for what can be sent as a header field's value: 1 to 4,096 visible ASCII characters."""
    return isinstance(text, str) and _CREDENTIAL.match(text) is not None


def check_new_credential(text: str) -> None:
    """Raise BadInput for a credential that cannot be sent."""
    if not is_credential(text):
        raise BadInput("Invalid credential.", "Use 1 to 4096 visible ASCII characters without blanks.")


def parse_host_url(url: object) -> tuple[str, str, int]:
    """`http(s)://HOST:PORT`, with or without a final slash -> (scheme, host without brackets, port).

    Raises:
        ValueError: it has another part (a user, a path) or no port, or is an address that no host can have.
    """
    match = _HOST_URL.match(url) if isinstance(url, str) else None
    if match is None:
        raise ValueError("it is not of the form http://HOST:PORT or https://HOST:PORT")
    try:
        host, port = parse_authority(match[2])
    except BadRoute:
        raise ValueError("its host or its port is invalid") from None
    literal = ip_literal(host)
    if literal is not None and (literal.is_unspecified or literal.is_multicast or literal.is_link_local):
        raise ValueError("a host of projects cannot have such an address")
    return match[1], host, port
