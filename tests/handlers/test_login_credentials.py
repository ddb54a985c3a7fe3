"""Which credentials log in, by the word of an identity provider of which nothing is known."""

from __future__ import annotations

from functools import partial

import pytest
from jupyter_server.auth.identity import User
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from jupyter_portproxy.errors import LoginUnavailable
from jupyter_portproxy.handlers.login_credentials import Credential, credentials_in, logs_in, logs_in_alone

TOKEN = "v1.token.websocket.jupyter.org"


def request(target: str = "/x", *fields: tuple[str, str]) -> HTTPServerRequest:
    headers = HTTPHeaders({"Host": "a"})
    for name, value in fields:
        headers.add(name, value)
    return HTTPServerRequest(start_line=RequestStartLine("GET", target, "HTTP/1.1"), headers=headers, connection=None)


class Asked:
    """A request that `find` is called with."""

    def __init__(self, find, uri: str, headers: HTTPHeaders) -> None:
        self._find, self._uri, self._headers = find, uri, headers

    async def identify(self) -> User | None:
        return self._find(self._uri, self._headers)


def provider(*rules: str, always: str = ""):
    """Logs in by what has the whole of a rule: `name: needle needle`."""

    def find(uri: str, headers: HTTPHeaders) -> User | None:
        if "away" in uri:
            raise LoginUnavailable
        text = uri + "".join(f"\n{name}: {value}" for name, value in headers.get_all())
        for rule in rules:
            name, _, needles = rule.partition(": ")
            if all(needle in text for needle in needles.split(" & ")):
                return User(name)
        return User(always) if always else None

    return partial(Asked, find)


def test_the_credentials_of_a_request():
    found = credentials_in(
        request(
            "/x?token=a&t%6fken=%20b%C2%A0&token=&x=c;token=d",
            ("Referer", "http://a/x?token=h#i"),
            ("HX-Current-URL", "/x?%74oken=j"),
            ("Destination", "http://a/y?token=k"),  # no page's
            ("Authorization", "Basic e"),
            ("Authorization", "token f"),
            ("Sec-WebSocket-Protocol", f"chat, {TOKEN}, {TOKEN}.g"),
        )
    )
    assert found == {Credential(value, False) for value in ("a", "b", "d", "g", "h", "h#i", "j")} | {
        Credential("Basic e", True),
        Credential("token f", True),
    }
    assert credentials_in(request()) == set()


FIELD, COOKIE = ("Authorization", "Odd ann"), ("Cookie", "login=ann")
ODD, OWN = Credential("Odd ann", True), Credential("own", False)


@pytest.mark.parametrize(
    ("ask", "received", "credential", "is_login"),
    [
        (provider("ann: Odd ann"), request("/x", FIELD), ODD, True),
        (provider("ann: Odd ann", "ann: login=ann"), request("/x", FIELD, COOKIE), ODD, True),
        (provider("ann: login=ann"), request("/x", FIELD, COOKIE), ODD, False),
        (provider("ann: Odd ann & login=ann"), request("/x", FIELD, COOKIE), ODD, True),  # it needs both
        (provider(always="ann"), request("/x", FIELD), ODD, False),  # everybody is Ann
        (provider("bob: Odd ann", always="ann"), request("/x", FIELD), ODD, True),
        (provider("ann: token=own"), request("/x?token=own"), OWN, True),
        (provider("ann: token own"), request("/x?token=own"), OWN, True),
        (provider("ann: login=ann"), request("/x?token=own", COOKIE), OWN, False),
        (provider("ann: login=ann", always=""), request("/away?token=own", COOKIE), OWN, True),  # it cannot be told
    ],
)
async def test_a_credential_logs_in_alone_or_nothing_does_without_it(ask, received, credential, is_login):
    assert await logs_in(credential, received, ask) is is_login


async def test_a_credential_alone_is_tried_without_anything_else():
    seen = []

    def find(uri, headers):
        seen.append((uri, dict(headers.get_all())))

    received = request("/x?y=1", FIELD, COOKIE)
    assert not await logs_in_alone(Credential("a b&", False), received, partial(Asked, find))
    assert seen == [("/x", {"Host": "a"}), ("/x?token=a%20b%26", {"Host": "a", "Authorization": "token a b&"})]
