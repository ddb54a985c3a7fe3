"""The server that a command calls, and what it says without one."""

from __future__ import annotations

import json
import socket
import sys

import pytest

from ..support.jupyter_processes import jupyter_server, portproxy

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")


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
    sentences = "No Jupyter server of yours runs here.\nLog in to a server elsewhere: jupyter portproxy login URL\n"
    assert run("list") == (1, "", sentences)
