"""Projects of one machine: who reaches which port, what ends when that changes, and what never reaches another project."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import quote

import pytest
import websockets

from jupyter_portproxy.errors import BadInput
from jupyter_portproxy.projects.model import LOCAL_HOST
from jupyter_portproxy.projects.placement.admin import PlacementAdmin
from jupyter_portproxy.system.socket_owners import user_id, user_name

from ..support.jupyter_processes import environment, jupyter_server
from ..support.project_sites import NAMED_USERS, ROOT, LocalSite, local_site, place_locally
from ..support.raw_clients import UPGRADE, Wire
from ..support.upstreams import Seen, answers, free_port, mirror, serve
from ..support.user_services import serve_as
from ..support.waiting import eventually

pytestmark = pytest.mark.timeout(120)
KEY, MARK = "p1", "mark"
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports the owner of a socket")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with local_site(
        tmp_path_factory.mktemp("local"), settings={"project_roles": {"owner": ["ports"], "member": ["ports"]}}
    ) as site:
        yield site


@pytest.fixture
def site(server, jp_asyncio_loop):
    """The server with the project `p1` of ann's: bob is a member; the role of the viewer eve allows nothing."""
    server.admin = PlacementAdmin(server.dsn)
    jp_asyncio_loop.run_until_complete(server.admin.place(MARK, LOCAL_HOST, owner="ann"))
    jp_asyncio_loop.run_until_complete(renew(server))
    yield server
    jp_asyncio_loop.run_until_complete(server.admin.close())


async def renew(site: LocalSite) -> None:
    for project in await site.admin.list():
        if project.key != MARK:
            await site.admin.remove(project.key)
    await place_locally(site.admin, KEY)
    for member in (site.admin.add_member(MARK, "bob"), site.admin.remove_member(MARK, "bob")):
        await member  # changes become visible in their order
        await site.until(f"/{MARK}/port/{free_port()}/", 404 if member.__name__ == "remove_member" else 502, "bob")


def echo_of(answer) -> dict:
    assert answer.status == 200, answer.text
    return json.loads(answer.text)


@asynccontextmanager
async def floods() -> AsyncIterator[Seen]:
    """An upstream that sends 1 GiB."""

    async def script(connection) -> None:
        await connection.head()
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
        for _ in range(1 << 10):
            await connection.write(bytes(1 << 20))

    async with serve(script) as upstream:
        yield upstream


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    async def script(connection) -> None:
        async for message in connection:
            await connection.send(message)

    port = free_port()
    async with websockets.serve(script, "127.0.0.1", port):
        yield port


# ---- URLs ----


@pytest.mark.parametrize(
    ("path", "target", "prefix"),
    [
        ("/p1/port/PORT/a%2Fb//x?q=%20&port=1", "/p1/port/PORT/a%2Fb//x?q=%20&port=1", None),
        ("/p1/server/PORT/a%2Fb//x?q", "/a%2Fb//x?q", "/p1/server/PORT"),
        ("/p1/proxy/PORT/x", "/x", "/p1/proxy/PORT"),
        ("/p1/proxy/port/PORT/x", "/x", "/p1/proxy/port/PORT"),
        ("/p1/proxy/absolute/PORT/x", "/p1/proxy/absolute/PORT/x", None),
        ("/p1/proxy/localhost:PORT/x", "/x", "/p1/proxy/localhost:PORT"),
        ("/p1/proxy/127.0.0.1:PORT/x", "/x", "/p1/proxy/127.0.0.1:PORT"),
        ("/ann/proj/x?port=PORT&q", "/ann/proj/x?q", "/p1/server/PORT"),
        ("/%61nn/proj?port=PORT", "/%61nn/proj", "/p1/server/PORT"),
    ],
)
async def test_what_the_service_gets(site, path, target, prefix):
    """One pass of the gateway: one Via, one client in Forwarded, no field of a hop, no credential."""
    async with serve(mirror) as upstream:
        path, target, prefix = (text and text.replace("PORT", str(upstream.port)) for text in (path, target, prefix))
        request = echo_of(await site.ask(path, fields=["X-Portproxy-Hop: credential=x&user=eve"]))
    fields = {name.lower(): value for name, value in request["fields"]}
    assert request["target"] == target
    assert fields.get("x-forwarded-prefix") == prefix
    assert fields["via"].count("portproxy-") == 1 and fields["forwarded"].count("for=") == 1
    assert "x-portproxy-hop" not in fields and "authorization" not in fields


