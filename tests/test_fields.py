"""Which fields cross, and in what form. Upwards: no credential of Jupyter's in any spelling, nothing that only a front may say,
Host and Origin as the service expects them. Downwards: nothing that speaks for the origin a service shares with Jupyter, and
URLs mapped once. All else crosses byte for byte and in order, and what came in is never changed.
"""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jupyter_portproxy import fields as f
from jupyter_portproxy.errors import BadFraming, BadUpstream
from jupyter_portproxy.routes import Upstream, parse

P = "/a%40b/proxy/port/8050"
STRIP, KEEP = (parse(f"/a%40b/proxy/{form}port/8050/x?q", "/a%40b/") for form in ("", "absolute/"))
UP = Upstream("localhost", 8050, ("127.0.0.1", "::1"))
LAB = Upstream("lab.example", 8050, ("10.0.0.7",))
OWN = "http://hub.example:8888"
SECRET, XSRF, LOGIN = "s3same+open", "2|xsrf|7", "username-hub-example-8888"
TOKEN = "v1.token.websocket.jupyter.org"
CLIENT = f.Client("10.0.0.9", "10.0.0.9", "http", "hub.example:8888", secrets=frozenset({SECRET, XSRF}), login_cookie=LOGIN)
FRONT = f.Client("10.0.0.9", "127.0.0.1", "https", "hub.example", trusted=True)
PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=30)


def up(*fields, route=STRIP, upstream=UP, client=CLIENT, keep_host=False):
    return f.to_upstream(list(fields), route, upstream, client, via="gw", keep_host=keep_host)


def crossed(*fields, **how):
    """What of `fields` reaches the upstream, without what the gateway says itself."""
    said = up(**how)
    return [field for field in up(*fields, **how) if field not in said and field[0] != "Via"]


def down(*fields, route=STRIP, upstream=UP):
    return f.to_client(list(fields), route, upstream, CLIENT)


def values(fields, name):
    return [value for key, value in fields if f.plain(key) == name]


# ---- upwards: what crosses ----

HOP_BY_HOP = "Connection Keep-Alive Proxy-Connection Proxy-Authenticate Proxy-Authorization TE Trailer Transfer-Encoding Upgrade"
FRONTS = (
    "X-Forwarded-For X_Forwarded_For x.forwarded.for X-FORWARDED-HOST X-Forwarded-Server X-Forwarded-User Forwarded forwarded"
)
FRONTS += " X-Real-IP X_Real_IP x.real.ip True-Client-IP X-Client-IP CF-Connecting-IP Remote-User REMOTE_USER X-Remote-User Proxy"
FRONTS += (
    " X.Remote.User X-Remote-Groups X-Auth-Request-Email X-WEBAUTH-USER X-ProxyContextPath X_ProxyContextPath X-Original-URL"
)


@pytest.mark.parametrize(
    "name", [*HOP_BY_HOP.split(), "connection", "Transfer_Encoding", "Content-Length", "Content_Length", "Expect"]
)
def test_fields_of_the_clients_hop_stay_there(name):
    assert crossed((name, "x-lies"), ("X-App", "1")) == [("X-App", "1")]


@pytest.mark.parametrize("named", ["X-Hop", "x-hop", "close, X-HOP ,x", "X_Hop", "x.hop"])
def test_a_field_that_connection_names_stays_in_its_hop_both_ways(named):
    name = named if len(named) == 5 else "X-Hop"
    pair = (("Connection", named), (name, "1"))
    assert crossed(*pair) == []
    assert down(*pair) == []


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Forwarded-Prefix", "Forwarded", "Host", "Via"])
def test_connection_cannot_remove_what_the_gateway_says(name):
    assert up(("Connection", name)) == up()


@pytest.mark.parametrize("name", FRONTS.split())
@pytest.mark.parametrize("client", [CLIENT, f.Client("::1", "::1", "https", "hub.example")], ids=["ipv4", "ipv6"])
def test_what_only_a_front_may_say_never_crosses(name, client):
    assert up((name, "6.6.6.6"), client=client) == up(client=client)


