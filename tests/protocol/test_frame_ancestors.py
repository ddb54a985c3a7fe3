"""Which answers browsers show in a frame: the tables of the two specifications."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.protocol.frame_ancestors import denies_frames, find_frame_policies, forbids_frame

OWN = "http://localhost:8888"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], False),
        (["DENY"], True),
        ([" deny "], True),
        (["SAMEORIGIN"], False),
        (["SAMEORIGIN", "sameorigin"], False),
        (["SAMEORIGIN", "DENY"], True),
        (["SAMEORIGIN, DENY"], True),
        (["SAMEORIGIN, ALLOWALL"], True),  # a contradiction
        (["ALLOWALL"], False),
        (["ALLOW-FROM https://x.example"], False),  # not known any more
        (["nonsense", "more"], False),
    ],
)
def test_x_frame_options_of_which_one_denies_or_two_contradict(values, expected):
    fields = [("X-Frame-Options", value) for value in values]
    assert denies_frames(fields) is expected
    assert forbids_frame(fields, OWN, {OWN}) is expected
    assert not forbids_frame([*fields, ("content-security-policy", "frame-ancestors *")], OWN, {OWN})


@pytest.mark.parametrize(
    ("policies", "ancestor", "expected"),
    [
        (["default-src 'none'"], OWN, False),
        (["frame-ancestors 'none'"], OWN, True),
        (["frame-ancestors"], OWN, True),
        (["default-src *; FRAME-ANCESTORS 'SELF'"], OWN, False),
        (["frame-ancestors 'self'"], "http://localhost:9999", True),
        (["frame-ancestors https://portal.example"], OWN, True),
        (["frame-ancestors https://portal.example 'self'"], OWN, False),
        (["frame-ancestors 'self'", "frame-ancestors 'none'"], OWN, True),
        (["frame-ancestors 'self', frame-ancestors https://portal.example"], OWN, True),
        (["frame-ancestors http:"], OWN, False),
        (["frame-ancestors https:"], OWN, True),
        (["frame-ancestors http:"], "https://hub.example", False),
        (["frame-ancestors localhost:8888"], OWN, False),
        (["frame-ancestors localhost:*"], OWN, False),
        (["frame-ancestors localhost"], OWN, True),
        (["frame-ancestors *.example.org"], "http://hub.example.org", False),
        (["frame-ancestors *.example.org"], "http://example.org", True),
        (["frame-ancestors http://hub.example.org"], "https://hub.example.org", False),
        (["frame-ancestors https://hub.example.org:8443/path"], "https://hub.example.org:8443", False),
        (["frame-ancestors http://[::1]:8888"], "http://[::1]:8888", False),
        ([f"frame-ancestors localhost:{'8' * 5000}"], OWN, False),  # `int` takes 4300 digits
        (["frame-ancestors 'none' " + "a.example " * 1000], OWN, False),  # too long to be looked at
    ],
)
def test_frame_ancestors_of_which_all_have_to_let_it_in(policies, ancestor, expected):
    fields = [("Content-Security-Policy", policy) for policy in policies]
    assert forbids_frame(fields, OWN, {ancestor}) is expected
    report_only = [("Content-Security-Policy-Report-Only", policy) for policy in policies]
    assert not forbids_frame(report_only, OWN, {ancestor})


@pytest.mark.parametrize("policy", ["frame-ancestors-of 'self'", "\xa0frame-ancestors 'self'", "frame-ancestor\u017f 'self'"])
def test_a_directive_of_another_name_is_ignored(policy):
    fields = [("Content-Security-Policy", policy), ("X-Frame-Options", "DENY")]
    assert find_frame_policies(fields) == [] and forbids_frame(fields, OWN, {OWN})


def test_any_origin_that_may_be_above_it_is_enough():
    fields = [("Content-Security-Policy", "frame-ancestors https://portal.example")]
    assert not forbids_frame(fields, OWN, {OWN, "https://portal.example"})


@given(st.text(), st.text())
def test_no_field_and_no_origin_raises(value, origin):
    for name in ("X-Frame-Options", "Content-Security-Policy"):
        assert forbids_frame([(name, value)], origin, {origin}) in (True, False)
    assert forbids_frame([("Content-Security-Policy", f"frame-ancestors {value}")], origin, {origin}) in (True, False)
