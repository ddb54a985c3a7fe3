"""The REST API: who may call, what it answers, and what it says to bad input."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

import pytest
from jupyter_core.paths import jupyter_data_dir
from jupyter_server.auth import Authorizer

from jupyter_portproxy.services.port_rules import KEYS

from ..conftest import TOKEN
from ..support.identity_providers import NamedUsers, configured
from ..support.upstreams import free_port, mirror, never_answers, serve

SERVE = """
import http.server, sys
print("hello log", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
UNIX = """
import socketserver, sys, http.server
class Server(socketserver.UnixStreamServer):
    def get_request(self):
        return super().get_request()[0], ("unix", 0)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.headers["Upgrade"]:
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n\\r\\n")
            self.wfile.write(self.rfile.read(4))
        else:
            self.send_response(200); self.send_header("Content-Length", len(self.path)); self.end_headers()
            self.wfile.write(self.path.encode())
Server(sys.argv[1], Handler).serve_forever()
"""
WEB = {"command": [sys.executable, "-c", SERVE, "{port}"], "title": "A web server", "stop_timeout": 1}
SLOW = {"command": [sys.executable, "-c", "import time; print('not yet', flush=True); time.sleep(60)"], "stop_timeout": 1}
TALKS = {"command": [sys.executable, "-c", "for n in range(12): print('x' * 300 if n == 4 else n)\nimport time; time.sleep(60)"]}
SOCKET = {
    "command": [sys.executable, "-c", UNIX, "{unix_socket}"],
    "unix_socket": True,
    "keep_prefix": True,
    "ready": "/",
    "stop_timeout": 1,
}
HOST = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(" ".join(str(self.headers[name]) for name in ("Host", "Origin")).encode())
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
SEES = {"command": [sys.executable, "-c", HOST, "{port}"], "keep_host": True, "stop_timeout": 1}
ENDS = {"command": [sys.executable, "-c", f"{SERVE.replace('serve_forever', 'handle_request')}print('this is all')", "{port}"]}
LATE = {**WEB, "command": [sys.executable, "-c", f"import time; time.sleep(1)\n{SERVE}", "{port}"]}
FAILS = {"command": [sys.executable, "-c", "print('this is why'); raise SystemExit(3)"]}


@pytest.fixture
def jp_server_config():
    return {
        "ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True}},
        "IdentityProvider": {"token": TOKEN},
        "PortProxy": {
            "service_templates": {
                "web": WEB,
                "slow": SLOW,
                "talks": {**TALKS, "stop_timeout": 1},
                "fails": FAILS,
                "late": LATE,
                "ends": ENDS,
                "unix": SOCKET,
                "sees": SEES,
                "broken": {"comand": []},
            }
        },
    }


@pytest.fixture
def api(call):
    """Calls the API; returns (status, JSON)."""

    async def ask(method: str, path: str, body: object = None, **more):
        content = None if body is None else json.dumps(body).encode()
        answer = await call(f"proxy/api/{path}", method, content=content, **more)
        return answer.status, json.loads(answer.content) if answer.content else None

    return ask


async def until(api, name: str, state: str) -> dict:
    for _ in range(200):
        _, service = await api("GET", f"services/{name}")
        if service["state"] == state:
            return service
        await asyncio.sleep(0.05)
    raise AssertionError(service)


async def test_a_service_is_started_reached_logged_restarted_stopped_and_deleted(api, call, jp_base_url):
    status, service = await api("POST", "services", {"template": "web", "name": "mine"})
    assert (status, service["state"], service["url"]) == (201, "starting", f"{jp_base_url}proxy/service/mine/")
    page = await call("proxy/service/mine/")  # no page navigation: it is held until the service is up
    assert (page.status, "Directory listing" in page.text) == (200, True)
    up = await until(api, "mine", "up")
    listed = [item for item in (await api("GET", "ports"))[1] if item["port"] == up["port"]]
    assert (listed[0]["service"], listed[0]["allowed"], listed[0]["http"]) == ("mine", True, True)
    assert listed[0]["title"].startswith("Directory listing")
    assert (await call("proxy/api/services/mine/logs")).text.startswith("hello log\n")
    status, again = await api("POST", "services/mine/restart", {})
    assert (status, again["state"]) == (200, "starting")
    await until(api, "mine", "up")
    assert (await api("POST", "services/mine/stop", {}))[1]["state"] == "down"
    assert (await call("proxy/service/mine/")).status == 502
    assert (await api("DELETE", "services/mine"))[0] == 204
    assert (await api("GET", "services"))[1] == []
    assert (await call("proxy/service/mine/")).status == 404


class RunsOnly(Authorizer):
    """May run services, and not read about them."""

    def is_authorized(self, handler, user, action, resource):
        return action == "execute"


@pytest.mark.parametrize(
    "jp_server_config", [{**configured(authorizer_class=RunsOnly), "PortProxy": {"service_templates": {"fails": FAILS}}}]
)
async def test_who_may_not_read_logs_gets_no_output_with_a_service(api, gateway, jp_server_config):
    assert (await api("POST", "services", {"template": "fails"}))[0] == 201
    for _ in range(200):
        if gateway.services.get("fails").state == "failed":
            break
        await asyncio.sleep(0.05)
    assert "this is why" in gateway.services.get("fails").error
    status, item = await api("POST", "services/fails/stop", {})
    assert (status, item["last_lines"], item["error"]) == (200, [], "It ended with exit code 3.")


async def test_a_service_on_a_unix_socket_is_reached_by_http_and_websocket(api, call, wire, origin, jp_base_url):
    await api("POST", "services", {"template": "unix"})
    await until(api, "unix", "up")
    for path in ("/a", "/b?c=%2F", "?c", ""):
        assert (await call(f"proxy/service/unix{path}")).text == f"{jp_base_url}proxy/service/unix{path}"  # it keeps its prefix
    async with await wire() as connection:
        lines = [f"GET {jp_base_url}proxy/service/unix/ws HTTP/1.1", f"Host: {origin}", f"Authorization: token {TOKEN}"]
        upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA=="]
        await connection.send("\r\n".join([*lines, *upgrade, "", "ping"]).encode())
        assert (await connection.head()).status == 101
        assert await asyncio.wait_for(connection.reader.readexactly(4), 5) == b"ping"


async def test_a_service_that_makes_absolute_urls_sees_the_browsers_host(api, call, origin, gateway):
    await api("POST", "services", {"template": "sees"})
    service = await until(api, "sees", "up")
    fields = [f"Origin: http://{origin}"]
    assert (await call("proxy/service/sees/", fields=fields)).text == f"{origin} http://{origin}"
    upstream = f"localhost:{gateway.services.get('sees').endpoint.port}"
    assert (await call(f"proxy/port/{service['port']}/", fields=fields)).text == f"{upstream} http://{upstream}"


async def test_a_service_is_also_reached_by_its_bare_name(api, call, jp_base_url):
    await api("POST", "services", {"template": "web"})
    answer = await call("web/a?b")
    assert (answer.status, answer.one("Location")) == (307, f"{jp_base_url}proxy/service/web/a?b")
    assert (await call("web?b")).one("Location") == f"{jp_base_url}web/?b"
    assert (await call("slow/x")).status == 404
    await api("POST", "services", {"template": "web", "name": "api"})
    assert (await call("api/status")).status == 200  # Jupyter's own names stay Jupyter's


async def test_a_starting_service_shows_its_last_lines_in_short(api):
    await api("POST", "services", {"template": "talks"})
    for _ in range(100):
        _, service = await api("GET", "services/talks")
        if service["last_lines"][-1:] == ["11"]:
            break
        await asyncio.sleep(0.05)
    assert service["state"] == "starting"
    assert service["last_lines"] == ["x" * 200, *(str(number) for number in range(5, 12))]


async def test_what_no_parser_takes_is_refused(api, call):
    for content in (b"[" * 100_000, b"\xff\xfe", b"{"):
        answer = await call("proxy/api/services", method="POST", content=content)
        assert (answer.status, json.loads(answer.text)["message"]) == (400, "The request's content is not JSON.")


async def test_what_ended_by_itself_shows_its_last_lines(api):
    await api("POST", "services", {"template": "ends"})
    service = await until(api, "ends", "down")
    assert (service["exit_code"], service["error"]) == (0, "It ended with exit code 0.")
    assert service["last_lines"][-1] == "this is all"


async def test_a_failed_service_shows_its_last_lines(api, call):
    await api("POST", "services", {"template": "fails"})
    service = await until(api, "fails", "failed")
    assert (service["exit_code"], service["last_lines"]) == (3, ["this is why"])
    page = await call("proxy/service/fails/", fields=["Accept: application/json"])
    assert (page.status, json.loads(page.text)["code"], json.loads(page.text)["details"]) == (
        502,
        "service_failed",
        ["this is why"],
    )


async def test_templates_are_listed_and_broken_ones_left_out(api):
    _, templates = await api("GET", "templates")
    by_name = {template["name"]: template for template in templates}
    assert by_name["web"]["title"] == "A web server"
    assert by_name["http-server"]["arguments"][0] == {
        "name": "folder", "label": "Folder", "default": ".", "kind": "path", "choices": []
    }  # fmt: skip
    assert "broken" not in by_name


async def test_ports_say_what_they_are_and_why_they_cannot_be_reached(api, jp_serverapp, probe, monkeypatch):
    probed, page = [], probe.page  # the port itself may also be probed by the servers of other tests

    async def counted(port):
        probed.append(port)
        return await page(port)

    monkeypatch.setattr(probe, "page", counted)
    outside = free_port(range(21000, 29000))
    async with serve(mirror) as inside, serve(mirror, port=outside):
        _, ports = await api("GET", "ports")
        by_port = {item["port"]: item for item in ports}
        assert by_port[inside.port]["allowed"] and by_port[inside.port]["mine"]
        assert {request.target for request in inside.requests} == {"/"}
        assert by_port[outside]["reason"] == f"Port {outside} is outside allowed range (10000-20000)"
        assert (by_port[outside]["reason_code"], by_port[inside.port]["reason_code"]) == ("forbidden", "")
        assert jp_serverapp.port not in by_port
        await asyncio.sleep(1.1)
        await api("GET", "ports")
        assert probed.count(inside.port) == 1 and outside not in probed
        await api("GET", f"ports?look={inside.port}")
        assert probed.count(inside.port) == 2


async def test_a_port_outside_is_allowed_listed_and_taken_back(api, call):
    port = free_port(range(21000, 29000))
    async with serve(mirror, port=port):
        assert (await call(f"proxy/port/{port}/")).status == 403
        _, ports = await api("GET", f"ports?look={port}")
        row = next(item for item in ports if item["port"] == port)
        assert (row["allowed"], row["may_allow"], row["allowed_by_user"]) == (False, True, False)
        assert await api("PUT", "allowed-ports", {"port": port}) == (200, {"port": port, "until": None})
        assert await api("GET", "allowed-ports") == (200, [{"port": port, "until": None}])
        for _ in range(3):
            assert (await call(f"proxy/port/{port}/")).status == 200
        _, ports = await api("GET", f"ports?look={port}")
        row = next(item for item in ports if item["port"] == port)
        assert (row["allowed"], row["may_allow"], row["allowed_by_user"], row["http"]) == (True, False, True, True)
        assert (await api("DELETE", f"allowed-ports/{port}"))[0] == 204
        assert (await call(f"proxy/port/{port}/")).status == 403
        assert (await api("DELETE", f"allowed-ports/{port}"))[0] == 404
        status, allowed = await api("PUT", "allowed-ports", {"port": port, "seconds": 0.4})
        assert status == 200 and allowed["until"] and (await call(f"proxy/port/{port}/")).status == 200
        await asyncio.sleep(0.5)
        assert (await call(f"proxy/port/{port}/")).status == 403
        assert await api("GET", "allowed-ports") == (200, [])


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"port": 22}, 403, "You may not allow port 22."),
        ({"port": 15000}, 400, "Port 15000 is allowed by the server's configuration already."),
        ({"port": 70000}, 400, "'port' is not a port."),
        ({"port": 0}, 400, "'port' is not a port."),
        ({"port": "5000"}, 400, "'port' is not a port."),
        ({"port": True}, 400, "'port' is not a port."),
        ({}, 400, "'port' is not a port."),
        ({"port": 5000, "seconds": -1}, 400, "Invalid time: -1."),
        ({"port": 5000, "seconds": "8h"}, 400, "Invalid time: '8h'."),
        ({"port": 5000, "hours": 1}, 400, "The request's content is not an object with keys among port, seconds."),
    ],
)
async def test_a_port_that_may_not_be_allowed_is_refused(api, body, status, text):
    got, answer = await api("PUT", "allowed-ports", body)
    assert (got, answer["message"]) == (status, text)
    assert await api("GET", "allowed-ports") == (200, [])


