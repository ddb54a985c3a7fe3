"""The Postgres template of the documentation, started by the command line and reached with `forward`."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import tempfile
from pathlib import Path

import asyncpg
import pytest

from ..support.forwarding import forwarding
from ..support.jupyter_processes import jupyter_server, portproxy
from ..support.markdown_blocks import BLOCKS
from ..support.postgres import Server

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups"),
]
TEMPLATE = next(block.text for block in BLOCKS if block.page == "docs/templates.md" and block.text.startswith('{\n  "postgres"'))


def install_programs(folder: Path, postgres: Server) -> None:
    """`initdb` and `postgres` as commands; for root, which Postgres refuses, they run as the user of the tests' Postgres."""
    become = ""
    if postgres.user is not None:
        become = f"setpriv --reuid {postgres.user.pw_uid} --regid {postgres.user.pw_gid} --clear-groups "
    for name in ("initdb", "postgres"):
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {become}{shlex.quote(str(postgres.binaries / name))} "$@"\n')
        program.chmod(0o755)


async def ask(port: int, query: str) -> object:
    connection = await asyncpg.connect(host="127.0.0.1", port=port, user="postgres", database="postgres", timeout=20)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def test_the_postgres_of_the_documentation_is_started_and_reached(tmp_path, postgres_server):
    (programs := tmp_path / "programs").mkdir()
    install_programs(programs, postgres_server)
    (config := tmp_path / ".jupyter" / "jupyter_portproxy.d").mkdir(parents=True)
    (config / "postgres.json").write_text(TEMPLATE)
    more = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C"}
    others = ["--PortProxy.allow_other_users=True"] if postgres_server.user is not None else []
    with tempfile.TemporaryDirectory(prefix="pg") as home, jupyter_server(tmp_path, *others, more=more):
        Path(home).chmod(0o777)
        folder = Path(home) / "data"
        code, output, errors = portproxy(tmp_path, "start", "postgres", f"folder={folder}")
        assert (code, output) == (0, "postgres is up: jupyter portproxy forward postgres\n"), errors
        assert (folder / "PG_VERSION").exists()
        with forwarding(tmp_path, "0:postgres") as running:
            assert asyncio.run(ask(running.ports[0], "select 6 * 7")) == 42
            asyncio.run(ask(running.ports[0], "create table kept as select 1 as number"))
        assert portproxy(tmp_path, "restart", "postgres")[0] == 0  # its data are kept
        with forwarding(tmp_path, "0:postgres") as running:
            assert asyncio.run(ask(running.ports[0], "select number from kept")) == 1
        assert portproxy(tmp_path, "stop", "postgres")[0] == 0
        assert not (folder / "postmaster.pid").exists()  # it has ended in order
