"""One origin per port: the names of those hosts, the tickets that lead into one, and the sessions of who is in.

Rule of this file: it knows no request. Names are pure; tickets and sessions live in memory, are bounded, and a session ends
with the login that it came from. VS Code, Codespaces and code-server give each port a host name of its own in the same way.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from ..gateway.logins import Logins
from ..protocol.credentials import find_login_cookies
from ..protocol.origin_hosts import OriginHosts, is_loopback_host
from ..protocol.urls import split_port
from ..upstream.closable import Closable

_TICKET_SECONDS = 30.0
_MAX_JUPYTERS = 100
_MOST = 10_000  # sessions and tickets; the oldest go
T = TypeVar("T")
K = TypeVar("K")


def nonce_of(cookie: str) -> str:
    """What stands for a cookie's value in a URL: nobody who reads that can make the cookie of it."""
    return hashlib.sha256(cookie.encode("utf-8", "replace")).hexdigest()


@dataclass(eq=False, slots=True)
class Entry(Generic[T]):
    """What a ticket leads to, and what a session is made of.

    Attributes:
        target: port or service.
        host: `host[:port]` of the origin.
        user: who asks.
        jupyters: Jupyter's own origin, from which it was entered.
        login: names and values of Jupyter's login cookies; or `token` and the one by which alone it came.
        still_valid: asks the identity provider and the authorizer again, with what the login came by.
        nonce: `nonce_of` the cookie that the browser must have to use the ticket; empty: it has not been there yet.
        tokens: Jupyter's, by which it was entered.
        answers: what the identity provider has said of credentials since the last check, by their hashes.
    """

    target: str
    host: str
    user: T
    jupyters: str
    login: frozenset[tuple[str, str]]
    still_valid: Callable[[], Awaitable[bool]]
    nonce: str = ""
    tokens: frozenset[str] = frozenset()
    framed: bool = False
    key: str = ""
    since: float = field(default_factory=time.monotonic)
    checked: float = field(default_factory=time.monotonic)
    answers: dict[bytes, bool] = field(default_factory=dict)

    def is_of(self, username: str, login: frozenset[tuple[str, str]]) -> bool:
        """True if this is the same user's. By a token alone Jupyter makes up a name each time, which its cookie keeps."""
        return bool(self.login & login) or _name_of(self) == username


class Origins(Generic[T]):
    """Who is in which origin."""

    def __init__(self, names: OriginHosts, logins: Logins) -> None:
        self.names, self._logins = names, logins
        self.last_jupyters = ""  # the origin of Jupyter from which somebody entered last
        self._jupyters: dict[str, None] = {}  # hosts of Jupyter at which somebody has logged in, the oldest first
        self._pages: dict[tuple[str, str], None] = {}  # user and target whose page was opened in the path form, the oldest first
        self._tickets: dict[str, Entry[T]] = {}
        self._sessions: dict[str, Entry[T]] = {}
        self._at: dict[str, dict[str, Entry[T]]] = {}  # the same by their hosts

    def ticket(self, entry: Entry[T]) -> str:
        """A ticket into an origin: for one use, within 30 seconds."""
        self.last_jupyters = entry.jupyters
        self.add_jupyter(entry.jupyters.partition("://")[2])
        while len(self._tickets) >= _MOST:
            del self._tickets[next(iter(self._tickets))]
        return _put(self._tickets, entry)

    def holder(self, ticket: str) -> Entry[T] | None:
        """What a ticket is for; None if it is none, used or too old."""
        entry = self._tickets.get(ticket)
        return entry if entry is not None and time.monotonic() - entry.since <= _TICKET_SECONDS else None

    def enter(self, ticket: str, host: str, *, framed: bool) -> str | None:
        """Swap a ticket for a session of that host; None if it is none, too old, used, or for another."""
        entry = self.holder(ticket)
        self._tickets.pop(ticket, None)
        if entry is None or entry.host != host:
            return None
        entry.framed = framed
        while len(self._sessions) >= _MOST:
            self._end(next(iter(self._sessions)))
        key = _put(self._sessions, entry)
        self._at.setdefault(host, {})[key] = entry
        return key

    def add_jupyter(self, host: str) -> None:
        """Note `host[:port]` of a request to Jupyter that has logged in."""
        _note(self._jupyters, host, _MAX_JUPYTERS)

    def add_page(self, username: str, target: str) -> None:
        """Note that a user has opened a page of a service by its path-based URL."""
        _note(self._pages, (username, target), _MOST)

    def has_page(self, username: str, target: str) -> bool:
        """True if a user has opened a page of a service by its path-based URL since this server has started."""
        return (username, target) in self._pages

    def is_jupyter(self, asking: str, host: str) -> bool:
        """True if `host[:port]` of an asking page is Jupyter's own.

        Args:
            host: the isolated origin that it asks. Local names are Jupyter's on the same port.
        """
        name, port = split_port(asking)
        local = self.names.is_local and is_loopback_host(name) and port == split_port(host)[1]
        return local or asking in self._jupyters

    async def session(self, key: str, host: str) -> Entry[T] | None:
        """The session of a cookie at a host; None if there is none, or its login is over."""
        found = self._sessions.get(key)
        if found is None or found.host != host:
            return None
        fresh = time.monotonic() - found.checked <= self._logins.interval
        return found if fresh or await self._is_valid(found) else None

    async def session_with(self, host: str, other: str) -> Entry[T] | None:
        """A session at a host whose user has one at the other host, too; the work is linear in the sessions there."""
        theirs = self._at.get(other, {}).values()
        names, logins = {_name_of(entry) for entry in theirs}, {pair for entry in theirs for pair in entry.login}
        for entry in list(self._at.get(host, {}).values()):
            if _name_of(entry) in names or entry.login & logins:
                return entry if await self.session(entry.key, host) and await self.has_session(entry, other) else None
        return None

    async def has_session(self, entry: Entry[T], host: str) -> bool:
        """True if the user of a session has one at this host, too."""
        found = next((e for e in self._at.get(host, {}).values() if e.is_of(_name_of(entry), entry.login)), None)
        return found is not None and await self.session(found.key, host) is not None

    def log_out(self, cookies: Mapping[str, str]) -> None:
        """End the sessions of a login, and void its tickets; `cookies` are those of the request that logs out."""
        login = find_login_cookies(cookies)
        for key, entry in list(self._sessions.items()):
            if entry.login & login:
                self._end(key)
        self._tickets = {key: entry for key, entry in self._tickets.items() if not entry.login & login}

    def watch(self, open_: Closable, entry: Entry[T]) -> None:
        """End what is open when its session ends."""
        self._logins.watch(entry, lambda: partial(self._is_valid, entry), open_)

    async def _is_valid(self, entry: Entry[T]) -> bool:
        entry.checked = time.monotonic()  # who asks meanwhile need not ask again
        entry.answers.clear()
        valid = await entry.still_valid()
        if not valid:
            self._end(entry.key)
        return valid

    def _end(self, key: str) -> None:
        entry = self._sessions.pop(key, None)
        if entry is not None:
            there = self._at[entry.host]
            del there[key]
            if not there:
                del self._at[entry.host]
            self._logins.end(entry)


def _name_of(entry: Entry[T]) -> str:
    return str(getattr(entry.user, "username", entry.user))


def _note(known: dict[K, None], key: K, most: int) -> None:
    known.pop(key, None)
    known[key] = None
    if len(known) > most:
        del known[next(iter(known))]


def _put(entries: dict[str, Entry[T]], entry: Entry[T]) -> str:
    key = entry.key = secrets.token_urlsafe(32)
    entries[key] = entry
    return key
