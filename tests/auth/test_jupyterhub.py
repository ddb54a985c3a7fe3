"""The chain's hub as a service of a real JupyterHub: login, groups and logout are JupyterHub's; the docs' own settings."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from jupyter_portproxy.projects.placement.admin import PlacementAdmin
from jupyter_portproxy.projects.registry.leases import Registry
from jupyter_portproxy.protocol.credentials import SECRET_VARIABLE

from ..docs.test_docs import projects_settings
from ..projects.test_chain import CONTAINER, CREDENTIAL, KEY, SECRET, echo, finish, folder, port_of
from ..support.hub import Browser, Hub, jupyterhub
from ..support.jupyter_processes import Server, jupyter_server
from ..support.postgres import make_database
from ..support.raw_clients import Wire
from ..support.upstreams import free_port, mirror, serve

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="the host's registry needs POSIX processes"),
]
BASE = "/services/projects/"
PORTS = "--PortProxy.allowed_ports=10000-20000"
TOKEN = "a-token-of-the-service-elsewhere"
AGE = 1  # seconds, instead of ten


@dataclass
class Chain:
    """JupyterHub with the chain's hub as a service, a project host, and a project of ann's."""

    jupyterhub: Hub
    host: Server
    container: Server
    dsn: str
    home: Path
    at: int  # the hub's own port
    elsewhere: int  # the port for the service that JupyterHub does not run

    @asynccontextmanager
    async def browser(self, user: str):
        """A browser that has opened the project as a user, through JupyterHub's login."""
        async with self.jupyterhub.browser() as browser:
            page = await browser.open(f"{BASE}{KEY}/api/status", user)
            yield browser, page

    async def group(self, method: str, *users: str) -> None:
        """Put users into the group, or out of it."""
        await asyncio.to_thread(self.jupyterhub.api, method, "groups/team/users", {"users": users})


def hub_config(home: Path, dsn: str, port: int, elsewhere: int) -> str:
    """What the documentation tells, with this machine's addresses; the services' own parts become files."""
    dsn_there = "postgresql://portproxy@db.example.org/portproxy"
    for name, start in (("hub.py", "# /etc/portproxy/hub.py"), ("elsewhere.py", "# /etc/portproxy/hub.py, elsewhere")):
        server = projects_settings(start).replace(dsn_there, dsn)
        (home / name).write_text(f"{server}\nc.HubIdentityProvider.login_age = c.PortProxy.connect_timeout = {AGE}\n")
    command = [sys.executable, "-m", "jupyter", "server", "--allow-root", f"--config={home / 'hub.py'}"]
    own = (
        projects_settings("# jupyterhub_config.py: projects")
        .replace('["jupyter", "server", "--config=/etc/portproxy/hub.py"]', repr(command))
        .replace("127.0.0.1:10101", f"127.0.0.1:{port}")
        .replace('service=projects"]', 'service=projects", "access:services!service=elsewhere"]')
    )
    other = projects_settings("# jupyterhub_config.py: projects elsewhere").partition("c.JupyterHub.load_roles")[0]
    whole = f"import os\nos.environ['PROJECTS_API_TOKEN'] = {TOKEN!r}\n{own}{named_elsewhere(other, elsewhere)}"
    for trait in ("services", "load_roles"):
        whole = whole.replace(f"c.JupyterHub.{trait} = ", f"c.JupyterHub.{trait} += ")
    return whole


def named_elsewhere(text: str, port: int, hub: str = "") -> str:
    """The second service has another name than the first one, for both are in one JupyterHub here."""
    for old, new in (
        ('"projects"', '"elsewhere"'),
        ("service-projects", "service-elsewhere"),
        ("service=projects", "service=elsewhere"),
        ("https://projects.example.org", f"http://127.0.0.1:{port}"),
        ("https://hub.example.org", hub),
    ):
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def servers(postgres_server, tmp_path_factory):
    home, database = tmp_path_factory.mktemp("hubauth"), asyncio.run(make_database(postgres_server))
    at, elsewhere = (free_port(range(21000, 29000)) for _ in range(2))
    config = hub_config(home, database.dsn, at, elsewhere)
    registry = Registry(home / "registry.sqlite")
    made = [
        jupyter_server(
            folder(home / "host"), PORTS, f"--PortProxy.placement_dsn={database.dsn}", "--PortProxy.host_id=one",
            f"--PortProxy.registry_path={home / 'registry.sqlite'}", f"--PortProxy.hop_credentials={CREDENTIAL}",
            "--PortProxy.project_resolver=registry", base=BASE,
        ),
        jupyter_server(
            folder(home / "home"), PORTS, *CONTAINER,
            base=f"{BASE}{KEY}/", more={SECRET_VARIABLE: SECRET},
        ),
        jupyterhub(folder(home / "jupyterhub"), "", users=("ann", "bob", "eve"), more=config),
    ]  # fmt: skip
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        stack.callback(finish, registry)
        host, container, running = pool.map(stack.enter_context, made)
        running.api("POST", "groups/team")
        registry.register(KEY, port_of(container), SECRET, container.process.pid)
        asyncio.run(_place(database.dsn, host))
        yield Chain(running, host, container, database.dsn, home, at, elsewhere)
        # An old jupyter_server writes the way of each refusal down, as a warning.
        log = re.sub(r"wrote error: .*\n(\s+.*\n|tornado\.web\.HTTPError: .*\n)+", "", running.log)
        assert "Traceback" not in log, log


