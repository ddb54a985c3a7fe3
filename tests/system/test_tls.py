"""Upstreams behind TLS: who is believed, and that all else is as it is without."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import os
import ssl
import sys

import pytest
import trustme
from traitlets import TraitError

from jupyter_portproxy.config import PortProxy
from jupyter_portproxy.protocol.urls import Upstream
from jupyter_portproxy.services.templates import load
from jupyter_portproxy.system.tls import Trust, check_bundle

from ..support import upstreams
from ..support.jupyter_processes import TOKEN
from ..support.raw_clients import frame
from ..support.upstreams import answers, free_port, mirror, serve
from ..support.waiting import eventually

UPGRADE = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]
DISTRUST = "The service's certificate could not be verified."
NO_TLS = "The service did not complete a TLS handshake."


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def bundle(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("certificates") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def jp_server_config(jp_server_config, bundle, request):
    settings = {"trusted_certificates": str(bundle), **getattr(request, "param", {})}
    return {**jp_server_config, "PortProxy": settings}


def context_for(certificate: trustme.LeafCert, highest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if highest is not None:
        context.maximum_version = highest
    return context


@pytest.fixture
def good(authority) -> ssl.SSLContext:
    return context_for(authority.issue_cert("localhost", "127.0.0.1"))


async def upgraded(wire, origin, path):
    connection = await wire()
    lines = [f"GET {path} HTTP/1.1", f"Host: {origin}", f"Authorization: token {TOKEN}", *UPGRADE, "", ""]
    await connection.send("\r\n".join(lines).encode())
    return connection, await connection.head()


async def upgrade_status(wire, origin, path):
    connection, head = await upgraded(wire, origin, path)
    connection.writer.close()
    return head.status


async def hangs_up(connection):
    await connection.reader.read(1)


async def speaks_no_tls(connection):
    await connection.reader.read(1)
    await connection.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


# ---- a service that proves who it is ----


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_verified_service_is_served(call, authority, version):
    async with serve(mirror, tls=context_for(authority.issue_cert("localhost"), version)) as up:
        answer = await call(f"proxy/https/{up.port}/a%2Fb?c=d", method="PUT", content=b"hello")
        assert (answer.status, up.last.target, up.last.content) == (200, "/a%2Fb?c=d", b"hello")
        assert up.last.one("Host") == f"localhost:{up.port}"
        assert up.last.one("X-Forwarded-Proto") == "http"  # as the client asked, not as the service is asked


@pytest.mark.parametrize("jp_server_config", [{"https_ports": ["10000-20000"]}], indirect=True)
async def test_a_port_that_is_said_to_speak_https_needs_no_word_in_the_url(call, good):
    async with serve(answers(b"hello"), tls=good) as up:
        assert (await call(f"proxy/port/{up.port}/")).content == b"hello"
        assert (await call(f"proxy/{up.port}/")).content == b"hello"


async def test_a_rule_of_the_user_makes_a_port_one_of_https(call, good, gateway, wire, origin, jp_base_url):
    """For its pages and its WebSockets, and from the next request on."""
    rules = gateway.policy.port_rules
    async with serve(upstreams.keeps_answering, tls=good) as up, serve(upstreams.echo_frames, tls=good) as socket:
        ws = f"{jp_base_url}proxy/port/{socket.port}/ws"
        for scheme, status, upgraded_status in (("https", 200, 101), ("http", 502, 502), ("tcp", 502, 502), (None, 502, 502)):
            for port in (up.port, socket.port):
                rules.put({"ports": str(port), "scheme": scheme})
            assert (await call(f"proxy/port/{up.port}/")).status == status
            assert await upgrade_status(wire, origin, ws) == upgraded_status
        assert (await call(f"proxy/https/{up.port}/")).status == 200  # the URL says it


@pytest.mark.parametrize("jp_server_config", [{"https_ports": ["10000-20000"]}], indirect=True)
async def test_a_rule_of_the_user_counts_before_the_configuration(call, gateway, good):
    async with serve(answers(b"hello"), tls=good) as up:
        assert (await call(f"proxy/port/{up.port}/")).status == 200
        gateway.policy.port_rules.put({"ports": str(up.port), "scheme": "http"})
        assert (await call(f"proxy/port/{up.port}/")).status == 502


async def test_a_service_with_an_address_of_its_own(call, good):
    async with serve(answers(b"hello"), tls=good) as up:
        assert (await call(f"proxy/https/127.0.0.1:{up.port}/")).content == b"hello"


async def test_connections_are_kept_and_verified_by_name(call, good, wire, origin, jp_base_url):
    async with serve(upstreams.keeps_answering, tls=good) as up, await wire() as connection:
        for _ in range(3):
            head = f"GET {jp_base_url}proxy/https/{up.port}/ HTTP/1.1\r\nHost: {origin}\r\nAuthorization: token {TOKEN}\r\n\r\n"
            await connection.send(head.encode())
            assert (await connection.answer()).status == 200
        assert up.connections == 1


async def test_what_points_at_the_service_is_mapped(call, good, origin, jp_base_url):
    port = free_port()
    head = f"Location: https://localhost:{port}/there\r\nContent-Location: http://localhost:{port}/other".encode()
    async with serve(answers(b"", head=head, status=b"302 Found"), port=port, tls=good) as up:
        fields = [f"Origin: http://{origin}", f"Referer: http://{origin}{jp_base_url}proxy/https/{port}/page"]
        answer = await call(f"proxy/https/{port}/", method="POST", fields=fields, content=b"")
        assert answer.one("Location") == f"{jp_base_url}proxy/https/{port}/there"
        assert answer.one("Content-Location") == f"http://localhost:{port}/other"  # another origin than the service's
        assert up.last.one("Origin") == f"https://localhost:{port}"
        assert up.last.one("Referer") == f"https://localhost:{port}/page"


async def test_much_passes_both_ways(call, good):
    content = os.urandom(8 << 20)
    async with serve(mirror_content, tls=good) as up:
        answer = await call(f"proxy/https/{up.port}/", method="POST", content=content)
        assert hashlib.sha256(answer.content).digest() == hashlib.sha256(content).digest()


async def mirror_content(connection):
    request = await connection.request()
    await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request.content) + request.content)


async def test_a_tunnel_runs_inside_tls(wire, origin, jp_base_url, good, gateway):
    async with serve(upstreams.echo_frames, tls=good) as up:
        connection, head = await upgraded(wire, origin, f"{jp_base_url}proxy/https/{up.port}/ws")
        assert head.status == 101
        sent = frame(1, b"hello") + frame(2, bytes(200000))
        await connection.send(sent)
        assert await asyncio.wait_for(connection.reader.readexactly(len(sent)), 5) == sent
        connection.writer.close()
        await eventually(lambda: gateway.tunnels == 0)


SECURE = """
import http.server, ssl, sys
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


