"""The order of the steps: no byte reaches a service before all of them, and a refusal leaves nothing behind."""

from __future__ import annotations

import json

from ..conftest import TOKEN
from ..support.raw_clients import CROSS, UPGRADE
from ..support.upstreams import free_port, mirror, serve
from ..support.waiting import eventually


async def test_without_a_login_no_byte_reaches_a_service(call, jp_base_url):
    async with serve(mirror) as up:
        path = f"proxy/port/{up.port}/x"
        page = await call(path, token=None, fields=["Accept: text/html", "Sec-Fetch-Mode: navigate"])
        assert (page.status, page.one("Location").startswith(f"{jp_base_url}login?next=")) == (302, True)
        for method, fields in [
            ("GET", ["Accept: text/html", "Sec-Fetch-Mode: cors"]),
            ("GET", []),
            ("POST", ["Accept: text/html"]),
            ("OPTIONS", []),
            ("GET", UPGRADE),
        ]:
            answer = await call(path, method, fields, token=None)
            assert answer.status == 403, (method, fields)
            assert "Log in" in answer.text
        assert (await call(path, token="wrong")).status == 403
        assert up.connections == 0


async def test_a_refusal_that_ends_the_connection_says_so(call, wire, jp_base_url, origin):
    """A front that keeps connections would send its next request into one that is closed."""
    for method, content in (("GET", None), ("POST", b""), ("POST", b"x" * 100), ("DELETE", None)):
        answer = await call("proxy/port/15000/", method, content=content, token=None)
        assert (answer.status, answer.one("Connection")) == (403, "close"), method
    async with await wire() as connection:
        await connection.send(f"GET {jp_base_url}proxy/port/15000 HTTP/1.1\r\nHost: {origin}\r\n\r\n".encode())
        assert (await connection.answer()).one("Connection") == "close" and await connection.closed()


async def test_each_step_refuses_before_the_next(call, jp_base_url):
    """Framing, authentication, origin check, route, policy, upgrade: a request with several faults gets the first one's error."""
    async with serve(mirror) as up:
        port, wrong = up.port, [*CROSS, "Origin: http://evil.example", "Sec-Fetch-Mode: cors"]
        for method, path, fields, token, error in [
            ("TRACE", "proxy/port/abc/", wrong, None, (405, "method_refused")),
            ("GET", "proxy/port/abc/", wrong, None, (403, "unauthenticated")),
            ("GET", "proxy/port/abc/", wrong, TOKEN, (403, "forbidden")),
            ("GET", "proxy/port/abc/", [], TOKEN, (400, "bad_route")),
            ("GET", "proxy/port/80/", [], TOKEN, (403, "forbidden")),
        ]:
            answer = await call(path, method, [*fields, "Accept: application/json"], token=token)
            assert (answer.status, json.loads(answer.text)["code"]) == error, (method, path, fields)
        no_key = [field for field in UPGRADE if not field.startswith("Sec-WebSocket-Key")]
        assert (await call(f"proxy/port/{port}/", fields=no_key)).status == 400
        assert (await call(f"proxy/port/{port}/", fields=UPGRADE, content=b"x")).status == 400
        assert up.connections == 0


async def test_every_slot_is_given_back(call, gateway):
    async with serve(mirror) as up:
        for port, fields in [(up.port, []), (free_port(), []), (free_port(), UPGRADE), (up.port, UPGRADE), (80, [])]:
            await call(f"proxy/port/{port}/x", fields=fields)
            await call(f"proxy/port/{port}/x", "POST", fields, content=b"x")
    await eventually(lambda: (gateway.limits.exchanges.in_all, gateway.limits.tunnels.in_all) == (0, 0))
