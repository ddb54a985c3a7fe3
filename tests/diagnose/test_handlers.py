"""`POST proxy/api/diagnose`: who may call it, what it answers, and how each bad input ends."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from pathlib import Path

import pytest
import trustme
import yaml
from jsonschema import Draft202012Validator
from jupyter_server.auth import Authorizer

from ..conftest import TOKEN
from ..support.identity_providers import configured
from ..support.upstreams import free_port, never_answers, serve
from ..support.waiting import eventually
from .conftest import Reply, site

API = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text())
SCHEMA = {"$ref": "#/components/schemas/Diagnosis", "components": API["components"]}


@pytest.fixture
def diagnose(call):
    """Calls the API; returns status and JSON."""

    async def send(port: int | None = None, token: str | None = TOKEN, **more) -> tuple[int, dict]:
        body = {**({"port": port} if port is not None else {}), **more}
        response = await call("proxy/api/diagnose", "POST", ["Content-Type: application/json"], json.dumps(body).encode(), token)
        return response.status, json.loads(response.content)

    return send


async def test_a_page_that_works_has_no_findings(diagnose, jp_base_url):
    pages = {"/": "<title>x</title><script src=a.js></script>", "/a.js": Reply("1", "text/javascript")}
    async with serve(site(pages)) as service:
        status, report = await diagnose(service.port)
    Draft202012Validator(SCHEMA).validate(report)
    assert status == 200
    assert report == {
        "target": str(service.port),
        "url": f"{jp_base_url}proxy/port/{service.port}/",
        "status": 200,
        "requests": 4,
        "problem": None,
        "findings": [],
        "notes": [],
    }


async def test_a_finding_has_its_evidence_and_remedies(diagnose, jp_base_url):
    page = "<meta name=referrer content=no-referrer>\n<script src='/app.js'></script>"
    async with serve(site({"/": page, "/app.js": Reply("1", "text/javascript")})) as service:
        _, report = await diagnose(service.port, path="/?x=1")
    Draft202012Validator(SCHEMA).validate(report)
    finding = report["findings"][0]
    assert (finding["severity"], finding["evidence"]["file"], finding["evidence"]["line"]) == ("error", "/?x=1", 2)
    assert "/app.js" in finding["evidence"]["excerpt"] and finding["remedies"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Neither 'port' nor 'service' names a page."),
        ({"port": 0}, "Neither 'port' nor 'service' names a page."),
        ({"port": True}, "Neither 'port' nor 'service' names a page."),
        ({"port": "15000"}, "Neither 'port' nor 'service' names a page."),
        ({"port": 15000, "service": "x"}, "Neither 'port' nor 'service' names a page."),
        ({"port": 15000, "path": "x"}, "Invalid path: 'x'."),
        ({"port": 15000, "path": "//h/x"}, "Invalid path: '//h/x'."),
        ({"port": 15000, "path": "/a b"}, "Invalid path: '/a b'."),
        ({"port": 15000, "path": "/a\n"}, r"Invalid path: '/a\n'."),
        ({"port": 15000, "path": 1}, "Invalid path: '1'."),
        ({"port": 15000, "url": "/"}, "The request's content is not an object with keys among port, service, path."),
    ],
)
async def test_bad_input(diagnose, body, message):
    status, error = await diagnose(**body)
    assert (status, error["code"], error["message"]) == (400, "bad_input", message)


async def test_who_may_not_reach_the_port_may_not_diagnose_it(diagnose):
    assert (await diagnose(15000, token=None))[0] == 403
    status, error = await diagnose(5)
    assert (status, error["code"]) == (403, "forbidden")
    status, error = await diagnose(service="no-such")
    assert (status, error["code"]) == (404, "not_found")


class ReadsOnly(Authorizer):
    def is_authorized(self, handler, user, action, resource):
        return action == "read"


class ExecutesOnly(Authorizer):
    def is_authorized(self, handler, user, action, resource):
        return action == "execute"


@pytest.mark.parametrize("jp_server_config", [configured(authorizer_class=kind) for kind in (ReadsOnly, ExecutesOnly)])
async def test_a_diagnosis_needs_both_permissions(diagnose, jp_server_config):
    async with serve(site({"/": "x"})) as service:
        assert (await diagnose(service.port))[0] == 403
        assert service.requests == []


async def test_one_at_a_time(diagnose):
    async with serve(never_answers) as service:
        looking = asyncio.ensure_future(diagnose(service.port))
        await eventually(lambda: service.connections)
        status, error = await diagnose(service.port)
        assert (status, error["code"]) == (429, "too_many")
        looking.cancel()


async def test_a_look_ends_with_its_caller(wire, origin, jp_base_url, diagnose):
    async with serve(never_answers) as service:
        async with await wire() as connection:
            body = json.dumps({"port": service.port}).encode()
            head = f"POST {jp_base_url}proxy/api/diagnose HTTP/1.1\r\nHost: {origin}\r\nAuthorization: token {TOKEN}\r\n"
            await connection.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await eventually(lambda: service.connections)
        started = time.monotonic()
        while (await diagnose(free_port(), path="bad"))[1]["code"] == "too_many":
            await asyncio.sleep(0.02)
            assert time.monotonic() - started < 5


async def hang(connection):
    await connection.request()
    await connection.until_closed()


async def speak_no_http(connection):
    await connection.head()
    await connection.write(b"220 mail.example ESMTP\r\n")


LOGIN = "<title>Log in</title><form action=login method=post><input type=password name=p></form>"


@pytest.mark.parametrize(
    ("service", "problem", "note"),
    [
        (hang, "port {port} accepts connections, and did not answer within 8 s.", ""),
        (speak_no_http, "port {port} does not answer in HTTP.", ""),
        (site({"/": LOGIN}), "", "The page is a login of the service itself: the pages behind it were not looked at."),
        (site({"/": Reply("{}", "application/json")}), "", "The first page is no HTML page, but application/json"),
        (site({"/": Reply("x", fields=["Content-Encoding: br"])}), "The content of port {port} is not in the coding", ""),
    ],
    ids=["hangs", "no-http", "login", "json", "coding"],
)
async def test_each_bad_service_ends_with_a_sentence(diagnose, service, problem, note):
    async with serve(service) as running:
        started = time.monotonic()
        status, report = await diagnose(running.port)
        assert time.monotonic() - started < 20
    assert status == 200
    Draft202012Validator(SCHEMA).validate(report)
    expected = problem.format(port=running.port)
    assert (report["problem"] or "").startswith(expected[:1].upper() + expected[1:])
    assert bool(report["problem"]) is bool(problem)
    assert any(each.startswith(note) for each in report["notes"]) if note else report["notes"] == []


@pytest.mark.parametrize(
    ("page", "word"),
    [(lambda request: Reply(status="302 Found", fields=[f"Location: {request.target}x"]), "redirects"), ({}, "404")],
    ids=["redirects", "404"],
)
async def test_what_the_service_answers_wrong_is_a_finding(diagnose, page, word):
    async with serve(site(page)) as running:
        status, report = await diagnose(running.port)
    assert (status, report["problem"], len(report["findings"])) == (200, None, 1)
    assert word in report["findings"][0]["sentence"]


@pytest.fixture
def certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    return context


class TestCertificates:
    @pytest.fixture
    def port(self):
        return free_port()

    @pytest.fixture
    def jp_server_config(self, jp_server_config, port):
        return {**jp_server_config, "PortProxy": {"https_ports": [port], "verify_loopback_certificates": True}}

    async def test_a_certificate_error_is_a_sentence(self, diagnose, port, certificate):
        async with serve(site({"/": "x"}), port=port, tls=certificate):
            status, report = await diagnose(port)
        assert (status, report["findings"]) == (200, [])
        assert report["problem"].startswith(f"The certificate of port {port} is not trusted")
