"""What of a request may be kept: URLs and header fields without their secrets. Pure; no input raises.

In doubt a value is masked: `MASK` stands for it. Names stay. In a URL these are masked: user information, the values of all
parameters of query and path, the fragment, and what follows an encoded question mark. A field keeps its value if its name is in
`_KEPT`, a list of fields that hold no credentials; URLs in it are masked likewise. Work and results are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

MASK = "***"
MAX_URL = 2048  # characters
MAX_VALUE = 1024  # characters of a field
MAX_HEAD = 8192  # characters of all fields
_MAX_NAME = 100  # characters of a field's name
_MAX_KNOWN = 200  # lines, of at most _MAX_NAME and MAX_VALUE characters
_MIN_SECRET = 6  # characters of a secret that is looked for everywhere
_CUT = "..."

# A URL's part up to what is masked whole: `scheme://userinfo@`, `;name=value` in the path, `?`, `#`, and `%3F` within the path.
_USER = re.compile(r"(?<=//)[^/?#\s]*@")
_PATH_PARAMETER = re.compile(r";([^/;=?#,\s]+)=[^/;?#,\s>]*")
_ENCODED_QUERY = re.compile(r"(%3f|%23|%26|%3d)[^/?#\s]*", re.IGNORECASE)
_QUERY = re.compile(r"\?[^#\s\"'<>]*")
_FRAGMENT = re.compile(r"#[^\s\"'<>]+")
_PARAMETER = re.compile(r"([^&;=]*)(=?)[^&;]*")
_WORD = re.compile(r"[A-Za-z_-]{1,12}\Z")  # of a parameter without value: `?import`
_SCHEME = re.compile(r"(basic|bearer|digest|negotiate|ntlm|token|hawk|dpop|aws4-hmac-sha256)\s", re.IGNORECASE)
_ATTRIBUTE = re.compile(
    r"\s*(?:path|domain|max-age|expires|samesite|priority)\s*=.*|\s*(?:secure|httponly|partitioned)\s*\Z", re.I
)
# IANA's registry, and what common services use; any other subprotocol may be a token.
_SUBPROTOCOLS = frozenset([
    "graphql-ws", "graphql-transport-ws", "mqtt", "mqttv3.1", "wamp.2.json", "wamp.2.msgpack", "soap", "sip", "xmpp",
    "stomp", "v10.stomp", "v11.stomp", "v12.stomp", "binary", "base64", "bokeh", "streamlit", "vite-hmr", "vite-ping",
    "tty", "webtty", "v1.kernel.websocket.jupyter.org", "v1.token.websocket.jupyter.org",
])  # fmt: skip
# Fields that hold no credentials: those of RFC 9110 to 9112, Fetch, CORS, CSP, WebSocket, WebDAV, and of reverse proxies.
_KEPT = frozenset([
    "accept", "accept-charset", "accept-encoding", "accept-language", "accept-ranges", "access-control-allow-credentials",
    "access-control-allow-headers", "access-control-allow-methods", "access-control-allow-origin",
    "access-control-expose-headers", "access-control-max-age", "access-control-request-headers",
    "access-control-request-method", "age", "allow", "cache-control", "connection", "content-disposition",
    "content-encoding", "content-language", "content-length", "content-location", "content-range",
    "content-security-policy", "content-security-policy-report-only", "content-type", "cross-origin-embedder-policy",
    "cross-origin-opener-policy", "cross-origin-resource-policy", "date", "depth", "destination", "dnt", "etag", "expect",
    "expires", "forwarded", "host", "hx-boosted", "hx-current-url", "hx-location", "hx-redirect", "hx-request", "if-match",
    "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "keep-alive", "last-modified", "link",
    "location", "max-forwards", "origin", "origin-agent-cluster", "overwrite", "permissions-policy", "pragma", "priority",
    "proxy-connection", "purpose", "range", "referer", "referrer-policy", "refresh", "retry-after", "sec-ch-ua",
    "sec-ch-ua-mobile", "sec-ch-ua-platform", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "sec-fetch-user",
    "sec-gpc", "sec-websocket-extensions", "sec-websocket-version", "server", "server-timing", "service-worker",
    "service-worker-allowed", "sourcemap", "strict-transport-security", "te", "timeout", "timing-allow-origin", "trailer",
    "transfer-encoding", "upgrade", "upgrade-insecure-requests", "user-agent", "vary", "via", "warning",
    "x-accel-buffering", "x-content-type-options", "x-forwarded-context", "x-forwarded-for", "x-forwarded-host",
    "x-forwarded-port", "x-forwarded-prefix", "x-forwarded-proto", "x-frame-options", "x-powered-by", "x-real-ip",
    "x-requested-with", "x-runtime", "x-ua-compatible", "x-xss-protection",
])  # fmt: skip

_URLS = frozenset([
    "content-location", "destination", "hx-current-url", "hx-location", "hx-redirect", "link", "location", "origin",
    "referer", "refresh", "sourcemap", "x-forwarded-prefix",
])  # fmt: skip


def mask_url(url: str, secrets: Collection[str] = ()) -> str:
    """A URL or request target, at most MAX_URL characters; also a text with several of them."""
    text = mask_text(url, secrets)
    if ";" in text:
        text = _PATH_PARAMETER.sub(rf";\1={MASK}", text)
    if "%" in text:
        text = _ENCODED_QUERY.sub(rf"\1{MASK}", text)
    return _cut(text, MAX_URL)


def mask_text(text: str, secrets: Collection[str] = ()) -> str:
    """A text without `secrets`, and without user information, queries and fragments of URLs in it."""
    for secret in secrets:
        if len(secret) >= _MIN_SECRET and secret in text:
            text = text.replace(secret, MASK)
    if "@" in text:
        text = _USER.sub(f"{MASK}@", text)
    if "#" in text:
        text = _FRAGMENT.sub(f"#{MASK}", text)
    if "?" in text:
        text = _QUERY.sub(lambda match: f"?{_PARAMETER.sub(_mask_parameter, match[0][1:])}", text)
    return text


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - len(_CUT)] + _CUT


def _mask_parameter(match: re.Match[str]) -> str:
    if not match[0]:
        return ""
    if match[2]:
        return f"{match[1]}={MASK}"
    return match[0] if _WORD.match(match[0]) else MASK


def mask_fields(
    fields: Iterable[tuple[str, str]], secrets: Collection[str] = (), known: dict[tuple[str, str], str] | None = None
) -> str:
    """Header fields, one in each line as `Name: value`, at most MAX_HEAD characters; `...` stands for further ones.

    Args:
        known: keeps the lines of fields in which there is nothing to mask, for further calls, also with other secrets.
    """
    known = {} if known is None else known
    lines, size = [], 0
    for field in fields:
        line = known.get(field)
        if line is None or any(secret in line for secret in secrets):
            name, value = field
            masked = mask_field(name, value, secrets)
            line = f"{_cut(name, _MAX_NAME)}: {masked}"
            if masked == value and len(name) <= _MAX_NAME:
                if len(known) >= _MAX_KNOWN:
                    known.clear()
                known[field] = line
        size += len(line) + 1
        if size > MAX_HEAD:
            lines.append(f"{_CUT}: ")
            break
        lines.append(line)
    return "\n".join(lines)


def mask_field(name: str, value: str, secrets: Collection[str] = ()) -> str:
    """The value of a field."""
    key = name.lower()
    if key not in _KEPT:
        rule = _RULES.get(key)
        masked = MASK if rule is None else mask_text(rule(value), secrets)
    else:
        masked = mask_url(value, secrets) if key in _URLS else mask_text(value, secrets)
    return _cut(masked, MAX_VALUE).replace("\n", " ")


# ---- fields whose values have names in them ----


def _mask_cookies(value: str) -> str:
    return "; ".join(_mask_pair(pair) for pair in value.split(";"))


def _mask_pair(pair: str) -> str:
    name, equals, _ = pair.strip().partition("=")
    return f"{name}={MASK}" if equals else MASK


def _mask_set_cookie(value: str) -> str:
    pair, *attributes = value.split(";")
    kept = [mask_text(part.strip()) if _ATTRIBUTE.match(part) else _mask_pair(part) for part in attributes]
    return "; ".join([_mask_pair(pair), *kept])


def _mask_credentials(value: str) -> str:
    match = _SCHEME.match(value)
    return f"{match[1]} {MASK}" if match else MASK


def _mask_subprotocols(value: str) -> str:
    return ", ".join(name if name in _SUBPROTOCOLS else MASK for name in map(str.strip, value.split(",")))


_RULES: dict[str, Callable[[str], str]] = {
    "cookie": _mask_cookies,
    "set-cookie": _mask_set_cookie,
    "authorization": _mask_credentials,
    "proxy-authorization": _mask_credentials,
    "www-authenticate": _mask_credentials,
    "proxy-authenticate": _mask_credentials,
    "sec-websocket-protocol": _mask_subprotocols,
}