@pytest.mark.parametrize(
    "path",
    [
        "/p1",
        "/p1/",
        "/p1/lab",
        "/p1/api/status",
        "/p1/proxy/",
        "/p1/proxy/example.org:15000/x",
        "/ann/proj/",
        "/ann/proj/x?q",
        "/p1/x",
    ],
)
async def test_other_urls_are_jupyters(site, path):
    answer = await site.ask(path)
    assert answer.one("Server").startswith("TornadoServer/") and answer.status in (302, 404), (
        answer
    )  # the gateway names no server


async def test_a_final_slash_is_added_where_the_prefix_is_removed(site):
    answer = await site.ask("/p1/server/15000?q")
    assert (answer.status, answer.one("Location")) == (308, "/p1/server/15000/?q")


@pytest.mark.parametrize("name", ["lab", "api", "hub", "login", "static", "tree"])
async def test_jupyters_pages_are_not_shadowed_by_users_of_that_name(site, name):
    await site.admin.place("own", LOCAL_HOST, owner=name, name="x")
    await asyncio.sleep(0.5)
    answer = await site.ask(f"/{name}/x/?port=15000", name)
    assert answer.one("Server").startswith("TornadoServer/")  # the gateway names no server
    assert (await site.ask("/own/port/15000/", name)).status == 502


@pytest.mark.parametrize("owner", ["ann smith", "a/b", "zo\xeb", "a..b", "a%2Fb", "\u4e16", "A" * 255])
async def test_names_with_any_characters(site, owner):
    await site.admin.place("odd", LOCAL_HOST, owner=owner, name=owner)
    async with serve(mirror) as upstream:
        path = f"/{quote(owner, safe='')}/{quote(owner, safe='')}/x"
        _, answer = await site.until(f"{path}?port={upstream.port}", 200, quote(owner))
        assert echo_of(answer)["target"] == path


# ---- ports ----


async def test_the_lists_of_server_project_and_member_bound_the_ports(site):
    first, second = free_port(), free_port()
    await site.admin.change(KEY, allowed_ports=[first, second, 5000])
    await site.admin.add_member(KEY, "bob", "member", [first])
    await site.until(f"/p1/port/{second}/", 403, "bob")
    texts = {}
    for user, port in (("ann", 5000), ("ann", free_port(range(10000, 10500))), ("bob", second)):
        answer = await site.ask(f"/p1/port/{port}/", user)
        texts[user, port] = (answer.status, *answer.text.splitlines()[:1])
    assert list(texts.values()) == [
        (403, "Port 5000 is outside allowed range (10000-20000)"),
        (403, f"Port {list(texts)[1][1]} is not among the ports of this project."),
        (403, f"Port {second} is not among your ports of this project."),
    ]
    assert [(await site.ask(f"/ann/proj/?port={port}")).status for port in (first, second)] == [502, 502]


async def test_the_servers_own_port_is_a_loop(tmp_path):
    with local_site(tmp_path, settings={"allowed_ports": ["1-65535"]}) as site:
        admin = PlacementAdmin(site.dsn)
        await place_locally(admin, KEY)
        assert (await site.until(f"/p1/port/{site.port}/", 508))[0] < 2
        await admin.close()


async def test_a_claimed_port_is_reached_by_its_project_alone(site):
    """By key, by name and by a WebSocket; projects without ports of their own reach all others."""
    async with serve(mirror) as claimed, serve(mirror) as free:
        await site.admin.place("p2", LOCAL_HOST, owner="cat", name="two", allowed_ports=[claimed.port])
        await site.until(f"/p2/port/{claimed.port}/", 200, "cat")
        await site.until(f"/p1/port/{claimed.port}/", 403)
        before = claimed.connections
        for path in (f"/p1/port/{claimed.port}/", f"/p1/server/{claimed.port}/x", f"/ann/proj/?port={claimed.port}"):
            answer = await site.ask(path)
            assert (answer.status, answer.text.splitlines()[0]) == (
                403,
                f"Port {claimed.port} is not among the ports of this project.",
            )
        with pytest.raises(websockets.InvalidStatus):
            await site.socket(f"/p1/port/{claimed.port}/")
        assert claimed.connections == before
        assert (await site.ask(f"/p1/port/{free.port}/")).status == 200
        assert (await site.ask(f"/p2/port/{free.port}/", "cat")).status == 403
        with pytest.raises(BadInput, match="'p1' and 'p2'"):
            await site.admin.change(KEY, allowed_ports=[claimed.port])


