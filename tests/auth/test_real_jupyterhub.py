"""A real JupyterHub: two users, each behind the hub's reverse proxy and login; nothing is faked or skipped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import datetime, timezone

import aiohttp
import psutil
import pytest
import websockets

from ..docs.test_docs import server_settings
from ..gateway.test_policy import foreign_port
from ..support import forwarding
from ..support.hub import Browser, Hub, jupyterhub
from ..support.jupyter_processes import environment
from ..support.upstreams import ALLOWED, free_port, mirror, says, serve
from ..support.waiting import eventually

__all__ = ["foreign_port"]
pytestmark = pytest.mark.timeout(180)  # the first test of each hub waits for it


UNSEEN = range(24000, 25000)  # lists of ports of other tests' servers do not connect to these


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    more = f"c.PortProxy.reverse_forwarding = True\nc.PortProxy.tcp_ports = ['allowed', '{UNSEEN.start}-{UNSEEN.stop - 1}']\n"
    settings = f"{server_settings()}\n{more}"
    with jupyterhub(tmp_path_factory.mktemp("hub"), settings, "ada", "bob") as running:
        yield running


@contextlib.asynccontextmanager
async def echo():
    """A WebSocket service that sends back what it gets; yields its port and the handshakes that it has seen."""
    handshakes = []

    async def talk(connection):
        handshakes.append(connection.request)
        async for message in connection:
            await connection.send(message)

    async with websockets.serve(talk, "127.0.0.1", free_port()) as server:
        yield server.sockets[0].getsockname()[1], handshakes


async def says_back(browser: Browser, path: str, **fields: str) -> None:
    async with browser.websocket(path, **fields) as socket:
        for message in ("hello", "x" * 100_000):
            await socket.send_str(message)
            assert await socket.receive_str(timeout=5) == message
        await socket.send_bytes(b"\0\xff")
        assert await socket.receive_bytes(timeout=5) == b"\0\xff"


async def refusal(browser: Browser, path: str, **fields: str) -> int:
    """The status of a refused WebSocket."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with browser.websocket(path, **fields):
            pass
    return refused.value.status


# ---- who reaches what ----


@pytest.mark.parametrize("user", ["ada", "bob"])
async def test_each_reaches_their_own_services(hub: Hub, user):
    async with serve(mirror) as up, hub.browser(user) as browser, hub.browser() as program:
        path, token = f"/user/{user}/proxy/port/{up.port}/a?b=c", hub.token(user)
        for page in (await browser.open(path), await browser.fetch(path), await program.call(path, token)):
            assert (page.status, page.path, page.json["target"]) == (200, path, "/a?b=c")
        sent = [await browser.fetch(path, "POST", b"content"), await program.call(path, token, "POST", b"content")]
        assert [(page.json["method"], page.json["content"]) for page in sent] == [("POST", "content")] * 2
    async with echo() as (port, handshakes), hub.browser(user) as browser, hub.browser() as program:
        await says_back(browser, f"/user/{user}/proxy/port/{port}/ws")
        await says_back(program, f"/user/{user}/proxy/port/{port}/ws", Authorization=f"token {hub.token(user)}")
        assert [handshake.path for handshake in handshakes] == ["/ws", "/ws"]


@pytest.mark.parametrize(("user", "other"), [("ada", "bob"), ("bob", "ada")])
async def test_neither_reaches_the_others_and_not_one_connection_is_opened(hub: Hub, user, other):
    async with serve(mirror) as up, hub.browser(user) as browser, hub.browser() as thief:
        path, token = f"/user/{other}/proxy/port/{up.port}/", hub.token(user)
        page = await browser.open(path)
        assert (page.status, page.path.startswith("/hub/api/oauth2/authorize?")) == (403, True)
        own = browser.cookies(f"/user/{user}/")
        stolen = own[f"jupyterhub-user-{user}"]
        shown = "; ".join(
            [*(f"{name}={value}" for name, value in own.items()), f"jupyterhub-user-{other}={stolen}", f"_xsrf={own['_xsrf']}"]
        )
        for fields in ({}, {"Cookie": shown}, {"Cookie": shown, "X_XSRFToken": own["_xsrf"]}):
            for method in ("GET", "POST", "DELETE", "OPTIONS"):
                assert (await thief.fetch(path, method, **fields)).status == 403, (method, fields)
            assert await refusal(thief, path, **fields) == 403
        assert (await thief.call(path, token)).status == (await thief.call(path, token, "POST")).status == 403
        assert await refusal(thief, path, Authorization=f"token {token}") == 403
        assert await refusal(thief, f"{path}?token={token}") == 403
        assert (await thief.call(f"/user/{other}/proxy/api/services", token)).status == 403
        assert up.connections == 0


