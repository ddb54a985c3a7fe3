from __future__ import annotations

from dataclasses import replace

import pytest

from jupyter_portproxy.diagnose.observation import Evidence, Observation, Response, Visit

from ..observations import TARGET, find, find_one, observe

ABSOLUTE = replace(TARGET, prefix=TARGET.absolute_prefix, keeps_prefix=True)


def page(direct: Response | None, proxied: Response | None, path: str = "/", url: str = "") -> Visit:
    return Visit("page", path, Evidence(path), path, url or TARGET.prefix + path, direct, proxied)


def look(direct: Response, proxied: Response, target=TARGET) -> Observation:
    return Observation(target, (page(direct, proxied),))


def redirect(location: str, status: int = 302) -> Response:
    return Response(status, fields=(("Location", location),))


@pytest.mark.parametrize(
    "text",
    [
        'Blocked request. This host ("hub.example") is not allowed.',
        "Invalid Host header",
        "Invalid host header",
        "Invalid Host header - possible DNS rebinding attack detected",
        "Invalid HTTP_HOST header: 'x'. You may need to add 'x' to ALLOWED_HOSTS.",
        "<h1>Blocked hosts: localhost:8050</h1>",
        "<h1>Bad Request (400)</h1><p></p>",
        "Host 'localhost' is not trusted.",
        "<h2>Bad Request - Invalid Hostname</h2>",
        "this host name is not allowed here",
        "unknown host",
        "Forbidden host",
    ],
)
def test_a_check_of_the_host(text):
    for status in (400, 403):
        seen = look(Response(status, text=text), Response(status, text=text))
        assert find(seen) == ["request-refused"]
        assert "check of Host" in find_one(seen, "request-refused").sentence


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("CSRF verification failed. Request aborted.", "CSRF tokens"),
        ("'_xsrf' argument missing from GET", "CSRF tokens"),
        ("ActionController::InvalidAuthenticityToken", "CSRF tokens"),
        ("Disallowed CORS origin", "Origin"),
        ("Invalid CORS request", "Origin"),
        ("Cross-origin request blocked", "Origin"),
        ("Origin http://x does not match", "Origin"),
    ],
)
def test_checks_of_origins_and_tokens(text, check):
    seen = look(Response(200), Response(403, text=text))
    assert find(seen) == ["request-refused"]
    assert f"check of {check}" in find_one(seen, "request-refused").sentence


def test_a_refusal_only_through_jupyter_is_a_check_though_it_says_nothing():
    assert find(look(Response(200), Response(403, text="no"))) == ["request-refused"]
    assert find(look(Response(200), Response(404, text="no"))) == ["page-differs"]


def test_an_old_webpack_refuses_with_200():
    assert find(look(Response(200, text="Invalid Host header"), Response(200, text="Invalid Host header\n"))) == [
        "request-refused"
    ]
    assert find(look(Response(200), Response(200, text="<p>An Invalid Host header is a fault of a client.</p>"))) == []


@pytest.mark.parametrize(
    "text", ["Your browser is not supported.", "Only for browsers", "Unknown User-Agent", "Please use a modern browser"]
)
def test_a_service_for_browsers_only(text):
    seen = look(Response(403, text=text), Response(403, text=text))
    assert find(seen) == ["browsers-only"]


def test_redirects_out_of_the_prefix():
    for location in (
        "/login",
        "http://localhost:8888/login?next=/",
        "http://localhost:9000/x",
        "http://other.example/",
        "//other.example/x",
    ):
        seen = Observation(ABSOLUTE, (page(redirect(location), redirect(location), url=f"{ABSOLUTE.prefix}/"),))
        assert find(seen) == ["redirect-outside-prefix"], location
        assert find_one(seen, "redirect-outside-prefix").evidence.field == "Location"


def test_redirects_below_the_prefix():
    for location in ("x/", f"{TARGET.prefix}/app/", "?x", f"http://localhost:8888{TARGET.prefix}/x"):
        seen = Observation(TARGET, (page(redirect(location), redirect(location)), page(Response(200), Response(200), "/app/")))
        assert find(seen) == []


def test_the_field_refresh():
    response = Response(200, fields=(("Refresh", "0; url=/login"),))
    finding = find_one(look(response, response, ABSOLUTE), "redirect-outside-prefix")
    assert (finding.evidence.field, finding.evidence.excerpt) == ("Refresh", "0; url=/login")


def test_a_redirect_to_https():
    for location in ("https://localhost:8050/", "https://127.0.0.1/x", "https://localhost/"):
        assert find(look(redirect(location, 301), redirect(location, 301))) == ["https-forced"]


def test_a_circle_of_redirects():
    looping = replace(redirect(f"{TARGET.prefix}/"), error="too_many_redirects")
    assert find(look(looping, looping)) == ["redirect-loop"]
    assert find(look(Response(200), looping)) == ["redirect-loop"]
    there, back = redirect(f"{TARGET.prefix}/a"), redirect(f"{TARGET.prefix}/")
    circle = [page(there, there), page(back, back, "/a"), page(there, there)]
    assert find(Observation(TARGET, tuple(circle))) == ["redirect-loop"]


@pytest.mark.parametrize("status", [404, 410, 500, 503])
def test_a_page_that_fails_on_localhost_too(status):
    seen = look(Response(status), Response(status))
    assert find(seen) == ["page-fails"]
    finding = find_one(seen, "page-fails")
    assert f"{status} for /, on localhost too" in finding.sentence
    assert ("base path" in finding.remedies[0]) is (status == 404)


@pytest.mark.parametrize("response", [Response(0, error="timeout"), Response(200, error="not_decodable")])
def test_a_service_that_does_not_answer_is_no_finding(response):
    assert find(look(response, response)) == []  # the report has that as a problem


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--base-url /proxy/absolute/port/8050", "open `/proxy/absolute/port/8050/`"),
        ("--base-url /proxy/absolute/8050/", "open `/proxy/absolute/8050/`"),
        ("--url_prefix=/proxy/absolute/8050", "open `/proxy/absolute/8050/`"),
        ("--setting base_url /port/8050/", "open `/port/8050/`"),
        ("--serve-path /app/", "`/proxy/port/8050/app/`"),
        ("--web-base-path /app", "`/proxy/port/8050/app/`"),
        ("--server.baseUrlPath=/app", "`/proxy/port/8050/app/`"),
        ("--prefix /app", "`/proxy/port/8050/app/`"),
        ("--ServerApp.base_url=/app/", "`/proxy/port/8050/app/`"),
    ],
)
def test_a_service_at_another_path(option, words):
    target = replace(TARGET, command=("app", *option.split()))
    seen = look(Response(404), Response(404), target)
    assert find(seen) == ["page-fails"]
    assert words in find_one(seen, "page-fails").remedies[0]
    assert find(look(Response(200), Response(200), target)) == []


def test_pages_that_work_are_no_finding():
    assert find(observe("<p>Our host is blocked, the CSRF token is invalid, use a modern browser.</p>")) == []
