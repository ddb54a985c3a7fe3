"""Which fields cross, and how: tables for each decision, hypothesis for what must never happen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy import fields as f
from jupyter_portproxy.errors import BadFraming, BadUpstream
from jupyter_portproxy.fields import Client, Content
from jupyter_portproxy.routes import Route, Upstream

PREFIX = "/user/a/proxy/port/8050"
ROUTE = Route("localhost", 8050, PREFIX, "/x", "")
KEPT = Route("localhost", 8050, "/user/a/proxy/absolute/port/8050", "/x", "", keep=True)
UPSTREAM = Upstream("localhost", 8050, ("127.0.0.1", "::1"))
SECRET = "s3cr3t-t0ken"
CLIENT = Client(
    "10.1.1.1", "127.0.0.1", "https", "jupyter.example:8888", secrets=frozenset({SECRET}), login_cookie="username-jupyter"
)


def sent(*fields, route=ROUTE, client=CLIENT, keep_host=False):
    return f.to_upstream(list(fields), route, UPSTREAM, client, via="me", keep_host=keep_host)


def values(fields, name):
    return [value for key, value in fields if key.lower() == name.lower()]


def received(*fields, route=ROUTE):
    return f.to_client(list(fields), route, UPSTREAM, CLIENT)


# ---- towards the upstream ----

HOPS = ["Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authorization"]


@pytest.mark.parametrize("name", [*HOPS, "HTTP2-Settings", "Proxy", "Expect", "Content-Length"])
def test_fields_of_this_hop_do_not_cross(name):
    assert values(sent((name, "x")), name) == []


def test_what_connection_names_does_not_cross_either_way():
    fields = [("Connection", "close, X-Secret"), ("x-secret", "1"), ("X-Kept", "2")]
    for crossed in (sent(*fields), received(*fields)):
        assert values(crossed, "x-secret") == []
        assert values(crossed, "x-kept") == ["2"]


@pytest.mark.parametrize(
    "name",
    [
        "X-Forwarded-For",
        "x_forwarded_for",
        "X.Forwarded.Host",
        "X-Forwarded-User",
        "X-Real-IP",
        "X_REAL_IP",
        "X-ProxyContextPath",
        "Forwarded",
        "True-Client-IP",
        "CF-Connecting-IP",
        "Remote-User",
        "X-Remote-User",
        "X_Remote.User",
        "X-Auth-Request-Email",
        "X-WEBAUTH-USER",
        "X-XSRFToken",
        "X_XSRFToken",
        "X-Original-URL",
        "X-Client-Cert",
    ],
)
def test_what_a_client_says_of_itself_does_not_cross(name):
    assert "forged" not in str(sent((name, "forged")))


def test_the_gateway_says_who_the_client_is():
    out = sent(("X-Forwarded-For", "6.6.6.6"))
    assert values(out, "Host") == ["localhost:8050"]
    assert values(out, "X-Forwarded-For") == ["127.0.0.1"]
    assert values(out, "X-Forwarded-Proto") == ["https"]
    assert values(out, "X-Forwarded-Host") == ["jupyter.example:8888"]
    assert values(out, "X-Forwarded-Port") == ["8888"]
    assert (
        values(out, "X-Forwarded-Prefix") == values(out, "X-Forwarded-Context") == values(out, "X-ProxyContextPath") == [PREFIX]
    )
    assert values(out, "Forwarded") == ['for=127.0.0.1;proto=https;host="jupyter.example:8888"']
    assert values(out, "Via") == ["1.1 me"]


def test_a_trusted_front_is_continued():
    client = Client("10.1.1.1", "127.0.0.1", "https", "inner:8888", trusted=True)
    fields = [
        ("X-Forwarded-For", "10.1.1.1"),
        ("X-Forwarded-Host", "outer.example"),
        ("Forwarded", "for=10.1.1.1"),
        ("Via", "1.1 f"),
    ]
    out = sent(*fields, client=client)
    assert values(out, "X-Forwarded-For") == ["10.1.1.1, 127.0.0.1"]
    assert values(out, "X-Forwarded-Host") == ["outer.example"]
    assert values(out, "X-Forwarded-Port") == ["443"]
    assert values(out, "Forwarded") == ['for=10.1.1.1, for=127.0.0.1;proto=https;host="outer.example"']
    assert values(out, "Via") == ["1.1 f, 1.1 me"]


OWN = "https://jupyter.example:8888"


@pytest.mark.parametrize(
    ("name", "value", "seen"),
    [
        ("Origin", OWN, "http://localhost:8050"),
        ("Origin", "https://other.example", "https://other.example"),
        ("Origin", "null", "null"),
        ("Referer", f"{OWN}{PREFIX}/page?a=1", "http://localhost:8050/page?a=1"),
        ("Referer", f"{OWN}{PREFIX}/page?token={SECRET}&a=1", "http://localhost:8050/page?a=1"),
        ("Referer", f"{OWN}/lab/tree/private.ipynb", "http://localhost:8050/"),
        ("Referer", f"{OWN}{PREFIX}/../../private", "http://localhost:8050/"),
        ("Referer", "https://other.example/x", "https://other.example/x"),
        ("Authorization", f"token {SECRET}", None),
        ("Authorization", f"Bearer  {SECRET} ", None),
        ("Authorization", "Basic dXNlcg==", "Basic dXNlcg=="),
        ("Authorization", "Bearer other", "Bearer other"),
        ("Cookie", "a=1; _xsrf=x; b=2", "a=1; b=2"),
        ("Cookie", "username-jupyter=x", None),
        ("Cookie", "username-localhost-8888=x; a=1", "a=1"),
        ("Cookie", "jupyterhub-session-id=x; jupyterhub-user-a=y;c=3", "c=3"),
        ("Cookie", "username-localhost-8050=nested; a=1", "username-localhost-8050=nested; a=1"),
        ("Cookie", " odd ;=x; a=b=c;", " odd ;=x; a=b=c;"),
        ("Sec-WebSocket-Protocol", "a, v1.token.websocket.jupyter.org, b", "a, b"),
        ("Sec-WebSocket-Protocol", f"v1.token.websocket.jupyter.org, v1.token.websocket.jupyter.org.{SECRET}", None),
    ],
)
def test_a_value_is_mapped(name, value, seen):
    assert values(sent((name, value)), name) == ([seen] if seen is not None else [])


def test_the_clients_host_can_be_kept():
    out = sent(("Origin", OWN), ("Referer", f"{OWN}{PREFIX}/a"), keep_host=True)
    assert (values(out, "Host"), values(out, "Origin")) == (["jupyter.example:8888"], [OWN])
    assert values(out, "Referer") == [f"{OWN}{PREFIX}/a"]


def test_in_the_absolute_form_the_prefix_is_the_services_own():
    out = sent(("Referer", f"{OWN}{KEPT.prefix}/a"), route=KEPT)
    assert values(out, "Referer") == [f"http://localhost:8050{KEPT.prefix}/a"]
    assert values(out, "X-Forwarded-Prefix") == []


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        (f"/x?token={SECRET}", "/x"),
        (f"/x?a=1&token={SECRET}&b=%20", "/x?a=1&b=%20"),
        (f"/x?a&&tok%65n={SECRET}&", "/x?a&&"),
        (f"/x?token=s3cr3t%2Dt0ken&_xsrf={SECRET}", "/x"),
        ("/x?token=of-the-service", "/x?token=of-the-service"),
        ("/x?", "/x?"),
        ("/x?token", "/x?token"),
    ],
)
def test_the_target_loses_the_token_and_nothing_else(target, seen):
    assert f.target_without_secrets(target, CLIENT) == seen


BYTES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40)


@given(BYTES, BYTES, st.sampled_from(["Authorization", "Referer", "Cookie", "Sec-WebSocket-Protocol", "Origin"]))
def test_a_secret_in_its_own_place_never_crosses(before, after, name):
    clean = [text.replace(SECRET, "").replace("#", "") for text in (before, after)]
    value = {
        "Authorization": f"token {SECRET}",
        "Referer": f"{OWN}/{clean[0].replace('?', '')}?token={SECRET}&{clean[1]}",
        "Cookie": f"a=1; _xsrf={SECRET};{clean[0]}",
        "Sec-WebSocket-Protocol": f"v1.token.websocket.jupyter.org.{SECRET}, b",
        "Origin": OWN,
    }[name]
    assert SECRET not in str(sent((name, value)))


@given(st.lists(st.tuples(st.sampled_from(["X-A", "x-a", "X-B", "Accept"]), BYTES), max_size=8))
def test_other_fields_cross_in_order_and_the_input_stays(fields):
    before = list(fields)
    for crossed in (f.to_upstream(fields, ROUTE, UPSTREAM, CLIENT, via="me"), f.to_client(fields, ROUTE, UPSTREAM, CLIENT)):
        assert [pair for pair in crossed if pair[0] in ("X-A", "x-a", "X-B", "Accept")] == before
    assert fields == before


# ---- framing and upgrade of the request ----


@pytest.mark.parametrize(
    ("fields", "content"),
    [
        ([], None),
        ([("Content-Length", "5")], Content(5)),
        ([("Content-Length", "5"), ("content-length", "5")], Content(5)),
        ([("Content-Length", "5, 5")], Content(5)),
        ([("Transfer-Encoding", "Chunked")], Content(None)),
    ],
)
def test_framing_is_read(fields, content):
    assert f.request_content("HTTP/1.1", fields) == content


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        ("HTTP/1.0", [("Transfer-Encoding", "chunked")]),
        ("HTTP/1.1", [("Transfer-Encoding", "chunked"), ("Content-Length", "5")]),
        ("HTTP/1.1", [("Transfer_Encoding", "chunked"), ("Content-Length", "5")]),
        ("HTTP/1.1", [("Transfer-Encoding", "gzip, chunked")]),
        ("HTTP/1.1", [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")]),
        ("HTTP/1.1", [("Transfer-Encoding", "xchunked")]),
        ("HTTP/1.1", [("Content-Length", "5"), ("Content-Length", "6")]),
        ("HTTP/1.1", [("Content-Length", "+5")]),
        ("HTTP/1.1", [("Content-Length", "\u0665")]),
        ("HTTP/1.1", [("Content-Length", "")]),
        ("HTTP/1.1", [("Content-Length", "9" * 30)]),
    ],
)
def test_framing_that_two_readers_could_read_in_two_ways_is_refused(version, fields):
    with pytest.raises(BadFraming):
        f.request_content(version, fields)


@pytest.mark.parametrize(
    ("method", "version", "upgrade", "connection", "is_one"),
    [
        ("GET", "HTTP/1.1", "websocket", "Upgrade", True),
        ("GET", "HTTP/1.1", "WebSocket", "keep-alive, upgrade", True),
        ("POST", "HTTP/1.1", "websocket", "Upgrade", False),
        ("GET", "HTTP/1.0", "websocket", "Upgrade", False),
        ("GET", "HTTP/1.1", "h2c", "Upgrade", False),
        ("GET", "HTTP/1.1", "websocket", "close", False),
    ],
)
def test_an_upgrade_to_websocket_is_recognised(method, version, upgrade, connection, is_one):
    assert f.is_websocket(method, version, [("Upgrade", upgrade), ("Connection", connection)]) is is_one


@pytest.mark.parametrize(
    ("via", "loop"), [("1.1 me", True), ("1.0 a, 1.1 me (x)", True), ("1.1 menot", False), ("me", False), ("1.1 a, 1.1 b", False)]
)
def test_a_loop_is_seen_in_via(via, loop):
    assert f.loops([("Via", via)], "me") is loop


# ---- towards the client ----


@pytest.mark.parametrize(
    ("location", "seen"),
    [
        ("/login?a#b", f"{PREFIX}/login?a#b"),
        (f"{PREFIX}/login", f"{PREFIX}/login"),
        (PREFIX, PREFIX),
        (f"{PREFIX}0/x", f"{PREFIX}{PREFIX}0/x"),
        (f"{PREFIX}/../../api", f"{PREFIX}{PREFIX}/../../api"),
        ("http://localhost:8050/x", f"{PREFIX}/x"),
        ("HTTP://127.0.0.1:8050", f"{PREFIX}/"),
        ("http://[::1]:8050/x?y", f"{PREFIX}/x?y"),
        ("//localhost:8050/x", f"{PREFIX}/x"),
        ("http://localhost:8051/x", "http://localhost:8051/x"),
        ("https://localhost:8050/x", "https://localhost:8050/x"),
        ("https://example.org/", "https://example.org/"),
        ("relative/x", "relative/x"),
        ("?q", "?q"),
        ("", ""),
    ],
)
def test_a_location_on_this_upstream_is_mapped_once(location, seen):
    for name in ("Location", "content-location"):
        assert received((name, location)) == [(name, seen)]


def test_in_the_absolute_form_a_location_is_the_services_own():
    assert received(("Location", "/elsewhere"), route=KEPT) == [("Location", "/elsewhere")]


@pytest.mark.parametrize(
    ("cookie", "seen"),
    [
        ("a=1", "a=1"),
        ("a=1; Path=/", f"a=1; Path={PREFIX}/"),
        ("a=1; path=/sub;HttpOnly", f"a=1; Path={PREFIX}/sub;HttpOnly"),
        (f"a=1; Path={PREFIX}/x", f"a=1; Path={PREFIX}/x"),
        (f"a=1; Path={PREFIX}/../..", f"a=1; Path={PREFIX}{PREFIX}/../.."),
        ("a=1; Path=", f"a=1; Path={PREFIX}/"),
        ("a=1; Domain=example.org; Secure", "a=1; Secure"),
        ("__Secure-a=1; Secure; Path=/", f"__Secure-a=1; Secure; Path={PREFIX}/"),
        ("__Host-a=1; Path=/; Secure", None),
        ("_xsrf=evil; Path=/", None),
        ("username-jupyter=evil", None),
        ("jupyterhub-user-a=evil", None),
        ("username-localhost-8050=nested; Path=/", f"username-localhost-8050=nested; Path={PREFIX}/"),
        ("=x", None),
    ],
)
def test_a_cookie_stays_below_the_prefix(cookie, seen):
    assert received(("Set-Cookie", cookie)) == ([("Set-Cookie", seen)] if seen is not None else [])


@pytest.mark.parametrize(
    "name",
    [*HOPS, "Clear-Site-Data", "Strict-Transport-Security", "Public-Key-Pins", "Alt-Svc", "NEL", "Report-To", "Accept-CH"],
)
def test_what_would_govern_the_shared_origin_is_dropped(name):
    assert received((name, "chunked")) == []


@pytest.mark.parametrize(
    ("scope", "kept"), [("/", False), (f"{PREFIX}/", True), (PREFIX, True), (f"{PREFIX}/a", True), ("/user", False)]
)
def test_a_service_worker_stays_below_the_prefix(scope, kept):
    assert bool(received(("Service-Worker-Allowed", scope))) is kept


def test_length_is_told_once_and_never_beside_chunked():
    assert received(("Content-Length", "5"), ("content-length", "5")) == [("Content-Length", "5")]
    assert received(("Content-Length", "5"), ("Transfer-Encoding", "chunked")) == []


def test_only_a_client_that_offered_nothing_but_the_token_gets_its_subprotocol_back():
    offered = [("Sec-WebSocket-Protocol", "v1.token.websocket.jupyter.org, v1.token.websocket.jupyter.org.x")]
    assert f.subprotocol_for_client(offered, []) == [("Sec-WebSocket-Protocol", "v1.token.websocket.jupyter.org")]
    assert f.subprotocol_for_client(offered, [("Sec-WebSocket-Protocol", "b")]) == []
    assert f.subprotocol_for_client([("Sec-WebSocket-Protocol", "a")], []) == []


# ---- the upstream's head ----


def test_a_head_is_read():
    lines = [b"HTTP/1.1 200 Very OK", b"A: 1", b"a:2", b"B: x", b" folded", b"C:\xe4"]
    assert f.parse_head(lines) == (200, "Very OK", [("A", "1"), ("a", "2"), ("B", "x folded"), ("C", "ä")])
    assert f.parse_head([b"HTTP/1.0 404 "]) == (404, "", [])
    assert f.parse_head([b"HTTP/1.1 204"]) == (204, "", [])


@pytest.mark.parametrize(
    "lines",
    [
        [b"garbage"],
        [b"HTTP/1.1 20 OK"],
        [b"HTTP/1.1 2000 OK"],
        [b"HTTP/1.1 200OK"],
        [b"HTTP/2 200 OK"],
        [b"ICY 200 OK"],
        [b"HTTP/1.1 200 OK", b"no colon"],
        [b"HTTP/1.1 200 OK", b"A B: x"],
        [b"HTTP/1.1 200 OK", b"A : x"],
        [b"HTTP/1.1 200 OK", b": x"],
        [b"HTTP/1.1 200 OK", b" folded: first"],
        [b"HTTP/1.1 200 OK", b"A: x\x00y"],
        [b"HTTP/1.1 200 OK", b"A: x\ry"],
        [b"HTTP/1.1 200 OK", b"Content-Length: 1", b"Content-Length: 2"],
        [b"HTTP/1.1 200 OK", b"Content-Length: -1"],
        [b"HTTP/1.1 200 OK", b"Transfer-Encoding: gzip"],
        [b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked, chunked"],
        [b"HTTP/1.1 200 OK", *[b"A: x"] * 1001],
    ],
)
def test_a_head_that_could_split_or_smuggle_is_refused(lines):
    with pytest.raises(BadUpstream):
        f.parse_head(lines)


@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line), min_size=1, max_size=6))
def test_any_head_is_read_or_refused(lines):
    try:
        status, _, fields = f.parse_head(lines)
    except BadUpstream:
        return
    assert 100 <= status < 600
    assert all("\r" not in value and "\n" not in value for _, value in fields)
