"""hub -> project host -> container: three real servers, Postgres and SQLite, and what passes through them all."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
import trustme
import websockets

from jupyter_portproxy.auth.project_identity import IDENTITY_PROVIDER
from jupyter_portproxy.projects.placement.admin import PlacementAdmin
from jupyter_portproxy.projects.registry.leases import Registry
from jupyter_portproxy.protocol.credentials import SECRET_VARIABLE

from ..support.jupyter_processes import Server, jupyter_server
from ..support.postgres import Database, make_database
from ..support.project_sites import BARE, NAMED_USERS, ROOT, ProjectSite
from ..support.raw_clients import Answer, Wire
from ..support.upstreams import Seen, answers, drips, echo_frames, free_port, mirror, serve
from ..support.waiting import eventually

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the host's registry needs POSIX processes"),
    pytest.mark.timeout(180),  # three servers start with the first test
]
CONTAINER = (f"--ServerApp.identity_provider_class={IDENTITY_PROVIDER}", "--ServerApp.trust_xheaders=True")
SECRET, CREDENTIAL = "the-secret-of-the-project", "the-credential-of-the-host"
KEY = "0b5e7c1a-1111-4222-8333-0123456789ab"
OUT = 30_000  # a port that the project's own list leaves out
ROLES = {"owner": ["ports", "jupyter", "start"], "member": ["ports", "jupyter", "start"], "viewer": []}
PORTS = ("--PortProxy.allowed_ports=10000-20000", f"--PortProxy.allowed_ports={OUT}")


@dataclass
class Hops(ProjectSite):
    """The three servers, and who administers them."""

    hub: Server
    host: Server
    container: Server
    dsn: str
    registry: Registry
    registry_file: Path
    authority: trustme.CA  # the hub trusts it alone
    admin: PlacementAdmin = field(init=False)  # of the running test's loop

    @property
    def entry(self) -> Server:
        return self.hub


def folder(path: Path) -> Path:
    path.mkdir()
    return path


@contextmanager
def three_servers(
    database: Database, home: Path, hubs_dsn: str = "", hubs_settings: Mapping[str, object] | None = None
) -> Iterator[Hops]:
    """`hubs_dsn`: another way to the same database, for the hub alone; `hubs_settings` are of its `c.PortProxy`."""
    registry_file = home / "registry.sqlite"
    dsn, hubs = (f"--PortProxy.placement_dsn={way}" for way in (database.dsn, hubs_dsn or database.dsn))
    registry_at = f"--PortProxy.registry_path={registry_file}"
    credentials = f"--PortProxy.hop_credentials={CREDENTIAL}"
    (settings := folder(home / "host") / ".jupyter").mkdir()  # a bare server starts in half the time
    (settings / "jupyter_server_config.json").write_text(json.dumps({"ServerApp": {"jpserver_extensions": BARE}}))
    (folder(home / "hub") / ".jupyter").mkdir()
    traits = {"project_roles": ROLES} if hubs_settings is None else hubs_settings
    (home / "hub" / ".jupyter" / "jupyter_server_config.json").write_text(json.dumps({"PortProxy": traits}))
    authority = trustme.CA()
    authority.cert_pem.write_to_path(home / "ca.pem")
    trust = f"--PortProxy.trusted_certificates={home / 'ca.pem'}"
    made = [
        jupyter_server(
            home / "hub", *PORTS, NAMED_USERS, hubs, trust, "--PortProxy.project_resolver=placement", more={"PYTHONPATH": ROOT}
        ),
        jupyter_server(
            home / "host", *PORTS, dsn, registry_at, credentials,
            "--PortProxy.project_resolver=registry", "--PortProxy.host_id=one",
        ),
        jupyter_server(
            folder(home / "home"), *PORTS, *CONTAINER, base=f"/{KEY}/", more={SECRET_VARIABLE: SECRET}
        ),
    ]  # fmt: skip
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        hub, host, container = servers = list(pool.map(stack.enter_context, made))
        registry = Registry(registry_file)
        stack.callback(finish, registry)
        yield Hops(hub, host, container, database.dsn, registry, registry_file, authority)
        for server in servers:
            assert "Traceback" not in server.log, server.log


def finish(registry: Registry) -> None:
    """Close it outside of any test's loop."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(registry.close())
    loop.close()


@pytest.fixture(scope="module")
def servers(postgres_server, tmp_path_factory):
    with three_servers(asyncio.run(make_database(postgres_server)), tmp_path_factory.mktemp("chain")) as found:
        yield found


@pytest.fixture
def hops(servers, jp_asyncio_loop):
    """The chain with one running project of ann's."""
    yield from placed(servers, jp_asyncio_loop)


@pytest.fixture
def doomed(database, tmp_path, jp_asyncio_loop):
    """The same, for a test that kills servers."""
    with three_servers(database, tmp_path) as found:
        yield from placed(found, jp_asyncio_loop)


