"""`jupyter portproxy register | unregister | lease | projects` in processes of its own, on a real registry."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from jupyter_portproxy.projects.registry.leases import Registry

from ..support.jupyter_processes import portproxy
from ..support.upstreams import free_port

BAD_KEYS = ["..", "P1", "x'; drop table projects; --", "a" * 300, "proxy", ""]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "r" / "registry.sqlite"


@pytest.fixture
def run(tmp_path, path):
    return lambda *arguments, **keywords: portproxy(
        tmp_path, *arguments, **{"more": {"PORTPROXY_REGISTRY": str(path)}, **keywords}
    )


@pytest.fixture
def secret_of(path, jp_asyncio_loop):
    """What the gateway would send to a project."""

    def read(key: str) -> str:
        registry = Registry(path)
        try:
            return asyncio.run(registry.resolve(key, None)).credential
        finally:
            asyncio.run(registry.close())

    return read


def test_a_projects_life(run, tmp_path, secret_of):
    code, output, _ = run("lease", "p1", "--ports", "42000-42999, 43000")
    port = output.strip()
    assert (code, 42000 <= int(port) <= 43000) == (0, True)
    assert json.loads(run("lease", "p1", "--ports", "42000-43000", "--json")[1]) == {"key": "p1", "port": int(port)}
    (tmp_path / "secret").write_text("s3cret\n")
    assert run("register", "p1", port, "--secret-file", "secret") == (0, f"p1 runs on port {port}.\n", "")
    assert secret_of("p1") == "s3cret"
    assert run("projects")[1].splitlines()[:2] == [
        "PROJECT  HOST OR PORT  STATE    OWNER",
        f"p1       {port}         running  -",
    ]
    (row,) = json.loads(run("projects", "--json")[1])
    assert row == {"from": "registry", "key": "p1", "port": int(port), "state": "running", "pid": None, "generation": 1}
    assert run("unregister", "p1") == (0, "p1 is not on this host any more.\n", "")
    assert run("projects")[1] == "No projects.\n\n"


def test_a_secret_that_is_made_is_printed_once(run, secret_of):
    secret = run("register", "p1", str(free_port()))[1].strip()
    assert len(secret) == 43 and secret_of("p1") == secret
    made = json.loads(run("register", "p1", str(free_port()), "--json")[1])
    assert secret_of("p1") == made["secret"] != secret
    assert made["secret"] not in run("projects", "--json")[1]


def test_a_project_ends_with_its_process(run):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert run("register", "p1", str(free_port()), "--pid", str(process.pid))[0] == 0
        assert json.loads(run("projects", "--json")[1])[0]["pid"] == process.pid
    assert json.loads(run("projects", "--json")[1])[0]["state"] == "stopped"
    assert run("register", "p1", "40001", "--pid", str(process.pid))[2].startswith("There is no process with that pid.\n")


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_bad_key_changes_nothing(run, key):
    for arguments in (["register", key, "40001"], ["lease", key], ["run-project", key]):
        code, output, error = run(*arguments)
        assert (code, output, error.splitlines()[0]) == (1, "", f"Invalid project key: {key[:80]!r}."), arguments
    code, output, error = run("unregister", key)
    assert (code, output) == (1, "") and error.startswith("The project host has no project '")
    assert json.loads(run("projects", "--json")[1]) == []


def test_bad_input_is_refused_in_a_sentence(run):
    assert run("lease", "p1", "--ports", "9-1")[2].startswith("--ports: '9-1' is not a port or a range of ports")
    assert run("lease", "p1", "--ports", "80")[2] == "No port of 80 is free.\n"
    assert run("register", "p1", "40001", "--secret-file", "none")[2].startswith("The file none cannot be read: ")
    assert run("register", "p1", "40001", "--secret-file", "-", given="two words")[2].startswith("Invalid credential.\n")
    for port in ("0", "65536", "٨٠", "x"):
        assert run("register", "p1", port)[0] == 2
    for base in ("", "x/", "/x", "//h/", "/a b/"):
        assert run("run-project", "p1", "--base-url", base)[2].startswith(f"--base-url: {base!r} is invalid.\n")
    assert run("register", "p1", "40001")[0] == 0
    assert run("register", "p2", "40001")[2].startswith("Port 40001 belongs to the project 'p1'.\n")
    assert run("list", "--", "x")[0] == 2, "what stands behind -- is for run-project"


def test_projects_without_configuration_are_an_error(tmp_path, run):
    sentence = "There are neither placements nor a registry.\nMake the placements: jupyter portproxy placement init\n"
    assert portproxy(tmp_path, "projects") == (1, "", sentence)
    assert portproxy(tmp_path, "lease", "p1")[0] == 0, "by default it is in Jupyter's data folder"
    assert (tmp_path / ".local/share/jupyter/portproxy/registry.sqlite").stat().st_mode & 0o777 == 0o600
    assert portproxy(tmp_path, "projects") == (0, "No projects.\n\n", "")


def test_a_registry_that_cannot_be_used_is_an_error(tmp_path, run, path):
    assert run("projects") == (1, "", f"The registry {path} cannot be used: there is no such file.\n")
    path.parent.mkdir()
    path.write_text("this is no database" * 100)
    for arguments in (["projects"], ["lease", "p1"], ["run-project", "p1"]):
        assert run(*arguments) == (1, "", f"The registry {path} cannot be used: file is not a database.\n")
    assert run("projects", "--registry", "/dev/null/x")[0] == 1


def test_a_locked_registry_is_waited_for(run, path):
    assert run("lease", "p0")[0] == 0
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("begin immediate")
    ending = threading.Timer(2, lambda: db.execute("rollback"))
    ending.start()
    begun = time.monotonic()
    assert run("register", "p1", "40001")[0] == 0
    assert time.monotonic() - begun > 1.5
    ending.join()
    db.close()


async def test_both_databases_are_listed(run, path, database):
    await database.sql("insert into project_hosts (host_id, internal_url, credential) values ('h1', 'http://h:1', 's3cret')")
    await database.sql("insert into projects (project_id, owner, host_id) values ('p1', 'ann', 'h1')")
    assert run("register", "p2", "40001")[0] == 0
    more = {"PORTPROXY_REGISTRY": str(path), "PORTPROXY_PLACEMENT": database.dsn}
    code, output, _ = run("projects", more=more)
    assert [line.split() for line in output.splitlines()[1:3]] == [
        ["p1", "h1", "host", "silent", "ann"],
        ["p2", "40001", "running", "-"],
    ]
    rows = json.loads(run("projects", "--json", more=more)[1])
    assert [(row["from"], row["key"]) for row in rows] == [("placement", "p1"), ("registry", "p2")]
    assert "s3cret" not in json.dumps(rows)
    away = {**more, "PORTPROXY_PLACEMENT": f"postgresql://ann:geheim@127.0.0.1:{free_port()}/x"}
    code, output, error = run("projects", more=away)
    assert code == 1 and "p2" in output and error == "The database does not answer.\n"


def test_the_jupyter_command_finds_them(tmp_path):
    command = [os.path.join(os.path.dirname(sys.executable), "jupyter"), "portproxy", "lease", "--help"]
    assert "Lease a free port" in subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
