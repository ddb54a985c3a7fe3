"""`/{username}/{project}/x?port=N` as a table of cases, for projects of one machine and through a hub, a host and a container.

The cases are those of a web platform that had URLs of this form: methods, queries, bodies, streams, WebSockets, redirects,
errors, and who may view what.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

import pytest
import websockets

from jupyter_portproxy.projects.placement.admin import PlacementAdmin

from ..support.postgres import make_database
from ..support.project_sites import ProjectSite, local_site, place_locally
from ..support.raw_clients import Wire
from ..support.upstreams import answers, drips, free_port, mirror, serve
from . import test_chain
from .test_chain import echo_of, redirects, values

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the host's registry needs POSIX processes"),
    pytest.mark.timeout(180),  # the servers start with the first test
]
PUBLIC = {"public_projects": True}


@dataclass
class Site:
    """Where the cases run: project `key` is `proj` of ann's, with the member bob and the viewer eve."""

    site: ProjectSite
    admin: PlacementAdmin
    key: str
    host: str

    async def get(self, path: str, user: str | None = "ann", method: str = "GET", fields=(), content=None):
        return await self.site.ask(path, user, method, fields, content)


@pytest.fixture(scope="module", params=["local", "chain"])
def servers(request, tmp_path_factory):
    home = tmp_path_factory.mktemp("named")
    if request.param == "local":
        with local_site(home, settings=PUBLIC) as site:
            yield site
        return
    database = asyncio.run(make_database(request.getfixturevalue("postgres_server")))
    with test_chain.three_servers(database, home, hubs_settings=PUBLIC) as hops:
        yield hops


@pytest.fixture
def site(servers, jp_asyncio_loop) -> Iterator[Site]:
    if isinstance(servers, test_chain.Hops):
        for hops in test_chain.placed(servers, jp_asyncio_loop):
            yield Site(hops, hops.admin, test_chain.KEY, "one")
        return
    admin = PlacementAdmin(servers.dsn)
    jp_asyncio_loop.run_until_complete(place_locally(admin, "p1"))
    jp_asyncio_loop.run_until_complete(servers.until(f"/ann/proj/?port={free_port()}", 502))
    yield Site(servers, admin, "p1", "local")
    jp_asyncio_loop.run_until_complete(admin.close())


# ---- requests ----


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("content", [None, b"a=1&port=99&\0\xff"])
async def test_methods_and_bodies(site, method, content):
    """A `port=` in a form body is the service's."""
    form = ["Content-Type: application/x-www-form-urlencoded"] if content is not None else []
    async with serve(mirror) as upstream:
        answer = await site.get(f"/ann/proj/form?a=b&port={upstream.port}", "ann", method, form, content)
        assert answer.status == 200
        request = upstream.last
    assert (request.method, request.target, request.content) == (method, "/ann/proj/form?a=b", content or b"")
    assert request.one("Content-Type") == (form[0].partition(" ")[2] if form else None)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("?port=PORT", ""),
        ("?port=PORT&q=1", "?q=1"),
        ("?q=1&port=PORT", "?q=1"),
        ("?q=1&port=PORT&q=2", "?q=1&q=2"),
        ("?q=%20+%zz&port=PORT&=&", "?q=%20+%zz&=&"),
        ("?xport=1&port=PORT&ports=2&p%6Frt=3", "?xport=1&ports=2&p%6Frt=3"),
    ],
)
async def test_the_service_gets_the_query_without_its_port(site, before, after):
    async with serve(mirror) as upstream:
        request = echo_of(await site.get(f"/ann/proj/a%2Fb//x{before.replace('PORT', str(upstream.port))}"))
    assert request["target"] == f"/ann/proj/a%2Fb//x{after}"
    assert values(request, "X-Forwarded-Prefix") == [f"/{site.key}/server/{upstream.port}"]
    assert values(request, "Host") == [f"localhost:{upstream.port}"]
    assert not [value for _, value in request["fields"] if "user-ann" in value]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("port=", ""),
        ("port", ""),
        ("port=abc", "abc"),
        ("port=0", "0"),
        ("port=65536", "65536"),
        ("port=-1", "-1"),
        ("port=+15000", "+15000"),
        ("port=015000", "015000"),
        ("port=15000%20", "15000%20"),
        ("port=%EF%BC%90", "%EF%BC%90"),
        ("port=\xef\xbc\x91\xef\xbc\x95", "%EF%BC%91%EF%BC%95"),
        ("port=15000&port=15000", None),
        ("port=15000&x&port=15001", None),
    ],
)
async def test_an_invalid_port_is_named(site, query, shown):
    answer = await site.get(f"/ann/proj/x?{query}")
    sentence = "Invalid port parameter: it is given more than once." if shown is None else f"Invalid port parameter: {shown}"
    assert (answer.status, answer.text.splitlines()[0]) == (400, sentence)
    stranger = await site.get(f"/ann/nothing/x?{query}", "zed")
    assert (stranger.status, stranger.text) == (400, answer.text), "before any project is looked up"


