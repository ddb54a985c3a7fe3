"""`jupyter portproxy forward` against real servers: what it prints, its exit codes, its sentences, and the bytes."""

from __future__ import annotations

import json
import os
import pty
import random
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import ExitStack, suppress

import pytest

from jupyter_portproxy.upstream.websocket_client import NO_DESCRIPTORS

from ..support.forwarding import COMMAND, count, echo, forwarding, is_reset, read_all, reset, say_and_hear, service
from ..support.fresh_environment import ROOT
from ..support.jupyter_processes import TOKEN, environment, jupyter_server
from ..support.upstreams import free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and Unix sockets")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home):
    with jupyter_server(home) as running:
        yield running
        assert "Traceback" not in running.log


@pytest.fixture
def run(home, server):
    """Runs `jupyter portproxy ...` to its end; (exit code, output, errors)."""

    def command(*arguments: str, given: bytes = b"", more=None, **options):
        options.setdefault("input", given)
        done = subprocess.run(
            [*COMMAND, *arguments], env=environment(home, more), capture_output=True, timeout=30, check=False, **options
        )
        return done.returncode, done.stdout, done.stderr.decode()

    return command


# ---- what it prints ----


def test_it_prints_a_line_for_each_forward_and_ends_with_the_codes_of_signals(home, server):
    ports = free_port(), free_port()
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 0)):
        command = [*COMMAND, "forward", f"{ports[0]}:5432".replace("5432", str(ports[1])), "0:15999"]
        process = subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        lines = [process.stdout.readline() for _ in range(2)]
        url = server.url.replace("127.0.0.1", "localhost")
        assert lines[0] == f"127.0.0.1:{ports[0]} leads to port {ports[1]} at {url}\n"
        assert lines[1].startswith("127.0.0.1:") and lines[1].endswith(f" leads to port 15999 at {url}\n")
        process.send_signal(number)
        assert (*process.communicate(timeout=10), process.returncode) == ("", "", code)


def test_json_has_an_object_for_each_line(home, server):
    with service(echo) as port, forwarding(home, f"0:{port}", f"[::1]:0:{port}") as forward:
        first, second = forward.rows
        url = server.url.replace("127.0.0.1", "localhost")
        here = {"local": f"127.0.0.1:{first['port']}", "host": "127.0.0.1", "port": first["port"]}
        assert first == {**here, "remote": str(port), "server": url}
        assert second["local"] == f"[::1]:{second['port']}"
        with socket.create_connection(("::1", second["port"]), 10) as sock:
            sock.sendall(b"over IPv6")
            assert sock.recv(9, socket.MSG_WAITALL) == b"over IPv6"
        assert forward.messages == ""


def test_an_address_that_others_reach_gets_a_warning_and_v_prints_connections(home, server):
    with service(echo) as port, forwarding(home, f"0.0.0.0:0:{port}", options=["-v"]) as forward:
        with forward.connect() as sock:
            sock.sendall(b"hello")
            assert sock.recv(5) == b"hello"
            source = sock.getsockname()[1]
        forward.wait_for("closed after")
        local = forward.rows[0]["local"]
        warning, opened, closed = forward.messages.splitlines()
        assert warning == f"Every machine that reaches {local} can use it, with your login."
        assert opened == f"127.0.0.1:{source} -> {port}: open"
        assert closed.startswith(f"127.0.0.1:{source} -> {port}: closed after 0.") and closed.endswith(" s and 10 bytes")


# ---- bytes ----


def test_all_bytes_cross_both_ways(home, server):
    data = random.Random(7).randbytes(20_000_000)
    with (
        service(count) as counting,
        service(lambda sock: sock.sendall(data)) as sending,
        forwarding(home, f"0:{counting}", f"0:{sending}") as forward,
    ):
        with forward.connect() as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b"20000000"
        with socket.create_connection(("127.0.0.1", forward.ports[1]), 20) as sock:
            assert read_all(sock) == data


def test_each_direction_ends_by_itself(home, server):
    with (
        service(count) as counting,
        service(say_and_hear) as hearing,
        forwarding(home, f"0:{counting}", f"0:{hearing}") as forward,
    ):
        with forward.connect() as sock:  # all is sent, and ended, before the WebSocket is open
            sock.sendall(b"12345")
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b"5"
        with socket.create_connection(("127.0.0.1", forward.ports[1]), 20) as sock:
            assert read_all(sock) == b"greeting"
            time.sleep(0.2)
            sock.sendall(b"all")
        forward.process.send_signal(0)
        assert forward.messages == ""


