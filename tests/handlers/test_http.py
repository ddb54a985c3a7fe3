"""Requests through a real Jupyter server: content, fields, errors, streams. Bytes in, bytes out, on raw sockets."""

from __future__ import annotations

import asyncio
import gc
import json
import time

import pytest

from jupyter_portproxy.handlers.http import HttpDelegate

from ..conftest import TOKEN
from ..support import upstreams
from ..support.upstreams import answers, free_port, mirror, says, serve
from ..support.waiting import eventually

# ---- methods and content ----


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH", "x~y"])
async def test_every_method_passes_with_and_without_content(call, method):
    async with serve(mirror) as up:
        assert (await call(f"proxy/port/{up.port}/", method)).status == 200
        assert (up.last.method, up.last.content) == (method, b"")
        assert (await call(f"proxy/port/{up.port}/", method, content=b"\x00\xffabc")).status == 200
        assert (up.last.method, up.last.content) == (method, b"\x00\xffabc")


async def test_connect_and_trace_are_refused(call):
    async with serve(mirror) as up:
        for method in ("CONNECT", "TRACE"):
            assert (await call(f"proxy/port/{up.port}/", method)).status == 405
        assert up.connections == 0


async def test_head_keeps_its_true_fields(call):
    async with serve(answers(b"x" * 5000, b'ETag: "1"')) as up:
        answer = await call(f"proxy/port/{up.port}/", "HEAD")
    assert (answer.one("Content-Length"), answer.one("ETag")) == ("5000", '"1"')


@pytest.mark.parametrize(
    "raw",
    [
        b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 1000\r\n\r\n',
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/10\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
        b"HTTP/1.1 418 I am a teapot\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 599 Odd\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.0 200 Fine\r\nX-B: until close\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n0\r\nTrailer-Field: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
    ],
)
async def test_an_answer_keeps_status_reason_fields_and_content(call, raw):
    async with serve(says(raw)) as up:
        answer = await call(f"proxy/port/{up.port}/")
    head, _, content = raw.partition(b"\r\n\r\n")
    start, *lines = head.decode().split("\r\n")
    assert f"{answer.status} {answer.reason}" == start.split(" ", 1)[1]
    for name, value in (line.split(": ", 1) for line in lines if not line.startswith("Transfer-Encoding")):
        assert answer.one(name) == value
    assert answer.whole
    assert answer.content == (b"abc" if b"chunked" in head else content)


async def test_early_hints_do_not_disturb_the_answer(call):
    async with serve(upstreams.early_hints) as up:
        assert (await call(f"proxy/port/{up.port}/")).text == "ok"


async def test_repeated_fields_stay_repeated_in_order(call):
    raw = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX-M: 1\r\nSet-Cookie: b=2\r\nX-M: 2\r\nContent-Length: 0\r\n\r\n"
    async with serve(says(raw)) as up:
        answer = await call(f"proxy/port/{up.port}/")
    assert [value.partition(";")[0] for value in answer.all("Set-Cookie")] == ["a=1", "b=2"]
    assert answer.all("X-M") == ["1", "2"]


@pytest.mark.parametrize("form", ["port/{}", "proxy/absolute/port/{}", "proxy/absolute/{}", "server/{}/x", "proxy/port/{}/x"])
async def test_a_cookie_without_a_path_comes_back_to_its_service_alone(call, jp_base_url, form):
    async with serve(answers(head=b"Set-Cookie: a=1")) as up:
        prefix = form.format(up.port).removesuffix("/x")
        answer = await call(form.format(up.port))
    assert f"a=1; Path={jp_base_url}{prefix}" in answer.all("Set-Cookie")


async def test_the_names_of_fields_that_are_taken_out_are_logged_and_scripts_own_arrive(call, caplog):
    caplog.set_level("DEBUG")
    async with serve(mirror) as up:
        await call(f"proxy/port/{up.port}/", fields=["Remote-User: eve", "X-Original-Filename: a.csv", "X-Role: r"])
    assert up.last.one("Remote-User") is None
    assert (up.last.one("X-Original-Filename"), up.last.one("X-Role")) == ("a.csv", "r")
    [line] = [record.getMessage() for record in caplog.records if "not passed on" in record.getMessage()]
    assert "Remote-User" in line and "eve" not in line and "X-Role" not in line


