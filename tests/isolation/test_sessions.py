"""Tickets and sessions of isolated origins, without a server."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from jupyter_portproxy.gateway.logins import Logins
from jupyter_portproxy.isolation import sessions
from jupyter_portproxy.isolation.sessions import Entry, Origins, nonce_of
from jupyter_portproxy.protocol.credentials import find_login_cookies
from jupyter_portproxy.protocol.origin_hosts import OriginHosts
from jupyter_portproxy.upstream.closable import Closable

LOCAL = OriginHosts()
LOG = logging.getLogger(__name__)
LOGIN = {"username-localhost-8888": "2|1:0|x"}


class Clock:
    """The time of origins.py, which stands still until it is moved."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(sessions, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


class Closes(Closable):
    def __init__(self):
        self.codes = []

    def shut_down(self, code=1001):
        self.codes.append(code)


@pytest.fixture
def somebody(clock):
    """Makes an entry; `valid` is what the identity provider says."""

    def make(host="p1.localhost:1", cookies=LOGIN, valid=lambda: True):
        async def still_valid():
            return valid()

        return Entry(
            "1", host, "ada", "http://localhost:1", find_login_cookies(cookies), still_valid, since=clock.now, checked=clock.now
        )

    return make


def test_a_ticket_is_good_once_soon_and_for_its_host(clock, somebody):
    known = Origins[str](LOCAL, Logins(LOG))
    ticket = known.ticket(somebody())
    assert known.enter(ticket, "p1.localhost:1", framed=False) is not None
    assert known.enter(ticket, "p1.localhost:1", framed=False) is None
    ticket = known.ticket(somebody())
    assert known.enter(ticket, "p2.localhost:1", framed=False) is None
    assert known.enter(ticket, "p1.localhost:1", framed=False) is None  # used up by the attempt
    ticket = known.ticket(somebody())
    clock.now += 30.1
    assert known.enter(ticket, "p1.localhost:1", framed=False) is None
    for forged in ("", "x", "x" * 10_000):
        assert known.enter(forged, "p1.localhost:1", framed=False) is None


async def test_a_session_is_good_for_its_host_and_while_its_login_holds(clock, somebody):
    known, valid = Origins[str](LOCAL, Logins(LOG)), [True]
    key = known.enter(known.ticket(somebody(valid=lambda: valid[0])), "p1.localhost:1", framed=True)
    assert (await known.session(key, "p1.localhost:1")).framed
    assert await known.session(key, "p2.localhost:1") is None
    assert await known.session("", "p1.localhost:1") is None
    tunnel = Closes()
    known.watch(tunnel, await known.session(key, "p1.localhost:1"))
    valid[0] = False
    assert await known.session(key, "p1.localhost:1") is not None  # asked again only now and then
    clock.now += 30
    assert await known.session(key, "p1.localhost:1") is None
    assert tunnel.codes == [1008]
    known._logins.close()


async def test_a_logout_ends_the_sessions_and_tickets_of_that_login_alone(somebody):
    known, other = Origins[str](LOCAL, Logins(LOG)), {"username-localhost-8888": "another"}
    mine = known.enter(known.ticket(somebody()), "p1.localhost:1", framed=False)
    theirs = known.enter(known.ticket(somebody(cookies=other)), "p1.localhost:1", framed=False)
    by_token = known.enter(known.ticket(somebody(cookies={})), "p1.localhost:1", framed=False)
    ticket = known.ticket(somebody())
    known.log_out({**LOGIN, "_xsrf": "x"})
    assert [bool(await known.session(key, "p1.localhost:1")) for key in (mine, theirs, by_token)] == [False, True, True]
    assert known.enter(ticket, "p1.localhost:1", framed=False) is None


async def test_a_login_is_the_same_by_its_name_or_by_what_it_came_by(somebody):
    entry = somebody()
    assert entry.is_of("ada", frozenset()) and entry.is_of("made-up", find_login_cookies(LOGIN))
    assert not entry.is_of("eve", find_login_cookies({"username-localhost-8888": "another"})) and not entry.is_of(
        "eve", frozenset()
    )


def test_a_nonce_is_not_the_cookie():
    assert nonce_of("one") == nonce_of("one") != nonce_of("two") and "one" not in nonce_of("one")


def test_pages_are_each_users_and_bounded(monkeypatch):
    monkeypatch.setattr(sessions, "_MOST", 3)
    known = Origins[str](LOCAL, Logins(LOG))
    for target in ("1", "2", "3", "1", "4"):
        known.add_page("ada", target)
    assert [known.has_page("ada", target) for target in "1234"] == [True, False, True, True]
    assert not known.has_page("eve", "1")


async def test_memory_is_bounded_and_what_goes_closes_its_tunnels(somebody, monkeypatch):
    monkeypatch.setattr(sessions, "_MOST", 3)
    known, tunnel = Origins[str](LOCAL, Logins(LOG)), Closes()
    first = known.enter(known.ticket(somebody()), "p1.localhost:1", framed=False)
    known.watch(tunnel, await known.session(first, "p1.localhost:1"))
    for number in range(3):
        host = f"p{number}.localhost:1"
        known.enter(known.ticket(somebody(host)), host, framed=False)
    assert (await known.session(first, "p1.localhost:1"), tunnel.codes) == (None, [1008])
    tickets = [known.ticket(somebody("p9.localhost:1")) for _ in range(4)]
    assert [bool(known.enter(t, "p9.localhost:1", framed=False)) for t in tickets] == [False, True, True, True]
    known._logins.close()