@pytest.mark.parametrize("path", ["0", "65536", "x", "%00", "٨٠"])
async def test_what_is_no_port_cannot_be_taken_back(api, path):
    status, answer = await api("DELETE", f"allowed-ports/{quote(path, safe='%')}")
    assert (status, answer["message"].partition(":")[0]) == (400, "Invalid port parameter")


async def test_a_rule_for_a_port_is_made_listed_replaced_and_removed(api):
    values = {
        "ports": "8501",
        "label": "<b>🙂</b>",
        "on_appear": "open_once",
        "scheme": "https",
        "keep_host": False,
        "pinned": True,
    }
    status, rule = await api("PUT", "port-rules", values)
    assert (status, rule) == (200, {**values, "id": rule["id"], "process": None, "activity": None})
    pattern = await api("PUT", "port-rules", {"process": "streamlit"})
    assert await api("GET", "port-rules") == (200, [rule, pattern[1]])
    assert await api("PUT", "port-rules", {"ports": "8501", "label": None}) == (
        *(200, {**rule, "label": "", "on_appear": None, "scheme": None, "keep_host": None, "pinned": False}),
    )
    changed = {**rule, "label": "new", "on_appear": None, "scheme": "tcp", "keep_host": None, "pinned": False}
    assert await api("PATCH", "port-rules", {"ports": "8501", "label": "new", "scheme": "tcp"}) == (200, changed)
    assert await api("PATCH", "port-rules", {"ports": "8501", "pinned": True}) == (200, {**changed, "pinned": True})
    assert (await api("DELETE", f"port-rules/{rule['id']}"))[0] == 204
    assert await api("GET", "port-rules") == (200, [pattern[1]])
    status, answer = await api("DELETE", f"port-rules/{rule['id']}")
    assert (status, answer["message"]) == (404, f"There is no port rule named '{rule['id']}'.")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"ports": "0"}, "Invalid ports: '0'."),
        ({"ports": "70000"}, "Invalid ports: '70000'."),
        ({"ports": "9000-8000"}, "Invalid ports: '9000-8000'."),
        ({"ports": "80", "process": "x"}, "A rule has either 'ports' or 'process'."),
        ({"process": "["}, "The pattern '[' is not a regular expression: unterminated character set at position 0."),
        ({"process": "x", "scheme": "tcp"}, "A rule for processes has no 'scheme', no 'keep_host' and no 'activity'."),
        ({"ports": "80", "label": "<i>🙂</i>🙂🙂" * 30}, "The label has 300 characters."),
        ({"ports": "80", "id": "x"}, f"The request's content is not an object with keys among {', '.join(KEYS)}."),
        ([], f"The request's content is not an object with keys among {', '.join(KEYS)}."),
    ],
)
async def test_an_invalid_rule_is_refused_in_one_sentence(api, body, text):
    for method in ("PUT", "PATCH"):
        status, answer = await api(method, "port-rules", body)
        assert (status, answer["message"], answer["code"]) == (400, text, "bad_input") and answer["hint"]
    assert await api("GET", "port-rules") == (200, [])


