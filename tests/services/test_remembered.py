"""Services that a restart of the server starts again, in a file that several servers share."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from jupyter_portproxy.services.hooks import Endpoint
from jupyter_portproxy.services.logs import Log
from jupyter_portproxy.services.remembered import RememberedServices
from jupyter_portproxy.services.service import Service
from jupyter_portproxy.services.templates import Template, load
from jupyter_portproxy.system import process_identity

from ..support.jupyter_processes import Server, jupyter_server
from ..support.services import PYTHON, SERVE

LOG = logging.getLogger("test")


def service(name: str = "web", folder: str = "") -> Service:
    log = Log(None, "")
    log.close()
    template = Template("web", ("x",), restart="always", folder=folder)
    return Service(name, template, {"word": "x"}, "", Endpoint(0), log, started_by="ada")


@pytest.fixture
def open_file(tmp_path):
    """The file as a server with that root folder sees it."""
    return lambda root="/home/ada": RememberedServices(tmp_path / "portproxy" / "remembered.json", root, LOG)


def end_its_server(tmp_path, **identity) -> None:
    """Let the entries look as if their server had ended."""
    path = tmp_path / "portproxy" / "remembered.json"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    identity = {"pid": gone.pid, "process_started": "1", **identity}
    path.write_text(json.dumps([{**entry, **identity} for entry in json.loads(path.read_text())]))


async def test_what_was_remembered_is_taken_over_once_by_a_server_of_the_same_folder(open_file, tmp_path):
    first = open_file()
    first.remember(service())
    first.remember(service("web-2", "/home/ada/repo"))
    first.remember(service("gone"))
    first.forget("gone")
    await first.close()
    path = tmp_path / "portproxy" / "remembered.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    end_its_server(tmp_path)
    assert await open_file("/home/bob").take_over() == []
    entries = await open_file().take_over()
    assert [(e.name, e.template, e.folder, e.arguments, e.started_by) for e in entries] == [
        ("web", "web", "", {"word": "x"}, "ada"),
        ("web-2", "web", "/home/ada/repo", {"word": "x"}, "ada"),
    ]
    assert {entry["pid"] for entry in json.loads(path.read_text())} == {os.getpid()}


async def test_services_of_a_server_that_runs_are_not_taken_over(open_file, tmp_path):
    first = open_file()
    first.remember(service())
    await first.close()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)  # noqa: ASYNC220 (it waits for its input)
    try:
        end_its_server(tmp_path, pid=other.pid, process_started=process_identity.start_time(other.pid))
        assert await open_file().take_over() == []
        end_its_server(tmp_path, pid=other.pid, process_started=process_identity.start_time(other.pid), boot="another")
        assert len(await open_file().take_over()) == 1
    finally:
        other.communicate(b"\n")


@pytest.mark.parametrize("content", ["{", "{}", '[{"name": "a"}]', "[1]", '[{"root_dir": 7}]'])
async def test_a_damaged_file_is_reported_and_kept(open_file, tmp_path, caplog, content):
    path = tmp_path / "portproxy" / "remembered.json"
    path.parent.mkdir()
    path.write_text(content)
    remembered = open_file()
    assert await remembered.take_over() == []
    remembered.remember(service())
    await remembered.close()
    assert path.read_text() == content
    assert "The list of remembered services is damaged." in caplog.text


@pytest.mark.parametrize("key, value", [("arguments", {"a": 1}), ("pid", "7"), ("name", None), ("arguments", [])])
async def test_an_entry_of_other_types_is_damage(open_file, tmp_path, caplog, key, value):
    first = open_file()
    first.remember(service())
    await first.close()
    end_its_server(tmp_path, **{key: value})
    assert await open_file().take_over() == []
    assert "an entry has other types" in caplog.text


def test_a_forgotten_name_that_was_not_known_writes_nothing(open_file, tmp_path):
    open_file().forget("web")
    assert not (tmp_path / "portproxy").exists()


WEB = {"command": [*PYTHON, SERVE, "{port}", "{word}"], "restart": "always", "arguments": [{"name": "word", "default": "x"}]}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")
async def test_a_manager_starts_again_what_the_last_one_has_left(make, tmp_path, open_file):
    templates = {"web": WEB, "once": {**WEB, "restart": "never"}}
    first = make(**templates, options={"remembered": open_file()})
    first.start("web", arguments={"word": "y"}, started_by="ada", kernel="mine")
    for name in ("stopped", "deleted", "restarted", "gone"):
        first.start("web", name)
    first.start("once")
    await first.stop("stopped")
    await first.delete("deleted")
    await first.restart("restarted")
    folders = {("/repo", "app"): load("app", {**WEB, "cwd": str(tmp_path)}, "/repo")}
    first.start_template(folders["/repo", "app"])
    first.start_template(load("other", {**WEB, "cwd": str(tmp_path)}, "/repo"))
    await first.close()
    end_its_server(tmp_path)

    second = make(**templates, options={"remembered": open_file()})
    del second.templates["once"]

    async def find(folder, name):
        return folders.get((folder, name))

    await second.start_remembered(find)
    assert {service.name for service in second.list()} == {"web", "restarted", "gone", "app"}
    web = second.get("web")
    assert (web.arguments, web.started_by, web.kernel) == ({"word": "y"}, "ada", "mine")
    await second.close()
    end_its_server(tmp_path)

    third = make(web={**WEB, "restart": "on-failure"}, options={"remembered": open_file()})
    folders.clear()  # their content is not allowed any more
    await third.start_remembered(find)
    assert third.list() == []
    await third.close()
    assert json.loads((tmp_path / "portproxy" / "remembered.json").read_text()) == []


def processes_of(home: Path) -> list[int]:
    """The processes of services of that server's templates, by a word in their command lines."""
    word = f"of-{home.name}"
    pids = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if word in process.cmdline():
                pids.append(process.pid)
    return pids


