"""URLs of projects are cut exactly, and a key is one plain path segment."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.errors import BadRoute
from jupyter_portproxy.protocol.project_urls import ProjectRoute, is_key, parse_project_url
from jupyter_portproxy.protocol.urls import Redirect


@given(st.uuids())
def test_every_uuid_in_lower_case_is_a_key(value):
    assert is_key(str(value)) and not is_key(f"{{{value}}}")


@given(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True, alphabet=st.characters(max_codepoint=127)))
def test_a_slug_is_a_key_unless_jupyter_uses_the_name(text):
    assert is_key(text) or text in ("api", "lab", "hub", "proxy", "tree", "user", "view", "doc", "edit", "auth", "files", "lsp")


@given(st.text())
def test_nothing_else_is_a_key(text):
    assert is_key(text) <= bool(re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", text, re.ASCII))


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
def test_a_projects_url_is_parsed(base, below, port):
    for query in ("", "?port=1&x=%20", "?"):
        found = parse_project_url(f"{base}p-1{below}{query}", base)
        assert found == ProjectRoute("p-1", f"{base}p-1", port, below, query)


def test_raw_tcp_to_a_project_is_told_from_http():
    for below, port, target in (("tcp/5432", 5432, "5432"), ("tcp/5432/", 5432, "5432"), ("tcp/service/db", None, "db")):
        found = parse_project_url(f"/hub/p1/proxy/{below}", "/hub/")
        assert found == ProjectRoute("p1", "/hub/p1", port, f"/proxy/{below}", "", target)
        assert found.tcp_target == f"p1/{target}"
    assert parse_project_url("/p1/proxy/port/5432/tcp/1", "/").tcp_target == ""
    for wrong in ("tcp/0", "tcp/5432/x", "tcp/5432?token=x"):
        with pytest.raises(BadRoute):
            parse_project_url(f"/p1/proxy/{wrong}", "/")


@pytest.mark.parametrize(
    "uri", ["/", "/lab/tree", "/api/x", "/P1/x", "/a%2Fb/x", "/../x", "/proxy/port/1/", "/port/1/", "x", "//p/"]
)
def test_what_is_no_projects_url(uri):
    assert parse_project_url(uri, "/") is None
    assert parse_project_url(uri, "/hub/") is None


def test_a_project_without_its_slash_is_sent_there():
    assert parse_project_url("/p1?x", "/") == Redirect("/p1/?x", 308)
    with pytest.raises(BadRoute):
        parse_project_url("/p1/port/99999/", "/")


@pytest.mark.parametrize("uri", ["/p1/", "/p1/lab?a=%20&b", "/p1/port/6006/\xe4//..;/%E4?", "/b/p1/x"])
def test_a_start_redirects_to_the_requested_page(uri):
    base = "/b/" if uri.startswith("/b/") else "/"
    route = parse_project_url(uri, base)
    start = parse_project_url(route.start_uri, base)
    assert route.start_uri.isascii() and start.is_start and not route.is_start
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