def placed(found: Hops, loop: asyncio.AbstractEventLoop) -> Iterator[Hops]:
    found.admin = PlacementAdmin(found.dsn)
    loop.run_until_complete(place(found.admin, found.host))
    found.registry.register(KEY, port_of(found.container), SECRET, found.container.process.pid)
    loop.run_until_complete(found.until(f"/{KEY}/api/status", 200))
    yield found
    loop.run_until_complete(found.admin.close())


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A WebSocket server that echoes; its port."""

    async def answer(connection) -> None:
        async for message in connection:
            await connection.send(message)

    port = free_port()
    async with websockets.serve(answer, "127.0.0.1", port):
        yield port


async def place(admin: PlacementAdmin, host: Server) -> None:
    await admin.set_host("one", host.url.rstrip("/"), CREDENTIAL)
    await admin.heartbeat("one")
    await admin.place(KEY, "one", owner="ann", name="proj", allowed_ports=["10000-20000"])
    await admin.add_member(KEY, "bob", "member")
    await admin.add_member(KEY, "eve", "viewer")


def port_of(server: Server) -> int:
    return int(server.url.split(":")[2].split("/")[0])


def echo_of(answer: Answer) -> dict:
    assert answer.status == 200, answer.text
    return json.loads(answer.text)


def values(request: dict, name: str) -> list[str]:
    return [value for key, value in request["fields"] if key.lower() == name.lower()]


async def test_a_request_passes_three_hops_byte_for_byte_and_without_a_secret(hops):
    async with serve(mirror) as upstream:
        odd = f"/{KEY}/port/{upstream.port}/a%2Fb//%E4;x=1?q=%20&port=1&a=b%26"
        request = echo_of(await hops.ask(odd, fields=("X-Portproxy-Hop: credential=mine&user=eve&chain=mine", "Cookie: a=b")))
        assert request["target"] == odd  # the last hop keeps the path
        for form in ("server", "proxy", "proxy/port"):
            short = echo_of(await hops.ask(f"/{KEY}/{form}/{upstream.port}/x?y"))
            assert short["target"] == "/x?y"
            assert values(short, "X-Forwarded-Prefix") == [f"/{KEY}/{form}/{upstream.port}"]
        posted = echo_of(await hops.ask(f"/{KEY}/server/{upstream.port}/x", method="POST", content=b"\0\xff" * 9))
        assert posted["content"] == "\0\xff" * 9
        everything = json.dumps(request)
    for secret in (SECRET, CREDENTIAL, "user-ann", "X-Portproxy", "mine"):
        assert secret.lower() not in everything.lower()
    assert values(request, "Cookie") == ["a=b"]
    assert values(request, "Host") == [f"localhost:{upstream.port}"]
    assert len(values(request, "Via")[0].split(",")) == 3


HANDSHAKE = [
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]  # fmt: skip


async def test_a_service_behind_three_hops_gets_the_same_client_fields_as_behind_one(hops):
    """What the hops tell each other in a field of their own is in everybody's fields again."""
    false = ("X-Forwarded-For: 192.0.2.9", "X-Forwarded-Host: evil.example", "X-Portproxy-Hop: for=192.0.2.9&host=evil.example")
    async with serve(mirror) as upstream, serve(echo_frames) as frames:
        request = echo_of(await hops.ask(f"/{KEY}/port/{upstream.port}/x", fields=false))
        async with await Wire.open(hops.port) as wire:
            lines = [f"GET /{KEY}/port/{frames.port}/x HTTP/1.1", f"Host: 127.0.0.1:{hops.port}", *HANDSHAKE, *false]
            await wire.send("\r\n".join([*lines, "Authorization: token user-ann", "", ""]).encode())
            assert (await asyncio.wait_for(wire.head(), 10)).status == 101
    for sent in (request, {"fields": frames.last.fields}):
        assert values(sent, "X-Forwarded-For") == ["127.0.0.1"]
        assert values(sent, "X-Forwarded-Proto") == ["http"]
        assert values(sent, "X-Forwarded-Host") == [f"127.0.0.1:{hops.port}"]
        assert values(sent, "X-Forwarded-Port") == [str(hops.port)]
        assert values(sent, "Forwarded") == [", ".join([f"for=127.0.0.1;proto=http;host=127.0.0.1:{hops.port}"] * 3)]


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_service_behind_three_hops_finds_one_story(hops, scheme):
    """Each hop calls the next by its own name; the last knows the service's, and no field tells of another."""
    own = f"{scheme}://127.0.0.1:{hops.port}"
    async with serve(mirror) as upstream:
        for form in ("port", "server"):
            fields = [f"Origin: {own}", f"Referer: {own}/{KEY}/{form}/{upstream.port}/page"]
            if scheme == "https":  # the hub's login compares it with its own scheme; a client that is no browser sends none
                fields = fields[1:]
            path = f"/{KEY}/{form}/{upstream.port}/x"
            request = echo_of(await hops.ask(path, method="POST", content=b"", fields=tuple(fields)))
            host = f"localhost:{upstream.port}"
            assert values(request, "Host") == [host] and values(request, "X-Forwarded-Host") == []
            assert values(request, "Origin") == ([f"http://{host}"] if scheme == "http" else [])
            assert values(request, "Referer")[0].startswith(f"http://{host}/")
            assert values(request, "Forwarded") == [", ".join([f"for=127.0.0.1;proto=http;host={host}"] * 3)]


async def test_the_projects_own_jupyter_gets_the_client_in_common_fields(hops):
    async with serve(mirror) as container:
        hops.registry.register("told", container.port, SECRET)
        await hops.admin.place("told", "one", owner="ann")
        await hops.until("/told/x", 200)
        request = echo_of(await hops.ask("/told/x"))
        service = echo_of(await hops.ask("/told/port/15000/x"))
    hops.registry.unregister("told")
    await hops.admin.unplace("told")
    assert values(request, "X-Forwarded-Host") == [f"127.0.0.1:{hops.port}"] and values(request, "X-Portproxy-Hop") == []
    assert len(values(request, "Forwarded")[0].split(",")) == 2
    assert values(service, "X-Forwarded-Host") == [] and len(values(service, "X-Portproxy-Hop")) == 1
    for sent in (request, service):
        assert CREDENTIAL not in json.dumps(sent)


async def test_the_projects_own_jupyter_is_reached(hops):
    assert json.loads((await hops.ask(f"/{KEY}/api/status")).text)["kernels"] == 0
    page = (await hops.ask(f"/{KEY}/lab")).text
    assert "JupyterLab" in page and SECRET not in page and '"token": ""' in page
    assert (await hops.ask(f"/{KEY}")).one("Location") == f"/{KEY}/"
    body = json.dumps({"type": "directory"}).encode()
    assert (await hops.ask(f"/{KEY}/api/contents", method="POST", content=body)).status == 201
    origin = ("Origin: http://evil.example",)
    assert (await hops.ask(f"/{KEY}/api/contents", method="POST", content=body, fields=origin)).status == 403


FORMS = ["{key}/port/{port}", "{key}/server/{port}", "{key}/proxy/{port}", "{key}/proxy/absolute/port/{port}", "ann/proj"]
OWN = ["Basic dXNlcjpwYXNz", "Bearer the-services-own", "token the-services-own", 'Digest username="x", uri="/\xe4"', "nonsense"]


