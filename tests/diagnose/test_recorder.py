"""What a recording keeps, how much, and for how long."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from dataclasses import fields

import pytest
from tornado.httputil import HTTPHeaders

from jupyter_portproxy.diagnose import recorder as module
from jupyter_portproxy.diagnose.recorder import (
    MAX_EXCHANGES,
    MAX_RECORDINGS,
    MAX_SIZE,
    RecordedExchange,
    RecordedHead,
    Recorder,
    Recording,
)
from jupyter_portproxy.errors import TooMany
from jupyter_portproxy.handlers.response import OrderedHeaders
from jupyter_portproxy.protocol.headers import Client


@pytest.fixture
def observers():
    """What the gateway's observer was set to, in order."""
    return []


@pytest.fixture
def recorder(observers):
    recorder = Recorder(observers.append, lambda name: NAMES.get(name, ""))
    yield recorder
    recorder.close()


NAMES = {"8050": "dash", "dash": "8050"}


def record(recorder, target="8050", uri="/x", request=(), response=(), kind="http", **more):
    observed = recorder.begin(target, kind, "GET", uri, "http")
    if observed is None:
        return None
    observed.fields, observed.outbound_fields = list(request), more.pop("outbound", [])
    observed.sent = OrderedHeaders(list(response))
    for name, value in more.items():
        setattr(observed, name, value)
    observed.end()
    return observed


async def take(watch):
    return await asyncio.wait_for(anext(watch), 5)


async def test_it_observes_only_while_something_is_recorded(recorder, observers, monkeypatch):
    monkeypatch.setattr(module, "KEPT_FOR", 0.1)
    assert recorder.begin("8050", "http", "GET", "/", "http") is None
    watch = recorder.watch("8050")
    assert await take(watch) == [("snapshot", [])]
    assert observers == [recorder]
    record(recorder, uri="/1")
    await watch.aclose()
    record(recorder, uri="/2")  # in the time after the last watcher
    again = recorder.watch("8050")
    assert [exchange.url for exchange in (await take(again))[0][1]] == ["/1", "/2"]
    await asyncio.sleep(0.2)
    assert recorder.find("8050") is not None  # it has a watcher again
    await again.aclose()
    await asyncio.sleep(0.2)
    assert (recorder.find("8050"), observers) == (None, [recorder, None])
    assert record(recorder) is None


async def test_each_exchange_is_an_event_and_a_socket_two(recorder):
    watches = [recorder.watch("8050"), recorder.watch("8050")]
    for watch in watches:
        await take(watch)
    record(recorder, uri="/1")
    socket = recorder.begin("8050", "websocket", "GET", "/ws", "http")
    socket.open()
    for watch in watches:
        events = await take(watch)
        assert [(name, exchange.url, exchange.is_open) for name, exchange in events] == [
            ("exchange", "/1", False),
            ("exchange", "/ws", True),
        ]
    socket.close(1000, "service")
    socket.close(1001, "client")
    socket.end()
    socket.end()
    for watch in watches:
        ((_, exchange),) = await take(watch)
        assert (exchange.id, exchange.is_open, exchange.close_code, exchange.closed_by) == (2, False, 1000, "service")
        await watch.aclose()
    assert len(recorder.find("8050").exchanges) == 2


async def test_a_cleared_recording_is_an_event_and_goes_on(recorder):
    watch = recorder.watch("8050")
    await take(watch)
    record(recorder, uri="/1")
    recorder.clear("8050")
    record(recorder, uri="/2")
    assert await take(watch) == [("cleared", None)]
    assert [(name, exchange.url) for name, exchange in await take(watch)] == [("exchange", "/2")]
    recorder.clear("none")
    await watch.aclose()


