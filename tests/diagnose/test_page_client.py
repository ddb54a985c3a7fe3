from __future__ import annotations

import asyncio
import gzip
import time

import pytest

from jupyter_portproxy.diagnose.page_client import Budget, Load, PageClient, join_url, target_of
from jupyter_portproxy.protocol.urls import Upstream

from ..support.upstreams import answers, free_port, serve
from .conftest import Reply, site


@pytest.fixture
def make_client(extension):
    def make(port: int, seconds: float = 5, size: int = 1 << 20, **more) -> PageClient:
        upstream = Upstream("localhost", port, ("127.0.0.1",))
        budget = Budget(time.monotonic() + seconds, size)
        parts = extension.connector, extension.policy, budget, lambda host: host == upstream.authority
        return PageClient(upstream.origin, upstream, *parts, **more)

    return make


def load(client: PageClient, path: str = "/", **more) -> Load:
    return Load(f"{client.origin}{path}", "page", max_content=1000, **more)


async def test_a_response_with_its_content(make_client):
    body = gzip.compress(b"<p>hello</p>")
    async with serve(site({"/x": Reply(body, fields=["Content-Encoding: gzip"])})) as service:
        client = make_client(service.port)
        loaded = await client.get(load(client, "/x"))
    assert (loaded.response.status, loaded.response.reason, loaded.content, loaded.response.size) == (
        200,
        "OK",
        b"<p>hello</p>",
        12,
    )
    assert 0 < loaded.response.seconds < 5
    assert client.budget.bytes == (1 << 20) - len(body)


async def test_fields_go_to_the_origin_alone_and_cookies_beside_the_jar(make_client):
    async with serve(site({"/": Reply("", fields=["Set-Cookie: b=2; Path=/"])})) as service:
        client = make_client(service.port, fields=[("Authorization", "token x"), ("Cookie", "a=1"), ("User-Agent", "mine")])
        client.owns = lambda host: True
        await client.get(load(client))
        await client.get(load(client))
        assert (service.last.one("Cookie"), service.last.one("Authorization")) == ("a=1; b=2", "token x")
        assert service.last.one("User-Agent").startswith("Mozilla/")
        await client.get(Load(f"http://p1.localhost:{service.port}/", "page"))
        assert (service.last.one("Cookie"), service.last.one("Authorization")) == (None, None)


async def test_a_spent_budget_sends_nothing(make_client):
    async with serve(answers(b"x")) as service:
        for client in (make_client(service.port, seconds=0), make_client(service.port, size=0)):
            assert (await client.get(load(client))).response.error == "timeout"
            assert (await client.shake_hands(f"{client.origin}/", client.origin)).error == "timeout"
        assert service.connections == 0


async def test_nothing_listens(make_client):
    client = make_client(free_port())
    assert (await client.get(load(client))).response.error == "unreachable"
    assert (await client.shake_hands(f"{client.origin}/", client.origin)).error == "unreachable"


@pytest.mark.parametrize(("coding", "error"), [("br", "not_decodable"), ("gzip", "not_decodable"), ("identity", "")])
async def test_content_codings_that_cannot_be_read(make_client, coding, error):
    async with serve(site({"/": Reply("plain", fields=[f"Content-Encoding: {coding}"])})) as service:
        client = make_client(service.port)
        response = (await client.get(load(client))).response
    assert (response.status, response.error) == (200, error)


async def test_a_cut_response_is_an_error(make_client):
    async with serve(_cut) as service:
        client = make_client(service.port)
        loaded = await client.get(load(client))
    assert (loaded.response.status, loaded.response.error, loaded.content) == (200, "bad_upstream", b"abc")


async def _cut(connection):
    await connection.request()
    await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")


async def test_redirects_are_followed_at_the_origin_only(make_client):
    pages = {
        "/": Reply(status="302 Found", fields=["Location: a/b"]),
        "/a/b": Reply(status="307 Temporary Redirect", fields=["Location: /c"]),
        "/c": Reply(status="301 Moved", fields=["Location: https://elsewhere.example/"]),
    }
    async with serve(site(pages)) as service:
        client = make_client(service.port)
        loaded = await client.follow(load(client))
    assert (loaded.response.status, loaded.response.redirects, loaded.url) == (301, ("a/b", "/c"), f"{client.origin}/c")


async def test_a_websocket_is_opened_and_closed(make_client):
    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def accept(connection):
        request = await connection.head()
        assert [request.one(name) for name in ("Upgrade", "Origin", "Sec-WebSocket-Version")] == ["websocket", "http://o", "13"]
        await connection.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        received.set_result(await connection.reader.read())

    async with serve(accept) as service:
        client = make_client(service.port)
        response = await client.shake_hands(f"{client.origin}/ws?x=1", "http://o")
        assert (response.status, response.is_ok, response.field("upgrade")) == (101, True, "websocket")
        assert (await asyncio.wait_for(received, 5)).startswith(b"\x88\x82")
    assert service.last.target == "/ws?x=1"


async def test_a_refused_websocket_and_one_that_hangs(make_client):
    async def hang(connection):
        await connection.request()
        await connection.until_closed()

    async with serve(site({"/ws": Reply("no", status="403 Forbidden")})) as service:
        client = make_client(service.port)
        response = await client.shake_hands(f"{client.origin}/ws", client.origin)
        assert (response.status, response.error) == (403, "")
    async with serve(hang) as service:
        client = make_client(service.port, seconds=0.5)
        started = time.monotonic()
        response = await client.shake_hands(f"{client.origin}/ws", client.origin)
        assert (response.status, response.error in ("timeout", "upstream_timeout"), time.monotonic() - started < 3) == (
            0,
            True,
            True,
        )


@pytest.mark.parametrize(
    ("base", "url", "joined"),
    [
        ("http://h/a/b", "c", "http://h/a/c"),
        ("http://h/a/", "/c?x#y", "http://h/c?x"),
        ("http://h/", "//g/c", "http://g/c"),
        ("http://h/", "wss://g/c", "wss://g/c"),
        ("http://h/", "\\c", "http://h/c"),
        ("http://h/", "javascript:x", ""),
        ("http://h/", "http://[::1", ""),
        ("http://h/", "http://g:99999/", ""),
    ],
)
def test_urls_are_joined(base, url, joined):
    assert join_url(base, url) == joined


def test_request_targets_are_ascii():
    assert target_of("http://h/ü b?q=\u20ac%20") == "/%C3%BC%20b?q=%E2%82%AC%20"
    assert target_of("http://h") == "/"
