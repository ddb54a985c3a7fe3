"""Rules for the responses with the page: errors, redirects, refusals. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urljoin

from ...protocol.urls import is_below, is_loopback
from ..excerpts import locate, locate_field, locate_start, make_excerpt
from ..observation import Observation, Response, Visit
from .finding import Finding, host_of
from .logins import find_login, is_login_elsewhere, redirects_of
from .policies import find_missing_fields
from .urls import find_content_redirects

_REFUSED = (400, 403, 421, 422)
_MAX_TEXT = 20_000  # characters of an error page that are searched
# What checks of services write. "Blocked request." Vite; "Invalid Host header" webpack, Starlette, MLflow; "HTTP_HOST",
# "ALLOWED_HOSTS" Django; "Blocked hosts" Rails; "Host ... is not trusted" Werkzeug; "Invalid Hostname" ASP.NET.
_HOST = re.compile(
    r"blocked request\. this host|invalid host(?:name|[ _-]header)?\b|\bHTTP_HOST\b|ALLOWED_HOSTS|disallowed ?host"
    r"|blocked hosts?\b|<h1>Bad Request \(400\)</h1>"
    r"|\bhost\b[^.<\n]{0,60}(?:not (?:allowed|trusted|permitted|recognized|valid)|is invalid|disallowed|blocked|forbidden"
    r"|mismatch|rejected)"
    r"|(?:unknown|bad|wrong|unexpected|untrusted|unrecognized|forbidden|disallowed|not an allowed)\s+host\b|dns rebinding",
    re.IGNORECASE,
)
# "CSRF verification failed" Django; "InvalidAuthenticityToken" Rails; "'_xsrf' argument missing" Tornado and Jupyter.
_CSRF = re.compile(r"\b[cx]srf\b|_xsrf|InvalidAuthenticityToken|cross[- ]site request forgery", re.IGNORECASE)
# "Cross origin websockets not allowed" Tornado; "Disallowed CORS origin" Starlette; "Invalid CORS request" Spring; Grafana.
_ORIGIN = re.compile(
    r"cross[- ]origin|\borigin\b[^.<\n]{0,60}(?:not (?:allowed|trusted|permitted|match)|is invalid|disallowed|blocked|forbidden"
    r"|mismatch|rejected|does not match)"
    r"|(?:unknown|bad|wrong|invalid|unexpected|untrusted|forbidden|disallowed|cors)\s+(?:cors\s+)?origin\b"
    r"|invalid cors request|cross[- ]site",
    re.IGNORECASE,
)
_BROWSER = re.compile(
    r"\b(?:unsupported|supported|your|modern|web|another|real) browser\b|browsers? (?:only|is not supported|not supported)"
    r"|user[- ]agent"
    r"|only (?:for|to|from|by) (?:\w+ )?browsers?|javascript (?:is required|and cookies)|\bbots?\b|\bcurl\b",
    re.IGNORECASE,
)


def find_failing_page(seen: Observation) -> Iterator[Finding]:
    """The page fails, on localhost too. A service that does not answer at all is a problem of its report."""
    page, target = seen.page, seen.target
    response = page.direct if page.direct is not None else page.proxied
    if response is None or response.error or response.status < 400 or is_explained(seen) or (page.proxied or response).is_ok:
        return
    url, base = make_excerpt(page.file), _base_path_of(seen)
    where = ", on localhost too" if page.direct is not None else ""
    sentence = f"The service answers {response.status} for {url}{where}."
    if response.status != 404 or not base:
        is_mounted = response.status == 404 and not target.keeps_prefix
        remedies = (f"If it was started with this base path, open `{target.absolute_prefix}/`.",) if is_mounted else ()
        yield Finding("page-fails", sentence, locate_start(page.file, response.text), remedies)
        return
    kept = next((prefix for prefix in target.kept_prefixes if is_below(base, prefix)), "")
    place = f"{kept}/" if kept else f"{target.prefix}/{make_excerpt(base.strip('/'))}/"
    remedies = (f"Its command line has the base path `{make_excerpt(base)}`: open `{place}`.",)
    yield Finding("page-fails", sentence, locate_start(page.file, response.text), remedies, place if kept else None)


def find_differing_page(seen: Observation) -> Iterator[Finding]:
    """The page works on localhost and not through Jupyter, and no other rule says why."""
    page = seen.page
    if not page.is_broken or is_explained(seen):
        return
    assert page.direct is not None  # it is broken
    assert page.proxied is not None
    proxied = page.proxied
    status = proxied.error or proxied.status
    sentence = f"The page has the status {page.direct.status} on localhost and {status} through Jupyter."
    yield Finding("page-differs", sentence, locate_start(page.file, proxied.text))


def find_redirect_loop(seen: Observation) -> Iterator[Finding]:
    pages = seen.of_kind("page")
    if any(True for _ in find_forced_https(seen)):
        return
    for number, page in enumerate(pages):
        proxied = page.proxied
        earlier = [p.proxied_url for p in pages[:number]]
        again = proxied is not None and proxied.redirect_url and page.proxied_url in earlier
        if again or any(a is not None and a.error == "too_many_redirects" for a in (page.proxied, page.direct)):
            last = next((p for p in reversed(pages) if p.proxied is not None and p.proxied.field("location")), page)
            response = last.proxied or last.direct
            location = response.field("location") if response is not None else ""
            where = "" if _loops(page.direct) or _loops(page.proxied) is False else " through Jupyter"
            sentence = f"The page redirects in a circle{where}; the last one leads to {make_excerpt(location) or 'itself'}."
            yield Finding("redirect-loop", sentence, locate_field(last.file, "Location", location))
            return


def find_outside_redirects(seen: Observation) -> Iterator[Finding]:
    for page in seen.of_kind("page"):
        response = page.proxied
        if response is None:
            continue
        for name, written in redirects_of(response):
            if not is_login_elsewhere(seen, page, written) and (problem := _leads_outside(seen, page, written)):
                evidence = locate_field(page.file, name, response.field(name.lower()))
                yield Finding("redirect-outside-prefix", problem, evidence)
                return
    yield from find_content_redirects(seen)


def find_forced_https(seen: Observation) -> Iterator[Finding]:
    """A redirect to https of the service's own port, which speaks http."""
    for page in seen.of_kind("page"):
        location = page.proxied.redirect_url if page.proxied is not None else ""
        if _forces_https(seen, location):
            sentence = f"The service redirects to https ({make_excerpt(location)}), and its port speaks http."
            yield Finding("https-forced", sentence, locate_field(page.file, "Location", location))
            return


