"""The measurements, one function for each: subject -> figures by name. Units are in the names.

A figure that depends on the machine is measured for every subject of one run, so that ratios can be compared.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable

from load import Connection, download, echo, requests, requests_over, upload, websocket
from subjects import Subject, start_many

Figures = dict[str, float]
MB = 1e6


async def get(subject: Subject, scale: float) -> Figures:
    """1 KiB: CPU per request at 8 connections, time of one at 1, requests per second at 16."""
    request = subject.head("GET", "/1024")
    await requests(subject, request, 1024, 8, 400)
    cost = []
    for _ in range(5):  # the cheapest of five: others on this machine only ever add to it
        total = max(80, int(1600 * scale))
        before = subject.cpu()
        await requests(subject, request, 1024, 8, total)
        cost.append((subject.cpu() - before) / total * 1e6)
    alone = await requests(subject, request, 1024, 1, int(1000 * scale))
    many = await requests(subject, request, 1024, 16, int(4000 * scale))
    return {
        "GET: CPU us/request": min(cost),
        "GET: us at 1 connection, median": statistics.median(alone.each) * 1e6,
        "GET: requests/s at 16 connections": len(many.each) / many.took,
    }


async def page(subject: Subject, scale: float) -> Figures:
    """A page of 200 files of 4 KiB over 6 connections, as a browser loads it."""
    request = subject.head("GET", "/4096") if subject.relays else subject.head("GET", "/")
    taken = [(await requests(subject, request, None, 6, 198)).took for _ in range(max(3, int(7 * scale)))]
    return {"page of 200 files: ms": statistics.median(taken) * 1e3}


async def transfer(subject: Subject, scale: float) -> Figures:
    """One download and one upload."""
    if not subject.relays:
        return {}
    size = int((1 << 30) * scale)
    figures: Figures = {}
    for name, way in ("download", download), ("upload", upload):
        try:
            before, cpu, begin = subject.memory(), subject.cpu(), time.perf_counter()
            await asyncio.wait_for(way(subject, size), 120)
        except (OSError, RuntimeError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            continue  # it cannot carry that much: no figure
        figures[f"{name}: MB/s"] = size / MB / (time.perf_counter() - begin)
        figures[f"{name}: CPU s/GB"] = (subject.cpu() - cpu) / (size / 1e9)
        figures[f"{name}: MB more memory"] = max(0.0, (subject.memory() - before) / MB)
    return figures


async def tunnels(subject: Subject, scale: float) -> Figures:
    """WebSocket echo over 32 tunnels."""
    if not subject.relays:
        return {}
    open_ = [await websocket(subject) for _ in range(32)]
    times = int(400 * scale)
    await asyncio.gather(*(echo(tunnel, 20) for tunnel in open_))
    cpu, begin = subject.cpu(), time.perf_counter()
    await asyncio.gather(*(echo(tunnel, times) for tunnel in open_))
    took, used = time.perf_counter() - begin, subject.cpu() - cpu
    for tunnel in open_:
        tunnel.close()
    return {"WebSocket: round trips/s": 32 * times / took, "WebSocket: CPU us/round trip": used / (32 * times) * 1e6}


async def events(subject: Subject, scale: float) -> Figures:
    """How long an event of a stream is on its way, and how many times that is as long as straight from the origin, by turns."""
    if not subject.relays:
        return {}
    path, fields = "/events", "Accept: text/event-stream\r\n"
    straight = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{subject.origin}\r\n{fields}\r\n".encode()
    late: list[float] = []
    direct: list[float] = []
    for _ in range(5):
        late += await _late(await Connection.open(subject), subject.head("GET", path, fields), int(40 * scale))
        direct += await _late(await Connection.to(subject.origin), straight, int(40 * scale))
    median = statistics.median(late)
    return {
        "event stream: us on the way, median": median,
        "event stream: of straight from the origin": median / statistics.median(direct),
    }


async def _late(connection: Connection, request: bytes, count: int) -> list[float]:
    """Microseconds from the origin to here, of so many events."""
    connection.writer.write(request)
    status, fields = await connection.head()
    if status != 200:
        raise RuntimeError(f"status {status}")
    text, late = b"", []
    async for piece in connection.pieces(fields):
        now = time.monotonic_ns()
        *whole, text = (text + piece).split(b"\n\n")
        late += [(now - int(event.removeprefix(b"data: "))) / 1e3 for event in whole]
        if len(late) >= count:
            break
    connection.close()
    return late


async def idle(subject: Subject, scale: float) -> Figures:
    """Memory of open tunnels on which nothing happens: few, and as many as this machine has descriptors for, at most 10,000."""
    if not subject.relays:
        return {}
    figures: Figures = {}
    for tunnel in [await websocket(subject) for _ in range(50)]:
        tunnel.close()
    before, open_ = subject.memory(), []
    most = min(10_000, subject.descriptors() // 2 - 500)  # a tunnel takes two
    for name, count in ("1,000", int(1000 * scale)), ("10,000", int(most * scale)):
        open_ += [await websocket(subject) for _ in range(count - len(open_))]
        figures[f"{name} idle tunnels: KB each"] = max(0.0, (subject.memory() - before) / len(open_) / 1e3)
    for tunnel in open_:
        tunnel.close()
    return figures


async def listing(subject: Subject, scale: float) -> Figures:
    """`GET proxy/api/ports` with 2,000 services that speak HTTP: the first time, when each is asked for its title, and later."""
    if subject.name not in ("portproxy", "uvloop"):
        return {}
    count, path = int(2000 * scale), "/proxy/api/ports"
    process = start_many(count)
    try:
        connection, taken = await Connection.open(subject, limit=1 << 24), []
        found = 0
        for _ in range(6):
            begin = time.perf_counter()
            listed = await connection.ask(subject.head("GET", path, whole=True))
            taken.append((time.perf_counter() - begin) * 1e3)
            found = sum(1 for port in json.loads(listed) if port["http"])
            await asyncio.sleep(1.1)  # two that ask within a second get the same list
        if found < count:
            raise RuntimeError(f"{found} of {count} services are listed as HTTP")
        connection.close()
    finally:
        process.kill()
        process.wait()
    return {"list of 2,000 services, first: ms": taken[0], "list of 2,000 services, later: ms": min(taken[1:])}


async def fair(subject: Subject, scale: float) -> Figures:
    """The server's own GET /api/status while 4 downloads, 4 uploads and 100 tunnels run."""
    if not subject.is_jupyter:
        return {}
    busy = [asyncio.ensure_future(_again(lambda: download(subject, 64 << 20))) for _ in range(4)]
    if subject.name != "jsp":  # it holds uploads whole and refuses what is larger than 100 MB
        busy += [asyncio.ensure_future(_again(lambda: upload(subject, 64 << 20))) for _ in range(4)]
    busy += [asyncio.ensure_future(_chat(subject)) for _ in range(100)]
    try:
        await asyncio.sleep(1)
        request = subject.head("GET", "/api/status", whole=True)
        timing = await requests(subject, request, None, 1, int(400 * scale))
    finally:
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
    each = sorted(timing.each)
    return {
        "busy: /api/status ms, 99 %": each[int(len(each) * 0.99)] * 1e3,
        "busy: /api/status ms, median": statistics.median(each) * 1e3,
    }