async def test_a_token_needs_access_to_the_server(hub: Hub):
    async with serve(mirror) as up, hub.browser() as program:
        path = f"/user/ada/proxy/port/{up.port}/"
        assert (await program.call(path, hub.token("ada", "read:users!user=ada"))).status == 403
        assert (await program.call(path, "wrong")).status == 403
        assert up.connections == 0
        assert (await program.call(path, hub.token("ada", "access:servers!user=ada"))).status == 200


async def test_without_a_login_a_page_leads_to_the_hubs_login_and_back(hub: Hub):
    async with serve(mirror) as up, hub.browser() as browser:
        path = f"/user/ada/proxy/port/{up.port}/deep/page?a=1&b="
        for method in ("GET", "POST"):
            assert (await browser.fetch(path, method)).status == 403
        assert await refusal(browser, path) == 403
        assert (await browser.open(path)).path.startswith("/hub/login?next=")
        assert up.connections == 0
        page = await browser.open(path, "ada")
        assert (page.status, page.path, page.json["target"]) == (200, path, "/deep/page?a=1&b=")


async def test_a_port_of_another_user_of_the_machine_is_refused(hub: Hub, foreign_port):
    port, process = foreign_port
    async with hub.browser("ada") as browser:
        page = await browser.fetch(f"/user/ada/proxy/port/{port}/")
        assert (page.status, "belongs to another user" in page.text) == (403, True)
        assert process.stdout.readline() == "0\n"


async def test_pages_of_other_sites_are_refused(hub: Hub):
    async with serve(mirror) as up, hub.browser("ada") as browser:
        path, evil = f"/user/ada/proxy/port/{up.port}/", {"Origin": "http://evil.example"}
        assert (await browser.fetch(path, "POST", b"x", **evil)).status == 403
        assert (await browser.fetch(path, "POST", b"x", **evil, Sec_Fetch_Site="cross-site")).status == 403
        assert (await browser.fetch(path, **evil, Sec_Fetch_Site="same-site")).status == 403  # another user's subdomain
        assert await refusal(browser, path, **evil) == 403
        assert up.connections == 0


# ---- what passes ----


async def test_a_service_learns_its_prefix_and_no_secret(hub: Hub):
    async with serve(mirror) as up, hub.browser("ada") as browser, hub.browser() as program:
        prefix, token = f"/user/ada/proxy/port/{up.port}", hub.token("ada")
        own, host = browser.cookies(f"{prefix}/"), hub.origin.partition("//")[2]
        assert {"jupyterhub-user-ada", "jupyterhub-session-id", "_xsrf"} <= set(own)
        await browser.fetch(f"{prefix}/", X_XSRFToken=own["_xsrf"], Cookie="mine=1", Referer=f"{hub.origin}{prefix}/page")
        seen = up.last
        assert seen.one("Cookie") == "mine=1"
        assert (seen.one("X-Forwarded-Prefix"), seen.one("X-Forwarded-Context")) == (prefix, prefix)
        assert (seen.one("X-Forwarded-Proto"), seen.one("X-Forwarded-Host")) == ("http", host)
        assert seen.one("X-Forwarded-For") == "127.0.0.1"
        assert (seen.one("Origin"), seen.one("Referer")) == (None, f"http://localhost:{up.port}/page")
        await browser.fetch(f"{prefix}/", "POST")
        assert (up.last.one("Origin"), up.last.one("X-Forwarded-Host")) == (f"http://localhost:{up.port}", None), "one story"
        await program.call(f"{prefix}/?token={token}", token, Cookie="__Host-jupyterhub-user-ada=secret; mine=2")
        assert (up.last.target, up.last.one("Cookie"), up.last.one("Authorization")) == ("/", "mine=2", None)
        everything = str(up.requests)
        assert not [secret for secret in (token, "jupyterhub-", *own.values()) if secret in everything]
    async with echo() as (port, handshakes), hub.browser() as program:
        await says_back(program, f"/user/ada/proxy/port/{port}/ws?token={token}&a=1")  # as a browser's script logs in
        assert handshakes[0].path == "/ws?a=1"
        assert token not in str(list(handshakes[0].headers.raw_items()))


