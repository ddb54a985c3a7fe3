"""What is measured: each subject is started on loopback in front of the same origin, with nothing but public packages.

bare        a Tornado RequestHandler that answers 1 KiB itself: what a request costs before any proxying
portproxy   this project in a Jupyter server, authenticating every request
uvloop      the same with uvloop as the event loop
jsp         jupyter-server-proxy in a Jupyter server, authenticating every request
chp, hp3    configurable-http-proxy and http-proxy-3 (Node); nginx. These three authenticate nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

TOKEN = "benchmark"
HERE = Path(__file__).resolve().parent
NAMES = ["bare", "portproxy", "uvloop", "jsp", "chp", "hp3", "nginx"]

_BARE = """
import asyncio, logging, sys
from tornado.web import Application, RequestHandler
logging.getLogger("tornado.access").setLevel(logging.WARNING)
class Handler(RequestHandler):
    def get(self):
        self.finish(bytes(1024))
async def main():
    Application([("/.*", Handler)]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()
asyncio.run(main())
"""
_HP3 = """
import { Agent, createServer } from "node:http";
import { createProxyServer } from "http-proxy-3";
const [port, origin] = process.argv.slice(2);
const target = `http://127.0.0.1:${origin}`;
const proxy = createProxyServer({ target, ws: true, agent: new Agent({ keepAlive: true }) });
proxy.on("error", () => {});
const server = createServer((req, res) => proxy.web(req, res));
server.on("upgrade", (req, socket, head) => proxy.ws(req, socket, head));
server.listen(Number(port), "127.0.0.1");
"""
_NGINX = """
daemon off; pid {dir}/nginx.pid; error_log {dir}/nginx.err; worker_processes 1;
events {{ worker_connections 32768; }}
http {{
  access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;
  fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  keepalive_requests 1000000; client_max_body_size 0;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; keepalive_requests 1000000; }}
  map $http_upgrade $conn {{ default upgrade; '' ''; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $conn; proxy_read_timeout 1h;
    }}
  }}
}}
"""


@dataclass(eq=False)
class Subject:
    """A running subject: `prefix` leads to the origin, which listens on the port `origin`."""

    name: str
    port: int
    prefix: str
    process: subprocess.Popen[bytes]
    origin: int

    @property
    def is_jupyter(self) -> bool:
        return self.name in ("portproxy", "uvloop", "jsp")

    @property
    def relays(self) -> bool:
        return self.name != "bare"

    def cpu(self) -> float:
        """Seconds of CPU so far, with its workers'. From the clock of each process, as cpu_times() counts in steps of 10 ms."""
        return sum(time.clock_gettime((~process.pid << 3) | 2) for process in self._tree())  # clock_getcpuclockid(3)

    def memory(self) -> int:
        """Resident bytes, with its workers'."""
        return sum(process.memory_info().rss for process in self._tree())

    def descriptors(self) -> int:
        """How many it may have."""
        limit = psutil.Process(self.process.pid).rlimit(psutil.RLIMIT_NOFILE)[0]
        return 1 << 20 if limit == psutil.RLIM_INFINITY else int(limit)

    def head(self, method: str, path: str, fields: str = "", *, whole: bool = False) -> bytes:
        target = path if whole else self.prefix + path
        lines = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAuthorization: token {TOKEN}\r\n"
        accept = "" if "Accept:" in fields else "Accept: */*\r\n"
        return f"{lines}User-Agent: benchmark\r\n{accept}{fields}\r\n".encode()

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(8)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _tree(self) -> list[psutil.Process]:
        process = psutil.Process(self.process.pid)
        if self.is_jupyter:  # its children are programs that it asks for their version as it starts
            return [process]
        return [process, *process.children(recursive=True)]


def free_port() -> int:
    """A free port within the range that this project allows by default."""
    for port in range(10100, 20000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port between 10100 and 20000")


def start_origin(work: Path) -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    process = run_in([sys.executable, str(HERE / "origin.py"), str(port)], work, "origin")
    wait_for(port, work / "origin.log")
    return process, port


def start_many(count: int) -> subprocess.Popen[bytes]:
    """So many services that answer one page each, in one process."""
    program = [sys.executable, str(HERE / "origin.py"), "--many", str(count)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE)
    assert process.stdout is not None  # it is a pipe
    with process.stdout:
        process.stdout.readline()
    return process


def start(name: str, origin: int, work: Path, cache: Path) -> Subject:
    """Start a subject; what it needs is installed into `cache` the first time.

    Raises:
        RuntimeError: it does not come up, or a program that it needs is missing.
    """
    port, folder = free_port(), work / name
    folder.mkdir(parents=True, exist_ok=True)
    command, prefix = _command(name, port, origin, folder, cache)
    subject = Subject(name, port, prefix, run_in(command, folder, name), origin)
    try:
        wait_for(port, folder / f"{name}.log")
    except RuntimeError:
        subject.stop()
        raise
    return subject


def _command(name: str, port: int, origin: int, folder: Path, cache: Path) -> tuple[list[str], str]:
    if name == "bare":
        return [sys.executable, "-c", _BARE, str(port)], ""
    if name == "nginx":
        (folder / "nginx.conf").write_text(_NGINX.format(dir=folder, origin=origin, port=port))
        return [_program("nginx"), "-c", str(folder / "nginx.conf")], ""
    if name == "hp3":
        folder = _node_package("http-proxy-3", cache)
        (folder / "server.mjs").write_text(_HP3)
        return [_program("node"), str(folder / "server.mjs"), str(port), str(origin)], ""
    if name == "chp":
        program = (
            _node_package("configurable-http-proxy", cache) / "node_modules/configurable-http-proxy/bin/configurable-http-proxy"
        )
        own = ["--port", str(port), "--api-port", str(port + 1), "--default-target", f"http://127.0.0.1:{origin}"]
        return [_program("node"), str(program), "--ip", "127.0.0.1", "--api-ip", "127.0.0.1", "--log-level", "error", *own], ""
    python, prefix = sys.executable, f"/proxy/port/{origin}"
    if name == "jsp":
        python, prefix = _python_with("jupyter-server-proxy", cache / "jsp"), f"/proxy/{origin}"
    lines = "import asyncio, uvloop\nasyncio.set_event_loop_policy(uvloop.EventLoopPolicy())\n" if name == "uvloop" else ""
    (folder / "config.py").write_text(lines)
    options = [
        f"--ServerApp.port={port}",
        f"--IdentityProvider.token={TOKEN}",
        f"--config={folder / 'config.py'}",
        "--log-level=WARN",
    ]
    return [python, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", *options], prefix


def run_in(command: list[str], folder: Path, name: str) -> subprocess.Popen[bytes]:
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith("JUPYTER") and not key.lower().endswith("_proxy")
    }
    variables = {**kept, "HOME": str(folder), "JUPYTER_PLATFORM_DIRS": "0"}
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=variables, cwd=folder, start_new_session=True)


def wait_for(port: int, log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"nothing listens on port {port}: {log.read_text(errors='replace')[-500:]}")


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        raise RuntimeError(f"the program {name} is missing")
    return found


def _node_package(name: str, cache: Path) -> Path:
    folder = cache / name
    if not (folder / "node_modules" / name).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        subprocess.run([_program("npm"), "install", "--silent", "--no-audit", "--no-fund", name], cwd=folder, check=True)
    return folder


def _python_with(package: str, folder: Path) -> str:
    python = folder / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "jupyter_server", package], check=True)
    return str(python)
