"""What `forward` and `attach` have in common. The commands themselves are in test_forward and test_attach."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from jupyter_portproxy.cli.relay_command import exit_code_of_signals, print_message, run_relay, server_access
from jupyter_portproxy.cli.server_address import ServerAddress
from jupyter_portproxy.errors import CliError


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_the_first_signal_decides_the_exit_code(number, code):
    try:
        found = exit_code_of_signals()
        os.kill(os.getpid(), number)
        assert await asyncio.wait_for(found, 5) == code
        os.kill(os.getpid(), signal.SIGTERM if number == signal.SIGINT else signal.SIGINT)
        await asyncio.sleep(0.05)
        assert found.result() == code
    finally:
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(each)


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not made for Windows")
@pytest.mark.parametrize("is_installed", [True, False])
def test_the_loop_is_uvloops_where_it_is_installed(monkeypatch, is_installed):
    if not is_installed:
        monkeypatch.setitem(sys.modules, "uvloop", None)

    async def name_loop() -> int:
        return int(type(asyncio.get_running_loop()).__module__ == "uvloop")

    assert run_relay(name_loop()) == is_installed


def test_messages_go_to_standard_error_without_control_characters(capsys):
    print_message("no\x1b[2J way")
    assert capsys.readouterr() == ("", "no\N{REPLACEMENT CHARACTER}[2J way\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has this device")
def test_a_message_that_cannot_be_printed_ends_nothing(monkeypatch):
    with open("/dev/full", "w", buffering=1) as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", full)
        print_message("The server answers again.")
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # what is left is written when it is closed


def test_a_server_is_dialled_with_the_proxy_of_the_environment(monkeypatch):
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ServerAddress("https://hub.example.org/user/ada/", "s3cret")
    monkeypatch.setenv("https_proxy", "http://proxy.example.org:3128")
    access = server_access(server)
    assert (access.url, access.token, access.proxy) == (server.url, "s3cret", "http://proxy.example.org:3128")
    assert str(access.explain(404, {}, b"")).startswith(f"{server.url} has no jupyter_portproxy.")
    monkeypatch.setenv("https_proxy", "socks5://proxy.example.org:1080")
    with pytest.raises(CliError, match="of the environment variable https_proxy cannot be used"):
        server_access(server)
