"""Faults, each made to happen: what the client sees, and that all goes on afterwards. docs/robustness.md has the same table;
test_robustness.py says which tests, of this and of other files, stand for which of its rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ..conftest import TOKEN
from ..support import upstreams
from ..support.jupyter_processes import debugged, jupyter_server
from ..support.raw_clients import UPGRADE, Answer, Wire
from ..support.upstreams import answers, free_port, serve
from ..support.victim_upstream import CONTENT
from ..support.waiting import eventually

PACKAGE = Path(__file__).parents[2] / "jupyter_portproxy"
ENABLED = {"ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True}}, "IdentityProvider": {"token": TOKEN}}
TIMEOUTS = ["connect_timeout", "first_byte_timeout", "idle_timeout", "head_timeout"]
BEFORE_THE_HEAD = ["listening", "accepted", "head"]
BAD = r"Traceback|never retrieved|never awaited|was destroyed|Uncaught"


def upgrade() -> bytes:
    return "".join(f"{line}\r\n" for line in UPGRADE).encode() + b"\r\n"


@contextlib.asynccontextmanager
async def victim(point: str, pause: float):
    """A victim that will stand at the point: its port, and the process. `there()` waits until it does."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).parents[1] / "support" / "victim_upstream.py"), str(port), point, str(pause)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)

    async def says(word: bytes) -> None:
        assert await asyncio.wait_for(process.stdout.readline(), 10) == word + b"\n"

    async def there() -> None:
        await says(b"there")

    try:
        await says(b"up")
        if point == "listening":
            await there()
        yield port, process, there
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        process._transport.close()


async def whole(connection: Wire) -> Answer:
    return await asyncio.wait_for(connection.answer(), 10)


# ---- the upstream's process is killed or stopped ----


def request(head_of, point: str, port: int) -> bytes:
    """What leads an upstream to that point; of an upload the first half."""
    if point == "upload":
        return head_of("PUT", port) + b"Content-Length: 2000\r\n\r\n" + bytes(1000)
    return head_of("GET", port) + (upgrade() if "tunnel" in point else b"\r\n")


@pytest.mark.parametrize("point", [*BEFORE_THE_HEAD, "upload", "content", "tunnel"])
async def test_an_upstream_that_is_killed(wire, head_of, call, gateway, point):
    async with victim(point, 60) as (port, process, there), await wire() as connection:
        await connection.send(request(head_of, point, port))
        if point == "listening":
            await eventually(lambda: gateway.exchanges == 1)
        else:
            await there()
        process.kill()
        answer = await whole(connection) if point != "tunnel" else await connection.head()
        if point in [*BEFORE_THE_HEAD, "upload"]:
            assert answer.status == 502 and answer.whole
        elif point == "content":
            assert answer.status == 200 and not answer.whole and answer.content == CONTENT[: len(answer.content)]
        else:
            assert answer.status == 101 and await connection.closed()
        connection.writer.close()
        await eventually(lambda: gateway.exchanges == gateway.tunnels == 0)
        assert (await call(f"proxy/port/{port}/")).status == 502


@pytest.mark.parametrize("point", [*BEFORE_THE_HEAD, "upload", "content", "tunnel"])
async def test_an_upstream_that_is_stopped_and_goes_on(wire, head_of, point):
    async with victim(point, 0.2) as (port, process, there), await wire() as connection:
        if point == "listening":
            process.send_signal(signal.SIGSTOP)
        await connection.send(request(head_of, point, port))
        if point != "listening":
            await there()
            process.send_signal(signal.SIGSTOP)
        if point == "upload":
            await connection.send(bytes(1000))
        if point == "tunnel":
            assert (await connection.head()).status == 101
            await connection.send(b"ping")
        await asyncio.sleep(0.4)
        process.send_signal(signal.SIGCONT)
        if point == "tunnel":
            assert await asyncio.wait_for(connection.reader.readexactly(4), 5) == b"ping"
        else:
            answer = await whole(connection)
            assert (answer.status, answer.whole, answer.content) == (200, True, CONTENT[:1000])


@pytest.mark.parametrize("jp_server_config", [{**ENABLED, "PortProxy": {"first_byte_timeout": 0.5, "idle_timeout": 0.5}}])
@pytest.mark.parametrize("point", [*BEFORE_THE_HEAD, "upload", "content", "accepted by a tunnel"])
async def test_an_upstream_that_stays_stopped_is_given_up_where_a_timeout_is_set(wire, head_of, point, jp_server_config):
    async with victim(point.split()[0], 60) as (port, _, there), await wire() as connection:
        await connection.send(request(head_of, point, port))
        if point != "listening":
            await there()
        if point == "upload":
            await connection.send(bytes(1000))
        answer = await whole(connection)
        assert (answer.status, answer.whole) == ((200, False) if point == "content" else (504, True))


