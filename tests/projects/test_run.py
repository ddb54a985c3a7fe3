"""`jupyter portproxy run-project`: real servers, which end with it, however it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from jupyter_portproxy.projects.registry.leases import RegisteredProject, Registry

from ..support.jupyter_processes import TOKEN, environment, portproxy
from ..support.upstreams import free_port

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="projects are run on POSIX systems"),
    pytest.mark.timeout(120),
]
# A bare server starts in half the time.
CONFIG = {"ServerApp": {"jpserver_extensions": dict.fromkeys(("jupyterlab", "jupyter_lsp", "notebook"), False)}}


@dataclass
class Host:
    """A host with its registry, and what runs on it."""

    home: Path
    runs: list[subprocess.Popen[str]]

    @property
    def path(self) -> Path:
        return self.home / "registry.sqlite"

    def start(self, key: str, *arguments: str, **more: str) -> subprocess.Popen[str]:
        variables = {"PORTPROXY_REGISTRY": str(self.path), "PORTPROXY_PLACEMENT": "postgresql://u:geheim@h/x", **more}
        command = [sys.executable, "-m", "jupyter_portproxy.cli.main", "run-project", key, *arguments]
        with (self.home / "log").open("a") as log:
            process = subprocess.Popen(
                command, env=environment(self.home, variables), cwd=self.home, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.runs.append(process)
        return process

    @property
    def log(self) -> str:
        return (self.home / "log").read_text()

    def ask(self, work):
        """What `work` makes of the registry."""
        registry = Registry(self.path)
        try:
            return work(registry)
        finally:
            asyncio.run(registry.close())

    def listed(self) -> list[RegisteredProject]:
        return self.ask(lambda registry: registry.list())

    def secret(self, key: str) -> str:
        return self.ask(lambda registry: asyncio.run(registry.resolve(key, None)).credential)


@pytest.fixture
def host(tmp_path, jp_asyncio_loop):
    (tmp_path / ".jupyter").mkdir()
    (tmp_path / ".jupyter" / "jupyter_server_config.json").write_text(json.dumps(CONFIG))
    made = Host(tmp_path, [])
    yield made
    for process in made.runs:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def get(url: str, token: str | None) -> int:
    fields = {"Authorization": f"token {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=fields), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def left(processes: list[psutil.Process], seconds: float = 15) -> list[psutil.Process]:
    alive = psutil.wait_procs(processes, timeout=seconds)[1]
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(("how", "base"), [(signal.SIGTERM, "/"), (signal.SIGINT, "/services/projects/")])
def test_a_project_comes_up_and_ends_with_its_command(host, how, base):
    below = ("--base-url", base) if base != "/" else ()
    process = host.start("p1", "--json", "--ports", "44000-44999", *below, "--", "--ServerApp.log_level=DEBUG")
    printed = json.loads("".join(process.stdout.readline() for _ in range(6)))
    (row,) = host.listed()
    assert (row.key, row.state, row.http_port, row.pid) == ("p1", "running", printed["port"], printed["pid"])
    assert printed["address"] == f"http://127.0.0.1:{printed['port']}{base}p1/" and 44000 <= printed["port"] <= 44999
    secret = host.secret("p1")
    assert get(f"{printed['address']}api", secret) == get(f"{printed['address']}api/status", secret) == 200
    outside = free_port(range(21000, 29000))
    assert get(f"{printed['address']}proxy/port/{outside}/", secret) == 502, "nothing listens there; the port is not refused"
    assert get(f"{printed['address']}api/status", TOKEN) == get(f"{printed['address']}api/status", None) == 403
    processes = family(process)
    server = psutil.Process(printed["pid"])
    assert server in processes and "--ServerApp.log_level=DEBUG" in server.cmdline()
    for one in [*processes, psutil.Process(process.pid)]:
        assert secret not in " ".join(one.cmdline())
    assert "geheim" not in str(server.environ()) and secret not in host.log
    assert portproxy(host.home, "run-project", "p1", "--registry", str(host.path)) == (
        1, "", "The project 'p1' is running already.\nStop it first.\n"
    )  # fmt: skip
    process.send_signal(how)
    assert process.wait(20) == 0
    assert [(row.state, row.http_port, row.pid) for row in host.listed()] == [("stopped", None, None)]
    assert left(processes) == []


def test_its_own_end_by_force_is_the_projects_end(host):
    process = host.start("p1")
    assert process.stdout.readline().endswith("/p1/\n")
    processes, pid = family(process), host.listed()[0].pid
    assert pid in [one.pid for one in processes]
    process.kill()
    process.wait()
    assert left(processes) == []
    assert host.listed()[0].state == "stopped"
    assert host.start("p1").stdout.readline().endswith("/p1/\n"), "and it can be started again"


def test_a_server_that_ends_ends_the_project(host):
    process = host.start("p1")
    url = process.stdout.readline().strip()
    fields = {"Authorization": f"token {host.secret('p1')}"}
    urllib.request.urlopen(urllib.request.Request(f"{url}api/shutdown", b"", fields, method="POST"), timeout=10).close()
    assert process.wait(20) == 0
    assert host.listed()[0].state == "stopped"
    killed = host.start("p1")
    assert killed.stdout.readline().endswith("/p1/\n")
    psutil.Process(host.listed()[0].pid).kill()
    assert killed.wait(20) == 137


def test_a_signal_while_it_starts_ends_it(host):
    process = host.start("p1")
    end = time.monotonic() + 20
    while not host.path.exists() or not host.listed() or host.listed()[0].http_port is None:
        assert time.monotonic() < end
        time.sleep(0.05)
    row = host.listed()[0]
    assert (row.state, row.pid) == ("starting", process.pid)
    processes = family(process)
    process.terminate()
    process.wait(20)
    assert host.listed()[0].state == "stopped" and left(processes) == [] and process.stdout.read() == ""


class Squatter(threading.Thread):
    """Listens on the ports that a starting project is given, at most `most` of them."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__()
        self.path, self.most, self.taken, self.over = path, most, [], threading.Event()

    def run(self) -> None:
        while not self.over.is_set() and len(self.taken) < self.most:
            for port in self._ports():
                if port not in [listener.getsockname()[1] for listener in self.taken]:
                    self.taken.append(socket.create_server(("127.0.0.1", port)))
            time.sleep(0.01)

    def _ports(self) -> list[int]:
        try:
            with sqlite3.connect(self.path) as db:
                rows = db.execute("select http_port from projects where state = 'starting' and http_port is not null").fetchall()
            db.close()
        except sqlite3.Error:
            return []
        return [port for (port,) in rows]


