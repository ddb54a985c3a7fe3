"""`GET proxy/api/ready`: ports and services that can be used, that cannot yet, and that never will."""

from __future__ import annotations

import json
import ssl
import sys

import pytest
import trustme

from ..support.upstreams import answers, free_port, never_answers, serve
from ..support.waiting import eventually

SERVE = """
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == sys.argv[2] else 503)
        self.end_headers()

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
FAILS = "import sys; sys.exit('no such table')"
TEMPLATES = {
    "web": {"command": [sys.executable, "-c", SERVE, "{port}", "/health"], "stop_timeout": 1},
    "below": {"command": [sys.executable, "-c", SERVE, "{port}", "{prefix}/health"], "stop_timeout": 1, "keep_prefix": True},
    "fails": {"command": [sys.executable, "-c", FAILS]},
    "again": {"command": [sys.executable, "-c", FAILS], "restart": "on-failure"},
    "slow": {"command": [sys.executable, "-c", "import time; time.sleep(60)"], "stop_timeout": 1},
    "database": {"command": [sys.executable, "-c", SERVE, "{port}"], "protocol": "tcp", "stop_timeout": 1},
}
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")


@pytest.fixture
def jp_server_config(jp_server_config):
    return {**jp_server_config, "PortProxy": {"service_templates": TEMPLATES}}


@pytest.fixture
def look(call):
    async def ready(query: str) -> tuple[int, dict]:
        answer = await call(f"proxy/api/ready?{query}")
        return answer.status, json.loads(answer.content)

    return ready


@pytest.fixture
def start(call, extension):
    async def started(name: str, state: str):
        await call("proxy/api/services", "POST", content=json.dumps({"template": name}).encode())
        service = extension.services.get(name)
        await eventually(lambda: service.state == state)
        return service

    return started


READY = (200, {"ready": True, "reason": "", "ended": False})


def not_yet(reason: str) -> tuple[int, dict]:
    return 200, {"ready": False, "reason": reason, "ended": False}


async def test_a_port_is_ready_when_it_accepts_connections(look):
    async with serve(never_answers) as upstream:
        assert await look(f"port={upstream.port}") == READY
    port = free_port()
    assert await look(f"port={port}") == not_yet(f"Failed to connect to service on port {port}.")


async def test_with_a_path_a_port_is_ready_when_it_answers_below_400(look):
    async with serve(answers(b"fine")) as upstream:
        assert await look(f"port={upstream.port}&path=/health") == READY
        assert upstream.last.target == "/health"
    async with serve(answers(b"", status=b"503 Busy")) as upstream:
        assert await look(f"port={upstream.port}&path=/health") == not_yet(
            f"Port {upstream.port} answers /health with status 503."
        )
    async with serve(never_answers) as upstream:
        assert await look(f"port={upstream.port}&path=/health") == not_yet(f"Port {upstream.port} does not answer in time.")


async def test_what_no_waiting_changes_is_an_error(look, call):
    status, error = await look("port=80")
    assert (status, error["code"]) == (403, "forbidden")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(tls)
    async with serve(answers(b"fine"), tls=tls) as upstream:
        rule = json.dumps({"ports": str(upstream.port), "scheme": "https"}).encode()
        assert (await call("proxy/api/port-rules", "PUT", content=rule)).status == 200
        status, error = await look(f"port={upstream.port}&path=/")
    assert (status, error["code"]) == (502, "distrusted")


@pytest.mark.parametrize("name", ["web", "below"])
async def test_a_service_is_ready_when_it_is_up_or_answers(look, start, name):
    assert await look(f"service={name}") == not_yet(f"There is no service named '{name}'.")
    await start(name, "up")
    assert await look(f"service={name}") == await look(f"service={name}&path=/health") == READY
    assert await look(f"service={name}&path=/") == not_yet(f"The service '{name}' answers / with status 503.")


async def test_a_service_that_is_starting_says_so(look, start):
    await start("slow", "starting")
    assert await look("service=slow") == not_yet("The service 'slow' is starting.")


async def test_only_a_service_that_is_not_started_again_has_ended(look, start):
    await start("fails", "failed")
    status, answer = await look("service=fails")
    assert (status, answer["ready"], answer["ended"]) == (200, False, True)
    assert answer["reason"].startswith("The service 'fails' is failed. It ended with exit code 1 before it was ready.")
    await start("again", "failed")
    assert (await look("service=again"))[1]["ended"] is False


async def test_a_path_of_a_service_without_http_is_refused(look, start):
    await start("database", "up")
    assert await look("service=database") == READY
    status, error = await look("service=database&path=/health")
    assert (status, error["message"]) == (400, "The service 'database' speaks no HTTP, so that no path of it can be looked at.")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "bad_input"),
        ("port=8050&service=web", "bad_input"),
        ("port=0", "bad_route"),
        ("port=%D9%A8", "bad_route"),
        ("service=..", "bad_input"),
        ("service=web&path=health", "bad_input"),
        ("service=web&path=/a%0d%0ab", "bad_input"),
        ("service=web&path=/a%23b", "bad_input"),
        ("service=web&path=//%20", "bad_input"),
    ],
)
async def test_bad_input_is_one_sentence(look, query, code):
    status, error = await look(query)
    assert (status, error["code"]) == (400, code) and error["message"]


async def test_a_login_is_needed(call):
    assert (await call("proxy/api/ready?port=8050", token=None)).status == 403
