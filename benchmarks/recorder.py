"""What recording costs: the same server with the recorder off and on, and, if given, a checkout of before.

    python benchmarks/recorder.py                         some minutes; prints the ratios
    python benchmarks/recorder.py --before ../old-clone   the recorder of this clone, off, against a clone without it

Each server is a Jupyter server in a process of its own. The rounds go through all of them in turn, and the lowest figure of each
counts, as in ablation.py; of several starts of all servers, the median counts, as two processes of one program differ by some
percent. CPU is that of a GET of 1 KiB at eight connections, the time is that of one at one connection. "watched" has a client
that reads the event stream, as the panel and `watch` do; "recording" is the time after the last one has left. These requests come
faster than the recorder's limit, so that it leaves some out; "each request" has no limit.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
from pathlib import Path

from load import requests
from subjects import TOKEN, Subject, free_port, run_in, start_origin, wait_for

CPU_REQUESTS = 8000  # in a measurement: CPU is counted in steps of 10 ms
OFF, RECORDING, WATCHED, EACH, BEFORE = "off", "recording", "watched", "each request", "before"
NO_LIMIT = "from jupyter_portproxy.diagnose import recorder\nrecorder.MAX_RATE = float('inf')\n"
BROWSER = "".join(
    f"{line}\r\n"
    for line in (
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "Accept-Language: en-US,en;q=0.5",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Cookie: _xsrf=2|5a0e|4c7d0a; sid=0123456789abcdef; theme=dark",
        "Referer: http://127.0.0.1:8888/proxy/port/8050/index.html?page=3",
        "Sec-Fetch-Dest: script",
        "Sec-Fetch-Mode: no-cors",
        "Sec-Fetch-Site: same-origin",
        "Priority: u=1",
    )
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=3, help="of all servers")
    parser.add_argument("--rounds", type=int, default=4, help="measurements of each server after a start")
    parser.add_argument("--before", type=Path, help="a clone without the recorder")
    options = parser.parse_args()
    names = [OFF, RECORDING, WATCHED, EACH, *([BEFORE] if options.before else [])]
    print(table([measure_start(names, options.before, options.rounds) for _ in range(options.starts)]))


def measure_start(names: list[str], before: Path | None, rounds: int) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        process, origin = start_origin(Path(folder))
        servers: dict[str, Subject] = {}
        try:
            for name in names:
                servers[name] = start(name, origin, Path(folder) / name, before)
            return asyncio.run(measure(servers, rounds))
        finally:
            for subject in servers.values():
                subject.stop()
            process.kill()


def start(name: str, origin: int, folder: Path, before: Path | None) -> Subject:
    port = free_port()
    folder.mkdir()
    preamble = f"import sys\nsys.path.insert(0, {str(before.resolve())!r})\n" if name == BEFORE and before is not None else ""
    preamble += NO_LIMIT if name == EACH else ""
    (folder / "server.py").write_text(f"{preamble}import sys\nfrom jupyter_server.serverapp import main\nmain(sys.argv[1:])\n")
    options = [f"--ServerApp.port={port}", f"--IdentityProvider.token={TOKEN}", "--ServerApp.ip=127.0.0.1", "--log-level=WARN"]
    command = [sys.executable, str(folder / "server.py"), "--no-browser", "--allow-root", *options]
    subject = Subject("portproxy", port, f"/proxy/port/{origin}", run_in(command, folder, "server"), origin)
    wait_for(port, folder / "server.log")
    return subject


async def measure(servers: dict[str, Subject], rounds: int) -> dict[str, list[float]]:
    """By name: microseconds of CPU and of time for a GET by a program, and for one with the fields of a browser."""
    async with contextlib.AsyncExitStack() as stack:
        for name in (RECORDING, WATCHED, EACH):
            watch = await stack.enter_async_context(watching(servers[name]))
            if name != WATCHED:
                watch.cancel()
        figures: dict[str, list[list[float]]] = {name: [[], [], [], []] for name in servers}
        for subject in servers.values():
            await requests(subject, subject.head("GET", "/1024"), 1024, 8, 400)
        for _ in range(rounds):
            for name, subject in servers.items():
                for number, fields in enumerate(("", BROWSER)):
                    head, before = subject.head("GET", "/1024", fields), subject.cpu()
                    await requests(subject, head, 1024, 8, CPU_REQUESTS)
                    cpu = (subject.cpu() - before) / CPU_REQUESTS
                    timing = await requests(subject, head, 1024, 1, 300)
                    for place, seconds in ((2 * number, cpu), (2 * number + 1, statistics.median(timing.each))):
                        figures[name][place].append(seconds * 1e6)
    return {name: [min(each) for each in columns] for name, columns in figures.items()}


@contextlib.asynccontextmanager
async def watching(subject: Subject):  # type: ignore[no-untyped-def]
    """Opens the recording of the origin's port; the task reads the stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", subject.port)
    path = f"/proxy/api/exchanges/events?target={subject.origin}"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: token {TOKEN}\r\n\r\n".encode())
    await reader.readuntil(b"event: snapshot")

    async def read() -> None:
        try:
            while await reader.read(1 << 20):
                pass
        finally:
            writer.close()

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    try:
        yield task
    finally:
        task.cancel()


def table(starts: list[dict[str, list[float]]]) -> str:
    """Rows of Markdown; the differences are those to the recorder that is off."""
    columns = ["GET: CPU us", "", "GET: us", "", "with a browser's fields: CPU us", "", "us", ""]
    lines = [f"| Recorder | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    figures = {name: [statistics.median(start[name][place] for start in starts) for place in range(4)] for name in starts[0]}
    for name, each in figures.items():
        cells = [f"{value:.0f} | {value / off - 1:+.1%}" for value, off in zip(each, figures[OFF], strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
