"""Real programs through `forward`: psql, ssh, scp, git, redis-cli and a Python debugger; each directly and through other servers.

The ways: straight to a Jupyter server; JupyterHub with configurable-http-proxy; nginx with TLS; hub, project host and container.
"""

from __future__ import annotations

import asyncio
import contextlib
import filecmp
import hashlib
import json
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from jupyter_portproxy.projects.placement.admin import PlacementAdmin

from ..docs.test_nginx_docs import LOCATION, MAP, TLS
from ..projects import test_chain as chain
from ..support import hub as hubs
from ..support import postgres
from ..support.forwarding import COMMAND, Forwarding, forwarding
from ..support.jupyter_processes import TOKEN, environment, jupyter_server
from ..support.nginx import nginx
from ..support.slow_relay import relay
from ..support.tcp_programs import program, redis, sshd
from ..support.upstreams import free_port

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the programs are those of a POSIX system"),
    pytest.mark.timeout(180),  # the first test of each way waits for its servers
]
SIZE = 100_000_000


@dataclass
class Way:
    """How the command reaches the services: `key` is of a project, `more` its environment."""

    home: Path
    url: str
    token: str
    key: str = ""
    options: list[str] = field(default_factory=list)

    @property
    def more(self) -> Mapping[str, str]:
        return {"JUPYTER_TOKEN": self.token, "JUPYTERHUB_API_TOKEN": ""}

    def remote(self, port: int) -> str:
        return f"{self.key}/{port}" if self.key else str(port)

    @contextlib.contextmanager
    def forward(self, port: int) -> Iterator[int]:
        running: Forwarding
        with forwarding(
            self.home, f"0:{self.remote(port)}", options=["--server", self.url, *self.options], more=self.more
        ) as running:
            yield running.ports[0]
            assert "cut" not in running.messages and "does not answer" not in running.messages

    def proxy_command(self, port: int) -> str:
        return shlex.join([*COMMAND, "--server", self.url, *self.options, "forward", "--stdio", self.remote(port)])


@contextlib.contextmanager
def direct(folder: Path, database: postgres.Database) -> Iterator[Way]:
    (server_home := folder / "server").mkdir()
    with jupyter_server(server_home) as server:
        yield Way(folder, server.url, TOKEN)


@contextlib.contextmanager
def hub(folder: Path, database: postgres.Database) -> Iterator[Way]:
    (hub_home := folder / "hub").mkdir()
    with hubs.jupyterhub(hub_home, "", "ada") as running:
        yield Way(folder, f"{running.origin}/user/ada/", running.token("ada"))


@contextlib.contextmanager
def behind_nginx(folder: Path, database: postgres.Database) -> Iterator[Way]:
    (server_home := folder / "server").mkdir()
    trusts = ["--ServerApp.trust_xheaders=True", "--ServerApp.allow_remote_access=True"]
    with jupyter_server(server_home, *trusts) as server:
        block = f"{MAP} server {{ listen 443 ssl; {TLS} {LOCATION} }}"
        with nginx(folder, block, urlsplit(server.url).netloc) as (port, _):
            yield Way(folder, f"https://localhost:{port}/", TOKEN, options=["--ca-file", str(folder / "ca.pem")])


@contextlib.contextmanager
def three_hops(folder: Path, database: postgres.Database) -> Iterator[Way]:
    (chain_home := folder / "chain").mkdir()
    with chain.three_servers(database, chain_home) as hops:

        async def place() -> None:
            admin = PlacementAdmin(hops.dsn)
            await chain.place(admin, hops.host)
            await admin.close()
            hops.registry.register(chain.KEY, chain.port_of(hops.container), chain.SECRET, hops.container.process.pid)
            await hops.until(f"/{chain.KEY}/api/status", 200)

        asyncio.run(place())
        yield Way(folder, hops.hub.url, "user-ann", chain.KEY)


@pytest.fixture(scope="module", params=[direct, hub, behind_nginx, three_hops], ids=lambda way: way.__name__)
def way(request, tmp_path_factory, shared_database):
    with request.param(tmp_path_factory.mktemp("way"), shared_database) as found:
        yield found


@pytest.fixture(scope="module")
def ssh_server(tmp_path_factory):
    with sshd(tmp_path_factory.mktemp("sshd")) as found:
        yield found


