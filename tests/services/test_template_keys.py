"""Readers of the values of keys: what fits passes unchanged, anything else is refused with the key and the value."""

from __future__ import annotations

import pytest

from jupyter_portproxy.services import template_keys as keys
from jupyter_portproxy.services.template_keys import TemplateError


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (keys.read_ready, "started", "started"),
        (keys.read_ready, "/health?full=1", "/health?full=1"),
        (keys.read_health_period, 0, 0),
        (keys.read_health_period, 1.5, 1.5),
        (keys.read_port, 1024, 1024),
        (keys.read_failures, 1, 1),
        (keys.read_names, ["db", "my.api-2"], ("db", "my.api-2")),
        (keys.read_patterns, [r"^/metrics", r"\.map$"], (r"^/metrics", r"\.map$")),
        (keys.read_environment, {"A": "b"}, {"A": "b"}),
    ],
)
def test_what_fits_passes(read, value, expected):
    assert read("key", value) == expected


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (keys.read_ready, "health"),
        (keys.read_ready, 1),
        (keys.read_health_period, 0.99),
        (keys.read_health_period, float("nan")),
        (keys.read_port, 65536),
        (keys.read_port, 8000.0),
        (keys.read_failures, 101),
        (keys.read_names, [".."]),
        (keys.read_patterns, ["[a"]),
        (keys.read_patterns, ["(" * 1001]),
        (keys.read_patterns, ["é"]),
        (keys.read_patterns, ["(?i)[!-\\U0010ffff]"]),
        (keys.read_patterns, ["(?L)a"]),
        (keys.read_patterns, ["(?u)a"]),
        (keys.read_boolean, 1),
        (keys.one_of("a", "b"), "c"),
        (keys.one_of("a", "b"), ["a"]),
    ],
)
def test_what_does_not_fit_is_refused_with_the_key(read, value):
    with pytest.raises(TemplateError, match="'key'"):
        read("key", value)
