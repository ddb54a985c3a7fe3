"""Programs under their guard: what they are given, and why they failed."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path

import psutil
import pytest

from jupyter_portproxy.errors import ServiceFailed
from jupyter_portproxy.server_proxy.config import read_server
from jupyter_portproxy.services.ports import is_free
from jupyter_portproxy.services.templates import load

from ..support.services import PYTHON, SERVE, answers, ended, linux
from ..support.upstreams import free_port
from ..support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")
FOREGROUND = "Run it in the foreground: many programs have an option for that, such as --foreground, --no-daemon, -fg or -D."
# Goes into the background as daemons do: two forks, a session of its own, the first process ends with 0.
DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0)
if sys.argv[2] == "leaves":
    os.setsid()
    if os.fork():
        os._exit(0)
time.sleep(float(sys.argv[3]))
import socket
where = sys.argv[1]
if where.isdigit():
    server = socket.create_server(("127.0.0.1", int(where)))
elif where:
    server = socket.socket(socket.AF_UNIX)
    server.bind(where)
    server.listen()
print(os.getpid(), flush=True)
time.sleep(60)
"""
CLICK = """
import sys
sys.stderr.write("Usage: streamlit run\\n\\n\\x1b[31mError: Invalid value: File does not exist: x.py\\x1b[0m\\n\\n")
sys.exit(2)
"""
NODE = """
print("node:internal/modules/cjs/loader:1143\\n  throw err;\\n\\nError: Cannot find module 'x'\\n    at Module (y)")
print("  code: 'MODULE_NOT_FOUND',\\n}\\n\\nNode.js v24.1.0")
raise SystemExit(1)
"""


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("print('loading\\nthis is why\\n\\n---'); raise SystemExit(2)", "2 before it was ready. Its output: this is why"),
        ("import no_such", "1 before it was ready. Its output: ModuleNotFoundError: No module named 'no_such'"),
        (CLICK, "2 before it was ready. Its output: Error: Invalid value: File does not exist: x.py"),
        (NODE, "1 before it was ready. Its output: Error: Cannot find module 'x'"),
        ("print('│ Invalid value │'); print('╰──╯'); raise SystemExit(2)", "2 before it was ready. Its output: Invalid value"),
        ("raise SystemExit(2)", "2 before it was ready."),
    ],
)
async def test_a_failed_start_says_why(make, program, text):
    manager = make(bad={"command": [*PYTHON, program], "environment": {"PYTHONIOENCODING": "utf-8"}})
    for _ in range(2):
        service = manager.start("bad")
        await ended(service)
        assert service.error == f"It ended with exit code {text}"
    assert "\x1b" not in "".join(service.log.last_lines())


async def test_the_cause_is_of_the_last_start(make, tmp_path):
    (tmp_path / "first").touch()
    program = f"import os\nif os.path.exists({str(tmp_path / 'first')!r}): print('Error: of the first')\nraise SystemExit(1)"
    manager = make(bad={"command": [*PYTHON, program]})
    await ended(manager.start("bad"))
    (tmp_path / "first").unlink()
    await ended(again := manager.start("bad"))
    assert again.error == "It ended with exit code 1 before it was ready."
    assert (again.last_lines(), again.log.last_lines()) == ([], ["Error: of the first"])


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["true", "\ud800"], "It could not be started: its command or environment has text that cannot be passed to a program."),
        (["no-such-program"], "The program 'no-such-program' is not installed."),
        (["/etc/passwd"], "The program '/etc/passwd' cannot be executed. Is it a file that you may run?"),
        ([*PYTHON, "raise SystemExit(3)"], "It ended with exit code 3 before it was ready."),
        (
            [*PYTHON, "pass"],
            f"It ended with exit code 0 before it was ready. If its work goes on in the background: {FOREGROUND}",
        ),
        ([*PYTHON, "import os; os.kill(os.getpid(), 9)"], "It ended with exit code 137 before it was ready."),
    ],
)
async def test_a_command_that_does_not_become_a_service_says_why(make, command, text):
    manager = make(bad={"command": command})
    service = manager.start("bad")
    await ended(service)
    assert (service.state, service.error) == ("failed", text)
    with pytest.raises(ServiceFailed, match="The service 'bad' is failed"):
        await manager.wait_ready(service)