async def test_a_quiet_stream_has_empty_lists_and_ends_with_the_server(recorder, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT", 0.05)
    watch = recorder.watch("8050")
    await take(watch)
    assert await take(watch) == []
    recorder.close()
    with pytest.raises(StopAsyncIteration):
        await take(watch)


async def test_a_service_and_its_port_are_one_recording(recorder):
    watch = recorder.watch("dash")
    await take(watch)
    record(recorder, "8050", "/by-port")
    record(recorder, "dash", "/by-name")
    record(recorder, "8051", "/other")
    assert [exchange.url for exchange in recorder.find("8050").since(0)] == ["/by-port", "/by-name"]
    await watch.aclose()


async def test_there_are_few_recordings_and_those_without_watchers_go_first(recorder):
    watches = [recorder.watch(str(number)) for number in range(MAX_RECORDINGS)]
    for watch in watches:
        await take(watch)
    with pytest.raises(TooMany) as raised:
        await take(recorder.watch("one more"))
    assert raised.value.message == "20 ports and services are recorded already."
    await watches[3].aclose()
    more = recorder.watch("one more")
    await take(more)
    assert recorder.find("3") is None and recorder.find("4") is not None and recorder.find("one more") is not None
    for watch in (*watches, more):
        await watch.aclose()


def weigh(value, seen) -> int:
    """Bytes of an object and of all that it refers to."""
    if id(value) in seen or value is None or isinstance(value, (type, bool)):
        return 0
    seen.add(id(value))
    size = sys.getsizeof(value)
    if isinstance(value, dict):
        return size + sum(weigh(key, seen) + weigh(item, seen) for key, item in value.items())
    if isinstance(value, (tuple, list, deque, set)):
        return size + sum(weigh(item, seen) for item in value)
    if isinstance(value, (RecordedExchange, RecordedHead)):
        return size + sum(weigh(getattr(value, field.name), seen) for field in fields(value))
    return size


def weigh_waiting(observed):
    seen = {id(name) for name in vars(observed)}
    return weigh([observed.uri, observed.fields, observed.outbound_fields, observed.response_fields, vars(observed.sent)], seen)


LONG = "\xff" * 60_000
HOSTILE = {
    "long paths": {"uri": f"/{LONG}"},
    "long fields": {"request": [("Referer", f"/{LONG}")] * 20, "response": [("Link", LONG)] * 20},
    "many fields": {"request": [(f"X-{number}", "v") for number in range(5_000)], "outbound": []},
    "many fields that are removed": {"response_fields": [(f"{'x' * 500}{number}", "v") for number in range(5_000)]},
    "many fields that pass": {
        "request": [(f"X-{number}", "v") for number in range(500)],
        "outbound": [(f"X-{number}", "v") for number in range(500)],
        "response": [(f"x-{number}", "v") for number in range(500)],
        "response_fields": [(f"x-{number}", "v") for number in range(500)],
    },
    "many cookies": {"request": [("Cookie", "; ".join(f"c{number}=v" for number in range(5_000)))]},
    "nothing": {"uri": ""},
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_recording_has_at_most_a_megabyte(recorder, hostile):
    watch = recorder.watch("8050")
    await take(watch)
    recording = recorder.find("8050")
    for number in range(300):
        more = {**hostile, "request": [*hostile.get("request", ()), ("X-Number", str(number))]}
        more["uri"] = f"{hostile.get('uri', '/')}?{number}"
        record(recorder, **more)
        if number % 10 == 0:
            assert sum(map(weigh_waiting, recording.waiting)) <= recording.waiting_size <= 200_000
    kept = recorder.find("8050").since(0)
    assert kept[-1].id == 300 and 40 <= len(kept) <= MAX_EXCHANGES
    assert weigh(recording.exchanges, set()) <= recording.size + 20_000 <= MAX_SIZE + 20_000  # of the dict itself
    assert weigh([recording.heads, recorder._lines], set()) < 1_000_000
    assert recording.size == sum(exchange.size for exchange in kept)
    await watch.aclose()


async def test_two_requests_with_equal_heads_share_them_and_others_do_not(recorder):
    watch = recorder.watch("8050")
    await take(watch)
    fields_, others = [("Accept", "a"), ("X-Mine", "b")], [("Accept", "c"), ("X-Mine", "b")]
    fewer = fields_[:1]
    for request, outbound in (
        (fields_, fields_),
        (list(fields_), fields_),
        (others, fields_),
        (fields_, fields_),
        (fields_, fewer),
    ):
        record(recorder, request=request, outbound=outbound)
    first, second, third, _, fifth = recorder.find("8050").since(0)
    assert first.request.text is second.request.text == "Accept: a\nX-Mine: ***"
    assert third.request.text == "Accept: c\nX-Mine: ***"
    assert (first.request.removed, fifth.request.removed) == ((), ("X-Mine",))
    await watch.aclose()


async def test_equal_requests_of_which_other_fields_are_removed_do_not_share_a_head(recorder):
    """A service with `absolute_url` and an Authorization of its own gets as many fields as its port does."""
    watch = recorder.watch("8050")
    await take(watch)
    for target, added in (("8050", "X-Forwarded-Prefix"), ("dash", "Authorization")):
        record(recorder, target, request=[("Authorization", "token x")], outbound=[("Host", "h"), (added, "y")])
    assert [exchange.request.removed for exchange in recorder.find("8050").since(0)] == [("Authorization",), ()]
    await watch.aclose()


def test_bursts_are_recorded_whole_and_a_lasting_load_in_part():
    recording = Recording()
    assert [recording.admit(100.0) for _ in range(500)] == [True] * 500
    admitted = [recording.admit(100.0 + number / 1000) for number in range(1, 7901)]
    assert sum(admitted) == 750  # of eight seconds
    assert all(any(admitted[at : at + 500]) for at in range(0, 7400, 500))
    runs = "".join("x" if each else " " for each in admitted).split()
    assert set(runs) == {"x" * 50}
    assert recording.left_out == 7900 - sum(admitted)
    assert all(recording.admit(200.0 + number / 100) for number in range(5000))


async def test_what_is_left_out_is_counted(recorder):
    watch = recorder.watch("8050")
    await take(watch)
    kept = 0
    while recorder.find("8050").left_out < 5:
        kept += record(recorder) is not None
    await asyncio.sleep(0.6)
    record(recorder, uri="/last")
    record(recorder, uri="/after")
    *_, last, after = recorder.find("8050").since(0)
    assert (last.url, last.left_out, after.left_out) == ("/last", 5, 0)
    assert kept >= 500
    await watch.aclose()


async def test_what_was_begun_before_the_end_of_a_recording_is_not_kept(recorder):
    watch = recorder.watch("8050")
    await take(watch)
    observed = recorder.begin("8050", "http", "GET", "/", "http")
    recording = recorder.find("8050")
    recorder.close()
    observed.end()
    assert not recording.exchanges
    await watch.aclose()


@pytest.mark.parametrize(
    "ends", [Recorder.find, Recorder.clear, lambda recorder, _: recorder.close()], ids=["", "clear", "close"]
)
@pytest.mark.parametrize("is_before", [False, True])
async def test_an_open_tunnel_keeps_nothing_of_its_head(recorder, ends, is_before):
    watch = recorder.watch("8050")
    await take(watch)
    socket = recorder.begin("8050", "websocket", "GET", "/a?pl4nted", "http")
    fields_ = [("Cookie", "pl4nted")]
    client = Client("127.0.0.1", "127.0.0.1", "http", "h", secrets=frozenset({"pl4nted"}))
    socket.pass_on(None, client, fields_, list(fields_))
    socket.response_fields, socket.sent = fields_, OrderedHeaders(fields_)
    if is_before:
        ends(recorder, "8050")
    socket.open()
    ends(recorder, "8050")
    assert "pl4nted" not in repr({name: value for name, value in vars(socket).items() if name != "recorded"})
    assert socket.sent is None
    await watch.aclose()


async def test_a_tunnel_that_opened_before_its_recording_was_cleared_is_recorded_when_it_closes(recorder):
    watch = recorder.watch("8050")
    await take(watch)
    socket = recorder.begin("8050", "websocket", "GET", "/ws", "http")
    socket.fields = [("Accept", "*/*")]
    socket.open()
    recorder.clear("8050")
    assert await take(watch) == [("cleared", None)]
    socket.end()
    ((_, exchange),) = await take(watch)
    assert (exchange.url, exchange.request.text, exchange.is_open) == ("/ws", "Accept: */*", False)
    await watch.aclose()


def test_a_replaced_exchange_moves_to_the_end():
    recording = Recording()
    exchanges = [RecordedExchange(number, 0, 0.0, "http", "GET", "http", f"/{number}") for number in range(3)]
    for exchange in (*exchanges, exchanges[0]):
        recording.add(exchange)
    assert [exchange.id for exchange in recording.since(0)] == [1, 2, 0]
    assert [exchange.id for exchange in recording.since(2)] == [2, 0]
    assert recording.size == sum(exchange.size for exchange in exchanges) > 2000


async def test_tornados_own_headers_are_read_as_well():
    recorder = Recorder(lambda observer: None, lambda target: "")
    recorder._recordings["1"] = Recording()
    observed = recorder.begin("1", "http", "GET", "/", "http")
    observed.sent = HTTPHeaders({"Location": "/a?b=c"})
    observed.end()
    (exchange,) = recorder.find("1").since(0)
    assert exchange.response.text == "Location: /a?b=***"
