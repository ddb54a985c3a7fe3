"""What the README's table says of jupyter-server-proxy, seen there; and that this package does as the table says."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from pathlib import Path

import pytest

from ..support.docs_shell import ROOT
from ..support.jupyter_processes import TOKEN, jupyter_server
from ..support.upstreams import free_port, mirror, serve

PACKAGES = Path(sys.prefix, "incumbent")
ROWS = {
    "Ports that can be reached": ("every port ²", "a list, 10000 to 20000 by default ¹"),
    "Jupyter's token and cookies to the service": ("sent ²", "never ⁴"),
    "A path with `%23` or `%2F` arrives": ("decoded ²", "unchanged ⁵"),
}


def seen(server, port: int, cookie: str) -> tuple[int, dict]:
    fields = {"Authorization": f"token {TOKEN}", "Cookie": cookie}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{server.url}proxy/{port}/a%2Fb%23c", headers=fields)) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {}


@pytest.mark.parametrize("theirs", [True, False], ids=["jupyter-server-proxy", "portproxy"])
async def test_the_readmes_table(tmp_path, theirs):
    table = dict(
        line.strip("| ").split(" | ", 1) for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| ")
    )
    for row, (them, us) in ROWS.items():
        assert table[row].split(" | ")[:2] == [us, them]
    enabled = {"jupyter_server_proxy": theirs, "jupyter_portproxy": not theirs}
    more = {"PYTHONPATH": f"{PACKAGES}:{ROOT}"}
    with jupyter_server(tmp_path, f"--ServerApp.jpserver_extensions={enabled}", more=more) as server:
        name = f"username-127-0-0-1-{server.url.split(':')[2].strip('/')}"
        async with serve(mirror) as inside, serve(mirror, port=free_port(range(30000, 32000))) as outside:
            status, request = await asyncio.to_thread(seen, server, inside.port, f"{name}=secret; own=1")
            assert status == 200
            fields = {field.lower(): value for field, value in request["fields"]}
            assert (TOKEN in fields.get("authorization", ""), "secret" in fields["cookie"]) == (theirs, theirs)
            assert "own=1" in fields["cookie"]
            assert request["target"] == ("/a/b" if theirs else "/a%2Fb%23c")
            assert (await asyncio.to_thread(seen, server, outside.port, ""))[0] == (200 if theirs else 403)
