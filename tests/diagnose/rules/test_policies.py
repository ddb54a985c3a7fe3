from __future__ import annotations

from dataclasses import replace

import pytest

from jupyter_portproxy.diagnose.observation import Evidence, Observation, Response, Visit

from ..observations import TARGET, find, find_one, observe

CSP = "Content-Security-Policy"
REMOTE = replace(TARGET, jupyter_origin="http://lab.example:8888")
SECURE = replace(TARGET, jupyter_origin="https://lab.example")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Frame-Options", "DENY"),
        (CSP, "frame-ancestors 'none'"),
        (CSP, "default-src 'self'; frame-ancestors https://portal.example"),
    ],
)
def test_frames_that_are_forbidden(name, value):
    seen = observe("<p>", fields=[(name, value)])
    assert find(seen) == ["frame-forbidden"]
    assert find_one(seen, "frame-forbidden").evidence.field == name


@pytest.mark.parametrize(
    ("name", "value"), [("X-Frame-Options", "SAMEORIGIN"), (CSP, "frame-ancestors 'self'"), (CSP, "default-src *")]
)
def test_frames_that_are_allowed(name, value):
    assert find(observe("<p>", fields=[(name, value)])) == []


@pytest.mark.parametrize(
    ("policy", "html"),
    [
        ("script-src http://localhost:8050", "<script src=app.js></script>"),
        ("script-src http://127.0.0.1:8050", "<script src=app.js></script>"),
        ("default-src 'none'; style-src http://localhost:8050/static/", "<link rel=stylesheet href=static/a.css>"),
        ("img-src localhost:8050", "<img src=a.png>"),
        ("connect-src ws://localhost:8050", "<script>new WebSocket('ws')</script>"),
        ("form-action http://localhost:8050", "<form action=save>"),
    ],
)
def test_a_policy_that_blocks_below_the_prefix_only(policy, html):
    target = replace(TARGET, jupyter_origin="http://localhost:8888")
    seen = observe(html, fields=[(CSP, policy)], target=target)
    assert find(seen) == ["csp-blocks"]
    assert find_one(seen, "csp-blocks").evidence.field == CSP
    assert find(observe(f'<meta http-equiv={CSP} content="{policy}">{html}', target=target)) == ["csp-blocks"]


@pytest.mark.parametrize("policy", ["default-src 'self'", "script-src 'none'", "script-src https://cdn.example", "script-src *"])
def test_a_policy_that_does_the_same_on_localhost(policy):
    assert find(observe("<script src=app.js></script>", fields=[(CSP, policy)])) == []


def test_upgrades_to_https_where_jupyter_is_at_http():
    assert find(observe("<p>", fields=[(CSP, "upgrade-insecure-requests")], target=REMOTE)) == ["csp-blocks"]
    assert find(observe("<p>", fields=[(CSP, "upgrade-insecure-requests")])) == []
    assert find(observe("<p>", fields=[(CSP, "upgrade-insecure-requests")], target=SECURE)) == []


def set_cookies(*values: str, passed: tuple[str, ...] | None = None, target=TARGET) -> Observation:
    direct = Response(200, fields=tuple(("Set-Cookie", value) for value in values))
    proxied = Response(200, fields=tuple(("Set-Cookie", value) for value in (values if passed is None else passed)))
    return Observation(target, (Visit("page", "/", Evidence("/"), "/", f"{TARGET.prefix}/", direct, proxied),))


@pytest.mark.parametrize("cookie", ["_xsrf=2|a; Path=/", "__Host-sid=abc; Path=/; Secure", "jupyterhub-session-id=abc"])
def test_cookies_that_do_not_pass(cookie):
    seen = set_cookies(cookie, passed=(), target=SECURE)
    assert find(seen) == ["cookie-refused"]
    assert "***" in find_one(seen, "cookie-refused").evidence.excerpt


def test_cookies_that_pass_and_those_of_one_response_only_are_none():
    assert find(set_cookies("sid=abc; Path=/", passed=("sid=abc; Path=/proxy/port/8050/",))) == []
    assert find(set_cookies("a1b2c3=random", passed=("d4e5f6=random",))) == []
    assert find(set_cookies("username-localhost-8050=x", passed=("username-localhost-8050=x",))) == []


def test_jupyters_own_applications_work_without_their_cookie():
    nested = replace(TARGET, command=("jupyter-lab", "--ServerApp.disable_check_xsrf=True"))
    assert find(set_cookies("_xsrf=a", passed=(), target=nested)) == []
    assert find(set_cookies("_xsrf=a", passed=(), target=replace(TARGET, template="voila"))) == []


def test_cookies_that_browsers_refuse():
    assert find(set_cookies("sid=abc; SameSite=None")) == ["cookie-insecure"]
    assert find(set_cookies("sid=abc; SameSite=None; Secure", target=REMOTE)) == ["cookie-insecure"]
    assert "Safari" in find_one(set_cookies("sid=abc; SameSite=None; Secure"), "cookie-insecure").sentence
    assert find(set_cookies("sid=abc; SameSite=None; Secure", target=SECURE)) == []


def test_a_cookie_that_does_not_pass_is_one_finding():
    seen = set_cookies("__Host-sid=abc; Path=/; Secure; SameSite=None", passed=())
    assert find(seen) == ["cookie-refused"]
    assert find(set_cookies("__Host-sid=a; Path=/; Secure", "sid=b; Secure", passed=("sid=b; Secure",))) == [
        "cookie-refused",
        "cookie-insecure",
    ]


def test_a_cookie_at_two_paths():
    both = ("sid=a; Path=/proxy/port/8050", "sid=b; Path=/proxy/port/8050/app")
    assert find(set_cookies("sid=a; Path=/", "sid=b; Path=/app", passed=both)) == ["cookie-shadowed"]
    assert find(set_cookies("sid=a; Path=/", "sid=b; Path=/", passed=(both[0], both[0]))) == []


@pytest.mark.parametrize(
    "script",
    [
        'request.setRequestHeader("X-Forwarded-User", name)',
        "fetch('data', {headers: {'Content-Type': 'text/plain', 'Remote-User': name}})",
        'fetch("data",{method:"GET",headers:{"X-Real-IP":ip}})',
    ],
)
def test_fields_of_scripts_that_do_not_pass(script):
    assert find(observe(f"<script>{script}</script>")) == ["field-removed"]


def test_a_field_that_the_service_misses():
    for status in (400, 401, 403):
        response = Response(status, text="Missing header: X-WEBAUTH-USER")
        seen = Observation(TARGET, (Visit("page", "/", Evidence("/"), "/", f"{TARGET.prefix}/", response, response),))
        assert find(seen)[0] == "field-removed"


def test_fields_that_pass():
    script = (
        'fetch("data", {headers: {"X-Role": "x", "X-Requested-With": "y", Accept: "*/*"}}); r.setRequestHeader("X-CSRFToken", t)'
    )
    assert find(observe(f"<script>{script}</script>")) == []