@given(
    st.lists(st.tuples(st.sampled_from(["Accept", "X-App", "x-app", "X_App", "Range", "DPoP", "If-Match", "Cookie"]), PRINTABLE))
)
def test_other_fields_cross_byte_for_byte_in_order_and_the_inbound_list_is_not_changed(fields):
    assume(not any(hint in value.lower() for _, value in fields for hint in ("xsrf", "username", "jupyter")))
    inbound = list(fields)
    outbound = f.to_upstream(inbound, STRIP, UP, CLIENT, via="gw")
    assert inbound == fields
    assert [field for field in outbound if field in fields] == fields


# ---- upwards: Host, Origin, Referer ----


@pytest.mark.parametrize(("upstream", "host"), [(UP, "localhost:8050"), (Upstream("::1", 80, ("::1",)), "[::1]:80")])
def test_host_is_the_upstreams_and_comes_first(upstream, host):
    assert up(("Accept", "*"), ("Host", "hub.example:8888"), ("host", "x"), upstream=upstream)[0] == ("Host", host)
    assert len(values(up(("Host", "a"), ("H.ost", "b")), "host")) == 1


@pytest.mark.parametrize(
    ("name", "value", "seen"),
    [
        ("Origin", OWN, "http://localhost:8050"),
        ("Origin", "http://HUB.example:8888", "http://localhost:8050"),
        ("Origin", "https://hub.example:8888", "http://localhost:8050"),
        ("Origin", "http://evil.example", "http://evil.example"),
        ("Origin", "http://hub.example:8888.evil.example", "http://hub.example:8888.evil.example"),
        ("Origin", "http://hub.example", "http://hub.example"),
        ("Origin", "null", "null"),
        ("Referer", f"{OWN}{P}/x?q=%2F", "http://localhost:8050/x?q=%2F"),
        ("Referer", f"{OWN}{P}/", "http://localhost:8050/"),
        ("Referer", f"{OWN}{P}", "http://localhost:8050/"),
        ("Referer", f"{OWN}{P}?q", "http://localhost:8050/?q"),
        ("Referer", f"{OWN}/a%40b/lab/tree/secret.ipynb?x", "http://localhost:8050/"),
        ("Referer", f"{OWN}{P}1/x", "http://localhost:8050/"),
        ("Referer", "https://other.example/a?b", "https://other.example/a?b"),
    ],
)
def test_our_own_origin_becomes_the_upstreams(name, value, seen):
    assert values(up((name, value)), name.lower()) == [seen]


def test_where_the_prefix_is_kept_the_referer_keeps_it_too():
    assert values(up(("Referer", f"{OWN}{KEEP.prefix}/x?q"), route=KEEP), "referer") == [
        f"http://localhost:8050{KEEP.prefix}/x?q"
    ]


def test_host_origin_and_referer_stay_the_clients_where_the_administrator_wants_it():
    out = up(("Origin", OWN), ("Referer", f"{OWN}{P}/x?a&token=s3same%2Bopen"), keep_host=True)
    assert (values(out, "host"), values(out, "origin")) == (["hub.example:8888"], [OWN])
    assert values(out, "referer") == [f"{OWN}{P}/x?a"]


# ---- upwards: what the gateway says ----


@pytest.mark.parametrize(
    ("name", "value", "behind_a_front"),
    [
        ("x-forwarded-for", "10.0.0.9", "1.1.1.1, 127.0.0.1"),
        ("x-forwarded-proto", "http", "https"),
        ("x-forwarded-host", "hub.example:8888", "www.example"),
        ("x-forwarded-port", "8888", "444"),
        ("x-forwarded-prefix", P, P),
        ("x-forwarded-context", P, P),
        ("x-proxycontextpath", P, P),
        (
            "forwarded",
            'for=10.0.0.9;proto=http;host="hub.example:8888"',
            'for=1.1.1.1, for=127.0.0.1;proto=https;host="www.example"',
        ),
    ],
)
def test_the_gateway_says_who_asked_and_a_trusted_front_is_believed(name, value, behind_a_front):
    said = [("X-Forwarded-For", "1.1.1.1"), ("x-forwarded-host", "www.example"), ("X-Forwarded-Port", "444")]
    said += [("X-Forwarded-Proto", "https"), ("Forwarded", "for=1.1.1.1")]
    assert values(up(*said), name) == [value]
    assert values(up(*said, client=FRONT), name) == [behind_a_front]