async def test_a_command_that_never_listens_is_stopped(make):
    manager = make(bad={"command": [*PYTHON, "import time; time.sleep(60)"], "ready_timeout": 0.3})
    service = manager.start("bad")
    await ended(service)
    assert (service.state, service.error) == ("failed", f"It did not listen on port {service.endpoint.port} within 0.3 s.")


async def test_a_command_that_listens_elsewhere_is_stopped(make):
    manager = make(bad={"command": [*PYTHON, SERVE, "0"], "ready_timeout": 0.6})
    service = manager.start("bad")
    await ended(service)
    assert "did not listen" in service.error


@pytest.mark.parametrize("cwd, folder", [("", "files"), ("deep", "files/deep"), ("/", "/")])
async def test_it_starts_in_the_folder_of_the_file_browser(make, tmp_path, cwd, folder):
    (tmp_path / "files" / "deep").mkdir(parents=True)
    template = {"command": [*PYTHON, "import os; print(os.getcwd())"], "cwd": cwd}
    manager = make(tells=template, options={"root_dir": str(tmp_path / "files")})
    service = manager.start("tells")
    await ended(service)
    assert service.log.last_lines() == [str(tmp_path / folder)]


async def test_a_program_given_by_its_path_counts_from_the_services_folder(make, tmp_path):
    (tmp_path / "below").mkdir()
    program = tmp_path / "below" / "run.sh"
    program.write_text("#!/bin/sh\necho it is $0\n")
    program.chmod(0o700)
    manager = make(web={"command": ["./run.sh"], "cwd": "below"}, options={"root_dir": str(tmp_path)})
    service = manager.start("web")
    await ended(service)
    assert service.log.last_lines() == [f"it is {program}"]


async def test_a_folder_that_does_not_exist_is_named(make):
    manager = make(bad={"command": [*PYTHON, "pass"], "cwd": "/no/such/folder"})
    service = manager.start("bad")
    await ended(service)
    assert service.error == "The folder '/no/such/folder' does not exist."


async def test_a_service_that_prints_much_fills_neither_memory_nor_disk(make, tmp_path):
    program = "import sys\nfor _ in range(40): sys.stdout.write('x' * (1 << 20) + '\\n')\nprint('the end', flush=True)"
    manager = make(loud={"command": [*PYTHON, program]})
    service = manager.start("loud")
    await ended(service)
    assert service.log.written > 40 << 20
    assert len(service.log.tail()) <= (1 << 20) + (1 << 16)
    assert service.log.last_lines()[-1] == "the end"
    assert sum(file.stat().st_size for file in (tmp_path / "logs").iterdir()) <= 20 << 20


@linux
@pytest.mark.parametrize(("how", "late"), [("leaves", 0), ("leaves", 1.2), ("stays in the group", 0)])
@pytest.mark.parametrize("unix_socket", [False, True])
async def test_a_program_that_goes_into_the_background_is_served_and_stopped(make, how, late, unix_socket):
    where = "{unix_socket}" if unix_socket else "{port}"
    manager = make(web={"command": [*PYTHON, DAEMON, where, how, str(late)], "unix_socket": unix_socket, "restart": "never"})
    service = manager.start("web")
    await asyncio.wait_for(manager.wait_ready(service), 10)
    await eventually(lambda: service.log.tail().strip().isdigit())
    pid = int(service.log.tail())
    manager_knows = asyncio.wait({service.task}, timeout=1)
    assert (await manager_knows)[0] == set() and service.state == "up"
    await manager.stop("web")
    assert (service.state, service.exit_code, psutil.pid_exists(pid)) == ("down", 143, False)


WRAPPER = f"""
import socket, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {SERVE!r}, sys.argv[1]])
while socket.socket().connect_ex(("127.0.0.1", int(sys.argv[1]))):
    time.sleep(0.05)
time.sleep(float(sys.argv[2]))
raise SystemExit(1)
"""


@linux
@pytest.mark.parametrize("stays", ["0", "1"])
async def test_a_wrapper_that_exits_with_an_error_leaves_the_service_that_it_has_started(make, stays):
    manager = make(web={"command": [*PYTHON, WRAPPER, "{port}", stays], "restart": "never"})
    service = manager.start("web")
    await asyncio.wait_for(manager.wait_ready(service), 10)
    assert (await asyncio.wait({service.task}, timeout=2))[0] == set()
    assert service.state == "up"
    await manager.stop("web")
    assert (service.state, await answers(service)) == ("down", False)


