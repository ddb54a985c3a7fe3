"""The archive has what HAR 1.2 requires, for every kind of exchange."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from jupyter_portproxy.diagnose.har import build_archive
from jupyter_portproxy.diagnose.recorder import NO_HEAD, RecordedExchange, RecordedHead
from jupyter_portproxy.diagnose.recorder_handlers import describe_exchange

# Name -> type of the members that an entry must have (HAR 1.2, "entries" to "timings").
REQUIRED = {
    "": {"startedDateTime": str, "time": (int, float), "request": dict, "response": dict, "cache": dict, "timings": dict},
    "request": {
        "method": str, "url": str, "httpVersion": str, "cookies": list, "headers": list, "queryString": list,
        "headersSize": int, "bodySize": int,
    },
    "response": {
        "status": int, "statusText": str, "httpVersion": str, "cookies": list, "headers": list, "content": dict,
        "redirectURL": str, "headersSize": int, "bodySize": int,
    },
    "timings": {"send": (int, float), "wait": (int, float), "receive": (int, float)},
}  # fmt: skip


def item(**more):
    request = RecordedHead("Host: h:1\nCookie: a=***; b=***", more.pop("removed", ()), False, 0)
    response = RecordedHead("Content-Type: text/html\nSet-Cookie: sid=***; Path=/\nLocation: /c?d=***", (), True, 0)
    exchange = RecordedExchange(1, 1, 1_700_000_000.5, "http", "GET", "http", "/a/b?x=***&y", request, response)
    exchange.status, exchange.first_byte, exchange.seconds, exchange.bytes_down, exchange.bytes_up = 302, 0.25, 1.0, 5, 7
    for name, value in more.items():
        setattr(exchange, name, value)
    return describe_exchange(exchange, "own:8888")


@pytest.mark.parametrize(
    "exchange",
    [
        item(),
        item(kind="websocket", status=101, is_open=True, seconds=None),
        item(kind="tcp", status=101),
        item(status=0, first_byte=None, seconds=None, response=NO_HEAD, request=NO_HEAD),
        item(first_byte=2.0),
    ],
)
def test_an_entry_has_all_that_is_required(exchange):
    archive = build_archive([exchange], "1.0")
    (entry,) = json.loads(json.dumps(archive))["log"]["entries"]
    for part, members in REQUIRED.items():
        for name, kind in members.items():
            assert isinstance((entry[part] if part else entry)[name], kind), (part, name)
    assert entry["time"] == sum(entry["timings"].values()) and all(value >= 0 for value in entry["timings"].values())
    assert datetime.fromisoformat(entry["startedDateTime"]).timestamp() == 1_700_000_000.5
    assert {"version", "creator", "entries"} <= set(archive["log"]) and archive["log"]["version"] == "1.2"
    assert isinstance(entry["response"]["content"]["size"], int) and entry["response"]["content"]["mimeType"]


def test_an_entry_says_what_passed():
    error = item(error="unreachable", removed=("X-Real-Ip",), by_referer=True, redirect=("/c", "/p/c"))
    (entry,) = build_archive([error], "1.0")["log"]["entries"]
    assert entry["request"]["url"] == "http://h:1/a/b?x=***&y"
    assert entry["request"]["queryString"] == [{"name": "x", "value": "***"}, {"name": "y", "value": ""}]
    assert entry["request"]["cookies"] == [{"name": "a", "value": "***"}, {"name": "b", "value": "***"}]
    assert (entry["request"]["bodySize"], entry["response"]["bodySize"]) == (7, 5)
    assert entry["response"]["cookies"] == [{"name": "sid", "value": "***"}]
    assert (entry["response"]["redirectURL"], entry["response"]["statusText"]) == ("/c?d=***", "Found")
    assert entry["timings"] == {"send": 0, "wait": 250.0, "receive": 750.0}
    assert entry["_gateway"] == {
        "error": "unreachable", "removed": ["X-Real-Ip"], "by_referer": True, "redirect": {"from": "/c", "to": "/p/c"},
    }  # fmt: skip


def test_entries_are_in_the_order_in_which_they_began_and_sockets_have_their_code():
    second = item(kind="websocket", since=1_700_000_001.0, close_code=1000, closed_by="client")
    entries = build_archive([second, item()], "1.0")["log"]["entries"]
    assert [entry.get("_resourceType") for entry in entries] == [None, "websocket"]
    assert entries[1]["_webSocketClose"] == {"code": 1000, "by": "client"}
    assert entries[1]["request"]["url"].startswith("ws://h:1/a/b")
