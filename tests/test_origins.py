"""Names of origins, tickets and sessions, without a server."""

from __future__ import annotations

import logging
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy import origins
from jupyter_portproxy.logins import Logins
from jupyter_portproxy.origins import Entry, Names, Origins, label, login_of, nonce_of

LOCAL = Names()
LOG = logging.getLogger(__name__)
WILD = Names("{port}--{user}.apps.example.org", "ada")
LOGIN = {"username-localhost-8888": "2|1:0|x"}


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("p15000.localhost:8888", "15000"),
        ("p15000.localhost", "15000"),
        ("P15000.LocalHost:8888", "15000"),
        ("p80.localhost:8888", "80"),
        ("pfiles.localhost:8888", "files"),
        ("pmy-app.localhost", "my-app"),
        ("p15000.localhost.", None),
        ("p15000.localhost.:8888", None),
        ("p15000.localhost:", None),
        ("p15000.localhost:8888:8888", None),
        ("p15000.localhost:999999", None),
        ("p15000.localhost:\u096e", None),
        ("p15000.evil.org", None),
        ("p15000.localhost.evil.org", None),
        ("evil.p15000.localhost", None),
        ("localhost.p15000", None),
        ("15000.localhost", None),
        ("p.localhost", None),
        ("p-1.localhost", None),
        ("p1-.localhost", None),
        ("p\u0661\u0665.localhost", None),
        ("p15000.locaIhost", None),
        ("p15000\u3002localhost", None),
        ("xn--p15000-abc.localhost", None),
        ("p15000.localhost\n", None),
        ("user@p15000.localhost", None),
        ("p15000.localhost, evil.org", None),
        ("p" + "a" * 62 + ".localhost", "a" * 62),
        ("p" + "a" * 63 + ".localhost", None),
        ("p" + "a" * 10_000 + ".localhost", None),
        ("localhost:8888", None),
        ("127.0.0.1:8888", None),
        ("[::1]:8888", None),
        ("", None),
    ],
)
def test_a_host_of_the_local_form_names_a_target_or_nothing(host, target):
    assert LOCAL.target_of(host) == target


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("6006--ada.apps.example.org", "6006"),
        ("my--app--ada.apps.example.org", "my--app"),
        ("6006--bob.apps.example.org", None),
        ("6006--ada.example.org.apps", None),
        ("apps.6006--ada.example.org", None),
        ("6006--ada.apps.example.org.evil.org", None),
        ("6006--ada.apps.example.org.", None),
        ("ada--6006.apps.example.org", None),
        ("--ada.apps.example.org", None),
    ],
)
def test_a_host_of_a_pattern_names_a_target_or_nothing(host, target):
    assert WILD.target_of(host) == target


@pytest.mark.parametrize(
    ("pattern", "host", "target"),
    [
        ("{port}.apps.example.org:8443", "1.apps.example.org:8443", "1"),
        ("{port}.apps.example.org:8443", "1.apps.example.org", None),
        ("{port}.apps.example.org:8443", "1.apps.example.org:443", None),
        ("p{port}.{user}.example.org", "p1.ada.example.org", "1"),
    ],
)
def test_a_port_of_the_pattern_is_part_of_it(pattern, host, target):
    assert Names(pattern, "ada").target_of(host) == target


@pytest.mark.parametrize(
    "pattern",
    [
        "apps.example.org",
        "{port}",
        "apps.{port}.org",
        "{port}{port}.org",
        "{name}.{port}.org",
        "https://{port}.org",
        "{port}.org/",
        "{port}.org:x",
        "{port}.ORG",
        "{port}..org",
        "{port}.*.org",
        "{port} .org",
        "{user}.org",
    ],
)
def test_a_pattern_that_is_none_is_refused_with_a_sentence(pattern):
    with pytest.raises(ValueError, match=re.escape(repr(pattern))):
        Names(pattern, "ada")


