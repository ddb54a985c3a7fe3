"""`start`, `restart`, `stop`, `logs` and `reserve` against a real server; and what is left when that server ends."""

from __future__ import annotations

import json
import signal
import sys
import time
import urllib.request
import venv
from functools import partial

import psutil
import pytest

from jupyter_portproxy.cli import main

from ..support.jupyter_processes import TOKEN

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")


def test_a_service_is_started_listed_read_and_stopped(server, run):
    code, output, _ = run("start", "web", "--name", "mine", "word=b")
    assert (code, output.startswith("mine is up: http://")) == (0, True)
    isolated, url = (line.partition(": ")[2] for line in output.splitlines())
    assert isolated == url.replace("proxy/service/", "proxy/enter/")
    with urllib.request.urlopen(url) as page:
        assert page.status == 200
    assert run("url", "mine") == (0, f"{isolated}\n", f"Path-based URL, for programs too: {url}\n")
    assert run("url", "--path", "mine") == (0, f"{url}\n", "")
    assert run("url", "--isolated", "mine") == (0, f"{isolated}\n", "")
    _, listed, _ = run("list")
    assert "mine" in listed and "up" in listed and "/proxy/enter/mine/ (/proxy/service/mine/)" in listed
    services = json.loads(run("list", "--json")[1])["services"]
    assert [(service["name"], service["arguments"]) for service in services] == [("mine", {"word": "b"})]
    assert run("logs", "mine")[1].startswith("hello log\n")
    assert run("stop", "mine") == (0, "mine is stopped.\n", "")
    assert json.loads(run("list", "--json")[1])["services"] == []


def test_a_service_runs_in_the_environment_of_a_kernel(server, run, home):
    data = home / ".local" / "share" / "jupyter"
    venv.create(home / "env", symlinks=True)
    (data / "kernels" / "mine").mkdir(parents=True)
    (data / "kernels" / "mine" / "kernel.json").write_text(
        json.dumps({"argv": [f"{home}/env/bin/python", "-m", "x"], "display_name": "Mine", "language": "python"})
    )
    assert run("start", "prefix", "--kernel", "mine")[0] == 1
    assert run("logs", "prefix")[1] == f"{home}/env\n"
    assert run("start", "prefix", "--kernel", "")[0] == 1
    assert run("logs", "prefix")[1].endswith(f"{sys.prefix}\n")
    code, _, error = run("start", "prefix", "--kernel", "no such")
    assert (code, error.splitlines()[0]) == (1, "There is no kernel 'no such' on this server.")
    (line,) = [line for line in run("templates")[1].splitlines() if line.startswith("prefix ")]
    assert line.endswith("Prefix")
    (line,) = [line for line in run("templates", "--kernel", "mine")[1].splitlines() if line.startswith("prefix ")]
    where = f"in the environment of the kernel 'mine': {home}/env/bin/python -m pip install jupyter_core"
    assert line.endswith(f"The program 'jupyter' is not installed {where}")
    assert run("templates", "--kernel", "no such")[2].startswith("There is no kernel 'no such' on this server.\n")


def test_what_speaks_no_http_is_reached_with_forward(server, run):
    reach = "jupyter portproxy forward database"
    assert run("start", "database")[:2] == (0, f"database is up: {reach}\n")
    (line,) = [line for line in run("list")[1].splitlines() if line.startswith("database ")]
    assert line.endswith(f"  {reach}")
    for command in ("url", "open"):
        code, output, error = run(command, "database")
        assert (code, output) == (1, "")
        assert error == f"The service 'database' speaks no HTTP, so that it has no URL. Reach it with: {reach}\n"
    port = json.loads(run("list", "--json")[1])["services"][0]["port"]
    code, output, _ = run("check", str(port))
    assert (code, output.splitlines()[:2]) == (
        1,
        [f"Port {port} speaks no HTTP.", f"Reach it with: jupyter portproxy forward {port}"],
    )


def test_a_path_counts_from_the_folder_of_the_command(server, run, home):
    """As in every shell; without one the template's own default counts from the server's folder."""
    (home / "below").mkdir()
    (home / "below" / "here.txt").write_text("below")
    (home / "here.txt").write_text("above")
    for number, (words, found) in enumerate(
        [(["folder=."], "below"), (["folder=.."], "above"), (["folder=~"], "above"), ([], "above")]
    ):
        assert run("start", "folder", "--name", f"n{number}", *words, folder="below")[0] == 0
        assert server.get(f"proxy/service/n{number}/here.txt") == (200, found), words