async def test_raw_tcp_to_a_project_needs_the_token_the_role_and_the_port(site):
    """And it ends with the membership."""

    async def echoes(connection) -> None:
        while data := await connection.reader.read(65536):
            await connection.write(data)

    async with serve(echoes) as up:
        path = f"/p1/proxy/tcp/{up.port}"

        async def status(user: str | None = "ann", *fields: str, at: str = path) -> int:
            return (await site.ask(at, user, fields=(*UPGRADE, *fields))).status

        assert await status("ann", f"Origin: http://127.0.0.1:{site.port}") == 403
        assert [await status(None), await status(None, "Authorization: Odd ann"), await status("eve")] == [403, 403, 403]
        assert await status("zoe") == 404
        assert await status(at=f"/p1/proxy/tcp/{site.port}") == 403
        assert await status(at="/p1/proxy/tcp/22") == 403
        assert await status(at=f"{path}?q") == 400
        await site.admin.place("p2", LOCAL_HOST, owner="cat", allowed_ports=["19990-19999"])
        await site.until("/p1/port/19990/", 403)
        assert await status(at="/p1/proxy/tcp/19990") == 403  # another project claims it
        assert (up.connections, (await site.ask(path)).status) == (0, 400)
        async with site.socket(path, "bob") as link, site.socket(path, "ann") as other:
            await link.send(b"x")
            assert await link.recv() == b"x"
            await site.admin.remove_member(KEY, "bob")
            await asyncio.wait_for(link.wait_closed(), 5)
            assert link.close_code == 1008
            await other.send(b"y")
            assert await other.recv() == b"y"


async def test_a_claim_ends_what_other_projects_have_open_there(site):
    async with (
        floods() as flood,
        echo() as port,
        site.socket(f"/p1/port/{port}/", "bob") as tunnel,
        await Wire.open(site.port) as wire,
    ):
        await site.send(wire, f"/ann/proj/?port={flood.port}")
        assert (await wire.head()).status == 200
        begun = time.monotonic()
        await site.admin.place("p2", LOCAL_HOST, owner="cat", allowed_ports=[port, flood.port])
        await asyncio.wait_for(tunnel.wait_closed(), 2)
        assert tunnel.close_code == 1008
        await end_of(wire, 2)
        assert time.monotonic() - begun < 2


# ---- members ----


async def end_of(wire: Wire, seconds: float) -> int:
    """Read until the connection ends; the number of bytes."""

    async def end() -> int:
        size = 0
        with contextlib.suppress(ConnectionError):
            while data := await wire.reader.read(1 << 16):
                size += len(data)
        return size

    return await asyncio.wait_for(end(), seconds)


async def remove_the_member(site) -> None:
    await site.admin.remove_member(KEY, "bob")


async def demote(site) -> None:
    await site.admin.add_member(KEY, "bob", "viewer")  # who may do nothing on this server


async def narrow(site) -> None:
    await site.admin.add_member(KEY, "bob", "member", [9])


async def remove_the_project(site) -> None:
    await site.admin.remove(KEY)


async def change_the_system_user(site) -> None:
    await site.admin.change(KEY, system_user="nobody")


CHANGES = [(remove_the_member, 404), (demote, 403), (narrow, 403), (remove_the_project, 404), (change_the_system_user, 403)]


@pytest.mark.parametrize(("change", "status"), CHANGES)
@pytest.mark.parametrize("path", ["/p1/port/PORT/x", "/ann/proj/x?port=PORT"])
async def test_a_change_ends_what_is_open_within_two_seconds(site, change, status, path):
    """A download of 1 GiB whose client reads, one whose client does not, and a WebSocket."""
    async with floods() as flood, echo() as port, await Wire.open(site.port) as reads, await Wire.open(site.port) as waits:
        for wire in (reads, waits):
            await site.send(wire, path.replace("PORT", str(flood.port)), "bob")
            assert (await wire.head()).status == 200
        async with site.socket(path.replace("PORT", str(port)), "bob") as tunnel:
            await tunnel.send("x")
            await tunnel.recv()
            begun = time.monotonic()
            await change(site)
            size, _ = await asyncio.gather(end_of(reads, 2), asyncio.wait_for(tunnel.wait_closed(), 2))
            assert time.monotonic() - begun < 2 and size < 1 << 30
            assert tunnel.close_code == 1008
        await site.until(path.replace("PORT", str(port)), status, "bob", 1)
        assert await end_of(waits, 2) < 1 << 30


async def test_unplacing_a_project_ends_its_websockets(site):
    async with echo() as port, site.socket(f"/p1/port/{port}/", "bob") as tunnel:
        await site.admin.unplace(KEY)
        await asyncio.wait_for(tunnel.wait_closed(), 2)
        assert tunnel.close_code == 1012
    answer = await site.ask("/p1/port/15000/")
    assert (answer.status, answer.text.splitlines()[0]) == (503, "The server has not placed this project.")


