"""Whose row of the members table counts, and for what."""

from __future__ import annotations

import pytest

from jupyter_portproxy.projects.permissions import Grant, grant_for

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
    assert grant_for(username, groups, "ann", ROWS, narrowed, is_public=False) == grant
    shared = Grant("viewer") if username else None
    assert grant_for(username, groups, "ann", ROWS, narrowed, is_public=True) == (grant or shared)


def test_groups_of_one_role_give_their_ports_together():
    rows = {"@a": "member", "@b": "member", "@c": "viewer"}
    together = grant_for("eve", ("a", "b", "c"), "ann", rows, {"@a": LOW, "@b": HIGH, "@c": LOW}, is_public=False)
    assert together == Grant("member", LOW + HIGH)
    assert grant_for("eve", ("a", "b"), "ann", rows, {"@a": LOW}, is_public=False) == Grant("member"), (
        "one of them narrows nothing"
    )


def test_a_name_that_looks_like_a_groups_grants_nothing():
    assert grant_for("@team", (), "@team", {"@team": "owner"}, {}, is_public=False) is None


@pytest.mark.parametrize(
    ("username", "role"), [("ann", "owner"), ("bob", "member"), ("cy", "viewer"), ("dee", None), ("", None), ("Ann", None)]
)
def test_roles(username, role):
    grant = grant_for(username, (), "ann", {"bob": "member", "cy": "viewer"}, {}, is_public=False)
    assert grant == (Grant(role) if role else None)


def test_all_users_are_viewers_of_a_public_project():
    def role_of(username):
        grant = grant_for(username, (), "", {"eve": "admin"}, {}, is_public=True)
        return grant and grant.role

    assert role_of("dee") == "viewer"
    assert role_of("") is None, "a user without a name is no owner"
    assert role_of("eve") == "viewer", "an unknown role counts for nothing"
