"""PURE. Which header fields cross the gateway, and in what form, in both directions; HTTP and WebSocket alike.

Rule of this file: an inbound list of fields is never changed, the outbound one is built from it. A field list is
`[(name, value), ...]` in order, repeated names repeated, each character one byte (latin-1). Every decision about a field's
name is taken on its plain form (lower case, `_` and `.` read as `-`), as CGI-like services read it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from . import credentials, frame_ancestors
from .credentials import TOKEN_SUBPROTOCOL, remove_secret_parameters
from .forwarded import ForwardedClient, build_forwarded_client, join_forwarded_fields
from .framing import MAX_CACHED_LENGTH, find_field, list_tokens, normalize_name
from .framing import Fields as Fields
from .hop_header import REFUSAL_FIELD, HopHeader
from .url_fields import PAGE_FIELDS, REQUEST_URL_FIELDS, RESPONSE_URL_FIELDS, UrlForm
from .urls import DEFAULT_PORTS, Route, Upstream, ip_literal, is_loopback, respell_prefix

# RFC 9110 7.6.1, and what its predecessors and proxies in the field treat the same way.
HOP_BY_HOP = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-authentication-info",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    ]
)
# Written anew by the gateway or the transport; `proxy` is the "httpoxy" field (CVE-2016-5385).
_REBUILT = frozenset(["host", "content-length", "expect", "proxy", "via", "forwarded"])
# What reverse proxies tell of the client, so that services believe it: only our own word counts, and we say it in X-Forwarded-*.
# A name stands here with who writes or reads it; other names, even `X-User`, are for scripts of the service's own.
_IDENTITY = re.compile(
    "|".join(
        [
            r"x-forwarded(-.*)?",  # nginx, Apache, HAProxy, Traefik (also -Tls-Client-Cert), Envoy, oauth2-proxy (-User, -Email)
            r"x-(real-ip|scheme|url-scheme|original-(url|uri|method|host|proto|for|forwarded-for|prefix|remote-addr))|x-rewrite-url",
            r"front-end-https|x-client-ip|x-cluster-client-ip|true-client-ip|(x-)?proxy(user|-client)-ip|wl-proxy-(client-ip|ssl)",
            r"(cf-connecting|fastly-client|fly-client|incap-client)-ip(v6)?|x-azure-(client|socket)ip|x-appengine-.*|x-envoy-external-address",
            r"x-proxycontextpath|x-gradio-server|x-portproxy-.*",  # jupyter-server-proxy, Gradio's own front, ours
            r"(x-|http-)?remote-(user|uid|email|name|groups?|addr|roles?)|x-remote-extra-.*",  # CGI, Authelia, Kubernetes
            r"x-auth-request-.*|x-vouch-.*|x-pomerium-.*|x-authentik-.*|x-webauth-.*|tailscale-.*",  # oauth2-proxy ... Grafana
            r"x-authenticated-(user|userid|groups?|email|scope)",  # Squid's ICAP (draft-stecher-icap-subid), Kong
            r"x-consumer-.*|x-credential-identifier|x-anonymous-consumer",  # Kong
            r"x-goog-(authenticated-user|iap)-.*|x-ms-(client-principal|token)(-.*)?|cf-access-.*|x-amzn-(oidc|mtls)-.*",
            r"kubeflow-userid|x-arr-(clientcert|ssl)|x-(endpoint|apigateway)-api-userinfo",  # Kubeflow, Azure, Google's gateways
            r"oidc-(claim|access-token|id-token).*|mellon-.*",  # Apache's mod_auth_openidc and mod_auth_mellon
            r"(x-)?ssl-client-.*|(x-)?client-cert(-chain)?",  # nginx-ingress, HAProxy; RFC 9440
        ]
    ),
    re.ASCII,
)
_SAID_ANEW = frozenset([f"x-forwarded-{name}" for name in ("for", "host", "port", "proto", "prefix", "context")])
# What acts beyond the answer and its page, on what browsers keep for a whole origin, which a service shares with Jupyter.
# `Sec-` is for what browsers and servers agree on without scripts: sessions, private state tokens.
_ORIGIN_WIDE = re.compile(
    r"sec-(?!websocket-).*|secure-session-.*|clear-site-data|set-cookie2|use-as-dictionary|cache-group-invalidation"
    r"|strict-transport-security|public-key-pins.*|expect-ct|alt-svc|nel|report-to|reporting-endpoints"
    r"|(accept|critical|delegate)-ch(-lifetime)?|origin-agent-cluster|(critical-)?origin-trial|activate-storage-access"
    r"|set-login|idp-signin-status|observe-browsing-topics|(attribution-reporting|shared-storage|ad-auction)-.*|"
    + REFUSAL_FIELD.lower(),  # of the hop before a service, never the service's own
    re.ASCII,
)
# What passes of a preflight without a login, and of its answer (Fetch Standard, 4.8).
_PREFLIGHT = re.compile(r"origin|access-control-.*|sec-fetch-.*|vary|content-length", re.ASCII)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_ABSOLUTE = re.compile(r"(?:(?P<scheme>https?):)?//(?P<authority>[^/?#]*)(?P<rest>.*)\Z", re.IGNORECASE | re.DOTALL)
# Chromium keeps 180 cookies of a host name, whatever their paths, and throws out the eldest: Jupyter's, if a service sets many.
_MAX_COOKIES = 50
_PARTITIONED = ("domain", "samesite", "secure", "partitioned")  # of a cookie: written anew where it is partitioned
_MAX_COOKIE_PATH = 1024  # browsers take no notice of a longer one (RFC 6265bis 5.6)
# In a list of challenges: where Digest begins, its `domain`, and what is quoted.
_CHALLENGE = re.compile(
    r'(?:(?<=[\s,])|\A)(?P<digest>digest\s+)|\bdomain\s*=\s*(?P<domain>"(?:\\.|[^"])*"?|[^\s,"]*)\s*,?\s*|"(?:\\.|[^"])*"?',
    re.IGNORECASE | re.DOTALL,
)
_QUOTED_VALUE = re.compile(r'=\s*"[^"\\]*"')  # which can be read in one way
_EXT_VALUE = re.compile(r"(?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-Fa-f]{2})+\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Client:
    """What the gateway knows about the client of one request.

    Attributes:
        address: IP address of the client, as this server believes it.
        peer: IP address at the other end of the connection (a front's, if there is one).
        scheme: "http" or "https", as the client wrote it.
        host: the client's Host field.
        trusted: True if the peer's own X-Forwarded-* are to be believed (`trust_xheaders`).
        secrets: Jupyter's own tokens; none of them may leave.
        login_cookie: name of Jupyter's own login cookie; at an isolated origin, of its session.
        login_cookies: names and values of Jupyter's cookies by which an isolated origin was entered.
        isolated: it asks at an origin that the service has for itself: no other cookie there is Jupyter's.
        embedder: Jupyter's origin, and others, separated by blanks, whose pages may then show the service in a frame.
        caller_origin: another isolated origin, whose page asks; empty if none does.
        caller_upstream_origin: the origin of that service as this one knows it.
        preflight: it is the caller's preflight, without a login: nothing but what CORS needs passes.
        partitioned: it is in such a frame, where browsers keep partitioned cookies alone.
        is_download: it wants the answer as a file, whatever that is.
        authorization: what the service is to get as Authorization, where the field itself was needed for the login here.
        public_host: the host that a trusted front has told, where it has put another one into Host; empty otherwise.
        forwarded_client: who it is by the word of a hop before this one; None if there is none.
    """

    address: str
    peer: str
    scheme: str
    host: str
    trusted: bool = False
    secrets: frozenset[str] = frozenset()
    login_cookie: str = ""
    login_cookies: frozenset[tuple[str, str]] = frozenset()
    isolated: bool = False
    embedder: str = ""
    caller_origin: str = ""
    caller_upstream_origin: str = ""
    preflight: bool = False
    partitioned: bool = False
    is_download: bool = False
    authorization: str = ""
    public_host: str = ""
    forwarded_client: ForwardedClient | None = None


def is_websocket_upgrade(method: str, version: str, fields: Fields) -> bool:
    """True for an upgrade request to WebSocket (RFC 6455 4.1); any other upgrade is served as if it were not asked."""
    if method != "GET" or version != "HTTP/1.1" or find_field(fields, "upgrade").strip().lower() != "websocket":
        return False
    return "upgrade" in list_tokens(fields, "connection")


def build_request_fields(
    fields: Fields,
    route: Route,
    upstream: Upstream,
    client: Client,
    *,
    via: str,
    method: str = "GET",
    keep_host: bool = False,
    hop: HopHeader | None = None,
) -> Fields:
    """The fields of the outbound request, except those that frame its content. They tell one consistent story.

    With `keep_host` Host, Origin, Referer and X-Forwarded-* are the client's. Without it Host, Origin and Referer are the
    upstream's; so are X-Forwarded-* where a check of the service may compare them: where Origin names the service, or another
    field of a request that is not safe does. Other requests tell of the client's address, for services that make links of it.

    Args:
        fields: the inbound request's.
        via: this gateway's name in Via.
        keep_host: the service sees the client's address as its own.
        hop: the upstream is the next hop of a chain, and is told this and of the client in one field.
    """
    if client.preflight:
        fields = _of_preflight(fields)
    named = {normalize_name(token) for token in list_tokens(fields, "connection")}
    forwarding = _forwarding(fields, client)
    keep_host = keep_host and hop is None
    if client.trusted and client.forwarded_client is None and forwarding.host != client.host:
        client = replace(client, public_host=forwarding.host)
    names_upstream = False
    out: Fields = [("Host", upstream.authority)]
    vias: list[str] = []
    repeated: frozenset[str] | None = None
    for name, value in fields:
        key, stays, look = _request_rule(name) if len(name) <= MAX_CACHED_LENGTH else _rule_of(name)
        if key == "via":
            vias.append(value)
        if not stays or key in named:
            continue
        if look is not None:
            kept = look(value, route, upstream, client, keep_host)
        else:  # scripts send the page's URL in fields of their own, too
            kept = remove_secret_parameters(value, client.secrets) if "?" in value and "=" in value else value
        if look is _request_xsrf and kept is None:
            repeated = _own_cookie_values(fields, upstream, client) if repeated is None else repeated
            kept = value if value.strip() in repeated else None
        if kept is not None:
            out.append((name, kept))
            if kept != value and (look is _request_origin or (key in REQUEST_URL_FIELDS and method not in _SAFE_METHODS)):
                names_upstream = not keep_host and hop is None
            if keep_host and (look is _request_origin or key == "referer") and strip_client_origin(kept, client) is not None:
                forwarding = forwarding.with_page_origin(kept)
    if keep_host and forwarding.host:
        out[0] = ("Host", forwarding.host)
    if client.authorization:
        own = _request_authorization(client.authorization, route, upstream, replace(client, authorization=""), keep_host)
        out += [("Authorization", own)] if own is not None else []
    if names_upstream:
        forwarding = forwarding.with_service_origin(upstream.scheme, upstream.authority)
    out.extend(forwarding.to_fields("" if route.keep else route.prefix) if hop is None else [hop.to_field(forwarding)])
    out.append(("Via", ", ".join([*vias, f"1.1 {via}"])))
    return out


def replace_fields(fields: Fields, by: Fields, aside: Mapping[str, str] | None = None) -> Fields:
    """Fields with those of the same name taken out, and the new ones put in.

    Args:
        aside: name in lower case -> the name under which a field that is taken out is sent nevertheless.
    """
    aside = aside or {}
    names = {name.lower() for name, _ in by}
    kept: Fields = []
    for name, value in fields:
        key = name.lower()
        if key not in names:
            kept.append((name, value))
        elif key in aside:
            kept.append((aside[key], value))
    return kept + by


def upgrade_fields() -> Fields:
    """The fields that ask for, or grant, the WebSocket upgrade (RFC 6455 4.1, 4.2.2): they belong to the tunnel's hop."""
    return [("Connection", "Upgrade"), ("Upgrade", "websocket")]


def find_identity_fields(fields: Fields) -> list[str]:
    """Names of those fields of a request that do not pass as they tell who the client is, and of which the gateway has no own."""
    return [name for name, _ in fields if len(name) <= MAX_CACHED_LENGTH and _tells_identity(name)]


@lru_cache(maxsize=1024)  # asked for each field of each request: in a Jupyter process the logger is at DEBUG
def _tells_identity(name: str) -> bool:
    key, stays, _ = _request_rule(name)
    return not stays and key not in _SAID_ANEW and _IDENTITY.fullmatch(key) is not None


def has_loop(fields: Fields, via: str) -> bool:
    """True if a Via of the request names this gateway (RFC 9110 7.6.3)."""
    named = [value for key, value in fields if via in value and key.lower() == "via"]
    return any(member.split()[1:2] == [via] for value in named for member in value.split(","))


def build_response_fields(fields: Fields, route: Route, upstream: Upstream, client: Client) -> Fields:
    """The fields of the answer that the client gets, except those that frame its content in this hop."""
    if client.preflight:
        fields = _of_preflight(fields)
    keys = [name.lower() for name, _ in fields]
    named = frozenset(list_tokens(fields, "connection") if "connection" in keys else ())
    chunked = "transfer-encoding" in keys
    out: Fields = []
    seen_length = False
    cookies = 0
    for key, (name, value) in zip(keys, fields, strict=True):
        cookies += key == "set-cookie"
        if key == "set-cookie" and cookies > _MAX_COOKIES and not client.isolated:
            continue
        if (
            key in HOP_BY_HOP
            or key in named
            or (_is_origin_wide if len(key) <= MAX_CACHED_LENGTH else _ORIGIN_WIDE.fullmatch)(key)
        ):
            continue
        if key == "content-length":
            # RFC 9112 6.3: Transfer-Encoding overrides Content-Length; equal repeats are one.
            if chunked or seen_length:
                continue
            seen_length, value = True, value.split(",")[0].strip()
        kept = _RESPONSE_FIELDS[key](value, route, upstream, client) if key in _RESPONSE_FIELDS else value
        if kept is not None:
            out.append((name, kept))
    if client.is_download and not any(name.lower() == "content-disposition" for name, _ in out):
        out.append(("Content-Disposition", _attachment(route)))
    return allow_framing(out, client.embedder) if client.isolated else out


def _of_preflight(fields: Fields) -> Fields:
    return [(name, value) for name, value in fields if _PREFLIGHT.fullmatch(name.lower())]


def _attachment(route: Route) -> str:
    """RFC 6266: a file, by the name that the URL gives it; a path's last segment is an ext-value of RFC 8187 nearly always."""
    name = route.path.rpartition("/")[2]
    return f"attachment; filename*=UTF-8''{name}" if _EXT_VALUE.match(name) else "attachment"


def allow_framing(fields: Fields, embedder: str) -> Fields:
    """An answer's fields with who may show it in a frame: itself and `embedder`, unless it says nobody or names them.

    X-Frame-Options cannot name another origin; Content-Security-Policy can, and overrides it.
    """
    restricted = bool(frame_ancestors.find_frame_policies(fields))
    if frame_ancestors.denies_frames(fields) and not restricted:
        return fields
    out = [(name, value) for name, value in fields if name.lower() != "x-frame-options"]
    if not restricted:
        return [*out, ("Content-Security-Policy", f"frame-ancestors 'self' {embedder}".strip())]
    widen = partial(
        frame_ancestors.DIRECTIVE.sub, lambda match: f"{match[0]} {embedder}" if "'self'" in match[0].lower() else match[0]
    )
    return [(name, widen(value) if name.lower() == "content-security-policy" else value) for name, value in out]


def answer_token_subprotocol(offered: Fields, answered: Fields) -> Fields:
    """The subprotocol to add to a 101, if any.

    A browser that offered only Jupyter's token subprotocol fails the connection unless it is answered; the upstream, which
    never saw it, cannot.
    """
    if any(name.lower() == "sec-websocket-protocol" for name, _ in answered):
        return []
    is_offered = TOKEN_SUBPROTOCOL in list_tokens(offered, "sec-websocket-protocol")
    return [("Sec-WebSocket-Protocol", TOKEN_SUBPROTOCOL)] if is_offered else []


# ---- request fields whose value is looked at: None drops the field ----


def _request_cookie(value: str, route: Route, upstream: Upstream, client: Client, keep_host: bool) -> str | None:
    return _without_jupyters_cookies(value, upstream, client)


def _request_authorization(value: str, route: Route, upstream: Upstream, client: Client, keep_host: bool) -> str | None:
    if client.authorization or value.strip() in client.secrets or credentials.parse_authorization_token(value) in client.secrets:
        return None
    return value


def _request_origin(value: str, route: Route, upstream: Upstream, client: Client, keep_host: bool) -> str | None:
    if client.caller_origin and value.lower() == client.caller_origin and not keep_host:
        return client.caller_upstream_origin
    if strip_client_origin(value, client) is None:
        return value
    return _public_origin(value, client) if keep_host else upstream.origin


def _request_url(form: UrlForm, name: str) -> Callable[[str, Route, Upstream, Client, bool], str | None]:
    def look(value: str, route: Route, upstream: Upstream, client: Client, keep_host: bool) -> str | None:
        return form(value, partial(_url_at_upstream, name, route, upstream, client, keep_host))

    return look


def _url_at_upstream(name: str, route: Route, upstream: Upstream, client: Client, keep_host: bool, url: str) -> str:
    """One URL of a request, as the service knows it: below the prefix it is the service's own."""
    if url[:4].lower() != "http" and "?" not in url and (not route.prefix or 3 * len(url) < len(route.prefix)):
        return url  # too short for the prefix, in whatever spelling; a field can have thousands of these
    url = remove_secret_parameters(url, client.secrets)
    rest = strip_client_origin(url, client)
    path, is_page = respell_prefix(url if rest is None else rest, f"{route.prefix}/"), name in PAGE_FIELDS
    if rest is None and not (route.prefix and is_below(path, route.prefix)):
        return url
    origin = "" if rest is None else _public_origin(url, client) if keep_host else upstream.origin
    if is_page and keep_host:
        return origin + (rest or "")
    if is_below(path, route.prefix):
        path = path if route.keep else path[len(route.prefix) :]
    elif is_page:
        path = "/"
    else:
        return url
    return f"{origin}{path if path.startswith('/') else '/' + path}"


def _public_origin(url: str, client: Client) -> str:
    """The client's own origin in a URL there; a hop before this one may have put its own in its place."""
    told = client.forwarded_client
    return f"{told.scheme}://{told.host}" if told is not None and told.host else _ABSOLUTE.sub(r"\g<scheme>://\g<authority>", url)


def _request_xsrf(value: str, route: Route, upstream: Upstream, client: Client, keep_host: bool) -> str | None:
    return value if client.isolated else None


def _own_cookie_values(fields: Fields, upstream: Upstream, client: Client) -> frozenset[str]:
    """What the service's own cookies hold: it may be told again in a field of Tornado's name (Streamlit's uploads)."""
    lines = ";".join(line for name, line in fields if name.lower() == "cookie")
    own = (_without_jupyters_cookies(lines, upstream, client) or "").split(";")
    return frozenset(pair.partition("=")[2].strip() for pair in own) - client.secrets - {""}


def _request_subprotocols(value: str, route: Route, upstream: Upstream, client: Client, keep_host: bool) -> str | None:
    if not client.isolated and TOKEN_SUBPROTOCOL not in value.lower():
        return value
    names = value.split(",")
    kept = [n for n in names if not _is_token_subprotocol(n.strip(), client)]
    return value if len(kept) == len(names) else ",".join(kept).strip() or None


def _is_token_subprotocol(name: str, client: Client) -> bool:
    """True for Jupyter's token; at an origin of its own a service may be a Jupyter server, with a token of its own."""
    if not client.isolated:
        return name.lower().startswith(TOKEN_SUBPROTOCOL)
    return name in client.secrets or (
        name.lower().startswith(TOKEN_SUBPROTOCOL) and name[len(TOKEN_SUBPROTOCOL) + 1 :] in client.secrets
    )


_REQUEST_FIELDS: dict[str, Callable[[str, Route, Upstream, Client, bool], str | None]] = {
    "cookie": _request_cookie,
    "authorization": _request_authorization,
    "origin": _request_origin,
    "sec-websocket-protocol": _request_subprotocols,
    "x-xsrftoken": _request_xsrf,
    **{name: _request_url(form, name) for name, form in REQUEST_URL_FIELDS.items()},
}


def _rule_of(name: str) -> tuple[str, bool, Callable[[str, Route, Upstream, Client, bool], str | None] | None]:
    """What becomes of a request field of that name: its plain form, whether it may cross, and who looks at its value."""
    key = normalize_name(name)
    stays = not (key in HOP_BY_HOP or key in _REBUILT or _IDENTITY.fullmatch(key))
    return key, stays, _REQUEST_FIELDS.get(key)


_request_rule = lru_cache(maxsize=1024)(_rule_of)  # few names make up nearly all requests


# ---- response fields whose value is looked at: None drops the field ----


def _response_url(form: UrlForm) -> Callable[[str, Route, Upstream, Client], str | None]:
    def look(value: str, route: Route, upstream: Upstream, client: Client) -> str | None:
        return form(value, partial(_url_at_client, route, upstream, client))

    return look


def _url_at_client(route: Route, upstream: Upstream, client: Client, url: str) -> str:
    """One URL of an answer: on this upstream -> below the prefix, once; any other as it is."""
    if not url.startswith("/") and "//" not in url:
        return url
    match = _ABSOLUTE.match(url) if "//" in url else None
    if match:
        scheme = (match["scheme"] or upstream.scheme).lower()
        # A service that was told of https calls itself so, whatever it speaks here.
        told = scheme == "https" == (client.forwarded_client or client).scheme
        if (scheme != upstream.scheme and not told) or not _is_upstream(match["authority"], upstream):
            return url
        url = match["rest"] if match["rest"].startswith("/") else f"/{match['rest']}"
        if (route.keep or not route.prefix) and url[1:2] in ("/", "\\"):
            return f"/.{url}"
    return url if route.keep or not route.prefix or not url.startswith("/") else _below(url, route.prefix)


def _below(path: str, prefix: str) -> str:
    """A path below the prefix: in the prefix's own spelling if it is there already, in whatever spelling."""
    if 3 * len(path) >= len(prefix):  # a field can have thousands of shorter ones
        path = respell_prefix(path, f"{prefix}/")
        if is_below(path, prefix):
            return path
    return prefix + path


def _response_set_cookie(value: str, route: Route, upstream: Upstream, client: Client) -> str | None:
    """RFC 6265 5.2: no Domain, and a Path below the prefix. `__Host-` demands Path=/, which cannot be below: dropped.

    Without a name a cookie's value could read as another cookie in the next request (RFC 6265bis 5.7). Chromium's `Priority`
    would let a service's cookies outlive Jupyter's where there are too many. At an origin of its own a cookie is for that host
    alone, and partitioned where the browser would drop it otherwise.
    """
    pair, *attributes = value.split(";")
    name = pair.partition("=")[0].strip() if "=" in pair else ""
    if not name or _is_jupyters_cookie(name, upstream, client) or (not client.isolated and name.lower().startswith("__host-")):
        return None
    partitioned = client.isolated and client.partitioned
    dropped = _PARTITIONED if partitioned else ("domain",) if client.isolated else ("domain", "priority")
    keys = [attribute.partition("=")[0].strip().lower() for attribute in attributes]
    last = max((place for place, key in enumerate(keys) if key == "path"), default=-1)  # the one that counts
    kept = [pair]
    for place, (key, attribute) in enumerate(zip(keys, attributes, strict=True)):
        if place == last:
            kept.append(_path_attribute(attribute, route, client))
        elif key != "path" and key not in dropped:
            kept.append(attribute)
    if last < 0:
        kept.append(_path_attribute("", route, client))
    return ";".join([*kept, *([" SameSite=None", " Secure", " Partitioned"] if partitioned else [])])


def _path_attribute(attribute: str, route: Route, client: Client) -> str:
    """A cookie's Path below the prefix. What is none means the folder of the request (RFC 6265 5.1.4).

    The browser's folder would lie above the prefix where that has no final slash. The Path has none either, so that the
    cookie comes back there, too.
    """
    path = attribute.partition("=")[2].strip()
    if not path.startswith("/"):
        path = route.prefix + route.path.partition(";")[0].rpartition("/")[0]
    elif client.isolated:
        return attribute
    else:
        path = _below(path, route.prefix)
    return f" Path={(path if len(path) <= _MAX_COOKIE_PATH else route.prefix) or '/'}"


def _response_challenge(value: str, route: Route, upstream: Upstream, client: Client) -> str | None:
    """RFC 7616 3.3: Digest without a `domain`, or with one such as "/", holds for all of the origin."""
    if client.isolated:
        return value
    if "domain" in value.lower() and re.search(r'["\\]', _QUOTED_VALUE.sub("", value)):
        return None
    out, end, wants, own = [], 0, -1, f'domain="{route.prefix}/", '
    for match in _CHALLENGE.finditer(value):
        out.append(value[end : match.start()])
        end, domain = match.end(), match["domain"]
        if domain is None or (domain.strip('"') and all(is_below(url, route.prefix) for url in domain.strip('"').split())):
            out.append(match[0])
            wants = wants if domain is None else -1
        if match["digest"]:
            if wants >= 0:
                out[wants] += own
            wants = len(out) - 1
    if wants >= 0:
        out[wants] += own
    return "".join([*out, value[end:]]).rstrip(" ,") if out else value


def _response_worker_scope(value: str, route: Route, upstream: Upstream, client: Client) -> str | None:
    """Scopes are compared as strings, tabs left out: without the final slash the scope of port 1500 has 15000 in it."""
    if client.isolated:
        return value
    below = value.startswith(route.prefix + "/") and "\t" not in value and is_below(value.strip(), route.prefix)
    return value if below else None


def _response_origin(value: str, route: Route, upstream: Upstream, client: Client) -> str | None:
    """An origin to which the service grants something (CORS), as the browser knows it."""
    return client.caller_origin if client.caller_origin and value.strip().lower() == client.caller_upstream_origin else value


_RESPONSE_FIELDS: dict[str, Callable[[str, Route, Upstream, Client], str | None]] = {
    **{name: _response_url(form) for name, form in RESPONSE_URL_FIELDS.items()},
    "set-cookie": _response_set_cookie,
    "access-control-allow-origin": _response_origin,
    "timing-allow-origin": _response_origin,
    "service-worker-allowed": _response_worker_scope,
    "www-authenticate": _response_challenge,
}


@lru_cache(maxsize=1024)
def _is_origin_wide(key: str) -> bool:
    return _ORIGIN_WIDE.fullmatch(key) is not None


# ---- helpers ----


def _without_jupyters_cookies(line: str, upstream: Upstream, client: Client) -> str | None:
    """What is left of a Cookie field; None if nothing is.

    A Jupyter server that is the service names its login cookie after the Host that it sees: that one stays.
    """
    nested = "username-" + re.sub(r"[^A-Za-z0-9]", "-", upstream.authority)
    names = {client.login_cookie} - {""}
    return credentials.remove_cookies(line, names, nested, isolated=client.isolated, pairs=client.login_cookies)


def _is_jupyters_cookie(name: str, upstream: Upstream, client: Client) -> bool:
    return _without_jupyters_cookies(name, upstream, client) is None


def is_below(path: str, prefix: str) -> bool:
    """True if the path is the prefix or lies below it; dot segments could lead out again and are no proof."""
    head = path.partition("?")[0].partition("#")[0]
    if head != prefix and not head.startswith(prefix + "/"):
        return False
    return not re.search(r"(?:/|%2f|\\)(?:\.|%2e){2}(?:/|%2f|\\|\Z)", head, re.IGNORECASE)


def _is_upstream(authority: str, upstream: Upstream) -> bool:
    """True if `host[:port]` names this upstream; every spelling of loopback names a loopback one."""
    authority = authority.lower()
    if authority == upstream.authority:
        return True
    match = re.fullmatch(r"(.*?)(?::([0-9]{1,9}))?", authority, re.ASCII)
    if match is None or int(match[2] or DEFAULT_PORTS[upstream.scheme]) != upstream.port:
        return False
    host = match[1].strip("[]").removesuffix(".")
    if host == upstream.host or host in upstream.addresses:
        return True
    literal = ip_literal(host)
    is_local = is_loopback(host) or (literal is not None and literal.is_unspecified)
    return is_local and all(map(is_loopback, upstream.addresses))


def strip_origin(url: str, host: str) -> str | None:
    """What follows the origin in an absolute URL on that host (as the Host field has it); None for any other."""
    match = _ABSOLUTE.match(url) if "://" in url else None
    if not match or not match["scheme"] or not host:
        return None
    authority, host = match["authority"].lower(), host.lower()
    if authority != host:
        port = f":{DEFAULT_PORTS[match['scheme'].lower()]}"  # RFC 3986 6.2.3
        if authority.removesuffix(port) != host.removesuffix(port):
            return None
    return match["rest"]


def parse_origin(url: str) -> str:
    """The origin of an absolute URL, in lower case; empty for any other."""
    match = _ABSOLUTE.match(url)
    return f"{match['scheme']}://{match['authority']}".lower() if match and match["scheme"] else ""


def strip_client_origin(url: str, client: Client) -> str | None:
    """What follows the origin in a URL of the client's own origin; None for any other."""
    rest = strip_origin(url, client.host)
    return strip_origin(url, client.public_host) if rest is None and client.public_host else rest


def _forwarding(fields: Fields, client: Client) -> ForwardedClient:
    """The client as this gateway vouches for it."""
    if client.forwarded_client is not None:
        return client.forwarded_client.with_peer(client.peer)
    claims = join_forwarded_fields(fields) if client.trusted else {}
    return build_forwarded_client(claims, client.peer, client.scheme, client.host, client.address if client.trusted else "")
