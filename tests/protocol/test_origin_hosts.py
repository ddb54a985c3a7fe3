"""Host names of isolated origins are read exactly, and printed so that they are read back."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.protocol.origin_hosts import OriginHosts, encode_label

LOCAL = OriginHosts()
WILD = OriginHosts("{port}--{user}.apps.example.org", "ada")


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
    assert LOCAL.parse_target(host) == target


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
    assert WILD.parse_target(host) == target


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
    assert OriginHosts(pattern, "ada").parse_target(host) == target


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
        OriginHosts(pattern, "ada")


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
    assert LOCAL.build_host(target, jupyters) == host


@pytest.mark.parametrize(
    ("names", "fields", "host"),
    [
        (LOCAL, {}, "p15000.localhost:8888"),
        (LOCAL, {"X-Forwarded-Host": "abc.example"}, None),
        (OriginHosts(at_hub=True), {}, None),
        (WILD, {"X-Forwarded-Host": "abc.example"}, "15000--ada.apps.example.org"),
        (OriginHosts("{port}.apps.example.org", at_hub=True), {}, "15000.apps.example.org"),
    ],
)
def test_local_names_are_for_browsers_of_this_machine(names, fields, host):
    request = SimpleNamespace(headers={"Host": "localhost:8888", **fields}, protocol="http", version="HTTP/1.1")
    assert names.find_host("15000", request) == host


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?", fullmatch=True), st.text(min_size=1, max_size=5))
def test_what_is_printed_is_read_back(target, user):
    names = OriginHosts("{port}--{user}.apps.example.org", user)
    host = names.build_host(target, "jupyter.example.org")
    assert host is None or names.parse_target(host.upper() if host.isascii() else host) == target


@given(st.text(max_size=80))
def test_any_host_is_read(host):
    for names in (LOCAL, WILD):
        target = names.parse_target(host)
        assert target is None or re.fullmatch(r"[a-z0-9-]+", target)


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_a_users_name_is_a_part_of_a_label(one, other):
    assert re.fullmatch(r"[a-z0-9-]+", encode_label(one))
    assert (encode_label(one) == encode_label(other)) == (
        one.lower().encode("utf-8", "replace") == other.lower().encode("utf-8", "replace")
    )
