"""Tickets that lead into isolated origins, and the sessions that they become.

Each port or service has a host name of its own, as in VS Code, Codespaces and code-server. An `OriginSession` is in one of three
states, which only `Origins` changes:

- ticket: from `issue_ticket` on, for one use within 30 seconds;
- session: from `redeem_ticket` on, found by its key, which the browser has as a cookie. Its login is checked again at intervals;
- ended: with its login (a failed check, `log_out`), or as the oldest of too many. What it has opened is closed.

All of it is in memory and bounded.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from jupyter_server.auth.identity import User

from ..gateway.logins import Logins
from ..protocol.credentials import find_login_cookies
from ..protocol.origin_hosts import OriginHosts, is_loopback_host
from ..protocol.urls import split_port
from ..upstream.closable import Closable

MAX_SESSIONS = 10_000  # and tickets, and pages; the oldest are removed
_TICKET_SECONDS = 30.0
_MAX_JUPYTER_HOSTS = 100
_MAX_MISSING = 1000
K = TypeVar("K")
V = TypeVar("V")


def nonce_of(cookie: str) -> str:
    """What stands for a cookie's value in a URL, from which the cookie cannot be computed."""
    return hashlib.sha256(cookie.encode("utf-8", "replace")).hexdigest()


@dataclass(eq=False, slots=True)
class OriginSession:
    """A ticket, and the session that it becomes.

    Attributes:
        target: port or service.
        host: `host[:port]` of the isolated origin.
        jupyter_origin: Jupyter's origin, from which it was entered.
        login: names and values of Jupyter's login cookies; or `token` and the one by which alone the user was logged in.
        check_login: repeats authentication and authorization with the credentials of the login.
        nonce: `nonce_of` the cookie that the browser must have to use the ticket; empty if it has not been at the origin yet.
        tokens: Jupyter's, by which it was entered.
        framed: it was entered in a frame.
        key: of the ticket, then of the session.
        since, checked: when ticket or session was made, and when its login was checked last, in seconds of `Origins`' clock.
        answers: hash of a credential -> whether it logs in at Jupyter, by the identity provider since the last check.
    """

    target: str
    host: str
    user: User
    jupyter_origin: str
    login: frozenset[tuple[str, str]]
    check_login: Callable[[], Awaitable[bool]]
    nonce: str = ""
    tokens: frozenset[str] = frozenset()
    framed: bool = False
    key: str = ""
    since: float = 0.0
    checked: float = 0.0
    answers: dict[bytes, bool] = field(default_factory=dict)

    def is_like(self, other: OriginSession) -> bool:
        """True if a browser with this session needs no other one: it is of the same login, place and kind."""
        mine = (self.user.username, self.login, self.jupyter_origin, self.framed)
        return mine == (other.user.username, other.login, other.jupyter_origin, other.framed)

    def belongs_to(self, username: str, login: frozenset[tuple[str, str]]) -> bool:
        """True if it is the same user's. For a token alone Jupyter makes a new name each time, which its cookie keeps."""
        return bool(self.login & login) or self.user.username == username


