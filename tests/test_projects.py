"""A project's key is one plain path segment or no key at all; nobody sees a project that is not theirs to see."""

from __future__ import annotations

import re
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.errors import BadInput, BadRoute, UnknownProject
from jupyter_portproxy.projects import (
    HUB,
    ProjectRoute,
    Subscribers,
    Target,
    check_command,
    is_credential,
    is_key,
    known_key,
    new_credential,
    new_key,
    next_hop,
    route_of,
)
from jupyter_portproxy.routes import Redirect

TARGET = Target("p1", "http", "10.0.0.1", 8000, "s3cret", 7, (range(6000, 6011),), "ann", {"bob": "member", "cy": "viewer"})


@given(st.uuids())
def test_every_uuid_in_lower_case_is_a_key(value):
    assert is_key(str(value)) and not is_key(f"{{{value}}}")


@given(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True, alphabet=st.characters(max_codepoint=127)))
def test_a_slug_is_a_key_unless_jupyter_uses_the_name(text):
    assert is_key(text) or text in ("api", "lab", "hub", "proxy", "tree", "user", "view", "doc", "edit", "auth", "files", "lsp")


@given(st.text())
def test_nothing_else_is_a_key(text):
    assert is_key(text) <= bool(re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", text, re.ASCII))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a..b",
        "a/b",
        "a%2Fb",
        "%2e%2e",
        "P1",
        str(uuid.UUID(int=0xABC << 64)).upper(),
        "p1\n",
        "p1 ",
        "-p1",
        "_p1",
        "a" * 65,
        "a" * 10_000,
        "p1'; drop table projects; --",
        "p1\0",
        "\u0663",
        "\u212a",  # the Kelvin sign: 'k' once its case is folded
        "proxy",
        "api",
        "lab",
        None,
        7,
        b"p1",
    ],
)
def test_bad_keys_are_refused_as_unknown(text):
    assert not is_key(text)
    with pytest.raises(UnknownProject) as caught:
        known_key(text, HUB)
    assert caught.value.status == 404 and len(caught.value.message) < 300
    with pytest.raises(BadInput, match="no key for a project"):
        new_key(text)


def test_a_key_of_a_megabyte_costs_nothing():
    begun = time.perf_counter()
    assert not is_key("a" * (1 << 20))
    assert time.perf_counter() - begun < 0.005


@pytest.mark.parametrize("text", ["", "a b", "a\r\nX: y", "\xe9", "x" * 4097, None])
def test_a_credential_can_stand_in_a_header_field(text):
    assert is_credential("tok-1~") and not is_credential(text)
    with pytest.raises(BadInput):
        new_credential(text)


@pytest.mark.parametrize(
    ("username", "role"), [("ann", "owner"), ("bob", "member"), ("cy", "viewer"), ("dee", None), ("", None), ("Ann", None)]
)
def test_roles(username, role):
    assert TARGET.role_of(username) == role


def test_a_shared_project_is_everybodys_to_view():
    shared = Target("p1", "http", "h", 1, "c", 1, None, "", {"eve": "admin"}, "shared")
    assert shared.role_of("dee") == "viewer"
    assert shared.role_of("") is None, "nobody is no owner"
    assert shared.role_of("eve") == "viewer", "a role that is none of ours counts for nothing"


def test_a_hop_that_knows_no_members_grants_nothing():
    assert Target("p1", "http", "127.0.0.1", 1, "c", 1).role_of("ann") is None


def test_the_projects_ports():
    assert TARGET.allows(6000) and TARGET.allows(6010) and not TARGET.allows(6011)
    assert Target("p1", "http", "h", 1, "c", 1).allows(1)
    assert not Target("p1", "http", "h", 1, "c", 1, ()).allows(1)


def test_a_credential_is_not_printed():
    assert "s3cret" not in repr(TARGET) + str(TARGET)