# ---- resets, both ways ----


async def resets_mid_content(connection: upstreams.Connection) -> None:
    await connection.request()
    await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 100)
    await asyncio.sleep(0.1)
    connection.reset()


async def resets_mid_upload(connection: upstreams.Connection) -> None:
    await connection.head()
    await connection.reader.readexactly(1000)
    connection.reset()


async def test_a_reset_of_the_upstream_is_a_cut_or_a_502(wire, head_of):
    async with serve(resets_mid_content) as up, await wire() as connection:
        await connection.send(head_of("GET", up.port) + b"\r\n")
        answer = await whole(connection)
        assert (answer.status, answer.whole) == (200, False)
    async with serve(resets_mid_upload) as up, await wire() as connection:
        await connection.send(head_of("PUT", up.port) + b"Content-Length: 2000\r\n\r\n" + bytes(1000))
        assert (await connection.head()).status == 502
        assert up.connections == 1


async def keeps_content(connection: upstreams.Connection) -> None:
    """Reads what comes; `gone` when the connection ends before the content does."""
    request = await connection.head()
    assert request.one("Content-Length") == "100000"
    await connection.until_closed()
    connection.seen.gone.set()


async def test_a_reset_of_the_client_cuts_the_upload_and_stops_the_download(wire, head_of, gateway):
    async with serve(keeps_content) as up:
        async with await wire() as connection:
            await connection.send(head_of("PUT", up.port) + b"Content-Length: 100000\r\n\r\n" + bytes(5000))
            await eventually(lambda: len(up.received) == 5000)
            _reset(connection)
            await asyncio.wait_for(up.gone.wait(), 5)
        assert len(up.received) == 5000
    async with serve(upstreams.endless) as up, await wire() as connection:
        await connection.send(head_of("GET", up.port) + b"\r\n")
        await connection.reader.readexactly(100000)
        _reset(connection)
        await asyncio.wait_for(up.gone.wait(), 5)
    await eventually(lambda: gateway.exchanges == gateway.limits.exchanges.in_all == 0)


def _reset(connection: Wire) -> None:
    sock = connection.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.writer.transport.abort()


# ---- half-open connections ----


async def test_the_kernel_watches_over_every_long_lived_connection(wire, head_of, gateway):
    """A peer that vanishes says nothing: only TCP's own keep-alive tells (RFC 9293 3.8.4). Here: that it is on, at both ends."""
    async with serve(upstreams.echo_frames) as up, await wire() as connection:
        await connection.send(head_of("GET", up.port) + upgrade())
        await connection.head()
        (tunnel,) = gateway._tunnels
        for end in (tunnel._client, tunnel._upstream):
            _is_watched_over(end.transport.get_extra_info("socket"))
    async with serve(upstreams.never_answers) as up, await wire() as connection:
        await connection.send(head_of("GET", up.port) + b"\r\n")
        await eventually(lambda: up.requests)
        for sock in (_socket_to(up.port), _socket_of(connection)):
            with sock:
                _is_watched_over(sock)


def _is_watched_over(sock) -> None:
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    if hasattr(socket, "TCP_KEEPIDLE"):
        idle, pause, count = (
            sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_KEEP{name}")) for name in ("IDLE", "INTVL", "CNT")
        )
        assert (idle, idle + pause * count) == (60, 120)  # two minutes, as the documentation says


def _socket_to(port: int) -> socket.socket:
    """This process's connected socket whose other end has that port."""
    return _find(lambda peer: peer[1:2] == (port,))


def _socket_of(connection: Wire) -> socket.socket:
    """The server's end of a client's connection."""
    own = connection.writer.get_extra_info("sockname")
    return _find(lambda peer: peer == own)


def _find(fits) -> socket.socket:
    for number in map(int, (path.name for path in Path("/proc/self/fd").iterdir())):
        with contextlib.suppress(OSError):
            sock = socket.socket(fileno=socket.dup(number))
            with contextlib.suppress(OSError):
                if fits(tuple(sock.getpeername())):
                    return sock
            sock.close()
    raise AssertionError("there is no such socket")