@linux
async def test_a_program_in_the_background_is_supervised_like_a_service(make):
    manager = make(web={"command": [*PYTHON, DAEMON, "{port}", "leaves", "0"]})
    service = manager.start("web")
    await asyncio.wait_for(manager.wait_ready(service), 10)
    await eventually(lambda: service.log.tail().strip().isdigit())
    pid = int(service.log.tail())

    def is_the_only_one_left() -> bool:
        guard = psutil.Process(pid).parent()
        return any("guard.py" in word for word in guard.cmdline()) and [child.pid for child in guard.children()] == [pid]

    await eventually(is_the_only_one_left)
    os.kill(pid, 9)
    await ended(service)
    assert (service.state, service.error) == ("failed", "It ended with exit code 137.")


@linux
async def test_a_program_in_the_background_that_does_not_listen_is_an_error(make):
    manager = make(web={"command": [*PYTHON, DAEMON, "", "leaves", "0"], "ready_timeout": 1.5})
    service = manager.start("web")
    await ended(service)
    late = f"It did not listen on port {service.endpoint.port} within 1.5 s."
    assert (service.state, service.exit_code) == ("failed", 0)
    assert service.error == f"It went into the background. {late} {FOREGROUND}"
    assert not psutil.pid_exists(int(service.log.tail()))


@linux
async def test_what_a_service_that_was_up_leaves_behind_does_not_keep_it_up(make):
    leave = "threading.Timer(1, lambda: (subprocess.Popen(['sleep', '60']), os._exit(0))).start()"
    program = f"import os, subprocess, threading; {leave}{SERVE}"
    manager = make(web={"command": [*PYTHON, program, "{port}"]})
    service = manager.start("web")
    await asyncio.wait_for(manager.wait_ready(service), 10)
    await ended(service)
    assert (service.state, service.error) == ("down", "It ended with exit code 0.")


@pytest.mark.parametrize("kind", ["ours", "theirs"])
async def test_a_server_of_jupyter_server_proxys_kind_has_the_servers_own_environment(make, monkeypatch, tmp_path, kind):
    """So it finds the programs that it found there. Templates find those of the server's own Python first."""
    program = tmp_path / Path(sys.executable).name
    program.write_text("#!/bin/sh\nenv -0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    manager = make(ours={"command": [program.name, "-c", "print('of the environment')"]})
    manager.templates["theirs"] = read_server("theirs", {"command": [program.name], "environment": {"NAMED": "{port}"}}, "/", [])
    service = manager.start(kind)
    await eventually(lambda: service.exit_code is not None)
    text = service.log.tail().decode()
    if kind == "ours":
        assert text == "of the environment\n"
        return
    lines = dict(line.split("=", 1) for line in text.split("\0") if "=" in line)
    given = {**os.environ, "NAMED": str(service.endpoint.port)}
    assert {name: lines.get(name) for name in given.keys() | lines.keys() - {"PWD", "SHLVL", "_"}} == given


@pytest.mark.parametrize("name", [
    "JUPYTER_TOKEN", "JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN", "JUPYTERHUB_CRYPT_KEY", "CONFIGPROXY_AUTH_TOKEN",
    "PORTPROXY_PLACEMENT", "PORTPROXY_PROJECT_SECRET",
])  # fmt: skip
async def test_a_services_environment_has_no_secret_of_the_server(make, monkeypatch, name):
    monkeypatch.setenv(name, "secret-of-the-server")
    manager = make(show={"command": [*PYTHON, "import os; print(dict(os.environ))"]})
    service = manager.start("show")
    await ended(service)
    assert b"secret-of-the-server" not in service.log.tail()


PRINT = "import json, os, sys; print(json.dumps([sys.argv[1:], [os.environ.get(name) for name in 'ABC'], os.getcwd()]))"


async def test_variables_of_a_file_come_before_those_of_the_template(make, tmp_path, monkeypatch):
    monkeypatch.setenv("A", "of the server")
    monkeypatch.setenv("B", "of the server")
    monkeypatch.setenv("C", "of the server")
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / ".env").write_text("A=of the file\nB=of the file\n")
    data = {"command": [*PYTHON, PRINT], "environment": {"A": "of the template"}, "environment_file": ".env"}
    manager = make(plain={**data, "environment_file": "repo/.env"}, options={"root_dir": str(tmp_path)})
    plain = manager.start("plain")
    folder = manager.start_template(load("folder", data, str(tmp_path / "repo")))
    for service, cwd in ((plain, tmp_path), (folder, tmp_path / "repo")):
        await ended(service)
        variables = ["of the template", "of the file", "of the server"]
        assert json.loads(service.log.tail()) == [[], variables, str(cwd)]


