"""What is activity of a real Jupyter server, by its /api/status: requests and messages of each kind, and what runs by itself."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from ..conftest import TOKEN
from ..support import upstreams
from ..support.identity_providers import configured
from ..support.raw_clients import UPGRADE, frame
from ..support.upstreams import answers, serve
from ..support.waiting import eventually

ECHOES = """
import asyncio, sys
async def echo(reader, writer):
    while b"Upgrade" not in await reader.readuntil(b"\\r\\n\\r\\n"):
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
    writer.write(sys.argv[2].encode().decode("unicode_escape").encode())
    while data := await reader.read(65536):
        writer.write(data)
async def main():
    async with await asyncio.start_server(echo, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()
asyncio.run(main())
"""
SWITCHING = upstreams.SWITCHING.decode().replace("\r", "\\r").replace("\n", "\\n")


def template(**keys) -> dict:
    command = [sys.executable, "-c", ECHOES, "{port}", SWITCHING]
    return {"command": command, "start_on_open": True, "stop_timeout": 1, **keys}


TEMPLATES = {
    "all": template(),
    "people": template(activity="people", activity_exclude=[".*/live"]),
    "none": template(activity="none"),
    "job": template(running_is_activity=True, activity="none"),
    "but-polls": template(activity_exclude=[".*/poll$"]),
}
NAVIGATION = ["Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: none", "Accept: text/html,*/*"]
FETCH = ["Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]


@pytest.fixture
def jp_server_config():
    return {**configured(), "PortProxy": {"service_templates": TEMPLATES}}


@pytest.fixture
def status(call):
    """The server's `last_activity`. What comes within 10 ms of an activity is one with it."""

    async def read() -> str:
        await asyncio.sleep(0.02)
        return json.loads((await call("api/status")).text)["last_activity"]

    return read


@pytest.fixture
def counts(status):
    """Whether something is activity: the date has changed after it."""

    async def measure(work) -> bool:
        before = await status()
        await work
        return await status() != before

    return measure


@pytest.fixture
def up(gateway):
    async def start(name: str) -> None:
        await gateway.services.wait_ready(gateway.services.open(name, by_page=True))

    return start


@pytest.mark.parametrize(
    ("path", "method", "fields", "counted"),
    [
        ("all/x", "GET", FETCH, True),
        ("all/x", "HEAD", [], True),
        ("people/x", "GET", NAVIGATION, True),
        ("people/x", "GET", ["Accept: text/html"], True),
        ("people/x", "GET", FETCH, False),
        ("people/x", "GET", ["Accept: text/event-stream"], False),
        ("people/x", "GET", [], False),
        ("people/x", "POST", FETCH, True),
        ("people/live", "POST", FETCH, False),
        ("people/live/1", "GET", NAVIGATION, False),
        ("none/x", "GET", NAVIGATION, False),
        ("none/x", "POST", [], False),
        ("but-polls/x", "GET", FETCH, True),
        ("but-polls/a/poll?since=1", "GET", FETCH, False),
        ("but-polls/a/poll/more", "GET", FETCH, True),
    ],
)
async def test_requests(call, counts, up, path, method, fields, counted):
    await up(path.partition("/")[0])

    async def send():
        answer = await call(f"proxy/service/{path}", method, fields, content=b"" if method == "POST" else None)
        assert answer.status == 200

    assert [await counts(send()) for _ in range(2)] == [counted] * 2


async def test_the_path_is_looked_at_for_each_request_with_the_same_fields(call, counts, up):
    await up("but-polls")
    for path, counted in (("x", True), ("poll", False), ("x", True), ("poll", False)):
        assert await counts(call(f"proxy/service/but-polls/{path}", fields=FETCH)) == counted


@pytest.fixture
def connect(wire, origin, jp_base_url):
    """Opens a WebSocket of a service."""

    async def open_(path: str):
        connection = await wire()
        lines = [f"GET {jp_base_url}proxy/{path} HTTP/1.1", f"Host: {origin}", f"Authorization: token {TOKEN}", *UPGRADE]
        lines.append("Accept: text/html")  # as of a page, which a handshake never is
        await connection.send("\r\n".join([*lines, "", ""]).encode())
        assert (await connection.head()).status == 101
        return connection

    return open_


async def exchange(connection, data: bytes) -> None:
    """Send bytes, which come back: from the service, they are no activity of a person's."""
    await connection.send(data)
    assert await asyncio.wait_for(connection.reader.readexactly(len(data)), 5) == data


@pytest.mark.parametrize(
    ("path", "handshake", "message", "ping"),
    [
        ("all/ws", True, True, True),
        ("people/ws", False, True, False),
        ("people/live", False, False, False),
        ("none/ws", False, False, False),
        ("but-polls/ws", True, True, True),
        ("but-polls/poll", False, False, False),
    ],
)
async def test_messages(connect, counts, up, path, handshake, message, ping):
    await up(path.partition("/")[0])
    opened = []

    async def open_():
        opened.append(await connect(f"service/{path}"))

    assert await counts(open_()) == handshake
    (connection,) = opened
    assert await counts(exchange(connection, frame(1, b"hello"))) == message
    assert await counts(exchange(connection, frame(9, b"ping") + frame(10, b"pong"))) == ping
    assert await counts(exchange(connection, frame(2, bytes(200000)))) == message
    connection.writer.close()


async def test_messages_of_the_service_alone_are_no_persons(connect, counts, gateway):
    go, sent = asyncio.Event(), asyncio.Event()

    async def talks(connection):
        await connection.head()
        await connection.write(upstreams.SWITCHING)
        await go.wait()
        await connection.write(frame(1, b"news", masked=False))
        sent.set()
        await connection.reader.read()

    async with serve(talks) as upstream:
        gateway.policy.port_rules.put({"ports": str(upstream.port), "activity": "people"})
        connection = await connect(f"port/{upstream.port}/ws")

        async def receive():
            go.set()
            assert await asyncio.wait_for(connection.reader.readexactly(6), 5) == b"\x81\x04news"

        assert not await counts(receive())
        assert await counts(connection.send(frame(1, b"x")))
        connection.writer.close()


async def test_bytes_of_raw_tcp_count_as_those_of_a_websocket(connect, counts, gateway):
    async def talks(connection):
        while data := await connection.reader.read(100):
            if data == b"answer":
                await connection.write(b"data")

    async with serve(talks) as upstream:
        gateway.policy.port_rules.put({"ports": str(upstream.port), "activity": "people"})
        connection = await connect(f"tcp/{upstream.port}")
        assert await counts(connection.send(frame(2, b"answer")))
        assert await asyncio.wait_for(connection.reader.readexactly(6), 5) == b"\x82\x04data"
        assert not await counts(connection.send(frame(9, b"")))
        connection.writer.close()


async def test_a_running_service_counts_if_its_template_says_so(counts, up, gateway, extension, monkeypatch):
    monkeypatch.setattr(extension.running_activity, "_period", 0.1)
    await up("job")
    assert await counts(asyncio.sleep(0.3))
    assert await counts(asyncio.sleep(0.3))
    await gateway.services.stop("job")
    assert not await counts(asyncio.sleep(0.3))


# ---- what runs by itself ----


async def test_the_start_of_a_service_and_its_health_checks_are_none(counts, gateway, probe):
    async def start():
        service = gateway.services.start("all", "mine")
        await gateway.services.wait_ready(service)
        assert await probe.is_ready(service)

    assert not await counts(start())


READS = ["services", "ports", "templates", "port-rules", "origins", "ready?service=all", "services/all/logs?follow=1"]


@pytest.mark.parametrize("path", READS)
async def test_what_the_panel_and_commands_read_is_none(call, counts, up, gateway, path):
    await up("all")

    async def read():
        if "follow" in path:
            asyncio.get_running_loop().call_later(0.3, lambda: asyncio.ensure_future(gateway.services.stop("all")))
        assert (await call(f"proxy/api/{path}")).status == 200

    assert not await counts(read())


async def test_the_event_stream_of_a_panel_is_none_from_its_start_to_its_end(wire, origin, jp_base_url, counts, extension):
    async def watch():
        connection = await wire()
        lines = [f"GET {jp_base_url}proxy/api/events HTTP/1.1", f"Host: {origin}", f"Authorization: token {TOKEN}"]
        await connection.send("\r\n".join([*lines, "", ""]).encode())
        assert (await connection.head()).status == 200
        assert b"snapshot" in await asyncio.wait_for(connection.reader.read(1000), 5)
        connection.writer.close()
        extension.services.start("all")
        await eventually(lambda: not extension.events._watchers, 10)

    assert not await counts(watch())


async def test_what_a_person_does_by_the_api_is(call, counts, up):
    await up("all")
    assert await counts(call("proxy/api/services/all/stop", "POST", content=b""))


async def test_pages_that_the_listing_looks_at_are_none(call, counts):
    async with serve(answers(b"<title>x</title>", b"Content-Type: text/html")) as upstream:

        async def read():
            for _ in range(2):
                ports = json.loads((await call(f"proxy/api/ports?look={upstream.port}")).text)
            assert upstream.port in {port["port"] for port in ports}

        assert not await counts(read())
        assert upstream.requests
