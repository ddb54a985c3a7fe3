"""Policy: who may reach what, decided before a byte leaves. The gateway alone, without a Jupyter server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace

import pytest
import trustme

from jupyter_portproxy.config import PortProxy
from jupyter_portproxy.errors import (
    BadInput,
    BadUpstream,
    Distrusted,
    Forbidden,
    ForwardedPort,
    JupyterPort,
    LoopDetected,
    NotFound,
    Unreachable,
)
from jupyter_portproxy.gateway.policy import Policy
from jupyter_portproxy.protocol import urls
from jupyter_portproxy.protocol.urls import Route, Upstream
from jupyter_portproxy.services.folder_rules import FolderRules
from jupyter_portproxy.services.port_rules import PortAttributes, PortRules, parse_rule
from jupyter_portproxy.services.user_ports import UserPorts
from jupyter_portproxy.system.netlink import open_netlink
from jupyter_portproxy.system.socket_owners import user_name

from ..support.gateways import found, open_exchange, route
from ..support.kernels import ForwardingNetlink, OldNetlink, as_user
from ..support.upstreams import answers, free_port, serve
from ..support.user_services import serve_as

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who owns a socket")

# ---- ports ----


@pytest.mark.parametrize(
    ("allowed", "port", "passes"),
    [
        (["10000-20000"], 10000, True),
        (["10000-20000"], 20000, True),
        (["10000-20000"], 9999, False),
        (["10000-20000"], 20001, False),
        ([8050, "9000"], 8050, True),
        ([8050, " 9000 "], 9000, True),
        ([8050], 8051, False),
        (["1-65535"], 65535, True),
        ([], 10000, False),
    ],
)
def test_only_allowed_ports_pass(make_gateway, allowed, port, passes):
    gateway = make_gateway(allowed_ports=allowed)
    if passes:
        gateway.policy.check(route("localhost", port))
        return
    with pytest.raises(Forbidden):
        gateway.policy.check(route("localhost", port))


# ---- raw TCP ----


def tcp_route(port: int) -> Route:
    return replace(route("localhost", port), path="", scheme="tcp")


@pytest.mark.parametrize(
    ("traits", "passes", "refused"),
    [
        ({}, [10000, 20000], [5432, 9999]),
        ({"allowed_ports": [5432]}, [5432], [10000]),
        ({"tcp_ports": ["allowed", 5432]}, [5432, 10000], [5433]),
        ({"tcp_ports": [5432, "15000-15099"]}, [5432, 15000, 15099], [10000, 15100]),
        ({"tcp_ports": []}, [], [10000, 5432]),
    ],
)
async def test_raw_tcp_reaches_its_own_ports(make_gateway, traits, passes, refused):
    policy = make_gateway(**traits).policy
    for port in passes:
        upstream = await policy.resolve(tcp_route(port))
        assert (upstream.scheme, upstream.port) == ("tcp", port)
    for port in refused:
        with pytest.raises(Forbidden) as caught:
            await policy.resolve(tcp_route(port))
        assert (
            "tcp_ports" if "tcp_ports" in traits and "allowed" not in traits["tcp_ports"] else "allowed_ports"
        ) in caught.value.hint


async def test_raw_tcp_to_a_port_that_http_does_not_reach_needs_no_other_permission(make_gateway):
    """The owner is checked as for every listed port: this server's user or root."""
    policy = make_gateway(tcp_ports=[5432]).policy
    assert (await policy.resolve(tcp_route(5432))).owner is None
    with pytest.raises(Forbidden):
        policy.check(route("localhost", 5432))


async def test_what_the_user_allows_counts_for_raw_tcp_unless_the_administrator_lists_ports(make_gateway, user_ports):
    user_ports.add(5432)
    policy = make_gateway(user_ports=user_ports).policy
    assert (await policy.resolve(tcp_route(5432))).owner == os.getuid()
    for listed in ([], [10000]):
        with pytest.raises(Forbidden, match="Raw TCP"):
            make_gateway(user_ports=user_ports, tcp_ports=listed).policy.check(tcp_route(5432))