async def test_expect_100_continue_is_answered(wire, head_of):
    async with serve(mirror) as up, await wire() as connection:
        head = head_of("PUT", up.port)
        await connection.send(head + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert (await connection.head()).status == 100
        await connection.send(b"abc")
        assert json.loads((await connection.answer()).text)["content"] == "abc"
    assert up.last.one("Expect") is None


async def test_chunked_content_and_answer_flow_at_once(wire, head_of):
    async def ping_pong(connection):
        await connection.head()
        await connection.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int(await connection.reader.readline(), 16):
            data = await connection.reader.readexactly(size)
            await connection.reader.readline()
            await connection.write(b"%x\r\n%b\r\n" % (size, data))
        await connection.write(b"0\r\n\r\n")

    async with serve(ping_pong) as up, await wire() as connection:
        head = head_of("POST", up.port)
        await connection.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        assert (await connection.head()).status == 200
        pieces = connection.chunks()
        for piece in (b"one", b"two", b"three"):
            await connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            assert await asyncio.wait_for(anext(pieces), 5) == piece
        await connection.send(b"0\r\n\r\n")
        assert [piece async for piece in pieces] == []


async def test_more_content_than_jupyters_limit_passes(wire, head_of):
    size = 700 << 20
    async with serve(upstreams.sink) as up, await wire() as connection:
        head = head_of("PUT", up.port)
        await connection.send(head + b"Content-Length: %d\r\n\r\n" % size)
        block = bytes(1 << 20)
        for _ in range(size >> 20):
            await connection.send(block)
        assert (await connection.answer()).text == str(size)


@pytest.mark.parametrize(
    "framing",
    [
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Content-Length: -5"],
        ["Content-Length: 0x5"],
    ],
)
async def test_ambiguous_framing_is_refused(call, framing):
    async with serve(mirror) as up:
        assert (await call(f"proxy/port/{up.port}/", "POST", framing)).status == 400
        assert up.connections == 0


async def test_what_follows_a_refused_request_is_not_run(wire, head_of):
    async with serve(mirror) as up, await wire() as connection:
        bad = (
            head_of("POST", up.port, version="HTTP/1.0")
            + b"Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n"
        )
        await connection.send(bad + head_of("GET", up.port) + b"\r\n")
        assert (await connection.answer()).status == 400
        assert await connection.closed()
        assert up.connections == 0


async def test_an_http_1_0_client_is_answered_until_close(call):
    async with serve(says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")) as up:
        answer = await call(f"proxy/port/{up.port}/", version="HTTP/1.0")
    assert (answer.one("Transfer-Encoding"), answer.content) == (None, b"abc")


# ---- fields ----


async def test_a_service_sees_no_login_and_jupyters_word_on_the_client(call, origin, jp_base_url):
    async with serve(mirror) as up:
        prefix = f"{jp_base_url}proxy/port/{up.port}"
        fields = [
            f"Origin: http://{origin}",
            f"Referer: http://{origin}{prefix}/page?token={TOKEN}&a=1",
            "Cookie: _xsrf=abc; mine=1; username-127-0-0-1-8888=x",
            "X-Forwarded-For: 6.6.6.6",
            "X_Real_IP: 6.6.6.6",
            "Forwarded: for=6.6.6.6",
            "X-XSRFToken: abc",
        ]
        await call(f"proxy/port/{up.port}/x?token={TOKEN}&b=2", fields=fields)
        seen = up.last
    assert TOKEN not in str(seen)
    assert "6.6.6.6" not in str(seen)
    assert seen.target == "/x?b=2"
    assert seen.one("Authorization") is None
    assert seen.one("Host") == f"localhost:{up.port}"
    assert seen.one("Origin") == f"http://localhost:{up.port}"
    assert seen.one("Referer") == f"http://localhost:{up.port}/page?a=1"
    assert seen.one("Cookie") == "mine=1"
    assert seen.one("X-Forwarded-For") == "127.0.0.1"
    assert seen.one("X-Forwarded-Host") is None and seen.one("X-Gradio-Server") == f"http://{origin}"
    assert seen.one("X-Forwarded-Port") == str(up.port)
    assert seen.one("X-Forwarded-Prefix") == seen.one("X-Forwarded-Context") == seen.one("X-ProxyContextPath") == prefix


def configured(**settings) -> dict:
    enabled = {"jpserver_extensions": {"jupyter_portproxy": True}}
    return {"PortProxy": settings, "IdentityProvider": {"token": TOKEN}, "ServerApp": enabled}


@pytest.mark.parametrize("jp_server_config", [configured(keep_host=["15000-20000"])])
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("form", ["", "absolute/"])
async def test_the_host_is_kept_for_the_ports_that_the_settings_name(call, origin, kept, form, jp_server_config):
    async with serve(mirror, port=free_port(range(15000, 20001) if kept else range(10000, 15000))) as up:
        fields = [f"Origin: http://{origin}"]
        await call(f"proxy/{form}port/{up.port}/", method="POST", fields=fields, content=b"")
    seen, own = up.last, origin if kept else f"localhost:{up.port}"
    assert (seen.one("Host"), seen.one("Origin")) == (own, f"http://{own}")
    assert seen.one("X-Forwarded-Host") in (own, None) and f"host={own}" in seen.one("Forwarded")


async def test_a_redirect_that_is_built_of_x_forwarded_host_stays_below_the_prefix(call, jp_base_url):
    async def redirects(up):
        seen = await up.request()
        host = seen.one("X-Forwarded-Host")
        await up.write(f"HTTP/1.1 302 Found\r\nLocation: http://{host}/login\r\nContent-Length: 0\r\n\r\n".encode())

    async with serve(redirects) as up:
        response = await call(f"proxy/port/{up.port}/")
    assert response.one("Location") == f"{jp_base_url}proxy/port/{up.port}/login"


async def test_the_urls_of_fields_are_mapped_both_ways(call, origin, jp_base_url):
    async with serve(answers(head=b"Link: </x?page=2>; rel=next\r\nRefresh: 5; url=/y")) as up:
        prefix = f"{jp_base_url}proxy/port/{up.port}"
        answer = await call(f"proxy/port/{up.port}/a", method="MOVE", fields=[f"Destination: http://{origin}{prefix}/b"])
        assert up.last.one("Destination") == f"http://localhost:{up.port}/b"
        assert (answer.one("Link"), answer.one("Refresh")) == (f"<{prefix}/x?page=2>; rel=next", f"5; url={prefix}/y")


async def test_a_services_own_authorization_passes(call):
    async with serve(mirror) as up:
        await call(f"proxy/port/{up.port}/?token={TOKEN}", token=None, fields=["Authorization: Bearer of-the-service"])
    assert up.last.one("Authorization") == "Bearer of-the-service"


async def test_a_service_cannot_reach_jupyters_cookies_or_origin(call, jp_base_url):
    raw = (
        b"HTTP/1.1 302 Found\r\nLocation: /login?a\r\nSet-Cookie: s=1; Domain=x; Path=/\r\nSet-Cookie: _xsrf=evil; Path=/\r\n"
        b'Clear-Site-Data: "*"\r\nStrict-Transport-Security: max-age=1\r\nService-Worker-Allowed: /\r\n'
        b"Content-Security-Policy: default-src 'self'\r\nContent-Length: 0\r\n\r\n"
    )
    async with serve(says(raw)) as up:
        answer = await call(f"proxy/port/{up.port}/")
    prefix = f"{jp_base_url}proxy/port/{up.port}"
    assert answer.one("Location") == f"{prefix}/login?a"
    assert answer.all("Set-Cookie") == [f"s=1; Path={prefix}"]
    for name in ("Clear-Site-Data", "Strict-Transport-Security", "Service-Worker-Allowed", "X-Content-Type-Options", "Server"):
        assert answer.one(name) is None, name
    assert answer.one("Content-Security-Policy") == "default-src 'self'"


# ---- errors ----


async def test_a_dead_port_is_a_502_in_the_accepted_media_type(call):
    port = free_port()
    started = time.monotonic()
    text = await call(f"proxy/port/{port}/")
    assert time.monotonic() - started < 1
    sentences = (f"Failed to connect to service on port {port}.", f"Is the service running? Try: python3 -m http.server {port}")
    assert (text.status, text.text, text.one("Retry-After")) == (502, "{}\n{}\n".format(*sentences), "2")
    as_json = await call(f"proxy/port/{port}/", fields=["Accept: application/json"])
    assert json.loads(as_json.text) == {"code": "unreachable", "message": sentences[0], "hint": sentences[1]}
    page = await call(f"proxy/port/{port}/", fields=["Accept: text/html,*/*"])
    assert page.one("Content-Type") == "text/html; charset=utf-8"
    assert all(sentence in page.text for sentence in sentences)
    assert '<meta http-equiv="refresh" content="2">' in page.text
    for answer in (text, as_json, page):
        assert answer.one("Server") is None and "ornado" not in str(answer)
        assert answer.one("Cache-Control") == "no-store"


async def test_a_connection_serves_on_after_a_502(wire, head_of):
    async with serve(answers(b"alive")) as up, await wire() as connection:
        for _ in range(2):
            await connection.send(head_of("GET", free_port()) + b"\r\n")
            assert (await connection.answer()).status == 502
            await connection.send(head_of("GET", up.port) + b"\r\n")
            assert (await connection.answer()).content == b"alive"


async def test_nothing_that_was_sent_is_markup_in_the_answer(call):
    for accept in ("text/html", "application/json", "text/plain"):
        for path in ("proxy/port/<script>/", "proxy/<b>:80/", "proxy/port/1&lt;/", 'proxy/port/"onload=x/'):
            answer = await call(path, fields=[f"Accept: {accept}"])
            assert answer.status in (400, 404)
            assert "<script>" not in answer.text and "<b>" not in answer.text and 'r: "o' not in answer.text


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (upstreams.closes_without_answer, 502),
        (upstreams.resets_without_answer, 502),
        (says(b"garbage\r\n\r\n"), 502),
        (says(b"<html>HTTP/0.9</html>"), 502),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), 502),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), 502),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nab"), 502),
        (says(b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n"), 502),
        (says(b"HTTP/1.1 99999 Odd\r\n\r\n"), 502),
    ],
)
async def test_an_answer_that_is_none_is_a_502(call, script, status):
    async with serve(script) as up:
        answer = await call(f"proxy/port/{up.port}/")
    assert answer.status == status
    assert answer.text.startswith("The service's response could not be used: ")


