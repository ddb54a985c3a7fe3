"""What each mechanism for speed saves: one server for each, with that mechanism off, and one with all of them on.

    python benchmarks/ablation.py               about two minutes; prints a table for docs/performance.md
    python benchmarks/ablation.py --rounds 3

Each server is a Jupyter server in a process of its own. The rounds go through all servers in turn, and the lowest figure of each
counts: other programs on the machine only add to it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from load import requests
from subjects import TOKEN, Subject, free_port, run_in, start_origin, wait_for

ALL_ON = "all on"
# Mechanism -> the lines that switch it off, run in the server's process before it starts.
SWITCHES = {
    ALL_ON: "",
    "cache of decisions": """
from jupyter_portproxy.handlers.decision_cache import DecisionCache
DecisionCache.find = lambda *arguments: None
""",
    "one timer for the heads of all connections": """
from jupyter_portproxy.handlers.header_timeout import HeaderTimeout
HeaderTimeout.mount = lambda self, server: None
""",
    "epoll registrations kept between requests": """
from jupyter_portproxy.upstream.curl import CurlTransport
initialize = CurlTransport.initialize
CurlTransport.initialize = lambda self, **options: initialize(self, **{**options, "keep_registrations": False})
""",
    "header lines printed once per decision": """
from jupyter_portproxy.upstream.curl import CurlTransport
initialize = CurlTransport.initialize
CurlTransport.initialize = lambda self, **options: initialize(self, **{**options, "keep_header_lines": False})
""",
    "rules of field names cached": """
from jupyter_portproxy.protocol import framing, headers
framing.MAX_CACHED_LENGTH = headers.MAX_CACHED_LENGTH = 0
""",
}
_SERVER = "import sys\nfrom jupyter_server.serverapp import main\nmain(sys.argv[1:])\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each server")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, origin = start_origin(Path(folder))
        servers: dict[str, Subject] = {}
        try:
            for number, name in enumerate(SWITCHES):
                servers[name] = start(name, origin, Path(folder) / str(number))
            figures = asyncio.run(measure(servers, options.rounds))
        finally:
            for subject in servers.values():
                subject.stop()
            process.kill()
    print(table(figures))


def start(name: str, origin: int, folder: Path) -> Subject:
    """Start a Jupyter server with that mechanism off."""
    port = free_port()
    folder.mkdir()
    (folder / "server.py").write_text(SWITCHES[name] + _SERVER)
    options = [f"--ServerApp.port={port}", f"--IdentityProvider.token={TOKEN}", "--ServerApp.ip=127.0.0.1", "--log-level=WARN"]
    command = [sys.executable, str(folder / "server.py"), "--no-browser", "--allow-root", *options]
    subject = Subject("portproxy", port, f"/proxy/port/{origin}", run_in(command, folder, "server"), origin)
    wait_for(port, folder / "server.log")
    return subject


async def measure(servers: dict[str, Subject], rounds: int, total: int = 1600) -> dict[str, tuple[float, float]]:
    """By name: microseconds of CPU for a GET of 1 KiB, and milliseconds for a page of 200 files."""
    cpu: dict[str, list[float]] = {name: [] for name in servers}
    page: dict[str, list[float]] = {name: [] for name in servers}
    for subject in servers.values():
        await requests(subject, subject.head("GET", "/1024"), 1024, 8, 400)
    for _ in range(rounds):
        for name, subject in servers.items():
            before = subject.cpu()
            await requests(subject, subject.head("GET", "/1024"), 1024, 8, total)
            cpu[name].append((subject.cpu() - before) / total * 1e6)
            page[name].append((await requests(subject, subject.head("GET", "/4096"), None, 6, 198)).took * 1e3)
    return {name: (min(cpu[name]), min(page[name])) for name in servers}


def table(figures: dict[str, tuple[float, float]]) -> str:
    """Rows of Markdown; the differences are those to the server with all mechanisms on."""
    base_cpu, base_page = figures[ALL_ON]
    lines = ["| Switched off | GET: CPU us/request | | page of 200 files: ms | |", "|---|---:|---:|---:|---:|"]
    for name, (cpu, page) in figures.items():
        first = "nothing" if name == ALL_ON else name
        lines.append(f"| {first} | {cpu:.0f} | {cpu / base_cpu - 1:+.0%} | {page:.1f} | {page / base_page - 1:+.0%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