@pytest.mark.skipif(sys.platform == "win32", reason="there is no lock")
async def test_changes_that_take_long_do_not_stop_the_server(api):
    """Another program keeps the lock; and patterns that take long to compile."""
    import fcntl

    assert (await api("PUT", "port-rules", {"ports": "80"}))[0] == 200
    folder, pauses = Path(jupyter_data_dir(), "portproxy"), []

    async def watch() -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            pauses.append(time.monotonic() - begun)

    watching = asyncio.ensure_future(watch())
    with (folder / "port-rules.lock").open() as rules, (folder / "allowed-ports.lock").open("w") as ports:
        fcntl.flock(rules, fcntl.LOCK_EX)
        fcntl.flock(ports, fcntl.LOCK_EX)
        changes = [("port-rules", {"ports": "81"}), ("allowed-ports", {"port": 5000})] * 4
        refused = await asyncio.gather(*(api("PUT", path, body) for path, body in changes))
    assert {status for status, _ in refused} == {400} and "Another program changes" in refused[0][1]["message"]
    slow = [{"process": "(?i)" + "[!-\uffff]" * 38 + str(number)} for number in range(4)]
    assert {status for status, _ in await asyncio.gather(*(api("PUT", "port-rules", body) for body in slow))} == {200}
    watching.cancel()
    assert max(pauses) < 0.5