@pytest.mark.parametrize("tcp_ports", [["allowed"], ["allowed", 15000], [15000], []])
def test_ports_of_jupyter_and_its_kernels_are_never_reached_by_raw_tcp(tcp_ports):
    kernels = {15000}
    policy = Policy(PortProxy(tcp_ports=tcp_ports), jupyter_ports=lambda: kernels)
    for refuse in (lambda: policy.check(tcp_route(15000)), lambda: policy.check_tcp(15000)):
        with pytest.raises(JupyterPort, match="Port 15000 is one of the Jupyter server or its kernels"):
            refuse()
    policy.check(route("localhost", 15000))  # HTTP to it is another matter
    kernels.clear()
    if tcp_ports:
        policy.check_tcp(15000)


def test_raw_tcp_to_a_unix_socket_is_allowed_like_http(make_gateway):
    make_gateway().policy.check_tcp(0)
    for tcp_ports in ([], [5432]):
        with pytest.raises(Forbidden, match=r"^Raw TCP.* is not allowed by this server\.$"):
            make_gateway(tcp_ports=tcp_ports).policy.check_tcp(0)


def test_raw_tcp_keeps_the_bytes_whatever_the_port_speaks(make_gateway, port_rules):
    port_rules.put({"ports": "15000", "scheme": "https"})
    assert make_gateway(port_rules=port_rules).policy.scheme_of(tcp_route(15000)) == "tcp"


@pytest.fixture
def user_ports(tmp_path):
    return UserPorts(tmp_path / "allowed-ports.json", logging.getLogger("test"))


@pytest.fixture
def port_rules(tmp_path):
    return PortRules(tmp_path / "port-rules.json", logging.getLogger("test"))


async def test_a_port_that_the_user_allows_passes_until_it_is_taken_back(make_gateway, user_ports, tmp_path):
    """Another server of the same user may do either; nothing is kept between two requests."""
    policy = make_gateway(user_ports=user_ports).policy
    elsewhere = make_gateway(user_ports=UserPorts(tmp_path / "allowed-ports.json", logging.getLogger("test"))).policy
    for _ in range(3):
        with pytest.raises(Forbidden, match="outside allowed range") as caught:
            policy.check(route("localhost", 5000))
        assert caught.value.allowable_port == 5000 and "jupyter portproxy allow 5000" in caught.value.hint
        await elsewhere.allow_for_user(5000)
        policy.check(route("localhost", 5000))
        with pytest.raises(Forbidden):
            policy.check(route("localhost", 5001))
        await elsewhere.disallow_for_user(5000)


async def test_a_port_that_the_user_allows_is_one_of_loopback_alone(make_gateway, user_ports):
    policy = make_gateway(user_ports=user_ports, allowed_hosts=["10.0.0.7"]).policy
    await policy.allow_for_user(5000)
    with pytest.raises(Forbidden) as caught:
        policy.check(route("10.0.0.7", 5000))
    assert caught.value.allowable_port is None


@pytest.mark.parametrize(
    ("port", "error", "text"),
    [
        (22, Forbidden, "You may not allow port 22."),
        (1023, Forbidden, "You may not allow port 1023."),
        (15000, BadInput, "Port 15000 is allowed by the server's configuration already."),
        (8888, LoopDetected, "leads back to this Jupyter server"),
    ],
)
async def test_a_port_that_may_not_be_allowed_is_refused_in_one_sentence(make_gateway, user_ports, port, error, text):
    policy = make_gateway(user_ports=user_ports, own_port=lambda: 8888).policy
    with pytest.raises(error, match=text):
        await policy.allow_for_user(port)
    assert policy.user_ports() == []