async def test_a_service_cannot_set_jupyterhubs_cookies(hub: Hub):
    names = ["jupyterhub-user-ada", "jupyterhub-session-id", "jupyterhub-hub-login", "_xsrf", "__Host-jupyterhub-user-ada"]
    head = "".join(f"Set-Cookie: {name}=evil; Path=/\r\n" for name in names)
    raw = f"HTTP/1.1 200 OK\r\n{head}Set-Cookie: own=1; Path=/\r\nContent-Length: 0\r\n\r\n".encode()
    async with serve(says(raw)) as up, hub.browser("ada") as browser:
        before = browser.cookies("/user/ada/")
        page = await browser.fetch(f"/user/ada/proxy/port/{up.port}/")
        assert page.fields.getall("Set-Cookie") == [f"own=1; Path=/user/ada/proxy/port/{up.port}"]
        assert browser.cookies("/user/ada/") == before


async def test_an_error_page_can_be_shown_in_a_frame_of_jupyterlab(hub: Hub):
    async with hub.browser("ada") as browser:
        page = await browser.open(f"/user/ada/proxy/port/{free_port()}/")
        assert (page.status, "Failed to connect" in page.text) == (502, True)
        (policy,) = page.fields.getall("Content-Security-Policy")
        assert "frame-ancestors 'self'" in policy
        lab = await browser.open("/user/ada/lab")
        assert "'none'" in lab.fields["Content-Security-Policy"]  # JupyterHub's own, on all that is not ours
        assert '"jupyter-portproxy"' in lab.text


async def test_traffic_of_services_is_activity_that_the_hub_learns_of(hub: Hub):
    def known() -> datetime:
        return datetime.fromisoformat(hub.server("ada")["last_activity"].replace("Z", "+00:00"))

    token = hub.token("ada")
    async with serve(mirror) as up, echo() as (port, _), hub.browser() as program:
        since = datetime.now(timezone.utc)
        assert known() < since
        await program.call(f"/user/ada/proxy/port/{up.port}/", token)
        await eventually(lambda: known() >= since, 10)
        async with program.websocket(f"/user/ada/proxy/port/{port}/", Authorization=f"token {token}") as socket:
            await asyncio.sleep(0.05)  # what comes within 10 ms of the handshake is one activity with it
            since = datetime.now(timezone.utc)
            await socket.send_str("still here")
            await eventually(lambda: known() >= since, 10)


# ---- services ----


@pytest.mark.parametrize("user", ["ada", "bob"])
async def test_the_api_starts_lists_and_stops_a_users_own_service(hub: Hub, user):
    api, content = f"/user/{user}/proxy/api/services", json.dumps({"template": "who"})
    async with hub.browser(user) as browser:
        xsrf = {"X_XSRFToken": browser.cookies(f"/user/{user}/")["_xsrf"]}
        assert (await browser.fetch(api, "POST", content)).status == 403
        assert (await browser.fetch(api, "POST", content, X_XSRFToken="wrong")).status == 403
        assert (await browser.fetch(api, "POST", content, **xsrf, Origin="http://evil.example")).status == 404  # Jupyter's word
        assert (await browser.fetch(api, **xsrf)).json == []
        started = await browser.fetch(api, "POST", content, **xsrf)
        assert (started.status, started.json["name"]) == (201, "who")
        who = (await browser.fetch(f"/user/{user}/proxy/service/who/")).json
        (listed,) = (await browser.fetch(api, **xsrf)).json
        assert (listed["name"], listed["state"], listed["port"] in (*range(8000, 9001), *ALLOWED)) == ("who", "up", True)
        base = f"/user/{user}/proxy"
        named = f"{base}/service/who/"
        assert who == {"user": user, "url": f"{base}/port/{listed['port']}/x", "named": named, "secrets": []}
        assert (await browser.fetch(f"{api}/who", "DELETE")).status == 403
        assert (await browser.fetch(f"{api}/who", "DELETE", **xsrf)).status == 204
        assert (await browser.fetch(api, **xsrf)).json == []