def call(command: list[str], **options: Any) -> str:
    """The output of a program that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A table as text."""
    path, line = tmp_path_factory.mktemp("rows") / "rows", "x" * 991
    with path.open("w") as file:
        file.writelines(f"{number:07d}\t{line}\n" for number in range(SIZE // 1000))
    assert path.stat().st_size == SIZE
    return path


def test_psql_copies_100_mb_both_ways(way, rows, shared_database, tmp_path):
    psql = next(folder / "psql" for folder in postgres.binaries() if (folder / "psql").exists())
    with relay(shared_database.server.port, free_port()) as allowed, way.forward(allowed.port) as port:
        command = [
            str(psql),
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            f"postgresql://postgres@127.0.0.1:{port}/{shared_database.name}",
        ]
        copies = [
            "create unlogged table copied (number text, line text)",
            f"\\copy copied from '{rows}'",
            f"\\copy copied to '{tmp_path / 'back'}'",
        ]
        call([*command, *(word for copy in [*copies, "drop table copied"] for word in ("-c", copy))])
    assert filecmp.cmp(rows, tmp_path / "back", shallow=False)


def test_ssh_and_scp_use_it_as_their_proxy_command(way, ssh_server, tmp_path):
    port, options = ssh_server
    options = [*options, "-o", f"ProxyCommand={way.proxy_command(port)}"]
    env = environment(way.home, way.more)
    assert call([program("ssh"), *options, "anywhere", "echo $((6 * 7))"], env=env) == "42\n"
    (tmp_path / "there").write_bytes(data := hashlib.shake_256(b"scp").digest(5_000_000))
    call([program("scp"), *options, str(tmp_path / "there"), f"anywhere:{tmp_path / 'far'}"], env=env)
    call([program("scp"), *options, f"anywhere:{tmp_path / 'far'}", str(tmp_path / "back")], env=env)
    assert (tmp_path / "back").read_bytes() == data
    hashed = subprocess.run(
        [program("ssh"), *options, "anywhere", "sha256sum"], env=env, input=data, capture_output=True, timeout=60, check=True
    )
    assert hashed.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_git_clones_and_pushes_over_ssh(way, ssh_server, tmp_path):
    port, options = ssh_server
    git = program("git")
    call([git, "init", "-q", "--bare", "-b", "main", str(tmp_path / "far.git")])
    ssh = shlex.join([program("ssh"), *options, "-o", f"ProxyCommand={way.proxy_command(port)}"])
    env = {**environment(way.home, way.more), "GIT_SSH_COMMAND": ssh, "GIT_CONFIG_GLOBAL": "/dev/null"}
    call([git, "clone", "-q", f"ssh://anywhere{tmp_path / 'far.git'}", str(tmp_path / "one")], env=env)
    (tmp_path / "one" / "file").write_bytes(hashlib.shake_256(b"git").digest(1_000_000))
    here = [git, "-C", str(tmp_path / "one"), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    call([*here, "add", "."], env=env)
    call([*here, "commit", "-q", "-m", "one"], env=env)
    call([*here, "push", "-q", "origin", "HEAD:main"], env=env)
    call([git, "clone", "-q", "-b", "main", f"ssh://anywhere{tmp_path / 'far.git'}", str(tmp_path / "two")], env=env)
    assert filecmp.cmp(tmp_path / "one" / "file", tmp_path / "two" / "file", shallow=False)


def test_redis_cli(way, tmp_path):
    with redis(tmp_path) as port, way.forward(port) as here:
        client = [program("redis-cli"), "-h", "127.0.0.1", "-p", str(here)]
        assert call([*client, "set", "key", "value"]) == "OK\n"
        assert call([*client, "get", "key"]) == "value\n"
        pipe = "".join(f"SET k{number} {'v' * 100}\r\n" for number in range(10_000))
        assert "errors: 0, replies: 10000" in call([*client, "--pipe"], input=pipe)
        assert call([*client, "dbsize"]) == "10001\n"


PROGRAM = "answer = 6 * 7\nprint(answer)  # a breakpoint is here\n"


def test_a_python_debugger_attaches(way, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    port = free_port()
    command = [sys.executable, "-X", "frozen_modules=off", "-m", "debugpy", "--listen", f"127.0.0.1:{port}", "--wait-for-client"]
    process = subprocess.Popen([*command, str(tmp_path / "program.py")], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        with way.forward(port) as here:
            debug(here, tmp_path / "program.py")
        assert process.communicate(timeout=20)[0] == "42\n"
    finally:
        process.kill()
        process.communicate()


def debug(port: int, path: Path) -> None:
    """What an editor does (Debug Adapter Protocol): attach, stop at line 2, look at a variable, go on."""
    sock = _connected(port)
    file, number = sock.makefile("rwb"), 0

    def send(command: str, **arguments: object) -> None:
        nonlocal number
        number += 1
        body = json.dumps({"seq": number, "type": "request", "command": command, "arguments": arguments}).encode()
        file.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        file.flush()

    def wait(kind: str, name: str) -> dict[str, Any]:
        """The event of that name, or the response to that command."""
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += (byte := file.read(1))
                assert byte, "the debugger has gone"
            message = json.loads(file.read(int(head.split(b":")[1])))
            assert message.get("success", True), message
            if message["type"] == kind and name == message.get("event" if kind == "event" else "command"):
                return message.get("body") or {}

    with sock, file:
        send("initialize", adapterID="tests", clientID="tests")
        wait("response", "initialize")
        send("attach", connect={"host": "127.0.0.1", "port": port})
        wait("event", "initialized")
        send("setBreakpoints", source={"path": str(path)}, breakpoints=[{"line": 2}])
        wait("response", "setBreakpoints")
        send("configurationDone")
        thread = wait("event", "stopped")["threadId"]
        send("stackTrace", threadId=thread)
        frame = wait("response", "stackTrace")["stackFrames"][0]
        assert frame["line"] == 2
        send("evaluate", expression="answer", frameId=frame["id"])
        assert wait("response", "evaluate")["result"] == "42"
        send("continue", threadId=thread)
        wait("event", "terminated")


def _connected(port: int) -> socket.socket:
    """A connection to a debugger, which speaks first. It is reset while that does not listen yet."""
    end = time.monotonic() + 20
    while True:
        sock = socket.socket()
        sock.settimeout(20)
        try:
            sock.connect(("127.0.0.1", port))
            assert sock.recv(1, socket.MSG_PEEK)
            return sock
        except ConnectionResetError:
            sock.close()
            assert time.monotonic() < end, "the debugger does not listen"
            time.sleep(0.1)
