"""The gateway's errors in the form that the request accepts."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from jupyter_portproxy.errors import Forbidden, NotEnteredFrame, NotFramed, NotTheHub, ServiceStarting, Unreachable
from jupyter_portproxy.handlers.error_page import render


def rendered(error, accept, method="GET"):
    headers = HTTPHeaders({"Host": "a", "Accept": accept})
    request = HTTPServerRequest(start_line=RequestStartLine(method, "/", "HTTP/1.1"), headers=headers)
    fields, body = render(error, request, "'self' https://portal.example")
    return dict(fields), body.decode()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/html,*/*", "text/html"),
        ("application/json, text/html", "text/html"),
        ("application/json", "application/json"),
        ("*/*", "text/plain"),
    ],
)
def test_the_form_is_the_one_that_is_accepted(accept, kind):
    fields, body = rendered(Forbidden("Not <here>.", "Go away."), accept)
    assert fields["Content-Type"] == f"{kind}; charset=utf-8"
    assert fields["X-Portproxy-Error"] == "forbidden"
    assert fields["Cache-Control"] == "no-store" and fields["X-Content-Type-Options"] == "nosniff"
    assert fields["Content-Security-Policy"].endswith("; frame-ancestors 'self' https://portal.example")
    if kind == "application/json":
        assert json.loads(body) == {"code": "forbidden", "message": "Not <here>.", "hint": "Go away."}
    elif kind == "text/html":
        assert "Not &lt;here&gt;." in body
    else:
        assert body == "Not <here>.\nGo away.\n"


def test_a_page_that_may_help_later_reloads_unless_it_would_post_again():
    error = ServiceStarting("app", [])
    fields, body = rendered(error, "text/html")
    assert fields["Retry-After"] == str(error.retry_after) and 'http-equiv="refresh"' in body
    assert 'http-equiv="refresh"' not in rendered(error, "text/html", "POST")[1]


def test_the_script_that_loads_a_page_again_is_the_only_one_that_runs():
    fields, body = rendered(Unreachable.port(15000), "text/html")
    script = body.partition('<script data-pause="2">')[2].partition("</script>")[0]
    source = b64encode(sha256(script.encode()).digest()).decode()
    assert script and f"; script-src 'sha256-{source}'; frame-ancestors" in fields["Content-Security-Policy"]
    assert "<script" not in rendered(Unreachable.port(15000), "text/html", "POST")[1]


def test_a_page_for_a_frame_runs_one_script():
    for error, message in ((NotFramed(), "portproxyNotFramed"), (NotEnteredFrame(), "portproxyNotEntered")):
        fields, page = rendered(error, "text/html")
        script = page.partition("<script>")[2].partition("</script>")[0]
        digest = b64encode(sha256(script.encode()).digest()).decode()
        assert message in script
        assert f"script-src 'sha256-{digest}'" in fields["Content-Security-Policy"]
    assert "script-src" not in rendered(Forbidden("No.", "No."), "text/html")[0]["Content-Security-Policy"]


def test_the_refusal_of_a_hubs_credential_has_its_field():
    assert rendered(NotTheHub(), "*/*")[0]["X-Portproxy-Refusal"] == "credential"