@pytest.mark.parametrize("form", FORMS)
async def test_a_services_own_authorization_arrives_and_no_secret_does(hops, form):
    bad = ("X-Portproxy-Authorization: Basic bWluZQ==", "X-Portproxy-Hop: user=mine", "x_portproxy_hop: mine")
    async with serve(mirror) as upstream:
        path = f"/{form.format(key=KEY, port=upstream.port)}/x?port={upstream.port}&q"
        for own in OWN:
            request = echo_of(await hops.ask(f"{path}&token=user-ann", None, fields=(f"Authorization: {own}", *bad)))
            assert values(request, "Authorization") == [own]
            assert "token" not in request["target"] and request["target"].endswith("q")
            clean(request, "bWluZQ==", "mine")
        for own in ("token user-ann", "Bearer user-ann", "bearer  user-bob ", f"token {SECRET}"):
            more = "" if "user-" in own else "&token=user-ann"
            answer = await hops.ask(f"{path}{more}", None, fields=(f"Authorization: {own}", *bad))
            assert values(echo_of(answer), "Authorization") == []
            clean(echo_of(answer), "bWluZQ==")
        odd = echo_of(await hops.ask(path, None, fields=("Authorization: Odd ann", "Cookie: a=b")))
        assert values(odd, "Authorization") == []  # it let the request in, whatever it is
        plain = echo_of(await hops.ask(path, fields=bad))
        assert values(plain, "Authorization") == []
        clean(plain, "bWluZQ==")


@pytest.mark.parametrize("form", FORMS)
async def test_a_services_own_authorization_arrives_with_a_websocket(hops, form):
    async with serve(echo_frames) as upstream:
        path = f"/{form.format(key=KEY, port=upstream.port)}/x?port={upstream.port}&token=user-ann"
        for login in (f"Authorization: {OWN[0]}", "Authorization: token user-ann", "X-Portproxy-Authorization: Basic bWluZQ=="):
            async with await Wire.open(hops.port) as wire:
                lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{hops.port}", *HANDSHAKE, login]
                await wire.send("\r\n".join([*lines, "", ""]).encode())
                assert (await asyncio.wait_for(wire.head(), 10)).status == 101
            seen = upstream.last
            assert seen.one("Authorization") == (OWN[0] if OWN[0] in login else None)
            clean({"target": seen.target, "fields": seen.fields}, "bWluZQ==")


async def test_the_projects_own_jupyter_is_logged_in_whatever_authorization_comes(hops):
    for own in OWN:
        answer = await hops.ask(f"/{KEY}/api/status?token=user-ann", None, fields=(f"Authorization: {own}",))
        assert json.loads(answer.text)["kernels"] == 0


def clean(request: dict, *more: str) -> None:
    """No credential and no field of the hops among what a service was sent."""
    everything = json.dumps([request["target"], request["fields"]]).lower()
    for secret in (SECRET, CREDENTIAL, "user-ann", "user-bob", "portproxy-", "x_portproxy", *more):
        assert secret.lower() not in re.sub("1[.]1 portproxy-[0-9a-f]{8}", "", everything), secret


@pytest.mark.parametrize("owner", ["ann", "%61nn"])
async def test_a_service_by_its_projects_name_byte_for_byte(hops, owner):
    async with serve(mirror) as upstream:
        n = upstream.port
        for path, query in [
            ("/", ""),
            ("", ""),
            ("/a%2Fb//%E4/..;/a+b;x=1", ""),
            ("/\xe4/%zz/../x//", "?q=%20&&a=b%26&="),
            ("/x", "?a&b=%2B+"),
        ]:
            for arguments in (f"?port={n}{query.replace('?', '&', 1)}", f"{query}&port={n}" if query else f"?port={n}"):
                request = echo_of(await hops.ask(f"/{owner}/proj{path}{arguments}"))
                assert request["target"].encode("latin-1") == f"/{owner}/proj{path}{query}".encode("latin-1")
        assert values(request, "Host") == [f"localhost:{n}"]
        posted = echo_of(await hops.ask(f"/{owner}/proj/x?port={n}", method="POST", content=b"\0\xff" * 9))
        assert posted["content"] == "\0\xff" * 9
        referer = f"Referer: http://127.0.0.1:{hops.port}/{owner}/proj/a%2F?b&port={n}"
        request = echo_of(await hops.ask(f"/{owner}/proj/x?port={n}", fields=(referer,)))
        assert values(request, "Referer") == [f"http://localhost:{n}/{owner}/proj/a%2F?b"]


async def test_a_named_service_follows_the_ports_and_the_members(hops):
    async with serve(mirror) as upstream:
        n = upstream.port
        bad = [f"port={n}&port={n}", "port=99999", "port=x", "port"]
        for arguments, status in [*((text, 400) for text in bad), ("port=22", 403), ("q", 404), ("", 404)]:
            assert (await hops.ask(f"/ann/proj/?{arguments}")).status == status, arguments
        for user, status in [("ann", 200), ("bob", 200), ("eve", 403), ("zed", 404), (None, 403)]:
            before = len(upstream.requests)
            answer = await hops.ask(f"/ann/proj/x?port={n}", user)
            assert (answer.status, len(upstream.requests) - before) == (status, 1 if status == 200 else 0), user
            if user == "zed":
                nothing = await hops.ask(f"/ann/nope/x?port={n}", user)
                assert (nothing.status, nothing.text) == (404, answer.text.replace("ann/proj", "ann/nope"))
        for path in ("/Ann/proj/x", "/zed/proj/x", "/%E4/proj/x", "/ann/proj%00/x", "/../proj/x", "/ann/" + "a" * 5000 + "/x"):
            assert (await hops.ask(f"{path}?port={n}")).status == 404
        assert (await hops.ask(f"/login/x?port={n}", None)).status == 404  # Jupyter's own
        assert (await hops.ask(f"/{KEY}/api/status?port={n}")).status == 200  # a project's own Jupyter


async def test_a_key_comes_before_a_name(hops):
    async with serve(mirror) as elsewhere, serve(mirror) as upstream:
        await hops.admin.set_host("two", f"http://127.0.0.1:{elsewhere.port}", "other")
        await hops.admin.heartbeat("two")
        await hops.admin.place("ann", "two", owner="bob")  # ann may not see it, and keeps her names
        path, end = f"/ann/proj/x?port={upstream.port}", time.monotonic() + 5
        while (answer := await hops.ask(path, "bob")).status != 200 or echo_of(answer)["target"] != path:
            assert time.monotonic() < end and answer.status in (200, 502), answer  # 502 until the hub has read the heartbeat
            await asyncio.sleep(0.05)
        assert echo_of(await hops.ask(f"/ann/proj/x?port={upstream.port}"))["target"] == "/ann/proj/x"
        await hops.admin.remove("ann")