async def test_rules_follow_the_permissions_of_jupyter(api, call):
    assert (await api("GET", "port-rules", token=None))[0] in (302, 403)
    first = await call("lab")
    cookies = "; ".join(value.split(";")[0] for value in first.all("Set-Cookie"))
    with_cookie = {"token": None, "fields": [f"Cookie: {cookies}"]}
    assert (await api("GET", "port-rules", **with_cookie))[0] == 200
    for method, path in (("PUT", "port-rules"), ("PATCH", "port-rules"), ("DELETE", "port-rules/x")):
        assert (await api(method, path, None if method == "DELETE" else {"ports": "8501"}, **with_cookie))[0] == 403


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=NamedUsers)])
async def test_a_server_of_several_users_keeps_no_rules(api, jp_server_config):
    for method, path, body in (
        ("GET", "port-rules", None),
        ("PUT", "port-rules", {"ports": "80"}),
        ("PATCH", "port-rules", {"ports": "80"}),
        ("DELETE", "port-rules/x", None),
    ):
        status, answer = await api(method, path, body, token="user-ann")
        assert (status, answer["message"]) == (403, "This server keeps no rules for ports, as several people may use it.")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "services/none", None, 404, "not_found"),
        ("DELETE", "services/none", None, 404, "not_found"),
        ("POST", "services/none/restart", {}, 404, "not_found"),
        ("POST", "services", {"template": "none"}, 404, "not_found"),
        ("POST", "services", {}, 400, "bad_input"),
        ("POST", "services", {"template": 1}, 400, "bad_input"),
        ("POST", "services", {"template": "web", "x": 1}, 400, "bad_input"),
        ("POST", "services", {"template": "web", "name": "a/b"}, 400, "bad_input"),
        ("POST", "services", {"template": "web", "name": ["a"]}, 400, "bad_input"),
        ("POST", "services", {"template": "web", "arguments": []}, 400, "bad_input"),
        ("POST", "services", {"template": "web", "arguments": 0}, 400, "bad_input"),
        ("POST", "services", {"template": "web", "arguments": ""}, 400, "bad_input"),
        ("POST", "services", {"template": "web", "arguments": False}, 400, "bad_input"),
        ("POST", "services", {"template": "web", "arguments": None}, 201, None),
        ("POST", "services", {"template": "web", "arguments": {"a": 1}}, 400, "bad_input"),
        ("POST", "services", [], 400, "bad_input"),
        ("POST", "reservations", {}, 400, "bad_input"),
        ("POST", "reservations", {"name": ["a"]}, 400, "bad_input"),
        ("POST", "reservations", {"name": {}}, 400, "bad_input"),
        ("GET", "services/%2e%2e", None, 404, "not_found"),
        ("GET", "services/a%00b", None, 404, "not_found"),
        ("DELETE", "services/" + "x" * 3000, None, 404, "not_found"),
        ("POST", "services", {"template": "web", "arguments": {"a": {"b": [1]}}}, 400, "bad_input"),
        ("POST", "reservations", {"name": ".."}, 400, "bad_input"),
        ("POST", "reservations", {"name": "a", "seconds": 0}, 400, "bad_input"),
        ("POST", "reservations", {"name": "a", "seconds": "x"}, 400, "bad_input"),
        ("PUT", "services", {}, 405, "method_refused"),
        ("GET", "nothing", None, 404, "not_found"),
        ("GET", "ports?look=x", None, 400, "bad_input"),
    ],
)
async def test_bad_input_gets_a_status_and_a_code(api, method, path, body, status, code):
    got, answer = await api(method, path, body)
    assert (got, (answer or {}).get("code")) == (status, code)


