"""What is recorded of requests through a real server: what passed, what the gateway did, and how it ended."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from ..conftest import TOKEN
from ..support import upstreams
from ..support.identity_providers import configured
from ..support.raw_clients import CROSS, UPGRADE, frame
from ..support.upstreams import answers, free_port, mirror, never_answers, says, serve

PART = ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: script"]


async def test_an_exchange_has_its_times_sizes_heads_and_what_was_removed(call, watch, jp_base_url, origin):
    async with serve(mirror) as up, watch(up.port) as watcher:
        answer = await call(
            f"proxy/port/{up.port}/a/b?x=1&y", "PUT", ["X-Real-IP: 10.0.0.1", "Accept: text/plain"], content=b"x" * 1000
        )
        seen = await watcher.last()
    assert {key: seen[key] for key in ("kind", "method", "status", "error", "is_open", "is_whole", "bytes_up", "bytes_down")} == {
        "kind": "http", "method": "PUT", "status": 200, "error": "", "is_open": False, "is_whole": True,
        "bytes_up": 1000, "bytes_down": len(answer.content),
    }  # fmt: skip
    assert seen["url"] == f"http://{origin}{jp_base_url}proxy/port/{up.port}/a/b?x=***&y"
    assert 0 < seen["first_byte"] <= seen["seconds"] < 5
    assert seen["gateway"]["removed"] == ["Authorization", "X-Real-Ip"]
    assert ["Accept", "text/plain"] in seen["request_fields"] and ["Authorization", "token ***"] in seen["request_fields"]
    assert ["Content-Length", str(len(answer.content))] in seen["response_fields"]


async def test_an_exchange_by_a_cached_decision_is_recorded_as_well(call, watch, extension):
    async with serve(mirror) as up, watch(up.port) as watcher:
        for number in range(5):
            await call(f"proxy/port/{up.port}/{number}")
        await watcher.last(5)
    assert extension.decisions.hits >= 3
    assert [seen["url"][-1] for seen in watcher.exchanges.values()] == ["0", "1", "2", "3", "4"]
    assert len({seen["gateway"]["removed"][0] for seen in watcher.exchanges.values()}) == 1


@pytest.mark.parametrize(
    ("fields", "token", "status", "code"),
    [
        ([], None, 403, "unauthenticated"),
        ([], "wrong", 403, "unauthenticated"),
        ([*CROSS, "Origin: http://evil.example"], TOKEN, 403, "forbidden"),
        (["Content-Length: 1", "Content-Length: 2"], TOKEN, 400, "bad_request"),
    ],
)
async def test_a_refused_request_is_recorded(call, watch, fields, token, status, code):
    async with serve(mirror) as up, watch(up.port) as watcher:
        answer = await call(f"proxy/port/{up.port}/x", fields=fields, token=token)
        assert answer.status == status
        seen = await watcher.last()
        assert (seen["status"], seen["error"], up.connections) == (status, code, 0)


async def test_errors_of_the_upstream_are_recorded(call, watch):
    port = free_port()
    async with watch(port) as watcher:
        assert (await call(f"proxy/port/{port}/")).status == 502
        seen = await watcher.last()
    assert (seen["status"], seen["error"], seen["gateway"]["removed"]) == (502, "unreachable", ["Authorization"])


async def test_a_response_that_is_cut_and_a_client_that_goes(call, watch, wire, head_of):
    async with serve(says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")) as up, watch(up.port) as watcher:
        assert not (await call(f"proxy/port/{up.port}/")).whole
        seen = await watcher.last()
        assert (seen["status"], seen["is_whole"], seen["error"], seen["bytes_down"]) == (200, False, "bad_upstream", 3)
    async with serve(never_answers) as up, watch(up.port) as watcher:
        async with await wire() as connection:
            await connection.send(head_of("GET", up.port) + b"\r\n")
            await asyncio.sleep(0.2)
        seen = await watcher.last()
        assert (seen["status"], seen["is_whole"], seen["error"]) == (None, False, "")


async def test_a_client_that_goes_while_the_response_flows(watch, wire, head_of):
    async def flows(connection):
        await connection.head()
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            await connection.write(bytes(100_000))

    async with serve(flows) as up, watch(up.port) as watcher:
        async with await wire() as connection:
            await connection.send(head_of("GET", up.port) + b"\r\n")
            await connection.reader.readexactly(1_000_000)
            connection.writer.transport.abort()
        seen = await watcher.last()
        assert (seen["status"], seen["is_whole"], seen["error"]) == (200, False, "") and seen["bytes_down"] > 900_000


async def test_redirects_of_the_service_and_of_the_gateway(call, watch, jp_base_url):
    raw = b"HTTP/1.1 302 Found\r\nLocation: /login?next=secret-1\r\nContent-Length: 0\r\n\r\n"
    async with serve(says(raw)) as up, watch(up.port) as watcher:
        prefix = f"{jp_base_url}proxy/port/{up.port}"
        await call(f"proxy/port/{up.port}/")
        assert (await watcher.last())["gateway"]["redirect"] == {"from": "/login?next=***", "to": f"{prefix}/login?next=***"}
        assert (await call(f"proxy/port/{up.port}?q=secret-2")).status == 308
        seen = await watcher.last(2)
        assert (seen["status"], seen["gateway"]["redirect"], seen["gateway"]["by_referer"]) == (308, None, False)
        assert ["Location", f"{prefix}/?q=***"] in seen["response_fields"]
        assert "secret" not in watcher.raw


async def test_refused_cookies_and_removed_fields_of_the_service(call, watch):
    raw = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nClear-Site-Data: *\r\nSet-Cookie: good=secret-1; Path=/\r\n"
        b"Set-Cookie: _xsrf=secret-2\r\nSet-Cookie: __Host-a=secret-3; Secure; Path=/\r\nSet-Cookie: secret-4\r\n\r\n"
    )
    async with serve(says(raw)) as up, watch(up.port) as watcher:
        await call(f"proxy/port/{up.port}/")
        seen = await watcher.last()
    reasons = [("_xsrf", "jupyter"), ("__Host-a", "host_prefix"), ("", "unnamed")]
    assert [(cookie["name"], cookie["reason"]) for cookie in seen["gateway"]["refused_cookies"]] == reasons
    assert seen["gateway"]["removed_response"] == ["Clear-Site-Data"]
    assert "secret" not in watcher.raw


@pytest.mark.parametrize("jp_base_url", ["/"])
async def test_what_is_sent_to_the_service_by_its_referer(call, watch, origin, jp_base_url):
    async with serve(answers(b"it")) as up, watch(up.port) as watcher:
        referer = f"Referer: http://{origin}/proxy/port/{up.port}/page?secret"
        assert (await call("static/app.js", fields=[referer, *PART])).status == 307
        seen = await watcher.last()
        assert (seen["url"], seen["status"], seen["gateway"]["by_referer"]) == (f"http://{origin}/static/app.js", 307, True)


async def upgraded(wire, origin, jp_base_url, port):
    connection = await wire()
    lines = [f"GET {jp_base_url}proxy/port/{port}/ws?key=secret HTTP/1.1", f"Host: {origin}", f"Authorization: token {TOKEN}"]
    await connection.send("\r\n".join([*lines, *UPGRADE, "", ""]).encode())
    assert (await connection.head()).status == 101
    return connection


async def test_a_websocket_is_recorded_when_it_opens_and_when_it_closes(watch, wire, origin, jp_base_url):
    async with serve(upstreams.echo_frames) as up, watch(up.port) as watcher:
        connection = await upgraded(wire, origin, jp_base_url, up.port)
        opened = await watcher.last(is_over=False)
        assert (opened["kind"], opened["status"], opened["is_open"], opened["seconds"]) == ("websocket", 101, True, None)
        await connection.send(frame(1, b"hello") + frame(8, b"\x0f\xa2bye"))
        assert len(await connection.reader.readexactly(22)) == 22
        connection.writer.transport.abort()
        connection.writer.close()
        closed = await watcher.last()
        assert (closed["id"], closed["close_code"], closed["closed_by"]) == (opened["id"], 4002, "client")
        assert (closed["bytes_up"], closed["bytes_down"]) == (22, 22)
        assert closed["seconds"] > 0 and ["Sec-Websocket-Version", "13"] in closed["request_fields"]


async def test_the_code_of_the_service_and_a_tunnel_that_is_cut(watch, wire, origin, jp_base_url, gateway):
    async with serve(upstreams.closes_tunnel(4001)) as up, watch(up.port) as watcher:
        async with await upgraded(wire, origin, jp_base_url, up.port):
            pass
        seen = await watcher.last()
        assert (seen["close_code"], seen["closed_by"], seen["is_whole"]) == (4001, "service", True)
    async with serve(upstreams.echo_frames) as up, watch(up.port) as watcher:
        async with await upgraded(wire, origin, jp_base_url, up.port) as connection:
            connection.writer.transport.abort()
        seen = await watcher.last()
        assert (seen["close_code"], seen["closed_by"], seen["is_whole"]) == (None, None, False)
        async with await upgraded(wire, origin, jp_base_url, up.port):
            await watcher.last(2, is_over=False)
            gateway._shut_tunnels()
            seen = await watcher.last(2)
        assert (seen["close_code"], seen["closed_by"]) == (1001, "gateway")


async def test_a_refused_handshake(call, watch):
    async with serve(says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope")) as up, watch(up.port) as watcher:
        assert (await call(f"proxy/port/{up.port}/ws", fields=UPGRADE)).status == 403
        seen = await watcher.last()
        assert (seen["kind"], seen["status"], seen["error"], seen["bytes_down"]) == ("websocket", 403, "", 4)
        assert (await call(f"proxy/port/{up.port}/ws", fields=[*UPGRADE[:2], UPGRADE[3]])).status == 426
        assert (await watcher.last(2))["status"] == 426


@pytest.mark.parametrize("jp_server_config", [{**configured(), "PortProxy": {"tcp_ports": ["10000-20000"]}}])
async def test_raw_tcp_is_one_line(watch, wire, origin, jp_base_url, jp_server_config):
    async with serve(upstreams.echo_frames) as up, watch(up.port) as watcher, AsyncExitStack() as opened:
        connection = await opened.enter_async_context(await wire())
        lines = [f"GET {jp_base_url}proxy/tcp/{up.port} HTTP/1.1", f"Host: {origin}", f"Authorization: token {TOKEN}"]
        await connection.send("\r\n".join([*lines, *UPGRADE, "", ""]).encode())
        assert (await connection.head()).status == 101
        await connection.send(frame(8, b"\x03\xe8"))
        seen = await watcher.last()
        assert (seen["kind"], seen["status"], seen["close_code"], seen["is_open"]) == ("tcp", 101, 1000, False)


RAW_PORT = free_port()
RAW = {"ServerProxy": {"servers": {"raw": {"port": RAW_PORT, "raw_socket_proxy": True}}}}


@pytest.mark.parametrize("jp_server_config", [{**configured(), **RAW}])
async def test_the_head_of_a_raw_socket_has_no_token(watch, wire, origin, jp_base_url, jp_server_config):
    async with serve(upstreams.echo_frames, port=RAW_PORT), watch("raw") as watcher, await wire() as connection:
        lines = [f"GET {jp_base_url}raw/{TOKEN} HTTP/1.1", f"Host: {origin}", f"Authorization: token {TOKEN}"]
        await connection.send("\r\n".join([*lines, *UPGRADE, "", ""]).encode())
        assert (await connection.head()).status == 101
        seen = await watcher.last(is_over=False)
    assert seen["url"].endswith("/raw/***") and ["Authorization", "token ***"] in seen["request_fields"]
    assert TOKEN not in watcher.raw


async def test_other_ports_are_not_recorded_and_nothing_is_observed_without_a_watcher(call, watch, gateway):
    async with serve(mirror) as up, serve(mirror) as other:
        assert gateway.observer is None
        async with watch(up.port) as watcher:
            assert gateway.observer is not None
            await call(f"proxy/port/{other.port}/")
            await call(f"proxy/port/{up.port}/")
            assert len([await watcher.last()]) == len(watcher.exchanges) == 1