def test_a_trusted_front_is_not_believed_in_spellings_that_it_does_not_write():
    said = [("X-Forwarded-Host", "www.example"), ("X_Forwarded_Host", "evil"), ("x.forwarded.for", "6.6.6.6")]
    assert "evil" not in str(up(*said, client=FRONT)) and "6.6.6.6" not in str(up(*said, client=FRONT))


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded"])
def test_each_line_of_a_trusted_fronts_chain_is_kept_in_order(name):
    chain = values(up((name, "for=1.1.1.1"), (name, "for=2.2.2.2"), client=FRONT), name.lower())
    assert ", ".join(chain).startswith("for=1.1.1.1, for=2.2.2.2, ")


@pytest.mark.parametrize(
    ("scheme", "host", "port"), [("http", "h", "80"), ("https", "h", "443"), ("http", "[::1]", "80"), ("https", "h:1", "1")]
)
def test_the_forwarded_port_is_the_one_the_client_used(scheme, host, port):
    assert values(up(client=f.Client("::1", "::1", scheme, host)), "x-forwarded-port") == [port]


def test_an_ipv6_client_is_written_as_rfc_7239_wants_it():
    assert values(up(client=f.Client("::1", "::1", "http", "h")), "forwarded") == ['for="[::1]";proto=http;host="h"']


def test_via_grows_by_one_member_and_names_this_gateway_to_itself():
    assert ", ".join(values(up(("Via", "1.0 a, 1.1 b"), ("via", "2 c")), "via")) == "1.0 a, 1.1 b, 2 c, 1.1 gw"
    assert f.loops(up(), "gw") and not f.loops(up(), "g")


@pytest.mark.parametrize(
    ("via", "loop"),
    [
        ("1.1 gw", True),
        ("1.0 a, 1.1 gw (x)", True),
        ("1.1 gw2", False),
        ("1.1 a (gw)", False),
        ("gw", False),
        ("", False),
        (",", False),
    ],
)
def test_a_loop_is_known_by_via(via, loop):
    assert f.loops([("Accept", "gw"), ("vIa", "1.1 other"), ("VIA", via)], "gw") is loop


# ---- upwards: credentials ----


@pytest.mark.parametrize("value", [f"token {SECRET}", f"Bearer {SECRET}", f"TOKEN \t {SECRET} ", f"bearer\xa0{SECRET}"])
@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
def test_an_authorization_that_authenticates_here_never_leaves(name, value):
    # as jupyter_server reads it: `(token|bearer)\s+(.+)`, where `\s` takes a no-break space
    assert crossed((name, value)) == []


@pytest.mark.parametrize(
    "value", ["Basic dTpw", "Bearer own", "token own", f"Bearer {SECRET}x", f"{SECRET[:-1]}", "Digest a=b, c=d", "token", ""]
)
def test_a_services_own_authorization_crosses(value):
    assert crossed(("Authorization", value)) == [("Authorization", value)]


