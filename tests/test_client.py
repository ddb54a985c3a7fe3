"""The command line as one file (client/build.py), run by a Python that has no packages, against a real server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

import jupyter_portproxy

from .support.jupyter_processes import TOKEN, jupyter_server
from .support.upstreams import free_port

ROOT = Path(__file__).parents[1]
MAX_SIZE = 1 << 20  # bytes; half of them are bytecode, without which a command needs three times the CPU to start
PACKAGE = "jupyter_portproxy"


def build(target: Path) -> Path:
    subprocess.run([sys.executable, ROOT / "client" / "build.py", target], check=True, capture_output=True)
    return target


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    return build(tmp_path_factory.mktemp("client") / "jupyter-portproxy.pyz")


@pytest.fixture
def run(client, tmp_path):
    """Runs the file as on a laptop without Jupyter; returns (exit code, output, errors)."""
    (home := tmp_path / "laptop").mkdir()
    variables = {"HOME": str(home), "PATH": os.defpath}

    def command(*arguments: str, given: str = "", program: tuple[str, ...] = ()) -> tuple[int, str, str]:
        line = [sys.executable, "-I", "-S", *(program or (str(client),)), *arguments]
        done = subprocess.run(line, env=variables, cwd=home, input=given, capture_output=True, text=True, timeout=40, check=False)
        return done.returncode, done.stdout, done.stderr

    return command


def test_its_commands_call_a_real_server(run, tmp_path):
    (home := tmp_path / "server").mkdir()
    with jupyter_server(home, base="/user/ada/") as server:
        code, _, errors = run("list")
        hint = "Log in to a server elsewhere: jupyter-portproxy.pyz login URL"
        assert (code, errors) == (1, f"No Jupyter server of yours runs here.\n{hint}\n")
        code, output, errors = run("login", f"{server.url}lab", given=f"{TOKEN}\n")
        assert (code, output.splitlines()[0], errors) == (0, f"You are logged in to {server.url}", "")
        assert output.splitlines()[1].endswith("because the library keyring is not installed.")
        code, output, errors = run("start", "http-server", "--json")
        assert (code, errors) == (0, ""), server.log
        assert json.loads(output)["state"] == "up"
        assert run("url", "http-server", "--path") == (0, f"{server.url}proxy/service/http-server/\n", "")
        assert run("stop", "http-server") == (0, "http-server is stopped.\n", "")
        assert run("--version") == (0, f"{jupyter_portproxy.__version__}\n", "")


def test_it_forwards_a_port(run, client, tmp_path):
    """Without Tornado's C extension: the masking of the frames must not be a loop over bytes."""
    (home := tmp_path / "server").mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(client)!r}); from {PACKAGE}.upstream.byte_tunnel import MASK; print(MASK.__name__)"
    )
    assert run(program=("-c", code)) == (0, "mask_by_integers\n", "")
    with jupyter_server(home) as server, socket.create_server(("127.0.0.1", free_port())) as listener:
        forward = f"0:{listener.getsockname()[1]}"
        command = [sys.executable, "-I", "-S", client, "--server", f"{server.url}?token={TOKEN}", "forward", "--json", forward]
        with subprocess.Popen(command, env={"HOME": str(tmp_path), "PATH": os.defpath}, stdout=subprocess.PIPE) as program:
            try:
                port = json.loads(program.stdout.readline())["port"]
                with socket.create_connection(("127.0.0.1", port)) as near:
                    far, _ = listener.accept()
                    sent = os.urandom(1 << 20)
                    sending = threading.Thread(target=near.sendall, args=(sent,))
                    sending.start()
                    with far, far.makefile("rb") as received:
                        assert received.read(len(sent)) == sent
                        far.sendall(b"thanks")
                        assert near.recv(10) == b"thanks"
                    sending.join()
            finally:
                program.terminate()
        assert program.returncode == 0


