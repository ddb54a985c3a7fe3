"""Rules for logins of the service: its own, and those at another server (OAuth, OpenID Connect, SAML, CAS). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl, urljoin, urlsplit

from ...protocol.url_fields import parse_refresh
from ...protocol.urls import is_loopback
from ..excerpts import locate_field, locate_start, make_excerpt
from ..observation import Evidence, Observation, Response, Visit
from .finding import Finding, host_of

_MAX_URL = 8000  # characters
# What a request to a login has in its query: OAuth 2.0 (RFC 6749 4.1.1), SAML 2.0 bindings 3.4, WS-Federation, OpenID 2.0.
_PARAMETERS = frozenset({"client_id", "redirect_uri", "response_type", "samlrequest", "wtrealm", "openid.mode"})
# Parameters with the URL to which the login leads back. `service` is CAS'; `rd` and `rurl` are of proxies that log in.
_CALLBACKS = ("redirect_uri", "redirect_url", "service", "wreply", "openid.return_to", "returnto", "return_to", "rd", "rurl")
_NAMES = re.compile(
    r"//(?:login|signin|sso|auth|accounts?|idp|id|oauth|cas|keycloak)\.|/(?:log-?in|sign-?in|sso|saml2?|cas|oauth2?|oidc|authorize"
    r"|openid-connect)(?:[/?#]|\Z)",
    re.IGNORECASE,
)
_HUB = "/hub/api/oauth2/authorize"


@dataclass(frozen=True, slots=True)
class LoginRedirect:
    """A redirect to a login at another server, or at JupyterHub.

    Attributes:
        url: of the login.
        callback: the URL to which it leads back, as far as `url` has that; empty otherwise.
        evidence: the field.
    """

    url: str
    callback: str
    evidence: Evidence


def find_login(seen: Observation) -> Iterator[Finding]:
    response = seen.page.direct or seen.page.proxied
    if response is not None and response.status == 401 and not response.error:
        challenge = response.field("www-authenticate")
        file = seen.page.file
        evidence = locate_field(file, "WWW-Authenticate", challenge) if challenge else locate_start(file, response.text)
        yield Finding("login-required", "The service has a login of its own (401): what is behind it was not examined.", evidence)
    redirect = find_login_redirect(seen)
    if redirect is not None and not _is_callback_outside(seen, redirect):
        sentence = f"The service has its login at {host_of(redirect.url)}: what is behind it was not examined."
        remedy = "The login leads back to its callback URL (redirect URI): that must lie below `{jupyter_origin}{prefix}/`."
        yield Finding("login-required", sentence, redirect.evidence, (remedy,))


def find_login_callback(seen: Observation) -> Iterator[Finding]:
    """A login elsewhere that leads back to a URL at which the browser does not reach the service."""
    redirect = find_login_redirect(seen)
    if redirect is not None and _is_callback_outside(seen, redirect):
        sentence = (
            f"The service has its login at {host_of(redirect.url)}, which leads back to {make_excerpt(redirect.callback)}, "
            "not below the service's prefix."
        )
        yield Finding("login-callback", sentence, redirect.evidence)


def find_login_redirect(seen: Observation) -> LoginRedirect | None:
    """The redirect of a page to a login elsewhere; None without one."""
    for page in seen.of_kind("page"):
        for name, written in redirects_of(page.proxied) if page.proxied is not None else []:
            if is_login_elsewhere(seen, page, written):
                url = urljoin(seen.target.jupyter_origin + page.proxied_url, written.strip())
                evidence = locate_field(page.file, name, page.proxied.field(name.lower()) if page.proxied else "")
                return LoginRedirect(url, _callback_of(url), evidence)
    return None


def redirects_of(response: Response) -> list[tuple[str, str]]:
    """Names of fields that lead to another page, and the URLs in them."""
    found = [("Location", response.redirect_url), ("Refresh", parse_refresh(response.field("refresh"))[1])]
    return [(name, url) for name, url in found if url]


def is_login_elsewhere(seen: Observation, page: Visit, written: str) -> bool:
    """True for the URL of a login that the browser reaches: at another server than this machine, or at JupyterHub."""
    url = urljoin(seen.target.jupyter_origin + page.proxied_url, written.strip())[:_MAX_URL]
    if url.startswith(f"{seen.target.jupyter_origin}/"):
        return urlsplit(url).path == _HUB
    host = host_of(url)
    return (
        bool(host) and not is_loopback(host) and (not _PARAMETERS.isdisjoint(_parameters(url)) or _NAMES.search(url) is not None)
    )


def _parameters(url: str) -> dict[str, str]:
    try:
        return {name.lower(): value for name, value in parse_qsl(urlsplit(url).query, max_num_fields=100)}
    except ValueError:  # more of them, or no URL
        return {}


def _callback_of(url: str) -> str:
    parameters = _parameters(url)
    return next((parameters[name] for name in _CALLBACKS if name in parameters and "/" in parameters[name]), "")


def _is_callback_outside(seen: Observation, redirect: LoginRedirect) -> bool:
    """True for a callback at which the browser does not reach the service."""
    target = seen.target
    if not redirect.callback:
        return False
    url = urljoin(redirect.url, redirect.callback)
    if not url.startswith(f"{target.jupyter_origin}/"):
        return target.isolated_url is None or host_of(url) != host_of(target.isolated_url)
    path = urlsplit(url).path
    return not target.has_below(path)