def test_subscribers_are_told_until_they_end_it_and_do_not_harm_each_other():
    problems, told = [], []
    subscribers = Subscribers(problems.append)
    subscribers.add(lambda key: 1 / 0)
    end = subscribers.add(told.append)
    subscribers.tell(["a", "b"])
    end()
    end()
    subscribers.tell(["c"])
    assert told == ["a", "b"] and len(problems) == 3 and "ZeroDivisionError" in problems[0]


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://10.0.0.1:8000", ("http", "10.0.0.1", 8000)),
        ("https://Host-1.example.org:443/", ("https", "host-1.example.org", 443)),
        ("http://[fd00::1]:8000", ("http", "fd00::1", 8000)),
    ],
)
def test_where_a_host_is(url, parts):
    assert next_hop(url) == parts


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:8000",
        "http://host",
        "http://host:0",
        "http://host:65536",
        "http://:8000",
        "http://host:8000/path",
        "http://host:8000?q",
        "http://host:8000#f",
        "http://user:word@host:8000",
        "ftp://host:8000",
        "HTTP://host:8000",
        "file:///etc/passwd",
        "http://a b:8000",
        "http://host:8000\n",
        "http://host:80\r\nX: y",
        "http://[::1:8000",
        "http://[::1%25eth0]:8000",
        "http://0.0.0.0:8000",
        "http://[::]:8000",
        "http://169.254.169.254:80",
        "http://224.0.0.1:8000",
        "http://h\u00f6st:8000",
        "http://" + "a" * 10_000 + ":80",
        None,
        7,
    ],
)
def test_where_no_host_is(url):
    with pytest.raises(ValueError, match=r"it is not of the form|can be none|no host of ours"):
        next_hop(url)


# ---- URLs ----


@pytest.mark.parametrize("base", ["/", "/hub/"])
@pytest.mark.parametrize(
    ("below", "port"),
    [
        ("/port/6002/x%2F", 6002),
        ("/server/6002/", 6002),
        ("/proxy/6002/x", 6002),
        ("/proxy/port/6002/x", 6002),
        ("/proxy/absolute/6002/x", 6002),
        ("/proxy/localhost:6002/x", 6002),
        ("/lab/tree/x", None),
        ("/api/kernels", None),
        ("/port/x/", None),
        ("/", None),
    ],
)
def test_what_a_projects_url_asks_for(base, below, port):
    for query in ("", "?port=1&x=%20", "?"):
        found = route_of(f"{base}p-1{below}{query}", base)
        assert found == ProjectRoute("p-1", f"{base}p-1", port, below, query)


@pytest.mark.parametrize(
    "uri", ["/", "/lab/tree", "/api/x", "/P1/x", "/a%2Fb/x", "/../x", "/proxy/port/1/", "/port/1/", "x", "//p/"]
)
def test_what_is_no_projects_url(uri):
    assert route_of(uri, "/") is None
    assert route_of(uri, "/hub/") is None


def test_a_project_without_its_slash_is_sent_there():
    assert route_of("/p1?x", "/") == Redirect("/p1/?x", 308)
    with pytest.raises(BadRoute):
        route_of("/p1/port/99999/", "/")


@pytest.mark.parametrize("uri", ["/p1/", "/p1/lab?a=%20&b", "/p1/port/6006/\xe4//..;/%E4?", "/b/p1/x"])
def test_a_start_leads_back_to_where_it_was_asked_for(uri):
    base = "/b/" if uri.startswith("/b/") else "/"
    asked = route_of(uri, base)
    start = route_of(asked.start_uri, base)
    assert asked.start_uri.isascii() and start.is_start and not asked.is_start
    assert start.next_uri == uri


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?",
        "?next=",
        "?next=%2F",
        "?next=//evil.example",
        "?next=%2Fp2%2F",
        "?next=/p1/%0D%0AX:",
        "?other=/p1/x",
        "?next=https://x/p1/",
        "?next=/p1",
    ],
)
def test_a_start_leads_nowhere_else(query):
    assert ProjectRoute("p1", "/p1", None, "/proxy/start", query).next_uri == "/p1/"


def test_other_paths_start_nothing():
    for path in ("/proxy/start/", "/proxy/starts", "/proxy/", "/start"):
        assert not ProjectRoute("p1", "/p1", None, path, "").is_start
    assert not ProjectRoute("p1", "/p1", 6006, "/proxy/start", "").is_start


@pytest.mark.parametrize("command", [["x", "{key}"], ["x", "a-{key}-{{b}}"], ["{key}", "{base_url}"]])
def test_a_command_that_starts_projects(command):
    check_command(command)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([], "no argument has {key}"),
        (["x", "{{key}}"], "no argument has {key}"),
        (["x", "{key}", "{port}"], r"'\{port\}' has a placeholder"),
        (["x", "{key.__class__}"], "has a placeholder"),
        (["x", "{key!r}"], "has a placeholder"),
        (["x", "{key:>9}"], "has a placeholder"),
        (["x", "{}"], "has a placeholder"),
        (["x", "{key"], "expected '}'"),
    ],
)
def test_a_command_that_cannot_start_projects(command, said):
    with pytest.raises(ValueError, match=said):
        check_command(command)
