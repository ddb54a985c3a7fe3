"""`attach`, `attach-token`, `attached` and `detach` against real servers, with the agent in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jupyter_portproxy.errors import BadAttachToken

from ..support.jupyter_processes import TOKEN, environment, jupyter_server
from ..support.upstreams import free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")
SIZE = 1 << 30
HUB = ["--server", "https://hub.example.org/"]
WELL_FORMED = {"PORTPROXY_ATTACH_TOKEN": "portproxy-attach-a"}


class Program(BaseHTTPRequestHandler):
    """A program that is attached; `/large` has a GiB."""

    def do_GET(self):
        size = SIZE if self.path == "/large" else 5
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(size >> 20):
                self.wfile.write(bytes(1 << 20))
            if size == 5:
                self.wfile.write(b"hello")

    def log_message(self, *args):
        pass


@pytest.fixture
def program():
    """The port of a program that runs here."""
    server = ThreadingHTTPServer(("127.0.0.1", free_port()), Program)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


class Agent:
    """A process of `jupyter portproxy attach`."""

    def __init__(self, home, token: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "jupyter_portproxy", "attach", *arguments]
        more = environment(home, {"PORTPROXY_ATTACH_TOKEN": token})
        self.process = subprocess.Popen(command, env=more, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def line(self) -> str:
        return self.process.stdout.readline().strip()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=10)
        return self.process.returncode, errors


@pytest.fixture
def agent(home, server, run):
    """Starts agents with a new token, or the given one."""
    started: list[Agent] = []

    def start(*arguments: str, token: str = "", url: str = "") -> Agent:
        text = token or run("attach-token")[1].strip()
        started.append(Agent(home, text, "--server", url or server.url, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


def wait_for(predicate, seconds: float = 10):
    end = time.monotonic() + seconds
    while not (result := predicate()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return result


def states(server) -> dict[str, str]:
    return {service["name"]: service["state"] for service in json.loads(server.get("proxy/api/services")[1])}


def test_a_token_alone_is_printed_to_standard_output(run, server):
    code, output, errors = run("attach-token", "--for", "30m", "--name", "trainer")
    assert code == 0 and re.fullmatch(r"portproxy-attach-[A-Za-z0-9_-]{43}\n", output)
    assert re.search(r"It is valid until .*\. Revoke it: jupyter portproxy detach [0-9a-f]{8}", errors)
    token = json.loads(run("attached", "--json")[1])["tokens"][0]
    assert token["name"] == "trainer" and abs(token["until"] - time.time() - 1800) < 30
    assert output.strip() not in run("attached")[1] + run("attached", "--json")[1]


def test_an_attached_port_is_listed_within_a_second(agent, server, program, run):
    attached = agent("--name", "trainer", str(program))
    assert attached.line() == f"Port {program} is attached: {server.url}proxy/service/trainer-{program}/"
    name = f"trainer-{program}"
    assert states(server) == {name: "up"} and server.get(f"proxy/service/{name}/") == (200, "hello")
    listed = run("list")[1]
    assert re.search(rf"^trainer on \S+ +STATE .*\n{name} +up +- +\S+:{program} ", listed, re.MULTILINE)
    assert listed.startswith("No services.\n")
    code, output, _ = run("attached")
    assert code == 0 and re.search(rf"^trainer +\S+ +up .* {name}$", output, re.MULTILINE)
    assert attached.end() == (0, "")
    wait_for(lambda: states(server) == {name: "down"})
    assert "down: The agent has ended." in run("logs", name)[1]


def test_ctrl_c_ends_it_without_a_traceback(agent, program):
    attached = agent("--name", "trainer", str(program))
    attached.line()
    assert attached.end(signal.SIGINT) == (130, "")


def test_detach_by_name_and_by_token(agent, program, run, server):
    attached = agent("--name", "trainer", str(program))
    attached.line()
    assert run("detach", "trainer") == (0, "trainer is detached.\n", "")
    _, errors = attached.process.communicate(timeout=10)
    assert (attached.process.returncode, errors) == (1, "'trainer' is not attached any more. It was detached at the server.\n")
    text = run("attach-token")[1].strip()
    attached = agent("--name", "trainer", str(program), token=text)
    attached.line()
    token = json.loads(run("attached", "--json")[1])["agents"][0]["token"]
    assert run("detach", token) == (0, f"The attach token {token} is revoked.\n", "")
    _, errors = attached.process.communicate(timeout=10)
    assert (attached.process.returncode, errors) == (
        1,
        "'trainer' is not attached any more. Its attach token was revoked or has ended.\n",
    )
    refused = agent("--name", "trainer", str(program), token=text)
    assert refused.process.communicate(timeout=10) == ("", f"{BadAttachToken.message}\n{BadAttachToken.hint}\n")
    code, _, errors = run("detach", "trainer")
    assert code == 1 and errors.startswith("The agent 'trainer' has ended already.\n") and "trainer" in run("attached")[1]
    code, _, errors = run("detach", "nothing")
    assert (code, errors) == (
        1,
        "Nothing is attached with the name 'nothing', and no attach token has that ID.\nList both: jupyter portproxy attached\n",
    )


def test_stopping_the_service_detaches_its_port(agent, program, run, server):
    attached = agent("--name", "trainer", str(program))
    attached.line()
    code, _, errors = run("restart", f"trainer-{program}")
    assert (code, errors) == (
        1,
        f"'trainer-{program}' was attached from elsewhere and cannot be restarted here.\nRestart its program there.\n",
    )
    assert run("stop", f"trainer-{program}")[0] == 0
    _, errors = attached.process.communicate(timeout=10)
    assert errors == f"Port {program} was detached at the server.\nAll ports were detached at the server.\n"
    assert states(server) == {}


def test_the_name_of_a_live_agent_is_taken(agent, program, server):
    agent("--name", "trainer", str(program)).line()
    second = agent("--name", "trainer", str(program))
    _, errors = second.process.communicate(timeout=20)
    assert second.process.returncode == 1 and errors.startswith("The name 'trainer' is taken by an agent on ")
    assert states(server) == {f"trainer-{program}": "up"}


@pytest.mark.parametrize(
    ("arguments", "variables", "given", "sentence"),
    [
        (["6006"], {}, "", "Name the Jupyter server: --server https://hub.example.org/user/ada/"),
        (["6006", *HUB], {}, "", "There is no attach token: give --token-file FILE,"),
        (["6006", *HUB], {}, "abc", "This is no attach token.\nMake one where you use Jupyter:"),
        (["6006", *HUB], {"PORTPROXY_ATTACH_TOKEN": TOKEN}, "", "This is no attach token."),
        (["6006", "--server", "http://hub.example.org/"], WELL_FORMED, "",
         "http://hub.example.org/ is not encrypted, and the token would be readable on the way."),
        (["x", *HUB], {}, "", "'x' is not a port: a port is a whole number from 1 to 65535."),
        (["6006", "--server", "hub"], WELL_FORMED, "", "Invalid URL: 'hub' does not begin"),
        (["6006", "--name", "a/b", *HUB], WELL_FORMED, "",
         "Invalid name: 'a/b'. Use up to 58 letters, digits, '.', '_' and '-'."),
        (["6006", "--token-file", "nothing", *HUB], {}, "", "The file nothing cannot be read: "),
        (["6006", *HUB], {"PORTPROXY_ATTACH_TOKEN": "portproxy-attach-a b"}, "", "The token contains blanks"),
    ],
)  # fmt: skip
def test_what_cannot_be_attached_ends_with_one_sentence(home, arguments, variables, given, sentence):
    done = subprocess.run(
        [sys.executable, "-m", "jupyter_portproxy", "attach", *arguments],
        env=environment(home, variables), cwd=home, capture_output=True, text=True, timeout=20, check=False, input=given,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.startswith(sentence)
    assert "Traceback" not in done.stderr and done.stderr.count("\n") <= 2


def test_the_token_is_read_from_standard_input_or_a_file(home, server, program, run, tmp_path):
    text = run("attach-token")[1]
    (tmp_path / "token").write_text(text)
    for more, given in (([], text), (["--token-file", str(tmp_path / "token")], ""), (["--token-file", "-"], text)):
        command = [
            sys.executable,
            "-m",
            "jupyter_portproxy",
            "attach",
            "--server",
            server.url,
            "--name",
            "t",
            str(program),
            *more,
        ]
        process = subprocess.Popen(
            command, env=environment(home), cwd=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        process.stdin.write(given)
        process.stdin.close()
        assert process.stdout.readline().startswith(f"Port {program} is attached: ")
        process.terminate()
        assert process.wait(10) == 0
        process.stdout.close()
        wait_for(lambda: states(server) == {f"t-{program}": "down"})


def sockets_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.timeout(120)
def test_an_agent_that_is_killed_while_a_gib_flows(agent, program, server):
    name = f"trainer-{program}"
    attached = agent("--name", "trainer", str(program))
    attached.line()
    server.get(f"proxy/service/{name}/")
    before = sockets_of(server.process.pid)
    host, _, port = server.url.removeprefix("http://").rstrip("/").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        request = f"GET /proxy/service/{name}/large HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: token {TOKEN}\r\n\r\n"
        client.sendall(request.encode())
        received = 0
        while received < 50 << 20:
            received += len(client.recv(1 << 20))
        attached.process.kill()
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(1 << 20):
                received += len(data)
    assert received < SIZE
    wait_for(lambda: states(server) == {name: "down"})
    code, content = server.get(f"proxy/service/{name}/")
    assert code == 502 and "The connection to the agent on" in content and "It returns by itself." in content
    wait_for(lambda: sockets_of(server.process.pid) < before)
    assert "Traceback" not in server.log


@pytest.mark.timeout(120)
def test_a_server_that_restarts_gets_its_services_back(home, program):
    port = free_port(range(21000, 29000))
    with jupyter_server(home, port=port) as server:
        status, content = server.call("POST", "proxy/api/attach-tokens", {"seconds": 3600})
        assert status == 201
        attached = Agent(home, json.loads(content)["token"], "--server", server.url, "--name", "trainer", str(program))
        try:
            assert attached.line()
            server.process.kill()
            server.process.wait()
            with jupyter_server(home, port=port) as second:
                assert attached.line() == f"Port {program} is attached: {server.url}proxy/service/trainer-{program}/"
                assert second.get(f"proxy/service/trainer-{program}/") == (200, "hello")
        finally:
            code, errors = attached.end()
        assert code == 0 and "Next attempt in" in errors and "Traceback" not in errors
