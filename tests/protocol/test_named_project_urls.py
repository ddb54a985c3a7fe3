"""`/{username}/{project}/x?port=N` and the URL between the hops are mapped to each other byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.errors import BadRoute, TooManyRedirects
from jupyter_portproxy.protocol.headers import Client
from jupyter_portproxy.protocol.named_project_urls import (
    NamedProjectRoute,
    RedirectFollower,
    UrlMapping,
    parse_named_project_url,
)
from jupyter_portproxy.protocol.project_urls import ProjectRoute
from jupyter_portproxy.protocol.url_fields import REDIRECT_STATUSES
from jupyter_portproxy.protocol.urls import Redirect

CLIENT = Client("10.1.1.1", "10.1.1.1", "https", "hub.example")
ALIAS = UrlMapping("/ann/proj", "/p1/server/6006", 6006)
AT = "/ann/proj/a/b?c"
URLS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="#?&"), max_size=12)


def named(uri: str, base_url: str = "/") -> NamedProjectRoute:
    route = parse_named_project_url(uri, base_url)
    assert isinstance(route, NamedProjectRoute), route
    return route


@pytest.mark.parametrize(
    ("uri", "names", "path", "query"),
    [
        ("/Ann/proj/?port=6006", ("Ann", "proj"), "/", ""),
        ("/Ann/proj?port=6006", ("Ann", "proj"), "", ""),
        ("/ann@x.org/My%20Proj/x?port=6006", ("ann@x.org", "My Proj"), "/x", ""),
        ("/Zo%C3%AB/proj/a%2Fb//%E4/..;/+?q=%zz&port=6006&b=", ("Zoë", "proj"), "/a%2Fb//%E4/..;/+", "?q=%zz&b="),
        ("/Zo\xc3\xab/proj/?&port=6006", ("Zoë", "proj"), "/", "?"),
        ("/%E4/proj/?ports=1&port=6006&xport=2", ("", "proj"), "/", "?ports=1&xport=2"),
        ("/Ann/../x?port=6006", ("Ann", ".."), "/x", ""),
        ("/Ann/proj/?p%6Frt=1&port=6006&=&&", ("Ann", "proj"), "/", "?p%6Frt=1&=&&"),
    ],
)
def test_a_url_is_cut(uri, names, path, query):
    route = named(uri)
    assert ((route.owner, route.name), route.path, route.query, route.by_key) == (names, path, query, None)
    project, alias = route.with_key("p1")
    assert project == ProjectRoute("p1", "/p1", 6006, f"/server/6006{route.prefix}{path}", query)
    assert alias == UrlMapping(route.prefix, "/p1/server/6006", 6006)


def test_another_target_of_the_same_project():
    for uri, other in (("/Ann/proj/?port=6006", "/Ann/proj/a?port=7&q"), ("/ann/proj/x?q&port=1", "/ann/proj?port=2")):
        assert named(uri).at(other) == named(other)


@pytest.mark.parametrize(
    "uri", ["/Ann/proj/", "/Ann/proj/?xport=1", "/Ann/proj/x?q", "/Ann/?port=1", "/Ann//x?port=1", "//proj/?port=1"]
)
def test_without_a_port_or_a_name_it_is_no_url_of_ours(uri):
    assert parse_named_project_url(uri, "/") is None


@pytest.mark.parametrize("name", ["api", "lab", "hub", "proxy", "static", "login", "user"])
def test_jupyters_own_pages_are_not_shadowed(name):
    assert parse_named_project_url(f"/{name}/x/?port=6006", "/") is None


def test_a_project_key_comes_first():
    assert named("/ann/proj/x?port=1&q").by_key == ProjectRoute("ann", "/ann", None, "/proj/x", "?port=1&q")
    assert parse_named_project_url("/ann/port/6006/x?port=1", "/") == ProjectRoute("ann", "/ann", 6006, "/port/6006/x", "?port=1")
    assert parse_named_project_url("/ann?port=1", "/") == Redirect("/ann/?port=1", 308)
    assert parse_named_project_url("/ann/lab?q", "/") == ProjectRoute("ann", "/ann", None, "/lab", "?q")


def test_below_a_base_url():
    project, alias = named("/b/Ann/proj/x?port=7", "/b/").with_key("p1")
    assert (project.prefix, project.path) == ("/b/p1", "/server/7/b/Ann/proj/x")
    assert alias == UrlMapping("/b/Ann/proj", "/b/p1/server/7", 7)
    assert parse_named_project_url("/Ann/proj/x?port=7", "/b/") is None


@pytest.mark.parametrize(
    "query", ["port", "port=", "port=0", "port=65536", "port=+1", "port=%31", "port=1&port=1", "port=1&port=x"]
)
def test_a_port_that_is_none_or_two(query):
    with pytest.raises(BadRoute):
        named(f"/Ann/proj/?{query}").with_key("p1")


@pytest.mark.parametrize(
    ("location", "printed"),
    [
        ("/p1/server/6006/ann/proj/x", "/ann/proj/x?port=6006"),
        ("/p1/server/6006/ann/proj", "/ann/proj?port=6006"),
        ("/p1/server/6006/ann/proj/x?a=%20&b#f", "/ann/proj/x?a=%20&b&port=6006#f"),
        ("/p1/server/6006/ann/proj/x?#f", "/ann/proj/x?&port=6006#f"),
        ("/p1/server/6006/ann/proj/x?port=6006", "/ann/proj/x?port=6006"),  # the service knows the form
        ("/p1/server/6006/ann/proj/x?port=7", "/p1/server/6006/ann/proj/x?port=7"),  # a parameter of its own
        ("/p1/server/6006/login", "/p1/server/6006/login"),  # above the prefix there is no such form
        ("/p1/server/6006/ann/proj/../../x", "/p1/server/6006/x"),
        ("/p1/server/6006/ann/proj/%2e%2e/x", "/p1/server/6006/ann/proj/%2e%2e/x"),
        ("/p1/server/6006/ann/proj2/x", "/p1/server/6006/ann/proj2/x"),
        ("/p1/server/6006", "/p1/server/6006/"),
        ("https://hub.example/ann/proj/x", "/ann/proj/x?port=6006"),
        ("https://HUB.example/p1/server/6006/ann/proj/x", "/ann/proj/x?port=6006"),
        ("x", "/ann/proj/a/x?port=6006"),
        ("../%2F//;x?y", "/ann/proj/%2F//;x?y&port=6006"),
        ("../../../../x", "/p1/server/6006/x"),
        (".", "/ann/proj/a/?port=6006"),
        ("?q", "/ann/proj/a/b?q&port=6006"),
        ("#f", "/ann/proj/a/b?c&port=6006#f"),
    ],
)
def test_a_redirect_to_the_same_service(location, printed):
    url = ALIAS.to_service_url(location, AT, CLIENT)
    assert url is not None and ALIAS.to_client_url(url) == printed
    assert RedirectFollower(ALIAS, AT, CLIENT).map_response_fields([("Location", location)]) == [("Location", printed)]
    assert RedirectFollower(ALIAS, AT, CLIENT).follow([("Location", location)])


@pytest.mark.parametrize(
    "location",
    [
        "https://example.org/ann/proj/x",
        "//example.org/x",
        "/\\example.org",
        "/p1/server/6007/x",
        "/p1/lab",
        "/hub/login",
        "mailto:a@b.c",
    ],
)
def test_a_redirect_elsewhere_is_left_alone(location):
    assert ALIAS.to_service_url(location, AT, CLIENT) is None
    journey = RedirectFollower(ALIAS, AT, CLIENT)
    assert journey.map_response_fields([("Location", location), ("X", "y")]) == [("Location", location), ("X", "y")]
    assert not journey.follow([("Location", location)])


@given(URLS, URLS, st.sampled_from(["", "?", "?a", "?a&&b=%", "?&"]))
def test_what_is_printed_is_read_back(one, two, query):
    """The URL that the client requests leads to the URL that the service wrote."""
    url = f"/ann/proj/{one}/{two}{query}"
    printed = ALIAS.to_client_url(url)
    if printed.startswith("/p1/"):
        assert printed == f"/p1/server/6006{url}"
        return
    route = named(printed)
    assert route.ports == ("6006",) and f"{route.prefix}{route.path}{route.query}" == url


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_location_breaks_it(one, two):
    for location in (one, f"/p1/server/6006{one}", f"/p1/server/6006/ann/proj/{one}?{two}"):
        url = ALIAS.to_service_url(location, AT, CLIENT)
        assert url is None or (url.startswith("/") and ALIAS.to_client_url(url).startswith(("/ann/proj", "/p1/server/6006/")))


def test_redirects_are_followed_ten_times():
    journey = RedirectFollower(ALIAS, AT, CLIENT)
    for number in range(10):
        assert journey.follow([("Location", f"/p1/server/6006/ann/proj/{number}#f")])
    assert (journey.url, journey.target) == ("/ann/proj/9", "/p1/server/6006/ann/proj/9")
    with pytest.raises(TooManyRedirects, match="more than 10 times"):
        journey.follow([("Location", "x")])


@pytest.mark.parametrize("status", [200, 201, 300, 301, 302, 303, 304, 307, 308, 404])
def test_other_answers_are_the_end(status):
    assert (status in REDIRECT_STATUSES) == (status in (301, 302, 303, 307, 308))
    assert not RedirectFollower(ALIAS, AT, CLIENT).follow([("X-Location", "x")])


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("a=b; Path=/p1/server/6006/; HttpOnly", "a=b; Path=/ann/proj/; HttpOnly"),
        ("a=b; path=/p1/server/6006/ann/proj/x", "a=b; Path=/ann/proj/x"),
        ("a=b;Path=/p1/server/6006/other", "a=b; Path=/ann/proj/other"),
        ("a=b; Path=/p1/server/6006/ann", "a=b; Path=/ann/proj"),  # of `/ann/proj?port=6006`, which has no final slash
        ("a=b; Path=/p1/server/6006", "a=b; Path=/ann/proj"),
        ("a=b; Path=/p1/server/6006/an", "a=b; Path=/ann/proj/an"),
        ("a=b; Path=", "a=b; Path=/ann/proj"),
        ("a=b; Path=/p1/server/6006/ann/proj/../..", "a=b; Path=/ann/proj/ann/proj/../.."),
        ("a=b", "a=b; Path=/ann/proj"),
        ("a=b; HttpOnly", "a=b; HttpOnly; Path=/ann/proj"),
    ],
)
def test_cookies_stay_below_the_prefix(sent, seen):
    assert RedirectFollower(ALIAS, AT, CLIENT).map_response_fields([("Set-Cookie", sent)]) == [("Set-Cookie", seen)]


def test_cookies_of_followed_redirects_are_sent_and_come_back():
    journey = RedirectFollower(ALIAS, AT, CLIENT)
    inbound = [("Cookie", "old=1; new=0"), ("Accept", "*/*")]
    assert journey.map_request_fields(inbound) == inbound
    lines = [
        "new=1; Path=/p1/server/6006/",
        "deep=1; Path=/p1/server/6006/ann/proj/x",
        "gone=1; Max-Age=0",
        "past=; expires=Thu, 01 Jan 1970",
    ]
    journey.follow([("Location", "/p1/server/6006/ann/proj/"), *(("Set-Cookie", line) for line in lines)])
    assert journey.map_request_fields(inbound) == [("Accept", "*/*"), ("Cookie", "old=1; new=1")]
    assert journey.map_request_fields([("Cookie", "gone=1")]) == [("Cookie", "new=1")]
    sent = journey.map_response_fields([("Set-Cookie", "last=1"), ("X", "y")])
    assert [value.partition(";")[0] for name, value in sent if name == "Set-Cookie"] == [
        "new=1",
        "deep=1",
        "gone=1",
        "past=",
        "last=1",
    ]
    journey.follow([("Location", "x/y")])
    assert journey.map_request_fields([]) == [("Cookie", "new=1; deep=1")]


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("https://hub.example/ann/proj/x?a&port=6006", "https://hub.example/p1/server/6006/ann/proj/x?a"),
        ("https://hub.example/ann/proj/x?port=7", "https://hub.example/ann/proj/x?port=7"),
        ("https://hub.example/lab", "https://hub.example/lab"),
        ("https://other.example/ann/proj/x?port=6006", "https://other.example/ann/proj/x?port=6006"),
    ],
)
def test_the_referer_has_the_form_of_the_hops(sent, seen):
    assert ALIAS.map_request_fields([("Referer", sent), ("A", "b")], CLIENT) == [("Referer", seen), ("A", "b")]


def test_every_url_of_a_request_and_of_a_response_is_mapped():
    own, inside = "https://hub.example/ann/proj", "https://hub.example/p1/server/6006/ann/proj"
    sent = [
        ("Destination", f"{own}/d?port=6006"),
        ("If", f"<{own}/x?port=6006> (<urn:a>)"),
        ("HX-Current-URL", f"{own}/?port=6006"),
    ]
    assert ALIAS.map_request_fields(sent, CLIENT) == [
        ("Destination", f"{inside}/d"),
        ("If", f"<{inside}/x> (<urn:a>)"),
        ("HX-Current-URL", f"{inside}/"),
    ]
    fields = [("Link", "</p1/server/6006/ann/proj/x?page=2>; rel=next"), ("refresh", "1; url=/p1/server/6006/ann/proj/y")]
    assert RedirectFollower(ALIAS, AT, CLIENT).map_response_fields(fields) == [
        ("Link", "</ann/proj/x?page=2&port=6006>; rel=next"),
        ("refresh", "1; url=/ann/proj/y?port=6006"),
    ]


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("x y?a b#c d", "/ann/proj/a/x%20y?a%20b"),
        ("/p1/server/6006/ann/proj/\xe4\x80\x7f", "/ann/proj/%E4%80%7F"),
        ("x\ty", "/ann/proj/a/xy"),
        ("x%20y%", "/ann/proj/a/x%20y%"),
        ("x HTTP/1.1\r\nA: b", "/ann/proj/a/x%20HTTP/1.1%0D%0AA:%20b"),
    ],
)
def test_a_redirect_that_is_followed_is_a_request_target(location, url):
    journey = RedirectFollower(ALIAS, AT, CLIENT)
    assert journey.follow([("Location", location)])
    assert (journey.url, journey.target) == (url, f"/p1/server/6006{url}")
