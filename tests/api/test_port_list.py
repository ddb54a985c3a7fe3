"""The listening ports, and what a port's page says of itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import sys
import time

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.api.port_list import Page, PortList, parse_page
from jupyter_portproxy.config import PortProxy
from jupyter_portproxy.gateway.policy import Policy
from jupyter_portproxy.gateway.probe import Probe
from jupyter_portproxy.services.listeners import MAX_SOCKETS

from ..support.cpu_time import slowness
from ..support.identity_providers import configured
from ..support.upstreams import answers, free_port, never_answers, says, serve
from ..support.user_services import serve_as

HTML = [("Content-Type", "text/html; charset=utf-8")]


@pytest.mark.parametrize(
    ("content", "page"),
    [
        (b"<title>A  page\n</title>", Page(True, "A page")),
        (b"<title>A &amp; B</title><title>no</title>", Page(True, "A & B")),
        (b"<title></title>", Page(True)),
        (b"<link rel='shortcut icon' href='/static/a.ico'>", Page(True, "", "/p/static/a.ico")),
        (b"<link rel=icon href='./a.png'><link rel=icon href=b.png>", Page(True, "", "/p/a.png")),
        (b"<link rel=icon href='//evil.example/a.ico'>", Page(True)),
        (b"<link rel=icon href='https://evil.example/a.ico'>", Page(True)),
        (b"<link rel=icon href='data:image/png;base64,xx'>", Page(True)),
        (b"<link rel=icon><title>cut off", Page(True, "cut off")),
        (b"<title>" + b"x" * 5000 + b"</title>", Page(True, "x" * 200)),
        (b"\xff\xfe<title>\xe4", Page(True, "\ufffd")),
    ],
)
def test_title_and_icon_are_read(content, page):
    assert parse_page(HTML, content, prefix="/p") == page


def test_only_html_has_a_title():
    assert parse_page([("Content-Type", "application/json")], b"<title>x</title>", prefix="/p") == Page(True)


@given(st.binary(max_size=300))
def test_any_content_is_read(content):
    page = parse_page(HTML, b"<link rel=icon href='" + content, prefix="/p")
    assert page.icon == "" or page.icon.startswith("/p/")


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root can start a process of another user")
async def test_very_many_sockets_of_another_user_cost_the_loop_under_50_ms(gateway, probe, very_many_sockets):
    port_list = PortList(gateway, probe, "/", set)
    took = []
    for _ in range(3):
        started = time.thread_time()  # of the loop's thread
        port_list.probe_again(1)
        assert len(await port_list.read()) <= MAX_SOCKETS
        took.append(time.thread_time() - started)
    assert min(took) < 0.05 * slowness()


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root can start a process of another user")
async def test_a_port_that_is_allowed_for_the_servers_own_user_alone_is_refused_for_others(gateway, probe, monkeypatch):
    monkeypatch.setattr(gateway, "policy", Policy(PortProxy(allowed_ports="own")))
    monkeypatch.setattr(gateway.settings, "allow_other_users", True)
    with serve_as(65002) as other, serve_as(os.getuid()) as own:
        listed = {item["port"]: item for item in await PortList(gateway, probe, "/", set).read()}
    assert [(listed[each.port]["allowed"], listed[each.port]["reason_code"]) for each in (own, other)] == [
        (True, ""),
        (False, "other_user"),
    ]


@pytest.mark.parametrize("jp_server_config", [{**configured(), "PortProxy": {"verify_loopback_certificates": False}}])
async def test_a_rule_gives_a_port_its_label_and_scheme(gateway, probe, jp_server_config):
    """A port of https is probed by TLS, and one of tcp not at all."""
    port_list, rules = PortList(gateway, probe, "/", set), gateway.policy.port_rules
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 17\r\n\r\n<title>it</title>"
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(tls)
    async with serve(says(page), tls=tls) as up:

        async def item(**values):
            if values:
                rules.put({"ports": str(up.port), **values})
                port_list.scan_again()
            found = next(item for item in await port_list.read() if item["port"] == up.port)
            return found["scheme"], found["http"], found["title"], found["label"], found["url"]

        url = f"/proxy/port/{up.port}/"
        assert await item() == ("http", False, "", "", url)
        assert await item(scheme="https", label="<b>mine</b>") == ("https", True, "it", "<b>mine</b>", url)
        count = len(up.requests)
        assert await item(scheme="tcp") == ("tcp", False, "", "", None)
        assert await item(label="again") == ("http", False, "", "again", url)
        assert len(up.requests) == count == 1


async def test_a_port_whose_answer_is_not_http_is_tcp_until_a_rule_says_otherwise(gateway, probe):
    port_list, rules = PortList(gateway, probe, "/", set), gateway.policy.port_rules

    async def is_tcp(port: int, **values) -> tuple[bool, str, str | None]:
        if values:
            rules.put({"ports": str(port), **values})
            port_list.scan_again()
        found = next(item for item in await port_list.read() if item["port"] == port)
        return found["tcp"], found["scheme"], found["url"]

    async with serve(says(b"RFB 003.008\n")) as vnc, serve(answers()) as web, serve(never_answers) as slow:
        assert await is_tcp(vnc.port) == (True, "http", f"/proxy/port/{vnc.port}/")
        assert await is_tcp(vnc.port, scheme="https") == (False, "https", f"/proxy/port/{vnc.port}/")
        assert await is_tcp(vnc.port, scheme="tcp") == (True, "tcp", None)
        assert [(await is_tcp(up.port))[0] for up in (web, slow)] == [False, False]  # one that is slow may still speak it
        assert (await is_tcp(web.port, scheme="tcp"))[0]


@pytest.mark.parametrize(
    "jp_server_config",
    [
        {
            "ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True}},
            "PortProxy": {"allowed_ports": ["10000-14999"], "tcp_ports": ["15000-19999"]},
        }
    ],
)
async def test_a_port_that_raw_tcp_alone_reaches_is_listed_as_that(gateway, probe, jp_server_config):
    async with serve(answers(), port=free_port(range(15000, 20000))) as up:
        (item,) = [item for item in await PortList(gateway, probe, "/", set).read() if item["port"] == up.port]
        assert (item["allowed"], item["tcp"], item["scheme"], item["url"]) == (True, True, "tcp", None)
        assert (item["reason"], item["may_allow"], up.connections) == ("", False, 0)


class RecordingProbe(Probe):
    """A probe that keeps the ports that it was called for: servers of other tests may connect to the same ports."""

    def __init__(self, policy, connector) -> None:
        super().__init__(policy, connector)
        self.ports: list[int] = []

    async def page(self, port):
        self.ports.append(port)
        return await super().page(port)


@pytest.mark.parametrize("scheme", ["tcp", "http"])
async def test_a_port_of_tcp_is_not_connected_to(gateway, extension, scheme):
    probe = RecordingProbe(gateway.policy, extension.connector)
    with socket.create_server(("127.0.0.1", free_port())) as silent:
        port = silent.getsockname()[1]
        gateway.policy.port_rules.put({"ports": str(port), "scheme": scheme})
        assert port in [item["port"] for item in await PortList(gateway, probe, "/", set).read()]
    assert (port in probe.ports) is (scheme == "http")


async def test_one_bad_item_costs_that_item(gateway, probe, monkeypatch, caplog):
    port_list = PortList(gateway, probe, "/", set)
    look, why = probe.page, gateway.policy.check
    with socket.create_server(("127.0.0.1", free_port())) as bad, socket.create_server(("127.0.0.1", free_port())) as good:
        ports = bad.getsockname()[1], good.getsockname()[1]

        async def raises(port):
            if port == ports[0]:
                raise LookupError("no such codec")
            return HTML, b"<title>good</title>"

        def no_json(route):
            if route.port == ports[0]:
                raise RecursionError
            why(route)

        monkeypatch.setattr(probe, "page", raises)
        titles = {item["port"]: item["title"] for item in await port_list.read()}
        assert (titles[ports[0]], titles[ports[1]]) == ("", "good")
        monkeypatch.setattr(gateway.policy, "check", no_json)
        port_list.probe_again(ports[0])
        listed = [item["port"] for item in await port_list.read()]
        assert ports[0] not in listed and ports[1] in listed
        monkeypatch.setattr(gateway.policy, "check", why)
        monkeypatch.setattr(probe, "page", look)


HOSTILE = """
import asyncio, socket, sys

