"""Which requests are a person's, and which patterns exclude one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders

from jupyter_portproxy.protocol.activity import KINDS, ActivityRule, is_by_person

PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("method", "fields", "counts"),
    [
        ("GET", {"Sec-Fetch-Mode": "navigate", "Accept": PAGE}, True),
        ("GET", {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, True),
        ("GET", {"Sec-Fetch-Mode": "cors", "Accept": PAGE}, False),  # a script that fetches a part of a page
        ("GET", {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, False),
        ("GET", {"Sec-Fetch-Mode": "same-origin", "Accept": "text/event-stream"}, False),
        ("GET", {"Sec-Fetch-Mode": "websocket"}, False),
        ("GET", {"Accept": PAGE}, True),  # plain http to a host that is not localhost
        ("GET", {"Accept": " Text/HTML"}, True),
        ("GET", {"Accept": "*/*"}, False),
        ("GET", {"Accept": "application/json, text/html"}, False),
        ("GET", {"Accept": "text/event-stream"}, False),
        ("GET", {}, False),
        ("HEAD", {"Sec-Fetch-Mode": "navigate", "Accept": PAGE}, False),
        ("OPTIONS", {"Accept": PAGE}, False),
        ("POST", {"Sec-Fetch-Mode": "cors"}, True),
        ("DELETE", {}, True),
        ("PROPFIND", {}, True),
    ],
)
def test_what_a_person_does(method, fields, counts):
    assert is_by_person(method, HTTPHeaders(fields)) == counts
    assert ActivityRule("people").counts_request(method, HTTPHeaders(fields)) == counts
    assert not ActivityRule("people").counts_request(method, HTTPHeaders(fields), upgrade=True)


@settings(deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    method=st.sampled_from(["GET", "HEAD", "OPTIONS", "POST", "MOVE"]),
    fields=st.dictionaries(st.sampled_from(["Sec-Fetch-Mode", "Accept", "X"]), st.text(max_size=20)),
    upgrade=st.booleans(),
)
def test_people_are_between_none_and_all(kind, method, fields, upgrade):
    counts = {each: ActivityRule(each).counts_request(method, fields, upgrade=upgrade) for each in KINDS}
    assert counts["none"] <= counts["people"] <= counts["all"]
    assert (counts["none"], counts["all"]) == (False, True)


@pytest.mark.parametrize(
    ("uri", "excluded"),
    [
        ("/user/ada/proxy/service/app/poll", True),
        ("/user/ada/proxy/service/app/poll?since=5", True),
        ("/user/ada/proxy/service/app/polls", False),
        ("/user/ada/proxy/service/app/?x=/poll", False),
        ("/health/1", True),
        ("/x/health", False),  # from the start of the path
    ],
)
def test_patterns_are_those_of_the_path_from_its_start(uri, excluded):
    assert ActivityRule(exclude=(re.compile(".*/poll$"), re.compile("/health"))).excludes(uri) == excluded
    assert not ActivityRule().excludes(uri)


def test_a_long_path_is_compared_with_no_pattern():
    rule = ActivityRule(exclude=(re.compile("/a"),))
    assert rule.excludes("/" + "a" * 1999 + "?" + "a" * 5000) and not rule.excludes("/" + "a" * 2000)