@pytest.mark.parametrize("script", [upstreams.cut_mid_content, upstreams.cut_mid_chunk])
async def test_a_cut_answer_never_looks_whole(call, script):
    async with serve(script) as up:
        answer = await call(f"proxy/port/{up.port}/")
    assert (answer.status, answer.whole) == (200, False)


@pytest.mark.parametrize("jp_server_config", [configured(allowed_ports=["1-65535"])])
async def test_the_server_itself_is_a_loop(call, origin, jp_serverapp, jp_server_config):
    port = int(origin.split(":")[1])
    answer = await call(f"proxy/port/{port}{jp_serverapp.base_url}proxy/port/{port}/x", fields=["Via: 1.1 x"])
    assert answer.status in (403, 508)


@pytest.mark.parametrize("jp_server_config", [configured(first_byte_timeout=0.3)])
async def test_no_answer_in_time_is_a_504(call, jp_server_config):
    async with serve(upstreams.never_answers) as up:
        answer = await call(f"proxy/port/{up.port}/")
        assert (answer.status, answer.one("Retry-After")) == (504, "5")
        await asyncio.wait_for(up.gone.wait(), 1)


# ---- streams ----


async def test_events_arrive_as_they_are_written(wire, head_of):
    async with serve(upstreams.drips([b"data: 1\n\n", b"data: 2\n\n"], 0.3)) as up, await wire() as connection:
        await connection.send(head_of("GET", up.port) + b"\r\n")
        await connection.head()
        pieces = connection.chunks()
        assert await asyncio.wait_for(anext(pieces), 0.25) == b"data: 1\n\n"
        assert await asyncio.wait_for(anext(pieces), 1) == b"data: 2\n\n"
        connection.writer.close()
        await asyncio.wait_for(up.gone.wait(), 1)