# ---- another program on the port ----


async def test_a_port_that_another_program_has_taken_gets_nothing_of_the_first_ones_connection(call):
    async with serve(answers(b"first")) as first:
        port = first.port
        assert [(await call(f"proxy/port/{port}/")).text for _ in range(2)] == ["first", "first"]
        assert first.connections == 1
    for method, content in [("GET", None), ("POST", b"abc")]:
        async with serve(answers(b"second"), port=port) as second:
            assert (await call(f"proxy/port/{port}/new", method, content=content)).text == "second"
            assert (second.connections, [r.target for r in second.requests]) == (1, ["/new"])


# ---- the server's own limits ----


@pytest.mark.timeout(120)
async def test_no_descriptor_to_spare_is_a_503_and_jupyter_answers_on(tmp_path):
    with jupyter_server(tmp_path) as server:
        async with serve(upstreams.never_answers) as up, serve(upstreams.echo_frames) as echo, serve(answers()) as well:
            port = urlsplit(server.url).port
            path = f"proxy/port/{well.port}/"
            assert await asyncio.to_thread(server.get, path) == (200, "hello")  # a kept-alive connection
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (160, 160))
            head = f"/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: token {TOKEN}\r\n"
            async with contextlib.AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(await Wire.open(port)) for _ in range(70)]
                for client in clients:
                    await client.send(f"GET /proxy/port/{up.port}{head}\r\n".encode())
                refused = await _first_answers(clients)
                assert 20 < len(refused) < 70
                assert {answer.status for answer in refused} == {503}
                assert all("no file descriptor" in answer.text for answer in refused)
                tunnels = []
                while len(tunnels) < 30 and 503 not in tunnels:
                    tunnel = await stack.enter_async_context(await Wire.open(port))
                    await tunnel.send(f"GET /proxy/port/{echo.port}{head}".encode() + upgrade())
                    tunnels.append((await asyncio.wait_for(tunnel.head(), 10)).status)
                assert tunnels[-1] == 503 and set(tunnels[:-1]) <= {101}
                assert (await asyncio.to_thread(server.get, "api/status"))[0] == 200
                assert (await asyncio.to_thread(server.get, path))[0] in (200, 503)
            end = time.monotonic() + 10
            while (await asyncio.to_thread(server.get, path))[0] != 200:
                assert time.monotonic() < end
        assert not re.search(BAD, server.log), server.log


async def _first_answers(clients: list[Wire]) -> list[Answer]:
    """Those that come within two seconds."""
    tasks = [asyncio.create_task(client.answer()) for client in clients]
    done, pending = await asyncio.wait(tasks, timeout=2)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return [task.result() for task in done]