async def test_a_change_is_visible_within_a_second_to_repeated_requests(site):
    """Whose decision is cached."""
    async with serve(mirror) as upstream:
        times = []
        for path in (f"/p1/port/{upstream.port}/x", f"/ann/proj/x?port={upstream.port}"):
            for change, end in ((remove_the_member, 404), (lambda site: site.admin.add_member(KEY, "bob"), 200)):
                assert (await site.ask(path, "bob")).status == (200 if end == 404 else 404)
                begun = time.monotonic()
                await change(site)
                while (await site.ask(path, "bob")).status != end:  # a request that waits is cut, with 403
                    assert time.monotonic() - begun < 1
                times.append(time.monotonic() - begun)
        assert max(times) < 1


async def test_a_project_that_is_renamed_leaves_its_name_within_a_second(site):
    async with serve(mirror) as upstream, await Wire.open(site.port) as wire:
        path = f"/ann/proj/x?port={upstream.port}"
        await site.send(wire, path)
        assert echo_of(await wire.answer())
        await site.admin.change(KEY, name="other")
        begun = time.monotonic()
        while (await site.ask(path)).status == 200:
            assert time.monotonic() - begun < 1
        await site.admin.place("p2", LOCAL_HOST, owner="ann", name="proj", allowed_ports=[9])
        assert (await site.until(path, 403))[1].text.splitlines()[0].endswith("is not among the ports of this project.")


async def test_nothing_of_another_project_is_served_when_a_port_changes_hands(site):
    """A kept connection leads to the service that had the port before: it still runs, and has only stopped listening."""
    port = free_port()
    await site.admin.change(KEY, allowed_ports=[port])
    async with keeps_connections(port, b"of p1") as stop_listening:
        assert (await site.until(f"/p1/port/{port}/", 200))[1].text == "of p1"
        stop_listening()
        await site.admin.remove(KEY)
        await site.admin.place("p2", LOCAL_HOST, owner="cat", allowed_ports=[port])
        seen = set()
        async with keeps_connections(port, b"of p2"):
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                for path, user in (
                    (f"/p2/port/{port}/", "cat"),
                    (f"/p1/port/{port}/", "ann"),
                    (f"/ann/proj/?port={port}", "ann"),
                ):
                    answer = await site.ask(path, user)
                    seen.add((path[:4], answer.status, answer.text if answer.status == 200 else ""))
    assert ("/p2/", 200, "of p2") in seen
    assert ("/p2/", 200, "of p1") not in seen
    assert not [each for each in seen if each[2] == "of p2" and each[0] != "/p2/"]


@asynccontextmanager
async def keeps_connections(port: int, content: bytes) -> AsyncIterator[Callable[[], None]]:
    """A service that answers each request so. The result is a function by which it stops listening and keeps its connections."""
    tasks = set()

    async def answer(reader, writer) -> None:
        tasks.add(asyncio.current_task())
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.transport.abort()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    try:
        yield server.close
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


async def test_a_member_who_is_removed_during_a_websockets_handshake_keeps_no_websocket(site):
    """The service is slow to answer: what was decided before is older than the change."""
    may_answer = asyncio.Event()

    async def script(connection) -> None:
        await connection.head()
        await may_answer.wait()
        await connection.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        await connection.until_closed()

    async with serve(script) as upstream, await Wire.open(site.port) as wire:
        await site.send(wire, f"/p1/port/{upstream.port}/", "bob", fields=UPGRADE)
        await eventually(lambda: upstream.requests)
        await remove_the_member(site)
        await site.until(f"/p1/port/{upstream.port}/", 404, "bob")
        may_answer.set()
        assert (await wire.head()).status == 101
        assert (await asyncio.wait_for(wire.reader.read(), 2))[:4] == b"\x88\x02\x03\xf0"  # 1008


# ---- system users ----

BOB = 65002


@linux
@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can start services of other users")
async def test_ports_of_the_servers_own_user_are_that_for_projects_too(tmp_path):
    with local_site(tmp_path, settings={"allowed_ports": "own", "allow_other_users": True}) as site, serve_as(BOB) as other:
        admin = PlacementAdmin(site.dsn)
        await place_locally(admin, KEY)
        _, answer = await site.until(f"/p1/port/{other.port}/", 403)
        await admin.close()
        for path in (f"/ann/proj/?port={other.port}", f"/p1/proxy/127.0.0.1:{other.port}/", f"/proxy/127.0.0.1:{other.port}/"):
            assert (await site.ask(path)).text == answer.text
        assert answer.text.startswith(f"Port {other.port} belongs to another user of this machine")
        assert set(other.end()) <= {"0"}