@pytest.mark.parametrize("name", ["X-XSRFToken", "X-Xsrftoken", "X_XSRFToken", "x.xsrftoken"])
def test_the_xsrf_field_never_leaves(name):
    assert crossed((name, XSRF)) == []


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("?token=s3same%2Bopen", ""),
        ("?a&token=s3same%2Bopen&b=%2F", "?a&b=%2F"),
        ("?t%6Fken=%73%33same%2bopen&a", "?a"),
        ("?token=s3same%2Bopen&token=s3same%2Bopen", ""),
        ("?token=+s3same%2Bopen%20", ""),
        ("?token=%00s3same%2Bopen", ""),  # Tornado reads control characters as blanks, and strips them
        ("?a=1&_xsrf=2%7Cxsrf%7C7", "?a=1"),
        ("?a&&token=own&_xsrf=own&Token=x&tokens=y&", "?a&&token=own&_xsrf=own&Token=x&tokens=y&"),
        ("?token=&token", "?token=&token"),
        ("?", "?"),
        ("", ""),
    ],
)
def test_the_query_loses_jupyters_token_and_keeps_the_rest(query, left):
    assert f.target_without_secrets(f"/a;token=x%2F{query}", CLIENT) == f"/a;token=x%2F{left}"
    assert values(up(("Referer", f"https://else.example/{query}")), "referer") == [f"https://else.example/{left}"]


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("a=1; _xsrf=2|aa; b=3", "a=1; b=3"),
        (f"{LOGIN}=x; a=1", "a=1"),
        ("a=1; username-127-0-0-1-8888=x", "a=1"),
        ("jupyterhub-session-id=z; jupyterhub-user-bob=q; a=1; jupyterhub-hub-login=r; jupyter-hub-token=t", "a=1"),
        (f"_xsrf=1; {LOGIN}=2", None),
        ('a="x y"; b; c==;;d=\xe4', 'a="x y"; b; c==;;d=\xe4'),
        ("XSRF-TOKEN=1;my_xsrf=2; username=3; a=_xsrf", "XSRF-TOKEN=1;my_xsrf=2; username=3; a=_xsrf"),
        ("username-localhost-8050=nested; a=1", "username-localhost-8050=nested; a=1"),
    ],
)
def test_cookies_of_jupyter_stay_and_those_of_services_cross(sent, seen):
    assert crossed(("Cookie", sent), ("Cookie", "z=1")) == [("Cookie", v) for v in (seen, "z=1") if v is not None]


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (f"{TOKEN}, {TOKEN}.{SECRET}", None),
        (f"{TOKEN}.{SECRET}, chat,superchat", "chat,superchat"),
        (f"chat, {TOKEN.upper()}.{SECRET}, x", "chat, x"),
        ("v1.kernel.websocket.jupyter.org, chat", "v1.kernel.websocket.jupyter.org, chat"),
    ],
)
def test_the_token_subprotocol_stays_and_the_services_own_cross(sent, seen):
    assert values(up(("Sec-WebSocket-Protocol", sent)), "sec-websocket-protocol") == ([seen] if seen else [])


@pytest.mark.parametrize(
    ("offered", "answered", "added"),
    [(f"{TOKEN}, {TOKEN}.x", None, [TOKEN]), (f"{TOKEN}, chat", "chat", []), ("chat", None, []), (None, None, [])],
)
def test_a_browser_that_offered_only_the_token_gets_an_answer_to_it(offered, answered, added):
    name = "Sec-WebSocket-Protocol"
    lists = [[(name, value)] if value else [("Accept", TOKEN)] for value in (offered, answered)]
    assert f.subprotocol_for_client(*lists) == [(name, value) for value in added]


CARRIERS = {
    "Authorization": ["token {}", "Bearer  {}", "bearer\t{} "],
    "Cookie": ["_xsrf={}", "a=1; jupyterhub-session-id={};b=2", f"{LOGIN}={{}}; x", "_xsrf ={};username-h={}"],
    "Referer": [f"{OWN}{P}/?token={{}}", "https://x.example/?a&token={}&_xsrf={}", f"{OWN}/lab?t%6fken={{}}"],
    "Sec-WebSocket-Protocol": [f"{TOKEN}.{{}}", f"chat, {TOKEN}, {TOKEN}.{{}},x"],
    "X-XSRFToken": ["{}"],
    "X-Forwarded-Access-Token": ["{}"],
    "Proxy-Authorization": ["Bearer {}"],
}


@given(st.data(), st.booleans(), st.sampled_from([STRIP, KEEP]))
def test_no_mixture_of_fields_lets_a_secret_through(data, keep_host, route):
    fields = []
    for name in data.draw(st.lists(st.sampled_from(sorted(CARRIERS)))):
        spelled = data.draw(st.sampled_from([name, name.lower(), name.upper(), name.replace("-", "_"), name.replace("-", ".")]))
        escaped = data.draw(st.lists(st.booleans(), min_size=len(SECRET), max_size=len(SECRET))) if name == "Referer" else []
        secret = (
            "".join(f"%{ord(c):02x}" if hide or c == "+" else c for c, hide in zip(SECRET, escaped, strict=True))
            if escaped
            else SECRET
        )
        fields.append((spelled, data.draw(st.sampled_from(CARRIERS[name])).replace("{}", secret)))
    sent = f.to_upstream(fields, route, UP, CLIENT, via="gw", keep_host=keep_host)
    assert not any(SECRET in unquote(value) for _, value in sent)


# ---- downwards ----

