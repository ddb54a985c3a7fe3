"""Routes. Ports and hosts are parsed strictly, and what follows them stays byte for byte: nothing in a path or a query is
decoded, joined, resolved or dropped. A `str` here is a request line decoded as latin-1, one character per byte.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.errors import BadRoute
from jupyter_portproxy.protocol import urls as routes
from jupyter_portproxy.protocol.urls import Redirect, Route, ServiceRoute, Upstream, parse_url

BASE = "/a%40b/"
ROOT = BASE + "proxy/"
# What a request line can hold, as latin-1: every printable character but the space.
RAW = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_categories=["Cc", "Zs"]))
FORMS = [
    "port/8050",
    "8050",
    "https/8050",
    "https/[::1]:8050",
    "localhost:8050",
    "127.0.0.1:8050",
    "[::1]:8050",
    "LocalHost:8050",
]


def words(text):
    """The rows of a table whose rows hold no blanks."""
    return text.split()


def place(url):
    """(host, port, target for the upstream) of a URL below `proxy/`."""
    route = parse_url(ROOT + url, BASE)
    assert isinstance(route, Route), route
    return route.host, route.port, route.target


# ---- URLs ----


@pytest.mark.parametrize(
    ("url", "host", "port", "target"),
    [
        ("port/8050/x?q", "localhost", 8050, "/x?q"),
        ("port/8050/", "localhost", 8050, "/"),
        ("port/1/", "localhost", 1, "/"),
        ("port/65535/", "localhost", 65535, "/"),
        ("absolute/port/8050/x?q", "localhost", 8050, ROOT + "absolute/port/8050/x?q"),
        ("absolute/port/8050/", "localhost", 8050, ROOT + "absolute/port/8050/"),
        ("8050/x?q", "localhost", 8050, "/x?q"),
        ("absolute/8050/x", "localhost", 8050, ROOT + "absolute/8050/x"),
        ("lab.example:80/x", "lab.example", 80, "/x"),
        ("LAB.Example:80/x", "lab.example", 80, "/x"),
        ("absolute/lab.example:80/x", "lab.example", 80, ROOT + "absolute/lab.example:80/x"),
        ("10.0.0.7:80/x", "10.0.0.7", 80, "/x"),
        ("[::1]:80/x", "::1", 80, "/x"),
        ("[FD00::7]:80/x", "fd00::7", 80, "/x"),
        ("absolute/[::1]:80/x", "::1", 80, ROOT + "absolute/[::1]:80/x"),
        ("https/8443/x?q", "localhost", 8443, "/x?q"),
        ("https/lab.example:443/x", "lab.example", 443, "/x"),
        ("absolute/https/8443/x", "localhost", 8443, ROOT + "absolute/https/8443/x"),
    ],
)
def test_a_url_names_a_host_a_port_and_a_target(url, host, port, target):
    assert place(url) == (host, port, target)


def test_a_url_decides_whether_the_upstream_gets_tls():
    urls = {"https/8443/": "https", "absolute/https/h.example:1/": "https", "8443/": "http", "port/8443/https/": "http"}
    assert {url: parse_url(ROOT + url, BASE).scheme for url in urls} == urls
    assert parse_url(ROOT + "https/8443?q", BASE) == Redirect(f"{ROOT}https/8443/?q", 308)
    assert [parse_url(ROOT + url, BASE) for url in ("https/", "https/name/", "https/port/8443/")] == [None, None, None]


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_address_of_raw_tcp_names_a_port_or_a_service(slash):
    port, service = parse_url(f"{ROOT}tcp/5432{slash}", BASE), parse_url(f"{ROOT}tcp/service/my-db{slash}", BASE)
    assert port == Route("localhost", 5432, f"{ROOT}tcp/5432", "", "", scheme="tcp")
    assert service == ServiceRoute("my-db", f"{ROOT}tcp/service/my-db", "", "", "tcp")
    assert (port.tcp_target, service.tcp_target) == ("5432", "my-db")
    for route in (port, service):
        assert route.isolated_target is None and route.is_local
        assert route.canonical(lambda name: False, lambda name: "/elsewhere", upgrade=True) is route
    others = (parse_url(ROOT + url, BASE) for url in ("port/5432/", "https/5432/", "service/my-db/", "port/5432/tcp/1"))
    assert [route.tcp_target for route in others] == [""] * 4


@pytest.mark.parametrize(
    ("url", "expected_message"),
    [
        ("tcp/", "An address of raw TCP ends with the port or the service's name."),
        ("tcp/0", "Invalid port parameter: 0"),
        ("tcp/65536", "Invalid port parameter: 65536"),
        ("tcp/05432", "Invalid port parameter: 05432"),
        ("tcp/+1", "Invalid port parameter: +1"),
        ("tcp/%35432", "Invalid port parameter: %35432"),
        ("tcp/\xb2", "Invalid port parameter: %B2"),
        ("tcp/localhost:22", "Invalid port parameter: localhost:22"),
        ("tcp/[::1]:22", "Invalid port parameter: [::1]:22"),
        ("tcp//22", "Invalid port parameter: "),
        ("%74cp/22", "Invalid port parameter: %74cp"),
        ("tcp/22/x", "An address of raw TCP ends with the port or the service's name."),
        ("tcp/22//", "An address of raw TCP ends with the port or the service's name."),
        ("tcp/22/..", "An address of raw TCP ends with the port or the service's name."),
        ("tcp/service/a/b", "An address of raw TCP ends with the port or the service's name."),
        ("tcp/22?token=secret", "An address of raw TCP has no query."),
        ("tcp/22?", "An address of raw TCP has no query."),
        ("tcp/service/a?token=secret", "An address of raw TCP has no query."),
    ],
)
def test_a_wrong_address_of_raw_tcp_is_refused(url, expected_message):
    with pytest.raises(BadRoute) as caught:
        parse_url(ROOT + url, BASE)
    assert caught.value.message == expected_message and "secret" not in caught.value.hint


@pytest.mark.parametrize("url", ["tcp", "absolute/tcp/22", "https/tcp/22", "TCP/22", "tcp%2F22"])
def test_other_spellings_are_no_address_of_raw_tcp(url):
    assert parse_url(ROOT + url, BASE) is None


BELOW = words("/a%2Fb /%23 //x// /;a=1;b /../x /%2e%2e/x /%E4 /\xe4 /%zz /? /x? /?? /?a=%26&&= /x#y /%00 /\\x /% /@evil.example")
BELOW += words("//evil.example/ /http://evil.example/ /absolute/port/1/ /?port=80")


@pytest.mark.parametrize("below", BELOW)
def test_bytes_are_kept(below):
    for form in FORMS:
        assert place(form + below)[2] == below
        assert place(f"absolute/{form}{below}")[2] == f"{ROOT}absolute/{form}{below}"


@given(below=RAW, form=st.sampled_from(FORMS), base=st.sampled_from(["/", BASE, "/user/j%C3%B6/"]))
def test_the_target_printed_is_what_was_sent(below, form, base):
    stripped = parse_url(f"{base}proxy/{form}/{below}", base)
    kept = parse_url(f"{base}proxy/absolute/{form}/{below}", base)
    assert (stripped.target, stripped.prefix) == (f"/{below}", f"{base}proxy/{form}")
    assert (kept.target, kept.prefix) == (f"{base}proxy/absolute/{form}/{below}", f"{base}proxy/absolute/{form}")


@pytest.mark.parametrize("form", ["port/8050", "8050", "lab.example:8050", "[::1]:8050", "https/8050"])
@pytest.mark.parametrize("query", ["", "?", "?q=%2F&q", "?a/b"])
def test_a_missing_slash_is_added_by_a_308_that_keeps_the_query(form, query):
    assert parse_url(ROOT + form + query, BASE) == Redirect(f"{ROOT}{form}/{query}", 308)


@pytest.mark.parametrize("form", ["absolute/port/8050", "absolute/8050", "absolute/https/lab.example:8050"])
@pytest.mark.parametrize("query", ["", "?", "?q=%2F&q", "?a/b"])
def test_a_service_that_sees_its_prefix_sees_that_the_slash_is_missing(form, query):
    parsed = parse_url(ROOT + form + query, BASE)
    assert (parsed.prefix, parsed.path, parsed.target) == (ROOT + form, "", ROOT + form + query)
    assert parsed.with_slash == f"{ROOT}{form}/{query}"
    assert parse_url(parsed.with_slash, BASE).with_slash == ""


@pytest.mark.parametrize(
    ("query", "location"),
    [
        ("?port=8050", "port/8050/"),
        ("?port=8050&a=%2F&a", "port/8050/?a=%2F&a"),
        ("?a&port=8050&b=1", "port/8050/?a&b=1"),
        ("?xport=1&port=8050&Port=2", "port/8050/?xport=1&Port=2"),
    ],
)
def test_a_port_parameter_leads_to_the_ports_own_url(query, location):
    assert parse_url(ROOT + query, BASE) == Redirect(ROOT + location, 307)


OTHER = words(
    "/ * /a%40b/ /a%40b/api/contents /a%40b/lab?port=8050 /a%40b/proxy /a%40b/proxyx/port/8050/ /a%40b/Proxy/port/8050/"
)
OTHER += words("/proxy/port/8050/ /a@b/proxy/port/8050/ /a%40b/x/proxy/port/8050/ lab:443 http://lab/a%40b/proxy/port/8050/")


@pytest.mark.parametrize("uri", ["", *OTHER])
def test_other_urls_of_the_server_are_none_of_ours(uri):
    assert parse_url(uri, BASE) is None


NAMES = words("? ?x=1 ?xport=80 mlflow mlflow/ mlflow/x?port=8050 absolute absolute/mlflow/ port Port/8050/")
NAMES += words("code-server/8050/ localhost/8050/ \xd9\xa3/")


@pytest.mark.parametrize("url", ["", *NAMES])
def test_a_name_of_somebody_else_is_none_of_ours(url):
    assert parse_url(ROOT + url, BASE) is None


# ---- refusals ----

BAD_PORTS = words("0 00 080 65536 99999 99999999999999999999 %2080 80%20 +80 -80 0x50 0_8 1e3 abc 80.0 80;x %38%30 80%2f..")
BAD_PORTS += ["", " 80", "80\n", "\xd9\xa3", "%D9%A3", "\u0663", "\xb2", "8050%40evil.example"]


@pytest.mark.parametrize("text", BAD_PORTS)
def test_a_bad_port_is_refused_in_every_url(text):
    for url in (
        f"port/{text}/",
        f"port/{text}",
        f"absolute/port/{text}/x",
        f"lab.example:{text}/",
        f"[::1]:{text}/x",
        f"?port={text}",
    ):
        with pytest.raises(BadRoute, match=r"\AInvalid port parameter: "):
            parse_url(ROOT + url, BASE)


@pytest.mark.parametrize("text", words("0 080 65536 %2080 +80 -80 0x50 80;x 80%20 8050.0 8050%40evil.example"))
def test_a_bare_segment_that_looks_like_a_port_is_read_as_one(text):
    with pytest.raises(BadRoute, match=r"\AInvalid port parameter: "):
        parse_url(f"{ROOT}{text}/x", BASE)


@pytest.mark.parametrize("query", ["?port=8050&port=8051", "?port=8050&port=8050", "?port=8050&a&port="])
def test_a_repeated_port_parameter_is_refused(query):
    with pytest.raises(BadRoute, match=r"\AInvalid port parameter: "):
        parse_url(ROOT + query, BASE)


def test_the_sentence_about_a_repeated_port_is_readable():
    with pytest.raises(BadRoute) as caught:
        parse_url(ROOT + "?port=8050&port=8051", BASE)
    assert "%" not in caught.value.message  # the client sent none: a percent sign here is an encoded sentence of ours


BAD_HOSTS = words(":80 a%2eb:80 -a:80 a-:80 a..b:80 .a:80 a.:80 \xe4:80 <b>:80")
BAD_HOSTS += words(
    "[::1%eth0]:80 [fe80::1%25eth0]:80 []:80 [x]:80 [::1] [::1]80 [::1:80 ::1:80 ::1]:80 [[::1]]:80 a:b:80 a: a:80%40b"
)


@pytest.mark.parametrize("authority", ["a b:80", "a" * 254 + ":80", *BAD_HOSTS])
def test_an_authority_that_cannot_be_one_is_refused(authority):
    with pytest.raises(BadRoute, match=r"\AInvalid (host|port) parameter: "):
        parse_url(f"{ROOT}{authority}/x", BASE)


def test_brackets_are_for_ipv6_only():
    with pytest.raises(BadRoute, match=r"\AInvalid host parameter: "):
        parse_url(ROOT + "[127.0.0.1]:8050/", BASE)


@given(url=RAW | st.builds("{}{}{}".format, st.sampled_from(["port/", "absolute/", "?port=", "[", "80", "a:"]), RAW, RAW))
def test_any_url_is_a_route_a_redirect_to_one_nothing_or_a_bad_route(url):
    try:
        parsed = parse_url(ROOT + url, BASE)
    except BadRoute:
        return
    if isinstance(parsed, Redirect):
        assert parsed.status in (307, 308)
        parsed, url = parse_url(parsed.location, BASE), parsed.location.removeprefix(ROOT)
        assert isinstance(parsed, Route)
    if parsed is not None:
        assert parsed.prefix + parsed.path + parsed.query == ROOT + url
        assert 1 <= parsed.port <= 65535 and (parsed.path.startswith("/") or (parsed.keep_prefix and not parsed.path))


@given(st.text())
def test_reading_a_port_raises_nothing_but_a_bad_route(text):
    try:
        port = routes.parse_port(text)
    except BadRoute:
        assert not re.fullmatch("[1-9][0-9]{0,3}", text, re.ASCII)
    else:
        assert str(port) == text and 1 <= port <= 65535


@given(st.text())
def test_reading_an_authority_raises_nothing_but_a_bad_route(text):
    try:
        host, port = routes.parse_authority(text)
    except BadRoute:
        return
    assert f"{routes.bracket_host(host)}:{port}" == text.lower()


# ---- hosts ----


@pytest.mark.parametrize("name", ["localhost", "lab.example", "a", "a-b", "my_lab", "xn--bcher-kva.example", "127.1", "0x7f.1"])
def test_a_dns_name_is_a_name(name):
    assert routes.is_name(name)


@pytest.mark.parametrize(
    "name", ["", "LAB", "a b", "a.", ".a", "a..b", "-a", "a-", "a:1", "::1", "a/b", "b\xe4r", "a\n", "a" * 254]
)
def test_anything_else_is_no_name(name):
    assert not routes.is_name(name)


NO_LITERALS = words("127.1 0177.0.0.1 2130706433 0x7f.1 0x7f.0.0.1 127.0.0.01 0 127.0.0.1. localhost [::1] 1.2.3.256 1.2.3.4/8")


@pytest.mark.parametrize("text", ["", "127.0.0.1\n", " 127.0.0.1", "\u0661.0.0.1", *NO_LITERALS])
def test_what_only_glibc_takes_for_an_address_is_no_literal(text):
    assert routes.ip_literal(text) is None


@pytest.mark.parametrize("text", ["127.0.0.1", "0.0.0.0", "::1", "fd00::7", "::ffff:127.0.0.1"])
def test_an_address_in_its_standard_form_is_one(text):
    assert str(routes.ip_literal(text)) in (text, "::ffff:7f00:1")


@pytest.mark.parametrize(("host", "authority"), [("localhost", "localhost"), ("10.0.0.7", "10.0.0.7"), ("::1", "[::1]")])
def test_an_upstream_prints_its_host_field(host, authority):
    """As browsers do, or the service would find another host in Origin, where the default port never stands."""
    assert Upstream(host, 80, ("127.0.0.1",)).authority == authority
    assert Upstream(host, 443, ("127.0.0.1",), scheme="https").origin == f"https://{authority}"
    assert Upstream(host, 443, ("127.0.0.1",)).authority == f"{authority}:443"


# ---- allowed ports ----


@pytest.mark.parametrize(
    ("items", "printed"),
    [
        ([], "none"),
        ([8888], "8888"),
        (["8888"], "8888"),
        (["10000-20000"], "10000-20000"),
        ([8888, "10000-20000"], "8888, 10000-20000"),
        ([" 1 - 65535 "], "1-65535"),
        (["80-80"], "80"),
    ],
)
def test_allowed_ports_are_printed_for_people(items, printed):
    assert routes.print_ports(routes.parse_ports(items)) == printed


@given(st.lists(st.tuples(st.integers(1, 65535), st.integers(1, 65535)).map(sorted), min_size=1))
def test_printed_ports_read_back_as_the_same_ranges(pairs):
    ranges = routes.parse_ports(f"{low}-{high}" for low, high in pairs)
    assert [(r.start, r[-1]) for r in ranges] == [tuple(p) for p in pairs]
    assert routes.parse_ports(routes.print_ports(ranges).split(", ")) == ranges


NO_RANGES = words("abc 0 0-80 80- -80 90-80 80-65536 080 +80 80,90 0x50 * \u0668\u0660")


@pytest.mark.parametrize("item", [0, -1, 65536, True, None, 80.5, [80], "", "8 0", *NO_RANGES])
def test_what_is_no_range_of_ports_is_refused_by_name(item):
    with pytest.raises(ValueError, match=re.escape(repr(item))):
        routes.parse_ports([8888, item])


@pytest.mark.parametrize(
    ("uri", "name"),
    [("app/x?y", "app"), ("app", "app"), ("app?y", "app"), ("lab/tree", ""), ("api", ""), ("", "")],
)
def test_a_bare_name_is_cut_out_and_jupyters_own_are_not(uri, name):
    assert routes.find_first_segment(BASE + uri, BASE) == name
    assert routes.find_first_segment("/other/app", BASE) == ""


@pytest.mark.parametrize("path", ["127.0.0.1", "127.0.0.1/x", "127.0.0.1@10.0.0.1/x", "user:pass@host:123/x", "user@host/x"])
@pytest.mark.parametrize("form", ["", "absolute/"])
def test_a_host_without_a_port_and_user_information_are_none_of_ours(form, path):
    assert parse_url(f"{ROOT}{form}{path}", BASE) is None


def test_the_route_of_a_services_url():
    assert routes.build_service_route("app", "/b/app/x%2F?y", "/b/app") == ServiceRoute("app", "/b/app", "/x%2F", "?y")
    bare = routes.build_service_route("app", "/b/app?y", "/b/app")
    assert bare == ServiceRoute("app", "/b/app", "", "?y")
    assert bare.canonical(lambda name: True, lambda name: None, upgrade=False) == bare
    assert bare.canonical(lambda name: False, lambda name: None, upgrade=False) == Redirect("/b/app/?y", 308)


def test_a_service_is_named_by_its_url():
    prefix = f"{BASE}proxy/service/my.app"
    assert parse_url(f"{prefix}/a%2Fb?c", BASE) == routes.ServiceRoute("my.app", prefix, "/a%2Fb", "?c")
    assert parse_url(f"{prefix}?c", BASE) == routes.ServiceRoute("my.app", prefix, "", "?c")
    assert routes.build_service_path(BASE, "my.app") == prefix
    assert parse_url(routes.build_port_path(BASE, 8050), BASE) == parse_url(f"{BASE}proxy/port/8050/", BASE)


# ---- the short forms, as the last hop of a chain has them ----


@pytest.mark.parametrize(("form", "keep"), [("port", True), ("server", False)])
@pytest.mark.parametrize("below", ["/", "/a%2Fb//;x", "/proxy/port/1/"])
def test_the_short_forms_keep_or_strip(form, keep, below):
    found = parse_url(f"{BASE}{form}/6002{below}?q", BASE)
    assert found == Route("localhost", 6002, f"{BASE}{form}/6002", below, "?q", keep)
    bare = Route("localhost", 6002, f"{BASE}{form}/6002", "", "?q", True) if keep else Redirect(f"{BASE}{form}/6002/?q", 308)
    assert parse_url(f"{BASE}{form}/6002?q", BASE) == bare


@pytest.mark.parametrize("uri", ["port/", "port", "port/x/", "server/-1/", "ports/1/", "x/port/1/"])
def test_what_is_no_short_form(uri):
    assert parse_url(BASE + uri, BASE) is None


def test_a_short_form_with_a_port_that_cannot_be_is_refused():
    for port in ("0", "70000", "80a", "08"):
        with pytest.raises(BadRoute):
            parse_url(f"{BASE}port/{port}/", BASE)


def test_long_texts_of_urls_are_not_kept():
    before = routes._known_literal.cache_info().currsize
    assert all(routes.ip_literal(f"{number:046}") is None for number in range(100))
    assert routes._known_literal.cache_info().currsize == before
    assert routes.ip_literal("0000:0000:0000:0000:0000:ffff:127.127.127.127") is not None


# ---- other spellings of the base URL ----


@pytest.mark.parametrize(
    ("base", "path", "respelled"),
    [
        ("/", "/x%40", "/x%40"),
        ("/user/ada@example.org/", "/user/ada%40example.org/x%40y@", "/user/ada@example.org/x%40y@"),
        ("/user/ada%40example.org/", "/user/ada@example.org/proxy/port/15000/?a=%40", None),
        ("/user/a%28x%29/", "/user/a(x)/b", None),
        ("/user/a(x)/", "/user/a%28x%29/b", None),
        ("/user/j%c3%b6rg/", "/user/j%C3%B6rg/b", None),
        ("/user/a%7cb/", "/user/a|b/b", None),
        ("/user/ada/", "/%75ser/%61da/b", None),
        ("/user/~a-b_c.d!$&'*+,;=:/", "/user/%7Ea%2db%5Fc%2Ed%21%24%26%27%2A%2B%2C%3B%3D%3A/", None),
        ("/user/a%2Fb/", "/user/a/b/x", ""),
        ("/user/a%2fb/", "/user/a%2Fb/x", None),
        ("/user/a%25b/", "/user/a%b/x", ""),
        ("/user/a%2540b/", "/user/a%40b/x", ""),
        ("/user/a@b/", "/user/A%40b/x", ""),
        ("/user/a@b/", "/user/a%40b", ""),
        ("/user/a@b/", "/user/a%40b?/x", ""),
        ("/user/a@b/", "//user/a%40b/x", ""),
        ("/user/a@b/", "", ""),
        ("/user/a@b/", "*", ""),
        ("/user/a@b/", "http://a/user/a%40b/x", ""),
    ],
)
def test_an_equivalent_of_the_base_url_is_recognized(base, path, respelled):
    """None: what follows the base is as sent. Empty: another resource."""
    expected = base + path.split("/", base.count("/"))[-1] if respelled is None else respelled or path
    assert routes.respell_prefix(path, base) == expected


@given(RAW, RAW)
def test_what_follows_the_base_url_is_never_changed(begin, rest):
    assert routes.respell_prefix(BASE + rest, BASE) == BASE + rest
    other = routes.respell_prefix(f"/{begin}/{rest}", BASE)
    assert other == f"/{begin}/{rest}" or (other == BASE + rest and "/" not in begin)


@pytest.mark.parametrize(
    ("host", "parts"),
    [
        ("localhost:8888", ("localhost", "8888")),
        ("localhost", ("localhost", "")),
        ("localhost:", ("localhost:", "")),
        ("[::1]", ("[::1]", "")),
        ("[::1]:80", ("[::1]", "80")),
        ("a:٨٠", ("a:٨٠", "")),
        (":80", ("", "80")),
        ("", ("", "")),
    ],
)
def test_a_port_is_split_from_a_host(host, parts):
    assert routes.split_port(host) == parts


@pytest.mark.parametrize(
    ("scheme", "authority", "rest"),
    [
        ("http", "Hub.example:80", "hub.example"),
        ("https", "Hub.example:443", "hub.example"),
        ("http", "hub.example:443", "hub.example:443"),
        ("https", "hub.example:8443", "hub.example:8443"),
        ("http", "[::80]", "[::80]"),
        ("http", "[::1]:80", "[::1]"),
        ("http", "hub.example", "hub.example"),
        ("http", "", ""),
    ],
)
def test_the_default_port_of_a_scheme_is_left_out(scheme, authority, rest):
    assert routes.without_default_port(scheme, authority) == rest
    for written in (authority, rest, authority.upper()):
        assert routes.strip_origin(f"{scheme.upper()}://{written}/x", authority) == ("/x" if authority else None)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("HTTPS://Hub.example:8/x?y", "https://hub.example:8"),
        ("http://a?b", "http://a"),
        ("http://a@b/", "http://a@b"),
        ("http:///x", ""),
        ("//a/x", ""),
        ("ftp://a/", ""),
        (" http://a/", ""),
        ("", ""),
    ],
)
def test_the_origin_of_a_url(url, origin):
    assert routes.parse_origin(url) == origin
    rest = routes.strip_origin(url, origin.partition("://")[2])
    assert rest is None if not origin else rest == url[len(origin) :]