async def test_the_command_line_works_in_a_users_terminal_and_shows_no_token(hub: Hub):
    variables = next(
        process.environ()
        for process in psutil.Process(hub.pid).children(recursive=True)
        if process.environ().get("JUPYTERHUB_USER") == "ada"
    )
    command = [sys.executable, "-m", "jupyter_portproxy.cli.main"]

    def run(*arguments: str) -> str:
        return subprocess.run(
            [*command, *arguments], env=variables, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    assert json.loads(await asyncio.to_thread(run, "list", "--json"))["services"] == []
    output = await asyncio.to_thread(run, "start", "who", "--name", "by-command")
    assert "by-command is up: " in output and "/user/ada/proxy/service/by-command/" in output
    assert "token" not in output and variables["JUPYTERHUB_API_TOKEN"] not in output
    variables["JUPYTERHUB_PUBLIC_URL"] = "https://hub.example.org/user/ada/"  # as of a hub that knows its own
    output = await asyncio.to_thread(run, "url", "by-command")
    assert output == "https://hub.example.org/user/ada/proxy/service/by-command/\n"
    await asyncio.to_thread(run, "stop", "by-command")


async def test_the_page_without_scripts_starts_a_service(hub: Hub):
    async with hub.browser("bob") as browser:
        page = await browser.open("/user/bob/proxy/")
        assert (page.status, "who" in page.text) == (200, True)
        done = await browser.submit("/user/bob/proxy/", page, action="start", template="who", name="by-form")
        assert (done.status, done.path, "by-form" in done.text) == (200, "/user/bob/proxy/", True)
        assert (await browser.submit("/user/bob/proxy/", done, action="delete", name="by-form")).status == 200


# ---- what ends ----


async def closed(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """The code with which a WebSocket ends, within the 30 seconds that are promised."""
    end = await socket.receive(timeout=30)
    assert end.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED), end
    return socket.close_code


async def test_open_websockets_end_with_a_logout_of_the_hub_and_with_a_revoked_token(hub: Hub):
    """Although the user's server remembers the hub's word on them for five minutes."""
    made = hub.api("POST", "users/bob/tokens", {"scopes": ["access:servers!user=bob"]})
    by_token = {"Authorization": f"token {made['token']}"}
    async with echo() as (port, _), hub.browser("bob") as leaves, hub.browser("bob") as stays, hub.browser() as program:
        path = f"/user/bob/proxy/port/{port}/"
        async with leaves.websocket(path) as out, stays.websocket(path) as kept, program.websocket(path, **by_token) as revoked:
            assert (await leaves.open("/hub/logout")).status == 200
            hub.api("DELETE", f"users/bob/tokens/{made['id']}")
            assert await asyncio.gather(closed(out), closed(revoked)) == [1008, 1008]
            await kept.send_str("hello")
            assert await kept.receive_str(timeout=5) == "hello"
        assert await refusal(program, path, **by_token) == 403  # nor does that server remember it any longer


async def test_raw_tcp_takes_a_token_of_the_hub_alone_and_ends_with_it(hub: Hub):
    """The browser's login opens any other WebSocket; a token of another user, or without access to the server, none."""

    async def echoes(connection) -> None:
        while data := await connection.reader.read(65536):
            await connection.write(data)

    made = hub.api("POST", "users/bob/tokens", {"scopes": ["access:servers!user=bob"]})
    async with serve(echoes, port=free_port(UNSEEN)) as up, hub.browser("bob") as browser, hub.browser() as program:
        path = f"/user/bob/proxy/tcp/{up.port}"
        url, by_token = f"ws{hub.origin.removeprefix('http')}{path}", {"Authorization": f"token {made['token']}"}
        assert await refusal(browser, path) == 403
        assert await refusal(browser, path, **by_token) == 403  # by its Origin
        assert await refusal(program, f"{path}?token={made['token']}") == 400
        cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies("/user/bob/").items())
        for token in (hub.token("ada"), hub.token("bob", "read:users!user=bob"), "wrong", ""):
            fields = {"Authorization": f"token {token}", "Cookie": cookies}
            with pytest.raises(websockets.InvalidStatus, match="HTTP 403"):
                await websockets.connect(url, additional_headers=fields)
        assert up.connections == 0
        async with websockets.connect(url, additional_headers=by_token) as link:
            await link.send(b"hello")
            assert await link.recv() == b"hello"
            hub.api("DELETE", f"users/bob/tokens/{made['id']}")
            await asyncio.wait_for(link.wait_closed(), 30)
            assert link.close_code == 1008
        await asyncio.wait_for(up.gone.wait(), 5)