async def test_a_file_of_variables_that_cannot_be_used_is_a_failure(make, tmp_path):
    (tmp_path / "repo").mkdir()
    (tmp_path / ".env").write_text("A=b\nc\n")
    data = {"command": [*PYTHON, PRINT]}
    manager = make(options={"root_dir": str(tmp_path)})
    given = [
        (".env", "line 2: it is not of the form KEY=VALUE"),
        ("../.env", "it is outside of the folder"),
        ("none.env", "it does not exist"),
    ]
    for path, reason in given:
        folder = "" if path == ".env" else str(tmp_path / "repo")
        service = manager.start_template(load("web", {**data, "environment_file": path}, folder))
        text = f"The file of variables '{path}' cannot be used: {reason}."
        await ended(service)
        assert (service.state, service.error) == ("failed", text)


async def test_a_worker_is_up_as_soon_as_it_runs(make):
    program = "import sys, time; print('works'); sys.stdout.flush(); time.sleep(60)"
    manager = make(worker={"command": [*PYTHON, program], "protocol": "none"})
    worker = manager.start("worker")
    await asyncio.wait_for(manager.wait_ready(worker), 10)
    await eventually(lambda: worker.last_lines() == ["works"])
    assert (worker.state, worker.endpoint.port, worker.endpoint.unix_socket) == ("up", 0, "")
    await manager.stop("worker")
    assert worker.state == "down"


async def test_a_fixed_port_is_the_services_port(make):
    port = free_port(range(31000, 32000))
    manager = make(web={"command": [*PYTHON, SERVE, "{port}"], "port": port})
    web = manager.start("web")
    await asyncio.wait_for(manager.wait_ready(web), 10)
    assert web.endpoint.port == port
    with pytest.raises(ServiceFailed, match=f"Port {port} of the service 'second' is in use by another service"):
        manager.start("web", "second")
    await manager.restart("web")
    await asyncio.wait_for(manager.wait_ready(web), 10)
    assert web.endpoint.port == port


@linux
@pytest.mark.parametrize("goes", ["", "leaves"])
async def test_a_program_that_listens_on_another_port_says_which(make, goes):
    other = free_port(range(31000, 32000))
    command = [*PYTHON, DAEMON, str(other), goes, "0"] if goes else [*PYTHON, SERVE, str(other)]
    manager = make(bad={"command": command, "ready_timeout": 2})
    service = manager.start("bad")
    await ended(service)
    late = (
        f"It did not listen on port {service.endpoint.port} within 2 s, but on port {other}. "
        "Pass it its port as '{port}' in the template's command, or set the template's 'port'."
    )
    assert service.error == (f"It went into the background. {late} {FOREGROUND}" if goes else late)
    assert service.state == "failed" and is_free(other)


async def test_a_program_that_answers_with_errors_is_not_said_to_be_deaf(make):
    async def probe(service) -> bool:
        return False

    manager = make(bad={"command": [*PYTHON, SERVE, "{port}"], "ready": "/health", "ready_timeout": 2}, probe=probe)
    service = manager.start("bad")
    await ended(service)
    expected = f"It listens on port {service.endpoint.port}, but did not answer '/health' with a status below 500 within 2 s."
    assert service.error == expected


async def test_what_went_into_the_background_beyond_reach_is_explained(make):
    """As on macOS, where a process that has left is not found: its port says that it runs."""

    async def probe(service) -> bool:
        return False

    service = make(bad={"command": [*PYTHON, "pass"]}, probe=probe).start("bad")
    with socket.create_server(("127.0.0.1", service.endpoint.port)):
        await ended(service)
    expected = f"It went into the background, and listens on port {service.endpoint.port} there. {FOREGROUND}"
    assert (service.state, service.error) == ("failed", expected)
