"""The work for one head grows with its size and no faster, whatever stands in it; both ways. Tornado takes 64 KiB at most."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jupyter_portproxy.protocol import credentials, frame_ancestors, framing
from jupyter_portproxy.protocol.credentials import remove_secret_parameters
from jupyter_portproxy.protocol.headers import (
    Client,
    Fields,
    answer_token_subprotocol,
    build_request_fields,
    build_response_fields,
    has_loop,
    is_websocket_upgrade,
)
from jupyter_portproxy.protocol.hop_header import parse_hop_header
from jupyter_portproxy.protocol.urls import Upstream, parse_url

from ..support.cpu_time import grows_linearly, takes_less_than

SIZE, MOST = 65536, 0.020  # bytes; seconds of this process
FIELDS = 500  # c.PortProxy.max_fields
PREFIX = "/proxy/port/8050"
UP = Upstream("localhost", 8050, ("127.0.0.1",))
LOGIN = "username-localhost-8888"
TOKEN = "v1.token.websocket.jupyter.org"
Head = tuple[str, Fields]


def repeated(name: str, text: str, size: int, before: str = "") -> Fields:
    return [(name, before + text * (size // len(text)))]


def many(name: str, value: str, size: int, fields: int = FIELDS) -> Fields:
    return [(name, value)] * min(fields, size // (len(name) + len(value) + 4))


def half(one: Callable[[int], Fields], other: Callable[[int], Fields]) -> Callable[[int], Head]:
    return lambda size: ("/", one(size // 2) + other(size // 2))


def distinct(pattern: str, mark: str, size: int) -> str:
    return mark.join(pattern.format(number) for number in range(size // len(pattern.format(10_000) + mark)))


def fields_of(one: Callable[[int], Fields]) -> Callable[[int], Head]:
    return lambda size: ("/", one(size))


def query(text: str) -> Callable[[int], Head]:
    return lambda size: ("/?" + text * (size // len(text)), [])


REQUESTS: dict[str, Callable[[int], Head]] = {
    "XSRF fields beside cookies": half(lambda n: many("X-XSRFToken", "z", n), lambda n: repeated("Cookie", "a=b;", n)),
    "XSRF fields beside XSRF cookies": half(lambda n: many("X-XSRFToken", "z", n), lambda n: repeated("Cookie", "_xsrf=b;", n)),
    "cookies": fields_of(lambda n: repeated("Cookie", "a=b;", n)),
    "cookies without a name": fields_of(lambda n: repeated("Cookie", ";", n)),
    "blanks in cookies": fields_of(lambda n: repeated("Cookie", " ", n, "a; ")),
    "distinct cookies": fields_of(lambda n: [("Cookie", distinct("a{}=b", ";", n))]),
    "login cookies": fields_of(lambda n: repeated("Cookie", f"{LOGIN}=b;a;", n)),
    "cookies of nested servers": fields_of(lambda n: repeated("Cookie", "username-localhost-8050;", n)),
    "cookies of services": fields_of(lambda n: repeated("Cookie", "service--oauth-stat", n)),
    "XSRF cookies": fields_of(lambda n: [("Cookie", distinct("_xsrf={}", ";", n))]),
    "masked XSRF cookies": fields_of(lambda n: [("Cookie", distinct("_xsrf=2|{:08x}|ab|1", ";", n))]),
    "quoted XSRF cookies": fields_of(lambda n: [("Cookie", '_xsrf="' + "\\" * n + '"')]),
    "percent signs in XSRF cookies": fields_of(lambda n: [("Cookie", "_xsrf=" + "%" * (n // 2))] * 2),
    "Cookie lines": fields_of(lambda n: many("Cookie", "a=b; _xsrf=" + "c" * 100, n)),
    "Via members": fields_of(lambda n: repeated("Via", "1.1 gw2,", n)),
    "empty Via members": fields_of(lambda n: repeated("Via", ",", n)),
    "Via lines": fields_of(lambda n: many("Via", "1.1 gw2, 1.1 gw3" * 6, n)),
    "Connection tokens": half(lambda n: [("Connection", distinct("a{}", ",", n))], lambda n: many("A", "b", n)),
    "Forwarded members": fields_of(lambda n: repeated("Forwarded", "for=a,", n)),
    "X-Forwarded-For lines": fields_of(lambda n: many("X-Forwarded-For", "1" * 100, n)),
    "X-Forwarded-Proto members": fields_of(lambda n: repeated("X-Forwarded-Proto", ",", n)),
    "peers of a hop": half(lambda n: repeated("X-Portproxy-Hop", "1,", n, "p="), lambda n: repeated("Host", "h", n)),
    "token parameters beside subprotocols": lambda n: (
        "/?" + distinct("token=a{}", "&", n // 2),
        repeated("Sec-WebSocket-Protocol", "b,", n // 2),
    ),
    "subprotocols": fields_of(lambda n: repeated("Sec-WebSocket-Protocol", "a,", n)),
    "token subprotocols": fields_of(lambda n: repeated("Sec-WebSocket-Protocol", f"{TOKEN}.a,", n)),
    "parameters": query("a&"),
    "empty parameters": query("&"),
    "parameters by semicolons": query(";"),
    "token parameters": query("token=a&"),
    "encoded token parameters": query("%74%6F%6b%65%6E=%41&"),
    "percent signs": lambda n: ("/?token=" + "%" * n, []),
    "one long token parameter": lambda n: ("/?token=" + "%41" * (n // 3), []),
    "XSRF parameters beside XSRF cookies": lambda n: (
        "/?" + "_xsrf=b&" * (n // 16),
        [("Cookie", distinct("_xsrf={}", ";", n // 2))],
    ),
    "parameters of a Referer": fields_of(lambda n: repeated("Referer", "token=a;", n, "http://localhost:8888/?")),
    "words of Upload-Concat": fields_of(lambda n: repeated("Upload-Concat", "/ ", n)),
    "URLs of Upload-Concat": fields_of(lambda n: repeated("Upload-Concat", "http://localhost:8888/?&token= ", n)),
    "tagged lists": fields_of(lambda n: repeated("If", "</>", n)),
    "distinct tagged lists": fields_of(lambda n: [("If", distinct("</{}>", "", n))]),
    "distinct words": fields_of(lambda n: [("Upload-Concat", distinct("/{}", " ", n))]),
    "open tags": fields_of(lambda n: repeated("If", '<("', n)),
    "Destination": fields_of(lambda n: repeated("Destination", "/%2e", n)),
    "other spellings of the prefix": fields_of(lambda n: repeated("Destination", "/%70roxy", n)),
    "dots in a Referer": fields_of(lambda n: repeated("Referer", "/%2e", n, f"http://localhost:8888{PREFIX}")),
    "tags of If": fields_of(lambda n: repeated("If", "<http://>", n)),
    "parameters of Forwarded beside Origin": half(
        lambda n: repeated("Forwarded", "host=a;", n), lambda n: many("Origin", "http://localhost:8888", n)
    ),
    "members of Forwarded beside Origin": half(
        lambda n: repeated("Forwarded", ",", n), lambda n: [("Origin", "http://localhost:8888"), ("A", "b" * n)]
    ),
    "quotes in Forwarded beside Origin": half(
        lambda n: repeated("Forwarded", '"\\', n), lambda n: many("Origin", "http://localhost:8888", n)
    ),
    "URLs in other fields": fields_of(lambda n: many("A", "?token=a;b&" * 5, n)),
    "a URL in another field": fields_of(lambda n: repeated("A", "token=a&", n, "?")),
    "Authorization": fields_of(lambda n: repeated("Authorization", " ", n, "token")),
    "names of one field": fields_of(lambda n: [("x-authenti" * (n // 10), "a")]),
    "fields": fields_of(lambda n: many("A", "", n, 16_000)),
}


def request(head: Head, isolated: bool) -> None:
    """What is done with it, as the handlers do it."""
    target, fields = head
    cookies = [value for name, value in fields if name == "Cookie"]
    secrets = frozenset({"geheim", *credentials.find_xsrf_tokens(cookies), *credentials.find_token_parameters(target)})
    logins = frozenset((f"username-{number}", "a") for number in range(SIZE // 16))  # with which an origin was entered
    host = framing.find_field(fields, "host") or "localhost:8888"
    hop = parse_hop_header(framing.find_field(fields, "x-portproxy-hop")).forwarded_client
    client = Client("::1", "::1", "http", host, True, secrets, LOGIN, logins, isolated=isolated, forwarded_client=hop)
    route = parse_url(PREFIX + target, "/")
    remove_secret_parameters(route.target, client.secrets)
    has_loop(fields, "gw")
    build_request_fields(fields, route, UP, client, via="gw", method="POST")
    credentials.find_cookie_values(cookies, LOGIN)
    framing.parse_request_content("HTTP/1.1", fields)
    is_websocket_upgrade("GET", "HTTP/1.1", fields)
    answer_token_subprotocol(fields, [])


ANSWERS: dict[str, Callable[[int], Fields]] = {
    "Set-Cookie": lambda n: many("Set-Cookie", "a=b; Path=/; Secure", n),
    "attributes of Set-Cookie": lambda n: repeated("Set-Cookie", "; Path=/", n, "a=b"),
    "Connection tokens": lambda n: [("Connection", distinct("a{}", ",", n // 2)), *many("A", "b", n // 2)],
    "links": lambda n: repeated("Link", "</>", n),
    "distinct links": lambda n: [("Link", distinct("</{}>", ",", n))],
    "open links": lambda n: repeated("Link", "<anchor=", n),
    "quoted links": lambda n: repeated("Link", '\\"', n, '"'),
    "blanks in a link": lambda n: repeated("Link", " ", n, "anchor"),
    "rules": lambda n: repeated("Speculation-Rules", '"/",', n),
    "Refresh": lambda n: repeated("Refresh", "1 ", n),
    "blanks in a Refresh": lambda n: repeated("Refresh", " ", n, "1"),
    "paths": lambda n: repeated("HX-Location", '"path":"/",', n, "{"),
    "Location": lambda n: repeated("Location", "/..", n),
    "challenges": lambda n: repeated("WWW-Authenticate", "digest ", n),
    "quoted values of challenges": lambda n: repeated("WWW-Authenticate", '="domain"', n, "digest "),
    "blanks in challenges": lambda n: repeated("WWW-Authenticate", "= ", n, "digest domain"),
    "domains of challenges": lambda n: repeated("WWW-Authenticate", "domain=/,", n),
    "policies": lambda n: repeated("Content-Security-Policy", "; frame-ancestors 'self'", n),
    "sources of a policy": lambda n: [("Content-Security-Policy", "frame-ancestors " + distinct("{}", " ", n))],
    "policies of one source": lambda n: repeated("Content-Security-Policy", "frame-ancestors *,", n),
    "blanks in policies": lambda n: repeated("Content-Security-Policy", " ", n, ";"),
    "lengths": lambda n: [("Content-Length", "1,1" + ",1" * (n // 2))],
    "folded lines": lambda n: [("A", "b\r\n " * (n // 4))],
}


def answer(fields: Fields, isolated: bool) -> None:
    lines = [b"HTTP/1.1 200 OK"]
    for name, value in fields:
        lines += f"{name}: {value}".encode("latin-1").split(b"\r\n")
    _, _, known = framing.parse_head(lines[:1000])
    client = Client("::1", "::1", "http", "localhost:8888", isolated=isolated, embedder="http://localhost:8888")
    passed = build_response_fields(known, parse_url(f"{PREFIX}/", "/"), UP, client)
    frame_ancestors.forbids_frame(passed, "http://localhost:8888", {"http://localhost:8888", "http://a.example"})


CASES = [pytest.param(request, make, id=f"request: {name}") for name, make in REQUESTS.items()]
CASES += [pytest.param(answer, make, id=f"answer: {name}") for name, make in ANSWERS.items()]


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize(("work", "make"), CASES)
def test_the_work_for_a_head_is_linear_in_its_size(work, make, isolated):
    whole, part = make(SIZE), make(SIZE // 4)
    assert takes_less_than(MOST, lambda: work(whole, isolated))
    assert grows_linearly(lambda: work(whole, isolated), lambda: work(part, isolated))
