"""Whose row of the members table counts, and for what."""

from __future__ import annotations

import pytest

from jupyter_portproxy.projects.permissions import Grant, grant_of

LOW, HIGH = (range(1, 10),), (range(90, 100),)
ROWS = {"bob": "viewer", "@team": "member", "@bosses": "owner", "@guests": "viewer", "@odd": "king"}


@pytest.mark.parametrize(
    ("username", "groups", "narrowed", "grant"),
    [
        ("ann", (), {}, Grant("owner")),
        ("ann", (), {"ann": LOW}, Grant("owner", LOW)),
        ("bob", (), {}, Grant("viewer")),
        ("bob", ("team", "bosses"), {"@team": LOW}, Grant("viewer")),  # their own row decides
        ("eve", ("team",), {}, Grant("member")),
        ("eve", ("team",), {"@team": LOW}, Grant("member", LOW)),
        ("eve", ("guests", "team"), {"@guests": LOW}, Grant("member")),
        ("eve", ("team", "bosses"), {}, Grant("owner")),
        ("eve", ("nobody", "odd"), {}, None),
        ("eve", (), {}, None),
        ("@team", (), {}, None),
        ("team", (), {}, None),
        ("", ("team",), {}, None),
    ],
)
def test_a_persons_own_row_decides_and_then_the_best_of_their_groups(username, groups, narrowed, grant):
    assert grant_of(username, groups, "ann", ROWS, narrowed, "private") == grant
    shared = Grant("viewer") if username else None
    assert grant_of(username, groups, "ann", ROWS, narrowed, "shared") == (grant or shared)


def test_groups_of_one_role_give_their_ports_together():
    rows = {"@a": "member", "@b": "member", "@c": "viewer"}
    together = grant_of("eve", ("a", "b", "c"), "ann", rows, {"@a": LOW, "@b": HIGH, "@c": LOW}, "private")
    assert together == Grant("member", LOW + HIGH)
    assert grant_of("eve", ("a", "b"), "ann", rows, {"@a": LOW}, "private") == Grant("member"), "one of them narrows nothing"


def test_a_name_that_looks_like_a_groups_is_nobodys():
    assert grant_of("@team", (), "@team", {"@team": "owner"}, {}, "private") is None
