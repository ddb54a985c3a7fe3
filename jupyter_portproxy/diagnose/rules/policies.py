"""Rules for what header fields permit: frames, Content-Security-Policy, cookies, and fields that do not pass. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...protocol.credentials import remove_cookies
from ...protocol.frame_ancestors import forbids_frame
from ...protocol.headers import find_identity_fields
from ...protocol.urls import is_loopback
from ..csp import Policy, find_blocking, parse_policies
from ..excerpts import locate, locate_field, make_excerpt
from ..observation import Evidence, Observation, Visit, VisitKind
from .finding import Finding, host_of, name_urls

_CSP_KINDS: tuple[VisitKind, ...] = (
    "script", "style", "image", "font", "manifest", "frame", "worker", "socket", "fetch", "form", "post",
)  # fmt: skip
# `setRequestHeader("X-Name", ...)`, and the names in `headers: {...}`.
_SET_FIELD = re.compile(r"""setRequestHeader\s*\(\s*["'`]([\w-]{1,64})["'`]""")
_HEADERS = re.compile(r"""\bheaders["']?\s*:\s*(?:new\s+Headers\s*\(\s*)?\{([^{}]{1,400})\}""")
_FIELD_NAME = re.compile(r"""["'`]?([A-Za-z][\w-]{1,63})["'`]?\s*:""")
_PATH = re.compile(r";\s*path\s*=\s*([^;]*)", re.IGNORECASE)
_DASHED = re.compile(r"\b[A-Za-z]+(?:[-_][A-Za-z]+)+\b")
_MAX_SOURCES = 500  # of all policies of a page; those behind are not examined
_MAX_TEXT = 4000  # characters of an error page that are searched


def find_forbidden_frames(seen: Observation) -> Iterator[Finding]:
    response, origin = seen.page.proxied, seen.target.jupyter_origin.lower()
    if response is None or not response.is_ok or not forbids_frame(list(response.fields), origin, {origin}):
        return
    for field in ("Content-Security-Policy", "X-Frame-Options"):
        for value in response.all_fields(field.lower()):
            if field == "X-Frame-Options" or "frame-ancestors" in value.lower():
                sentence = f"{field} forbids that the page is shown in a tab of JupyterLab."
                yield Finding("frame-forbidden", sentence, locate_field(seen.page.file, field, value))
                return


def find_blocked_by_csp(seen: Observation) -> Iterator[Finding]:
    """What the page's policy allows on localhost and not below the prefix."""
    page, target = seen.page, seen.target
    response = page.proxied
    if response is None:
        return
    sources = [(v, locate_field(page.file, "Content-Security-Policy", v)) for v in response.all_fields("content-security-policy")]
    document = response.document
    metas = document.metas if document is not None else ()
    sources += [(meta.value, meta.evidence) for meta in metas if meta.name == "content-security-policy"]
    left = _MAX_SOURCES
    for value, evidence in sources:
        policies = parse_policies([value])
        left -= sum(map(len, (names for policy in policies for names in policy.values())))
        if left < 0:
            return
        blocked = [(v, name) for v in seen.of_kind(*_CSP_KINDS) for policy in policies if (name := _blocks(seen, policy, v))]
        if blocked:
            visits = [visit for visit, _ in blocked]
            sentence = (
                f"The page's Content-Security-Policy ({blocked[0][1]}) blocks {name_urls(visits)} "
                "below the prefix, and not on localhost."
            )
            yield Finding("csp-blocks", sentence, evidence)
            return
        upgrades = any("upgrade-insecure-requests" in policy for policy in policies)
        if upgrades and not target.is_secure and not is_loopback(host_of(target.jupyter_origin)):
            sentence = (
                "The page's Content-Security-Policy (upgrade-insecure-requests) loads its parts by https; Jupyter is at http."
            )
            yield Finding("csp-blocks", sentence, evidence)
            return


def _blocks(seen: Observation, policy: Policy, visit: Visit) -> str:
    """The directive that blocks a visit below the prefix, and not on localhost; empty if there is none."""
    target = seen.target
    if target.port is None or not visit.proxied_url or not visit.direct_url:
        return ""
    proxied = _absolute(target.jupyter_origin, visit.proxied_url, visit.kind)
    directive = find_blocking(policy, visit.kind, proxied, target.jupyter_origin)
    origins = [f"{target.scheme}://{host}:{target.port}" for host in ("localhost", "127.0.0.1")]
    allowed = any(not find_blocking(policy, visit.kind, _absolute(o, visit.direct_url, visit.kind), o) for o in origins)
    return directive if allowed else ""


def _absolute(origin: str, url: str, kind: str) -> str:
    if not url.startswith("/"):
        return url
    return re.sub("^http", "ws", origin) + url if kind == "socket" else origin + url


def find_refused_cookies(seen: Observation) -> Iterator[Finding]:
    """Cookies that the gateway drops: their names are Jupyter's, or require Path=/."""
    for visit in seen.pages:
        for value in visit.direct.all_fields("set-cookie") if visit.direct is not None else []:
            if why := _why_dropped(seen, visit, _name_of(value)):
                name = make_excerpt(_name_of(value))
                sentence = f"The cookie {name} does not pass: it {why}. Logins and forms that need it fail."
                yield Finding("cookie-refused", sentence, locate_field(visit.file, "Set-Cookie", value))
                return


def _why_dropped(seen: Observation, visit: Visit, name: str) -> str:
    """Why the gateway drops a cookie of that name; empty if it passes."""
    if visit.proxied is None or visit.proxied.error or name in map(_name_of, visit.proxied.all_fields("set-cookie")):
        return ""
    if name.lower().startswith("__host-"):
        return "requires Path=/, which is Jupyter's"
    is_jupyters = remove_cookies(f"{name}=x", (), "", isolated=False) is None
    return "is a name of Jupyter's own cookies" if is_jupyters and not (name == "_xsrf" and _needs_no_xsrf(seen)) else ""


def find_insecure_cookies(seen: Observation) -> Iterator[Finding]:
    """Cookies that a browser refuses, or keeps on some machines alone."""
    is_local = is_loopback(host_of(seen.target.jupyter_origin))
    for visit in seen.pages:
        for value in visit.direct.all_fields("set-cookie") if visit.direct is not None else []:
            attributes = {
                part.partition("=")[0].strip().lower(): part.partition("=")[2].strip().lower() for part in value.split(";")[1:]
            }
            name = make_excerpt(_name_of(value))
            if attributes.get("samesite") == "none" and "secure" not in attributes:
                why = "has SameSite=None without Secure: browsers refuse it"
            elif not seen.target.is_secure and ("secure" in attributes or _name_of(value).lower().startswith("__secure-")):
                only = "Safari does not send it to http" if is_local else "browsers do not keep it"
                why = f"is Secure, and Jupyter is at http: {only}"
            else:
                continue
            if _why_dropped(seen, visit, _name_of(value)):
                continue  # the browser does not get it
            yield Finding("cookie-insecure", f"The cookie {name} {why}.", locate_field(visit.file, "Set-Cookie", value))
            return


def find_shadowed_cookies(seen: Observation) -> Iterator[Finding]:
    """Two cookies of one name at different paths: services get both, and read the wrong one."""
    paths: dict[str, set[str]] = {}
    for visit in seen.pages:
        if visit.direct is None or visit.proxied is None:
            continue
        own = {_name_of(value) for value in visit.direct.all_fields("set-cookie")}
        for value in visit.proxied.all_fields("set-cookie"):
            name = _name_of(value)
            if name not in own:
                continue
            match = _PATH.search(value)
            paths.setdefault(name, set()).add(match[1].strip().rstrip("/") if match is not None else "")
            if len(paths[name]) > 1:
                sentence = f"The cookie {make_excerpt(name)} is set at more than one path: the service gets both values."
                yield Finding("cookie-shadowed", sentence, locate_field(visit.file, "Set-Cookie", value))
                return


def find_removed_fields(seen: Observation) -> Iterator[Finding]:
    """Request fields that do not pass, as they would identify the user: those that scripts send, or that the service requires."""
    for code in seen.codes:
        for match in code.find(_SET_FIELD):
            if find_identity_fields([(match[1], "")]):
                yield _removed(match[1], "a script sends it", locate(code.file, code.text, *match.span(1)))
                return
        for headers in code.find(_HEADERS):
            for name in _FIELD_NAME.finditer(headers[1]):
                if find_identity_fields([(name[1], "")]):
                    start = headers.start(1) + name.start(1)
                    yield _removed(name[1], "a script sends it", locate(code.file, code.text, start, start + len(name[1])))
                    return
    yield from find_missing_fields(seen)


def find_missing_fields(seen: Observation) -> Iterator[Finding]:
    """A field that does not pass, in the text with which the service refuses the page."""
    for visit in seen.of_kind("page", "frame"):
        for response in filter(None, (visit.proxied, visit.direct)):
            if response.status not in (400, 401, 403, 407, 500):
                continue
            for match in _DASHED.finditer(response.text[:_MAX_TEXT]):
                if find_identity_fields([(match[0], "")]):
                    why = f"the service requires it ({response.status})"
                    yield _removed(match[0], why, locate(visit.file, response.text, *match.span()))
                    return


def _removed(name: str, why: str, evidence: Evidence) -> Finding:
    sentence = (
        f"The request field {make_excerpt(name)} does not pass to the service, as only this server may identify the user; {why}."
    )
    return Finding("field-removed", sentence, evidence)


def _needs_no_xsrf(seen: Observation) -> bool:
    """Jupyter's own applications set the cookie, and work without it if they do not check it."""
    target = seen.target
    return (
        target.template in ("jupyter", "voila")
        or "voila" in target.process
        or any("disable_check_xsrf" in a for a in target.command)
    )


def _name_of(cookie: str) -> str:
    return cookie.partition(";")[0].partition("=")[0].strip()