async def test_a_renamed_project_is_found_within_a_second_and_a_half(hops):
    async with serve(mirror) as upstream:
        path = f"/ann/{{}}/x?port={upstream.port}"
        assert (await hops.ask(path.format("proj"))).status == 200
        assert (await hops.ask(path.format("other"))).status == 404
        await hops.admin.place(KEY, "one", owner="ann", name="other", allowed_ports=["10000-20000"])
        assert (await hops.until(path.format("other"), 200))[0] < 1.5
        assert (await hops.ask(path.format("proj"))).status == 404
        await hops.admin.place(KEY, "one", owner="ann", name="proj", allowed_ports=["10000-20000"])
        await hops.until(path.format("proj"), 200)


def redirects():
    """A service that redirects `.../to?WHERE` to WHERE, `.../N` to `.../N-1`, and mirrors all else."""

    async def script(connection) -> None:
        while True:
            request = await connection.request()
            path, _, query = request.target.partition("?")
            last = path.rpartition("/")[2]
            where = (
                query.replace("PORT", str(connection.seen.port)) if last == "to" else f"{int(last) - 1}" if last.isdigit() else ""
            )
            if not where or where == "-1":
                body = json.dumps({"method": request.method, "target": request.target, "fields": request.fields}).encode()
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Target: %b\r\n\r\n" % (len(body), request.target.encode())
                await connection.write(head + (b"" if request.method == "HEAD" else body))
                continue
            fields = f"Location: {where}\r\nSet-Cookie: seen={last}; Path=/\r\nContent-Length: 4\r\n\r\n"
            await connection.write(b"HTTP/1.1 302 Found\r\n" + fields.encode() + (b"" if request.method == "HEAD" else b"away"))

    return script


async def test_redirects_of_a_named_service_to_itself_are_followed(hops):
    async with serve(redirects()) as upstream:
        n = upstream.port
        for where, target in [
            ("x", "/ann/proj/a/x"),
            ("../b//%2F", "/ann/proj/b//%2F"),
            ("/ann/proj/x", "/ann/proj/x"),
            ("http://localhost:PORT/ann/proj/x", "/ann/proj/x"),
            ("http://127.0.0.1:PORT/ann/proj/%E4#f", "/ann/proj/%E4"),
            ("/login", "/login"),
            ("9", "/ann/proj/a/0"),
        ]:
            for method in ("GET", "HEAD"):
                answer = await hops.ask(f"/ann/proj/a/to?port={n}&{where}", method=method)
                assert answer.status == 200, (where, answer)
                assert answer.one("X-Target") == target
        cookies = answer.all("Set-Cookie")
        assert cookies[0] == "seen=to; Path=/ann/proj" and len(cookies) == 10
        assert values(upstream.last.__dict__, "Cookie") == ["seen=1"]
        before = len(upstream.requests)
        answer = await hops.ask(f"/ann/proj/a/11?port={n}")
        assert (answer.status, answer.text.splitlines()[0]) == (502, "The service redirected more than 10 times.")
        assert len(upstream.requests) - before == 11


async def test_other_redirects_of_a_named_service_keep_the_browser_in_the_form(hops):
    async with serve(redirects()) as upstream:
        n = upstream.port
        for where, location in [
            ("x?y", f"/ann/proj/a/x?y&port={n}"),
            ("/ann/proj/x", f"/ann/proj/x?port={n}"),
            ("http://localhost:PORT/ann/proj/%E4", f"/ann/proj/%E4?port={n}"),
            ("/login", f"/{KEY}/server/{n}/login"),
        ]:
            answer = await hops.ask(f"/ann/proj/a/to?port={n}&{where}", method="POST", content=b"")
            assert (answer.status, answer.one("Location")) == (302, location)
            assert answer.all("Set-Cookie") == ["seen=to; Path=/ann/proj"]
        answer = await hops.ask(f"/ann/proj/a/to?port={n}&https://example.org/x")
        assert (answer.status, answer.one("Location")) == (302, "https://example.org/x")


async def test_a_websocket_on_a_named_service(hops):
    async with echo() as port, hops.socket(f"/ann/proj/ws?port={port}&x") as socket:
        await socket.send("hello")
        assert await asyncio.wait_for(socket.recv(), 5) == "hello"


async def test_a_websocket_and_an_event_stream_pass(hops):
    async with echo() as port, hops.socket(f"/{KEY}/port/{port}/ws") as socket:
        await socket.send("hello")
        assert await asyncio.wait_for(socket.recv(), 5) == "hello"
    pieces = [b"data: 1\n\n", b"data: 2\n\n"]
    async with serve(drips(pieces, 0.2)) as upstream, await Wire.open(hops.port) as wire:
        lines = [f"GET /{KEY}/port/{upstream.port}/ HTTP/1.1", f"Host: 127.0.0.1:{hops.port}", "Authorization: token user-ann"]
        await wire.send("\r\n".join([*lines, "", ""]).encode())
        assert (await wire.head()).status == 200
        for piece in pieces:  # each as it comes, although the stream has no end
            assert piece in await asyncio.wait_for(wire.reader.readuntil(piece), 5)


