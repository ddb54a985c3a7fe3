"""The upstream's response on its way to the client.

Each piece is flushed before the next is read. A response that is not complete ends with its connection. Nothing is written before
`start`; from then on `started` is True and the response ends by `finish` or by `cut`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import lru_cache

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine, format_timestamp

from ..errors import HUB, HubDistrusted, NotFramed
from ..gateway.destinations import Destination
from ..gateway.gateway import Gateway
from ..protocol import frame_ancestors
from ..protocol.headers import Client, Fields, build_response_fields
from ..protocol.named_project_urls import RedirectFollower
from ..protocol.urls import Route, parse_origin


class RelayedResponse:
    """Writes an upstream's response to the client.

    Args:
        cookies: the Set-Cookie fields of a login that has just begun.
        log: called with the status when the response has ended.
    """

    def __init__(
        self,
        request: HTTPServerRequest,
        gateway: Gateway,
        destination: Destination,
        client: Client,
        cookies: Fields,
        log: Callable[[int], None],
    ) -> None:
        self._request, self._gateway, self._client, self._cookies, self._log = request, gateway, client, cookies, log
        self._route, self._upstream, self._hop_header = destination.route, destination.upstream, destination.hop
        self.redirects = _redirect_follower(destination, client)
        self._connection: HTTP1Connection = request.connection  # type: ignore[assignment]
        self._until_close = False
        self._sandbox = "" if client.isolated else gateway.settings.sandbox_policy
        self._status = 0

    @property
    def started(self) -> bool:
        return self._status != 0

    def headers(self, fields: Fields) -> HTTPHeaders:
        out = self.fields_of(fields)
        if self.redirects is not None:
            out = self.redirects.map_response_fields(out)
        headers = OrderedHeaders(out + self._cookies)
        if self._sandbox and not _is_pdf(out):  # in addition to the service's own: browsers obey all policies
            headers.add("Content-Security-Policy", self._sandbox)
        if "Date" not in headers:  # RFC 9110 6.6.1: a gateway adds what the upstream left out
            headers["Date"] = _date(int(time.time()))
        return headers

    def move_to(self, route: Route) -> None:
        """The response is that of another path of the same service."""
        self._route = route

    def fields_of(self, fields: Fields) -> Fields:
        """The fields of the upstream's response that the client gets."""
        return build_response_fields(fields, self._route, self._upstream, self._client)

    async def start(self, status: int, reason: str, fields: Fields, first: bytes | None = None) -> None:
        """Write the head.

        Raises:
            HubDistrusted: the next hop has refused this hop's credential, which does not concern the client.
            NotFramed: the browser would not show it in the frame for which it was requested.
        """
        if self._hop_header is not None and self._hop_header.is_refused(status, fields):
            raise HubDistrusted(HUB)
        headers = self.headers(fields)
        if self._request.headers.get("Sec-Fetch-Dest") in frame_ancestors.FRAME_DESTINATIONS and self._is_not_framed(headers):
            raise NotFramed()
        if status == 404 and self._route.with_slash:  # Vite has only the path with a slash, Next.js only the one without
            status, reason = 307, "Temporary Redirect"
            headers["Location"], headers["Cache-Control"] = self._route.with_slash, "no-store"
        self._until_close = self._request.version == "HTTP/1.0" and "Content-Length" not in headers
        self._status = status
        self._gateway.counters.bytes_to_client += len(first or b"")
        await self._connection.write_headers(ResponseStartLine("HTTP/1.1", status, reason), headers, first)

    def _is_not_framed(self, headers: HTTPHeaders) -> bool:
        client = self._client
        own = f"{client.scheme}://{client.host}".lower()
        referrer = parse_origin(self._request.headers.get("Referer", ""))  # the embedding page; other origins do not get it
        known = {own, referrer, *client.embedder.lower().split()}
        return frame_ancestors.forbids_frame(list(headers.get_all()), own, known)

    async def write(self, data: bytes) -> None:
        self._gateway.counters.bytes_to_client += len(data)
        await self._connection.write(data)

    def finish(self) -> None:
        self._gateway.lingering_close.finish(self._request)
        if self._until_close:
            self._connection.close()
        self._log(self._status)

    def cut(self, error: Exception | None = None) -> None:
        """Close the connection, so that the client sees an incomplete response. `error` is the reason, as far as it is known."""
        self._connection.close()
        self._log(self._status)


class OrderedHeaders(HTTPHeaders):
    """Fields in their own spelling and order; Tornado's class changes the spelling of names and groups fields by name."""

    def __init__(self, fields: Fields) -> None:
        super().__init__()
        self._fields = fields
        self._keys = {name.lower() for name, _ in fields}

    def add(self, name: str, value: str, **kwargs: bool) -> None:
        self._fields.append((name, value))
        self._keys.add(name.lower())

    def get_all(self) -> Iterator[tuple[str, str]]:
        return iter(self._fields)

    def get_list(self, name: str) -> list[str]:
        return [value for known, value in self._fields if known.lower() == name.lower()]

    def __getitem__(self, name: str) -> str:
        if name not in self:
            raise KeyError(name)
        return ",".join(self.get_list(name))

    def __setitem__(self, name: str, value: str) -> None:
        if name in self:
            del self[name]
        self.add(name, value)

    def __delitem__(self, name: str) -> None:
        self._fields = [field for field in self._fields if field[0].lower() != name.lower()]
        self._keys.remove(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self._fields))

    def __len__(self) -> int:
        return len(self._keys)


def _redirect_follower(destination: Destination, client: Client) -> RedirectFollower | None:
    """For a service that the client addresses by another path than the hops."""
    mapping, route = destination.url_mapping, destination.route
    if mapping is None:
        return None
    return RedirectFollower(mapping, f"{route.prefix}{route.path}{route.query}"[len(mapping.hop_prefix) :], client)


def _is_pdf(fields: Fields) -> bool:
    """True for a PDF: it has no scripts that could reach Jupyter, and Chromium does not show it in any sandbox."""
    types = [value.partition(";")[0].strip().lower() for name, value in fields if name.lower() == "content-type"]
    return types == ["application/pdf"]


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return format_timestamp(second)