CHATTY = """
import http.server, sys
for _ in range(40):
    print("x" * 65536, flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


async def test_a_full_disk_below_the_servers_own_log_stops_nothing(tmp_path):
    (tmp_path / "server.log").symlink_to("/dev/full")
    dead = free_port()
    with jupyter_server(tmp_path) as server:
        async with serve(answers()) as up, serve(upstreams.says(b"no HTTP")) as bad:
            for _ in range(3):
                paths = [f"proxy/port/{port}/" for port in (up.port, dead, bad.port)]
                assert [(await asyncio.to_thread(server.get, path))[0] for path in paths] == [200, 502, 502]
            assert up.connections == 1


async def test_a_full_disk_below_a_services_log_stops_no_service(tmp_path):
    """The server may write files of at most 1 MiB; the service prints more."""
    room = 1 << 20
    template = {"chatty": {"command": [sys.executable, "-c", CHATTY, "{port}"]}}
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"PortProxy": {"service_templates": template}}))
    more = {"JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
    with jupyter_server(tmp_path, f"--config={config}", more=more) as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (room, room))
        status, _ = await asyncio.to_thread(server.call, "POST", "proxy/api/services", {"template": "chatty", "name": "chatty"})
        assert status == 201
        assert (await asyncio.to_thread(server.get, "proxy/service/chatty/"))[0] == 200
        assert "x" * 1000 in (await asyncio.to_thread(server.get, "proxy/api/services/chatty/logs"))[1]
        (log,) = (tmp_path / "runtime" / "portproxy").rglob("chatty.log")
        assert log.stat().st_size == room, "the disk was full"
        assert not re.search(BAD, server.log), server.log


# ---- time ----


@pytest.mark.timeout(120)
async def test_a_loop_that_is_held_up_for_5_s_cuts_nothing(tmp_path):
    """Timeouts of 3 s, a loop held for 5: what came in time counts, whatever the order in which it is found out."""
    timeouts = [f"--PortProxy.{name}_timeout=3" for name in ("connect", "first_byte", "idle")]
    with jupyter_server(tmp_path, *debugged(tmp_path), *timeouts) as server:
        port = urlsplit(server.url).port
        head = f"/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: token {TOKEN}\r\n"
        async with contextlib.AsyncExitStack() as stack:
            slow = await stack.enter_async_context(serve(upstreams.drips([b"0123"] * 20, 0.2)))
            late = await stack.enter_async_context(serve(_answers_after(1.5)))
            late_grant = await stack.enter_async_context(serve(_grants_after(1.5)))
            echo = await stack.enter_async_context(serve(upstreams.echo_frames))
            clients = [await stack.enter_async_context(await Wire.open(port)) for _ in range(6)]
            dripping, waiting, granting, tunnel, fresh, blocker = clients
            await dripping.send(f"GET /proxy/port/{slow.port}{head}\r\n".encode())
            assert (await dripping.head()).status == 200
            await tunnel.send(f"GET /proxy/port/{echo.port}{head}".encode() + upgrade())
            assert (await tunnel.head()).status == 101
            await waiting.send(f"GET /proxy/port/{late.port}{head}\r\n".encode())
            await granting.send(f"GET /proxy/port/{late_grant.port}{head}".encode() + upgrade())
            await eventually(lambda: late.requests and late_grant.requests)
            block = f"GET /debug/block?seconds=5 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: token {TOKEN}\r\n\r\n"
            await fresh.send(f"GET /proxy/port/{late.port}{head}\r\n".encode())  # it connects while the loop is held
            await blocker.send(block.encode())
            since = time.monotonic()
            await tunnel.send(b"ping")
            assert (await asyncio.wait_for(blocker.answer(), 20)).status == 200
            assert time.monotonic() - since > 4.5
            assert await asyncio.wait_for(tunnel.reader.readexactly(4), 5) == b"ping"
            for client in (waiting, fresh):
                assert (await whole(client)).text == "late"
            assert (await granting.head()).status == 101
            chunks = dripping.chunks()
            got = b""
            while len(got) < 80:
                got += await asyncio.wait_for(chunks.__anext__(), 5)
            assert got == b"0123" * 20
        assert not re.search(BAD, server.log), server.log


def _answers_after(seconds: float) -> upstreams.Script:
    async def script(connection: upstreams.Connection) -> None:
        await connection.request()
        await asyncio.sleep(seconds)
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")

    return script


def _grants_after(seconds: float) -> upstreams.Script:
    async def script(connection: upstreams.Connection) -> None:
        await connection.head()
        await asyncio.sleep(seconds)
        await connection.write(upstreams.SWITCHING)
        await connection.until_closed()

    return script


@pytest.mark.parametrize("jump", [90000, -90000])
@pytest.mark.parametrize("jp_server_config", [{**ENABLED, "PortProxy": dict.fromkeys(TIMEOUTS, 3)}], ids=["3 s"])
async def test_a_clock_that_is_set_cuts_nothing(call, wire, head_of, monkeypatch, jump, jp_server_config):
    """By a day and an hour, as after a suspended laptop or with a wrong first setting."""
    async with (
        serve(upstreams.drips([b"0123"] * 10, 0.1)) as slow,
        serve(_answers_after(1)) as late,
        serve(upstreams.echo_frames) as echo,
        await wire() as dripping,
        await wire() as waiting,
        await wire() as tunnel,
    ):
        await dripping.send(head_of("GET", slow.port) + b"\r\n")
        assert (await dripping.head()).status == 200
        await waiting.send(head_of("GET", late.port) + b"\r\n")
        await tunnel.send(head_of("GET", echo.port) + upgrade())
        assert (await tunnel.head()).status == 101
        before, true = await call("api"), time.time
        monkeypatch.setattr(time, "time", lambda: true() + jump)
        after = await call("api")
        assert abs((_date(after) - _date(before)).total_seconds() - jump) < 10  # the server goes by the new time
        chunks = dripping.chunks()
        assert b"".join([await asyncio.wait_for(chunks.__anext__(), 5) for _ in range(10)]) == b"0123" * 10
        assert (await whole(waiting)).text == "late"
        await tunnel.send(b"ping")
        assert await asyncio.wait_for(tunnel.reader.readexactly(4), 5) == b"ping"
        assert (await call(f"proxy/port/{late.port}/")).text == "late"


def _date(answer: Answer) -> datetime:
    return parsedate_to_datetime(answer.one("Date"))


WALL_CLOCK = {  # uses of the wall clock: a time that is shown to people, or sent as a date
    "handlers/base.py": 1,  # Date
    "handlers/response.py": 1,  # Date
    "app.py": 1,  # Jupyter's last_activity is a date
    "services/ports.py": 1,  # Reservation.until
    "services/user_ports.py": 2,  # UserPort.until outlasts the server
    "system/private_file.py": 1,  # the time of the file
    "attachment/connected_agents.py": 2,  # ConnectedAgent.since
    "attachment/tokens.py": 4,  # AttachToken.until and .used outlast the server
    "api/index_page.py": 1,  # "3 minutes ago"
    "handlers/start_page.py": 1,  # "for 3 s", from Service.since
    "services/service.py": 2,  # Service.since
    "project_file/file_stamps.py": 1,  # compared with the times of files
    "diagnose/recorder.py": 1,  # RecordedExchange.since
}


def test_the_wall_clock_measures_nothing():
    """It may be set: durations and deadlines are `time.monotonic` and the loop's own clock."""
    asks = re.compile(r"\btime\.time\b|datetime\.now|utcnow|\btime_ns\b")
    files = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in PACKAGE.rglob("*.py")}
    found = {name: len(asks.findall(text)) for name, text in files.items()}
    assert {name: count for name, count in found.items() if count} == WALL_CLOCK


