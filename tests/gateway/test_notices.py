"""Notices are values: the same subject is the same notice."""

from __future__ import annotations

from jupyter_portproxy.gateway.notices import FailedRequests, LostSocket


def test_equal_notices_are_one():
    assert len({LostSocket("/ws", "/proxy/port/1"), LostSocket("/ws", "/proxy/port/1"), LostSocket("/ws", "")}) == 2
    assert FailedRequests("dash", 3) != FailedRequests("dash", 4)
