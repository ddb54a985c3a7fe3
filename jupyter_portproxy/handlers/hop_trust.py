"""The client as described by its connection, by a trusted reverse proxy, or by the previous hop of a chain."""

from __future__ import annotations

from typing import Any

from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import Application

from ..errors import NotTheHub
from ..gateway.destinations import Projects
from ..protocol import credentials
from ..protocol.forwarded import first_list_member
from ..protocol.headers import Client
from ..protocol.hop_header import AUTHORIZATION_FIELD, HOP_FIELD, HopHeader, parse_hop_header
from ..protocol.urls import strip_origin


def trusts_reverse_proxy(application: Application) -> bool:
    """True if the X-Forwarded-* fields of a reverse proxy are trusted (`trust_xheaders`)."""
    settings = application.settings
    return bool(settings.get("trust_xheaders") or getattr(settings.get("serverapp"), "trust_xheaders", False))


def client_hosts(headers: HTTPHeaders, application: Application) -> tuple[str, ...]:
    """The hosts that a client's URL of this server can have: Host, and that of a trusted reverse proxy that has changed Host."""
    host, public = headers.get("Host", ""), headers.get("X-Forwarded-Host", "")
    return (host, first_list_member(public)) if public and trusts_reverse_proxy(application) else (host,)


def path_of_page(headers: HTTPHeaders, application: Application) -> str | None:
    """Path and query of the page of this server that sent a request, by its Referer; None for any other page."""
    referer = headers.get("Referer", "")
    paths = (strip_origin(referer, host) for host in client_hosts(headers, application)) if referer else ()
    return next((path for path in paths if path is not None), None)


def previous_hop(request: HTTPServerRequest, chain: Projects) -> HopHeader:
    """The header of a request by which the previous hop of a chain describes it.

    Raises:
        NotTheHub: it did not send a valid credential.
    """
    hop = parse_hop_header(request.headers.get(HOP_FIELD, ""))
    if not chain.admits(hop.credential):
        raise NotTheHub()
    return hop


def describe_client(
    request: HTTPServerRequest, *, trusted: bool, is_last_hop: bool, tokens: frozenset[str], login_cookie: str
) -> Client:
    """The client of a request, as the header rules use it.

    Args:
        trusted: see `trusts_reverse_proxy`.
        is_last_hop: the previous hop has used Authorization for the login here, and may send the original one in another field.
        tokens: Jupyter's own, and those by which this request logs in.
    """
    context: Any = request.connection.context  # type: ignore[union-attr]
    headers, from_hop = request.headers, trusted and is_last_hop
    host, public_host = headers.get("Host", ""), first_list_member(headers.get("X-Forwarded-Host", "")) if trusted else ""
    return Client(
        address=request.remote_ip or "",
        peer=getattr(context, "_orig_remote_ip", None) or request.remote_ip or "",
        scheme=request.protocol,
        host=host,
        trusted=trusted,
        secrets=tokens | credentials.find_xsrf_tokens(headers.get_list("Cookie")),
        login_cookie=login_cookie,
        authorization=headers.get(AUTHORIZATION_FIELD, "") if from_hop else "",
        public_host=public_host if public_host != host else "",
        forwarded_client=parse_hop_header(headers.get(HOP_FIELD, "")).forwarded_client if from_hop else None,
    )