async def test_an_administrator_narrows_what_users_may_allow_at_once(make_gateway, user_ports):
    """Also what was allowed before; where users may allow none, the list is not read."""
    user_ports.add(5000)
    narrow = make_gateway(user_ports=user_ports, users_may_allow=["8000-8999"]).policy
    assert not narrow.may_allow(5000)
    for policy in (narrow, make_gateway(user_ports=user_ports, users_may_allow=[]).policy, make_gateway().policy):
        with pytest.raises(Forbidden) as caught:
            policy.check(route("localhost", 5000))
        assert caught.value.allowable_port is None and "portproxy allow" not in caught.value.hint
        with pytest.raises(Forbidden, match="You may not allow port 5000"):
            await policy.allow_for_user(5000)
    with pytest.raises(NotFound):
        await make_gateway().policy.disallow_for_user(5000)


@linux
async def test_a_port_that_the_user_allows_must_be_the_users_own(make_gateway, user_ports):
    """Whatever `allow_other_users` says. Its owner may change after it was allowed: each connection is checked."""
    port = free_port(range(21000, 29000))
    for traits in ({"user_ports": user_ports}, {"allowed_ports": "own"}):
        gateway = make_gateway(allow_other_users=True, **traits)
        if "user_ports" in traits:
            await gateway.policy.allow_for_user(port)
        with serve_as(os.getuid(), port):
            for host in ("localhost", "127.0.0.1"):
                exchange = open_exchange(gateway, "GET", await found(gateway, route(host, port)), [])
                assert (await exchange.head).status == 200
                exchange.abort()
        gateway = make_gateway(allow_other_users=True, **traits)  # without the kept connection
        with serve_as(65534, port) as theirs:
            for host in ("localhost", "127.0.0.1"):
                to = await found(gateway, route(host, port))
                for attempt in (open_exchange(gateway, "GET", to, []).head, gateway.dial(to.upstream)):
                    with pytest.raises(Forbidden, match="belongs to another user"):
                        await attempt
            if "user_ports" in traits:
                await gateway.policy.disallow_for_user(port)
                with pytest.raises(Forbidden, match="belongs to another user"):
                    await gateway.policy.allow_for_user(port)
                assert gateway.policy.user_ports() == []
            assert set(theirs.end()) <= {"0"}


@pytest.mark.parametrize(
    ("rule", "setting", "kept"),
    [
        (None, [], False),
        (None, [15000], True),
        (True, [], True),
        (False, [15000], False),
        (False, True, False),
    ],
)
def test_a_rule_for_a_port_of_this_machine_counts_before_keep_host(make_gateway, port_rules, rule, setting, kept):
    port_rules.put({"ports": "14000-16000", "keep_host": rule})
    policy = make_gateway(port_rules=port_rules, keep_host=setting).policy
    assert policy.keeps_host(Upstream("localhost", 15000, ())) == policy.keeps_host(Upstream("127.0.0.1", 15000, ())) == kept
    for other in (
        Upstream("10.0.0.7", 15000, ()),
        Upstream("localhost", 15000, (), "/a/socket"),
        Upstream("localhost", 13999, ()),
    ):
        assert policy.keeps_host(other) == (setting is True or (other.port in (setting or []))), other


def test_a_rule_for_a_port_of_this_machine_counts_before_https_ports(make_gateway, port_rules):
    policy = make_gateway(port_rules=port_rules, https_ports=[15001], allowed_hosts=["10.0.0.7"]).policy
    assert [policy.protocol_of(port) for port in (15000, 15001)] == ["http", "https"]
    for port, scheme in ((15000, "https"), (15001, "http"), (15002, "tcp")):
        port_rules.put({"ports": str(port), "scheme": scheme})
        assert policy.protocol_of(port) == scheme
    assert [policy.scheme_of(route("localhost", port)) for port in (15000, 15001, 15002)] == ["https", "http", "http"]
    assert policy.scheme_of(route("10.0.0.7", 15000)) == "http"
    assert policy.scheme_of(replace(route("localhost", 15001), scheme="https")) == "https"


