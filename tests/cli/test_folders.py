"""`jupyter portproxy up` and `down` against a real server, with and without a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from jupyter_portproxy.cli.folders import describe_content
from jupyter_portproxy.project_file.description import describe
from jupyter_portproxy.project_file.read import read_folder

from ..support.jupyter_processes import environment, jupyter_server, portproxy
from ..support.upstreams import free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")
# Listens after some seconds, and answers with the time of its own start, and the port that it was given of another service.
STAND_IN = """
import http.server, sys, time
time.sleep(float(sys.argv[2]))
content = f"{time.time()} {sys.argv[3:]}".encode()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def stand_in(delay: float, *arguments: str) -> str:
    return json.dumps([sys.executable, "stand_in.py", "{port}", str(delay), *arguments])


SHOP = f"""
[services.front]
command = {stand_in(0, "{api.port}")}
depends_on = ["api"]
stop_timeout = 1

[services.api]
command = {stand_in(0.5, "{db.port}")}
depends_on = ["db"]
environment = {{ LEVEL = "2 $HOME" }}
stop_timeout = 1

[services.db]
command = {stand_in(1)}
protocol = "tcp"
stop_timeout = 1

[[ports]]
port = "15000-15009"
label = "Shop"
on_appear = "open-once"
"""


@pytest.fixture
def shop(home):
    path = home / "shop"
    path.mkdir()
    (path / "stand_in.py").write_text(STAND_IN)
    (path / "portproxy.toml").write_text(SHOP)
    return path


@pytest.fixture
def terminal(home, shop):
    """Runs a command at a terminal of its own; returns it, and a function that reads until a text appears."""
    ends = []

    def start(*arguments: str, folder=shop):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_portproxy.cli.main", *arguments],
            env=environment(home), cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        seen = b""
        ends.append((process, ours))

        def read_until(text: str = "") -> str:
            nonlocal seen
            while not text or text.encode() not in seen:
                try:
                    more = os.read(ours, 65536)
                except OSError:  # the other end is closed
                    more = b""
                if not more:
                    assert not text, seen
                    break
                seen += more
            return seen.decode().replace("\r\n", "\n")

        return process, read_until, lambda text: os.write(ours, text.encode())

    yield start
    for process, ours in ends:
        process.kill()
        process.wait()
        os.close(ours)


def command(shop) -> str:
    return f"{sys.executable} stand_in.py {{port}}"


