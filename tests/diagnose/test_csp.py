from __future__ import annotations

import pytest

from jupyter_portproxy.diagnose.csp import find_blocking, parse_policies

OWN = "http://localhost:8888"


@pytest.mark.parametrize(
    ("policy", "kind", "url", "directive"),
    [
        ("default-src 'self'", "script", "http://localhost:8888/a.js", ""),
        ("default-src 'self'", "script", "http://localhost:8050/a.js", "default-src"),
        ("default-src 'none'; script-src 'self'", "script", "http://localhost:8888/a.js", ""),
        ("script-src http://localhost:8050", "script", "http://localhost:8888/a.js", "script-src"),
        ("script-src localhost:*", "script", "http://localhost:8888/a.js", ""),
        ("script-src http://localhost:8888/static/", "script", "http://localhost:8888/static/a.js", ""),
        ("script-src http://localhost:8888/static/", "script", "http://localhost:8888/proxy/port/8050/static/a.js", "script-src"),
        ("script-src 'nonce-abc'", "script", "http://localhost:8888/a.js", ""),
        ("connect-src 'self'", "socket", "ws://localhost:8888/ws", ""),
        ("connect-src ws://localhost:8050", "socket", "ws://localhost:8888/ws", "connect-src"),
        ("connect-src ws:", "socket", "ws://localhost:8888/ws", ""),
        ("img-src *", "image", "https://x.example/a.png", ""),
        ("img-src data:", "image", "http://localhost:8888/a.png", "img-src"),
        ("img-src *.example", "image", "http://a.example/a.png", ""),
        ("img-src *.example", "image", "http://example/a.png", "img-src"),
        ("default-src 'none'", "form", "http://localhost:8888/save", ""),
        ("form-action 'none'", "form", "http://localhost:8888/save", "form-action"),
        ("img-src http://x.example", "image", "https://x.example/a.png", ""),
        ("frame-ancestors 'none'", "script", "http://localhost:8888/a.js", ""),
        ("SCRIPT-SRC 'SELF'; script-src 'none'", "script", "http://localhost:8888/a.js", ""),
    ],
)
def test_what_a_policy_blocks(policy, kind, url, directive):
    [parsed] = parse_policies([policy])
    assert find_blocking(parsed, kind, url, OWN) == directive


def test_several_policies_in_one_value():
    assert [list(policy) for policy in parse_policies(["default-src a, img-src b; font-src c", " ; "])] == [
        ["default-src"],
        ["img-src", "font-src"],
    ]


@pytest.mark.parametrize("source", ["http://[", "http://a:99999999", "'self", "://", "*:", "http://*:*/"])
def test_invalid_sources_raise_nothing(source):
    [policy] = parse_policies([f"img-src {source}"])
    for url in ("http://localhost:8888/x", "http://localhost:99999999/", "http://[/"):
        find_blocking(policy, "image", url, OWN)