async def _place(dsn: str, host: Server) -> None:
    admin = PlacementAdmin(dsn)
    await admin.set_host("one", f"http://127.0.0.1:{port_of(host)}", CREDENTIAL)
    await admin.heartbeat("one")
    await admin.place(KEY, "one", owner="ann")
    await admin.add_member(KEY, "@team", "member")
    await admin.close()


async def gone(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """The code with which it closes within ten seconds."""
    begun = time.monotonic()
    while not socket.closed:
        await socket.receive(timeout=10)
        assert time.monotonic() - begun < 10
    return socket.close_code


async def hello(socket: aiohttp.ClientWebSocketResponse) -> None:
    await socket.send_str("hello")
    assert await socket.receive_str(timeout=5) == "hello"


async def test_who_logs_in_reaches_what_the_members_table_says_and_a_group_counts(servers: Chain):
    await servers.group("POST", "bob")
    async with serve(mirror) as upstream, servers.browser("ann") as (ann, owns), servers.browser("bob") as (bob, joined):
        assert (owns.status, owns.path) == (200, f"{BASE}{KEY}/api/status")
        assert joined.status == 200
        path = f"{BASE}{KEY}/port/{upstream.port}/a%2Fb?c=d"
        for browser in (ann, bob):
            page = await browser.fetch(path)
            assert (page.status, page.json["target"]) == (200, path)
            cookies = browser.cookies(path)
            assert "service-projects" in cookies
            everything = json.dumps(page.json)
            assert not [value for value in cookies.values() if value in everything]
        async with servers.browser("eve") as (eve, page):
            assert page.status == (await eve.fetch(path)).status == 404
            nothing = await eve.fetch(path.replace(KEY, "nothing-here"))
            hidden = await eve.fetch(path)
            assert hidden.text.replace(KEY, "nothing-here") == nothing.text
    assert upstream.connections <= 2


async def test_nothing_else_of_the_hub_is_reached(servers: Chain):
    async with serve(mirror) as upstream, servers.browser("ann") as (ann, _), servers.jupyterhub.browser() as program:
        token = servers.jupyterhub.token("ann")
        refused = [
            ("GET", f"proxy/port/{upstream.port}/"),
            ("GET", f"proxy/{upstream.port}/"),
            ("GET", f"port/{upstream.port}/"),
            ("GET", "proxy/api/services"),
            ("GET", "proxy/api/events"),
            ("GET", "proxy/api/ports"),
            ("POST", "proxy/api/services"),
            ("GET", "lab"),
            ("GET", "files/x"),
            ("GET", "api/contents"),
            ("POST", "api/kernels"),
            ("POST", "api/terminals"),
            ("GET", "metrics"),
        ]
        for method, path in refused:
            page = await ann.fetch(f"{BASE}{path}", method)
            assert page.status == 403, (method, path)
            assert (await program.call(f"{BASE}{path}", token, method)).status == 403, (method, path)
        assert "This server has projects only." in (await ann.open(f"{BASE}lab")).text
        assert (await program.fetch(f"{BASE}api")).json.keys() == {"version"}  # as of any Jupyter server
        assert "This server has projects only." in (await ann.fetch(f"{BASE}proxy/port/{upstream.port}/")).text
        assert upstream.connections == 0
        assert (await program.call(f"{BASE}{KEY}/api/status", token)).status == 200
        assert (await program.call(f"{BASE}{KEY}/api/status", "wrong")).status == 403
        assert (await program.fetch(f"{BASE}{KEY}/api/status")).status == 403


async def test_the_page_and_the_api_of_projects_are_reached_and_show_nothing_else(servers: Chain):
    await servers.group("POST", "bob")
    path, heading = f"{BASE}proxy/", f"<h3>ann/{KEY}</h3>"
    async with servers.browser("ann") as (ann, _), servers.browser("eve") as (eve, _), servers.jupyterhub.browser() as browser:
        page = await browser.open(path, "bob")
        assert (page.status, page.path, heading in page.text) == (200, path, True)
        assert "Start a service" not in page.text and "Other ports" not in page.text
        assert "You are in no project." in (await eve.open(path)).text
        (project,) = (await browser.call(f"{path}api/projects", servers.jupyterhub.token("ann"))).json
        assert (project["key"], project["role"], [member["name"] for member in project["members"]]) == (KEY, "owner", ["@team"])
        assert (await browser.call(f"{path}api/projects", servers.jupyterhub.token("eve"))).json == []
        own = await ann.open(path)
        form = {"project": KEY, "action": "set-member", "name": "eve", "role": "viewer"}
        assert (await ann.fetch(path, "POST", data=form, follow=False)).status == 403
        assert (await ann.submit(path, own, action="start", template="http-server")).status == 403
        await ann.submit(path, own, **form)
        assert heading in (await eve.open(path)).text
        await ann.submit(path, own, project=KEY, action="remove-member", name="eve")
        assert heading not in (await eve.open(path)).text


async def test_a_login_for_a_project_is_none_for_a_port_of_the_hub_on_the_same_connection(servers: Chain):
    token = servers.jupyterhub.token("ann")
    async with serve(mirror) as upstream, await Wire.open(servers.at) as wire:
        statuses = []
        for path in (f"{KEY}/api/status", f"proxy/port/{upstream.port}/"):
            fields = f"Host: 127.0.0.1:{servers.at}\r\nAuthorization: token {token}"
            await wire.send(f"GET {BASE}{path} HTTP/1.1\r\n{fields}\r\n\r\n".encode())
            statuses.append((await wire.answer()).status)
        assert (statuses, upstream.connections) == ([200, 403], 0)


async def test_a_token_without_access_to_the_service_is_none(servers: Chain):
    async with servers.jupyterhub.browser() as program:
        token = servers.jupyterhub.token("ann", "read:users!user=ann")
        assert (await program.call(f"{BASE}{KEY}/api/status", token)).status == 403


async def test_who_leaves_the_group_or_logs_out_loses_open_tunnels(servers: Chain):
    await servers.group("POST", "bob", "eve")
    async with echo() as port, servers.browser("bob") as (bob, _), servers.browser("eve") as (eve, _):
        path = f"{BASE}{KEY}/port/{port}/ws"
        async with servers.browser("ann") as (ann, _), ann.websocket(path) as stays:
            async with bob.websocket(path) as left, eve.websocket(path) as out:
                for socket in (stays, left, out):
                    await hello(socket)
                await servers.group("DELETE", "bob")
                assert await gone(left) == 1008
                await hello(out)
                assert (await _log_out(eve)).status == 200
                assert await gone(out) == 1008
            await hello(stays)
        assert (await bob.fetch(f"{BASE}{KEY}/api/status")).status == 404
        assert (await eve.fetch(f"{BASE}{KEY}/api/status")).status == 403
        assert (await eve.open(f"{BASE}{KEY}/api/status")).path.startswith("/hub/login?next=")


async def test_while_jupyterhub_hangs_open_tunnels_stay_and_nothing_waits_for_it(servers: Chain):
    async with echo() as port, servers.browser("ann") as (ann, _), ann.websocket(f"{BASE}{KEY}/port/{port}/ws") as stays:
        os.kill(servers.jupyterhub.pid, signal.SIGSTOP)
        try:
            answers = []
            while not answers or answers[-1].status == 200:
                begun = time.monotonic()
                answers.append(await ann.fetch(f"{BASE}{KEY}/api/status"))
                assert time.monotonic() - begun < 3 * AGE and len(answers) < 100
                await asyncio.sleep(0.2)
            assert (answers[-1].status, "login could not be checked" in answers[-1].text) == (503, True)
            await asyncio.sleep(3 * AGE)
            await hello(stays)
        finally:
            os.kill(servers.jupyterhub.pid, signal.SIGCONT)
        assert (await ann.fetch(f"{BASE}{KEY}/api/status")).status == 200


async def test_a_hub_at_an_origin_of_its_own_logs_in_there(servers: Chain):
    config, origin = servers.home / "elsewhere.py", servers.jupyterhub.origin
    config.write_text(named_elsewhere(config.read_text(), servers.elsewhere, origin))
    there, secret = folder(servers.home / "elsewhere"), {"PROJECTS_API_TOKEN": TOKEN}
    with jupyter_server(there, f"--config={config}", more=secret, port=servers.elsewhere) as server:
        async with serve(mirror) as host, servers.jupyterhub.browser() as browser:
            admin = PlacementAdmin(servers.dsn)
            await admin.set_host("two", f"http://127.0.0.1:{host.port}", CREDENTIAL)
            await admin.heartbeat("two")
            await admin.place("there", "two", owner="ann")
            await admin.close()
            page = await browser.open(f"{server.url}there/x?a=b", "ann")
            assert (page.status, page.json["target"]) == (200, "/there/x?a=b")
            fields = dict(page.json["fields"])
            assert fields["X-Portproxy-Hop"].startswith(f"credential={CREDENTIAL}&user=ann&")
            assert "Cookie" not in fields
    assert "Traceback" not in server.log, server.log


async def _log_out(browser: Browser):
    return await browser.open("/hub/logout")
