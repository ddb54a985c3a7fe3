"""The client of a request, as X-Forwarded-* and Forwarded (RFC 7239) describe it to a service.

What a reverse proxy before the first hop wrote is kept byte for byte. Each hop adds one address, and only that is carried from
hop to hop; the fields are built where the request leaves for a service.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from .framing import Fields
from .urls import DEFAULT_PORTS, parse_origin, split_port

SCHEMES = ("http", "https")
# The last two are jupyter-server-proxy's, in its spelling: some services compare the name byte for byte.
_PREFIX_FIELDS = ("X-Forwarded-Prefix", "X-Forwarded-Context", "X-Proxycontextpath")
_HOST = re.compile(r"[A-Za-z0-9.:_\[\]-]+\Z", re.ASCII)
# The separator before a parameter of Forwarded, and the parameter (RFC 7239 4). Matches any text, in linear time.
_FORWARDED_PARAMETER = re.compile(r'([;,]*)((?:[^;,"]|"(?:\\.|[^"])*"?)*)', re.DOTALL)
_SCHEME_FIELDS = ("X-Scheme", "X-Forwarded-Proto")  # Tornado's two
_PROXY_FIELDS = (*_SCHEME_FIELDS, "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Via")
_HOST_FIELDS = ("X-Forwarded-Host", "X-Original-Host")
# Of reverse proxies that route by path, as this gateway does: requests for another host name do not arrive through them.
_PATH_FIELDS, _OWN_VIA = ("X-Forwarded-Prefix", "X-Forwarded-Context"), "portproxy-"
_PARAMETER = re.compile(r"(?:\A|;)\s*(\w+)\s*=\s*\"?([^;\"]*)")


@dataclass(frozen=True, slots=True)
class ForwardedClient:
    """The client of a request, and the hops that the request has passed.

    Attributes:
        scheme: "http" or "https", of the client's URL.
        host: the client's Host field.
        peers: the IP address at the other end of each hop's connection, the first hop's first.
        port, chain, forwarded: X-Forwarded-Port, X-Forwarded-For and Forwarded of a reverse proxy before the first hop, or empty.
        public: the client's origin, where `scheme` and `host` are the service's.
    """

    scheme: str
    host: str
    peers: tuple[str, ...]
    port: str = ""
    chain: str = ""
    forwarded: str = ""
    public: str = ""

    def with_peer(self, peer: str) -> ForwardedClient:
        """The same client at the next hop, whose connection comes from `peer`."""
        return replace(self, peers=(*self.peers, peer))

    def with_page_origin(self, url: str) -> ForwardedClient:
        """The same with scheme and host of an absolute URL from the browser, which may be more exact than the reverse proxy's."""
        scheme, _, host = parse_origin(url).partition("://")
        return replace(self, scheme=scheme, host=host)

    def with_service_origin(self, scheme: str, host: str) -> ForwardedClient:
        """The same for a request in which the service finds its own origin: no field names another scheme or host.

        X-Gradio-Server still does: Gradio compares no origins, and builds the links in its responses to POST from the client's.
        """
        public, forwarded = f"{self.scheme}://{self.host}", _without_origin(self.forwarded)
        return replace(self, scheme=scheme, host=host, port="", forwarded=forwarded, public=public)

    def to_fields(self, prefix: str = "") -> Fields:
        """The fields for a service; `prefix` is the path that was removed from the request target."""
        addresses = [self.chain] if self.chain else []
        for peer in self.peers:
            if peer and addresses != [peer]:
                addresses.append(peer)
        elements = [self.forwarded] if self.forwarded else []
        out = [
            ("X-Forwarded-For", ", ".join(addresses)),
            ("X-Forwarded-Proto", self.scheme),
            ("X-Gradio-Server", self.public) if self.public else ("X-Forwarded-Host", self.host),
            ("X-Forwarded-Port", self.port or split_port(self.host)[1] or str(DEFAULT_PORTS.get(self.scheme, 80))),
            ("Forwarded", ", ".join([*elements, *map(self._element, self.peers)])),
        ]
        return out + [(name, prefix) for name in _PREFIX_FIELDS] if prefix else out

    def _element(self, peer: str) -> str:
        """RFC 7239 6.3 requires quotes around a host with a port; code-server and RStudio read them as part of the host."""
        node = f'"[{peer}]"' if ":" in peer else peer
        return f"for={node};proto={self.scheme}" + (f";host={self.host}" if _HOST.match(self.host) else "")


