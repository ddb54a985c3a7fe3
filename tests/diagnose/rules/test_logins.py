from __future__ import annotations

from dataclasses import replace

import pytest

from jupyter_portproxy.diagnose.observation import Evidence, Observation, Response, Visit

from ..observations import TARGET, find, find_one

REMOTE = replace(TARGET, jupyter_origin="https://hub.example")


def look(response: Response, target=REMOTE) -> Observation:
    return Observation(target, (Visit("page", "/", Evidence("/"), "/", f"{target.prefix}/", response, response),))


def redirect(location: str, target=REMOTE) -> Observation:
    return look(Response(302, fields=(("Location", location),)), target)


def test_a_login_of_the_service_is_a_notice():
    response = Response(401, fields=(("WWW-Authenticate", 'Basic realm="x"'),))
    seen = look(response)
    assert find(seen) == ["login-required"]
    assert find_one(seen, "login-required").evidence.field == "WWW-Authenticate"


@pytest.mark.parametrize(
    "location",
    [
        "https://sso.example/realms/x/protocol/openid-connect/auth?client_id=a&response_type=code",
        "https://id.example.org/adfs/ls/?wtrealm=urn:a",
        "https://other.example/saml2/idp/SSO?SAMLRequest=fZJ",
        "https://github.com/login/oauth/authorize?client_id=a",
        "https://accounts.example.org/",
        "https://www.example.org/cas/login",
        "https://sso.example/auth?redirect_uri=https%3A%2F%2Fhub.example%2Fproxy%2Fport%2F8050%2Fcallback&client_id=a",
        "https://sso.example/auth?client_id=a&redirect_uri=https%3A%2F%2Fhub.example%2Fproxy%2Fabsolute%2Fport%2F8050%2Fcb",
        "https://hub.example/hub/api/oauth2/authorize?client_id=a&redirect_uri=/proxy/port/8050/oauth_callback",
        "/hub/api/oauth2/authorize?client_id=service-x",
        "https://sso.example/auth?redirect_uri=http://p8050.localhost:8888/cb",
    ],
)
def test_a_login_elsewhere_is_a_notice(location):
    seen = redirect(location)
    assert find(seen) == ["login-required"]
    finding = find_one(seen, "login-required")
    assert "not examined" in finding.sentence
    assert "https://hub.example/proxy/port/8050/" in finding.remedies[0]
    assert finding.evidence.field == "Location"


@pytest.mark.parametrize(
    ("location", "callback"),
    [
        ("https://sso.example/auth?client_id=a&redirect_uri=http%3A%2F%2Flocalhost%3A8050%2Fcallback", "localhost:8050/callback"),
        (
            "https://sso.example/auth?client_id=a&redirect_uri=https%3A%2F%2Fhub.example%2Fcallback",
            "https://hub.example/callback",
        ),
        ("https://sso.example/cas/login?service=http://localhost:8050/", "http://localhost:8050/"),
        ("/hub/api/oauth2/authorize?client_id=a&redirect_uri=/oauth_callback", "/oauth_callback"),
    ],
)
def test_a_callback_out_of_the_prefix(location, callback):
    seen = redirect(location)
    assert find(seen) == ["login-callback"]
    finding = find_one(seen, "login-callback")
    assert callback in finding.sentence
    assert "`https://hub.example/proxy/port/8050/`" in finding.remedies[0]


def test_a_refresh_leads_to_a_login_too():
    seen = look(Response(200, fields=(("Refresh", "0; url=https://sso.example/login"),)))
    assert find(seen) == ["login-required"]
    assert find_one(seen, "login-required").evidence.field == "Refresh"


@pytest.mark.parametrize(
    "location",
    [
        "/login?next=/",
        "/oauth/authorize?client_id=a",
        "https://other.example/",
        "http://localhost:8080/auth?client_id=a&redirect_uri=http://localhost:8050/",
        "https://hub.example/login",
    ],
)
def test_other_redirects_are_no_logins(location):
    assert find(redirect(location)) == ["redirect-outside-prefix"]
