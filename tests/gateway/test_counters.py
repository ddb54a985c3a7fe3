"""Counters: what `/metrics` reads. Their use is tested in tests/api/test_metrics.py."""

from __future__ import annotations

from jupyter_portproxy.gateway.counters import Counters


def test_answers_are_counted_by_class_and_errors_and_refusals_by_name():
    counters = Counters()
    for status in (101, 200, 204, 503):
        counters.count_response(status)
    counters.count_upstream_error("unreachable")
    counters.count_refusal("max_fields")
    counters.count_refusal("max_fields")
    assert counters.responses == {"1xx": 1, "2xx": 2, "5xx": 1}
    assert (counters.upstream_errors, counters.refusals) == ({"unreachable": 1}, {"max_fields": 2})