async def test_the_errors_have_their_hints(site):
    port = free_port()
    answer = await site.get(f"/ann/proj/x?port={port}")
    assert (answer.status, *answer.text.splitlines()[:2]) == (
        502,
        f"Failed to connect to service on port {port}.",
        f"Is the service running? Try: python3 -m http.server {port}",
    )
    answer = await site.get("/ann/proj/x?port=abc")
    assert answer.text.splitlines()[1] == "A port is a whole number from 1 to 65535, for example 8050."
    answer = await site.get("/ann/proj/x?port=5000")
    assert answer.status == 403
    if site.host == "local":
        assert answer.text.splitlines()[0] == "Port 5000 is outside allowed range (10000-20000)"
        assert 'c.PortProxy.allowed_ports = ["10000-20000", 5000]' in answer.text.splitlines()[1]


async def test_streams(site):
    """Each event when it is sent, an upload of unknown length, and 64 MiB."""
    async with serve(drips([b"data: 1\n\n", b"data: 2\n\n"], 60)) as upstream, await Wire.open(site.site.port) as wire:
        await site.site.send(wire, f"/ann/proj/events?port={upstream.port}")
        assert (await wire.head()).status == 200
        assert await asyncio.wait_for(anext(wire.chunks()), 5) == b"data: 1\n\n"
    async with serve(mirror) as upstream, await Wire.open(site.site.port) as wire:
        await site.site.send(wire, f"/ann/proj/up?port={upstream.port}", method="POST", fields=["Transfer-Encoding: chunked"])
        for piece in (b"5\r\nport=\r\n", b"1\r\n7\r\n", b"0\r\n\r\n"):
            await wire.send(piece)
        assert echo_of(await asyncio.wait_for(wire.answer(), 10))["content"] == "port=7"
    content = bytes(range(256)) * (1 << 18)
    async with serve(answers(content)) as upstream:
        answer = await site.get(f"/ann/proj/large?port={upstream.port}")
    assert hashlib.sha256(answer.content).digest() == hashlib.sha256(content).digest()


async def test_a_websocket(site):
    targets = []

    async def echo(connection) -> None:
        targets.append(connection.request.path)
        async for message in connection:
            await connection.send(message)

    port = free_port()
    async with websockets.serve(echo, "127.0.0.1", port):
        for path in (f"/ann/proj/ws?x=1&port={port}&y", f"/{site.key}/port/{port}/ws", f"/{site.key}/server/{port}/ws"):
            async with site.site.socket(path) as socket:
                await socket.send("hello" * 1000)
                assert await asyncio.wait_for(socket.recv(), 5) == "hello" * 1000
    assert targets == ["/ann/proj/ws?x=1&y", f"/{site.key}/port/{port}/ws", "/ws"]


async def test_requests_that_repeat_each_other_reach_the_port_that_each_names(site):
    async with serve(mirror) as one, serve(mirror) as two, await Wire.open(site.site.port) as wire:
        for number in range(6):
            upstream = (one, two)[number % 2] if number < 4 else one
            await site.site.send(wire, f"/ann/proj/{number}?q={number}&port={upstream.port}")
            assert echo_of(await asyncio.wait_for(wire.answer(), 5))["target"] == f"/ann/proj/{number}?q={number}"
            assert upstream.last.target == f"/ann/proj/{number}?q={number}"
        await site.site.send(wire, f"/ann/proj/x?port={one.port}&port={one.port}")
        assert (await wire.answer()).status == 400


# ---- redirects ----


