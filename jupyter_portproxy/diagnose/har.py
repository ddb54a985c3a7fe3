"""Recorded exchanges as an HTTP Archive (HAR 1.2, http://www.softwareishard.com/blog/har-12-spec). Pure.

Only heads were recorded: no entry has content. Names that begin with `_` are this program's, as the format provides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from http.client import responses
from typing import Any

from ..protocol.framing import find_field

Item = dict[str, Any]
_UNKNOWN = -1
_KIND, _CLOSE = "resourceType", "webSocketClose"  # the former as browsers write it
_MASKED = "Values that read *** were not recorded."


def build_archive(exchanges: Iterable[Mapping[str, Any]], version: str) -> Item:
    """The archive; `exchanges` are those of the API (schema `Exchange` of docs/openapi.yaml), `version` this program's."""
    entries = [_entry(exchange) for exchange in sorted(exchanges, key=lambda exchange: (exchange["since"], exchange["id"]))]
    return {
        "log": {
            "version": "1.2",
            "creator": {"name": "jupyter_portproxy", "version": version},
            "entries": entries,
            "comment": _MASKED,
        }
    }


def _entry(exchange: Mapping[str, Any]) -> Item:
    whole = exchange["seconds"] if exchange["seconds"] is not None else exchange["first_byte"] or 0.0
    wait = min(exchange["first_byte"] if exchange["first_byte"] is not None else whole, whole)
    gateway = {"error": exchange["error"], **exchange["gateway"]}
    entry = {
        "startedDateTime": datetime.fromtimestamp(exchange["since"], timezone.utc).isoformat(timespec="milliseconds"),
        "time": _milliseconds(whole),
        "request": _request(exchange),
        "response": _response(exchange),
        "cache": {},
        "timings": {"send": 0, "wait": _milliseconds(wait), "receive": _milliseconds(whole - wait)},
        "_gateway": {name: value for name, value in gateway.items() if value},
    }
    if exchange["kind"] == "websocket":
        entry[f"_{_KIND}"] = "websocket"
        entry[f"_{_CLOSE}"] = {"code": exchange["close_code"], "by": exchange["closed_by"]}
    return entry


def _request(exchange: Mapping[str, Any]) -> Item:
    return {
        "method": exchange["method"],
        "url": exchange["url"],
        "httpVersion": "HTTP/1.1",
        "cookies": _cookies(exchange["request_fields"], "cookie"),
        "headers": _headers(exchange["request_fields"]),
        "queryString": _parameters(exchange["url"]),
        "headersSize": _UNKNOWN,
        "bodySize": exchange["bytes_up"] if exchange["kind"] == "http" else 0,
    }


def _response(exchange: Mapping[str, Any]) -> Item:
    fields, status = exchange["response_fields"], exchange["status"] or 0
    size = exchange["bytes_down"] if exchange["kind"] == "http" else 0
    return {
        "status": status,
        "statusText": responses.get(status, ""),
        "httpVersion": "HTTP/1.1",
        "cookies": _cookies(fields, "set-cookie"),
        "headers": _headers(fields),
        "content": {"size": size, "mimeType": find_field(fields, "content-type") or "x-unknown"},
        "redirectURL": find_field(fields, "location"),
        "headersSize": _UNKNOWN,
        "bodySize": size,
    }


def _milliseconds(seconds: float) -> float:
    return round(max(seconds, 0.0) * 1000, 3)


def _headers(fields: Iterable[list[str]]) -> list[Item]:
    return [{"name": name, "value": value} for name, value in fields]


def _cookies(fields: Iterable[list[str]], key: str) -> list[Item]:
    lines = [value for name, value in fields if name.lower() == key]
    pairs = [pair for line in lines for pair in (line.split(";") if key == "cookie" else line.split(";")[:1])]
    return [{"name": pair.partition("=")[0].strip(), "value": pair.partition("=")[2].strip()} for pair in pairs]


def _parameters(url: str) -> list[Item]:
    query = url.partition("#")[0].partition("?")[2]  # not by a parser, which may refuse the host
    return [{"name": part.partition("=")[0], "value": part.partition("=")[2]} for part in query.split("&") if part]
