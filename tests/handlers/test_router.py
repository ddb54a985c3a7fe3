"""Who serves which URL of a real Jupyter server."""

from __future__ import annotations

import asyncio
import json
import logging
import re

from ..conftest import TOKEN
from ..support.raw_clients import UPGRADE
from ..support.upstreams import mirror, says, serve

# ---- URLs ----


async def test_a_target_arrives_as_it_was_sent(call, jp_base_url):
    async with serve(mirror) as up:
        port = up.port
        for sent, seen in [
            ("/", "/"),
            ("/x?q", "/x?q"),
            ("/x?", "/x?"),
            ("/a%2Fb%23c//d;e=1/../%E4%zz?%3F&&=%00", "/a%2Fb%23c//d;e=1/../%E4%zz?%3F&&=%00"),
            ("//evil.example/x", "//evil.example/x"),
            ("/?url=http://x/?y", "/?url=http://x/?y"),
        ]:
            for form in (f"proxy/port/{port}", f"proxy/{port}", f"proxy/localhost:{port}", f"proxy/127.0.0.1:{port}"):
                answer = await call(form + sent)
                assert json.loads(answer.text)["target"] == seen, form
            for form in (f"proxy/absolute/port/{port}", f"proxy/absolute/{port}", f"proxy/absolute/127.0.0.1:{port}"):
                answer = await call(form + sent)
                assert json.loads(answer.text)["target"] == f"{jp_base_url}{form}{sent}"


async def test_the_base_url_in_another_spelling_leads_to_ours(wire, origin, jp_base_url):
    assert jp_base_url == "/a%40b/"

    async def ask(uri, *fields, method="GET"):
        async with await wire() as connection:
            await connection.send("\r\n".join([f"{method} {uri} HTTP/1.1", f"Host: {origin}", *fields, "", ""]).encode())
            return await connection.answer()

    login = f"Authorization: token {TOKEN}"
    async with serve(mirror) as up:
        for below in (f"proxy/port/{up.port}/x%40@?a=%40", "proxy/", "proxy/api/ports", f"proxy/enter/{up.port}/", "lab"):
            for method in ("GET", "POST", "HEAD"):
                answer = await ask(f"/%61@b/{below}", method=method)  # the browser has no cookie for this path
                assert (answer.status, answer.one("Location")) == (308, jp_base_url + below)
        assert (await ask(f"/a@b/proxy/port/{up.port}/ws", *UPGRADE)).status == 403
        assert up.connections == 0
        await ask(f"/a@b/proxy/port/{up.port}/ws%40", login, *UPGRADE)  # their clients follow no redirect
        assert up.last.target == "/ws%40"
        referer = f"Referer: http://{origin}/a@b/proxy/port/{up.port}/page@"
        await ask(f"{jp_base_url}proxy/port/{up.port}/", login, referer)
        assert up.last.one("Referer") == f"http://localhost:{up.port}/page@"
        rescued = await ask(f"{jp_base_url}nothing.js", login, referer)
        assert (rescued.status, rescued.one("Location")) == (307, f"{jp_base_url}proxy/port/{up.port}/nothing.js")
        for other in ("/A@b/", "/a@c/", "/a%2540b/", "/"):
            assert (await ask(f"{other}proxy/port/{up.port}/", login)).status == 404


async def test_ipv6_loopback_is_a_host(call):
    async with serve(mirror, host="::1") as up:
        answer = await call(f"proxy/[::1]:{up.port}/x")
        assert json.loads(answer.text)["target"] == "/x"
        assert up.last.one("Host") == f"[::1]:{up.port}"
        assert (await call(f"proxy/port/{up.port}/x")).status == 200  # localhost is both addresses


async def test_redirects_to_the_canonical_form(call, jp_base_url):
    for path, status, location in [
        ("proxy/port/15000", 308, "proxy/port/15000/"),
        ("proxy/port/15000?a=%20&b", 308, "proxy/port/15000/?a=%20&b"),
        ("proxy/15000", 308, "proxy/15000/"),
        ("proxy/?port=15000", 307, "proxy/port/15000/"),
        ("proxy/?a=1&port=15000&b=%2F", 307, "proxy/port/15000/?a=1&b=%2F"),
    ]:
        answer = await call(path)
        assert (answer.status, answer.one("Location")) == (status, jp_base_url + location), path


async def test_a_service_that_sees_its_prefix_says_whether_a_slash_is_to_follow(call, jp_base_url):
    """Next.js with a `basePath` sends a browser away from the slash, Vite has nothing at its base without it."""
    for first, status, location in [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, None),
        (b"HTTP/1.1 308 Permanent Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", 308, "/elsewhere"),
        (b"HTTP/1.1 404 Not Found\r\nCache-Control: max-age=9\r\nContent-Length: 4\r\n\r\nnone", 307, "PREFIX/?a=%20&b"),
    ]:
        async with serve(says(first)) as up:
            for form in ("proxy/absolute/port", "proxy/absolute", "port"):
                prefix = f"{jp_base_url}{form}/{up.port}"
                answer = await call(f"{form}/{up.port}?a=%20&b")
                assert answer.status == status
                assert answer.one("Location") == (location and location.replace("PREFIX", prefix))
                assert answer.one("Cache-Control") == ("no-store" if status == 307 else None)
                if status == 307:
                    assert (await call(f"{form}/{up.port}/")).status == 404
    async with serve(mirror) as up:
        answer = await call(f"proxy/absolute/port/{up.port}?x")
        assert json.loads(answer.text)["target"] == f"{jp_base_url}proxy/absolute/port/{up.port}?x"


async def test_ports_that_are_none_are_named_in_the_refusal(call):
    for path in ["abc", "0", "65536", "%2080", "+80", "0x50", "\xd9\xa3", "080", "-1", "8e1", "1_0"]:
        answer = await call(f"proxy/port/{path}/")
        assert answer.status == 400, path
        assert answer.text.startswith("Invalid port parameter: "), path
    assert (await call("proxy/port/abc/")).text.startswith("Invalid port parameter: abc\n")
    assert (await call("proxy/?port=15000&port=15001")).status == 400


async def test_urls_that_are_not_ours_stay_jupyters(call):
    assert (await call("api/status")).status == 200
    assert (await call("proxy/unknown")).status == 404


# ---- the dispatcher in front of Tornado's routing ----


async def test_a_cached_decision_is_logged_like_others(wire, origin, jp_base_url, caplog):
    caplog.set_level(logging.WARNING)
    async with serve(says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")) as up, await wire() as connection:
        for n in range(2):
            head = f"GET {jp_base_url}proxy/port/{up.port}/{n} HTTP/1.1\r\nHost: {origin}\r\nAuthorization: token {TOKEN}\r\n\r\n"
            await connection.send(head.encode())
            assert (await connection.answer()).status == 404
    lines = [record.getMessage() for record in caplog.records if f"/proxy/port/{up.port}/" in record.getMessage()]
    assert len(lines) == 2
    first, second = (re.sub(r"/[01] \(|[\d.]+ms", "", text) for text in lines)
    assert first == second and first.startswith("404 GET ")


async def test_jupyters_own_requests_pass(call):
    assert (await call("api/status")).status == 200
    made = await call("api/contents", method="POST", content=b'{"type": "file"}')
    assert made.status == 201
    assert (await call("nowhere")).status == 404


async def test_a_head_that_is_none_is_refused_by_tornado(wire):
    async with await wire() as connection:
        await connection.send(b"GET / HTTP/1.1\r\n\r\n")
        assert (await asyncio.wait_for(connection.answer(), 10)).status == 400
