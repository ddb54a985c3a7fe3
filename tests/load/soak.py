"""The soak: `python -m tests.load.soak SECONDS [SEED]`. Real clients, and upstreams that are killed, stopped and misbehave.

Invariants: a client gets the right bytes or an error that it can detect; an upstream has received what it has acknowledged; in
the end the server holds the same resources as at the start, and its log has no errors.

One upstream is steady: every request to it must succeed. The other one is the victim.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp
import psutil
from playwright.async_api import async_playwright
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from ..support.jupyter_processes import TOKEN, Server, debugged, jupyter_server
from ..support.upstreams import free_port
from .soak_upstream import blob, event

ROOT = Path(__file__).parents[2]
LOGIN = {"Authorization": f"token {TOKEN}"}
SIZES = [0, 1, 1000, 65536, 300_000, 3_000_000]
COMPLAINTS = r"Traceback|never retrieved|never awaited|was destroyed|Uncaught|Unclosed"
MEMORY = 40 << 20  # bytes that it may grow by, whatever the length of the soak
PATIENCE = 60


class Wrong(AssertionError):
    """What must never happen."""


class Target:
    """An upstream's process."""

    def __init__(self, home: Path, name: str) -> None:
        self.name, self.port, self.journal = name, free_port(range(10000, 20000, 2)), home / f"{name}.journal"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.load.soak_upstream", str(self.port), str(self.journal)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b"up\n":
            raise RuntimeError(f"the upstream {self.name} does not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Soak:
    """One run."""

    def __init__(self, server: Server, steady: Target, victim: Target, seed: int) -> None:
        self.server, self.steady, self.victim = server, steady, victim
        self.chance = random.Random(seed)
        self.base = server.url
        self.counts: Counter[str] = Counter()
        self.acknowledged: dict[str, tuple[str, int, str]] = {}
        self.memory: list[int] = []  # MiB
        self.next = 0
        self.until = 0.0

    def url(self, target: Target, path: str, websocket: bool = False) -> str:
        base = self.base.replace("http", "ws", 1) if websocket else self.base
        return f"{base}proxy/port/{target.port + websocket}/{path}"

    def pick(self) -> Target:
        return self.chance.choice([self.steady, self.victim])

    def ended(self, what: str, target: Target, well: bool, why: object = "") -> None:
        """Count an end; one that is not good is wrong on the steady upstream."""
        self.counts[f"{what} {'ok' if well else 'failed'}"] += 1
        if not well and target is self.steady:
            raise Wrong(f"{what} failed on the steady upstream: {why}")

    # ---- clients: each does one thing ----

    def asked_blob(self) -> tuple[str, bytes]:
        seed, size = self.chance.randrange(1000), self.chance.choice(SIZES)
        more = self.chance.choice(["", "&chunked=1", "&pause=0.01"])
        return f"blob?seed={seed}&size={size}{more}", blob(seed, size)

    async def get(self, session: aiohttp.ClientSession) -> None:
        """aiohttp: a download, at times read slowly."""
        target, (path, expected) = self.pick(), self.asked_blob()
        slow, got = self.chance.random() < 0.2, b""
        try:
            async with session.get(self.url(target, path)) as answer:
                status = answer.status
                async for piece in answer.content.iter_chunked(1 << 17):
                    got += piece
                    if slow:
                        await asyncio.sleep(0.02)
        except (aiohttp.ClientError, OSError) as error:
            return self.ended("get", target, False, error)
        if status == 200 and got != expected:
            raise Wrong(f"get {path}: {len(got)} bytes that look whole, {len(expected)} expected")
        self.ended("get", target, status == 200, status)

    async def cut(self, session: aiohttp.ClientSession) -> None:
        """An answer that its upstream cuts must not look whole."""
        how, framing = self.chance.choice(["end", "reset"]), self.chance.choice(["", "&chunked=1"])
        try:
            url = self.url(self.steady, f"blob?seed=7&size=500000&cut={how}{framing}")
            async with session.get(url) as answer:
                content = await answer.read()
                if answer.status == 200:
                    raise Wrong(f"a cut answer looks whole: {len(content)} bytes")
        except (aiohttp.ClientError, OSError):
            pass
        self.counts["cut seen"] += 1

    async def misbehave(self, session: aiohttp.ClientSession) -> None:
        """Upstreams that answer nonsense or nothing, and clients that lose patience."""
        path = self.chance.choice(["junk", "silence", "stall", "blob?seed=1&size=3000000&pause=0.1"])
        try:
            timeout = aiohttp.ClientTimeout(self.chance.random())
            async with session.get(self.url(self.pick(), path), timeout=timeout) as answer:
                await answer.read()
                if answer.status == 200 and path in ("junk", "silence"):
                    raise Wrong(f"{path} has become an answer")
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError):
            pass
        self.counts["misbehaved"] += 1

    async def put(self, session: aiohttp.ClientSession) -> None:
        """aiohttp: an upload; what was acknowledged is looked for in the journal at the end."""
        target, data, name = self.pick(), self.content(), self.name()
        method = self.chance.choice(["PUT", "POST"])

        async def pieces():
            for start in range(0, len(data), 50_000):
                yield data[start : start + 50_000]

        body = pieces() if self.chance.random() < 0.5 else data
        try:
            async with session.request(method, self.url(target, f"upload?id={name}"), data=body) as answer:
                response_text = await answer.text()
                status = answer.status
        except (aiohttp.ClientError, OSError) as error:
            return self.ended("put", target, False, error)
        if status == 200:
            self.acknowledge(target, name, data, response_text)
        self.ended("put", target, status == 200, f"{status} {response_text[:200]}")

    async def curl_get(self, session: aiohttp.ClientSession) -> None:
        target, (path, expected) = self.pick(), self.asked_blob()
        code, status, got = await self.curl(self.url(target, path))
        if code == 0 and status == 200 and got != expected:
            raise Wrong(f"curl {path}: {len(got)} bytes that look whole, {len(expected)} expected")
        self.ended("curl get", target, code == 0 and status == 200, f"exit {code}, {status}")

    async def curl_put(self, session: aiohttp.ClientSession) -> None:
        target, data, name = self.pick(), self.content(), self.name()
        code, status, got = await self.curl(self.url(target, f"upload?id={name}"), "-T", "-", given=data)
        if code == 0 and status == 200:
            self.acknowledge(target, name, data, got.decode())
        self.ended("curl put", target, code == 0 and status == 200, f"exit {code}, {status}")

    async def curl(self, url: str, *options: str, given: bytes = b"") -> tuple[int, int, bytes]:
        command = ["curl", "-sS", "-H", f"Authorization: token {TOKEN}", "-w", "%{stderr}%{http_code}", *options, url]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
        out, response_text = await process.communicate(given)
        return process.returncode, int(re.findall(rb"\d{3}\Z", response_text.strip())[0]), out

    async def events(self, session: aiohttp.ClientSession) -> None:
        """Server-sent events: none is missing, none is twice, and a clean end is the true end."""
        target, seed, count = self.pick(), self.chance.randrange(1000), self.chance.randrange(1, 100)
        text = b""
        try:
            async with session.get(self.url(target, f"events?seed={seed}&count={count}")) as answer:
                status = answer.status
                async for piece in answer.content.iter_any():
                    text += piece
            whole = status == 200
        except (aiohttp.ClientError, OSError) as error:
            status, whole = 200, False
            self.ended("events", target, False, error)
        if status == 200:
            got = re.findall(r"id: (\d+)\ndata: (\w+)\n\n", text.decode())
            if got != [(str(number), event(seed, number)) for number in range(count if whole else len(got))]:
                raise Wrong(f"events are missing or wrong: {len(got)} of {count}, whole: {whole}")
        if whole or status != 200:
            self.ended("events", target, whole, status)

    async def websocket(self, session: aiohttp.ClientSession) -> None:
        target, sent = self.pick(), 0
        try:
            async with connect(
                self.url(target, "", websocket=True), additional_headers=LOGIN, max_size=None, open_timeout=30
            ) as socket:
                for _ in range(self.chance.randrange(1, 40)):
                    message = self.chance.randbytes(self.chance.choice([0, 5, 200, 70_000]))
                    await socket.send(message)
                    if await socket.recv() != message:
                        raise Wrong("a WebSocket's message has come back changed")
                    sent += 1
                if self.chance.random() < 0.3:
                    socket.transport.abort()
        except (WebSocketException, OSError, EOFError) as error:
            return self.ended("websocket", target, False, error)
        self.counts["messages"] += sent
        self.ended("websocket", target, True)

    async def browser(self, page) -> None:
        """An EventSource in Chromium, across the victim's deaths: it comes back by itself, and sees no wrong event."""
        while time.monotonic() < self.until:
            target, seed, count = self.pick(), self.chance.randrange(1000), 50
            url = self.url(target, f"events?seed={seed}&count={count}")
            got = await page.evaluate(EVENT_SOURCE, [url, count])
            if got != [event(seed, number) for number in range(len(got))]:
                raise Wrong("an EventSource has seen wrong events")
            self.ended("EventSource", target, len(got) == count, len(got))

    # ---- what they share ----

    def content(self) -> bytes:
        return self.chance.randbytes(self.chance.choice(SIZES))

    def name(self) -> str:
        self.next += 1
        return f"u{self.next}"

    def acknowledge(self, target: Target, name: str, data: bytes, response_text: str) -> None:
        expected = hashlib.sha256(data).hexdigest()
        if response_text != expected:
            raise Wrong(f"upload {name}: another sum has been acknowledged")
        self.acknowledged[name] = (target.name, len(data), expected)

    async def torment(self) -> None:
        """Kill, stop and continue the victim."""
        while time.monotonic() < self.until:
            await asyncio.sleep(self.chance.uniform(0.5, 4))
            if self.chance.random() < 0.6:
                self.victim.kill()
                await asyncio.sleep(self.chance.random())
                await asyncio.to_thread(self.victim.start)
                self.counts["kills"] += 1
            else:
                self.victim.process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(self.chance.uniform(0.1, 2))
                self.victim.process.send_signal(signal.SIGCONT)
                self.counts["stops"] += 1

    async def watch(self) -> None:
        """How much memory the server has, ten times in a run."""
        process, pause = psutil.Process(self.server.process.pid), (self.until - time.monotonic()) / 10
        self.memory.clear()
        while time.monotonic() < self.until:
            self.memory.append(process.memory_info().rss >> 20)
            await asyncio.sleep(pause)

    async def work(self, session: aiohttp.ClientSession) -> None:
        kinds = [self.get] * 4 + [self.put] * 3 + [self.cut, self.misbehave, self.misbehave, self.events, self.websocket]
        kinds += [self.websocket, self.curl_get, self.curl_put]
        while time.monotonic() < self.until:
            await asyncio.wait_for(self.chance.choice(kinds)(session), PATIENCE)

    async def run(self, seconds: float, page, workers: int = 8) -> None:
        """All of it for a time; then all is closed."""
        self.until = time.monotonic() + seconds
        timeout = aiohttp.ClientTimeout(None)
        async with aiohttp.ClientSession(headers=LOGIN, timeout=timeout) as session:
            work = [self.torment(), self.browser(page), self.watch(), *(self.work(session) for _ in range(workers))]
            tasks = [asyncio.create_task(one) for one in work]
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in pending:
                task.cancel()
            await asyncio.wait(tasks)
            for task in done:
                task.result()

    def check_journals(self) -> None:
        took: dict[str, tuple[str, int, str]] = {}
        began: Counter[str] = Counter()
        for target in (self.steady, self.victim):
            for line in target.journal.read_text().splitlines():
                kind, name, *rest = line.split()
                if kind == "began":
                    began[name] += 1
                else:
                    took[name] = (target.name, int(rest[0]), rest[1])
        if lost := {name for name, taken in self.acknowledged.items() if took.get(name) != taken}:
            raise Wrong(f"acknowledged and lost: {sorted(lost)[:5]}")
        if twice := [name for name, times in began.items() if times > 1]:
            raise Wrong(f"uploads that were sent more than once: {twice[:5]}")

    async def state(self) -> dict:
        """What the server has open once it has come to rest: the smallest of what is seen within ten seconds."""
        end, seen = time.monotonic() + 10, {}
        while time.monotonic() < end:
            seen = json.loads((await asyncio.to_thread(self.server.get, "debug/state"))[1])
            if not seen["exchanges"] and not seen["tunnels"] and not any(seen["slots"]):
                await asyncio.sleep(1.5)  # kept-alive connections of clients that are gone
                return json.loads((await asyncio.to_thread(self.server.get, "debug/state"))[1])
            await asyncio.sleep(0.2)
        raise Wrong(f"something stays open: {seen}")