async def test_readers_during_a_probe_get_the_page_too(api):
    async def slow(connection):
        await connection.request()
        await asyncio.sleep(0.5)
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    await asyncio.sleep(1.1)
    async with serve(slow) as up:
        first = asyncio.ensure_future(api("GET", "ports"))
        await asyncio.sleep(0.2)
        for _, ports in (await api("GET", "ports"), await first):
            assert [item["http"] for item in ports if item["port"] == up.port] == [True]


async def test_the_port_of_a_service_that_has_just_ended_is_no_strangers(api, call):
    """While ports are listed that are slow to answer, a service ends that was among them."""
    await api("POST", "services", {"template": "web", "name": "mine"})
    up = await until(api, "mine", "up")
    async with serve(never_answers):
        await asyncio.sleep(1.1)  # what was seen before is not fresh any more
        pending = asyncio.ensure_future(api("GET", "ports"))
        await asyncio.sleep(0.5)
        assert (await api("POST", "services/mine/stop", {}))[1]["state"] == "down"
        assert not pending.done()
        listed = {item["port"]: item["service"] for item in (await pending)[1]}
    assert listed.get(up["port"], "mine") == "mine"


async def test_a_reserved_port_is_found_by_its_name_and_ends_with_its_listener(api, call):
    status, reserved = await api("POST", "reservations", {"name": "script"})
    assert (status, reserved["used"]) == (201, False)
    assert (await call("proxy/service/script/")).status == 502
    async with serve(mirror, port=reserved["port"]) as up:
        assert json.loads((await call("proxy/service/script/a")).text)["target"] == "/a"
        assert up.last.one("X-Forwarded-Prefix").endswith("/proxy/service/script")
        assert (await api("GET", "reservations"))[1][0]["used"]
    assert (await api("GET", "reservations"))[1] == []
    await api("POST", "reservations", {"name": "script", "seconds": 60})
    assert (await api("POST", "reservations", {"name": "script"}))[1]["message"] == "The name 'script' is reserved already."
    assert (await api("DELETE", "reservations/script"))[0] == 204
    assert (await api("DELETE", "reservations/script"))[0] == 404


