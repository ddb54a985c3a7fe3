"""The set-ups of docs/isolation.md, run: a real nginx with TLS before a real Jupyter server."""

from __future__ import annotations

import http.client
import socket
from urllib.parse import urlsplit

import pytest

from ..support.jupyter_processes import TOKEN, jupyter_server
from ..support.markdown_blocks import BLOCKS
from ..support.nginx import nginx
from ..ui.apps import build, running

MINE = [block for block in BLOCKS if block.page == "docs/isolation.md"]
NGINX = [block.text for block in MINE if block.language == "nginx"]
CONFIGS = [block.text for block in MINE if block.text.startswith("# jupyter_server_config.py")]


def ask(front, address, **fields):
    """A browser's request to an `https` address, all of whose names are at the front."""
    port, trust = front
    parts = urlsplit(address)
    sock = trust.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname=parts.hostname)
    connection = http.client.HTTPConnection(parts.hostname)
    connection.sock = sock
    try:
        uri = parts.path + ("?" + parts.query if parts.query else "")
        connection.request("GET", uri, headers={"Host": parts.netloc, "Accept": "text/html", **fields})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("number", "base", "host", "jupyters"),
    [(0, "/", "{}.apps.example.net", "https://jupyter.example.org/"), (1, "/user/alice/", "{}--alice.apps.example.net", None)],
    ids=["wildcard", "jupyterhub"],
)
def test_a_service_at_its_origin_behind_nginx(tmp_path, number, base, host, jupyters):
    (tmp_path / ".jupyter").mkdir()
    (tmp_path / ".jupyter" / "jupyter_server_config.py").write_text(CONFIGS[number])
    more = {"JUPYTERHUB_USER": "alice", "JUPYTERHUB_SERVICE_PREFIX": base} if jupyters is None else {}
    with jupyter_server(tmp_path, "--ServerApp.allow_remote_access=True", base=base, more=more) as server, running(build) as port:
        upstream = urlsplit(server.url).netloc
        with nginx(tmp_path, NGINX[number], upstream) as front:
            name = host.format(port)
            if jupyters is not None:
                status, head, _ = ask(front, f"{jupyters}proxy/enter/{port}/items/1?q", Authorization=f"token {TOKEN}")
                assert status == 302
                way = head["Location"]
            else:  # what the hub's proxy sends to the server: it says `http` behind the front's `https`
                connection = http.client.HTTPConnection(upstream)
                sent = {"Host": "hub.example.org", "X-Forwarded-Proto": "https,http", "Authorization": f"token {TOKEN}"}
                connection.request("GET", f"{base}proxy/enter/{port}/items/1?q", headers=sent)
                way = connection.getresponse().headers["Location"]
                connection.close()
            assert way.startswith(f"https://{name}/.well-known/portproxy/enter?")
            status, head, _ = ask(front, way)
            assert (status, head["Location"]) == (302, f"https://{name}/items/1?q")
            cookie = head["Set-Cookie"]
            assert cookie.startswith("__Host-portproxy-0=") and cookie.endswith("; Path=/; HttpOnly; SameSite=Lax; Secure")
            status, _, text = ask(front, head["Location"], Cookie=cookie.partition(";")[0])
            assert (status, "<title>build</title>" in text) == (200, True)
            expected = jupyters or "https://hub.example.org/user/alice/"
            own = f"https://{urlsplit(expected).netloc}"
            assert ask(front, f"https://{name}/.well-known/portproxy/hello", Origin=own)[0] == 204
            status, head, _ = ask(front, f"https://{name}/items/2")
            assert (status, head["Location"]) == (302, f"{expected}proxy/enter/{port}/items/2")