def test_forward_through_the_hub_ends_with_its_token(hub: Hub, tmp_path):
    made = hub.api("POST", "users/bob/tokens", {"scopes": ["access:servers!user=bob"]})
    options = ["--server", f"{hub.origin}/user/bob/lab/tree/a.ipynb"]
    with forwarding.service(forwarding.echo) as port:
        for token in (hub.token("ada"), hub.token("bob", "read:users!user=bob")):  # another user's, and one without access
            command = [*forwarding.COMMAND, "forward", *options, f"0:{port}"]
            variables = environment(tmp_path, {"JUPYTER_TOKEN": token})
            done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=30, check=False)
            assert (done.returncode, done.stdout) == (1, "") and len(done.stderr.splitlines()) == 2, done.stderr
            assert token not in done.stderr
        with forwarding.forwarding(tmp_path, f"0:{port}", options=options, more={"JUPYTER_TOKEN": made["token"]}) as forward:
            with forward.connect(30) as sock:
                sock.sendall(b"hello")
                assert sock.recv(5) == b"hello"
                hub.api("DELETE", f"users/bob/tokens/{made['id']}")
                assert forwarding.is_reset(sock)
            assert forward.wait() == 1
            assert forward.messages.count("\n") == 2, forward.messages


async def next_but_open(control) -> dict:
    """The next message that is no `open`: the lists of ports of other tests connect to each new port."""
    while (message := json.loads(await control.recv()))["type"] == "open":
        pass
    return message


async def test_a_reverse_forward_takes_a_token_of_the_hub_alone_and_ends_with_it(hub: Hub):
    made = hub.api("POST", "users/bob/tokens", {"scopes": ["access:servers!user=bob"]})
    url, remote = f"ws{hub.origin.removeprefix('http')}/user/bob/proxy/reverse", free_port()
    for token in (hub.token("ada"), hub.token("bob", "read:users!user=bob"), "wrong"):
        with pytest.raises(websockets.InvalidStatus, match="HTTP 403"):
            await websockets.connect(url, additional_headers={"Authorization": f"token {token}"})
    async with websockets.connect(url, additional_headers={"Authorization": f"token {made['token']}"}) as control:
        await control.send(json.dumps({"type": "listen", "host": "laptop", "instance": "an-instance-of-it", "ports": [remote]}))
        assert json.loads(await control.recv())["type"] == "attached"
        reader, writer = await asyncio.open_connection("127.0.0.1", remote)
        assert json.loads(await control.recv())["type"] == "open"
        hub.api("DELETE", f"users/bob/tokens/{made['id']}")
        ended = await asyncio.wait_for(next_but_open(control), 30)
        assert (ended["type"], ended["sentence"], ended["is_final"]) == ("ended", "Your login has ended.", True)
        await asyncio.wait_for(control.wait_closed(), 5)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", remote)


def test_attach_through_the_hub_needs_no_token_of_the_hub(hub: Hub, tmp_path):
    """The hub's reverse proxy passes an attach token on; the hub does not know it, and it opens nothing else."""
    home, bob = f"{hub.origin}/user/bob/", hub.token("bob")

    def call(token: str, method: str, path: str, body: object = None) -> tuple[int, str]:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{home}{path}", content, {"Authorization": f"token {token}"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    status, made = call(bob, "POST", "proxy/api/attach-tokens", {"seconds": 600})
    assert status == 201
    token = json.loads(made)["token"]
    with forwarding.service(forwarding.echo) as port:
        command = [*forwarding.COMMAND, "attach", "--server", f"{home}lab", "--name", "job", str(port)]
        variables = environment(tmp_path, {"PORTPROXY_ATTACH_TOKEN": token})
        with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as agent:
            assert agent.stdout.readline() == f"Port {port} is attached: {home}proxy/service/job-{port}/\n"
            more, options = {"JUPYTER_TOKEN": bob}, ["--server", home]
            with (
                forwarding.forwarding(tmp_path, f"0:job-{port}", options=options, more=more) as forward,
                forward.connect(30) as sock,
            ):
                sock.sendall(b"hello")
                assert sock.recv(5) == b"hello"
            for path in ("api/contents", "proxy/api/services", f"proxy/service/job-{port}/"):
                assert call(token, "GET", path)[0] == 403, path
            assert call(token, "POST", "proxy/api/attach-tokens", {"seconds": 60})[0] == 403
            agent.terminate()
            assert agent.wait(10) == 0