async def test_the_clients_going_away_ends_the_upstreams_request(wire, head_of, gateway):
    async with serve(upstreams.never_answers) as up:
        async with await wire() as connection:
            await connection.send(head_of("GET", up.port) + b"\r\n")
            await eventually(lambda: up.requests)
        await asyncio.wait_for(up.gone.wait(), 1)
        await eventually(lambda: gateway.exchanges == 0)


async def test_a_client_that_goes_away_after_its_upload_ends_the_upstreams_request(wire, head_of, gateway):
    async with serve(upstreams.never_answers) as up:
        async with await wire() as connection:
            await connection.send(head_of("POST", up.port) + b"Content-Length: 3\r\n\r\nabc")
            await eventually(lambda: gateway.exchanges == 1)
            await asyncio.sleep(0.1)
        await eventually(lambda: gateway.exchanges == gateway.limits.exchanges.in_all == 0)


async def test_a_client_that_does_not_read_stops_the_upstream(wire, head_of):
    async with serve(upstreams.endless) as up, await wire() as connection:
        await connection.send(head_of("GET", up.port) + b"\r\n")
        await connection.head()
        await asyncio.sleep(0.5)
        taken = len(up.received)
        await asyncio.sleep(0.5)
        assert len(up.received) == taken < 500  # blocks of 64 KiB: what the socket buffers of four ends hold


