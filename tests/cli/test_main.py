"""`jupyter portproxy` against a real server in a process of its own; and what is left when that server ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from functools import partial

import psutil
import pytest

from jupyter_portproxy.cli import main

from ..support.jupyter_processes import TOKEN, environment, jupyter_server, portproxy
from ..support.upstreams import free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")
SERVE = """
import http.server, sys
print("hello log", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("one", flush=True)
time.sleep(3)
print("two", flush=True)
"""
TEMPLATES = {
    "web": {
        "command": [sys.executable, "-c", SERVE, "{port}", "{word}"],
        "arguments": [{"name": "word", "default": "x"}],
        "stop_timeout": 1,
    },
    "folder": {
        "command": [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", "{folder}", "{port}"],
        "arguments": [{"name": "folder", "default": ".", "kind": "path"}],
        "stop_timeout": 1,
    },
    "fails": {"command": [sys.executable, "-c", "print('this is why'); raise SystemExit(3)"]},
    "stubborn": {"command": [sys.executable, "-c", STUBBORN], "stop_timeout": 2},
    "leaves": {
        "command": [sys.executable, "-c", f"import os, sys\nif os.fork(): os.wait()\nos.setsid()\n{SERVE}", "{port}"],
        "stop_timeout": 1,
    },
}


@pytest.fixture
def home(tmp_path):
    """A home whose `jupyter_portproxy.d` has the templates."""
    config = tmp_path / ".jupyter" / "jupyter_portproxy.d"
    config.mkdir(parents=True)
    (config / "mine.json").write_text(json.dumps(TEMPLATES))
    return tmp_path


@pytest.fixture
def server(home):
    with jupyter_server(home) as running:
        yield running


@pytest.fixture
def run(home):
    """Runs `jupyter portproxy ...`; returns (exit code, output, errors)."""

    def command(*arguments: str, folder=""):
        done = subprocess.run(
            [sys.executable, "-m", "jupyter_portproxy.cli.main", *arguments],
            env=environment(home), cwd=home / folder, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return command


def test_a_service_is_started_listed_read_and_stopped(server, run):
    code, said, _ = run("start", "web", "--name", "mine", "word=b")
    assert (code, said.startswith("mine is up: http://")) == (0, True)
    isolated, url = (line.partition(": ")[2] for line in said.splitlines())
    assert isolated == url.replace("proxy/service/", "proxy/enter/")
    with urllib.request.urlopen(url) as page:
        assert page.status == 200
    assert run("url", "mine") == (0, f"{isolated}\n", f"Path-based URL, for programs too: {url}\n")
    assert run("url", "--path", "mine") == (0, f"{url}\n", "")
    assert run("url", "--isolated", "mine") == (0, f"{isolated}\n", "")
    _, listed, _ = run("list")
    assert "mine" in listed and "up" in listed and "/proxy/enter/mine/ (/proxy/service/mine/)" in listed
    services = json.loads(run("list", "--json")[1])["services"]
    assert [(service["name"], service["arguments"]) for service in services] == [("mine", {"word": "b"})]
    assert run("logs", "mine")[1].startswith("hello log\n")
    assert run("stop", "mine") == (0, "mine is stopped.\n", "")
    assert json.loads(run("list", "--json")[1])["services"] == []


def test_without_a_command_it_shows_what_runs_and_the_commands_in_groups(server, run):
    run("start", "web", "--name", "mine")
    code, said, errors = run()
    assert (code, errors, said.splitlines()[0]) == (0, "", f"Jupyter server: {server.url.replace('127.0.0.1', 'localhost')}")
    assert re.search(r"^mine +up +[0-9]+ .*/proxy/service/mine/", said, re.MULTILINE)
    _, users, operators = re.split(r"^Commands:\n|^For the operators of hubs and project hosts:\n", said, flags=re.MULTILINE)
    assert "  start        Start a service from a template" in users and "  check " in users and "move" not in users
    assert "  move         Put a project on another host.\n" in operators and "  run-project " in operators
    assert users in run("--help")[1] and operators in run("--help")[1]


def test_without_a_command_and_a_server_it_says_so_and_is_no_error(home):
    """Also where `jupyter` is not on the PATH: by the module's own name."""
    program = [sys.executable, "-m", "jupyter_portproxy"]
    more = {**environment(home), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(program, env=more, cwd=home, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr, done.stdout.splitlines()[0]) == (0, "", "No Jupyter server of yours runs here.")
    assert "  start        Start a service from a template" in done.stdout


def test_a_path_counts_from_the_folder_of_the_command(server, run, home):
    """As in every shell; without one the template's own default counts from the server's folder."""
    (home / "below").mkdir()
    (home / "below" / "here.txt").write_text("below")
    (home / "here.txt").write_text("above")
    for number, (words, found) in enumerate(
        [(["folder=."], "below"), (["folder=.."], "above"), (["folder=~"], "above"), ([], "above")]
    ):
        assert run("start", "folder", "--name", f"n{number}", *words, folder="below")[0] == 0
        assert server.get(f"proxy/service/n{number}/here.txt") == (200, found), words


def test_other_arguments_start_another_service_and_the_same_ones_none(server, run, home):
    for name in ("a", "b"):
        (home / name).mkdir()
        (home / name / "which.txt").write_text(name)
    assert run("start", "folder", "folder=a")[1].startswith("folder is up: ")
    assert run("start", "folder", "folder=b")[1].startswith("folder-b is up: ")
    assert run("start", "folder", "folder=.", folder="b")[1].startswith("folder-b is up already (b): ")
    assert [server.get(f"proxy/service/{name}/which.txt")[1] for name in ("folder", "folder-b")] == ["a", "b"]
    rows = [line.split() for line in run("list")[1].splitlines()]
    assert [row[3] for row in rows if row and row[0].startswith("folder")] == ["a", "b"]
    assert run("start", "folder", "foldr=a")[2].startswith("The template 'folder' has no argument 'foldr'. It has folder.\n")
    code, _, said = run("start", "folder", "folder=none")
    assert (code, said.splitlines()[0]) == (1, f"The argument 'folder': there is no file or folder '{home / 'none'}'.")
    assert run("start", "folder", "--name", "folder", "folder=b")[2].startswith(
        "The service 'folder' runs with other arguments: "
    )
    assert len(json.loads(run("list", "--json")[1])["services"]) == 2


def test_an_error_is_one_sentence(server, run):
    code, _, said = run("start", "fails")
    cause = "It ended with exit code 3 before it was ready. Its output: this is why"
    assert (code, said) == (1, f"fails failed: {cause}\nthis is why\n")
    assert run("start", "none")[2].startswith("There is no template named 'none'.\n")
    assert "word=x" in next(line for line in run("templates")[1].splitlines() if line.startswith("web "))
    assert run("start", "web", "word")[2] == "'word' is not of the form NAME=VALUE.\n"
    assert run("stop", "none")[2].startswith("There is no service named 'none'.\n")
    assert run("url", "99999")[2] == "'99999' is not a port: a port is a whole number from 1 to 65535.\n"


def test_a_rule_for_a_port_shows_in_the_list_and_the_check(server, run):
    with socket.create_server(("127.0.0.1", free_port())) as listening:
        port = listening.getsockname()[1]
        status, answer = server.call("PUT", "proxy/api/port-rules", {"ports": str(port), "label": "Data base", "scheme": "tcp"})
        assert status == 200
        (line,) = [line for line in run("list")[1].splitlines() if line.startswith(f"{port} ")]
        assert re.search(r"Data base +tcp$", line)
        code, said, _ = run("check", str(port))
        assert (code, said.splitlines()[0]) == (1, f"By your rule, port {port} is tcp and not a web page.")
        server.call("DELETE", f"proxy/api/port-rules/{json.loads(answer)['id']}")


def test_a_port_outside_the_range_is_allowed_and_taken_back(server, run):
    port = free_port(range(21000, 29000))
    assert run("allowed")[1] == "No allowed ports.\n\n"
    code, said, _ = run("allow", str(port))
    assert (code, said.splitlines()[0].partition("http")[0]) == (0, f"Port {port} is allowed: ")
    code, said, _ = run("allow", str(port), "--for", "8h", "--json")
    assert code == 0 and 28700 < json.loads(said)["until"] - time.time() <= 28800
    assert re.match(rf"Port {port} is allowed until 20[0-9-]+ [0-9:]+: http", run("allow", str(port), "--for", "1.5h")[1])
    assert run("allowed")[1].split()[:4] == ["ALLOWED", "PORT", "UNTIL", str(port)]
    assert run("disallow", str(port)) == (0, f"Port {port} is not allowed any more.\n", "")
    assert (json.loads(run("allowed", "--json")[1]), run("disallow", str(port))[0]) == ([], 1)
    assert run("allow", "22")[2].startswith("You may not allow port 22.\n")
    for words in (["allow", "70000"], ["allow", "x"], ["allow", "5000", "--for", "8"], ["disallow", "0"]):
        code, _, said = run(*words)
        assert code == 2 and " is not a " in said.splitlines()[-1], said


def test_check_explains(server, run):
    port = free_port()
    code, said, _ = run("check", str(port))
    assert (code, said.splitlines()[0]) == (1, f"Nothing listens on port {port} of the server's machine.")
    with socket.create_server(("127.0.0.1", port)):
        assert run("check", str(port))[1].startswith(f"Port {port} is listened on, but does not answer HTTP.\n")
    outside = free_port(range(30000, 40000))
    code, said, _ = run("check", str(outside))
    assert (code, said.splitlines()[:2]) == (
        1,
        [
            f"Nothing listens on port {outside} of the server's machine.",
            f"Port {outside} is outside allowed range (10000-20000).",
        ],
    )
    with socket.create_server(("127.0.0.1", outside)):
        code, said, _ = run("check", str(outside), "--json")
        told = json.loads(said)
        assert told["problem"] == f"Port {outside} is outside allowed range (10000-20000)"
        assert f'c.PortProxy.allowed_ports = ["10000-20000", {outside}]' in told["remedy"]
    own = run("check", server.url.rstrip("/").rpartition(":")[2])[1]
    assert "is this Jupyter server's own." in own and "Nothing listens" not in own
    with socket.create_server(("127.0.0.2", port)):
        said = run("check", str(port))[1].splitlines()
        assert said == ["It listens on 127.0.0.2 only, not on localhost.", "Let the service listen on 127.0.0.1 or 0.0.0.0."]
    web = json.loads(run("start", "web", "--json")[1])
    said = run("check", str(web["port"]))[1].splitlines()
    assert said[0].startswith(f"Port {web['port']} answers HTTP: http://") and f"/proxy/enter/{web['port']}/" in said[0]
    assert said[1].startswith("Path-based URL, for programs too: http://") and f"/proxy/port/{web['port']}/" in said[1]


def test_a_port_is_reserved_for_a_script(server, run):
    code, port, _ = run("reserve", "mine", "--seconds", "60")
    assert (code, 10000 <= int(port) <= 20000) == (0, True)
    assert [item["name"] for item in json.loads(run("list", "--json")[1])["reservations"]] == ["mine"]


def test_a_service_is_restarted(server, run):
    started = json.loads(run("start", "web", "--json")[1])
    assert run("restart", "web")[1].startswith("web is up: http://")
    assert json.loads(run("restart", "web", "--json")[1])["since"] > started["since"]
    assert run("logs", "web")[1].count("hello log") == 3
    assert run("restart", "none")[2].startswith("There is no service named 'none'.\n")


def test_what_takes_longer_than_an_answer_usually_does_is_waited_for(server, run, home, monkeypatch, capfd):
    run("start", "stubborn")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(home / ".local" / "share" / "jupyter" / "runtime"))
    brief = partial(main.main, timeout=0.5)
    assert brief(["logs", "-f", "stubborn"]) == 0
    assert capfd.readouterr().out == "one\ntwo\n"
    assert brief(["start", "stubborn", "--no-wait"]) == 0
    deadline = time.monotonic() + 10
    while run("logs", "stubborn")[1].count("one") < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert brief(["stop", "stubborn"]) == 0


def test_the_token_is_sent_to_no_proxy(server, run, home):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(1)
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        done = portproxy(home, "list", "--json", more={"http_proxy": address, "HTTP_PROXY": address, "no_proxy": ""})
        assert done[0] == 0 and json.loads(done[1])["services"] == []
        with pytest.raises(TimeoutError):
            proxy.accept()


def test_a_server_without_a_token_says_what_to_do(home, run):
    with jupyter_server(home, "--IdentityProvider.token=", "--PasswordIdentityProvider.hashed_password=argon2:x"):
        assert run("list") == (
            1,
            "",
            "The server's login has no token. Where it is Jupyter's own password, start the server with JUPYTER_TOKEN.\n",
        )


def test_without_a_server_it_says_so(run):
    assert run("list") == (1, "", "No Jupyter server of yours runs here.\n")


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGKILL", "/api/shutdown"])
def test_nothing_survives_the_server(server, run, how):
    for template in ("web", "leaves"):
        assert run("start", template)[0] == 0
    family = psutil.Process(server.process.pid).children(recursive=True)
    assert len(family) >= 5
    if how == "/api/shutdown":
        fields = {"Authorization": f"token {TOKEN}"}
        urllib.request.urlopen(urllib.request.Request(f"{server.url}api/shutdown", b"", fields, method="POST")).close()
    else:
        server.process.send_signal(getattr(signal, how))
        if how == "SIGINT":
            time.sleep(0.5)
            server.process.send_signal(signal.SIGINT)  # twice, as it asks for
    server.process.wait(15)
    left = psutil.wait_procs(family, timeout=5)[1]
    assert [process.cmdline() for process in left if process.status() != psutil.STATUS_ZOMBIE] == []


# ---- ports on which no process listens ----


class Gateway:
    """A client for `check`: the gateway's error for a port."""

    def __init__(self, **error: str) -> None:
        self.port_error = lambda port: error


@pytest.mark.parametrize(
    ("failure", "problem", "remedy"),
    [
        ({}, "", ""),  # reached all the same: the packet filter forwards it, and allow_other_users is on
        ({"code": "forwarded_port", "message": "It is forwarded.", "hint": "Allow it."}, "It is forwarded.", "Allow it."),
        ({"code": "bad_upstream", "message": "No HTTP.", "hint": "Look."}, "No HTTP.", "Look."),
        (
            {"code": "forbidden", "message": "Port 5 is outside allowed range (10000-20000)", "hint": "Allow it."},
            "Nothing listens on port 5 of the server's machine.\nPort 5 is outside allowed range (10000-20000).",
            "Allow it.",
        ),
        (
            {"code": "unreachable", "message": "Failed to connect to service on port 5.", "hint": ""},
            "Nothing listens on port 5 of the server's machine.",
            "Start the service, for example: python3 -m http.server 5",
        ),
        ({"code": "loop", "message": "x", "hint": "y"}, "Port 5 is this Jupyter server's own.", "Name the port of a service."),
    ],
)
def test_why_an_unlisted_port_cannot_be_reached_is_what_the_gateway_says(failure, problem, remedy):
    assert main._diagnose_unlisted(Gateway(**failure), 5) == (problem, remedy)