async def serve(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    page = (sys.argv[1].encode("latin-1") * 70000)[:70000]
    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/html\\r\\nContent-Length: 70000\\r\\n\\r\\n" + page)
    await writer.drain()
    writer.close()

async def main():
    free = (n for n in range(10000, 20000))
    servers = []
    while len(servers) < 60:
        try:
            servers.append(await asyncio.start_server(serve, "127.0.0.1", next(free)))
        except OSError:
            pass
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_ports_that_say_nothing_do_not_hold_up_the_list(gateway, probe):
    """Each is tried for two seconds, eight at once; the port of a request is tried first."""
    async with serve(answers(b"<title>Mine</title>", b"Content-Type: text/html")) as mine:
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(socket.create_server(("127.0.0.1", free_port()))) for _ in range(40)]
            port_list = PortList(gateway, probe, "/", set)
            port_list.probe_again(mine.port)
            begun = time.monotonic()
            listed = {item["port"]: item for item in await port_list.read()}
            assert time.monotonic() - begun < 7  # all of them take ten seconds
            assert {one.getsockname()[1] for one in silent} <= listed.keys()
            assert listed[mine.port]["title"] == "Mine"


@pytest.mark.parametrize("page", ["<", "<a b='c'>", "<title>&a"])
async def test_sixty_hostile_ports_leave_the_loop_free(gateway, probe, page):
    secrets = ["://" * 200, "token:" * 20000]
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", HOSTILE, page, *secrets, stdout=asyncio.subprocess.PIPE)
    ports = set(map(int, (await program.stdout.readline()).split()))
    port_list = PortList(gateway, probe, "/", set)
    gaps, done = [], False

    async def tick():
        while not done:
            begun = time.thread_time()  # what this thread computed, however busy the machine is
            await asyncio.sleep(0)
            gaps.append(time.thread_time() - begun)

    ticking = asyncio.ensure_future(tick())
    listed = {item["port"]: item for item in await port_list.read()}
    done = True
    await ticking
    program.kill()
    await program.wait()
    assert ports <= listed.keys() and all(listed[port]["http"] for port in ports)
    assert all(listed[port]["command"][-1].startswith("token:***") for port in ports)  # no secret of a command line is told
    assert max(gaps) < 0.05 * slowness()