def test_a_rule_of_a_folder_counts_after_the_users_and_the_configuration(make_gateway, port_rules):
    folder_rules = FolderRules()
    policy = make_gateway(port_rules=port_rules, folder_rules=folder_rules, https_ports=[15001], keep_host=[15002]).policy
    version = policy.rules_version
    folder = {"label": "theirs", "scheme": "tcp", "keep_host": False, "on_appear": "open"}
    folder_rules.put("/shop", [parse_rule({"ports": "15000-15002", **folder})])
    assert policy.rules_version > version
    assert policy.attributes_of(15000)[:4] == ("theirs", "open", "tcp", False)
    assert (policy.protocol_of(15000), policy.protocol_of(15001)) == ("tcp", "https")
    assert policy.attributes_of(15002).keep_host is None and policy.keeps_host(Upstream("localhost", 15002, ()))
    port_rules.put({"ports": "15000-15999", "label": "mine", "keep_host": False})
    port_rules.put({"ports": "15000", "scheme": "https"})
    assert policy.attributes_of(15000)[:4] == ("mine", "open", "https", False)
    assert policy.keeps_host(Upstream("localhost", 15002, ())) is False


def test_no_rule_of_a_folder_allows_anything(make_gateway):
    """Not a port, not a host, not raw TCP, not a certificate."""
    folder_rules = FolderRules()
    traits = {"allowed_ports": [15000], "tcp_ports": []}
    plain, policy = make_gateway(**traits).policy, make_gateway(folder_rules=folder_rules, **traits).policy
    folder = {"label": "x", "scheme": "https", "keep_host": True, "on_appear": "open"}
    folder_rules.put("/shop", [parse_rule({"ports": "1-65535", **folder}), parse_rule({"process": ".*", "on_appear": "open"})])
    for port in (80, 14999, 15001):
        with pytest.raises(Forbidden, match="outside allowed range"):
            policy.check(route("localhost", port))
    with pytest.raises(Forbidden, match=r"Host '10\.0\.0\.7' is not allowed"):
        policy.check(route("10.0.0.7", 15000))
    with pytest.raises(Forbidden, match="Raw TCP is not allowed"):
        policy.check(replace(route("localhost", 15000), scheme="tcp"))
    assert policy.ports == plain.ports and policy.lease_ports == plain.lease_ports
    upstream = Upstream("localhost", 15000, ("127.0.0.1",), scheme="https")
    assert policy.trust_in(upstream).verified


def test_a_server_of_several_users_has_no_rules(make_gateway):
    policy = make_gateway().policy
    assert (policy.has_port_rules, policy.rules_version, policy.attributes_of(15000)) == (False, 0, PortAttributes())
    with pytest.raises(Forbidden, match="This server keeps no rules for ports, as several people may use it"):
        _ = policy.port_rules


def test_own_stands_for_the_unprivileged_ports(make_gateway):
    policy = make_gateway(allowed_ports="own").policy
    for port in (1024, 5000, 65535):
        policy.check(route("localhost", port))
    with pytest.raises(Forbidden, match=r"Port 80 is outside allowed range \(1024-65535\)") as caught:
        policy.check(route("localhost", 80))
    assert caught.value.hint.endswith('c.PortProxy.allowed_ports = ["own", 80].')
    assert policy.lease_ports == (range(10000, 20001),)
    more = make_gateway(allowed_ports=["own", 80, "5000-5010"]).policy
    assert [bool(more.required_owner(port) is None) for port in (80, 5000, 5010, 5011)] == [True, True, True, False]
    assert more.lease_ports == (range(80, 81), range(5000, 5011))