@linux
@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can start services of other users")
async def test_the_services_of_a_project_belong_to_its_system_user(site):
    """By HTTP and by a WebSocket; others are refused without a byte."""
    await site.admin.place("p2", LOCAL_HOST, owner="ann", name="two", system_user="nobody")
    nobody = user_id("nobody")
    with serve_as(nobody) as right, serve_as(BOB) as wrong:
        _, answer = await site.until(f"/p2/port/{right.port}/x", 200)
        assert answer.text == f"{nobody} /p2/port/{right.port}/x"
        assert (await site.ask(f"/ann/two/x?port={right.port}")).text == f"{nobody} /ann/two/x"
        async with await Wire.open(site.port) as wire:
            await site.send(wire, f"/p2/server/{right.port}/ws", fields=UPGRADE)
            assert (await wire.head()).status == 101
        async with serve(answers()) as own:
            for port, owner in ((wrong.port, f"uid {BOB}"), (own.port, user_name(os.getuid()))):
                answer = await site.ask(f"/p2/port/{port}/x")
                sentence = f"Port {port} belongs to {owner}, and not to nobody, the user of this project."
                assert (answer.status, *answer.text.splitlines()[:2]) == (403, sentence, "Start the service as nobody.")
                with pytest.raises(websockets.InvalidStatus):
                    await site.socket(f"/ann/two/?port={port}")
            assert own.requests == []
        for path in (f"/p1/port/{right.port}/x", f"/proxy/port/{right.port}/x"):  # not everybody's, though p2 reaches it
            assert (await site.ask(path)).text.startswith(f"Port {right.port} belongs to another user of this machine")
        await asyncio.sleep(0.2)
        assert set(wrong.end()) == {"0"}


async def test_a_system_user_that_does_not_exist_is_reported(site):
    await site.admin.change(KEY, system_user="not-a-user")
    _, answer = await site.until("/p1/port/15000/", 403)
    assert answer.text.splitlines()[:2] == [
        "The system user of this project does not exist on this machine.",
        "Tell the operator: jupyter portproxy placement project p1 --system-user NAME.",
    ]


# ---- the store ----


async def test_a_new_site_works_at_once(tmp_path):
    """The server makes the file of its projects; the log names it once it is open."""
    with jupyter_server(
        tmp_path,
        NAMED_USERS,
        "--PortProxy.project_resolver=local",
        f"--PortProxy.projects_path={tmp_path / 'projects.sqlite'}",
        more={"PYTHONPATH": ROOT},
    ) as server:
        site = LocalSite(server, tmp_path / "projects.sqlite")
        answer = await site.ask("/p1/port/15000/")
        assert (answer.status, answer.text.splitlines()[0]) == (404, "The server has no project 'p1'.")
        assert f"opened the file of the placements, {site.file}" in server.log
        admin = PlacementAdmin(site.dsn)
        await place_locally(admin, KEY)
        await admin.close()
        assert (await site.until("/p1/port/15000/", 502))[0] < 3


async def test_a_change_by_hand_in_sql_has_the_same_effect(site):
    async with echo() as port, site.socket(f"/p1/port/{port}/", "bob") as tunnel:
        with sqlite3.connect(site.file) as connection:
            connection.execute("delete from project_members where username = 'bob'")
        connection.close()
        await asyncio.wait_for(tunnel.wait_closed(), 2)
        assert tunnel.close_code == 1008


def test_neither_asyncpg_nor_the_chain_is_imported(tmp_path):
    code = """
import logging, sys
from jupyter_server.auth.identity import IdentityProvider
from traitlets.config import Config
from jupyter_portproxy.services.ports import PortLeases
from jupyter_portproxy.config import PortProxy
from jupyter_portproxy.gateway.policy import Policy
import jupyter_portproxy.app
from jupyter_portproxy.projects import setup
settings = PortProxy(config=Config({"PortProxy": {"project_resolver": "local", "projects_path": "x.sqlite"}}))
policy = Policy(settings)
setup.build(settings, policy, "/", logging.getLogger("test"), IdentityProvider(token="t"), PortLeases(policy.ports))
print([name for name in sys.modules if "asyncpg" in name or name.startswith("jupyter_portproxy.projects.")])
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = {name.strip(" '\n").removeprefix("jupyter_portproxy.projects.") for name in done.stdout.strip("[]\n").split(",")}
    assert "local" in loaded
    assert not loaded & {"chain", "starter", "registry.leases", "run"} and not [name for name in loaded if "asyncpg" in name]
