"""`jupyter portproxy placement host | up | drain | ...` in processes of their own, against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from ..support.jupyter_processes import environment
from .test_project_placement import URL, hosts, placement

__all__ = ["hosts", "placement"]


async def test_credentials_are_stored_and_never_listed(placement, hosts, database):
    rows = await database.sql("select host_id, credential from project_hosts order by host_id")
    assert [tuple(row) for row in rows] == [("h1", "c1-s3cret"), ("h2", "c2-s3cret")]
    assert placement("heartbeat", "h2")[0] == 0
    plain, whole = placement("hosts")[1], placement("hosts", "--json")[1]
    assert "s3cret" not in plain + whole
    assert plain.splitlines()[1].split() == ["h1", "silent", "-", URL]
    assert [(host["host"], host["state"]) for host in json.loads(whole)] == [("h1", "silent"), ("h2", "up")]
    assert placement("host", "h1", "http://10.0.0.9:1", "--credential", "new")[0] == 0
    await database.sql("update project_hosts set status = 'down' where host_id = 'h2'")
    assert [line.split()[1] for line in placement("hosts")[1].splitlines()[1:3]] == ["silent", "down"]


def test_a_credential_must_be_one(placement):
    assert placement("host", "h1", URL)[0] == 2
    assert placement("host", "h1", URL, "--credential", "two words")[2].startswith("Invalid credential.\n")
    assert placement("host", "h1", URL, "--credential-file", "none")[2] == (
        "The file none cannot be read: No such file or directory.\n"
    )


async def test_a_host_is_drained_taken_down_and_forgotten(placement, hosts, database):
    def states():
        return {host["host"]: host["state"] for host in json.loads(placement("hosts", "--json")[1])}

    for host in ("h1", "h2"):
        placement("heartbeat", host)
    await database.sql("update project_hosts set last_seen = last_seen + interval '10 minutes'")  # on a slow machine, too
    assert placement("place", "p1", "h1", "--owner", "ann")[0] == 0
    assert json.loads(placement("drain", "h1", "--json")[1]) == {"host": "h1", "status": "draining"}
    assert states() == {"h1": "draining", "h2": "up"}
    refused = "The host 'h1' is draining: it gets no more projects.\nTake another host.\n"
    assert placement("place", "p2", "h1", "--owner", "ann") == (1, "", refused)
    assert placement("place", "p1", "h1", "--name", "stays")[0] == 0, "it is there already"
    assert placement("move", "p1", "h2")[0] == 0
    assert placement("move", "p1", "h1") == (1, "", refused)
    assert placement("host", "h1", "http://10.0.0.9:1", "--credential", "new")[0] == 0
    assert states()["h1"] == "draining", "an address is no status"
    assert placement("down", "h1")[1] == "h1 is down: nothing is sent to it.\n"
    assert states()["h1"] == "down"
    assert placement("up", "h1")[1] == "h1 is up.\n"
    assert placement("move", "p1", "h1")[0] == 0
    assert placement("remove-host", "h2") == (0, "h2 is deleted.\n", "")
    assert states() == {"h1": "up"}


async def test_heartbeats_go_on_through_a_restart_of_the_database(tmp_path, placement, hosts, database):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "jupyter_portproxy.cli.main", "placement", "heartbeat", "h1", "--every", "0.2"),
        env=environment(tmp_path, {"PORTPROXY_PLACEMENT": database.dsn}),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        first = await _seen_after(database, None)
        second = await _seen_after(database, first)
        database.server.stop()
        assert (await asyncio.wait_for(process.stderr.readline(), 20)).startswith(b"The database ")
        database.server.start()
        while (line := await asyncio.wait_for(process.stderr.readline(), 20)) != b"The database answers again.\n":
            assert line.startswith(b"The database "), "it is still starting"
        await _seen_after(database, second)
        assert process.returncode is None
    finally:
        process.terminate()
        await process.wait()


async def _seen_after(database, before):
    end = time.monotonic() + 15
    while time.monotonic() < end:
        (row,) = await database.sql("select last_seen from project_hosts where host_id = 'h1'")
        if row["last_seen"] is not None and (before is None or row["last_seen"] > before):
            return row["last_seen"]
        await asyncio.sleep(0.1)
    raise AssertionError("no heartbeat came")
