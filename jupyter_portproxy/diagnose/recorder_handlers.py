"""The REST API and event stream of the recorder, below `proxy/api/exchanges`.

A port or service is recorded for those who may use it: the same permission, and the same policy for ports.
"""

from __future__ import annotations

import asyncio
import json
import time
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from tornado.iostream import StreamClosedError

from ..api.handlers import ProxyAPIHandler, permitted
from ..errors import BadInput, NotFound
from ..gateway.gateway import Gateway
from ..protocol.urls import LOOPBACK_NAME, Route, parse_port
from .curl_command import print_command
from .har import build_archive
from .recorder import Item, RecordedExchange, Recorder

_SHARE = 0.005  # of the time is spent on printing the events of one watcher where many requests pass
_MAX_PAUSE = 1.0  # s between events; at MAX_RATE a recording still has all that came in that time


class ExchangesAPIHandler(ProxyAPIHandler):
    """The collaborators of all handlers."""

    def initialize(self, recorder: Recorder, gateway: Gateway) -> None:  # type: ignore[override]
        self.recorder, self.gateway = recorder, gateway

    def find_target(self) -> str:
        """The port or service of the request.

        Raises:
            BadInput, BadRoute, Forbidden, NotFound
        """
        target = self.get_query_argument("target", "")
        if not target:
            raise BadInput("The parameter 'target' is missing.", "Send a port or the name of a service, for example target=8050.")
        if target.isdigit():
            self.gateway.policy.check(Route(LOOPBACK_NAME, parse_port(target), "", "/", ""), self)
        elif self.gateway.services.prefix(target) is None and self.gateway.reservations.get(target) is None:
            raise NotFound(target)
        return target

    def describe(self, exchange: RecordedExchange) -> Item:
        return describe_exchange(exchange, self.request.host)


class ExchangesHandler(ExchangesAPIHandler):
    """`GET exchanges?target=`: what is recorded, `&format=har` as an HTTP Archive; `DELETE exchanges?target=` empties it."""

    @permitted("read", "execute")
    async def get(self) -> None:
        target, form = self.find_target(), self.get_query_argument("format", "json")
        if form not in ("json", "har"):
            raise BadInput("The parameter 'format' is neither 'json' nor 'har'.", "Leave it out, or send format=har.")
        recording = self.recorder.find(target)
        exchanges = [self.describe(each) for each in recording.since(0)] if recording is not None else []
        if form == "har":
            self.set_header("Content-Disposition", 'attachment; filename="exchanges.har"')
            self.send(build_archive(exchanges, version("jupyter_portproxy")))
        else:
            self.send({"target": target, "is_recording": recording is not None, "exchanges": exchanges})

    @permitted("execute")
    async def delete(self) -> None:
        self.recorder.clear(self.find_target())
        self.send_nothing()


class ExchangeEventsHandler(ExchangesAPIHandler):
    """`GET exchanges/events?target=`: records while it is open; a `snapshot`, then each `exchange`, and `cleared`."""

    @permitted("read", "execute")
    async def get(self) -> None:
        watching = self.recorder.watch(self.find_target())
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-store")
        try:
            async for batch in watching:
                began = time.perf_counter()
                self.write("".join(map(self._print_event, batch)) or ": still here\n\n")
                spent = time.perf_counter() - began
                await self.flush()
                await asyncio.sleep(min(spent / _SHARE, _MAX_PAUSE))
        except StreamClosedError:
            pass  # the client has disconnected
        finally:
            await watching.aclose()  # type: ignore[attr-defined]

    def _print_event(self, event: tuple[str, Any]) -> str:
        name, content = event
        if name == "snapshot":
            content = {"exchanges": [self.describe(exchange) for exchange in content]}
        elif name == "exchange":
            content = self.describe(content)
        return f"event: {name}\ndata: {json.dumps(content)}\n\n"


def describe_exchange(exchange: RecordedExchange, host: str) -> Item:
    """Schema `Exchange` of docs/openapi.yaml; `host` is this server's, for requests without a valid field."""
    request_fields = _split(exchange.request.text)
    host = next((value for name, value in request_fields if name.lower() == "host" and _is_host(value)), host)
    scheme = exchange.scheme.replace("http", "ws") if exchange.kind == "websocket" else exchange.scheme
    redirect = {"from": exchange.redirect[0], "to": exchange.redirect[1]} if exchange.redirect else None
    item: Item = {
        "id": exchange.id,
        "since": round(exchange.since, 3),
        "kind": exchange.kind,
        "method": exchange.method,
        "url": f"{scheme}://{host}{exchange.url}" if exchange.url.startswith("/") else exchange.url,
        "status": exchange.status or None,
        "is_open": exchange.is_open,
        "is_whole": exchange.is_whole,
        "first_byte": _rounded(exchange.first_byte),
        "seconds": _rounded(exchange.seconds),
        "bytes_up": exchange.bytes_up,
        "bytes_down": exchange.bytes_down,
        "close_code": exchange.close_code,
        "closed_by": exchange.closed_by,
        "error": exchange.error,
        "gateway": {
            "by_referer": exchange.by_referer,
            "redirect": redirect,
            "removed": list(exchange.request.removed),
            "removed_response": list(exchange.response.removed),
            "refused_cookies": [{"name": name, "reason": reason} for name, reason in exchange.refused_cookies],
            "left_out": exchange.left_out,
        },
        "request_fields": request_fields,
        "response_fields": _split(exchange.response.text),
    }
    item["curl"] = print_command(item)
    return item


def _split(head: str) -> list[list[str]]:
    return [[name, value] for name, _, value in (line.partition(": ") for line in head.split("\n") if line)]


def _is_host(text: str) -> bool:
    """True for a host with or without a port; clients may send anything, and parsers of URLs raise for it."""
    try:
        parts = urlsplit(f"//{text}")
        return bool(parts.hostname) and (parts.port is None or parts.port >= 0)
    except ValueError:
        return False


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


ROUTES: list[tuple[str, type[ExchangesAPIHandler]]] = [
    (r"/proxy/api/exchanges", ExchangesHandler),
    (r"/proxy/api/exchanges/events", ExchangeEventsHandler),
]
