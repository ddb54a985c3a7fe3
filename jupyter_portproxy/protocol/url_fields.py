"""The header fields that hold URLs: which ones, in which direction, and in what form.

A form finds the URLs of a value, passes each to a function of the caller, and puts the result in its place; all other bytes stay.
Every form takes one pass, in time linear in the length of the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

UrlChange = Callable[[str], str]  # a URL or relative reference -> its replacement
UrlForm = Callable[[str, UrlChange], str]

REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})  # browsers follow their Location (RFC 9110, 15.4)

_QUOTED = r'"(?:\\.|[^"])*"?'
# HTML, "shared declarative refresh steps": `5; url='...'`, also with a comma, without `url=`, without quotes.
_REFRESH = re.compile(r"""(\s*[0-9.]+(?:\s*[;,]\s*|\s+)(?:url\s*=\s*)?(["']?))(.*)""", re.IGNORECASE | re.DOTALL)

_DIGITS = re.compile(r"\s*([0-9]*)")


def _replace_urls(pattern: re.Pattern[str], value: str, change: UrlChange) -> str:
    """The value with the last group of each match replaced; a match without groups stays. Repeated URLs are computed once."""
    known: dict[str, str] = {}

    def in_place(match: re.Match[str]) -> str:
        group = match.lastgroup
        if group is None:
            return match[0]
        whole, url = match[0], match[group]
        changed = known.get(url)
        if changed is None:
            changed = known[url] = change(url)
        if changed == url:
            return whole
        start = match.start(group) - match.start()
        return whole[:start] + changed + whole[start + len(url) :]

    return pattern.sub(in_place, value)


def _whole(value: str, change: UrlChange) -> str:
    return change(value)


def _refresh(value: str, change: UrlChange) -> str:
    match = _REFRESH.fullmatch(value)
    if match is None:
        return value
    start, quote, url = match.groups()
    url, end, rest = url.partition(quote) if quote else (url, "", "")
    return f"{start}{change(url)}{end}{rest}"


def parse_refresh(value: str) -> tuple[float, str]:
    """Seconds and URL of a Refresh; without a URL if the page reloads itself, or the value is invalid."""
    match = _REFRESH.fullmatch(value)
    if match is None:
        return 0, ""
    start, quote, url = match.groups()
    whole = _DIGITS.match(start)
    return float(whole[1] or 0) if whole is not None else 0, (url.partition(quote)[0] if quote else url).strip()


# RFC 8288 3: `<url>; anchor="url"; title="<no url>"`.
_link = partial(
    _replace_urls,
    re.compile(rf'<(?P<target>[^<>]*)>|\banchor\s*=\s*"(?P<anchor>[^"]*)"|{_QUOTED}', re.IGNORECASE | re.DOTALL),
)
# RFC 4918 10.4: `<url> (<state token> ["entity tag"])`: URLs in parentheses are not locations.
_tagged_lists = partial(_replace_urls, re.compile(r'\((?:"[^"]*"?|[^)"])*\)?|<(?P<tag>[^<>]*)>'))
_strings = partial(_replace_urls, re.compile(r'"(?P<url>[^"\\]*)"'))  # a list of strings (RFC 9651 3.1)
_words = partial(_replace_urls, re.compile(r"(?P<url>[^\s;]+)"))
_path_member = partial(_replace_urls, re.compile(r'("path"\s*:\s*")(?P<url>[^"\\]*)(?=")'))


def _path_or_object(value: str, change: UrlChange) -> str:
    """A URL, or a JSON object that has it as `path`."""
    return _path_member(value, change) if value.startswith("{") else change(value)


# Normalized field name -> how its value holds URLs. Of a response:
RESPONSE_URL_FIELDS: Mapping[str, UrlForm] = {
    "location": _whole,
    "content-location": _whole,
    "uri": _link,  # RFC 2068 19.6.2.5
    "refresh": _refresh,
    "link": _link,
    "sourcemap": _whole,  # ECMA-426
    "x-sourcemap": _whole,
    "speculation-rules": _strings,
    "hx-location": _path_or_object,  # htmx
    "hx-redirect": _whole,
    "hx-push-url": _whole,
    "hx-replace-url": _whole,
    "turbolinks-location": _whole,
    "x-xhr-redirected-to": _whole,  # Turbolinks Classic
    "x-inertia-location": _whole,
    "x-up-location": _whole,  # Unpoly
    "x-pjax-url": _whole,
    "x-pingback": _whole,
}
# Of a request. `Origin` is not a URL.
REQUEST_URL_FIELDS: Mapping[str, UrlForm] = {
    "referer": _whole,
    "destination": _whole,  # RFC 4918 10.3
    "if": _tagged_lists,
    "ping-from": _whole,  # HTML, hyperlink auditing
    "ping-to": _whole,
    "hx-current-url": _whole,
    "turbolinks-referrer": _whole,
    "x-xhr-referer": _whole,
    "x-gwt-module-base": _whole,
    "upload-concat": _words,  # tus 1.0.0
}
# The page that sent the request; a URL outside the service becomes the service's root.
PAGE_FIELDS = frozenset({"referer", "ping-from", "hx-current-url", "turbolinks-referrer", "x-xhr-referer"})
