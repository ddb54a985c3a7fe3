"""docs/forward.md: its commands forward until a signal, its arguments are taken, and ssh takes its configuration."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys

import pytest

from jupyter_portproxy.protocol.forwards import parse_forward

from ..support.forwarding import COMMAND, echo, service
from ..support.jupyter_processes import environment, jupyter_server
from ..support.markdown_blocks import BLOCKS, DOCS, each
from ..support.tcp_programs import program
from ..support.upstreams import free_port
from .test_docs import FORWARD

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")
PAGE = (DOCS / "forward.md").read_text()
COMMANDS = [block for block in BLOCKS if block.page == FORWARD and block.language == "sh"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    with jupyter_server(folder):
        yield folder


@each(COMMANDS)
def test_commands_forward_until_a_signal(home, block):
    """With free ports of this machine in place of those of the example, and a service at the ports of the server."""
    program_name, *words = shlex.split(block.text.removeprefix("jupyter "))
    assert program_name == "portproxy"
    with service(echo) as port:
        here = {free_port() for _ in range(9)}
        arguments = [f"{here.pop()}:{port}" if parse_forward(word).remote.port else word for word in words[1:]]
        process = subprocess.Popen([*COMMAND, words[0], *arguments], env=environment(home), stdout=subprocess.PIPE, text=True)
        lines = [process.stdout.readline() for _ in arguments]
        for line, argument in zip(lines, arguments, strict=True):
            assert re.fullmatch(rf"127\.0\.0\.1:{argument.partition(':')[0]} leads to port {port} at http://.*/\n", line), line
            with socket.create_connection(("127.0.0.1", int(argument.partition(":")[0])), 10) as sock:
                sock.sendall(b"hello")
                assert sock.recv(5) == b"hello"
        process.send_signal(signal.SIGTERM)
        assert (process.wait(10), process.stdout.read()) == (0, "")
        process.stdout.close()


def test_the_table_of_arguments_has_forms_that_are_taken():
    rows = re.findall(r"^\| (`[^|]+`) \| [^|]+ \| [^|]+ \|$", PAGE, re.MULTILINE)
    arguments = [text.replace("KEY", "f3a1") for row in rows for text in re.findall("`([^`]+)`", row) if " " not in text]
    assert len(arguments) == 10
    for argument in arguments:
        assert parse_forward(argument)


def test_the_sentence_that_it_prints_is_that_of_the_page():
    assert "leads to port 15432 at https://" in PAGE and "The server does not answer; trying again ..." in PAGE


def test_ssh_takes_the_configuration(tmp_path):
    (block,) = [block.text for block in BLOCKS if block.page == FORWARD and block.text.startswith("Host lab")]
    (tmp_path / "config").write_text(block)
    shown = subprocess.run(
        [program("ssh"), "-G", "-F", str(tmp_path / "config"), "lab"], capture_output=True, text=True, check=True
    ).stdout
    command = next(line for line in shown.splitlines() if line.startswith("proxycommand "))
    name, *arguments = shlex.split(command.removeprefix("proxycommand "))
    assert name == "jupyter-portproxy" and arguments[-2:] == ["--stdio", "15022"]