@pytest.mark.parametrize(
    ("where", "target"),
    [
        ("x", "/ann/proj/a/x"),
        ("../b//%2F?c=d", "/ann/proj/b//%2F?c=d"),
        ("/ann/proj/x", "/ann/proj/x"),
        ("/login", "/login"),
        ("http://localhost:PORT/ann/proj/x", "/ann/proj/x"),
        ("http://127.0.0.1:PORT/ann/proj/%E4#f", "/ann/proj/%E4"),
        ("//localhost:PORT/ann/proj/y", "/ann/proj/y"),
        ("9", "/ann/proj/a/0"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_redirects_to_the_same_service_are_followed(site, where, target, method):
    async with serve(redirects()) as upstream:
        answer = await site.get(f"/ann/proj/a/to?port={upstream.port}&{where}", method=method)
        assert (answer.status, answer.one("X-Target")) == (200, target)
        assert answer.all("Set-Cookie")[0] == "seen=to; Path=/ann/proj"
        assert upstream.last.target == target and upstream.last.method == method


@pytest.mark.parametrize(
    ("where", "location"),
    [
        ("x?y", "/ann/proj/a/x?y&port=PORT"),
        ("/ann/proj/x", "/ann/proj/x?port=PORT"),
        ("http://localhost:PORT/ann/proj/%E4", "/ann/proj/%E4?port=PORT"),
        ("/login", "/KEY/server/PORT/login"),
        ("https://example.org/x", "https://example.org/x"),
        ("http://localhost:9/x", "http://localhost:9/x"),
    ],
)
async def test_redirects_of_other_methods_are_mapped(site, where, location):
    async with serve(redirects()) as upstream:
        answer = await site.get(f"/ann/proj/a/to?port={upstream.port}&{where}", method="POST", content=b"x")
        expected = location.replace("PORT", str(upstream.port)).replace("KEY", site.key)
        assert (answer.status, answer.one("Location")) == (302, expected)
        assert len(upstream.requests) == 1


async def test_a_redirect_to_another_service_is_not_followed(site):
    async with serve(redirects()) as upstream, serve(mirror) as other:
        for where in ("https://example.org/x", f"http://localhost:{other.port}/x"):
            answer = await site.get(f"/ann/proj/a/to?port={upstream.port}&{where}")
            assert (answer.status, answer.one("Location")) == (302, where)
        assert other.requests == []


async def test_a_service_that_redirects_without_end(site):
    async with serve(redirects()) as upstream:
        answer = await site.get(f"/ann/proj/a/11?port={upstream.port}")
        assert (answer.status, answer.text.splitlines()[0]) == (502, "The service redirected more than 10 times.")
        assert len(upstream.requests) == 11


async def test_a_cookie_without_a_path_gets_the_folder_of_the_page_that_sets_it(site):
    async def script(connection) -> None:
        while True:
            request = await connection.request()
            path = request.target.partition("?")[0]
            moved = b"Location: /ann/proj/two/y\r\n" if path.endswith("/x") else b""
            status = b"302 Found" if moved else b"200 OK"
            await connection.write(b"HTTP/1.1 %b\r\n%bSet-Cookie: at=1\r\nContent-Length: 0\r\n\r\n" % (status, moved))

    async with serve(script) as upstream:
        answer = await site.get(f"/ann/proj/one/x?port={upstream.port}")
        assert answer.all("Set-Cookie") == ["at=1; Path=/ann/proj/one", "at=1; Path=/ann/proj/two"]


# ---- who may view ----


@pytest.mark.parametrize(
    ("user", "status"), [("ann", 200), ("bob", 200), ("eve", 200), ("zed", 404), (None, 403)], ids=str
)  # fmt: skip
@pytest.mark.parametrize("path", ["/ann/proj/x?port=PORT", "/KEY/port/PORT/x", "/KEY/server/PORT/x", "/KEY/proxy/PORT/x"])
async def test_view_access(site, user, status, path):
    """Owner, member, viewer, stranger, not logged in; no byte leaves before."""
    async with serve(mirror) as upstream:
        path = path.replace("PORT", str(upstream.port)).replace("KEY", site.key)
        answer = await site.get(path, user)
        assert (answer.status, upstream.connections) == (status, int(status == 200))
        if user == "zed":  # what may not be seen is answered like what does not exist
            nothing = await site.get(path.replace("/ann/proj/", "/ann/none/").replace(site.key, "none"), user)
            here, there = (one.text.replace("ann/proj", "?").replace(site.key, "?") for one in (answer, nothing))
            assert here == there.replace("ann/none", "?").replace("'none'", "'?'")
            assert [name for name, _ in answer.fields] == [name for name, _ in nothing.fields]
            assert answer.reason == nothing.reason == HTTPStatus.NOT_FOUND.phrase


async def test_a_page_without_a_login_leads_to_it_whether_the_project_exists_or_not(site):
    navigation = ["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html"]
    for name in ("proj", "none"):
        answer = await site.get(f"/ann/{name}/x?port=15000", None, fields=navigation)
        assert answer.status == 302
        assert answer.one("Location") == f"/login?next=%2Fann%2F{name}%2Fx%3Fport%3D15000"


async def test_a_public_project_is_open_to_every_user_who_logs_in(site):
    await site.admin.place("open1", site.host, owner="ann", name="open", visibility="public")
    try:
        async with serve(mirror) as upstream:
            if site.host == "local":
                await site.site.until(f"/ann/open/x?port={upstream.port}", 200, "zed")
            else:  # its host does not have it, which only those learn who may see it
                await site.site.until(f"/ann/open/x?port={upstream.port}", 404, "zed", begins="The project host has no project")
            assert (await site.get(f"/ann/open/x?port={upstream.port}", None)).status == 403
    finally:
        await site.admin.remove("open1")


async def test_the_pages_of_a_service_that_a_user_may_not_reach_say_nothing_about_it(site):
    async with serve(mirror) as upstream:
        (error,) = {(await site.get(f"/ann/proj/{path}?port={upstream.port}", "zed")).text for path in ("", "x", "secret")}
        assert json.dumps(error).count("secret") == 0 and upstream.connections == 0