def programs(shop) -> list[psutil.Process]:
    """The processes that work in the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(shop) and process.cmdline()[1:2] == ["stand_in.py"]:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_one_command_and_one_consent_start_a_folder_in_order(server, run, terminal, shop, home):
    process, read_until, write = terminal("up")
    shown = read_until("[y/N] ")
    assert shown == (
        f"{shop} (portproxy.toml) has 3 services to start:\n\n"
        f"  front  {command(shop)} 0 {{api.port}}\n"
        "         after api\n"
        f"  api    'LEVEL=2 $HOME' {command(shop)} 0.5 {{db.port}}\n"
        "         after db\n"
        f"  db     {command(shop)} 1\n"
        "  each port of 15000-15009 is called 'Shop', opens its page once\n\n"
        "Allow exactly this? [y/N] "
    )
    assert programs(shop) == []
    write("y\n")
    output = read_until()
    assert process.wait(20) == 0
    ready = re.findall(r"^(\w+) is ready after ([0-9.]+) s\.$", output, re.MULTILINE)
    assert [name for name, _ in ready] == ["db", "api", "front"] and 1 <= float(ready[0][1]) < float(ready[1][1]) < 15
    assert "front is starting. It waits for 'api'.\n" in output and "api is starting. It waits for 'db'.\n" in output
    *_, front, api, db = output.splitlines()
    assert front.startswith("front  http") and api.startswith("api    http") and db == "db     jupyter portproxy forward db"
    started = {name: server.get(f"proxy/service/{name}/")[1] for name in ("api", "front")}
    assert float(started["api"].split()[0]) < float(started["front"].split()[0])
    ports = {service["name"]: service["port"] for service in json.loads(run("list", "--json")[1])["services"]}
    assert started["front"].endswith(f"['{ports['api']}']") and started["api"].endswith(f"['{ports['db']}']")

    code, output, error = run("up", folder="shop")  # it is allowed, and runs
    assert (code, error) == (0, "") and output.startswith(
        "front is up already.\napi is up already.\ndb is up already.\nfront  http"
    )
    assert run("down", folder="shop") == (0, "Stopped: api, db, front.\n", "")
    assert programs(shop) == []
    assert run("down", folder="shop") == (0, "Nothing of this folder was running.\n", "")


def test_nothing_outlives_a_server_that_is_killed(home, shop, run):
    with jupyter_server(home) as server:
        assert run("up", "--yes", folder="shop")[0] == 0
        assert len(programs(shop)) == 3
        server.process.kill()
        server.process.wait()
        end = time.monotonic() + 10
        while programs(shop):
            assert time.monotonic() < end, programs(shop)
            time.sleep(0.05)


def test_without_a_terminal_nothing_is_allowed(server, run, shop):
    for arguments in ((), ("--json",)):
        code, output, error = run("up", *arguments, folder="shop")
        assert (code, output) == (1, "")
        assert error == f"{shop} has 3 services to start, which you have not allowed: allow it at a terminal, or with --yes.\n"
    code, output, error = run("up", "--yes", "--json", folder="shop")
    assert code == 0 and "has 3 services to start:" in error and f"{command(shop)} 1\n" in error
    answer = json.loads(output)
    assert [(service["name"], service["state"]) for service in answer["services"]] == [
        ("front", "up"),
        ("api", "up"),
        ("db", "up"),
    ]
    (shop / "portproxy.toml").write_text(SHOP + "# more\n")
    code, output, error = run("up", folder="shop")
    assert (code, output) == (
        1,
        "",
    ) and "shop has changed since you allowed it: allow it again at a terminal, or with --yes." in error
    (shop / "portproxy.toml").write_text(SHOP.replace("LEVEL", "DEPTH"))
    output = run("up", "--yes", folder="shop")[1]
    assert "db is up already.\n" in output and re.search(r"^api is ready after [0-9.]+ s\.$", output, re.MULTILINE)
    code, output, _ = run("down", "--json", folder="shop")
    assert (code, sorted(json.loads(output)["stopped"])) == (0, ["api", "db", "front"])


def test_no_other_answer_allows_anything(server, terminal, shop):
    for answer in ("\n", "n\n", "nonsense\n", "\x04"):
        process, read_until, write = terminal("up")
        read_until("[y/N] ")
        write(answer)
        assert read_until().endswith("Nothing was allowed, and nothing was started.\n"), answer
        assert (process.wait(10), programs(shop)) == (1, []), answer


def test_a_file_that_changes_while_the_question_is_open_starts_nothing(server, terminal, shop):
    process, read_until, write = terminal("up")
    read_until("[y/N] ")
    (shop / "portproxy.toml").write_text(SHOP.replace("LEVEL", "LD_PRELOAD"))
    write("y\n")
    output = read_until()
    assert process.wait(10) == 1
    assert "The project files of 'shop' have changed, so that nothing more is started.\nLook at what they say now" in output
    assert programs(shop) == []


def test_an_interrupt_leaves_what_has_started_and_says_so(server, run, terminal, shop):
    (shop / "portproxy.toml").write_text(SHOP.replace('"1"]', '"30"]'))
    process, read_until, _ = terminal("up", "--yes")
    read_until("db is starting.")
    process.send_signal(signal.SIGINT)
    output = read_until()
    assert process.wait(10) == 130
    assert output.endswith(f"What has started goes on. Stop it: jupyter portproxy down {shop}\n") and "Traceback" not in output
    assert run("down", str(shop))[:2] == (0, "Stopped: api, db, front.\n")


def test_what_fails_is_said_with_its_last_lines(server, run, shop):
    (shop / "portproxy.toml").write_text(
        SHOP.replace(stand_in(1), json.dumps([sys.executable, "-c", "print('no table'); 1 / 0"]))
    )
    code, _, error = run("up", "--yes", folder="shop")
    assert code == 1 and "db failed: It ended with exit code 1 before it was ready." in error and "\nno table\n" in error
    assert "api failed: It needs 'db', which has failed:" in error and "Traceback" in error  # the program's own


def test_a_folder_that_is_deleted_can_still_be_stopped(server, run, shop, home):
    import shutil

    assert run("up", "--yes", folder="shop")[0] == 0
    shutil.rmtree(shop)
    code, _, error = run("up", str(shop))
    gone = f"{shop} has no project file any more.\nStop what runs: jupyter portproxy down {shop}\n"
    assert (code, error) == (1, gone)
    assert run("down", str(shop))[:2] == (0, "Stopped: api, db, front.\n")
    assert run("list")[1].startswith("No services.\n")


def test_bad_input_is_one_sentence(server, run, shop, home):
    (home / "empty").mkdir()
    code, output, error = run("up", folder="empty")
    assert (code, output) == (1, "")
    assert error.startswith("There is no project file in the folder 'empty'.\n")
    for command in ("up", "down"):
        assert run(command, "nowhere") == (1, "", f"There is no folder '{home}/nowhere'.\n")
    assert run("up", "a", "b")[2] == f"There is no folder '{home}/a'.\n"
    (shop / "empty").mkdir()
    message = "There is no service named 'other' in the folder 'shop', which has api, db, front.\n"
    for arguments in (("other",), ("./", "other"), ("api", "other"), (str(shop), "other")):
        assert run("up", "--yes", *arguments, folder="shop") == (1, "", message)
        assert run("down", *arguments, folder="shop") == (1, "", message)
    assert run("up", "empty", folder="shop")[2] == message.replace("other", "empty")
    (shop / "portproxy.toml").write_text(SHOP.replace('protocol = "tcp"', 'protocol = "udp"'))
    code, output, error = run("up", folder="shop")
    assert code == 1 and re.search(r"^portproxy\.toml:\d+: .*'protocol'.*udp", error, re.MULTILINE) and "Traceback" not in error


def test_named_services_start_with_what_they_need_and_stop_with_what_only_they_need(server, run, shop):
    (shop / "portproxy.toml").write_text(
        SHOP.replace('"0.5"', '"0"').replace('"1"]', '"0"]')
        + f"[services.tool]\ncommand = {stand_in(0)}\ndepends_on = ['db']\nstop_timeout = 1\n"
    )
    (shop / "api").mkdir()  # a folder with the name of a service

    def running() -> list[str]:
        return [each["name"] for each in json.loads(run("list", "--json")[1])["services"] if each["state"] == "up"]

    code, output, error = run("up", "--yes", "api", folder="shop")
    assert (code, error) == (0, "") and "front is" not in output and "tool is" not in output
    assert running() == ["api", "db"]
    assert run("up", "shop", "tool", "front")[0] == 0
    assert running() == ["api", "db", "front", "tool"]
    assert run("down", "api", folder="shop") == (0, "Stopped: api, front.\n", "")
    assert run("down", "tool", folder="shop") == (0, "Stopped: db, tool.\n", "")
    assert run("down", "tool", folder="shop") == (0, "Nothing of this was running.\n", "")
    assert programs(shop) == []


def test_a_fixed_port_that_is_taken_stops_only_what_needs_it(server, run, shop):
    with socket.create_server(("127.0.0.1", port := free_port())):
        db = f"[services.db]\nport = {port}"
        (shop / "portproxy.toml").write_text(
            SHOP.replace("[services.db]", db) + f"[services.tool]\ncommand = {stand_in(0)}\nstop_timeout = 1\n"
        )
        code, output, error = run("up", "--yes", folder="shop")
        assert (code, error) == (
            1,
            f"db is not started: Port {port} of the service 'db' is in use by another program.\n"
            "api is not started: It needs 'db', which is not started.\n"
            "front is not started: It needs 'api', which is not started.\n",
        )
        assert re.search(r"^tool is ready after .*\ntool  http", output, re.MULTILINE) and len(programs(shop)) == 1
        code, output, _ = run("up", "--json", folder="shop")
        answer = json.loads(output)
        assert (code, [each["name"] for each in answer["failures"]]) == (1, ["db", "api", "front"])
        assert [each["name"] for each in answer["services"]] == ["tool"]


def test_only_rules_for_ports(server, run, shop):
    (shop / "portproxy.toml").write_text(
        "[[ports]]\nport = 15000\nlabel = 'Shop'\nactivity = 'none'\n[[ports]]\nprocess = 'a b'\non_appear = 'ignore'\n"
    )
    code, output, _ = run("up", "--yes", folder="shop")
    assert (code, output) == (
        0,
        f"{shop} (portproxy.toml) has rules for ports:\n\n"
        "  port 15000 is called 'Shop', has the activity 'none'\n"
        "  a port of processes like 'a b' is not listed\n\n"
        "It has no services to start. Its rules for ports count now.\n",
    )


def test_files_that_say_nothing_need_no_consent(server, run, shop):
    """As of `project init`: everything in it is a comment."""
    (shop / "portproxy.toml").write_text("version = 1\n# [services.docs]\n")
    nothing = f"{shop} (portproxy.toml) has no services to start, and no rules for ports.\n"
    assert run("up", folder="shop") == (0, nothing, "")
    code, output, _ = run("up", "--yes", "--json", folder="shop")
    assert (code, json.loads(output)["services"], json.loads(output)["folder"]["consent"]) == (0, [], "none")


def test_a_service_that_is_wrong_is_not_started_and_the_exit_code_says_so(server, run, shop):
    """A script that goes on after `up` would find no service."""
    (shop / "portproxy.toml").write_text("[services.db\n")
    code, output, errors = run("up", "--yes", folder="shop")
    assert (code, output) == (1, "") and re.fullmatch(
        rf"portproxy.toml:1: It is not TOML: .*\n{shop}: nothing is started.\n", errors
    )
    (shop / "portproxy.toml").write_text(f"{SHOP}\n[services.wrong]\ncommand = ['a']\ndepends_on = ['none']\n")
    code, output, errors = run("up", "--yes", folder="shop")
    assert code == 1 and "front is ready after " in output and "The service 'wrong' is left out" in errors
    assert run("up", "db", folder="shop")[0] == 0  # of those that were asked for, none is left out
    (shop / "portproxy.toml").write_text(f"{SHOP}\n[[ports]]\nport = 0\n")
    code, output, errors = run("up", "--yes", folder="shop")
    assert code == 0 and "ports[1]" in errors


def test_what_is_activity_is_shown_where_it_is_not_the_default(tmp_path):
    activity = "activity = 'people'\nactivity_exclude = ['.*/poll$', '/a']\nrunning_is_activity = true\n"
    (tmp_path / "portproxy.toml").write_text(f"[services.web]\ncommand = ['a']\n{activity}[services.plain]\ncommand = ['a']\n")
    found = read_folder(str(tmp_path), {})
    assert list(describe_content(describe(found))) == [
        "web    a",
        "       with the activity 'people', without activity at '.*/poll$' /a, and the server is active while it runs",
        "plain  a",
    ]


def test_a_command_cannot_hide_what_it_runs(server, terminal, shop):
    evil = ["npm", "run", "dev\r\x1b[2K\x1b[1Aharmless", "\u202e--help", "a\u00a0b", "it's"]
    (shop / "portproxy.toml").write_text(f"[services.web]\ncommand = {json.dumps(evil)}\ncwd = '\u200b'\n")
    process, read_until, write = terminal("up")
    shown = read_until("[y/N] ")
    assert "  web  npm run $'dev\\u000d\\u001b[2K\\u001b[1Aharmless' $'\\u202e--help' $'a\\u00a0b' 'it'\"'\"'s'\n" in shown
    assert "in $'\\u200b'" in shown and "\x1b" not in shown and "\u202e" not in shown
    write("n\n")
    assert process.wait(10) == 1


def test_from_afar_a_folder_is_below_that_of_the_server(home, shop, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("laptop")
    with jupyter_server(home) as server:
        url = f"{server.url}?token=a-token-of-the-tests"
        code, output, error = portproxy(elsewhere, "up", "shop", "--yes", "--server", url)
        assert (code, error) == (0, "") and output.startswith(f"{shop} (portproxy.toml) has 3 services to start:")
        assert portproxy(elsewhere, "down", "shop", "--server", url)[:2] == (0, "Stopped: api, db, front.\n")
        assert portproxy(elsewhere, "up", "--server", url)[2].startswith("There is no project file in the folder '")
