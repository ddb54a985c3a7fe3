"""Which header fields cross the gateway, and in what form, in both directions; the same for HTTP and WebSocket.

A field list is `[(name, value), ...]` in order, repeated names repeated, one byte (latin-1) per character. An inbound list is
never changed; the outbound one is built from it. Names of request fields are compared in normalized form (lower case, `_` and
`.` read as `-`), as CGI-like services compare them. The first rule that applies decides:

    request field                          what happens                                        source
    named by Connection, HOP_BY_HOP        dropped                                             RFC 9110 7.6.1
    _REBUILT, X-Forwarded-*                dropped; the gateway or the transport writes its own  RFC 9110 7.2, 7.6.3; RFC 7239
    _IDENTITY                              dropped: claims about the client                    listed with each name
    Cookie, Authorization, X-XSRFToken,    Jupyter's credentials are removed                   credentials.py
      Sec-WebSocket-Protocol
    Origin, REQUEST_URL_FIELDS             the client's URL becomes the service's own          url_fields.py
    any other                              Jupyter's tokens are removed from URLs in it

    response field                         what happens                                        source
    named by Connection, HOP_BY_HOP        dropped                                             RFC 9110 7.6.1
    _ORIGIN_WIDE                           dropped: acts on all of Jupyter's origin            listed with each name
    _PROXY_COMMANDS                        dropped: a reverse proxy sends a file of its own    nginx, Apache, lighttpd
    Content-Length                         one value, none beside Transfer-Encoding            RFC 9112 6.3
    RESPONSE_URL_FIELDS                    the service's URL becomes the client's              url_fields.py
    Set-Cookie, WWW-Authenticate,          restricted to the prefix                            RFC 6265, RFC 7616,
      Service-Worker-Allowed                                                                   Service Workers
    Access-Control-Allow-Origin,           the calling origin in the browser's form            Fetch Standard
      Timing-Allow-Origin
    any other                              copied

The rules of a field name are cached for names of up to MAX_CACHED_LENGTH characters; 0 switches these caches off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

from . import credentials, frame_ancestors
from .credentials import TOKEN_SUBPROTOCOL, remove_secret_parameters
from .forwarded import ForwardedClient, build_forwarded_client, join_forwarded_fields
from .framing import MAX_CACHED_LENGTH, find_field, list_tokens, normalize_name
from .framing import Fields as Fields
from .hop_header import REFUSAL_FIELD, HopHeader
from .url_fields import PAGE_FIELDS, REQUEST_URL_FIELDS, RESPONSE_URL_FIELDS, UrlForm
from .urls import (
    DEFAULT_PORTS,
    Route,
    Upstream,
    ip_literal,
    is_below,
    is_loopback,
    respell_prefix,
    split_absolute_url,
    split_port,
    strip_origin,
    without_default_port,
)

ERROR_FIELD = "X-Portproxy-Error"  # the code of an error, in each of the gateway's own error responses
# RFC 9110 7.6.1, and what earlier standards and other proxies treat in the same way.
HOP_BY_HOP = frozenset([
    "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization",
    "proxy-authentication-info", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings",
])  # fmt: skip
# `proxy` is the "httpoxy" field (CVE-2016-5385).
_REBUILT = frozenset(["host", "content-length", "expect", "proxy", "via", "forwarded"])
# Fields by which reverse proxies identify the client to a service: only the gateway's own X-Forwarded-* may do that.
# Each name stands beside the software that writes or reads it; other names, even `X-User`, are for scripts of the service.
_IDENTITY = re.compile(
    "|".join(
        [
            r"x-forwarded(-.*)?",  # nginx, Apache, HAProxy, Traefik (also -Tls-Client-Cert), Envoy, oauth2-proxy (-User, -Email)
            r"x-(real-ip|scheme|url-scheme|original-(url|uri|method|host|proto|for|forwarded-for|prefix|remote-addr))|x-rewrite-url",
            r"front-end-https|x-client-ip|x-cluster-client-ip|true-client-ip|(x-)?proxy(user|-client)-ip|wl-proxy-(client-ip|ssl)",
            r"(cf-connecting|fastly-client|fly-client|incap-client)-ip(v6)?|x-azure-(client|socket)ip|x-appengine-.*|x-envoy-external-address",
            r"x-proxycontextpath|x-gradio-server|x-portproxy-.*",  # jupyter-server-proxy, Gradio's own reverse proxy, this one
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
_FORWARDED_FIELDS = frozenset([f"x-forwarded-{name}" for name in ("for", "host", "port", "proto", "prefix", "context")])
# Fields that act on what browsers keep for a whole origin, which a service shares with Jupyter.
# `Sec-` names are agreed on between browsers and servers without scripts: sessions, private state tokens.
_ORIGIN_WIDE = re.compile(
    r"sec-(?!websocket-).*|secure-session-.*|clear-site-data|set-cookie2|use-as-dictionary|cache-group-invalidation"
    r"|strict-transport-security|public-key-pins.*|expect-ct|alt-svc|nel|report-to|reporting-endpoints"
    r"|(accept|critical|delegate)-ch(-lifetime)?|origin-agent-cluster|(critical-)?origin-trial|activate-storage-access"
    r"|set-login|idp-signin-status|observe-browsing-topics|(attribution-reporting|shared-storage|ad-auction)-.*|"
    + f"{REFUSAL_FIELD}|{ERROR_FIELD}".lower(),  # the gateway's own; a service may not send them
    re.ASCII,
)
# A reverse proxy before Jupyter would send what they name in place of the response. X-Accel-Buffering and the like pass.
_PROXY_COMMANDS = frozenset({"x-accel-redirect", "x-sendfile", "x-lighttpd-send-file", "x-lighttpd-send-tempfile", "x-sendfile2"})
# What passes of a preflight without a login, and of its response (Fetch Standard, 4.8).
_PREFLIGHT = re.compile(r"origin|access-control-.*|sec-fetch-.*|vary|content-length", re.ASCII)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Chromium keeps 180 cookies of a host name, whatever their paths, and evicts the oldest: Jupyter's, if a service sets many.
_MAX_COOKIES = 50
_PARTITIONED = ("domain", "samesite", "secure", "partitioned")  # attributes that are rewritten for a partitioned cookie
_MAX_COOKIE_PATH = 1024  # browsers ignore a longer Path (RFC 6265bis 5.6)
# In a list of challenges: the start of Digest, its `domain` parameter, and quoted strings.
_CHALLENGE = re.compile(
    r'(?:(?<=[\s,])|\A)(?P<digest>digest\s+)|\bdomain\s*=\s*(?P<domain>"(?:\\.|[^"])*"?|[^\s,"]*)\s*,?\s*|"(?:\\.|[^"])*"?',
    re.IGNORECASE | re.DOTALL,
)
_UNAMBIGUOUS_VALUE = re.compile(r'=\s*"[^"\\]*"')
_EXT_VALUE = re.compile(r"(?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-Fa-f]{2})+\Z", re.ASCII)
_MAX_LOGGED_NAME = 64  # characters


@dataclass(frozen=True, slots=True)
class Client:
    """The client of one request, as the rules use it.

    Attributes:
        address: IP address of the client, by a trusted reverse proxy or else the connection.
        peer: IP address at the other end of the connection (a reverse proxy's, if there is one).
        scheme: "http" or "https", of the client's URL.
        host: the client's Host field.
        trusted: True if the peer's X-Forwarded-* are trusted (`trust_xheaders`).
        secrets: Jupyter's tokens, in every form; none of them may reach an upstream.
        login_cookie: name of Jupyter's login cookie; at an isolated origin, of its session cookie.
        login_cookies: names and values of the Jupyter cookies with which an isolated origin was entered.
        isolated: the request was sent to an isolated origin, where no other cookie is Jupyter's.
        embedder: Jupyter's origin, and others, separated by blanks, whose pages may show the isolated service in a frame.
        caller_origin: another isolated origin whose page sent the request; empty if none.
        caller_upstream_origin: that service's origin as this service addresses it.
        preflight: the request is the caller's preflight, without a login: only CORS fields pass.
        partitioned: the page is in a frame in which browsers keep only partitioned cookies.
        is_download: the response is to be saved as a file, whatever its type.
        authorization: the service's Authorization, where the field itself carried the login here.
        public_host: the host of the client's URL by a trusted reverse proxy that has changed Host; empty otherwise.
        forwarded_client: the client as the previous hop of a chain describes it; None without one.
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


class _Context:
    """The request or response whose fields the rules change."""

    def __init__(self, fields: Fields, route: Route, upstream: Upstream, client: Client, *, keep_host: bool = False) -> None:
        self.route, self.upstream, self.client, self.keep_host = route, upstream, client, keep_host
        self._fields = fields

    @cached_property
    def service_cookie_values(self) -> frozenset[str]:
        """Values of the service's own cookies in this request."""
        lines = ";".join(line for name, line in self._fields if name.lower() == "cookie")
        own = (self.without_jupyters_cookies(lines) or "").split(";")
        return frozenset(pair.partition("=")[2].strip() for pair in own) - self.client.secrets - {""}

    @cached_property
    def forwarded_origins(self) -> frozenset[str]:
        """The origins that X-Forwarded-Host names to a service; in lower case, without a default port."""
        client, forwarded = self.client, self.client.forwarded_client
        hosts = (client.host, client.public_host) if forwarded is None else (forwarded.host,)
        return frozenset(f"{scheme}://{without_default_port(scheme, host)}" for host in hosts if host for scheme in DEFAULT_PORTS)

    def without_jupyters_cookies(self, line: str) -> str | None:
        """What is left of a Cookie field; None if nothing is.

        A Jupyter server that is the service names its login cookie after the Host that it sees: that one stays.
        """
        nested = "username-" + re.sub(r"[^A-Za-z0-9]", "-", self.upstream.authority)
        names = {self.client.login_cookie} - {""}
        isolated, pairs = self.client.isolated, self.client.login_cookies
        return credentials.remove_cookies(line, names, nested, isolated=isolated, pairs=pairs)


_Rule = Callable[[str, _Context], str | None]  # a field's value -> what crosses; None drops the field


def is_websocket_upgrade(method: str, version: str, fields: Fields) -> bool:
    """True for an upgrade request to WebSocket (RFC 6455 4.1); any other upgrade is served without it."""
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
    """The fields of the outbound request, except those that frame its content. They name one origin consistently.

    With `keep_host` Host, Origin, Referer and X-Forwarded-* are the client's. Without it Host, Origin and Referer are the
    upstream's; so are X-Forwarded-* where a check of the service may compare them: see `_adapt_forwarded`.

    Args:
        via: this gateway's name in Via.
        hop: sent if the upstream is the next hop of a chain, with the description of the client in place of X-Forwarded-*.
    """
    if client.preflight:
        fields = _select_preflight_fields(fields)
    forwarded = _describe_client(fields, client)
    keep_host = keep_host and hop is None
    context = _Context(fields, route, upstream, client, keep_host=keep_host)
    out, vias, adapted = _apply_request_rules(fields, context, forwarded, method)
    if client.authorization and not _is_jupyters_authorization(client.authorization, client):
        out.append(("Authorization", client.authorization))
    if hop is None:
        out += adapted.to_fields("" if route.keep_prefix else route.prefix)
    else:
        out.append(hop.to_field(forwarded))
    host = adapted.host if keep_host and adapted.host else upstream.authority
    return [("Host", host), *out, ("Via", ", ".join([*vias, f"1.1 {via}"]))]


def _apply_request_rules(
    fields: Fields, context: _Context, forwarded: ForwardedClient, method: str
) -> tuple[Fields, list[str], ForwardedClient]:
    """The fields that cross, the values of Via, and `forwarded` as `_adapt_forwarded` leaves it."""
    client = context.client
    named = {normalize_name(token) for token in list_tokens(fields, "connection")}
    out: Fields = []
    vias: list[str] = []
    for name, value in fields:
        key, crosses, _, rule = _request_rule(name)
        if not crosses or key in named:
            if key == "via":
                vias.append(value)
            continue
        if rule is not None:
            kept = rule(value, context)
        else:  # scripts send the page's URL in further fields
            kept = remove_secret_parameters(value, client.secrets) if "?" in value and "=" in value else value
        if kept is not None:
            out.append((name, kept))
            if rule is not None:
                forwarded = _adapt_forwarded(forwarded, key, kept, context, is_changed=kept != value, method=method)
    return out, vias, forwarded


def _adapt_forwarded(
    forwarded: ForwardedClient, key: str, value: str, context: _Context, *, is_changed: bool, method: str
) -> ForwardedClient:
    """The description of the client, consistent with the origin in an outbound field.

    It is the upstream's where Origin names the service, or another field of a request that is not safe does. Other requests
    carry the client's address, for services that build links from it.

    Args:
        is_changed: the client's URL became the service's.
    """
    if context.keep_host:
        is_page = key in ("origin", "referer") and strip_client_origin(value, context.client) is not None
        return forwarded.with_page_origin(value) if is_page else forwarded
    may_be_compared = key == "origin" or (key in REQUEST_URL_FIELDS and method not in _SAFE_METHODS)
    if not (is_changed and may_be_compared) or forwarded.public:
        return forwarded
    return forwarded.with_service_origin(context.upstream.scheme, context.upstream.authority)


def build_response_fields(fields: Fields, route: Route, upstream: Upstream, client: Client) -> Fields:
    """The fields of the client's response, except those that frame its content in this hop."""
    if client.preflight:
        fields = _select_preflight_fields(fields)
    context = _Context(fields, route, upstream, client)
    keys = [name.lower() for name, _ in fields]
    named = frozenset(list_tokens(fields, "connection") if "connection" in keys else ())
    has_length = "transfer-encoding" in keys  # which overrides Content-Length (RFC 9112 6.3)
    out: Fields = []
    cookies = 0
    for key, (name, value) in zip(keys, fields, strict=True):
        if key in HOP_BY_HOP or key in named or key in _PROXY_COMMANDS or _is_origin_wide(key):
            continue
        if key == "set-cookie":
            cookies += 1
            if cookies > _MAX_COOKIES and not client.isolated:
                continue
        elif key == "content-length":
            if has_length:
                continue
            has_length, value = True, value.split(",")[0].strip()
        rule = _RESPONSE_RULES.get(key)
        kept = value if rule is None else rule(value, context)
        if kept is not None:
            out.append((name, kept))
    if client.is_download and not any(name.lower() == "content-disposition" for name, _ in out):
        out.append(("Content-Disposition", _build_attachment(route)))
    return frame_ancestors.allow_framing(out, client.embedder) if client.isolated else out


def replace_fields(fields: Fields, by: Fields, aside: Mapping[str, str] | None = None) -> Fields:
    """Fields with those of the same name removed, and the new ones appended.

    Args:
        aside: name in lower case -> the name under which a removed field is sent nevertheless.
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


def find_identity_fields(fields: Fields) -> list[str]:
    """Names of the request fields that are dropped as claims about the client, without those that the gateway writes itself."""
    return [name for name, _ in fields if len(name) <= _MAX_LOGGED_NAME and _request_rule(name)[2]]


def find_dropped_names(fields: Fields, passed: Fields) -> list[str]:
    """Names of the fields that were not passed on, each once, without those of one hop (RFC 9110 7.6.1) and its framing."""
    kept = {name.lower() for name, _ in passed} | HOP_BY_HOP | {"content-length"}
    return list({name.lower(): name for name, _ in fields if name.lower() not in kept}.values())


def explain_refused_cookies(fields: Fields, route: Route, upstream: Upstream, client: Client) -> list[tuple[str, str]]:
    """Name and reason of each cookie of a response that does not reach the browser.

    The reason is "unnamed", "jupyter" (the name of a cookie of Jupyter's), "host_prefix" or "too_many".
    """
    context, refused, count = _Context(fields, route, upstream, client), list[tuple[str, str]](), 0
    for name, value in fields:
        if name.lower() == "set-cookie":
            count += 1
            cookie, _, reason = _check_cookie(value, context)
            if count > _MAX_COOKIES and not client.isolated:
                reason = "too_many"
            if reason:
                refused.append((cookie, reason))
    return refused


def has_loop(fields: Fields, via: str) -> bool:
    """True if a Via of the request names this gateway (RFC 9110 7.6.3)."""
    named = [value for key, value in fields if via in value and key.lower() == "via"]
    return any(member.split()[1:2] == [via] for value in named for member in value.split(","))


def answer_token_subprotocol(offered: Fields, answered: Fields) -> Fields:
    """The subprotocol field to add to a 101, if any.

    A browser that offered only Jupyter's token subprotocol fails the connection unless it is answered. The upstream, to which it
    was not sent, cannot do that.
    """
    if any(name.lower() == "sec-websocket-protocol" for name, _ in answered):
        return []
    is_offered = TOKEN_SUBPROTOCOL in list_tokens(offered, "sec-websocket-protocol")
    return [("Sec-WebSocket-Protocol", TOKEN_SUBPROTOCOL)] if is_offered else []


def strip_client_origin(url: str, client: Client) -> str | None:
    """What follows the origin in a URL of the client's own origin; None for any other."""
    rest = strip_origin(url, client.host)
    return strip_origin(url, client.public_host) if rest is None and client.public_host else rest


# ---- rules of request fields ----


def _request_authorization(value: str, context: _Context) -> str | None:
    client = context.client
    return None if client.authorization or _is_jupyters_authorization(value, client) else value


def _is_jupyters_authorization(value: str, client: Client) -> bool:
    token = credentials.parse_authorization_token(value)
    return any(credentials.is_secret(each, client.secrets) for each in (value.strip(), token))


def _request_origin(value: str, context: _Context) -> str | None:
    client = context.client
    if client.caller_origin and value.lower() == client.caller_origin and not context.keep_host:
        return client.caller_upstream_origin
    rest = strip_client_origin(value, client)
    if rest is None:
        return value
    return _public_origin(value, rest, client) if context.keep_host else context.upstream.origin


def _request_xsrf(value: str, context: _Context) -> str | None:
    """A value that a cookie of the service has is the service's: Streamlit's uploads use Tornado's field name."""
    return value if context.client.isolated or value.strip() in context.service_cookie_values else None


def _request_subprotocols(value: str, context: _Context) -> str | None:
    client = context.client
    if not client.isolated and TOKEN_SUBPROTOCOL not in value.lower():
        return value
    names = value.split(",")
    kept = [name for name in names if not _is_token_subprotocol(name.strip(), client)]
    return value if len(kept) == len(names) else ",".join(kept).strip() or None


def _is_token_subprotocol(name: str, client: Client) -> bool:
    """True for Jupyter's token; at an isolated origin the service may be a Jupyter server with a token of its own."""
    has_token = name.lower().startswith(TOKEN_SUBPROTOCOL)
    if not client.isolated:
        return has_token
    return name in client.secrets or (has_token and name[len(TOKEN_SUBPROTOCOL) + 1 :] in client.secrets)


def _request_url(name: str, form: UrlForm) -> _Rule:
    return lambda value, context: form(value, partial(_to_upstream_url, context, name in PAGE_FIELDS))


def _to_upstream_url(context: _Context, is_page: bool, url: str) -> str:
    """One URL of a request in the form that the service uses: a URL below the prefix is the service's own.

    Args:
        is_page: the field names the page that sent the request; one outside the service becomes the service's root.
    """
    route, client = context.route, context.client
    if url[:4].lower() != "http" and "?" not in url and (not route.prefix or 3 * len(url) < len(route.prefix)):
        return url  # too short for the prefix, however it is encoded; a field can have thousands of these
    url = remove_secret_parameters(url, client.secrets)
    rest = strip_client_origin(url, client)
    path = respell_prefix(url if rest is None else rest, f"{route.prefix}/")
    if rest is None and not (route.prefix and is_below(path, route.prefix)):
        return url
    origin = "" if rest is None else _public_origin(url, rest, client) if context.keep_host else context.upstream.origin
    if is_page and context.keep_host:
        return origin + (rest or "")
    if is_below(path, route.prefix):
        path = path if route.keep_prefix else path[len(route.prefix) :]
    elif is_page:
        path = "/"
    else:
        return url
    return f"{origin}{path if path.startswith('/') else '/' + path}"


def _public_origin(url: str, rest: str, client: Client) -> str:
    """The client's origin in `url`, which ends with `rest`; a previous hop may have replaced it by its own."""
    forwarded = client.forwarded_client
    return f"{forwarded.scheme}://{forwarded.host}" if forwarded is not None and forwarded.host else url[: len(url) - len(rest)]


_REQUEST_RULES: dict[str, _Rule] = {
    "cookie": lambda value, context: context.without_jupyters_cookies(value),
    "authorization": _request_authorization,
    "origin": _request_origin,
    "sec-websocket-protocol": _request_subprotocols,
    "x-xsrftoken": _request_xsrf,
    **{name: _request_url(name, form) for name, form in REQUEST_URL_FIELDS.items()},
}


# Normalized name; True if the field crosses; True if it is dropped as a claim about the client that the gateway does not write
# itself; the rule, or None if the value crosses without Jupyter's tokens.
_FieldRule = tuple[str, bool, bool, _Rule | None]


def _find_request_rule(name: str) -> _FieldRule:
    key = normalize_name(name)
    is_identity = _IDENTITY.fullmatch(key) is not None
    crosses = not (is_identity or key in HOP_BY_HOP or key in _REBUILT)
    return key, crosses, is_identity and key not in _FORWARDED_FIELDS, _REQUEST_RULES.get(key)


_cached_request_rule = lru_cache(maxsize=1024)(_find_request_rule)  # few names make up nearly all requests


def _request_rule(name: str) -> _FieldRule:
    return _cached_request_rule(name) if len(name) <= MAX_CACHED_LENGTH else _find_request_rule(name)


# ---- rules of response fields ----


def _response_url(form: UrlForm) -> _Rule:
    return lambda value, context: form(value, partial(_to_client_url, context))


def _to_client_url(context: _Context, url: str) -> str:
    """One URL of a response: a URL of this upstream is moved below the prefix, once; any other stays."""
    if not url.startswith("/") and "//" not in url:
        return url
    route, upstream, client = context.route, context.upstream, context.client
    if "//" in url and (parts := split_absolute_url(url)):
        scheme, authority, rest = parts
        scheme = (scheme or upstream.scheme).lower()
        # A service that gets X-Forwarded-Proto: https writes https URLs, whatever it speaks here.
        is_public = scheme == "https" == (client.forwarded_client or client).scheme
        if (scheme != upstream.scheme and not is_public) or not _is_authority_of(authority, upstream):
            is_forwarded = parts[0] and f"{scheme}://{without_default_port(scheme, authority)}" in context.forwarded_origins
            return _move_public_url_below(url, rest, route) if is_forwarded else url
        url = rest if rest.startswith("/") else f"/{rest}"
        if (route.keep_prefix or not route.prefix) and url[1:2] in ("/", "\\"):
            return f"/.{url}"
    return url if route.keep_prefix or not route.prefix or not url.startswith("/") else _move_below(url, route.prefix)


def _move_public_url_below(url: str, rest: str, route: Route) -> str:
    """A URL that a service has built of X-Forwarded-Host without the prefix, moved below it. `rest` follows the origin.

    Paths of JupyterHub, and those that begin as the prefix does, are not the service's: `/user/...` or `/proxy/...`.
    """
    prefix = route.prefix
    if route.keep_prefix or not prefix or any(is_below(rest, f"/{name}") for name in ("hub", prefix.split("/")[1])):
        return url
    return _move_below(rest if rest.startswith("/") else f"/{rest}", prefix)


def _move_below(path: str, prefix: str) -> str:
    """A path moved below the prefix; one that is below it already, however it is encoded, gets the prefix as it stands."""
    if 3 * len(path) >= len(prefix):  # a field can have thousands of shorter ones
        path = respell_prefix(path, f"{prefix}/")
        if is_below(path, prefix):
            return path
    return prefix + path


def _is_authority_of(authority: str, upstream: Upstream) -> bool:
    """True if `host[:port]` names this upstream; every form of a loopback address names a loopback upstream."""
    authority = authority.lower()
    if authority == upstream.authority:
        return True
    host, port = split_port(authority)
    if len(port) > 9 or int(port or DEFAULT_PORTS[upstream.scheme]) != upstream.port:
        return False
    host = host.strip("[]").removesuffix(".")
    if host == upstream.host or host in upstream.addresses:
        return True
    literal = ip_literal(host)
    is_local = is_loopback(host) or (literal is not None and literal.is_unspecified)
    return is_local and all(map(is_loopback, upstream.addresses))


def _response_set_cookie(value: str, context: _Context) -> str | None:
    """RFC 6265 5.2: no Domain, and a Path below the prefix. `__Host-` requires Path=/, which cannot be below: dropped.

    Without a name a cookie's value could read as another cookie in the next request (RFC 6265bis 5.7). Chromium's `Priority`
    would let a service's cookies outlive Jupyter's where there are too many. At an isolated origin a cookie is for that host
    alone, and partitioned where the browser would drop it otherwise.
    """
    client = context.client
    _, (pair, *attributes), reason = _check_cookie(value, context)
    if reason:
        return None
    partitioned = client.isolated and client.partitioned
    dropped = _PARTITIONED if partitioned else ("domain",) if client.isolated else ("domain", "priority")
    keys = [attribute.partition("=")[0].strip().lower() for attribute in attributes]
    last = max((number for number, key in enumerate(keys) if key == "path"), default=-1)  # browsers use the last Path
    kept = [pair]
    for number, (key, attribute) in enumerate(zip(keys, attributes, strict=True)):
        if number == last:
            kept.append(_build_path_attribute(attribute, context))
        elif key != "path" and key not in dropped:
            kept.append(attribute)
    if last < 0:
        kept.append(_build_path_attribute("", context))
    return ";".join([*kept, *([" SameSite=None", " Secure", " Partitioned"] if partitioned else [])])


def _check_cookie(value: str, context: _Context) -> tuple[str, list[str], str]:
    """The name of a cookie, its pair and attributes, and why it is refused: see `explain_refused_cookies`; empty if it is not."""
    parts = value.split(";")
    name = parts[0].partition("=")[0].strip() if "=" in parts[0] else ""
    if not name:
        return name, parts, "unnamed"
    if context.without_jupyters_cookies(name) is None:
        return name, parts, "jupyter"
    is_host_only = not context.client.isolated and name.lower().startswith("__host-")
    return name, parts, "host_prefix" if is_host_only else ""


def _build_path_attribute(attribute: str, context: _Context) -> str:
    """A cookie's Path below the prefix. A missing or relative one means the folder of the request (RFC 6265 5.1.4).

    The browser's folder would lie above the prefix where that has no final slash. The prefix has none here either: a cookie of
    the whole service is sent there, too, and is the same whether `/` is its Path, its default, or that of a script.
    """
    route = context.route
    path = attribute.partition("=")[2].strip()
    if not path.startswith("/"):
        path = route.prefix + route.path.partition(";")[0].rpartition("/")[0]
    elif context.client.isolated:
        return attribute
    else:
        path = route.prefix if path == "/" else _move_below(path, route.prefix)
    return f" Path={(path if len(path) <= _MAX_COOKIE_PATH else route.prefix) or '/'}"


def _response_challenge(value: str, context: _Context) -> str | None:
    """RFC 7616 3.3: Digest without a `domain`, or with one such as "/", applies to all of the origin."""
    prefix = context.route.prefix
    if context.client.isolated:
        return value
    if "domain" in value.lower() and re.search(r'["\\]', _UNAMBIGUOUS_VALUE.sub("", value)):
        return None
    own = f'domain="{prefix}/", '
    out: list[str] = []
    end, incomplete = 0, -1  # index in `out` of a Digest without an acceptable domain
    for match in _CHALLENGE.finditer(value):
        out.append(value[end : match.start()])
        end, domain = match.end(), match["domain"]
        urls = (domain or "").strip('"').split()
        if domain is None or (domain.strip('"') and all(is_below(url, prefix) for url in urls)):
            out.append(match[0])
            incomplete = incomplete if domain is None else -1
        if match["digest"]:
            if incomplete >= 0:
                out[incomplete] += own
            incomplete = len(out) - 1
    if incomplete >= 0:
        out[incomplete] += own
    return "".join([*out, value[end:]]).rstrip(" ,") if out else value


def _response_worker_scope(value: str, context: _Context) -> str | None:
    """Scopes are compared as strings, without tabs: without a final slash the scope of port 1500 contains port 15000."""
    prefix = context.route.prefix
    if context.client.isolated:
        return value
    return value if value.startswith(f"{prefix}/") and "\t" not in value and is_below(value.strip(), prefix) else None


def _response_origin(value: str, context: _Context) -> str | None:
    """An origin to which the service grants something (CORS), in the browser's form."""
    client = context.client
    return client.caller_origin if client.caller_origin and value.strip().lower() == client.caller_upstream_origin else value


_RESPONSE_RULES: dict[str, _Rule] = {
    **{name: _response_url(form) for name, form in RESPONSE_URL_FIELDS.items()},
    "set-cookie": _response_set_cookie,
    "access-control-allow-origin": _response_origin,
    "timing-allow-origin": _response_origin,
    "service-worker-allowed": _response_worker_scope,
    "www-authenticate": _response_challenge,
}


_cached_origin_wide = lru_cache(maxsize=1024)(_ORIGIN_WIDE.fullmatch)


def _is_origin_wide(key: str) -> bool:
    return (_cached_origin_wide if len(key) <= MAX_CACHED_LENGTH else _ORIGIN_WIDE.fullmatch)(key) is not None


def _build_attachment(route: Route) -> str:
    """RFC 6266, with the file name of the URL; a path's last segment is nearly always an ext-value of RFC 8187."""
    name = route.path.rpartition("/")[2]
    return f"attachment; filename*=UTF-8''{name}" if _EXT_VALUE.match(name) else "attachment"


# ---- both directions ----


def _select_preflight_fields(fields: Fields) -> Fields:
    return [(name, value) for name, value in fields if _PREFLIGHT.fullmatch(name.lower())]


def _describe_client(fields: Fields, client: Client) -> ForwardedClient:
    """The client as this gateway describes it to the upstream."""
    if client.forwarded_client is not None:
        return client.forwarded_client.with_peer(client.peer)
    claims = join_forwarded_fields(fields) if client.trusted else {}
    return build_forwarded_client(claims, client.peer, client.scheme, client.host, client.address if client.trusted else "")