def test_a_reset_stays_a_reset_in_both_directions(home, server):
    seen = []

    def resets(sock: socket.socket) -> None:
        sock.sendall(b"x")
        if sock.recv(1) == b"r":
            reset(sock)
        else:
            seen.append(is_reset(sock))

    with service(resets) as port, forwarding(home, f"0:{port}") as forward:
        with forward.connect() as sock:
            assert sock.recv(1) == b"x"
            sock.sendall(b"r")
            assert is_reset(sock)
        with forward.connect() as sock:
            assert sock.recv(1) == b"x"
            sock.sendall(b"n")
            time.sleep(0.2)
            reset(sock)
        deadline = time.monotonic() + 5
        while not seen and time.monotonic() < deadline:
            time.sleep(0.01)
        assert seen == [True]


# ---- addresses of this machine ----


def test_a_port_that_is_taken_is_named_with_a_way_out(run):
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        code, output, errors = run("forward", f"{port}:15432")
        assert (code, output) == (1, b"")
        taken_by = f"Port {port} of this machine is taken (127.0.0.1:{port})."
        assert errors == f"{taken_by} Choose another one, or 0 for a free one: 0:15432\n"
    code, _, errors = run("forward", "192.0.2.1:0:15432")
    assert (code, errors) == (1, "This machine has no address 192.0.2.1.\n")
    code, _, errors = run("forward", "0:15432", "65536")
    assert (code, errors) == (1, "Invalid port in '65536': '65536'. A port is a whole number from 1 to 65535.\n")


def test_unix_sockets_on_this_machine(home, server, run, tmp_path):
    path = tmp_path / "db.sock"
    with service(echo) as port:
        for _ in range(2):  # the second time over the file that a killed command has left
            with forwarding(home, f"{path}:{port}") as forward:
                assert forward.rows[0]["path"] == str(path)
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.settimeout(10)
                    sock.connect(str(path))
                    sock.sendall(b"hello")
                    sock.shutdown(socket.SHUT_WR)
                    assert read_all(sock) == b"hello"
                assert run("forward", f"{path}:{port}")[2] == f"Another process listens on {path} already. Choose another path.\n"
            assert not path.exists()
            with socket.socket(socket.AF_UNIX) as stale:
                stale.bind(str(path))
    path.unlink()
    path.write_text("mine")
    assert run("forward", f"{path}:{port}")[2] == f"{path} is there already, and not a socket. Choose another path.\n"
    assert path.read_text() == "mine"
    long = tmp_path / ("x" * 150)
    assert "cannot listen on" in run("forward", f"{long}:15432")[2]


# ---- refusals ----


def test_a_port_that_is_not_allowed_is_refused_at_the_start(run):
    code, output, errors = run("forward", "0:15999", "0:9")
    assert (code, output) == (1, b"")
    assert errors.startswith("Port 9 is outside allowed range (10000-20000)")
    code, _, errors = run("forward", "0:nothing")
    assert (code, errors.splitlines()[0]) == (1, "There is no service named 'nothing'.")


def test_a_port_on_which_nothing_listens_is_reported_when_it_is_used(home, server):
    port = free_port()
    with forwarding(home, f"0:{port}") as forward:
        for _ in range(3):
            with forward.connect() as sock:
                assert is_reset(sock)
        forward.wait_for(f"{port}: Failed to connect to service on port {port}.")
        assert forward.messages.count("Failed to connect") == 1  # and not once for each attempt
        with service(echo, port), forward.connect() as sock:
            sock.sendall(b"now")
            assert sock.recv(3) == b"now"