async def test_many_at_once_are_all_answered_and_leave_nothing(call, gateway):
    async with serve(answers(b"x" * 1000)) as up:
        got = await asyncio.gather(*(call(f"proxy/port/{up.port}/{n}") for n in range(100)))
        assert {(answer.status, len(answer.content)) for answer in got} == {(200, 1000)}
        assert gateway.exchanges == 0


# ---- odd heads ----


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok", 999),
        (b"HTTP/1.1 600\r\nContent-Length: 2\r\n\r\nok", 600),
        (b"HTTP/1.1 199 Odd\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200),
        ("HTTP/1.1 200 OK\r\nX-\u00dcber: 1\r\n folded\r\nContent-Length: 2\r\n\r\nok".encode(), 200),
        (b"HTTP/1.1 200 OK\r\nX[a]: 1\r\nContent-Length: 2\r\n\r\nok", 200),
        (b"HTTP/1.1 200 OK\r\n: 1\r\nContent-Length: 2\r\n\r\nok", 200),
        (b"HTTP/1.1 200 OK\r\nX-Bell: \x07\r\nContent-Length: 2\r\n\r\nok", 200),
        (b"HTTP/1.1 200 OK\nX-Lone: LF\nContent-Length: 2\n\nok", 200),
        (b"HTTP/1.1 200 OK\r\nX-Blank : 1\r\nContent-Length: 2\r\n\r\nok", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length: \t\r\nContent-Length:\r\n\r\nok", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length:\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200),
        (b"HTTP/1.1 200\tOK\r\nContent-Length: 2\r\n\r\nok", 200),
    ],
)
async def test_odd_but_unambiguous_heads_pass(call, gateway, head, status):
    async with serve(says(head)) as up:
        answer = await call(f"proxy/port/{up.port}/")
    assert (answer.status, answer.content, answer.whole) == (status, b"ok", True)
    assert gateway.exchanges == 0


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"Content-Length: 2\r\nContent-Length: 3", "Content-Length is not one whole number"),
        (b"Content-Length: 2\r\nContent-Length:", "Content-Length is not one whole number"),
        (b"Content-Length: 2x", "Content-Length is not one whole number"),
        (b"Content-Length : 2", "a blank stands between Content-Length and its colon"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked is given more than once"),
        (b"Transfer-Encoding: gzip, chunked", "Transfer-Encoding is not chunked"),
        (b"Content-Length: 2\r\nno colon", "a header line has no colon"),
        (b"A: 1\rB: 2\r\nContent-Length: 2", "control characters"),
        (b"Location: /a\r\nLocation: /b", "it has two Locations that differ"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_ambiguous_heads_are_refused_with_the_reason(call, head, why, method):
    async with serve(says(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\nok")) as up:
        answer = await call(f"proxy/port/{up.port}/", method=method, content=b"x" if method == "POST" else None)
    assert answer.status == 502 and why in answer.text
    assert up.connections == 1 or method == "GET"


async def test_a_request_with_an_empty_length_in_its_answer_is_repeated_only_if_it_may_be(call):
    async with serve(says(b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok")) as up:
        assert (await call(f"proxy/port/{up.port}/", method="POST", content=b"x")).status == 502
        assert (await call(f"proxy/port/{up.port}/", method="DELETE")).status == 502
        assert up.connections == 2
    async with serve(answers(b"whole")) as up:  # the handle reads lengths again
        assert (await call(f"proxy/port/{up.port}/")).one("Content-Length") == "5"


async def test_the_log_names_a_header_line_that_cannot_pass_once(call, caplog):
    async with serve(answers(head="X-\u00dcber: secret\r\n: nameless".encode())) as up:
        for _ in range(3):
            await call(f"proxy/port/{up.port}/")
    warnings = [record.getMessage() for record in caplog.records if "cannot pass" in record.getMessage()]
    assert len(warnings) == 2 and "X-" in warnings[0] and "secret" not in warnings[0] and ": nameless" in warnings[1]


# ---- manifests ----


@pytest.mark.parametrize(
    "path", ["proxy/port/15000/manifest.json", "proxy/port/1/x", "proxy/service/none/m", "proxy/absolute/port/15000/a"]
)
async def test_a_manifest_without_cookies_is_empty_and_reveals_nothing(call, path):
    metadata = ["Sec-Fetch-Dest: manifest", "Sec-Fetch-Mode: cors"]
    answer = await call(path, token=None, fields=[*metadata, "Sec-Fetch-Site: same-origin"])
    assert (answer.status, answer.content, answer.one("Content-Type")) == (200, b"{ }", "application/manifest+json")
    for fields in (
        metadata,
        [*metadata, "Sec-Fetch-Site: cross-site"],
        ["Sec-Fetch-Dest: script", "Sec-Fetch-Site: same-origin"],
    ):
        assert (await call(path, token=None, fields=fields)).status == 403
    assert (await call(path, "POST", [*metadata, "Sec-Fetch-Site: same-origin"], b"", token=None)).status == 403


async def test_a_manifest_with_a_login_is_the_services(call):
    async with serve(answers(b'{"name": "own"}')) as up:
        fields = ["Sec-Fetch-Dest: manifest", "Sec-Fetch-Site: same-origin"]
        assert (await call(f"proxy/port/{up.port}/manifest.json", fields=fields)).content == b'{"name": "own"}'


async def test_a_request_is_freed_without_the_garbage_collector(call):
    async with serve(mirror) as up:
        await call(f"proxy/port/{up.port}/x")
        gc.collect()
        gc.disable()
        try:
            for number in range(10):
                await call(f"proxy/port/{up.port}/x", fields=[f"X-Own: {number % 5}"])
                await call(f"proxy/port/{up.port}/x", "POST", content=b"x")
            await asyncio.sleep(0.1)
            assert sum(isinstance(known, HttpDelegate) for known in gc.get_objects()) <= 2
        finally:
            gc.enable()