def join_forwarded_fields(fields: Fields) -> dict[str, str]:
    """Field name in lower case -> value; the lines of X-Forwarded-For and of Forwarded are joined."""
    claims = {name.lower(): value for name, value in fields}
    for key in ("x-forwarded-for", "forwarded"):
        if key in claims:
            claims[key] = ", ".join([value for name, value in fields if name.lower() == key])
    return claims


def build_forwarded_client(claims: dict[str, str], peer: str, scheme: str, host: str, address: str = "") -> ForwardedClient:
    """The client by a trusted reverse proxy's fields, and by the connection where these are missing.

    Args:
        claims: from `join_forwarded_fields`; empty without a trusted reverse proxy.
        peer, scheme, host: of the connection and of the request on it.
        address: the client's, where the reverse proxy sends it in a field of its own (X-Real-IP).
    """
    claimed = first_list_member(claims.get("x-forwarded-proto", "")).lower()
    return ForwardedClient(
        claimed if claimed in SCHEMES else scheme,
        first_list_member(claims.get("x-forwarded-host", "")) or host,
        (peer,),
        first_list_member(claims.get("x-forwarded-port", "")),
        claims.get("x-forwarded-for", address).strip(" ,"),
        claims.get("forwarded", ""),
    )


def first_list_member(value: str) -> str:
    """The member that the outermost reverse proxy wrote: `https` of `https,http` (configurable-http-proxy behind another one).

    Empty members are ignored (RFC 9110 5.6.1.2).
    """
    return next(filter(None, map(str.strip, value.split(","))), "")


def find_client_schemes(headers: Mapping[str, str], scheme: str) -> frozenset[str]:
    """The schemes that the client's URL can have; `scheme` is the connection's.

    Behind a reverse proxy `https` is always possible: it may terminate TLS without a field that says so, or an inner one may
    overwrite the field.
    """
    if not any(name in headers for name in _PROXY_FIELDS):
        return frozenset([scheme])
    return frozenset([scheme, "https", *_find_claims(headers, _SCHEME_FIELDS, "proto")]).intersection(SCHEMES)


class RequestHead(Protocol):
    """The part of Tornado's HTTPServerRequest that is needed here."""

    headers: Any
    protocol: str
    version: str


def matches_client_url(request: RequestHead) -> bool:
    """False if the client's URL has another origin or path than the request: by a reverse proxy's fields, or by the Referer.

    A forged field only disables what depends on the client's URL. Browsers do not send HTTP/1.0; nginx does by default.
    """
    headers, scheme = request.headers, request.protocol
    if request.version == "HTTP/1.0" or _OWN_VIA in headers.get("Via", "") or any(name in headers for name in _PATH_FIELDS):
        return False
    host, referer = headers.get("Host", "").lower(), headers.get("Referer", "").lower()
    page = parse_origin(referer) if headers.get("Sec-Fetch-Site") == "same-origin" else ""
    if page and page != f"{scheme}://{host}":
        return False
    return _find_claims(headers, _HOST_FIELDS, "host") <= {host} and _find_claims(headers, _SCHEME_FIELDS, "proto") <= {scheme}


def _find_claims(headers: Mapping[str, str], names: Iterable[str], parameter: str) -> set[str]:
    """What the outermost reverse proxy wrote in the fields `names` and in Forwarded; in lower case."""
    claims = [first_list_member(headers.get(name, "")).lower() for name in names]
    forwarded = _PARAMETER.findall(first_list_member(headers.get("Forwarded", "")).lower())
    return {value.strip() for value in [*claims, *(value for key, value in forwarded if key == parameter)]} - {""}


def _without_origin(forwarded: str) -> str:
    """Elements of Forwarded without their `host` and `proto`."""
    elements: list[list[str]] = [[]]
    for separator, parameter in _FORWARDED_PARAMETER.findall(forwarded):
        if "," in separator:
            elements.append([])
        if parameter.strip() and parameter.partition("=")[0].strip().lower() not in ("host", "proto"):
            elements[-1].append(parameter.strip())
    return ", ".join(";".join(element) for element in elements if element)