def test_other_arguments_start_another_service_and_the_same_ones_none(server, run, home):
    for name in ("a", "b"):
        (home / name).mkdir()
        (home / name / "which.txt").write_text(name)
    assert run("start", "folder", "folder=a")[1].startswith("folder is up: ")
    assert run("start", "folder", "folder=b")[1].startswith("folder-b is up: ")
    assert run("start", "folder", "folder=.", folder="b")[1].startswith("folder-b is up already (b): ")
    assert [server.get(f"proxy/service/{name}/which.txt")[1] for name in ("folder", "folder-b")] == ["a", "b"]
    rows = [line.split() for line in run("list")[1].splitlines()]
    assert [row[3] for row in rows if row and row[0].startswith("folder")] == ["a", "b"]
    assert run("start", "folder", "foldr=a")[2].startswith("The template 'folder' has no argument 'foldr'. It has folder.\n")
    code, _, errors = run("start", "folder", "folder=none")
    assert (code, errors.splitlines()[0]) == (1, f"The argument 'folder': there is no file or folder '{home / 'none'}'.")
    assert run("start", "folder", "--name", "folder", "folder=b")[2].startswith(
        "The service 'folder' runs with other arguments: "
    )
    assert len(json.loads(run("list", "--json")[1])["services"]) == 2


def test_an_error_is_one_sentence(server, run):
    code, _, errors = run("start", "fails")
    cause = "It ended with exit code 3 before it was ready. Its output: this is why"
    assert (code, errors) == (1, f"fails failed: {cause}\nthis is why\n")
    hint = "See the templates with: jupyter portproxy templates\n"
    assert run("start", "none")[2] == f"There is no template named 'none'.\n{hint}"
    assert "word=x" in next(line for line in run("templates")[1].splitlines() if line.startswith("web "))
    hint = "The names and their defaults: jupyter portproxy templates"
    assert run("start", "web", "word")[2] == f"'word' is not of the form NAME=VALUE.\n{hint}\n"
    assert run("start")[2].endswith("the following arguments are required: template\n")
    assert run("stop", "none")[2].startswith("There is no service named 'none'.\n")
    assert run("url", "99999")[2] == "'99999' is not a port: a port is a whole number from 1 to 65535.\n"


def test_a_port_is_reserved_for_a_script(server, run):
    code, port, _ = run("reserve", "mine", "--seconds", "60")
    assert (code, 10000 <= int(port) <= 20000) == (0, True)
    assert [item["name"] for item in json.loads(run("list", "--json")[1])["reservations"]] == ["mine"]
    assert run("reserve", "mine")[2].splitlines()[1].endswith("release that port: jupyter portproxy stop mine")
    assert run("stop", "mine") == (0, "mine is not reserved any more.\n", "")
    assert json.loads(run("list", "--json")[1])["reservations"] == []
    assert run("stop", "mine")[2].startswith("There is no service named 'mine'.\n")


def test_a_service_is_restarted(server, run):
    started = json.loads(run("start", "web", "--json")[1])
    assert run("restart", "web")[1].startswith("web is up: http://")
    assert json.loads(run("restart", "web", "--json")[1])["since"] > started["since"]
    assert run("logs", "web")[1].count("hello log") == 3
    hint = "See the services in the Ports panel, or with: jupyter portproxy list\n"
    assert run("restart", "none")[2] == f"There is no service named 'none'.\n{hint}"


def test_what_takes_longer_than_an_answer_usually_does_is_waited_for(server, run, home, monkeypatch, capfd):
    run("start", "stubborn")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(home / ".local" / "share" / "jupyter" / "runtime"))
    brief = partial(main.main, timeout=0.5)
    assert brief(["logs", "-f", "stubborn"]) == 0
    assert capfd.readouterr().out == "one\ntwo\n"
    assert brief(["start", "stubborn", "--no-wait"]) == 0
    deadline = time.monotonic() + 10
    while run("logs", "stubborn")[1].count("one") < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert brief(["stop", "stubborn"]) == 0


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGKILL", "/api/shutdown"])
def test_nothing_survives_the_server(server, run, how):
    for template in ("web", "leaves"):
        assert run("start", template)[0] == 0
    family = psutil.Process(server.process.pid).children(recursive=True)
    assert len(family) >= 5
    if how == "/api/shutdown":
        fields = {"Authorization": f"token {TOKEN}"}
        urllib.request.urlopen(urllib.request.Request(f"{server.url}api/shutdown", b"", fields, method="POST")).close()
    else:
        server.process.send_signal(getattr(signal, how))
        if how == "SIGINT":
            time.sleep(0.5)
            server.process.send_signal(signal.SIGINT)  # twice, as it asks for
    server.process.wait(15)
    left = psutil.wait_procs(family, timeout=5)[1]
    assert [process.cmdline() for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