ORIGIN_WIDE = "Clear-Site-Data Strict-Transport-Security Public-Key-Pins Alt-Svc NEL Report-To Accept-CH"
PASS = (
    "Content-Type ETag Vary Link WWW-Authenticate Content-Security-Policy X-Content-Type-Options Server Via Content-Encoding X-A"
)


@pytest.mark.parametrize("name", [*HOP_BY_HOP.split(), *ORIGIN_WIDE.split()])
def test_what_is_not_the_services_to_say_is_dropped(name):
    assert down((name, "x"), ("X-App", "1"), (name.lower(), "x"), (name.upper(), "x")) == [("X-App", "1")]


@given(st.lists(st.tuples(st.sampled_from([*PASS.split(), "etag", "NEL", "TE", "alt-svc"]), PRINTABLE)))
def test_all_else_reaches_the_client_byte_for_byte_and_in_order(fields):
    inbound = list(fields)
    assert f.to_client(inbound, STRIP, UP, CLIENT) == [x for x in fields if x[0] not in ("NEL", "TE", "alt-svc")]
    assert inbound == fields


@pytest.mark.parametrize(
    ("fields", "length"),
    [("5", ["5"]), ("5|5", ["5"]), ("5, 5", ["5"]), ("0", ["0"])],
)
def test_equal_lengths_are_one(fields, length):
    assert values(down(*(("Content-Length", value) for value in fields.split("|"))), "content-length") == length


def test_transfer_encoding_overrides_a_length():
    assert down(("Content-Length", "5"), ("Transfer-Encoding", "chunked")) == []


SAME = "next ../x ?q #f //evil.example/x https://localhost:8050/x http://localhost:8051/x http://evil.example/ mailto:a@b"
SAME += " http://localhost:8050@evil.example/ http://localhost:8050.evil.example/ ftp://localhost:8050/ file:///etc/passwd"
MAPPED = {
    "/next": "/next",
    "/": "/",
    "/a%2Fb?q=/#f": "/a%2Fb?q=/#f",
    "http://localhost:8050/x?q#f": "/x?q#f",
    "HTTP://LocalHost:8050/x": "/x",
    "http://127.0.0.1:8050/x": "/x",
    "http://[::1]:8050/x": "/x",
    "//localhost:8050/x": "/x",
    "http://localhost:8050": "/",
    "http://localhost:8050?q": "/?q",
    "http://localhost:8050//evil.example/": "//evil.example/",
    P: "",
    f"{P}?q": "?q",
    f"{P}/x": "/x",
    f"http://localhost:8050{P}/x": "/x",
    f"{P}1/x": f"{P}1/x",
    f"{P}/../x": f"{P}/../x",
}


@pytest.mark.parametrize("name", ["Location", "content-location"])
def test_a_url_of_this_upstream_is_mapped_below_the_prefix(name):
    for sent, below in MAPPED.items():
        assert down((name, sent)) == [(name, P + below)]


@pytest.mark.parametrize("value", ["", *SAME.split()])
def test_any_other_url_passes(value):
    assert down(("Location", value)) == [("Location", value)]


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)))
def test_a_url_is_mapped_once(below):
    assume(".." not in unquote(below))
    once = down(("Location", f"/x{below}"))
    assert once == [("Location", f"{P}/x{below}")] and down(*once) == once


@pytest.mark.parametrize(("sent", "seen"), [("/x", "/x"), ("http://localhost:8050/x", "/x"), ("http://localhost:8050?q", "/?q")])
def test_where_the_prefix_is_kept_the_service_knows_it(sent, seen):
    assert down(("Location", sent), route=KEEP) == [("Location", seen)]


def test_a_path_of_this_upstream_never_becomes_another_host():
    assert not down(("Location", "http://localhost:8050//evil.example/"), route=KEEP)[0][1].startswith("//")


@pytest.mark.parametrize(
    ("sent", "mapped"),
    [("http://lab.example:8050/x", True), ("http://10.0.0.7:8050/x", True), ("http://localhost:8050/x", False)],
)
def test_loopback_is_another_host_than_a_remote_upstream(sent, mapped):
    assert down(("Location", sent), upstream=LAB) == [("Location", f"{P}/x" if mapped else sent)]


