"""What a browser sees of a service that is starting or has failed, with real slow programs; what other clients get meanwhile."""

from __future__ import annotations

import json
import sys
import time
from base64 import b64encode
from hashlib import sha256

import pytest
from jupyter_server.auth.authorizer import Authorizer

from jupyter_portproxy.handlers.start_page import START_FIELD

from ..conftest import TOKEN
from ..support.identity_providers import configured
from ..support.upstreams import free_port
from ..support.waiting import eventually

SLOW = """
import http.server, sys, time
print("\\033[1mloading <b>model</b>\\033[0m", flush=True)
time.sleep(float(sys.argv[2]))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200); self.end_headers(); self.wfile.write((self.command + " " + self.path).encode())
    do_POST = do_HEAD = do_GET
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
FAILS = "print('reads weights', flush=True); raise RuntimeError('no <b>memory</b>')"


def slow(seconds: float, **more) -> dict:
    return {"command": [sys.executable, "-c", SLOW, "{port}", str(seconds)], "stop_timeout": 1, "start_on_open": True, **more}


TEMPLATES = {
    "slow": slow(3, title="A <slow> one"),
    "fails": {"command": [sys.executable, "-c", FAILS], "start_on_open": True},
    "ends": {"command": [sys.executable, "-c", FAILS]},
}
CONFIG = {**configured(), "PortProxy": {"service_templates": TEMPLATES}}
BROWSER = ["Accept: text/html,*/*;q=0.8", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: none"]
OLD_BROWSER = ["Accept: text/html,*/*;q=0.8"]
REPORT = [f"{START_FIELD}: report", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
AGAIN = [f"{START_FIELD}: again", *REPORT[1:]]


@pytest.fixture
def jp_server_config():
    return CONFIG


@pytest.fixture
def report(call):
    async def get(name: str, fields=REPORT, method="GET", **more) -> dict:
        answer = await call(f"proxy/service/{name}/", method, fields, content=b"" if method == "POST" else None, **more)
        assert (answer.status, answer.one(START_FIELD), answer.one("Cache-Control")) == (200, "report", "no-store")
        return json.loads(answer.text)

    return get


@pytest.fixture
def until_state(report, gateway):
    async def wait(name: str, state: str) -> dict:
        service = gateway.services.get(name)
        await eventually(lambda: service.state == state and (state == "up" or service.task.done()), 15)
        return await report(name)

    return wait


@pytest.mark.parametrize("fields", [BROWSER, OLD_BROWSER], ids=["browser", "without Fetch Metadata"])
async def test_a_browser_sees_the_steps_at_once_and_then_the_page_itself(call, until_state, fields, jp_base_url):
    await call("proxy/api/ports")  # the first request of a server costs more
    begin = time.monotonic()
    page = await call("proxy/service/slow/a?b=%2F", fields=fields)
    assert time.monotonic() - begin < 0.2
    assert (page.status, page.one("Retry-After"), page.one("Cache-Control")) == (503, "1", "no-store")
    assert "A &lt;slow&gt; one is starting" in page.text and "<slow>" not in page.text
    assert "Starting the program" in page.text and "Waiting for " in page.text and "since the start" in page.text
    assert f'href="{jp_base_url}proxy/api/services/slow/logs?follow=1"' in page.text
    assert f'href="{jp_base_url}proxy/"' in page.text
    await until_state("slow", "up")
    assert (await call("proxy/service/slow/a?b=%2F", fields=fields)).text == "GET /a?b=%2F"


async def test_a_report_has_the_step_the_time_and_the_output_as_text(call, report, gateway):
    await call("proxy/service/slow/", fields=BROWSER)
    await eventually(lambda: gateway.services.get("slow").log.written)
    first = await report("slow")
    port = gateway.services.get("slow").endpoint.port
    assert (first["state"], first["step"], first["address"], first["is_over"]) == ("starting", 1, f"port {port}", False)
    assert first["lines"] == ["loading <b>model</b>"] and 0 <= first["seconds"] < 3
    page = await call("proxy/service/slow/", fields=BROWSER)
    assert "loading &lt;b&gt;model&lt;/b&gt;</pre>" in page.text and "<b>model" not in page.text


async def test_the_log_has_errors_but_not_each_load_of_a_start_page(call, caplog):
    assert [(await call("proxy/service/slow/waits", fields=BROWSER)).status for _ in range(3)] == [503] * 3
    assert (await call(f"proxy/port/{free_port()}/is-away", fields=BROWSER)).status == 502
    lines = [record.getMessage() for record in caplog.records]
    assert any("/is-away" in line for line in lines)
    assert not [line for line in lines if "/waits" in line]


@pytest.mark.parametrize(
    ("method", "fields"),
    [("GET", ["Accept: */*"]), ("GET", ["Accept: application/json"]), ("POST", BROWSER), ("GET", ["Sec-Fetch-Mode: cors"])],
    ids=["curl", "JSON", "a form", "fetch"],
)
async def test_every_other_request_waits_for_the_service(call, method, fields):
    begin = time.monotonic()
    answer = await call("proxy/service/slow/x", method, fields, content=b"field=1" if method == "POST" else None)
    assert (answer.status, answer.text) == (200, f"{method} /x")
    assert time.monotonic() - begin > 2.5


async def test_a_report_starts_nothing_and_never_reaches_the_service(call, report, gateway):
    assert (await call("proxy/service/slow/", fields=REPORT)).status == 404
    assert not gateway.services.list()
    await call("proxy/service/slow/")
    assert (await report("slow"))["state"] == "up"


async def test_a_failure_is_shown_with_its_reason_and_starts_again_by_a_post_alone(call, report, until_state, gateway):
    page = await call("proxy/service/fails/", fields=BROWSER)
    assert page.status == 503
    failed = await until_state("fails", "failed")
    assert failed["message"] == "It ended with exit code 1 before it was ready. Its output: RuntimeError: no <b>memory</b>"
    assert failed["lines"][0] == "reads weights" and failed["lines"][-1] == "RuntimeError: no <b>memory</b>" and failed["is_over"]
    assert gateway.services.starts["fails"] == 1
    assert (await report("fails", AGAIN))["state"] == "failed"  # a GET
    again = await report("fails", AGAIN, "POST")
    assert (again["state"], again["lines"], again["is_over"]) == ("starting", [], False)
    await until_state("fails", "failed")
    for _ in range(3):
        await report("fails", AGAIN, "POST")
        await until_state("fails", "failed")
    last = await report("fails", AGAIN, "POST")
    assert (last["message"], last["is_over"]) == ("It was started 5 times within a minute. Try again later.", True)


async def test_a_service_that_does_not_start_by_itself_is_started_again_from_its_page(call, report, until_state, gateway):
    await call("proxy/api/services", "POST", content=b'{"template": "ends"}')
    await until_state("ends", "failed")
    page = await call("proxy/service/ends/", fields=BROWSER)
    assert (page.status, page.all("Retry-After")) == (502, [])
    assert "ends has failed" in page.text and "exit code 1" in page.text and "no &lt;b&gt;memory&lt;/b&gt;" in page.text
    assert 'data-over="1"' in page.text
    assert (await report("ends", AGAIN, "POST"))["state"] == "starting"


async def test_a_page_of_another_site_starts_nothing(call, until_state, gateway):
    await call("proxy/service/fails/", fields=BROWSER)
    await until_state("fails", "failed")
    other = [AGAIN[0], "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: cross-site", "Origin: https://evil.example"]
    assert (await call("proxy/service/fails/", "POST", other, content=b"")).status == 403
    assert gateway.services.starts["fails"] == 1


async def test_the_page_is_no_page_of_the_service(call):
    page = await call("proxy/service/slow/", fields=BROWSER)
    policy = page.one("Content-Security-Policy")
    script = page.text.partition("<script>")[2].partition("</script>")[0]
    source = b64encode(sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{source}'; connect-src 'self'" in policy and policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'self'" in policy and "unsafe-inline" not in policy.partition("script-src")[2]
    assert (await call("proxy/service/slow/", "HEAD", BROWSER)).status == 503
    assert (await call("proxy/service/slow/", fields=BROWSER, token=None)).status == 302  # to the login
    assert (await call("proxy/service/slow/", fields=REPORT, token=None)).status == 403


class RunsOnly(Authorizer):
    """May reach services, and not read about them."""

    def is_authorized(self, handler, user, action, resource):
        return action == "execute"


@pytest.mark.parametrize("jp_server_config", [{**CONFIG, **configured(authorizer_class=RunsOnly)}])
async def test_who_may_not_read_logs_sees_no_output(call, until_state, gateway, jp_server_config):
    page = await call("proxy/service/fails/", fields=BROWSER)
    assert "fails is starting" in page.text and "/logs" not in page.text
    failed = await until_state("fails", "failed")
    assert (failed["message"], failed["lines"]) == ("It ended with exit code 1.", [])
    gateway.services.start("ends")
    await until_state("ends", "failed")
    for fields in (BROWSER, ["Accept: application/json"], []):
        answer = await call("proxy/service/ends/", fields=fields)
        assert answer.status == 502 and "exit code 1" in answer.text
        assert "memory" not in answer.text and "weights" not in answer.text


@pytest.mark.parametrize("jp_server_config", [{**configured(), "PortProxy": {"service_templates": {"slow": slow(1)}}}])
async def test_a_page_that_is_left_costs_no_slot(call, gateway, jp_server_config):
    for _ in range(5):
        assert (await call("proxy/service/slow/", fields=BROWSER)).status == 503
    assert gateway.limits.exchanges.in_all == 0
    assert TOKEN not in (await call(f"proxy/service/slow/?token={TOKEN}", fields=BROWSER, token=None)).text