async def test_calls_need_a_login_and_writes_an_xsrf_token(api, call):
    assert (await api("GET", "services", token=None))[0] == 403
    first = await call(f"api/status?token={TOKEN}", token=None)
    cookies = "; ".join(value.split(";")[0] for value in first.all("Set-Cookie"))
    with_cookie = {"token": None, "fields": [f"Cookie: {cookies}"]}
    assert (await api("GET", "services", **with_cookie))[0] == 200
    assert (await api("POST", "services", {"template": "web"}, **with_cookie))[0] == 403


async def test_events_tell_what_there_is_and_what_changes(api, wire, origin, jp_base_url):
    async with await wire() as connection:
        head = f"GET {jp_base_url}proxy/api/events HTTP/1.1\r\nHost: {origin}\r\nAuthorization: token {TOKEN}\r\n\r\n"
        await connection.send(head.encode())
        assert (await connection.head()).one("Content-Type") == "text/event-stream"
        pieces = connection.chunks()
        name, data = (await asyncio.wait_for(anext(pieces), 5)).decode().strip().split("\n")
        assert name == "event: snapshot" and json.loads(data[6:])["services"] == []
        await api("POST", "services", {"template": "fails"})
        states = []
        while "failed" not in states:
            name, data = (await asyncio.wait_for(anext(pieces), 5)).decode().strip().split("\n")
            item = json.loads(data[6:])
            if item["kind"] == "service":
                states.append(item["state"])
        assert states == ["starting", "failed"]


