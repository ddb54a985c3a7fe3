"""`forward --reverse` against real servers; what the server allows is tested in attachment/test_reverse."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

from jupyter_portproxy.cli.reverse import parse_pairs
from jupyter_portproxy.errors import CliError

from ..support.jupyter_processes import environment, jupyter_server
from ..support.upstreams import free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")


@pytest.mark.parametrize(
    ("arguments", "pairs"),
    [(["27000:1234"], {27000: 1234}), (["27000"], {27000: 27000}), (["1:2", "3:4"], {1: 2, 3: 4})],
)
def test_pairs(arguments, pairs):
    assert parse_pairs(arguments) == pairs


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["x:1"], "'x' is not a port: "),
        (["1:"], "'' is not a port: "),
        (["1:2:3"], "'2:3' is not a port: "),
        (["0:1"], "'0' is not a port: "),
        (["1:2", "1:3"], "Port 1 of the server is named twice."),
    ],
)
def test_what_is_not_a_pair(arguments, sentence):
    with pytest.raises(CliError) as caught:
        parse_pairs(arguments)
    assert str(caught.value).startswith(sentence)


def test_a_port_of_this_machine_is_one_beside_the_server(home):
    remote = free_port()
    with socket.create_server(("127.0.0.1", 0)) as local, jupyter_server(home, "--PortProxy.reverse_forwarding=True") as server:
        port = local.getsockname()[1]
        command = [sys.executable, "-m", "jupyter_portproxy", "forward", "--server", server.url, "--reverse", f"{remote}:{port}"]
        process = subprocess.Popen(
            command, env=environment(home), cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        line = process.stdout.readline()
        url = server.url.replace("127.0.0.1", "localhost")  # as the server has written it into its runtime file
        assert line == f"127.0.0.1:{remote} beside {url} leads to port {port} of this machine\n"
        with socket.create_connection(("127.0.0.1", remote), timeout=10) as client:
            client.sendall(b"hello")
            accepted, _ = local.accept()
            with accepted:
                assert accepted.recv(5) == b"hello"
                accepted.sendall(b"welcome")
                assert client.recv(7) == b"welcome"
        process.send_signal(signal.SIGINT)
        assert (process.communicate(timeout=10)[1], process.returncode) == ("", 130)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", remote))


def test_a_server_that_does_not_allow_it(server, run):
    code, _, errors = run("forward", "--reverse", "27000:27000")
    assert code == 1 and errors.startswith("Ports of other machines cannot be forwarded to this server.\n")
    assert run("forward", "--reverse", "--stdio", "27000")[2] == "--reverse and --stdio exclude each other.\n"