async def test_a_guest_with_a_share_code_reaches_services_until_the_share_is_revoked(hub: Hub):
    """The guest keeps the login: only the access to that one server ends."""
    code = hub.api("POST", "share-codes/bob/", {})["code"]
    async with echo() as (port, _), hub.browser("ada") as guest, hub.browser("bob") as owner:
        path = f"/user/bob/proxy/port/{port}/"
        assert await refusal(guest, path) == 403
        page = await guest.open(f"/hub/accept-share?code={code}")
        page = await guest.submit(f"/hub/accept-share?code={code}", page)
        page = await guest.submit(page.path, page, scopes="access:servers!server=bob/")  # "Authorize", once for each server
        assert (page.status, page.path) == (200, "/user/bob/lab"), page
        async with guest.websocket(path) as shared, owner.websocket(path) as own:
            await shared.send_str("hello")
            assert await shared.receive_str(timeout=5) == "hello"
            hub.api("DELETE", "shares/bob/?user=ada")
            assert await closed(shared) == 1008
            await own.send_str("hello")
            assert await own.receive_str(timeout=5) == "hello"
        assert await refusal(guest, path) == 403
        assert (await guest.open("/hub/home")).path == "/hub/home"


# ---- links ----


async def test_a_kernel_has_variables_that_make_links(hub: Hub):
    async with hub.browser() as program:
        made = await program.call("/user/ada/api/kernels", hub.token("ada"), "POST", b"{}")
        assert made.status == 201
        kernel = made.json["id"]
        try:
            processes = psutil.process_iter(["cmdline", "environ"])
            variables = next(each.info["environ"] for each in processes if kernel in " ".join(each.info["cmdline"] or ()))
        finally:
            await program.call(f"/user/ada/api/kernels/{kernel}", hub.token("ada"), "DELETE")
    assert variables["JUPYTER_PORTPROXY_URL"] == "/user/ada/proxy/port/{port}/"
    assert variables["TENSORBOARD_PROXY_URL"] == "/user/ada/proxy/port/%PORT%/"
    assert variables["VSCODE_PROXY_URI"].endswith("/user/ada/proxy/port/{{port}}/")


# ---- behind Traefik ----


@pytest.fixture
def behind_traefik(tmp_path):
    with jupyterhub(tmp_path, server_settings(), "ada/second", reverse_proxy="traefik") as running:
        yield running


async def test_a_named_server_behind_traefik(behind_traefik: Hub):
    hub = behind_traefik
    async with (
        serve(mirror) as up,
        echo() as (port, handshakes),
        hub.browser("ada/second") as browser,
        hub.browser() as anonymous,
    ):
        prefix = f"/user/ada/second/proxy/port/{up.port}"
        assert (await anonymous.open(f"{prefix}/")).path.startswith("/hub/login?next=")
        assert await refusal(anonymous, f"/user/ada/second/proxy/port/{port}/") == 403
        assert (up.connections, handshakes) == (0, [])
        # Traefik passes targets byte for byte, as this gateway does.
        page = await browser.fetch(f"{prefix}/x%2Fy?a=%20", "POST", b"content")
        assert (page.status, page.json["target"], page.json["content"]) == (200, "/x%2Fy?a=%20", "content")
        assert up.last.one("X-Forwarded-Prefix") == up.last.one("X-Forwarded-Context") == prefix
        assert (up.last.one("X-Forwarded-Proto"), up.last.one("Cookie")) == ("http", None)
        forwarded = {"X_Forwarded_Proto": "https", "X_Forwarded_Port": "443", "X_Forwarded_Host": "hub.example"}
        await browser.fetch(f"{prefix}/", **forwarded)  # as a reverse proxy that Traefik trusts
        assert [up.last.one(name.replace("_", "-")) for name in forwarded] == ["https", "443", "hub.example"]
        await says_back(browser, f"/user/ada/second/proxy/port/{port}/ws")
        assert handshakes[0].path == "/ws"
