"""PURE. Projects: what a project's key looks like, and what every resolver of projects promises.

Rule of this file: words that the hops share, and no look-up. A key is checked here before anything is asked about it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args, runtime_checkable

from ..errors import BadInput, BadRoute, UnknownProject
from ..protocol.project_urls import KEY_RULE, is_key
from ..protocol.urls import ip_literal, parse_authority

ANY = ""  # to subscribers: any project may have changed
Role = Literal["owner", "member", "viewer"]
Visibility = Literal["private", "shared"]
ROLES: tuple[str, ...] = get_args(Role)
VISIBILITIES: tuple[str, ...] = get_args(Visibility)
_NEXT_HOP = re.compile(r"(https?)://([^/?#@\s]{1,300})/?\Z", re.ASCII)
_CREDENTIAL = re.compile(r"[\x21-\x7e]{1,4096}\Z", re.ASCII)  # it becomes a header field's value


@dataclass(frozen=True, slots=True)
class Target:
    """The next hop of a project.

    Attributes:
        scheme: "http" or "https".
        host: name or address literal, without brackets.
        credential: what the next hop asks of this one; never shown to a client.
        generation: rises with each change of the place, so that two targets of one project are the same place if it is equal.
        allowed_ports: the project's own; they narrow the server's. None: nothing is narrowed.
        askers_ports: those of who asks; they narrow the project's. None: nothing is narrowed.
        owner: username; empty where this hop does not know it.
        members: username -> role, without the owner. None: this hop does not know them, the one before it has checked.
        visibility: "shared": whoever is logged in is a viewer.
    """

    key: str
    scheme: str
    host: str
    port: int
    credential: str = field(repr=False)
    generation: int
    allowed_ports: tuple[range, ...] | None = None
    owner: str = ""
    members: Mapping[str, str] | None = None
    visibility: str = "private"
    askers_ports: tuple[range, ...] | None = None

    def role_of(self, username: str) -> str | None:
        """The role of a user; None if the project does not exist for them, or if this hop does not know."""
        return None if self.members is None else role_of(username, self.owner, self.members, self.visibility)

    def allows(self, port: int) -> bool:
        """True if the project's own list of ports has the port, or if there is none."""
        return self.allowed_ports is None or any(port in ports for ports in self.allowed_ports)

    def allows_asker(self, port: int) -> bool:
        """True if the list of ports of who asks has the port, or if they have none."""
        return self.askers_ports is None or any(port in ports for ports in self.askers_ports)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How a resolver is, for `/metrics` and for people.

    Attributes:
        away: true while the database does not answer.
        silent: seconds since it answered last; infinite if it never has.
        cached: projects that are known without asking.
        lookups: calls of `resolve` since the start.
        queries: questions to the database that they took.
    """

    hop: str
    away: bool
    silent: float
    cached: int
    lookups: int
    queries: int


class ProjectResolver(Protocol):
    """Where a project is. One for each kind of hop; all that raises is a GatewayError which names the hop."""

    async def resolve(self, key: str, asker: str | None) -> Target:
        """The next hop of a project.

        Args:
            asker: the username of who asks: a project that they may not see is an UnknownProject, whatever its state.
                None: the gateway itself asks. A hop that does not know the members takes no notice of it.

        Raises:
            UnknownProject, NotPlaced, HostDown, ProjectStopped, ProjectStarting, RegistryAway
        """

    def invalidate(self, key: str) -> None:
        """Forget what is known of a project; a look-up that is under way is thrown away."""

    def report_failure(self, key: str, generation: int) -> None:
        """The place of that generation did not answer: ask again for the next request."""

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Be told the key of each project that may have changed, or ANY.

        Whoever holds a tunnel then resolves again, and closes it (1012) if the project is gone or its generation differs, or
        if the user may not see it any more.

        Returns:
            What ends it.
        """

    def snapshot(self) -> Snapshot: ...

    async def start(self) -> None:
        """Begin. A database that is away is no reason to fail: it is asked again and again."""

    async def close(self) -> None: ...


@runtime_checkable
class FindsNames(Protocol):
    """A ProjectResolver that also knows projects by what people call them."""

    async def find(self, owner: str, name: str, asker: str | None) -> str:
        """The key of the project of that owner and name.

        Args:
            asker: as for `resolve`.

        Raises:
            UnknownProject, RegistryAway
        """


class Subscribers:
    """Callbacks that are told keys. One that fails stops nobody else: its exception goes to `on_error`."""

    def __init__(self, on_error: Callable[[str], None]) -> None:
        self._callbacks: dict[object, Callable[[str], None]] = {}
        self._on_error = on_error

    def add(self, callback: Callable[[str], None]) -> Callable[[], None]:
        ticket = object()
        self._callbacks[ticket] = callback

        def end() -> None:
            self._callbacks.pop(ticket, None)

        return end

    def tell(self, keys: Iterable[str]) -> None:
        for key in keys:
            for callback in list(self._callbacks.values()):
                try:
                    callback(key)
                except Exception as error:
                    self._on_error(f"{type(error).__name__}: {error}")


def known_key(text: str, hop: str) -> str:
    """A key as it stands in a URL.

    Raises:
        UnknownProject: it cannot be one, so nobody is asked.
    """
    if not is_key(text):
        raise UnknownProject(text, hop)
    return text


def new_key(text: str) -> str:
    """A key that an administrator gives.

    Raises:
        BadInput
    """
    if not is_key(text):
        raise BadInput("This is no key for a project.", KEY_RULE)
    return text


def is_credential(text: object) -> bool:
    """True for what can be sent as a header field's value: 1 to 4,096 visible ASCII characters."""
    return isinstance(text, str) and _CREDENTIAL.match(text) is not None


def new_credential(text: str) -> str:
    """A credential that an administrator gives.

    Raises:
        BadInput
    """
    if not is_credential(text):
        raise BadInput("This is no credential.", "Use 1 to 4096 visible ASCII characters without blanks.")
    return text


def role_of(username: str, owner: str, members: Mapping[str, str], visibility: str) -> str | None:
    """The role of a user in a project; None if it does not exist for them."""
    if not username or username.startswith("@"):  # in the members table that is a group
        return None
    if username == owner:
        return "owner"
    role = members.get(username)
    if role in ROLES:
        return role
    return "viewer" if visibility == "shared" else None


def next_hop(url: object) -> tuple[str, str, int]:
    """`http(s)://HOST:PORT` -> (scheme, host without brackets, port); a final slash is nothing else.

    Raises:
        ValueError: there is anything else to it (a user, a path, no port), or no host can have that address.
    """
    match = _NEXT_HOP.match(url) if isinstance(url, str) else None
    if match is None:
        raise ValueError("it is not of the form http://HOST:PORT or https://HOST:PORT")
    try:
        host, port = parse_authority(match[2])
    except BadRoute:
        raise ValueError("its host or its port can be none") from None
    literal = ip_literal(host)
    if literal is not None and (literal.is_unspecified or literal.is_multicast or literal.is_link_local):
        raise ValueError("no host of ours has such an address")
    return match[1], host, port