@pytest.fixture
def squat(host):
    made = []

    def start(most: int) -> Squatter:
        host.ask(lambda registry: registry.lease_port("other", [range(9_000, 10_000)]))  # makes the file
        made.append(Squatter(host.path, most))
        made[-1].start()
        return made[-1]

    yield start
    for thread in made:
        thread.over.set()
        thread.join()
        for listener in thread.taken:
            listener.close()


def test_a_port_that_is_taken_meanwhile_is_another_port(host, squat):
    squatter = squat(1)
    address = host.start("p1").stdout.readline().strip()
    (taken,) = [listener.getsockname()[1] for listener in squatter.taken]
    assert address.endswith("/p1/") and f":{taken}/" not in address
    assert host.listed()[0].state == "running"


def test_after_three_taken_ports_it_gives_up(host, squat):
    squatter = squat(99)
    process = host.start("p1")
    assert process.wait(90) == 1
    assert "The project 'p1' was not started: 3 ports were taken by others meanwhile.\n" in host.log
    assert len(squatter.taken) == 3 and host.listed()[0].state == "stopped"


def test_a_server_that_cannot_start_is_an_error(host):
    process = host.start("p1", "--", "--ServerApp.port=nonsense")
    assert process.wait(30) == 1
    assert "The server of 'p1' ended with exit code 1 before it answered.\n" in host.log
    assert host.listed()[0].state == "stopped"


def test_a_token_of_its_configuration_is_no_login_of_a_project(host):
    process = host.start("p1", "--json", "--", "--IdentityProvider.token=other", "--PasswordIdentityProvider.hashed_password=x")
    printed = json.loads("".join(process.stdout.readline() for _ in range(6)))
    status = f"{printed['address']}api/status"
    assert (get(status, host.secret("p1")), get(status, "other"), get(status, "")) == (200, 403, 403)


def test_a_server_that_refuses_its_project_host_is_an_error(host):
    process = host.start("p1", "--", "--ServerApp.authorizer_class=jupyter_portproxy.auth.ProjectsOnly")
    assert process.wait(30) == 1
    assert "The server refuses the project host: its authorizer must allow it to read the status.\n" in host.log
    assert host.listed()[0].state == "stopped"