class Origins:
    """The isolated origins of a server: their host names, tickets and sessions.

    Attributes:
        last_jupyter_origin: the origin of Jupyter from which an isolated origin was entered last.

    Args:
        clock: seconds.
    """

    def __init__(
        self,
        hosts: OriginHosts,
        logins: Logins,
        *,
        max_sessions: int = MAX_SESSIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.hosts, self._logins, self._max_sessions, self._clock = hosts, logins, max_sessions, clock
        self.last_jupyter_origin = ""
        self._jupyter_hosts: dict[str, None] = {}  # at which users have logged in, the oldest first
        self._missing: dict[str, float] = {}  # host -> when a page was requested there without a session; the oldest first
        self._pages: dict[tuple[str, str], None] = {}  # user and target of pages with a path-based URL, the oldest first
        self._tickets: dict[str, OriginSession] = {}
        self._sessions: dict[str, OriginSession] = {}
        self._by_host: dict[str, dict[str, OriginSession]] = {}  # host -> key -> session

    # ---- tickets ----

    def issue_ticket(self, session: OriginSession) -> str:
        """A ticket into an origin: for one use, within 30 seconds."""
        self.last_jupyter_origin = session.jupyter_origin
        self.add_jupyter_host(session.jupyter_origin.partition("://")[2])
        while len(self._tickets) >= self._max_sessions:
            del self._tickets[next(iter(self._tickets))]
        session.since = self._clock()
        return _put(self._tickets, session)

    def find_ticket(self, key: str) -> OriginSession | None:
        """What a ticket is for; None if there is no such ticket, or it is too old."""
        session = self._tickets.get(key)
        return session if session is not None and self._clock() - session.since <= _TICKET_SECONDS else None

    def redeem_ticket(self, ticket: str, host: str, *, framed: bool) -> str | None:
        """Swap a ticket for a session at that host, and return its key; None if the ticket is not valid there."""
        session = self.find_ticket(ticket)
        self._tickets.pop(ticket, None)
        if session is None or session.host != host:
            return None
        session.framed, session.checked = framed, self._clock()
        while len(self._sessions) >= self._max_sessions:
            self._end(next(iter(self._sessions)))
        key = _put(self._sessions, session)
        self._by_host.setdefault(host, {})[key] = session
        return key

    # ---- sessions ----

    async def find_session(self, key: str, host: str) -> OriginSession | None:
        """The session of a cookie at a host; None if there is none, or its login has ended."""
        session = self._sessions.get(key)
        if session is None or session.host != host:
            return None
        is_fresh = self._clock() - session.checked <= self._logins.interval
        return session if is_fresh or await self._check(session) else None

    async def has_been_entered(self, entry: OriginSession) -> bool:
        """True if the browser of a new ticket most probably has a session already; the work is linear in the sessions there.

        Its cookie may be gone, or of another partition: then `note_missing` has been called.
        """
        since = self._missing.get(entry.host)
        if since is not None and self._clock() - since <= _TICKET_SECONDS:
            return False
        known = list(self._by_host.get(entry.host, {}).values())
        match = next((session for session in known if session.is_like(entry)), None)
        return match is not None and await self.find_session(match.key, entry.host) is not None

    def note_missing(self, host: str) -> None:
        """Note that a page of an isolated origin was requested without a session."""
        _note(self._missing, host, self._clock(), _MAX_MISSING)

    async def find_session_shared_with(self, host: str, other: str) -> OriginSession | None:
        """A session at a host whose user has one at the other host, too; the work is linear in the sessions there."""
        theirs = self._by_host.get(other, {}).values()
        names, logins = {session.user.username for session in theirs}, {pair for session in theirs for pair in session.login}
        for session in list(self._by_host.get(host, {}).values()):
            if session.user.username in names or session.login & logins:
                is_valid = await self.find_session(session.key, host) and await self.has_session(session, other)
                return session if is_valid else None
        return None

    async def has_session(self, session: OriginSession, host: str) -> bool:
        """True if the user of a session has one at this host, too."""
        others = self._by_host.get(host, {}).values()
        match = next((other for other in others if other.belongs_to(session.user.username, session.login)), None)
        return match is not None and await self.find_session(match.key, host) is not None

    def log_out(self, cookies: Mapping[str, str]) -> None:
        """End the sessions of a login, and void its tickets; `cookies` are those of the request that logs out."""
        login = find_login_cookies(cookies)
        for key, session in list(self._sessions.items()):
            if session.login & login:
                self._end(key)
        self._tickets = {key: session for key, session in self._tickets.items() if not session.login & login}

    def watch(self, open_: Closable, session: OriginSession) -> None:
        """End what a session has opened when the session ends."""
        self._logins.watch(session, lambda: partial(self._check, session), open_)

    async def _check(self, session: OriginSession) -> bool:
        session.checked = self._clock()  # before the check: requests that arrive meanwhile do not repeat it
        session.answers.clear()
        is_valid = await session.check_login()
        if not is_valid:
            self._end(session.key)
        return is_valid

    def _end(self, key: str) -> None:
        session = self._sessions.pop(key, None)
        if session is not None:
            at_host = self._by_host[session.host]
            del at_host[key]
            if not at_host:
                del self._by_host[session.host]
            self._logins.end(session)

    # ---- Jupyter's hosts, and pages with a path-based URL ----

    def add_jupyter_host(self, host: str) -> None:
        """Note `host[:port]` of a request to Jupyter that has logged in."""
        _note(self._jupyter_hosts, host, None, _MAX_JUPYTER_HOSTS)

    def is_jupyter_host(self, host: str, isolated: str) -> bool:
        """True if `host[:port]` of a page is Jupyter's own.

        Args:
            isolated: the host of the isolated origin that it sends a request to. Local names are Jupyter's on the same port.
        """
        name, port = split_port(host)
        is_local = self.hosts.is_local and is_loopback_host(name) and port == split_port(isolated)[1]
        return is_local or host in self._jupyter_hosts

    def add_page(self, username: str, target: str) -> None:
        """Note that a user has opened a page of a service by its path-based URL."""
        _note(self._pages, (username, target), None, self._max_sessions)

    def has_page(self, username: str, target: str) -> bool:
        """True if a user has opened a page of a service by its path-based URL since this server has started."""
        return (username, target) in self._pages


def _note(known: dict[K, V], key: K, value: V, limit: int) -> None:
    known.pop(key, None)
    known[key] = value
    if len(known) > limit:
        del known[next(iter(known))]


def _put(sessions: dict[str, OriginSession], session: OriginSession) -> str:
    key = session.key = secrets.token_urlsafe(32)
    sessions[key] = session
    return key