EVENT_SOURCE = """([url, count]) => new Promise(done => {
    const got = [], source = new EventSource(url);
    source.onmessage = message => { got.push(message.data); if (got.length == count) { source.close(); done(got); } };
    source.onerror = () => { source.close(); done(got); };
})"""


def compare(before: dict, after: dict) -> list[str]:
    """What has grown that may not."""
    grown = []
    if after["descriptors"] > before["descriptors"] + 70:  # connections that libcurl keeps: one for each idle handle at most
        grown.append(f"descriptors {before['descriptors']} -> {after['descriptors']}")
    grown += [f"task {name} {n}" for name, n in after["tasks"].items() if n > before["tasks"].get(name, 0) + 1]
    grown += [f"object {name} {n}" for name, n in after["objects"].items() if n > before["objects"].get(name, 0) + 2]
    if after["handles"] > 64:
        grown.append(f"handles {after['handles']}")
    if after["memory"] > before["memory"] + MEMORY:
        grown.append(f"memory {before['memory'] >> 20} -> {after['memory'] >> 20} MiB")
    return grown


async def soak(seconds: float, seed: int, server: Server, home: Path) -> None:
    steady, victim = Target(home, "steady"), Target(home, "victim")
    steady.start()
    victim.start()
    run = Soak(server, steady, victim, seed)
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=["--no-sandbox"])
            page = await browser.new_page()
            await page.goto(f"{server.url}proxy/port/{steady.port}/page?token={TOKEN}")
            await run.run(min(10.0, seconds / 5), page)
            before = await run.state()
            await run.run(seconds, page)
            await browser.close()
        after = await run.state()
        run.check_journals()
    finally:
        steady.kill()
        victim.kill()
    print("counts", json.dumps(dict(sorted(run.counts.items()))), flush=True)
    print("memory, MiB:", *run.memory, flush=True)
    print("before", json.dumps(before), "\nafter ", json.dumps(after), flush=True)
    grown = compare(before, after)
    if grown:
        raise Wrong("it has grown: " + ", ".join(grown))
    if not all(run.counts[f"{what} ok"] for what in ("get", "put", "curl get", "curl put", "events", "websocket", "EventSource")):
        raise Wrong("not all kinds of clients have been served")


def main() -> None:
    seconds = float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    print(f"soak of {seconds:g} s, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        with jupyter_server(home, *debugged(home), preloaded=False) as server:
            try:
                asyncio.run(soak(seconds, seed, server, home))
            finally:
                complaints = [line for line in server.log.splitlines() if re.search(COMPLAINTS, line)]
                if complaints:
                    print(server.log[-8000:])
        complaints += [line for line in server.log.splitlines() if re.search(COMPLAINTS, line) and line not in complaints]
        if complaints:
            sys.exit(f"the server complains: {complaints[:5]}")
    print("All is well.", flush=True)


if __name__ == "__main__":
    main()