@pytest.mark.parametrize("host", ["localhost", "localhost:80", "127.0.0.1:80", "127.0.0.1"])
def test_port_80_may_be_left_out(host):
    assert down(("Location", f"http://{host}/x"), upstream=Upstream("localhost", 80, ("127.0.0.1",))) == [("Location", f"{P}/x")]


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("a=1", "a=1"),
        ("a=b=c; Path=/; HttpOnly", f"a=b=c; Path={P}/; HttpOnly"),
        ("a=1;Domain=.example;domain; Secure; SameSite=None", "a=1; Secure; SameSite=None"),
        ("a=1; path=/app", f"a=1; Path={P}/app"),
        ("a=1; Path=; Path", f"a=1; Path={P}/; Path={P}/"),
        (f"a=1; Path={P}/app", f"a=1; Path={P}/app"),
        (f"a=1; Path={P}1", f"a=1; Path={P}{P}1"),
        ("__Secure-a=1; Secure", "__Secure-a=1; Secure"),
        ("username-localhost-8050=nested; Path=/", f"username-localhost-8050=nested; Path={P}/"),
    ],
)
def test_a_cookie_is_moved_below_the_prefix(sent, seen):
    assert down(("Set-Cookie", sent), ("set-cookie", "z=1")) == [("Set-Cookie", seen), ("set-cookie", "z=1")]


SHADOWS = "_xsrf _XSRF username-127-0-0-1-8888 jupyterhub-session-id jupyterhub-user-bob jupyter-hub-token __Host-a __host-a"


@pytest.mark.parametrize("name", ["", " _xsrf ", LOGIN, *SHADOWS.split()])
def test_a_cookie_that_would_shadow_jupyters_or_cannot_move_is_refused(name):
    assert down(("Set-Cookie", f"{name}=1; Path=/; Secure")) == []


@pytest.mark.parametrize(
    "scope", ["/", "/a%40b/", f"{P}1/", f"{P}/../", f"{P}/%2e%2E/", f"{P}/.%2e%2f", f"{P}/x\\..\\..\\", f"{P}/.\t./", P]
)
def test_a_service_worker_scope_beyond_the_prefix_is_dropped(scope):
    # browsers compare scopes as strings (port 1500 would have 15000 too), and drop tabs from URLs
    assert down(("Service-Worker-Allowed", scope)) == []


@pytest.mark.parametrize("scope", [f"{P}/", f"{P}/app/"])
def test_a_service_worker_scope_below_the_prefix_passes(scope):
    assert down(("Service-Worker-Allowed", scope)) == [("Service-Worker-Allowed", scope)]


# ---- framing ----


@pytest.mark.parametrize(
    ("lines", "content"),
    [
        ("", None),
        ("Content-Length: 0", 0),
        ("Content-Length: 5", 5),
        ("Content-Length: 5|content-length: 5", 5),
        ("Content-Length: 5, 5", 5),
        ("Transfer-Encoding: chunked", "chunked"),
        ("transfer-encoding: Chunked", "chunked"),
    ],
)
def test_a_requests_framing_is_read(lines, content):
    fields = [tuple(line.split(": ")) for line in lines.split("|") if line]
    expected = None if content is None else f.Content(None if content == "chunked" else content)
    assert f.request_content("HTTP/1.1", fields) == expected


LENGTHS = ["-5", "+5", "5 5", "", "5,", "5, 6", "0x5", "5.0", "\xa05", "\xb2", "9" * 40]
CODINGS = [
    "chunked, chunked",
    "chunked, identity",
    "gzip, chunked",
    "xchunked",
    "identity",
    "",
    "\xa0chunked",
    "\x0bchunked",
    '"chunked"',
]


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        *(("HTTP/1.1", [("Content-Length", value)]) for value in LENGTHS),
        *(("HTTP/1.1", [("Transfer-Encoding", value)]) for value in CODINGS),
        ("HTTP/1.1", [("Content-Length", "5"), ("content-length", "6")]),
        ("HTTP/1.1", [("Content-Length", "5"), ("Content_Length", "6")]),
        ("HTTP/1.1", [("Content-Length", "5"), ("Transfer-Encoding", "chunked")]),
        ("HTTP/1.1", [("Transfer_Encoding", "chunked"), ("Content-Length", "5")]),
        ("HTTP/1.1", [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")]),
        ("HTTP/1.0", [("Transfer-Encoding", "chunked")]),
    ],
)
def test_framing_that_can_be_read_in_two_ways_is_refused(version, fields):
    with pytest.raises(BadFraming):
        f.request_content(version, fields)