def find_refusals(seen: Observation) -> Iterator[Finding]:
    """A check of Host, Origin or a CSRF token."""
    for visit in seen.of_kind("page", "script", "style", "frame"):
        for response in filter(None, (visit.proxied, visit.direct)):
            check, match = _find_check(response)
            if not check:
                continue
            assert match is not None  # with a check
            where = " also on localhost" if visit.direct is not None and not visit.direct.is_ok else " only through Jupyter"
            url = make_excerpt(visit.file)
            sentence = f"The service's check of {check} refuses {url} with {response.status},{where}."
            yield Finding("request-refused", sentence, locate(visit.file, response.text, *match.span()))
            return
        direct, proxied = visit.direct, visit.proxied
        if direct is not None and direct.is_ok and proxied is not None and proxied.status in _REFUSED and not proxied.error:
            sentence = (
                f"The service answers {direct.status} on localhost and {proxied.status} through Jupyter: "
                "it checks Host, Origin or a forwarded field."
            )
            if visit.kind != "page" or _BROWSER.search(proxied.text[:_MAX_TEXT]) is None:
                yield Finding("request-refused", sentence, locate_start(visit.file, proxied.text))
                return


def find_browser_checks(seen: Observation) -> Iterator[Finding]:
    page = seen.page
    for response in filter(None, (page.proxied, page.direct)):
        match = _BROWSER.search(response.text[:_MAX_TEXT]) if response.status in (400, 403, 406, 418, 426) else None
        if match is not None and not _find_check(response)[0]:
            sentence = f"The service answers {response.status}, as it does not take the doctor for a browser."
            yield Finding("browsers-only", sentence, locate(page.file, response.text, *match.span()))
            return


# ---- helpers ----


def is_explained(seen: Observation) -> bool:
    """True if a more exact rule has the reason why the page fails."""
    rules = (find_redirect_loop, find_forced_https, find_refusals, find_browser_checks, find_login, find_missing_fields)
    return any(True for rule in rules for _ in rule(seen))


def _find_check(response: Response) -> tuple[str, re.Match[str] | None]:
    """Which check has refused a request, and where its text says so; empty if it is not known."""
    text = response.text[:_MAX_TEXT]
    if response.error or response.status not in (*_REFUSED, 200):
        return "", None
    if response.status == 200:  # older versions of webpack-dev-server
        match = re.fullmatch(r"\s*Invalid Host header\s*", text)
        return ("Host" if match else ""), match
    for check, pattern in (("CSRF tokens", _CSRF), ("Host", _HOST), ("Origin", _ORIGIN)):
        if match := pattern.search(text):
            return check, match
    return "", None


def _leads_outside(seen: Observation, page: Visit, written: str) -> str:
    """What is wrong with a redirect; empty for one that stays below the prefix."""
    target, origin = seen.target, seen.target.jupyter_origin
    url = urljoin(origin + page.proxied_url, written.strip())
    if url.startswith(f"{origin}/") or url == origin:
        path = url[len(origin) :] or "/"
        if target.has_below(path):
            return ""
        return f"The service redirects to {make_excerpt(path)} at the root of the server, out of its prefix."
    if _forces_https(seen, written):
        return ""  # a rule of its own
    if is_loopback(host_of(url)):
        return f"The service redirects to {make_excerpt(url)}, which is on the machine of the browser."
    return f"The service redirects to {make_excerpt(url)}, another server: what is there was not examined."


def _forces_https(seen: Observation, location: str) -> bool:
    match = re.match(r"https://(?P<authority>[^/?#]*)", location.strip(), re.IGNORECASE)
    if match is None or seen.target.scheme == "https":
        return False
    host, origin = host_of(location), seen.target.jupyter_origin
    return is_loopback(host) or (host == host_of(origin) and not location.strip().lower().startswith(f"{origin}/"))


def _loops(response: Response | None) -> bool:
    return response is not None and response.error == "too_many_redirects"


def _base_path_of(seen: Observation) -> str:
    """The base path that an option of the command line sets; empty if there is none."""
    command = " ".join(seen.target.command)
    match = re.search(
        r"--(?:(?:setting )?[\w.]*base[-_]?url(?:[-_]?path)?|base|(?:\w+[-_])?prefix|(?:root|serve|(?:web-)?base)-path)"
        r"[= ](/[^\s]+)",
        command,
        re.IGNORECASE,
    )
    return match[1] if match is not None else ""
