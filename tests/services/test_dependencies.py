"""`depends_on`: unknown names and cycles are refused by name; placeholders fit to where a dependency listens."""

from __future__ import annotations

from typing import Any

import pytest

from jupyter_portproxy.services.dependencies import in_order, link
from jupyter_portproxy.services.templates import load


def make(name: str, *needs: str, **data: Any):
    return name, load(name, {"command": ["a"], "depends_on": list(needs), **data})


def test_dependencies_are_linked_ones_whatever_the_order():
    linked, problems = link(dict([make("web", "api"), make("api", "db"), make("db")]), {})
    assert problems == {}
    assert list(linked) == ["web", "api", "db"]
    assert linked["web"].dependencies == (linked["api"],)
    assert linked["api"].dependencies == (linked["db"],)
    assert in_order(linked) == ["db", "api", "web"]
    assert in_order(linked, ["api"]) == ["db", "api"]


def test_a_name_of_the_same_source_counts_before_others():
    other, _ = link(dict([make("db", title="other"), make("cache")]), {})
    linked, _ = link(dict([make("db", title="mine"), make("api", "db", "cache")]), other)
    assert [each.title for each in linked["api"].dependencies] == ["mine", "cache"]
    assert list(linked) == ["db", "api"]


def test_a_cycle_is_refused_by_name_and_what_needs_it_too():
    linked, problems = link(dict([make("x", "a"), make("a", "b"), make("b", "c"), make("c", "a"), make("ok")]), {})
    assert list(linked) == ["ok"]
    assert problems == {
        "a": "'depends_on' is a cycle: a -> b -> c -> a",
        "b": "'depends_on' is a cycle: b -> c -> a -> b",
        "c": "'depends_on' is a cycle: c -> a -> b -> c",
        "x": "'depends_on' has 'a', which cannot be used",
    }


def test_an_unknown_name_is_refused():
    linked, problems = link(dict([make("api", "db"), make("web", "api")]), {})
    assert linked == {}
    assert problems == {
        "api": "'depends_on' has 'db', which does not exist",
        "web": "'depends_on' has 'api', which cannot be used",
    }


def test_a_chain_of_a_thousand_is_linked():
    linked, problems = link(dict([make(f"s{n}", f"s{n + 1}") for n in range(1000)] + [make("s1000")]), {})
    assert (len(linked), problems) == (1001, {})
    assert in_order(linked)[0] == "s1000"


@pytest.mark.parametrize(
    ("dependency", "placeholder", "reason"),
    [
        ({"unix_socket": True}, "{db.port}", "'db' listens on a Unix socket: write '{db.unix_socket}' instead of '{db.port}'"),
        ({}, "{db.unix_socket}", "'db' listens on a port: write '{db.port}' instead of '{db.unix_socket}'"),
        (
            {"protocol": "none"},
            "{db.port}",
            "'db' has the protocol 'none': it has no port and no address",
        ),
        (
            {"protocol": "none"},
            "{db.prefix}",
            "'db' has the protocol 'none': it has no port and no address",
        ),
    ],
)
def test_a_placeholder_fits_to_where_the_dependency_listens(dependency, placeholder, reason):
    templates = dict([make("db", **dependency), make("api", "db", command=["a", placeholder])])
    linked, problems = link(templates, {})
    assert list(linked) == ["db"]
    assert problems["api"].startswith(reason)