async def test_a_template_says_that_its_service_speaks_https(call, authority, tmp_path, gateway):
    certificate = tmp_path / "own.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    command = [sys.executable, "-c", SECURE, "{port}", str(certificate)]
    gateway.services.templates["secure"] = load("secure", {"command": command, "protocol": "https", "ready": "/"})
    started = await call("proxy/api/services", method="POST", content=b'{"template": "secure"}')
    assert started.status == 201
    assert (await call("proxy/service/secure/")).status == 200  # it waits until the service is up


# ---- one that does not ----


def expired(authority: trustme.CA) -> trustme.LeafCert:
    yesterday = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    return authority.issue_cert("localhost", not_after=yesterday)


WRONG = {
    "signed by an unknown authority": lambda authority: trustme.CA().issue_cert("localhost"),
    "another name": lambda authority: authority.issue_cert("example.org"),
    "expired": expired,
}


@pytest.mark.parametrize("certificate", WRONG.values(), ids=WRONG.keys())
async def test_a_certificate_that_proves_nothing_is_a_502(call, wire, origin, jp_base_url, authority, certificate):
    async with serve(answers(b"secret"), tls=context_for(certificate(authority))) as up:
        path = f"proxy/https/{up.port}/"
        answer = await call(path, method="POST", content=b"password")
        assert (answer.status, answer.text.splitlines()[0]) == (502, DISTRUST)
        assert await upgrade_status(wire, origin, jp_base_url + path) == 502
        assert not up.requests


async def test_a_service_without_tls_is_said_to_be_one(call, wire, origin, jp_base_url):
    async with serve(speaks_no_tls) as up:
        path = f"proxy/https/{up.port}/"
        answer = await call(path)
        assert (answer.status, answer.text.splitlines()[0]) == (502, NO_TLS)
        assert await upgrade_status(wire, origin, jp_base_url + path) == 502


async def test_an_https_service_requested_as_http_is_a_502(call, good):
    async with serve(answers(b"hello"), tls=good) as up:
        assert (await call(f"proxy/port/{up.port}/")).status == 502


async def test_a_handshake_that_is_cut_is_a_502(call, wire, origin, jp_base_url, gateway):
    async with serve(hangs_up) as up:
        path = f"proxy/https/{up.port}/"
        assert (await call(path)).text.splitlines()[0] == NO_TLS
        assert await upgrade_status(wire, origin, jp_base_url + path) == 502
        assert (gateway.exchanges, gateway.tunnels) == (0, 0)


@pytest.mark.parametrize("jp_server_config", [{"connect_timeout": 0.3}], indirect=True)
async def test_a_handshake_that_never_ends_is_a_504(call, wire, origin, jp_base_url):
    async with serve(upstreams.never_answers) as up:
        path = f"proxy/https/{up.port}/"
        assert (await call(path)).status == 504
        assert await upgrade_status(wire, origin, jp_base_url + path) == 504


@pytest.mark.parametrize(
    "jp_server_config", [{"verify_loopback_certificates": False, "allowed_hosts": ["10.1.2.3"]}], indirect=True
)
async def test_loopback_alone_may_go_unverified(call, wire, origin, jp_base_url, gateway):
    async with serve(upstreams.echo_frames, tls=context_for(trustme.CA().issue_cert("example.org"))) as up:
        assert await upgrade_status(wire, origin, f"{jp_base_url}proxy/https/{up.port}/ws") == 101
    async with serve(answers(b"hello"), tls=context_for(trustme.CA().issue_cert("example.org"))) as up:
        assert (await call(f"proxy/https/{up.port}/")).content == b"hello"
    loopback, elsewhere = Upstream("127.0.0.1", up.port, ("127.0.0.1",)), Upstream("10.1.2.3", 443, ("10.1.2.3",))
    assert (gateway.policy.trust_in(loopback).verified, gateway.policy.trust_in(elsewhere).verified) == (False, True)


# ---- the settings ----


def test_a_bundle_that_cannot_be_used_is_refused(tmp_path, bundle):
    check_bundle(str(bundle))
    assert Trust(str(bundle)).context.verify_mode is ssl.CERT_REQUIRED
    missing, empty = tmp_path / "none.pem", tmp_path / "empty.pem"
    empty.write_text("no certificate")
    for path, reason in (missing, "there is no file"), (empty, "has no certificates in PEM form"):
        with pytest.raises(TraitError, match=reason):
            PortProxy(trusted_certificates=str(path))
