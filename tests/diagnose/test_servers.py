"""Looks through real servers: with a password, https, a Unix socket, isolated origins alone, and behind JupyterHub."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import aiohttp
import pytest
import trustme
from jupyter_server.auth import passwd
from tornado.websocket import WebSocketProtocol13

from ..support.hub import jupyterhub
from ..support.jupyter_processes import TOKEN, environment, jupyter_server, portproxy
from ..support.upstreams import serve
from .conftest import Reply, site

pytestmark = [pytest.mark.timeout(120), pytest.mark.skipif(sys.platform == "win32", reason="the servers need POSIX processes")]
PAGES = {
    "/": "<title>x</title><script src='/static/a.js'></script><script src=b.js></script><script>new WebSocket('ws')</script>",
    "/static/a.js": Reply("1", "text/javascript"),
    "/b.js": Reply("1", "text/javascript"),
    "/ws": Reply("", status="403 Forbidden"),
}
AT_ROOT = {"/": "<title>x</title><script src='/static/a.js'></script>", "/static/a.js": Reply("1", "text/javascript")}
HEALTHY = {"/": "<title>x</title><script src=b.js></script>", "/b.js": Reply("1", "text/javascript")}


async def post(session: aiohttp.ClientSession, url: str, body: object, **fields: str) -> tuple[int, dict[str, Any]]:
    async with session.post(f"{url}proxy/api/diagnose", json=body, headers=fields) as response:
        return response.status, await response.json()


async def test_a_login_by_password_below_a_base_url(tmp_path):
    secret = f"--PasswordIdentityProvider.hashed_password={passwd('s3cret')}"
    with jupyter_server(tmp_path, "--IdentityProvider.token=", secret, base="/lab/") as server:
        jar = aiohttp.CookieJar(unsafe=True)
        async with serve(site(HEALTHY)) as service, aiohttp.ClientSession(cookie_jar=jar) as session:
            assert (await post(session, server.url, {"port": service.port}))[0] == 403
            await (await session.get(f"{server.url}login")).read()
            xsrf = {cookie.key: cookie.value for cookie in jar}["_xsrf"]
            await (await session.post(f"{server.url}login", data={"password": "s3cret", "_xsrf": xsrf})).read()
            status, report = await post(session, server.url, {"port": service.port}, **{"X-XSRFToken": xsrf})
            assert not [name for request in service.requests for name, _ in request.fields if name.lower() == "cookie"]
    assert (status, report["findings"], report["problem"]) == (200, [], None), report
    assert (report["status"], report["requests"], report["url"]) == (200, 4, f"/lab/proxy/port/{service.port}/")


async def test_a_token_in_the_url_logs_in(tmp_path):
    with jupyter_server(tmp_path) as server:
        async with serve(site(HEALTHY)) as service, aiohttp.ClientSession() as session:
            url = f"{server.url}proxy/api/diagnose?token={TOKEN}"
            async with session.post(url, json={"port": service.port}) as response:
                report = await response.json()
            assert not [request.target for request in service.requests if TOKEN in request.target]
    assert (response.status, report["status"], report["findings"]) == (200, 200, [])


async def test_https_with_a_certificate_that_is_trusted_nowhere(tmp_path):
    path = tmp_path / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    with jupyter_server(tmp_path, certificate=path) as server:
        async with serve(site(PAGES)) as service:
            connector = aiohttp.TCPConnector(ssl=False)
            async with aiohttp.ClientSession(connector=connector) as session:
                login = {"Authorization": f"token {TOKEN}"}
                status, report = await post(session, server.url, {"port": service.port}, **login)
    assert (status, report["status"], report["problem"]) == (200, 200, None)
    assert [request.target for request in service.requests].count("/ws") == 2  # direct, and through TLS


def test_a_unix_socket(tmp_path):
    path = str(tmp_path / "s")
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--ServerApp.sock={path}"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment(tmp_path), cwd=tmp_path, stderr=log)
    try:
        report = asyncio.run(_look_at_a_socket(path))
    finally:
        process.terminate()
        process.wait(15)
    assert (report["status"], report["findings"], report["problem"]) == (200, [], None)


async def _look_at_a_socket(path: str) -> dict[str, Any]:
    async with serve(site(HEALTHY)) as service, aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
        for _ in range(300):
            try:
                return (await post(session, "http://localhost/", {"port": service.port}, Authorization=f"token {TOKEN}"))[1]
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.1)
    raise AssertionError("the server does not answer")


async def test_where_pages_open_at_isolated_origins_alone_they_are_looked_at_there(tmp_path):
    with jupyter_server(tmp_path, "--PortProxy.isolate=always") as server:
        url = server.url.replace("127.0.0.1", "localhost")
        async with serve(site(AT_ROOT)) as service, aiohttp.ClientSession() as session:
            status, report = await post(session, url, {"port": service.port}, Authorization=f"token {TOKEN}")
            paths = [request.target for request in service.requests]
    assert (status, report["status"], report["problem"], report["findings"]) == (200, 200, None, [])
    assert report["url"].startswith(f"http://p{service.port}.localhost:")
    assert paths.count("/static/a.js") == 2


async def test_a_websocket_of_an_isolated_page_has_its_origin(tmp_path):
    async def respond(connection):
        while True:
            request = await connection.request()
            if request.one("Upgrade"):
                accept = WebSocketProtocol13.compute_accept_value(request.one("Sec-WebSocket-Key"))
                head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                await connection.write(f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
                await connection.until_closed()
                return
            await connection.write(Reply("<script>new WebSocket('/ws')</script>").wire())

    with jupyter_server(tmp_path, "--PortProxy.isolate=always") as server:
        url = server.url.replace("127.0.0.1", "localhost")
        async with serve(respond) as service, aiohttp.ClientSession() as session:
            status, report = await post(session, url, {"port": service.port}, Authorization=f"token {TOKEN}")
            paths = [request.target for request in service.requests]
    assert (status, report["status"], report["findings"]) == (200, 200, [])
    assert paths.count("/ws") == 2


async def test_behind_jupyterhub(tmp_path):
    """At the root is JupyterHub, which redirects nothing by its Referer."""
    with jupyterhub(tmp_path, "", "ada") as hub:
        async with serve(site(AT_ROOT)) as service, hub.browser("ada") as browser:
            xsrf = browser.cookies("/user/ada/")["_xsrf"]
            body = json.dumps({"port": service.port})
            fields = {"Content_Type": "application/json", "X_XSRFToken": xsrf}
            page = await browser.fetch("/user/ada/proxy/api/diagnose", "POST", body, **fields)
            token = hub.token("ada")
            arguments = ("--server", f"{hub.origin}/user/ada/", "check", str(service.port), "--page", "--json")
            by_token = await asyncio.to_thread(portproxy, tmp_path / "ada", *arguments, more={"JUPYTER_TOKEN": token})
    for code, report in ((page.status, page.json), (200, json.loads(by_token[1]))):
        assert (code, report["status"], report["problem"]) == (200, 200, None)
        finding = report["findings"][0]
        assert (finding["severity"], finding["evidence"]["line"]) == ("error", 1)
        assert "/static/a.js" in finding["sentence"]
    assert by_token[0] == 1