def test_own_ports_are_of_loopback_alone(make_gateway):
    """The user of another machine's port is unknown."""
    policy = make_gateway(allowed_ports=["own", 8080], allowed_hosts=["10.0.0.7", "gpu-1.example.org"]).policy
    for host in ("10.0.0.7", "gpu-1.example.org"):
        policy.check(route(host, 8080))
        with pytest.raises(Forbidden, match=r"Port 5000 is outside allowed range \(8080\)"):
            policy.check(route(host, 5000))


def test_a_port_outside_is_refused_with_the_range_and_how_to_allow_it(make_gateway):
    with pytest.raises(Forbidden) as caught:
        make_gateway().policy.check(route("localhost", 5000))
    assert caught.value.message == "Port 5000 is outside allowed range (10000-20000)"
    assert 'c.PortProxy.allowed_ports = ["10000-20000", 5000]' in caught.value.hint  # as it can be copied
    assert "in the server's configuration" in caught.value.hint


def test_a_refusal_below_a_base_url_says_which_servers_configuration_is_meant(make_gateway):
    """Of a chain's three servers each has a list of ports."""
    gateway = make_gateway(base_url="/p1/")
    with pytest.raises(Forbidden) as caught:
        gateway.policy.check(route("localhost", 5000))
    assert "in the configuration of the server at /p1/" in caught.value.hint


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "127.0.0.2"])
def test_the_servers_own_port_is_a_loop_by_every_local_name(make_gateway, host):
    gateway = make_gateway(allowed_ports=["1-65535"], own_port=lambda: 8888)
    with pytest.raises(LoopDetected):
        gateway.policy.check(route(host, 8888))


# ---- hosts ----


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
async def test_loopback_passes_by_default(make_gateway, host):
    upstream = await make_gateway().policy.resolve(route(host, 15000))
    assert all(urls.ip_literal(address).is_loopback for address in upstream.addresses)


@pytest.mark.parametrize("host", ["example.org", "10.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1", "127.1", "2130706433", "0"])
async def test_other_hosts_do_not_pass_by_default(make_gateway, host):
    with pytest.raises(Forbidden) as caught:
        await make_gateway().policy.resolve(route(host, 15000))
    assert caught.value.message == f"Host '{host}' is not allowed."


@pytest.mark.parametrize(
    ("allowed", "host", "passes"),
    [
        (["10.0.0.0/24"], "10.0.0.7", True),
        (["10.0.0.0/24"], "10.0.1.7", False),
        (["fd00::/8"], "fd00::1", True),
        (["10.0.0.1"], "10.0.0.1", True),
        (["0.0.0.0/0"], "0.0.0.0", False),
        (["::/0"], "::", False),
        (["GPU-1.example.org"], "gpu-1.example.org", True),
        (["gpu-1.example.org"], "gpu-2.example.org", False),
        (["example.org"], "x.example.org", False),
    ],
)
def test_hosts_are_exact_names_and_networks(make_gateway, allowed, host, passes):
    gateway = make_gateway(allowed_hosts=allowed)
    if passes:
        gateway.policy.check(route(host, 15000))
        return
    with pytest.raises(Forbidden):
        gateway.policy.check(route(host, 15000))


async def test_an_allowed_name_that_leads_to_loopback_does_not_reach_the_server_itself(make_gateway):
    name = socket.gethostname().lower()
    own = []
    gateway = make_gateway(allowed_hosts=[name], allowed_ports=["1-65535"], own_port=lambda: own[0] if own else None)
    try:
        addresses = (await gateway.policy.resolve(route(name, 15000))).addresses
    except Unreachable:
        addresses = ()  # a machine that does not know its own name
    own.append(15000)
    if any(urls.ip_literal(address).is_loopback for address in addresses):
        with pytest.raises(LoopDetected):
            await gateway.policy.resolve(route(name, 15000))


async def test_an_allowed_name_that_does_not_resolve_is_unreachable(make_gateway):
    with pytest.raises(Unreachable, match=r"nowhere\.invalid:15000"):
        await make_gateway(allowed_hosts=["nowhere.invalid"]).policy.resolve(route("nowhere.invalid", 15000))


