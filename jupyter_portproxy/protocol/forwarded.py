"""PURE. Who the client is: what a service is told of it in X-Forwarded-* and in Forwarded (RFC 7239).

Rule of this file: what a front before us has said is kept as it was said. What each hop of ours adds follows from one address,
so that address is all that is carried from hop to hop; the fields are written where they leave for a service.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from .framing import Fields
from .urls import DEFAULT_PORTS, parse_origin, split_port

SCHEMES = ("http", "https")
# jupyter-server-proxy's two, in its spelling: some services look for that very text.
_PREFIX_FIELDS = ("X-Forwarded-Prefix", "X-Forwarded-Context", "X-Proxycontextpath")
_HOST = re.compile(r"[A-Za-z0-9.:_\[\]-]+\Z", re.ASCII)
# One parameter of Forwarded, after what parts it from the one before (RFC 7239 4); it matches anything, and takes linear time.
_PARTED = re.compile(r'([;,]*)((?:[^;,"]|"(?:\\.|[^"])*"?)*)', re.DOTALL)
_SCHEME_FIELDS = ("X-Scheme", "X-Forwarded-Proto")  # Tornado's two
_PROXY_FIELDS = (*_SCHEME_FIELDS, "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Via")
_HOST_FIELDS = ("X-Forwarded-Host", "X-Original-Host")
# Of reverse proxies that choose by the path, as a gateway like this one does: they bring no other host here.
_PATH_FIELDS, _OWN_VIA = ("X-Forwarded-Prefix", "X-Forwarded-Context"), "portproxy-"
_PARAMETER = re.compile(r"(?:\A|;)\s*(\w+)\s*=\s*\"?([^;\"]*)")
_UP_TO_PATH = re.compile(r"[^/?#]*")


@dataclass(frozen=True, slots=True)
class ForwardedClient:
    """The client of a request, and the way by which it came.

    Attributes:
        scheme: "http" or "https", as the client wrote it.
        host: the client's Host field.
        peers: the IP address at the other end of each hop's connection, the first hop's first.
        port, chain, forwarded: X-Forwarded-Port, X-Forwarded-For and Forwarded of a front before the first hop; empty without.
        public: the client's own origin, where the fields tell of the service's instead.
    """

    scheme: str
    host: str
    peers: tuple[str, ...]
    port: str = ""
    chain: str = ""
    forwarded: str = ""
    public: str = ""

    def with_peer(self, peer: str) -> ForwardedClient:
        """The same at the next hop, which sees `peer`."""
        return replace(self, peers=(*self.peers, peer))

    def with_page_origin(self, url: str) -> ForwardedClient:
        """The same with scheme and host of a page there: a browser knows them, a front may say less."""
        scheme, _, rest = url.lower().partition("://")
        return replace(self, scheme=scheme, host=_UP_TO_PATH.match(rest)[0])  # type: ignore[index]  # it matches anything

    def with_service_origin(self, scheme: str, host: str) -> ForwardedClient:
        """The same for a request that names this address as its own: no field tells of another scheme or host.

        But for Gradio's own: it compares no origin, and writes the links in its answers to POST by the client's.
        """
        public, forwarded = f"{self.scheme}://{self.host}", _without_origin(self.forwarded)
        return replace(self, scheme=scheme, host=host, port="", forwarded=forwarded, public=public)

    def to_fields(self, prefix: str = "") -> Fields:
        """What a service is told; `prefix`: the path that was taken off its URL."""
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
        """RFC 7239 wants quotes round a host with a port; code-server and RStudio would read them as part of it."""
        node = f'"[{peer}]"' if ":" in peer else peer
        return f"for={node};proto={self.scheme}" + (f";host={self.host}" if _HOST.match(self.host) else "")


def join_forwarded_fields(fields: Fields) -> dict[str, str]:
    """Field name in lower case -> value, of all fields; lines of the two that are lists are one list."""
    claims = {name.lower(): value for name, value in fields}
    for key in ("x-forwarded-for", "forwarded"):
        if key in claims:
            claims[key] = ", ".join([value for name, value in fields if name.lower() == key])
    return claims


def build_forwarded_client(claims: dict[str, str], peer: str, scheme: str, host: str, address: str = "") -> ForwardedClient:
    """What a front says, and what this server sees where the front says nothing.

    Args:
        claims: by `claims_of`; empty if there is no front that is to be believed.
        peer, scheme, host: of the connection and of the request on it.
        address: the client's, if the front has told that in a field of its own (X-Real-IP).
    """
    said = first_list_member(claims.get("x-forwarded-proto", "")).lower()
    return ForwardedClient(
        said if said in SCHEMES else scheme,
        first_list_member(claims.get("x-forwarded-host", "")) or host,
        (peer,),
        first_list_member(claims.get("x-forwarded-port", "")),
        claims.get("x-forwarded-for", address).strip(" ,"),
        claims.get("forwarded", ""),
    )


def first_list_member(value: str) -> str:
    """What the first front of a chain said: `https` of `https,http`, as configurable-http-proxy behind another front has it.

    RFC 9110 5.6.1.2: empty members of a list are ignored.
    """
    return next(filter(None, map(str.strip, value.split(","))), "")


def find_client_schemes(headers: Mapping[str, str], scheme: str) -> frozenset[str]:
    """The schemes that the client's URL can have; `scheme` is that of the connection, as far as it is known.

    Behind a reverse proxy `https` is always possible: it may end TLS and not say so, or an inner one may overwrite what it said.
    """
    if not any(name in headers for name in _PROXY_FIELDS):
        return frozenset([scheme])
    return frozenset([scheme, "https", *_told(headers, _SCHEME_FIELDS, "proto")]).intersection(SCHEMES)


class RequestHead(Protocol):
    """What is looked at of a request; Tornado's is one."""

    headers: Any
    protocol: str
    version: str


def matches_client_url(request: RequestHead) -> bool:
    """False if the client's URL begins in another way than the request says: by a reverse proxy's word, or by the page that asks.

    A fake claim only lets a client go without what depends on its URL. No browser speaks HTTP/1.0; nginx does by default.
    """
    headers, scheme = request.headers, request.protocol
    if request.version == "HTTP/1.0" or _OWN_VIA in headers.get("Via", "") or any(name in headers for name in _PATH_FIELDS):
        return False
    host, referer = headers.get("Host", "").lower(), headers.get("Referer", "").lower()
    page = parse_origin(referer) if headers.get("Sec-Fetch-Site") == "same-origin" else ""
    if page and page != f"{scheme}://{host}":
        return False
    return _told(headers, _HOST_FIELDS, "host") <= {host} and _told(headers, _SCHEME_FIELDS, "proto") <= {scheme}


def _told(headers: Mapping[str, str], names: Iterable[str], parameter: str) -> set[str]:
    """What the first reverse proxy says, in fields of its own and in Forwarded; in lower case."""
    told = [first_list_member(headers.get(name, "")).lower() for name in names]
    forwarded = _PARAMETER.findall(first_list_member(headers.get("Forwarded", "")).lower())
    return {value.strip() for value in [*told, *(value for key, value in forwarded if key == parameter)]} - {""}


def _without_origin(forwarded: str) -> str:
    """Elements of Forwarded without their `host` and `proto`."""
    elements: list[list[str]] = [[]]
    for separator, parameter in _PARTED.findall(forwarded):
        if "," in separator:
            elements.append([])
        if parameter.strip() and parameter.partition("=")[0].strip().lower() not in ("host", "proto"):
            elements[-1].append(parameter.strip())
    return ", ".join(";".join(element) for element in elements if element)