def test_connections_beyond_the_limit_of_descriptors_are_refused_with_a_sentence(home, server):
    """Those that are open stay open, and there is room again when one has closed."""
    command = ["sh", "-c", 'ulimit -n 40; exec "$@"', "-", *COMMAND, "forward", "--json"]
    with service(echo) as port, ExitStack() as stack:
        process = subprocess.Popen(
            [*command, f"0:{port}"], env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        stack.callback(process.communicate)
        stack.callback(process.kill)
        here = json.loads(process.stdout.readline())["port"]
        first = stack.enter_context(socket.create_connection(("127.0.0.1", here), 20))
        for _ in range(2):
            first.sendall(b"first")
            assert first.recv(5) == b"first"
            with ExitStack() as others:
                for _ in range(60):
                    with suppress(ConnectionResetError):  # a refused one may be closed before `connect` returns
                        others.enter_context(socket.create_connection(("127.0.0.1", here), 20))
                time.sleep(2)
        time.sleep(2)
        with socket.create_connection(("127.0.0.1", here), 20) as sock:
            sock.sendall(b"again")
            assert sock.recv(5) == b"again"
        first.close()
        process.send_signal(signal.SIGTERM)
        _, output = process.communicate(timeout=20)
    assert process.returncode == 0
    assert {line.partition(": ")[2] or line for line in output.splitlines()} <= {NO_DESCRIPTORS, "ulimit -n"}, output
    assert "no file descriptor left" in output


def test_a_wrong_token_ends_it_at_the_start(home, server, run):
    files = list((home / ".local/share/jupyter/runtime").glob("jpserver-*.json"))
    info = json.loads(files[0].read_text())
    files[0].write_text(json.dumps({**info, "token": "wrong"}))
    try:
        code, output, errors = run("forward", "0:15999")
    finally:
        files[0].write_text(json.dumps(info))
    assert (code, output) == (1, b"")
    assert errors.endswith("does not accept its own token.\n"), errors
    assert TOKEN not in errors


# ---- standard input and output ----


def test_stdio_takes_a_pipe_a_file_and_nothing(run, tmp_path):
    data = random.Random(3).randbytes(3_000_000)
    (tmp_path / "file").write_bytes(data)
    with service(echo) as port, service(count) as counting:
        assert run("forward", "--stdio", str(port), given=data) == (0, data, "")
        with (tmp_path / "file").open("rb") as file:
            assert run("forward", "--stdio", str(counting), input=None, stdin=file) == (0, b"3000000", "")
        assert run("forward", "--stdio", str(counting), input=None, stdin=subprocess.DEVNULL) == (0, b"0", "")


def test_the_client_in_one_file_forwards_without_any_package(server, tmp_path):
    """Its frames are masked without Tornado's C extension."""
    data, file = random.Random(4).randbytes(3_000_000), tmp_path / "client.pyz"
    subprocess.run([sys.executable, ROOT / "client" / "build.py", file], check=True, capture_output=True)
    with service(echo) as port:
        command = [sys.executable, "-I", "-S", file, "--server", server.url, "forward", "--stdio", str(port)]
        variables = {"HOME": str(tmp_path), "JUPYTER_TOKEN": TOKEN}
        done = subprocess.run(command, input=data, env=variables, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout == data, done.stderr) == (0, True, b"")


def test_stdio_at_a_terminal_ends_when_the_service_does(home, server):
    def says_bye(sock: socket.socket) -> None:
        sock.sendall(b"bye")
        time.sleep(1)  # the owner of a connection that has closed at once is not known to the gateway

    with service(says_bye) as port:
        master, terminal = pty.openpty()
        with os.fdopen(master, "rb"), os.fdopen(terminal, "rb") as file:
            done = subprocess.run(
                [*COMMAND, "forward", "--stdio", str(port)], env=environment(home), stdin=file, capture_output=True, timeout=20
            )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"bye", b"")


def test_stdio_fails_with_one_sentence(run):
    def cuts(sock: socket.socket) -> None:
        sock.sendall(b"half")
        time.sleep(0.3)
        reset(sock)

    with service(cuts) as port:
        code, output, errors = run("forward", "--stdio", str(port), given=b"")
        assert (code, output, errors) == (1, b"half", f"The connection to {port} was cut.\n")
    code, output, errors = run("forward", "--stdio", str(free := free_port()))
    assert (code, output) == (1, b"")
    hint = "Is the service running?"
    assert errors == f"Failed to connect to service on port {free}.\n{hint}\n"
    for arguments in (["1", "2"], ["--json", "1"], ["1:2"]):
        code, output, errors = run("forward", "--stdio", *arguments)
        assert (code, errors) == (
            1,
            "--stdio joins one REMOTE and prints nothing else: jupyter portproxy forward --stdio 15022\n",
        )


def test_stdio_ends_when_its_reader_goes_and_by_signals(home, server):
    def endless(sock: socket.socket) -> None:
        while True:
            sock.sendall(bytes(1 << 16))

    with service(endless) as port:
        process = subprocess.Popen(
            [*COMMAND, "forward", "--stdio", str(port)],
            env=environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout.read(10) == bytes(10)
        process.stdout.close()
        assert process.wait(10) in (0, 1)
        assert b"Traceback" not in process.stderr.read()
        process.stdin.close()
        process.stderr.close()
    with service(echo) as port:
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 0)):
            process = subprocess.Popen(
                [*COMMAND, "forward", "--stdio", str(port)],
                env=environment(home),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            process.stdin.write(b"hello")
            process.stdin.flush()
            assert process.stdout.read(5) == b"hello"
            process.send_signal(number)
            assert process.wait(10) == code
            assert process.stderr.read() == b""
            for pipe in (process.stdin, process.stdout, process.stderr):
                pipe.close()
