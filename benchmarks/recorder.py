"""What recording costs: a server with its recorder off and on by turns, and, if given, a checkout of before.

    python benchmarks/recorder.py                         some minutes; prints the ratios
    python benchmarks/recorder.py --before ../old-clone   the recorder of this clone, off, against a clone without it

Each row has a Jupyter server in a process of its own, whose recorder is taken off and set again in many short rounds; two
processes of one program differ by more than a recording costs, and so does one process with the machine's other work. A
difference is that of two neighbouring rounds; the median of all counts, with its standard error. CPU is that of a GET of 1 KiB at
eight connections. "watched" has a client that reads the event stream, as the panel and `watch` do; "recording" is the time after
the last one has left. These requests come faster than the recorder's limit, so that it leaves some out; "each request" has no
limit.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import statistics
import sys
import tempfile
import urllib.request
from pathlib import Path

from load import requests
from subjects import TOKEN, Subject, free_port, run_in, start_origin, wait_for

ROUND, BEFORE_ROUND = 120, 8  # requests, and others before them that are not measured
RECORDING, WATCHED, EACH, BEFORE = "recording", "watched", "each request", "a version without a recorder"
NO_LIMIT = "from jupyter_portproxy.diagnose import recorder\nrecorder.MAX_RATE = 1e12\n"
# Jupyter has its own handler of SIGUSR1. No requests are saved up while the recorder is off; what waits is recorded by RECORD.
OFF, ON, RECORD = signal.SIGRTMIN, signal.SIGRTMIN + 1, signal.SIGRTMIN + 2
SWITCH = f"""
import gc, signal, time
from jupyter_portproxy.diagnose.recorder import Recorder
recorders, since = [], [0.0]

def switch(number, frame):
    if not recorders:
        recorders.extend(each for each in gc.get_objects() if type(each) is Recorder)
    recorder, now, is_on = recorders[0], time.monotonic(), number == {ON}
    for recording in recorder._recordings.values() if is_on and since[0] else ():
        recording._allowed_at += now - since[0]
    since[0] = 0.0 if is_on else since[0] or now
    recorder._set_observer(recorder if is_on else None)

signal.signal({OFF}, switch)
signal.signal({ON}, switch)
signal.signal({RECORD}, lambda number, frame: [recorder._record_all() for recorder in recorders])
"""
# By a server's name, with its recorder off and on: microseconds of CPU for a GET by a program, and for one with a browser's
# fields, of each round.
Figures = dict[str, tuple[list[list[float]], list[list[float]]]]
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
    parser.add_argument("--rounds", type=int, default=250, help="of each server, off and on")
    parser.add_argument("--before", type=Path, help="a clone without the recorder")
    options = parser.parse_args()
    print(table(measure_all([RECORDING, WATCHED, EACH, *([BEFORE] if options.before else [])], options.before, options.rounds)))


def measure_all(names: list[str], before: Path | None, rounds: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        process, origin = start_origin(Path(folder))
        servers: dict[str, Subject] = {}
        try:
            for name in names:
                servers[name] = start(name, origin, Path(folder) / name.replace(" ", "-"), before)
            return asyncio.run(measure(servers, rounds))
        finally:
            for subject in servers.values():
                subject.stop()
            process.kill()


def start(name: str, origin: int, folder: Path, before: Path | None) -> Subject:
    port = free_port()
    folder.mkdir()
    preamble = f"import sys\nsys.path.insert(0, {str(before.resolve())!r})\n" if name == BEFORE and before is not None else ""
    preamble += SWITCH if name != BEFORE else f"import signal\nsignal.signal({RECORD}, signal.SIG_IGN)\n"
    preamble += NO_LIMIT if name == EACH else ""
    (folder / "server.py").write_text(f"{preamble}import sys\nfrom jupyter_server.serverapp import main\nmain(sys.argv[1:])\n")
    options = [f"--ServerApp.port={port}", f"--IdentityProvider.token={TOKEN}", "--ServerApp.ip=127.0.0.1", "--log-level=WARN"]
    command = [sys.executable, str(folder / "server.py"), "--no-browser", "--allow-root", *options]
    subject = Subject("portproxy", port, f"/proxy/port/{origin}", run_in(command, folder, "server"), origin)
    wait_for(port, folder / "server.log")
    return subject


async def measure(servers: dict[str, Subject], rounds: int) -> Figures:
    figures: Figures = {name: ([[], []], [[], []]) for name in servers}
    async with contextlib.AsyncExitStack() as stack:
        for name, subject in servers.items():
            if name != BEFORE:
                watch = await stack.enter_async_context(watching(subject))
                if name != WATCHED:
                    watch.cancel()
            await measure_one(subject, "")
            if name != BEFORE:
                await check_switch(subject)
        for number in range(rounds):
            for name, subject in servers.items():
                for place, fields in enumerate(("", BROWSER)):
                    for is_on in (False, True) if number % 2 else (True, False):
                        one = servers[RECORDING] if name == BEFORE and not is_on else subject
                        if one is not servers.get(BEFORE):
                            one.process.send_signal(ON if is_on else OFF)
                        figures[name][is_on][place].append(await measure_one(one, fields))
                        if one is not servers.get(BEFORE):
                            one.process.send_signal(OFF)
    return figures


async def check_switch(subject: Subject) -> None:
    """Raise RuntimeError unless requests are recorded while the recorder is on, and only then."""
    for is_on in (False, True):
        subject.process.send_signal(ON if is_on else OFF)
        await measure_one(subject, "")
        await asyncio.to_thread(call, subject, "DELETE")
        await measure_one(subject, "")
        if bool(await asyncio.to_thread(call, subject, "GET")) != is_on:
            raise RuntimeError("the recorder is not taken off and set again")


def call(subject: Subject, method: str) -> list[object]:
    """The exchanges of the origin's port, or DELETE them."""
    url = f"http://127.0.0.1:{subject.port}/proxy/api/exchanges?target={subject.origin}"
    request = urllib.request.Request(url, method=method, headers={"Authorization": f"token {TOKEN}"})
    with urllib.request.urlopen(request) as response:
        return list(json.loads(response.read() or b"{}").get("exchanges", []))


async def measure_one(subject: Subject, fields: str) -> float:
    """Microseconds of CPU for a GET."""
    head = subject.head("GET", "/1024", fields)
    await requests(subject, head, 1024, 8, BEFORE_ROUND)
    before = subject.cpu()
    await requests(subject, head, 1024, 8, ROUND)
    subject.process.send_signal(RECORD)
    await requests(subject, head, 1024, 1, 1)  # in which the signal is handled
    return (subject.cpu() - before) / (ROUND + 1) * 1e6


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


def table(figures: Figures) -> str:
    """Rows of Markdown; the differences are those to the recorder that is off."""
    columns = ["CPU of a GET: us", "", "with a browser's fields: us", ""]
    lines = [f"| Recorder | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    lines.append(f"| off | {' | '.join(f'{statistics.median(values):.0f} |' for values in figures[RECORDING][False])} |")
    for name, (off, on) in figures.items():
        cells = []
        for values, others in zip(on, off, strict=True):
            differences = [value / other - 1 for value, other in zip(values, others, strict=True)]
            lower, middle, upper = statistics.quantiles(differences, n=4)
            error = 1.2533 * (upper - lower) / 1.349 / len(differences) ** 0.5  # of the median, were they normally distributed
            cells.append(f"{statistics.median(values):.0f} | {middle:+.1%} ± {error:.1%}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