@pytest.mark.parametrize(
    ("target", "jupyters", "host"),
    [
        ("15000", "localhost:8888", "p15000.localhost:8888"),
        ("15000", "127.0.0.1:9999", "p15000.localhost:9999"),
        ("15000", "[::1]:8888", "p15000.localhost:8888"),
        ("15000", "localhost", "p15000.localhost"),
        ("15000", "hub.example.org:8888", None),
        ("15000", "localhost.evil.org:8888", None),
        ("15000", "10.0.0.1:8888", None),
        ("My_App", "localhost:8888", None),
        ("my.app", "localhost:8888", None),
        ("a" * 63, "localhost:8888", None),
    ],
)
def test_the_local_form_is_for_those_who_are_there(target, jupyters, host):
    assert LOCAL.host_of(target, jupyters) == host


@pytest.mark.parametrize(
    ("names", "fields", "host"),
    [
        (LOCAL, {}, "p15000.localhost:8888"),
        (LOCAL, {"X-Forwarded-Host": "abc.example"}, None),
        (Names(at_hub=True), {}, None),
        (WILD, {"X-Forwarded-Host": "abc.example"}, "15000--ada.apps.example.org"),
        (Names("{port}.apps.example.org", at_hub=True), {}, "15000.apps.example.org"),
    ],
)
def test_local_names_are_for_browsers_of_this_machine(names, fields, host):
    asked = SimpleNamespace(headers={"Host": "localhost:8888", **fields}, protocol="http", version="HTTP/1.1")
    assert names.host_for("15000", asked) == host


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?", fullmatch=True), st.text(min_size=1, max_size=5))
def test_what_is_printed_is_read_back(target, user):
    names = Names("{port}--{user}.apps.example.org", user)
    host = names.host_of(target, "jupyter.example.org")
    assert host is None or names.target_of(host.upper() if host.isascii() else host) == target


@given(st.text(max_size=80))
def test_any_host_is_read(host):
    for names in (LOCAL, WILD):
        target = names.target_of(host)
        assert target is None or re.fullmatch(r"[a-z0-9-]+", target)


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_a_users_name_is_a_part_of_a_label(one, other):
    assert re.fullmatch(r"[a-z0-9-]+", label(one))
    assert (label(one) == label(other)) == (one.lower().encode("utf-8", "replace") == other.lower().encode("utf-8", "replace"))


def test_login_cookies_are_jupyters_and_the_hubs():
    cookies = {
        **LOGIN,
        "_xsrf": "x",
        "jupyterhub-user-ada": "y",
        "jupyterhub-user-ada-oauth-state": "z",
        "theirs": "t",
        "username-": "",
    }
    assert login_of(cookies) == {("username-localhost-8888", "2|1:0|x"), ("jupyterhub-user-ada", "y")}


class Clock:
    """The time of origins.py, which stands still until it is moved."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(origins, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


class Closes:
    def __init__(self):
        self.codes = []
        self.on_closed = lambda tunnel: None

    def shut_down(self, code=1001):
        self.codes.append(code)


@pytest.fixture
def somebody(clock):
    """Makes an entry; `valid` is what the identity provider says."""

    def make(host="p1.localhost:1", cookies=LOGIN, valid=lambda: True):
        async def still_valid():
            return valid()

        return Entry("1", host, "ada", "http://localhost:1", login_of(cookies), still_valid, since=clock.now, checked=clock.now)

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
    assert entry.is_of("ada", frozenset()) and entry.is_of("made-up", login_of(LOGIN))
    assert not entry.is_of("eve", login_of({"username-localhost-8888": "another"})) and not entry.is_of("eve", frozenset())


def test_a_nonce_is_not_the_cookie():
    assert nonce_of("one") == nonce_of("one") != nonce_of("two") and "one" not in nonce_of("one")


def test_pages_are_each_users_and_bounded(monkeypatch):
    monkeypatch.setattr(origins, "_MOST", 3)
    known = Origins[str](LOCAL, Logins(LOG))
    for target in ("1", "2", "3", "1", "4"):
        known.add_page("ada", target)
    assert [known.has_page("ada", target) for target in "1234"] == [True, False, True, True]
    assert not known.has_page("eve", "1")


async def test_memory_is_bounded_and_what_goes_closes_its_tunnels(somebody, monkeypatch):
    monkeypatch.setattr(origins, "_MOST", 3)
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
