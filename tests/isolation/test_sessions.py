"""Tickets and sessions of isolated origins, without a server."""

from __future__ import annotations

import logging

import pytest
from jupyter_server.auth.identity import User

from jupyter_portproxy.gateway.logins import Logins
from jupyter_portproxy.isolation.sessions import Origins, OriginSession, nonce_of
from jupyter_portproxy.protocol.credentials import find_login_cookies
from jupyter_portproxy.protocol.origin_hosts import OriginHosts
from jupyter_portproxy.upstream.closable import Closable

LOCAL = OriginHosts()
LOG = logging.getLogger(__name__)
LOGIN = {"username-localhost-8888": "2|1:0|x"}


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def known(clock):
    """Isolated origins with room for many sessions."""
    return Origins(LOCAL, Logins(LOG), clock=clock)


@pytest.fixture
def three(clock):
    """Isolated origins with room for three sessions."""
    return Origins(LOCAL, Logins(LOG), clock=clock, max_sessions=3)


class Closes(Closable):
    def __init__(self):
        self.codes = []

    def shut_down(self, code=1001):
        self.codes.append(code)


@pytest.fixture
def make_session():
    """Makes a session; `valid` is what the identity provider says."""

    def make(host="p1.localhost:1", cookies=LOGIN, valid=lambda: True):
        async def still_valid():
            return valid()

        return OriginSession("1", host, User("ada"), "http://localhost:1", find_login_cookies(cookies), still_valid)

    return make


def test_a_ticket_is_good_once_soon_and_for_its_host(clock, known, make_session):
    ticket = known.issue_ticket(make_session())
    assert known.redeem_ticket(ticket, "p1.localhost:1", framed=False) is not None
    assert known.redeem_ticket(ticket, "p1.localhost:1", framed=False) is None
    ticket = known.issue_ticket(make_session())
    assert known.redeem_ticket(ticket, "p2.localhost:1", framed=False) is None
    assert known.redeem_ticket(ticket, "p1.localhost:1", framed=False) is None  # used up by the attempt
    ticket = known.issue_ticket(make_session())
    clock.now += 30.1
    assert known.redeem_ticket(ticket, "p1.localhost:1", framed=False) is None
    for forged in ("", "x", "x" * 10_000):
        assert known.redeem_ticket(forged, "p1.localhost:1", framed=False) is None


async def test_a_session_is_good_for_its_host_and_while_its_login_holds(clock, known, make_session):
    valid = [True]
    key = known.redeem_ticket(known.issue_ticket(make_session(valid=lambda: valid[0])), "p1.localhost:1", framed=True)
    assert (await known.find_session(key, "p1.localhost:1")).framed
    assert await known.find_session(key, "p2.localhost:1") is None
    assert await known.find_session("", "p1.localhost:1") is None
    tunnel = Closes()
    known.watch(tunnel, await known.find_session(key, "p1.localhost:1"))
    valid[0] = False
    assert await known.find_session(key, "p1.localhost:1") is not None  # asked again only now and then
    clock.now += 30
    assert await known.find_session(key, "p1.localhost:1") is None
    assert tunnel.codes == [1008]
    known._logins.close()


async def test_a_logout_ends_the_sessions_and_tickets_of_that_login_alone(known, make_session):
    other = {"username-localhost-8888": "another"}
    mine = known.redeem_ticket(known.issue_ticket(make_session()), "p1.localhost:1", framed=False)
    theirs = known.redeem_ticket(known.issue_ticket(make_session(cookies=other)), "p1.localhost:1", framed=False)
    by_token = known.redeem_ticket(known.issue_ticket(make_session(cookies={})), "p1.localhost:1", framed=False)
    ticket = known.issue_ticket(make_session())
    known.log_out({**LOGIN, "_xsrf": "x"})
    assert [bool(await known.find_session(key, "p1.localhost:1")) for key in (mine, theirs, by_token)] == [False, True, True]
    assert known.redeem_ticket(ticket, "p1.localhost:1", framed=False) is None


async def test_a_login_is_the_same_by_its_name_or_by_what_it_came_by(make_session):
    entry = make_session()
    assert entry.belongs_to("ada", frozenset()) and entry.belongs_to("made-up", find_login_cookies(LOGIN))
    assert not entry.belongs_to("eve", find_login_cookies({"username-localhost-8888": "another"})) and not entry.belongs_to(
        "eve", frozenset()
    )


def test_a_nonce_is_not_the_cookie():
    assert nonce_of("one") == nonce_of("one") != nonce_of("two") and "one" not in nonce_of("one")


def test_pages_are_each_users_and_bounded(three):
    known = three
    for target in ("1", "2", "3", "1", "4"):
        known.add_page("ada", target)
    assert [known.has_page("ada", target) for target in "1234"] == [True, False, True, True]
    assert not known.has_page("eve", "1")


async def test_memory_is_bounded_and_what_goes_closes_its_tunnels(three, make_session):
    known, tunnel = three, Closes()
    first = known.redeem_ticket(known.issue_ticket(make_session()), "p1.localhost:1", framed=False)
    known.watch(tunnel, await known.find_session(first, "p1.localhost:1"))
    for number in range(3):
        host = f"p{number}.localhost:1"
        known.redeem_ticket(known.issue_ticket(make_session(host)), host, framed=False)
    assert (await known.find_session(first, "p1.localhost:1"), tunnel.codes) == (None, [1008])
    tickets = [known.issue_ticket(make_session("p9.localhost:1")) for _ in range(4)]
    assert [bool(known.redeem_ticket(t, "p9.localhost:1", framed=False)) for t in tickets] == [False, True, True, True]
    known._logins.close()


async def test_a_browser_that_has_entered_needs_no_other_session(clock, known, make_session):
    again = make_session()
    assert not await known.has_been_entered(again)
    known.redeem_ticket(known.issue_ticket(make_session()), again.host, framed=False)
    assert await known.has_been_entered(again)
    for other in (make_session("p2.localhost:1"), make_session(cookies={"username-localhost-8888": "2|1:0|y"})):
        assert not await known.has_been_entered(other)
    again.framed = True
    assert not await known.has_been_entered(again)
    again.framed = False
    known.note_missing(again.host)
    assert not await known.has_been_entered(again)
    clock.now += 31
    assert await known.has_been_entered(again)
    known.log_out(LOGIN)
    assert not await known.has_been_entered(again)