def test_it_watches_a_port(client, tmp_path):
    (home := tmp_path / "server").mkdir()
    port = free_port()
    with jupyter_server(home) as server:
        arguments = ["--server", f"{server.url}?token={TOKEN}", "watch", "--har", "out.har", str(port)]
        command = [sys.executable, "-I", "-S", client, *arguments]
        with subprocess.Popen(
            command, env={"HOME": str(tmp_path), "PATH": os.defpath}, cwd=tmp_path, stdout=subprocess.PIPE
        ) as program:
            try:
                while b"true" not in server.get(f"proxy/api/exchanges?target={port}")[1].encode():
                    assert program.poll() is None
                    time.sleep(0.05)
                server.get(f"proxy/port/{port}/x?key=secret")
                line = program.stdout.readline().decode()
            finally:
                program.send_signal(signal.SIGINT)
        assert program.returncode == 0
    assert f"/proxy/port/{port}/x?key=***" in line and "[error unreachable" in line
    (entry,) = json.loads((tmp_path / "out.har").read_text())["log"]["entries"]
    assert (entry["response"]["status"], entry["_gateway"]["error"]) == (502, "unreachable")


def test_a_help_text_takes_a_quarter_of_a_second_and_names_the_file(run):
    """In time of the processor, as other tests run beside this one."""
    before = os.times()
    code, output, errors = run("--help")
    after = os.times()
    assert (code, errors, output.splitlines()[0][:30]) == (0, "", "usage: jupyter-portproxy.pyz [")
    assert "login" in output and "run-project" not in output
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.25


def test_what_only_a_server_has_says_so(run):
    code, _, errors = run("check", "--migrate")
    assert (code, errors.splitlines()[0]) == (1, "A configuration is checked where the server runs.")


def test_each_of_its_modules_imports_without_other_packages(run, client):
    names = [name.removesuffix(".py").replace("/", ".") for name in zipfile.ZipFile(client).namelist() if name.endswith(".py")]
    ours = [name.removesuffix(".__init__") for name in names if name.startswith(PACKAGE)]
    assert f"{PACKAGE}.cli.server_choice" in ours and f"{PACKAGE}.app" not in ours and "tornado.websocket" in names
    code = f"import sys; sys.path.insert(0, {str(client)!r}); import {', '.join([*ours, 'tornado.websocket'])}"
    assert run(program=("-c", code)) == (0, "", "")


# What Windows does not have.
WINDOWS = """
import importlib, os, socket, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"):
            raise ImportError(name)
sys.meta_path.insert(0, Missing())
for module, names in ((os, ("fork", "getuid", "geteuid")), (socket, ("AF_NETLINK", "AF_UNIX", "SO_PEERCRED", "TCP_INFO"))):
    for name in names:
        delattr(module, name)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it removes what Linux has")
def test_each_of_its_modules_imports_without_posix(run, client):
    names = [name.removesuffix(".py").replace("/", ".") for name in zipfile.ZipFile(client).namelist() if name.endswith(".py")]
    ours = [name.removesuffix(".__init__") for name in names if name.startswith(PACKAGE)]
    code = f"{WINDOWS}\nsys.path.insert(0, {str(client)!r})\nfor name in {ours!r}:\n    importlib.import_module(name)"
    assert run(program=("-c", code)) == (0, "", "")


def test_it_is_small_and_the_same_bytes_each_time(client, tmp_path):
    assert client.stat().st_size < MAX_SIZE
    assert build(tmp_path / "again.pyz").read_bytes() == client.read_bytes()


def test_an_old_python_gets_a_sentence(client):
    main = zipfile.ZipFile(client).read("__main__.py").decode()
    check, _, _ = main.partition("from jupyter_portproxy")
    old = "import sys; sys.version_info, sys.version = (3, 9), '3.9.6 (default)'\n"
    done = subprocess.run([sys.executable, "-c", old + check], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Python 3.10 or newer is needed; this is 3.9.6\n")