async def _again(what: Callable[[], Awaitable[None]]) -> None:
    while True:
        await what()


async def _chat(subject: Subject) -> None:
    tunnel = await websocket(subject)
    while True:
        await echo(tunnel, 1)
        await asyncio.sleep(0.1)


async def growth(subject: Subject, scale: float) -> Figures:
    """Whether cost stays the same with many connections: CPU per request at 10, 100 and 1,000."""
    if not subject.relays:
        return {}
    figures, request = {}, subject.head("GET", "/1024")
    for connections in 10, 100, 1000:
        total = max(2 * connections, int(5000 * scale))
        open_ = [await Connection.open(subject) for _ in range(connections)]
        await requests_over(open_, request, 1024, connections)
        cpu = subject.cpu()
        await requests_over(open_, request, 1024, total)
        for connection in open_:
            connection.close()
        figures[f"GET at {connections} connections: CPU us/request"] = (subject.cpu() - cpu) / total * 1e6
    return figures


async def slow_readers(subject: Subject, scale: float) -> Figures:
    """Memory of downloads whose clients do not read."""
    if not subject.relays or subject.name == "jsp":  # which holds an answer whole before it sends any of it
        return {}
    count, before, held = int(1000 * scale), subject.memory(), []
    for _ in range(count):
        connection = await Connection.open(subject, limit=1 << 12)
        connection.writer.write(subject.head("GET", f"/{64 << 20}"))
        await connection.head()
        held.append(connection)
    await asyncio.sleep(2)
    after = subject.memory()
    for connection in held:
        connection.writer.transport.abort()
    return {"slow reader: KB": max(0.0, (after - before) / count / 1e3)}


ALL: dict[str, Callable[[Subject, float], Awaitable[Figures]]] = {
    "get": get,
    "page": page,
    "transfer": transfer,
    "tunnels": tunnels,
    "events": events,
    "fair": fair,
    "growth": growth,
    "idle": idle,
    "slow": slow_readers,
    "listing": listing,
}
OF_MEMORY = ("idle", "slow")
