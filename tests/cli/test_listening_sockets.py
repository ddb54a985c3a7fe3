"""Listening sockets of this machine, and the sentences for those that cannot be had."""

from __future__ import annotations

import os
import socket
import stat
import sys

import pytest

from jupyter_portproxy.cli.listening_sockets import close_listener, listen
from jupyter_portproxy.errors import CliError
from jupyter_portproxy.protocol.forwards import parse_forward

needs_unix_sockets = pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")


def refused(argument: str) -> str:
    with pytest.raises(CliError) as caught:
        listen(parse_forward(argument))
    return str(caught.value)


@pytest.mark.parametrize(("argument", "host"), [("0:5432", "127.0.0.1"), ("[::1]:0:5432", "::1"), ("0.0.0.0:0:db", "0.0.0.0")])
def test_a_free_port_is_found_and_known(argument, host):
    sock, forward = listen(parse_forward(argument))
    with sock:
        assert sock.getsockname()[:2] == (host, forward.port)
        assert forward.port and forward.remote == parse_forward(argument).remote


def test_a_port_that_is_taken_is_named_with_a_way_out():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = f"Port {port} of this machine is taken (127.0.0.1:{port}). Choose another one, or 0 for a free one:"
        assert refused(f"{port}:5432") == f"{text} 0:5432"
        assert refused(f"{port}:f3a1/db") == f"{text} 0:f3a1/db"


def test_an_address_that_this_machine_does_not_have():
    assert refused("192.0.2.1:0:5432") == "This machine has no address 192.0.2.1."


@needs_unix_sockets
def test_a_unix_socket_is_for_this_user_and_goes_with_its_listener(tmp_path):
    path = tmp_path / "a.sock"
    mask = os.umask(0)
    try:
        sock, forward = listen(parse_forward(f"{path}:5432"))
    finally:
        os.umask(mask)
    assert forward.unix_socket == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert refused(f"{path}:5432") == f"Another process listens on {path} already. Choose another path."
    close_listener(sock, forward)
    assert not path.exists()


@needs_unix_sockets
def test_a_path_is_relative_to_here_or_to_the_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for argument in ("./here.sock:5432", "~/home.sock:5432"):
        sock, forward = listen(parse_forward(argument))
        assert forward.unix_socket == str(tmp_path / argument[2:-5])
        close_listener(sock, forward)


@needs_unix_sockets
def test_the_file_of_a_listener_that_was_killed_is_replaced_and_no_other_file(tmp_path):
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    sock, forward = listen(parse_forward(f"{path}:5432"))
    close_listener(sock, forward)
    path.write_text("mine")
    assert refused(f"{path}:5432") == f"{path} is there already, and not a socket. Choose another path."
    assert path.read_text() == "mine"


@needs_unix_sockets
def test_a_path_that_cannot_be_used(tmp_path):
    assert refused(f"{tmp_path / ('x' * 150)}:5432").endswith("AF_UNIX path too long.")
    assert refused(f"{tmp_path}/none/a.sock:5432").endswith("No such file or directory.")