# ---- owner ----

kernels = pytest.mark.parametrize("netlink", [open_netlink, OldNetlink], ids=["this kernel", "older kernel"])
LISTEN = """
import os, socket, sys
os.setgid(65534), os.setuid(65534)
host = sys.argv[2]
if host[0] == "/":
    s = socket.socket(socket.AF_UNIX)
    s.bind(host), s.listen()
else:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    s = socket.create_server((host, int(sys.argv[1])), family=family, dualstack_ipv6=host == "::")
print("up", flush=True)
if len(sys.argv) > 3:
    sys.stdin.readline()
while True:
    c, _ = s.accept()
    c.settimeout(5)
    print(len(c.recv(100)), flush=True)
    c.close()
"""


@contextlib.contextmanager
def foreign_listener(host: str, port: int, *late: str):
    """Another user of this machine listens there (or on a Unix socket); that process prints how many bytes it was sent.

    Args:
        late: given, it accepts nothing before it is sent a line.
    """
    if os.getuid() != 0:
        pytest.skip("only root can start a process of another user")
    command = [sys.executable, "-c", LISTEN, str(port), host, *late]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "up\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def foreign_port(request):
    """A port on which another user of this machine listens, and that process."""
    port = free_port()
    with foreign_listener(getattr(request, "param", "127.0.0.1"), port) as process:
        yield port, process


@linux
async def test_another_users_port_gets_no_byte(make_gateway, foreign_port, monkeypatch):
    port, process = foreign_port
    gateway = make_gateway()
    for _ in range(2):
        exchange = open_exchange(gateway, "GET", await found(gateway, route("localhost", port)), [])
        with pytest.raises(Forbidden) as caught:
            await exchange.head
        assert caught.value.message.startswith(f"Port {port} belongs to another user of this machine (nobody")
        assert process.stdout.readline() == "0\n"


@linux
@kernels
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
async def test_another_users_port_that_accepts_late_gets_no_byte(make_gateway, netlink, host):
    """By HTTP, by https and by an upgrade of each."""
    with foreign_listener(host, port := free_port(), "late") as process:
        for gateway in (make_gateway(netlink), make_gateway(netlink, https_ports=[port])):
            to = await found(gateway, route("localhost", port))
            with pytest.raises(Forbidden, match="belongs to another user"):
                await open_exchange(gateway, "GET", to, []).head
            with pytest.raises(Forbidden, match="belongs to another user"):
                await gateway.dial(to.upstream)
        process.stdin.write("\n")
        process.stdin.flush()
        assert [process.stdout.readline() for _ in range(3)] == ["0\n"] * 3  # https by libcurl is refused before it connects


@linux
@kernels
async def test_a_service_of_ones_own_that_accepts_late_is_reached(make_gateway, netlink):
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    with as_user(65001), socket.create_server(("127.0.0.1", 0)) as listener:
        gateway = make_gateway(netlink, allowed_ports=["1-65535"])
        to = await found(gateway, route("localhost", listener.getsockname()[1]))
        (await gateway.dial(to.upstream)).close()


@linux
async def test_a_port_that_the_packet_filter_forwards_is_refused_as_such(make_gateway):
    """By HTTP and by an upgrade: no byte leaves. With `allow_other_users` it is reached, as any other."""
    async with serve(answers()) as upstream:
        gateway = make_gateway(ForwardingNetlink)
        to = await found(gateway, route("localhost", upstream.port))
        for attempt in (open_exchange(gateway, "GET", to, []).head, gateway.dial(to.upstream)):
            with pytest.raises(ForwardedPort) as caught:
                await attempt
            assert caught.value.message.startswith(f"Port {upstream.port} is forwarded by a rule of this machine's packet filter")
            assert "c.PortProxy.allow_other_users = True" in caught.value.hint
        exchange = open_exchange(make_gateway(ForwardingNetlink, allow_other_users=True), "GET", to, [])
        assert (await exchange.head).status == 200
        assert await exchange.read() == b"hello"