async def test_the_status_of_a_start_shows_whether_it_ran_already(api):
    first, again, other = [await api("POST", "services", {"template": "web", "name": name}) for name in (None, None, "other")]
    assert [status for status, _ in (first, again, other)] == [201, 200, 201]
    assert [service["name"] for _, service in (first, again, other)] == ["web", "web", "other"]
    for name in ("web", "other"):
        await api("POST", f"services/{name}/stop", {})
    assert (await api("POST", "services", {"template": "web"}))[0] == 201


async def test_responses_about_a_restart_can_be_put_in_order(api, wire, origin, jp_base_url):
    """The answer and the events come by connections of their own; the panel took an old "down" for the end of the new start."""
    await api("POST", "services", {"template": "late"})
    async with await wire() as connection:
        head = f"GET {jp_base_url}proxy/api/events HTTP/1.1\r\nHost: {origin}\r\nAuthorization: token {TOKEN}\r\n\r\n"
        await connection.send(head.encode())
        await connection.head()
        pieces = connection.chunks()
        await asyncio.wait_for(anext(pieces), 5)
        status, answer = await api("POST", "services/late/restart", {})
        assert (status, answer["state"]) == (200, "starting")
        events = []
        while not events or events[-1]["state"] != "up" or events[-1]["since"] < answer["since"]:
            item = json.loads((await asyncio.wait_for(anext(pieces), 10)).decode().strip().split("\n")[1][6:])
            events += [item] if item["kind"] == "service" else []
    events = [next(same) for _, same in groupby(events, lambda item: item["since"])]  # new output changes no state
    states = [item["state"] for item in events if item["since"] > answer["since"]]
    assert states == ["up"]
    assert [item["state"] for item in events][-4:] == ["stopping", "down", "starting", "up"]
    times = [item["since"] for item in events]
    assert times == sorted(set(times)) and answer["since"] == times[-2]


async def test_event_streams_end_with_the_server(wire, origin, jp_base_url, jp_serverapp):
    async with await wire() as connection:
        head = f"GET {jp_base_url}proxy/api/events HTTP/1.1\r\nHost: {origin}\r\nAuthorization: token {TOKEN}\r\n\r\n"
        await connection.send(head.encode())
        await connection.head()
        pieces = connection.chunks()
        await asyncio.wait_for(anext(pieces), 5)
        await asyncio.sleep(0.1)
        await jp_serverapp.extension_manager.stop_all_extensions()
        assert await asyncio.wait_for(anext(pieces, None), 2) is None


async def test_a_log_is_followed_to_its_end(api, call):
    await api("POST", "services", {"template": "fails"})
    assert (await call("proxy/api/services/fails/logs?follow=1")).text == "this is why\n"