def states_of(server: Server) -> dict[str, str]:
    return {service["name"]: service["state"] for service in json.loads(server.get("proxy/api/services")[1])}


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="the guard finds processes that have left their group on Linux only")
def test_a_killed_server_leaves_no_process_and_its_successor_starts_its_services_again(tmp_path):
    """Services of which one needs another, which come with the server, and one that a person has started."""
    word = f"of-{tmp_path.name}"
    leaves = f"import os, sys\nif os.fork() == 0:\n    os.setsid()\n{SERVE}"
    templates = {
        "db": {"command": [*PYTHON, SERVE, "{port}", word]},
        "api": {"command": [*PYTHON, SERVE, "{port}", word, "{db.port}"], "depends_on": ["db"], "autostart": "always"},
        "worker": {"command": [*PYTHON, leaves.replace("int(sys.argv[1])", "0"), word], "protocol": "none", "restart": "always"},
    }
    folder = tmp_path / ".jupyter" / "jupyter_portproxy.d"
    folder.mkdir(parents=True)
    (folder / "templates.json").write_text(json.dumps(templates))
    all_up = {"api": "up", "db": "up", "worker": "up"}
    with jupyter_server(tmp_path) as server:
        wait_until(lambda: states_of(server) == {"api": "up", "db": "up"})
        assert server.call("POST", "proxy/api/services", {"template": "worker"})[0] == 201
        wait_until(lambda: states_of(server) == all_up and len(processes_of(tmp_path)) >= 7)  # with their guards
        server.process.kill()
        wait_until(lambda: processes_of(tmp_path) == [])
    with jupyter_server(tmp_path) as server:
        wait_until(lambda: states_of(server) == all_up)
        assert server.call("DELETE", "proxy/api/services/worker")[0] == 204
    assert processes_of(tmp_path) == []
    with jupyter_server(tmp_path) as server:
        wait_until(lambda: states_of(server) == {"api": "up", "db": "up"})