@linux
@kernels
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_service_that_closes_at_once_is_not_one_whose_owner_is_unknown(make_gateway, netlink, scheme):
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    gateway = make_gateway(netlink, allowed_ports=["1-65535"], https_ports=[port] if scheme == "https" else [])
    for _ in range(20):
        with pytest.raises((BadUpstream, Distrusted)):
            await open_exchange(gateway, "GET", await found(gateway, route("localhost", port)), []).head
    server.close()


@linux
@pytest.mark.parametrize("foreign_port", ["127.0.0.1", "0.0.0.0", "::1", "::"], indirect=True)
async def test_every_spelling_of_loopback_has_its_owner_checked(make_gateway, foreign_port):
    """On a listener for IPv4, for IPv6, for all addresses of both."""
    port, process = foreign_port
    gateway = make_gateway(allowed_hosts=["::ffff:127.0.0.0/104", "localhost."[:-1]])
    for host in ("localhost", "127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1", "::ffff:127.0.0.2"):
        to = await found(gateway, route(host, port))
        for attempt in (gateway.dial(to.upstream), open_exchange(gateway, "GET", to, []).head):
            with pytest.raises((Forbidden, Unreachable)):
                await attempt
    for host in ("0.0.0.0", "::", "localhost.", "127.1", "2130706433"):
        with pytest.raises(Forbidden):
            await gateway.policy.resolve(route(host, port))
    gateway.close()
    heard = [process.stdout.readline().strip()]  # it may be behind: what comes until it is killed is looked at, too
    process.kill()
    assert set(heard + process.stdout.read().split()) == {"0"}  # connected, looked at, and closed


@linux
async def test_another_users_port_gets_no_tls_greeting_either(make_gateway, foreign_port):
    port, process = foreign_port
    gateway = make_gateway(https_ports=[port])
    to = await found(gateway, route("localhost", port))
    with pytest.raises(Forbidden, match="belongs to another user"):
        open_exchange(gateway, "GET", to, [])
    with pytest.raises(Forbidden, match="belongs to another user"):
        await gateway.dial(to.upstream)
    assert process.stdout.readline() == "0\n"  # the upgrade's: connected, looked at, and closed
    assert gateway.exchanges == 0


@linux
async def test_a_port_that_is_handed_over_between_two_requests_gets_no_byte(make_gateway):
    gateway = make_gateway()
    async with serve(answers()) as upstream:
        to = await found(gateway, route("localhost", upstream.port))
        exchange = open_exchange(gateway, "GET", to, [])  # resolved and approved: its connection is kept
        assert (await exchange.head).status == 200
        assert await exchange.read() == b"hello"
    with foreign_listener("127.0.0.1", to.upstream.port) as process:
        with pytest.raises(Forbidden, match="belongs to another user"):
            await open_exchange(gateway, "GET", to, []).head
        assert process.stdout.readline() == "0\n"
        with pytest.raises(Forbidden, match="belongs to another user"):
            await gateway.dial(to.upstream)
        assert process.stdout.readline() == "0\n"


@linux
async def test_another_user_behind_a_unix_socket_whose_file_is_ours_gets_no_byte(make_gateway):
    """As if it had changed hands after the file was looked at: what counts is who listens, and the connection tells."""
    gateway = make_gateway()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        with foreign_listener(path := f"{folder}/s", 0) as process:
            os.chown(path, os.getuid(), os.getgid())
            to = await found(gateway, route("localhost", 15000))
            to = replace(to, upstream=replace(to.upstream, unix_socket=path))
            with pytest.raises(Forbidden, match="belongs to another user"):
                await open_exchange(gateway, "GET", to, []).head
            assert process.stdout.readline() == "0\n"
            with pytest.raises(Forbidden, match="belongs to another user"):
                await gateway.dial(to.upstream)
            assert process.stdout.readline() == "0\n"