# ---- the end of the server ----


@pytest.mark.timeout(180)
async def test_a_shutdown_with_1000_exchanges_open_lets_them_end_and_then_cuts(tmp_path):
    """Half of them end within the grace, half never do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    release = asyncio.Event()

    async def ends(connection: upstreams.Connection) -> None:
        await connection.request()
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        await release.wait()
        await connection.write(b"56789")

    async def never(connection: upstreams.Connection) -> None:
        await connection.request()
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        await connection.until_closed()

    try:
        with jupyter_server(tmp_path, "--PortProxy.shutdown_grace=4", "--PortProxy.connect_timeout=60") as server:
            port = urlsplit(server.url).port
            async with (
                serve(ends) as good,
                serve(never) as bad,
                serve(upstreams.echo_frames) as echo,
                contextlib.AsyncExitStack() as stack,
            ):
                head = f"/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: token {TOKEN}\r\n"
                clients = [await stack.enter_async_context(await Wire.open(port)) for _ in range(1000)]
                for number, client in enumerate(clients):
                    there = (good, bad)[number % 2].port
                    await client.send(f"GET /proxy/port/{there}{head}\r\n".encode())
                heads = [await asyncio.wait_for(client.head(), 60) for client in clients]
                assert {answer.status for answer in heads} == {200}
                tunnel = await stack.enter_async_context(await Wire.open(port))
                await tunnel.send(f"GET /proxy/port/{echo.port}{head}".encode() + upgrade())
                assert (await tunnel.head()).status == 101
                late = await stack.enter_async_context(await Wire.open(port))
                await late.send(f"GET /api HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
                assert (await late.answer()).status == 200
                since = time.monotonic()
                server.process.send_signal(signal.SIGTERM)
                assert await asyncio.wait_for(tunnel.reader.readexactly(4), 3) == b"\x88\x02\x03\xe9"
                await late.send(f"GET /proxy/port/{good.port}{head}\r\n".encode())
                assert (await whole(late)).status == 503
                release.set()
                contents = await asyncio.gather(*(asyncio.wait_for(_rest(client), 20) for client in clients))
                took = time.monotonic() - since
                await asyncio.to_thread(server.process.wait, 20)
                print(
                    f"shutdown with 1000 exchanges: {took:.1f} s until the last was cut, {time.monotonic() - since:.1f} s in all"
                )
                assert contents[::2] == [b"0123456789"] * 500
                assert contents[1::2] == [b"01234"] * 500
                assert 3.5 < took < 12
            assert "500 requests had not ended within 4 s" in server.log
            assert not re.search(BAD, server.log), server.log
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _rest(client: Wire) -> bytes:
    """What comes of ten bytes before the connection ends."""
    try:
        return await client.reader.readexactly(10)
    except asyncio.IncompleteReadError as error:
        return error.partial
    except ConnectionError:
        return b"reset"
