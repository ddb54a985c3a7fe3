"""The rules of the page doctor. Pure. A new rule is one function in a module beside this one, and an entry of `RULES`.

Its title and remedies are also a row of docs/troubleshooting.md, which `python docs/reference.py` writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from ..frameworks import Framework, recognize
from ..observation import Observation
from . import logins, policies, responses, urls
from .finding import ISOLATED, PREFIX_REMEDIES, RELATIVE, SEVERITIES, Finding, Rule, fill_in

__all__ = ["RULES", "SEVERITIES", "Finding", "Rule", "find_all"]

_HOSTS = (
    "Let the service accept `localhost` as its host and `http://localhost:{port}` as its origin: that is what it gets.",
    "If it must get the browser's own Host and Origin, set *Keep the browser's Host* in the rule of port {port}, or "
    "`c.PortProxy.keep_host`; the service must then accept `{jupyter_host}`.",
)
_NEW_TAB = "Open it in a browser tab, not in a tab of JupyterLab."
_BLANK, _LOGIN, _SOCKET = "the-page-is-blank-or-unstyled", "a-login-or-a-form-is-refused", "a-websocket-fails"
_LEAVES, _FAILS, _FRAME = "a-redirect-leaves-the-service", "a-port-does-not-open", "not_framed"

# Of one severity, the first is the one that explains most: the page itself comes before its parts.
RULES: tuple[Rule, ...] = (
    Rule(
        "redirect-loop",
        "error",
        "The page redirects in a circle",
        _LEAVES,
        responses.find_redirect_loop,
        "prefix",
        ("Turn off redirects of the service to another host name, to https, or to a path without its slash.", ISOLATED),
    ),
    Rule(
        "https-forced",
        "error",
        "The service redirects to https, which its port does not speak",
        _LOGIN,
        responses.find_forced_https,
        "https",
        ("Turn off the redirect to https of the service: Jupyter encrypts what leaves the machine.",),
    ),
    Rule(
        "request-refused",
        "error",
        "A check of Host, Origin or CSRF tokens refuses the page",
        _LOGIN,
        responses.find_refusals,
        "origin",
        _HOSTS,
    ),
    Rule(
        "browsers-only",
        "error",
        "The service answers only to browsers",
        _FAILS,
        responses.find_browser_checks,
        "browsers",
        ("Turn off the service's check of `User-Agent`, or open the page in a browser.",),
    ),
    Rule(
        "redirect-outside-prefix",
        "error",
        "A redirect leaves the prefix",
        _LEAVES,
        responses.find_outside_redirects,
        "prefix",
        (ISOLATED, "Let the service redirect below its base path, or relative to the page."),
    ),
    Rule(
        "login-callback",
        "error",
        "A login elsewhere leads back out of the prefix",
        _LOGIN,
        logins.find_login_callback,
        "prefix",
        (
            "Set the callback URL (redirect URI) below `{jupyter_origin}{prefix}/`, in the service and at its login.",
            "Start the service without its login, if Jupyter's is enough.",
        ),
    ),
    Rule(
        "page-fails",
        "error",
        "The page fails on localhost, too",
        _FAILS,
        responses.find_failing_page,
        "",
        (
            "Read the service's log: the cause is not the proxy.",
            "Name the path of a page that it has, in a terminal by `--path`.",
        ),
    ),
    Rule(
        "page-differs",
        "error",
        "The page works on localhost only",
        _FAILS,
        responses.find_differing_page,
        "prefix",
        PREFIX_REMEDIES,
    ),
    Rule(
        "base-href",
        "error",
        "`<base href>` leaves the prefix",
        _BLANK,
        urls.find_base_href,
        "prefix",
        ('Remove the `<base>`, or let it be the folder of the page: `<base href="./">`.', *PREFIX_REMEDIES[:2]),
    ),
    Rule(
        "csp-blocks",
        "error",
        "Content-Security-Policy blocks parts of the page",
        _BLANK,
        policies.find_blocked_by_csp,
        "",
        ("Write `'self'` in the policy in place of the service's own address or path.", ISOLATED),
    ),
    Rule(
        "mixed-content",
        "error",
        "Parts without encryption in an https page",
        _BLANK,
        urls.find_mixed_content,
        "scheme",
        ("Write URLs without scheme and host, and choose `wss:` where `location.protocol` is `https:`.",),
    ),
    Rule(
        "localhost-url",
        "error",
        "Absolute URLs with localhost",
        _BLANK,
        urls.find_localhost,
        "prefix",
        (
            "Write URLs without scheme and host, relative to the page.",
            "If the service makes them from Host, set *Keep the browser's Host* in the rule of port {port}.",
            "For another port of this machine use `../PORT/`, relative to `{prefix}/`.",
        ),
    ),
    Rule(
        "trailing-slash",
        "error",
        "Relative URLs of a page without a slash at its end",
        _BLANK,
        urls.find_trailing_slash,
        "",
        ("Let the service redirect to the URL with the slash.",),
    ),
    Rule(
        "root-websocket",
        "error",
        "A WebSocket at the root",
        _SOCKET,
        urls.find_root_sockets,
        "prefix",
        (
            ISOLATED,
            'If the code is yours: `new URL("ws", document.baseURI)`, with `ws` in place of `http`, is a URL below the prefix.',
            PREFIX_REMEDIES[1],
        ),
    ),
    Rule("websocket-refused", "error", "A WebSocket is refused", _SOCKET, urls.find_refused_sockets, "origin", _HOSTS),
    Rule(
        "root-relative-url",
        "error",
        "URLs at the root that do not reach the service",
        _BLANK,
        urls.find_root_relative,
        "prefix",
        PREFIX_REMEDIES,
    ),
    Rule(
        "service-worker-scope",
        "error",
        "A service worker out of its scope",
        _BLANK,
        urls.find_worker_scope,
        "prefix",
        (ISOLATED, 'Register it relative to the page, without a `scope` above it: `register("sw.js")`.'),
    ),
    Rule(
        "cookie-refused",
        "error",
        "A cookie does not pass",
        _LOGIN,
        policies.find_refused_cookies,
        "cookies",
        (ISOLATED, "Give the cookie another name."),
    ),
    Rule(
        "part-fails",
        "error",
        "Parts of the page fail below the prefix",
        _BLANK,
        urls.find_failing_parts,
        "prefix",
        PREFIX_REMEDIES,
    ),
    Rule(
        "frame-forbidden",
        "warning",
        "A tab of JupyterLab may not show the page",
        _FRAME,
        policies.find_forbidden_frames,
        "frames",
        (_NEW_TAB, "Let the service send `Content-Security-Policy: frame-ancestors 'self'`, without X-Frame-Options."),
    ),
    Rule(
        "cookie-insecure",
        "warning",
        "A cookie that browsers refuse",
        _LOGIN,
        policies.find_insecure_cookies,
        "cookies",
        ("Let the service set it with `SameSite=Lax`, and with `Secure` only where Jupyter is at https.",),
    ),
    Rule(
        "cookie-shadowed",
        "warning",
        "One cookie at two paths",
        _LOGIN,
        policies.find_shadowed_cookies,
        "cookies",
        ("Let the service set it at one path.", ISOLATED),
    ),
    Rule(
        "field-removed",
        "warning",
        "Request fields that do not pass",
        _LOGIN,
        policies.find_removed_fields,
        "",
        (
            "Send the value under another name, such as `X-App-User`, or in the URL.",
            "Let the service log in its users itself, or run without a login: Jupyter's login stands before it.",
        ),
    ),
    Rule(
        "root-relative-url-redirected",
        "notice",
        "URLs at the root that are redirected",
        _BLANK,
        urls.find_redirected,
        "prefix",
        (RELATIVE, *PREFIX_REMEDIES[:2]),
    ),
    Rule(
        "login-required",
        "notice",
        "The service has a login",
        _LOGIN,
        logins.find_login,
        "",
        ("Log in in the browser. To examine what is behind it, start the service without it: Jupyter's is there already.",),
    ),
)


def find_all(seen: Observation, rules: Iterable[Rule] = RULES) -> list[tuple[Rule, Finding]]:
    """The findings of all rules, the worst first; of one severity in the order of the rules."""
    framework = recognize(seen)
    if framework is not None and framework.harmless:
        harmless = re.compile(framework.harmless)
        seen = Observation(seen.target, tuple(visit for visit in seen.pages if not harmless.match(visit.url)))
    ordered = sorted(rules, key=lambda rule: SEVERITIES.index(rule.severity))
    return [(rule, _complete(finding, rule, framework, seen)) for rule in ordered for finding in rule.find(seen)]


def _complete(finding: Finding, rule: Rule, framework: Framework | None, seen: Observation) -> Finding:
    """The finding with all remedies, and with the link to the isolated origin if that is one of them."""
    special = framework.remedies.get(rule.topic, ()) if framework is not None else ()
    remedies = fill_in((*finding.remedies, *special, *rule.remedies), seen.target)
    isolated = seen.target.isolated_url if ISOLATED in rule.remedies else None
    return replace(finding, remedies=remedies, link=finding.link or isolated)
