"""The answer to a request, on its way to the client.

Rule of this file: each piece is flushed before the next is read, and an answer that is not whole ends with its connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import lru_cache

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine, format_timestamp

from ..errors import HUB, HubDistrusted, NotFramed
from ..gateway.gateway import Destination, Gateway
from ..protocol import frame_ancestors
from ..protocol.headers import Client, Fields, build_response_fields
from ..protocol.named_project_urls import RedirectFollower
from ..protocol.urls import parse_origin


class Answer:
    """Writes a relayed answer to the client.

    Args:
        cookies: the fields of a login that has just begun.
        log: told the status when the answer has ended.
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
        self._route, self._upstream, self._told = destination.route, destination.upstream, destination.told
        self.journey = _journey(destination, client)
        self._connection: HTTP1Connection = request.connection  # type: ignore[assignment]
        self._until_close = False
        self._sandbox = "" if client.isolated else gateway.settings.sandbox_policy
        self._status = 0

    @property
    def started(self) -> bool:
        """Something of it has been written."""
        return self._status != 0

    def headers(self, fields: Fields) -> HTTPHeaders:
        out = self.fields_of(fields)
        if self.journey is not None:
            out = self.journey.map_response_fields(out)
        headers = AsTheyCame(out + self._cookies)
        if self._sandbox and not _is_pdf(out):  # beside the service's own: browsers obey each of several policies
            headers.add("Content-Security-Policy", self._sandbox)
        if "Date" not in headers:  # RFC 9110 6.6.1: a gateway adds what the upstream left out
            headers["Date"] = _date(int(time.time()))
        return headers

    def fields_of(self, fields: Fields) -> Fields:
        """The fields of an answer that concern the client."""
        return build_response_fields(fields, self._route, self._upstream, self._client)

    async def start(self, status: int, reason: str, fields: Fields, first: bytes | None = None) -> None:
        """Its head.

        Raises:
            HubDistrusted: it is the next hop's word to this one, and none to the client.
            NotFramed: the browser would not show it where it was asked for.
        """
        if self._told is not None and self._told.is_refused(status, fields):
            raise HubDistrusted(HUB)
        headers = self.headers(fields)
        if self._request.headers.get("Sec-Fetch-Dest") in frame_ancestors.FRAME_DESTINATIONS and self._is_not_framed(headers):
            raise NotFramed()
        if status == 404 and self._route.with_slash:  # nothing is there for Vite, but Next.js is there and not below
            status, reason = 307, "Temporary Redirect"
            headers["Location"], headers["Cache-Control"] = self._route.with_slash, "no-store"
        self._until_close = self._request.version == "HTTP/1.0" and "Content-Length" not in headers
        self._status = status
        self._gateway.counters.bytes_to_client += len(first or b"")
        await self._connection.write_headers(ResponseStartLine("HTTP/1.1", status, reason), headers, first)

    def _is_not_framed(self, headers: HTTPHeaders) -> bool:
        client = self._client
        own = f"{client.scheme}://{client.host}".lower()
        referrer = parse_origin(self._request.headers.get("Referer", ""))  # names who shows it, but not to other origins
        known = {own, referrer, *client.embedder.lower().split()}
        return frame_ancestors.forbids_frame(list(headers.get_all()), own, known)

    async def write(self, data: bytes) -> None:
        self._gateway.counters.bytes_to_client += len(data)
        await self._connection.write(data)

    def finish(self) -> None:
        self._connection.finish()
        if self._until_close:
            self._connection.close()
        self._log(self._status)

    def cut(self) -> None:
        """End the connection, so that what was sent cannot look whole."""
        self._connection.close()
        self._log(self._status)


class AsTheyCame(HTTPHeaders):
    """Fields in their own spelling and order. Tornado's own class prints names in another one, and sorts them together."""

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


def _journey(destination: Destination, client: Client) -> RedirectFollower | None:
    """For a service that the client spells in its own way."""
    alias, route = destination.alias, destination.route
    return RedirectFollower(alias, route.target[len(alias.hop_prefix) :], client) if alias is not None else None


def _is_pdf(fields: Fields) -> bool:
    """A PDF has no scripts that could reach Jupyter, and Chromium shows none in a sandbox, whatever that allows."""
    types = [value.partition(";")[0].strip().lower() for name, value in fields if name.lower() == "content-type"]
    return types == ["application/pdf"]


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    """The Date of all answers of one second."""
    return format_timestamp(second)