@pytest.mark.parametrize("value", LENGTHS)
def test_an_answer_needs_one_whole_length(value):
    with pytest.raises(BadUpstream):
        f.check_head([("Content-Length", value)])


@pytest.mark.parametrize("value", [v for v in CODINGS if v])
def test_an_answer_may_only_be_chunked(value):
    f.check_head([("Transfer-Encoding", "Chunked"), ("Content-Length", "5"), ("Content-Length", "5")])
    with pytest.raises(BadUpstream):
        f.check_head([("Transfer-Encoding", value)])


@pytest.mark.parametrize(
    ("lines", "status", "reason", "fields"),
    [
        ("HTTP/1.1 200 OK|A: 1|a:2 |B:", 200, "OK", [("A", "1"), ("a", "2"), ("B", "")]),
        ("HTTP/1.0 404", 404, "", []),
        ("HTTP/1.1 200 ", 200, "", []),
        ("HTTP/1.1 200 <b>\xe4\x00", 200, "<b>\xe4", []),
        ("HTTP/1.1 200 OK|A: 1|\t 2| 3|B: x:y", 200, "OK", [("A", "1 2 3"), ("B", "x:y")]),
        ("HTTP/1.1 200 OK|A: \xe4\t\xff", 200, "OK", [("A", "\xe4\t\xff")]),
    ],
)
def test_an_answers_head_is_read(lines, status, reason, fields):
    assert f.parse_head([line.encode("latin-1") for line in lines.split("|")]) == (status, reason, fields)


BAD_HEADS = [
    "",
    "OK",
    "HTTP/2 200",
    "HTTP/1.1 20",
    "HTTP/1.1 600",
    "HTTP/1.1 2000",
    "ICY 200 OK",
    "http/1.1 200 OK",
    "HTTP/1.1 \xb200 OK",
]
BAD_LINES = [
    " A: 1",
    "A",
    ": 1",
    "A B: 1",
    "\xe4: 1",
    "A: \x00",
    "A: 1\rSet-Cookie: x",
    "A: \x7f",
    "Content-Length: 1|Content-Length: 2",
]


@pytest.mark.parametrize(
    "lines", [*BAD_HEADS, *(f"HTTP/1.1 200 OK|{line}" for line in BAD_LINES), "HTTP/1.1 200 OK" + "|A: 1" * 1001]
)
def test_a_head_that_could_split_or_smuggle_is_refused(lines):
    with pytest.raises(BadUpstream):
        f.parse_head([line.encode("latin-1") for line in lines.split("|")])


@given(st.lists(st.binary() | st.from_regex(rb"\A[A-Za-z-]{1,9}:[ -\xff]*\Z")))
def test_any_head_is_read_or_refused_and_none_carries_control_characters(lines):
    try:
        _, _, fields = f.parse_head([b"HTTP/1.1 200 OK", *lines])
    except BadUpstream:
        return
    assert all(c == "\t" or ord(c) >= 32 for name, value in fields for c in name + value)


@pytest.mark.parametrize(
    ("method", "version", "connection", "upgrade", "asked"),
    [
        ("GET", "HTTP/1.1", "Upgrade", "websocket", True),
        ("GET", "HTTP/1.1", "keep-alive, upgrade", " WebSocket", True),
        ("POST", "HTTP/1.1", "Upgrade", "websocket", False),
        ("GET", "HTTP/1.0", "Upgrade", "websocket", False),
        ("GET", "HTTP/1.1", "keep-alive", "websocket", False),
        ("GET", "HTTP/1.1", "Upgrade", "h2c", False),
    ],
)
def test_an_upgrade_to_websocket_is_known(method, version, connection, upgrade, asked):
    assert f.is_websocket(method, version, [("connection", connection), ("UPGRADE", upgrade)]) is asked


@pytest.mark.parametrize(
    ("method", "valid"), [("GET", True), ("VERSION-CONTROL", True), ("m!", True), ("", False), ("G T", False), ("G\xcbT", False)]
)
def test_a_method_is_a_token(method, valid):
    assert f.is_method(method) is valid
