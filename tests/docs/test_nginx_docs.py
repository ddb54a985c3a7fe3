"""The front of docs/troubleshooting.md, run: a real nginx with its lines before a real Jupyter server."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

from ..support import upstreams
from ..support.jupyter_processes import TOKEN, jupyter_server
from ..support.markdown_blocks import BLOCKS
from ..support.nginx import nginx
from ..support.raw_clients import UPGRADE, Wire
from ..support.upstreams import mirror, serve

LOCATION, MAP = [block.text for block in BLOCKS if block.page == "docs/troubleshooting.md" and block.language == "nginx"]
TLS = "ssl_certificate /etc/ssl/jupyter.pem; ssl_certificate_key /etc/ssl/jupyter.key;"


async def test_posts_streams_and_websockets_pass_the_reverse_proxy(tmp_path):
    trusts = ["--ServerApp.trust_xheaders=True", "--ServerApp.allow_remote_access=True"]
    with jupyter_server(tmp_path, *trusts) as server:
        front = nginx(tmp_path, f"{MAP} server {{ listen 443 ssl; {TLS} {LOCATION} }}", urlsplit(server.url).netloc)
        with front as (port, trust):
            async with (
                serve(mirror) as up,
                serve(upstreams.echo_frames) as echo,
                serve(upstreams.drips([b"first", b"last"], 5)) as slow,
            ):

                async def ask(method: str, there: int, *fields: str) -> Wire:
                    opened = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname="jupyter.example.org")
                    lines = [f"{method} /proxy/port/{there}/ HTTP/1.1", "Host: jupyter.example.org"]
                    origin = ["Origin: https://jupyter.example.org"] if fields else []  # no browser sends it with a plain GET
                    lines += [*origin, f"Authorization: token {TOKEN}", *fields, "", ""]
                    await (connection := Wire(*opened)).send("\r\n".join(lines).encode())
                    return connection

                async with await ask("POST", up.port, "Content-Length: 0") as connection:
                    answer = await connection.answer()
                    assert answer.status == 200
                async with await ask("GET", up.port) as connection:
                    received = dict(json.loads((await connection.answer()).text)["fields"])
                    assert (received["X-Forwarded-Proto"], received["X-Forwarded-Host"]) == ("https", "jupyter.example.org")
                async with await ask("GET", echo.port, *UPGRADE) as connection:
                    assert (await connection.head()).status == 101
                    await connection.send(b"ping")
                    assert await asyncio.wait_for(connection.reader.readexactly(4), 5) == b"ping"
                async with await ask("GET", slow.port) as connection:
                    await connection.head()
                    pieces = connection.chunks()
                    assert await asyncio.wait_for(pieces.__anext__(), 4) == b"first"  # and not with the last