@linux
async def test_another_users_port_is_reached_where_the_administrator_allows_it(make_gateway, foreign_port):
    port, process = foreign_port
    gateway = make_gateway(allow_other_users=True)
    exchange = open_exchange(gateway, "GET", await found(gateway, route("localhost", port)), [])
    with pytest.raises(Exception, match="without a response"):
        await exchange.head
    assert int(process.stdout.readline()) > 0


# ---- an expected owner ----

ANN, BOB = 65001, 65002
ways = pytest.mark.parametrize("way", ["http", "upgrade"])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    path = tmp_path_factory.mktemp("certificate") / "service.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    return path


async def reach(gateway, port: int, way: str, owner: int | None) -> str:
    """What the service says to one request, or "connected" after an upgrade's connection."""
    to = await found(gateway, route("localhost", port))
    to = replace(to, upstream=replace(to.upstream, owner=owner, group=f"p1.{owner}"))
    if way == "upgrade":
        (await gateway.dial(to.upstream)).close()
        return "connected"
    exchange = open_exchange(gateway, "GET", to, [])
    await exchange.head
    return (await exchange.read()).decode()


@linux
@ways
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("others", [False, True])
async def test_a_port_of_the_expected_user_alone_is_reached(make_gateway, certificate, way, scheme, others):
    """Neither this server's user nor root passes, and `allow_other_users` changes nothing."""
    tls = scheme == "https"
    settings = {"allow_other_users": others, "allowed_ports": ["1-65535"], "verify_loopback_certificates": False}
    with ExitStack() as stack:
        ann, bob, own = (stack.enter_context(serve_as(uid, 0, certificate if tls else None)) for uid in (ANN, BOB, os.getuid()))
        gateway = make_gateway(**settings, https_ports=[ann.port, bob.port, own.port] if tls else [])
        outcome = await reach(gateway, ann.port, way, ANN)
        assert outcome == ("connected" if way == "upgrade" else f"{ANN} /")
        for service, name in ((bob, f"uid {BOB}"), (own, user_name(os.getuid()))):
            with pytest.raises(Forbidden) as caught:
                await reach(gateway, service.port, way, ANN)
            sentence = f"Port {service.port} belongs to {name}, and not to uid {ANN}, the user of this project."
            assert (caught.value.message, caught.value.hint) == (sentence, f"Start the service as uid {ANN}.")
        await reach(gateway, own.port, way, os.getuid())
        gateway.close()
        await asyncio.sleep(0.2)
        assert set(bob.end()) <= {"0"}, "no byte came"
        assert "request" in ann.end() or way == "upgrade"


@linux
async def test_an_approved_connection_to_an_expected_user_is_kept_for_that_project_alone(make_gateway):
    gateway = make_gateway()
    with serve_as(ANN) as service:
        for _ in range(2):
            assert await reach(gateway, service.port, "http", ANN) == f"{ANN} /"
        with pytest.raises(Forbidden, match="belongs to another user of this machine"):
            await open_exchange(gateway, "GET", await found(gateway, route("localhost", service.port)), []).head
        with pytest.raises(Forbidden, match=f"and not to uid {BOB}"):
            await reach(gateway, service.port, "http", BOB)
        assert await reach(gateway, service.port, "http", ANN) == f"{ANN} /"


async def test_an_expected_user_is_refused_where_the_system_reports_no_owner(make_gateway, monkeypatch):
    def refuse():
        raise OSError("no sock_diag here")

    async with serve(answers()) as upstream:
        for way in ("http", "upgrade"):
            with pytest.raises(Forbidden, match="The system does not report the owner of port"):
                await reach(make_gateway(refuse), upstream.port, way, os.getuid())
        assert upstream.requests == []
