"""`project` and `project init`, without and with a real server."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from ..support.upstreams import free_port

GOOD = (
    '[services.api]\ncommand = ["uvicorn", "a b", "--port", "{port}"]\nkernel = "ds"\n[[ports]]\nport = 3000\nlabel = "Front"\n'
)


def test_a_folder_is_read_without_a_server(run, home):
    (home / "shop").mkdir()
    (home / "shop" / "portproxy.toml").write_text(GOOD)
    code, output, errors = run("project", "shop")
    assert (code, errors) == (0, "")
    assert output == (
        f"{home}/shop: portproxy.toml\n\n"
        "Services and ports:\n"
        "  api  uvicorn 'a b' --port {port}\n"
        "       with the kernel ds\n"
        "  port 3000 is called 'Front'\n\n"
    )
    assert run("project", folder="shop")[1] == output
    item = json.loads(run("project", "shop", "--json")[1])
    assert [service["name"] for service in item["services"]] == ["api"] and item["problems"] == []


def test_problems_have_their_place_and_the_exit_code_1(run, home):
    (home / "portproxy.toml").write_text(GOOD + 'labl = "\\u001b[31mx"\n')
    code, output, _ = run("project")
    assert code == 1
    assert (
        "Wrong, and left out:\n  portproxy.toml:7: ports[0].labl: There is no key 'labl' for a port. Did you mean 'label'?"
        in output
    )
    assert run("project", "--json")[0] == 1


def test_a_service_may_depend_on_a_template_of_the_server(run, home):
    templates = home / ".jupyter" / "jupyter_portproxy.d"
    templates.mkdir(parents=True, exist_ok=True)
    (templates / "mine.json").write_text(json.dumps({"mine": {"command": ["x", "{port}"]}}))
    (home / "portproxy.toml").write_text(GOOD.replace("kernel", 'depends_on = ["http-server", "mine"]\nkernel'))
    code, output, _ = run("project")
    assert code == 0 and "after http-server mine\n" in output


def test_what_is_left_out_is_no_problem(run, home):
    (home / "Procfile").write_text("web: x\nrelease: y\n")
    code, output, _ = run("project")
    assert code == 0 and "Left out:\n  Procfile:2: 'release' is left out" in output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["gone"], "There is no folder gone.\n"),
        (["init", "gone"], "There is no folder gone.\n"),
        (["a", "b"], "One folder at a time: a, b.\n"),
        (["init", "a", "b"], "One folder at a time: a, b.\n"),
        (["."], "{home} has no project file.\nWrite one: jupyter portproxy project init .\n"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run, home, words, sentence):
    assert run("project", *words) == (1, "", sentence.format(home=home))


def test_an_example_is_written_where_nothing_runs(run, home):
    code, output, errors = run("project", "init")
    assert (code, errors) == (0, "")
    assert output == "portproxy.toml is written, with an example in comments. No Jupyter server of yours runs here.\n"
    assert run("project")[0] == 0
    text = (home / "portproxy.toml").read_text()
    code, _, errors = run("project", "init", str(home))
    assert (code, errors.splitlines()[0]) == (1, f"{home}/portproxy.toml exists already.")
    assert (home / "portproxy.toml").read_text() == text


def test_a_link_is_not_written_through(run, home):
    (home / "portproxy.toml").symlink_to("other")
    assert run("project", "init")[0] == 1
    assert not (home / "other").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")
def test_a_file_is_written_from_what_runs(server, run, home):
    port = free_port()
    assert run("start", "web", "word=hello")[0] == 0
    (home / "shop").mkdir()
    assert run("start", "folder", "folder=shop")[0] == 0
    (home / "other").mkdir()
    command = json.dumps([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"])
    (home / "other" / "portproxy.toml").write_text(f"[services.described]\ncommand = {command}\nstop_timeout = 1\n")
    assert run("up", "other", "--yes")[0] == 0
    with subprocess.Popen([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)], cwd=home) as program:
        try:
            end = time.monotonic() + 20
            while not any(row["port"] == port and row["http"] for row in json.loads(run("list", "--json")[1])["ports"]):
                assert time.monotonic() < end
            code, output, errors = run("project", "init", "shop")
        finally:
            program.kill()
    assert (code, errors) == (0, "")
    assert output == "shop/portproxy.toml is written, with 2 of the services and 1 of the ports that are there now.\n"
    item = json.loads(run("project", "shop", "--json")[1])
    commands = {service["name"]: service["command"][-2:] for service in item["services"]}
    assert commands == {"folder": [".", "{port}"], "web": ["{port}", "hello"]}
    assert [rule["ports"] for rule in item["ports"]] == [str(port)]
    assert item["problems"] == []


def test_a_server_reads_a_folder_of_its_machine(server, run, home):
    (home / "shop").mkdir()
    (home / "shop" / "portproxy.toml").write_text(GOOD)
    local = run("project", "shop")
    assert run("project", "shop", "--server", server.url) == local
    assert run("--server", server.url, "project", str(home / "shop"))[1] == local[1]
    assert run("project", "--server", server.url, folder="shop")[1] == local[1]
    item = json.loads(run("project", "shop", "--server", server.url, "--json")[1])
    assert (item["consent"], item["digest"]) == ("none", json.loads(run("project", "shop", "--json")[1])["digest"])
    code, output, errors = run("project", "gone", "--server", server.url)
    assert (code, output) == (1, "") and "gone" in errors.splitlines()[0]