@pytest.mark.timeout(180)
async def test_a_gibibyte_passes_whole(hops):
    size, piece = 1 << 30, bytes(range(256)) * 4096

    async def sends(connection) -> None:
        await connection.head()
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // len(piece)):
            await connection.write(piece)

    expected = hashlib.sha256()
    for _ in range(size // len(piece)):
        expected.update(piece)
    async with serve(sends) as upstream, await Wire.open(hops.port) as wire:
        lines = [f"GET /{KEY}/port/{upstream.port}/ HTTP/1.1", f"Host: 127.0.0.1:{hops.port}", "Authorization: token user-ann"]
        await wire.send("\r\n".join([*lines, "", ""]).encode())
        assert (await wire.head()).status == 200
        received, got = 0, hashlib.sha256()
        while received < size:
            data = await asyncio.wait_for(wire.reader.read(1 << 20), 20)
            assert data
            received += len(data)
            got.update(data)
    assert got.digest() == expected.digest()


@pytest.mark.parametrize(
    ("user", "status"),
    [("ann", 200), ("bob", 200), ("eve", 403), ("zed", 404), (None, 403)],
    ids=["owner", "member", "viewer", "stranger", "nobody"],
)
async def test_the_members_table_decides_and_no_byte_leaves_before(hops, user, status):
    async with serve(mirror) as upstream:
        answer = await hops.ask(f"/{KEY}/port/{upstream.port}/x", user)
        assert (answer.status, upstream.connections) == (status, 1 if status == 200 else 0)
        nothing = await hops.ask(f"/nothing-here/port/{upstream.port}/x", user)
    if user == "zed":  # what may not be seen is answered like what does not exist
        assert answer.text.replace(KEY, "nothing-here") == nothing.text


async def test_a_name_of_any_letters_passes_as_a_field(hops):
    name = "zoë\u4e16 x"
    async with serve(mirror) as elsewhere:
        await hops.admin.add_member(KEY, name, "member")
        await hops.admin.set_host("two", f"http://127.0.0.1:{elsewhere.port}", "other")
        await hops.admin.heartbeat("two")
        await hops.admin.move(KEY, "two")
        _, answer = await hops.until(f"/{KEY}/x", 200, quote(name))
    (word,) = values(echo_of(answer), "X-Portproxy-Hop")
    assert word.startswith(f"credential=other&user={quote(name)}&permission=start&")
    await hops.admin.remove_member(KEY, name)


async def test_the_project_host_accepts_its_hub_only(hops):
    async with serve(mirror) as upstream:
        for credential in ("", "wrong", SECRET):
            async with await Wire.open(port_of(hops.host)) as wire:
                lines = [f"GET /{KEY}/port/{upstream.port}/ HTTP/1.1", f"Host: 127.0.0.1:{port_of(hops.host)}"]
                lines += [
                    f"X-Portproxy-Hop: credential={credential}&user=ann&permission=start",
                    f"X-Portproxy-Credential: {CREDENTIAL}",
                    "X-Portproxy-User: ann",
                    "Authorization: token a-token-of-the-tests",
                ]
                await wire.send("\r\n".join([*lines, "", ""]).encode())
                answer = await wire.answer()
                assert (answer.status, answer.text.splitlines()[0]) == (403, "This address is not for browsers.")
        assert upstream.connections == 0


async def test_a_hub_with_another_credential_is_logged_by_the_host(hops):
    await hops.admin.set_host("one", hops.host.url.rstrip("/"), "not-the-credential")
    begun = time.monotonic()
    for path in (f"/{KEY}/api/status", f"/{KEY}/port/15000/x", "/ann/proj/x?port=15000"):
        _, answer = await hops.until(path, 502)
        assert answer.text.splitlines()[0] == "The project host does not accept the credential of the hub."
        assert "hop_credentials" in answer.text and answer.one("X-Portproxy-Refusal") is None
    with pytest.raises(websockets.InvalidStatus) as refused:
        await hops.socket(f"/{KEY}/port/15000/ws")
    assert (refused.value.response.status_code, "hop_credentials" in refused.value.response.body.decode()) == (502, True)
    posted = await hops.ask(f"/{KEY}/port/15000/x", method="POST", content=b"x" * 100_000)
    assert posted.status == 502
    warnings = hops.host.log.count("is not in c.PortProxy.hop_credentials")
    assert 1 <= warnings <= 2 or time.monotonic() - begun > 60, "not for each request"
    assert "not-the-credential" not in hops.host.log


@pytest.mark.parametrize("path", ["/{key}/port/{port}/x", "/ann/proj/x?port={port}"])
async def test_a_services_own_403_is_not_taken_for_a_hosts_refusal(hops, path):
    """Whatever fields it has: the hops between take the refusal's out."""
    async with serve(answers(b"mine", b"X-Portproxy-Refusal: credential", b"403 Forbidden")) as upstream:
        answer = await hops.ask(path.format(key=KEY, port=upstream.port))
    assert (answer.status, answer.text, answer.one("X-Portproxy-Refusal")) == (403, "mine", None)


async def test_ports_are_narrowed_by_the_project_and_by_each_hop(hops):
    answer = await hops.ask(f"/{KEY}/port/{OUT}/")
    assert (answer.status, answer.text.splitlines()[0]) == (403, f"Port {OUT} is not among the ports of this project.")
    async with serve(mirror) as upstream:
        await hops.admin.add_member(KEY, "bob", "member", [upstream.port])
        await hops.until(f"/{KEY}/port/{19_999}/", 403, "bob")
        assert (await hops.ask(f"/{KEY}/port/{upstream.port}/", "bob")).status == 200
        answer = await hops.ask(f"/{KEY}/port/{19_999}/", "bob")
        assert answer.text.splitlines()[0] == "Port 19999 is not among your ports of this project."
        await hops.admin.add_member(KEY, "bob", "member", None)
        await hops.until(f"/{KEY}/port/{19_999}/", 502, "bob")
    answer = await hops.ask(f"/{KEY}/proxy/22/")
    assert (answer.status, answer.text.splitlines()[0]) == (403, "Port 22 is not allowed by the hub.")
    assert "in the configuration of the hub" in answer.text
    assert (await hops.ask(f"/{KEY}/port/99999/")).status == 400


@pytest.mark.parametrize("key", ["..", "A" * 8, "a" * 10_000, "'; drop table projects; --", "%2e%2e", "a%2Fb", "\xe4"])
async def test_what_can_be_no_key_is_not_found(hops, key):
    answer = await hops.ask(f"/{key.replace(' ', '%20')}/port/15000/x")
    assert answer.status == 404
    assert (await hops.ask(f"/{KEY}/api/status")).status == 200


async def test_errors_of_states_name_the_hop_that_reports_them(hops):
    await hops.admin.place("waits", None, owner="ann")
    answer = await hops.ask("/waits/port/15000/")
    assert (answer.status, answer.one("Retry-After"), "hub" in answer.text) == (503, "1", True)
    await hops.admin.move("waits", "one")
    took, answer = await hops.until("/waits/port/15000/", 404)  # now it is the host that knows no such project
    assert took < 1.5 and "project host" in answer.text
    hops.registry.set_state(KEY, "stopped")
    _, answer = await hops.until(f"/{KEY}/api/status", 503)
    assert "project host" in answer.text
    hops.registry.register(KEY, port_of(hops.container), SECRET, hops.container.process.pid, state="starting")
    _, answer = await hops.until(f"/{KEY}/api/status", 503)
    hops.registry.set_state(KEY, "running")
    await hops.until(f"/{KEY}/api/status", 200)


@pytest.fixture
def secure_host(hops, tmp_path):
    """Another project host over the same registry, which speaks https as `localhost`."""
    certificate = tmp_path / "host.pem"
    hops.authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    options = [
        *PORTS,
        f"--PortProxy.registry_path={hops.registry_file}",
        f"--PortProxy.hop_credentials={CREDENTIAL}",
        "--PortProxy.project_resolver=registry",
        f"--ServerApp.jpserver_extensions={BARE}",
    ]
    with jupyter_server(folder(tmp_path / "secure"), *options, certificate=certificate) as server:
        yield server
        assert "Traceback" not in server.log, server.log


async def test_https_to_the_project_host(hops, secure_host):
    await hops.admin.set_host("secure", secure_host.url.rstrip("/"), CREDENTIAL)
    await hops.admin.heartbeat("secure")
    async with serve(mirror) as upstream, echo() as port:
        via = values(echo_of(await hops.ask(f"/{KEY}/port/{upstream.port}/")), "Via")[0].split(", ")[1]
        await hops.admin.move(KEY, "secure")
        path, now = f"/{KEY}/port/{upstream.port}/a%2Fb//%E4?x", via
        end = time.monotonic() + 5
        while now == via:  # until it is another host
            _, answer = await hops.until(path, 200)
            now = values(echo_of(answer), "Via")[0].split(", ")[1]
            assert time.monotonic() < end
        request = echo_of(await hops.ask(path, method="POST", content=b"\0\xff" * 300_000))
        assert (request["target"], len(request["content"])) == (path, 600_000)
        assert values(request, "X-Forwarded-Proto") == ["http"]
        async with hops.socket(f"/{KEY}/port/{port}/ws") as tunnel:
            await tunnel.send("x" * 1_000_000)
            assert len(await asyncio.wait_for(tunnel.recv(), 10)) == 1_000_000


@pytest.mark.parametrize("names", [["127.0.0.1"], ["other.example"], []], ids=["of another authority", "another name", "no TLS"])
async def test_a_host_that_cannot_prove_who_it_is_gets_nothing(hops, names):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if names else None
    if context is not None:
        (trustme.CA() if names == ["127.0.0.1"] else hops.authority).issue_cert(*names).configure_cert(context)
    async with serve(mirror, tls=context) as stranger:
        await hops.admin.set_host("false", f"https://127.0.0.1:{stranger.port}", CREDENTIAL)
        await hops.admin.heartbeat("false")
        await hops.admin.move(KEY, "false")
        # Until the move is seen, the container says 502 of the port, too.
        await hops.until(f"/{KEY}/port/15000/", 502, begins="The hub cannot reach the host of this project.\n")
        with pytest.raises(websockets.InvalidStatus) as caught:
            await hops.socket(f"/{KEY}/port/15000/ws")
        assert caught.value.response.status_code == 502
        ours = [request for request in stranger.requests if KEY in request.target]  # other servers look what listens here
        assert ours == [] and CREDENTIAL.encode() not in stranger.received and b"X-Portproxy" not in stranger.received
    assert "is not trusted as a project host" in hops.hub.log


@pytest.mark.timeout(150)
async def test_a_stopped_project_is_started_by_its_button_and_by_a_request(hops):
    await hops.admin.place("sleepy", "one", owner="ann")
    await hops.admin.add_member("sleepy", "eve", "viewer")
    hops.registry.register("sleepy", None, "nobodys", state="stopped")
    page, html = "/sleepy/api/status?a=%20b&c", ("Accept: text/html",)
    await hops.until(page, 503)
    answer = await hops.ask(page, fields=html)
    (action,) = re.findall(r'<form method="post" action="([^"]+)"><button>Start', answer.text)
    assert (action, answer.one("Retry-After")) == ("/sleepy/proxy/start?next=%2Fsleepy%2Fapi%2Fstatus%3Fa%3D%2520b%26c", None)
    for user, status, fields in [
        ("ann", 403, ("Origin: http://evil.example",)),
        ("ann", 403, ("Sec-Fetch-Site: cross-site", "Origin: null")),
        ("eve", 403, ("X-Portproxy-Hop: user=ann&may=start",)),
        ("zed", 404, ()),
        (None, 403, ()),
    ]:
        assert (await hops.ask(action, user, "POST", fields, b"")).status == status
    assert [p.state for p in hops.registry.list() if p.key == "sleepy"] == ["stopped"]
    try:
        answer = await hops.ask(action, "ann", "POST", (f"Origin: http://127.0.0.1:{hops.port}",), b"")
        assert (answer.status, answer.one("Location")) == (303, page)
        answer = await hops.ask(page, fields=html)
        assert (answer.status, answer.one("Retry-After")) == (503, "1") and 'http-equiv="refresh"' in answer.text
        _, answer = await hops.until(page, 200, seconds=60)
        assert json.loads(answer.text)["kernels"] == 0
        await stopped(hops, "sleepy")
        assert "button" in (await hops.ask(page, fields=html)).text  # a request alone starts nothing
        hops.registry.register("sleepy", None, "nobodys", state="stopped", start_on_request=True)
        answer = await hops.ask(page)
        assert (answer.status, answer.one("Retry-After"), "is starting" in answer.text) == (503, "1", True)
        await hops.until(page, 200, seconds=60)
        assert [p.start_on_request for p in hops.registry.list() if p.key == "sleepy"] == [True]
    finally:
        await stopped(hops, "sleepy")
        await hops.admin.remove("sleepy")


async def stopped(hops: Hops, key: str) -> None:
    """End the server of a project that `run-project` runs, and wait until the registry says so."""
    for project in hops.registry.list():
        if project.key == key and project.pid:
            os.kill(project.pid, signal.SIGTERM)
    end = time.monotonic() + 20
    while [p.state for p in hops.registry.list() if p.key == key] != ["stopped"]:
        assert time.monotonic() < end
        await asyncio.sleep(0.1)


async def test_a_port_of_a_stopped_project_is_not_served_by_its_next_owner(doomed):
    port = port_of(doomed.container)
    doomed.container.process.kill()
    doomed.container.process.wait()
    with socket.create_server(("127.0.0.1", port)) as stranger:
        stranger.settimeout(1)
        assert (await doomed.ask(f"/{KEY}/api/status")).status == 503
        with pytest.raises(TimeoutError):
            stranger.accept()


async def test_a_moved_projects_tunnels_close_with_1012_and_the_next_request_lands_there(hops):
    async with serve(mirror) as elsewhere, echo() as port:
        await hops.admin.set_host("two", f"http://127.0.0.1:{elsewhere.port}", "other")
        await hops.admin.heartbeat("two")
        async with hops.socket(f"/{KEY}/port/{port}/ws") as tunnel:
            await tunnel.send("hello")
            await tunnel.recv()
            await hops.admin.move(KEY, "two")
            await asyncio.wait_for(tunnel.wait_closed(), 3)
            assert tunnel.close_code == 1012
        request = echo_of(await hops.ask(f"/{KEY}/port/{port}/x"))
        assert values(request, "X-Portproxy-Hop")[0].startswith("credential=other&user=ann&permission=start&")
        assert values(request, "Authorization") == []


@asynccontextmanager
async def download(hops, port: int, user: str) -> AsyncIterator[Wire]:
    """An answer without end that has begun."""
    lines = [f"GET /{KEY}/port/{port}/ HTTP/1.1", f"Host: 127.0.0.1:{hops.port}", f"Authorization: token user-{user}"]
    async with await Wire.open(hops.port) as wire:
        await wire.send("\r\n".join([*lines, "", ""]).encode())
        assert (await wire.head()).status == 200
        yield wire


async def cut(wire: Wire, seconds: float) -> bool:
    """Whether the answer ends so soon."""

    async def end() -> None:
        while await wire.reader.read(1 << 16):
            pass

    try:
        await asyncio.wait_for(end(), seconds)
    except asyncio.TimeoutError:
        return False
    return True


async def let_in(hops) -> None:
    """Bob is a member, and may reach all ports."""
    await hops.admin.add_member(KEY, "bob", "member", None)
    await hops.until(f"/{KEY}/port/{19_999}/", 502, "bob")  # no program listens there


async def revoke(hops, port: int) -> None:
    await hops.admin.remove_member(KEY, "bob")


async def narrow_the_member(hops, port: int) -> None:
    await hops.admin.add_member(KEY, "bob", "member", [port + 1 if port < 19_999 else port - 1])


async def make_a_viewer(hops, port: int) -> None:
    await hops.admin.add_member(KEY, "bob", "viewer")


@pytest.mark.parametrize("change, status", [(revoke, 404), (narrow_the_member, 403), (make_a_viewer, 403)])
async def test_what_a_member_may_not_reach_any_more_ends(hops, change, status):
    await let_in(hops)
    async with echo() as port, hops.socket(f"/{KEY}/port/{port}/ws", "bob") as tunnel:
        async with hops.socket(f"/{KEY}/port/{port}/ws", "ann") as other:
            await change(hops, port)
            await asyncio.wait_for(tunnel.wait_closed(), 5)
            assert tunnel.close_code == 1008
            await other.send("still here")
            assert await other.recv() == "still here"
        assert (await hops.ask(f"/{KEY}/port/{port}/", "bob")).status == status


@pytest.mark.parametrize("change", [revoke, narrow_the_member, make_a_viewer])
async def test_what_a_member_is_being_sent_ends_too(hops, change):
    await let_in(hops)
    async with (
        streaming() as upstream,
        download(hops, upstream.port, "bob") as theirs,
        download(hops, upstream.port, "ann") as hers,
    ):
        await change(hops, upstream.port)
        assert await cut(theirs, 5)
        assert not await cut(hers, 0.5)


async def test_a_removed_member_who_does_not_read_is_cut_and_one_who_waits_gets_an_error(hops):
    async def floods(connection) -> None:
        await connection.head()
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            await connection.write(bytes(1 << 20))

    async def is_silent(connection) -> None:
        await connection.head()
        await asyncio.sleep(60)

    await let_in(hops)
    async with serve(floods) as flood, serve(is_silent) as silent, download(hops, flood.port, "bob"):
        waiting = asyncio.ensure_future(hops.ask(f"/{KEY}/port/{silent.port}/", "bob"))
        await asyncio.sleep(0.5)  # until every buffer on the way is full
        await hops.admin.remove_member(KEY, "bob")
        answer = await asyncio.wait_for(waiting, 5)
        assert (answer.status, answer.text.splitlines()[0]) == (403, "You may not reach this any more.")
        await asyncio.wait_for(flood.gone.wait(), 5)  # all along the chain


async def test_a_silent_host_fails_waiting_requests_but_not_responses_that_flow(hops):
    async def is_silent(connection) -> None:
        await connection.head()
        await asyncio.sleep(60)

    async with AsyncExitStack() as stack:
        silent, upstream = [await stack.enter_async_context(context) for context in (serve(is_silent), streaming())]
        wire = await stack.enter_async_context(download(hops, upstream.port, "ann"))
        port = await stack.enter_async_context(echo())
        tunnel = await stack.enter_async_context(hops.socket(f"/{KEY}/port/{port}/ws"))
        waiting = asyncio.ensure_future(hops.ask(f"/{KEY}/port/{silent.port}/"))
        await asyncio.sleep(0.5)
        connection = await asyncpg.connect(hops.dsn)
        while not waiting.done():  # the host goes on telling that it lives
            await connection.execute("update project_hosts set last_seen = now() - interval '1 hour' where host_id = 'one'")
            await asyncio.sleep(0.1)
        await connection.close()
        answer = await waiting
        assert (answer.status, answer.text.splitlines()[0]) == (502, "The hub cannot reach the host of this project.")
        assert not await cut(wire, 0.5)
        await tunnel.send("hello")
        assert await asyncio.wait_for(tunnel.recv(), 5) == "hello"


async def test_a_hop_that_dies_is_named_and_nothing_hangs(doomed):
    async with streaming() as upstream, await Wire.open(doomed.port) as wire:
        lines = [f"GET /{KEY}/port/{upstream.port}/ HTTP/1.1", f"Host: 127.0.0.1:{doomed.port}", "Authorization: token user-ann"]
        await wire.send("\r\n".join([*lines, "", ""]).encode())
        assert (await wire.head()).status == 200
        os.kill(doomed.host.process.pid, signal.SIGKILL)
        while await asyncio.wait_for(wire.reader.read(1 << 16), 5):  # cut, not ended: no last chunk
            pass
        assert upstream.connections == 1
    begun = time.monotonic()
    answer = await doomed.ask(f"/{KEY}/api/status")
    assert (answer.status, answer.text.splitlines()[0]) == (502, "The hub cannot reach the host of this project.")
    assert time.monotonic() - begun < 6


@asynccontextmanager
async def streaming() -> AsyncIterator[Seen]:
    """An upstream whose answer has no end."""

    async def sends(connection) -> None:
        await connection.head()
        await connection.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await connection.write(b"1\r\nx\r\n")
            await asyncio.sleep(0.01)

    async with serve(sends) as upstream:
        yield upstream


# ---- raw TCP ----


async def echoes(connection) -> None:
    """Sends back what it gets, and after its end `end`."""
    while data := await connection.reader.read(65536):
        await connection.write(data)
    await connection.write(b"end")


async def handshake(hops, path: str, *fields: str, user: str | None = "ann") -> Answer:
    return await hops.ask(path, user, fields=(*HANDSHAKE, "Accept: application/json", *fields))


async def test_raw_tcp_passes_three_hops_with_its_ends(hops):
    async with serve(echoes) as up, hops.socket(f"/{KEY}/proxy/tcp/{up.port}") as link:
        for data in (b"\0\xff", bytes(range(256)) * 2048):
            await link.send(data)
            received = b""
            while len(received) < len(data):
                received += await asyncio.wait_for(link.recv(), 10)
            assert received == data
        await link.send(b"")
        assert [await link.recv(), await link.recv()] == [b"end", b""]
        await asyncio.wait_for(link.wait_closed(), 10)
        assert link.close_code == 1000
    target = f"{KEY}/{up.port}"
    for server, name in ((hops.hub, target), (hops.host, target), (hops.container, up.port)):
        await eventually(lambda: f"raw TCP to '{name}' for" in server.log and "has closed after" in server.log)  # noqa: B023
    assert f"raw TCP to '{target}' for 'ann' at 127.0.0.1 is open" in hops.hub.log


async def test_a_hub_requires_the_token_the_role_and_the_ports_for_raw_tcp(hops):
    async with serve(echoes) as up:
        path, outside = f"/{KEY}/proxy/tcp/{up.port}", f"/{KEY}/proxy/tcp/{OUT}"

        async def refused(*fields: str, user: str | None = "ann", at: str = path) -> tuple[int, str]:
            answer = await handshake(hops, at, *fields, user=user)
            return answer.status, json.loads(answer.content)["code"]

        origin = f"Origin: http://127.0.0.1:{hops.port}"
        assert await refused(origin) == (403, "token_only")
        assert await refused(user=None) == (403, "token_only")
        assert await refused("Authorization: Odd ann", user=None) == (403, "token_only")  # a login, but by no token
        assert await refused("Sec-WebSocket-Protocol: v1.token.websocket.jupyter.org.user-ann", user=None) == (403, "token_only")
        assert (await handshake(hops, f"{path}?token=user-ann", user=None)).status == 400
        assert await refused(at=f"{path}?x") == (400, "bad_route")
        assert await refused(user="eve") == (403, "forbidden")  # a viewer
        assert (await refused(user="zoe"))[0] == 404
        assert await refused(at=outside) == (403, "forbidden")
        assert await refused(at=f"/{KEY}/proxy/tcp/80") == (403, "forbidden")
        assert await refused(at=f"/{KEY}/proxy/tcp/0") == (400, "bad_route")
        assert await refused(at=f"/{KEY}/proxy/tcp/{port_of(hops.container)}") == (403, "forbidden")  # outside all lists
        await hops.admin.change(KEY, allowed_ports=["1024-65535"])
        assert up.connections == 0
        end = time.monotonic() + 5
        while (await handshake(hops, path)).status != 101:  # until the hub sees the change
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        assert (await handshake(hops, path, user="bob")).status == 101
        page = await hops.ask(path, fields=("Accept: application/json",))
        assert (page.status, json.loads(page.content)["code"]) == (400, "raw_tcp")
        assert f"jupyter portproxy forward {KEY}/{up.port}" in page.text


async def test_a_project_host_serves_raw_tcp_to_its_hub_alone(hops):
    async with serve(echoes) as up, await Wire.open(port_of(hops.host)) as wire:
        lines = [f"GET /{KEY}/proxy/tcp/{up.port} HTTP/1.1", f"Host: 127.0.0.1:{port_of(hops.host)}", *HANDSHAKE]
        await wire.send("\r\n".join([*lines, f"Authorization: token {SECRET}", "", ""]).encode())
        assert (await wire.answer()).status == 403
        assert up.connections == 0


@pytest.mark.parametrize("change", [revoke, narrow_the_member, make_a_viewer])
async def test_a_members_raw_tcp_ends_with_the_access(hops, change):
    await let_in(hops)
    async with serve(echoes) as up, hops.socket(f"/{KEY}/proxy/tcp/{up.port}", "bob") as link:
        await link.send(b"x")
        assert await link.recv() == b"x"
        begun = time.monotonic()
        await change(hops, up.port)
        await asyncio.wait_for(link.wait_closed(), 5)
        assert (link.close_code, time.monotonic() - begun < 5) == (1008, True)
        await asyncio.wait_for(up.gone.wait(), 5)  # reset, and no end
