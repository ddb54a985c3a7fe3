from __future__ import annotations

import asyncio
import json
import socket
import sys
from types import SimpleNamespace

import pytest
from tornado.httputil import HTTPHeaders

from jupyter_portproxy.diagnose.doctor import caller_fields, own_upstream
from jupyter_portproxy.gateway.page_failures import PageFailures

from ..support.upstreams import serve
from .conftest import Reply, site

WEB = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"<script src='/a.js'></script><!-- " + self.path.encode() + b" -->"
        self.send_response(200); self.send_header("Content-Type", "text/html"); self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
SERVICES = {
    "web": {"command": [sys.executable, "-c", WEB, "{port}"], "stop_timeout": 1},
    "keeps": {"command": [sys.executable, "-c", WEB, "{port}"], "keep_prefix": True, "stop_timeout": 1},
}
PAGES = {"/": "<script src=a.js></script>", "/a.js": Reply("1", "text/javascript")}


def request(*fields: tuple[str, str], **more) -> SimpleNamespace:
    headers = HTTPHeaders()
    for name, value in fields:
        headers.add(name, value)
    return SimpleNamespace(headers=headers, **more)


def test_the_callers_fields_are_those_that_say_who_it_is():
    fields = [
        ("Host", "h"), ("Cookie", "a=1"), ("Authorization", "token x"), ("Content-Type", "application/json"),
        ("Content-Length", "2"), ("X-XSRFToken", "x"), ("Accept", "*/*"), ("Sec-Fetch-Site", "same-origin"), ("Origin", "http://h"),
        ("Referer", "http://h/lab"), ("User-Agent", "curl"), ("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-User", "ann"),
        ("Connection", "keep-alive"), ("If-None-Match", "x"), ("Upgrade-Insecure-Requests", "1"),
    ]  # fmt: skip
    kept = [("Cookie", "a=1"), ("Authorization", "token x"), ("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-User", "ann")]
    assert caller_fields(request(*fields)) == kept


def test_a_token_of_the_url_becomes_a_field_unless_there_is_one():
    assert caller_fields(request(("Cookie", "a=1")), "t") == [("Cookie", "a=1"), ("Authorization", "token t")]
    assert caller_fields(request(("Authorization", "token x")), "t") == [("Authorization", "token x")]


def test_the_servers_own_address_is_that_of_the_connection(tmp_path):
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
        upstream = own_upstream(request(connection=SimpleNamespace(stream=SimpleNamespace(socket=accepted))))
        assert (upstream.addresses, upstream.port, upstream.scheme) == (("127.0.0.1",), listener.getsockname()[1], "http")
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)
        with server.accept()[0] as accepted:
            upstream = own_upstream(request(connection=SimpleNamespace(stream=SimpleNamespace(socket=accepted))))
    assert upstream.unix_socket == path


async def test_its_requests_do_not_count_as_a_browsers(call, origin, jp_base_url, gateway, monkeypatch):
    notices = []
    failures = PageFailures(notices.append, threshold=1, delay=0)
    monkeypatch.setattr(gateway, "page_failures", failures)
    missing = "".join(f"<script src={number}.js></script><script src=/root/{number}.js></script>" for number in range(4))
    async with serve(site({"/": missing})) as up:
        body = json.dumps({"port": up.port}).encode()
        for _ in range(2):
            response = await call("proxy/api/diagnose", "POST", ["Content-Type: application/json"], body)
            assert (response.status, json.loads(response.content)["status"]) == (200, 200)
            assert (notices, [page.failed for page in failures._pages.values()]) == ([], [])
        browser = ["Sec-Fetch-Site: same-origin", f"Referer: http://{origin}{jp_base_url}proxy/port/{up.port}/"]
        await call(f"proxy/port/{up.port}/", fields=["Sec-Fetch-Mode: navigate"])
        await call(f"proxy/port/{up.port}/0.js", fields=["Sec-Fetch-Mode: no-cors", *browser])
        await asyncio.sleep(0)
    failures.close()
    assert len(notices) == 1


@pytest.mark.parametrize("form", ["proxy/absolute/port/", "proxy/absolute/", "port/"])
async def test_a_page_at_its_own_prefix_is_looked_at_there(call, jp_base_url, form):
    pages: dict[str, Reply | str] = {"/other/": "<p>x"}
    async with serve(site(pages)) as up:
        mount = f"{jp_base_url}{form}{up.port}"
        pages[f"{mount}/"] = Reply(status="302 Found", fields=["Location: /login/"])
        pages[f"{mount}/good"] = f"<script src={mount}/a.js></script><a href={mount}/x>"
        pages[f"{mount}/a.js"] = Reply("1", "text/javascript")
        pages["/login/"] = "<p>login"

        async def look(path: str) -> tuple[str, list[str]]:
            body = json.dumps({"port": up.port, "path": path}).encode()
            response = await call("proxy/api/diagnose", "POST", ["Content-Type: application/json"], body)
            report = json.loads(response.content)
            return report["url"], [finding["rule"] for finding in report["findings"]]

        assert await look(f"{mount}/good") == (f"{mount}/good", [])
        assert await look(f"{mount}/") == (f"{mount}/", ["redirect-outside-prefix"])
        assert await look("/other/") == (f"{jp_base_url}proxy/port/{up.port}/other/", [])
        other = f"{jp_base_url}{form}{up.port - 1}/"
        assert (await look(other))[0] == f"{jp_base_url}proxy/port/{up.port}{other}"


class TestServices:
    @pytest.fixture
    def jp_server_config(self, jp_server_config):
        return {**jp_server_config, "PortProxy": {"service_templates": SERVICES}}

    @pytest.mark.parametrize("name", ["web", "keeps"])
    async def test_a_service_is_looked_at_below_its_prefix(self, call, jp_base_url, name):
        fields = ["Content-Type: application/json"]
        await call("proxy/api/services", "POST", fields, json.dumps({"template": name}).encode())
        response = await call("proxy/api/diagnose", "POST", fields, json.dumps({"service": name, "path": "/?q=1"}).encode())
        report = json.loads(response.content)
        assert (response.status, report["target"], report["status"]) == (200, name, 200)
        assert report["url"] == f"{jp_base_url}proxy/service/{name}/?q=1"
        assert report["problem"] is None

    async def test_a_stopped_service_is_not_started(self, call):
        fields = ["Content-Type: application/json"]
        await call("proxy/api/services", "POST", fields, json.dumps({"template": "web"}).encode())
        await call("proxy/api/services/web/stop", "POST", fields, b"")
        response = await call("proxy/api/diagnose", "POST", fields, json.dumps({"service": "web"}).encode())
        assert (response.status, json.loads(response.content)["message"]) == (400, "The service web does not run.")
