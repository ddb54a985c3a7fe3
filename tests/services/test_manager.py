"""Services that start, crash, hang, linger and are stopped; no process of them is left."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from jupyter_portproxy.errors import BadInput, NotFound, ServiceFailed, ShuttingDown
from jupyter_portproxy.server_proxy.config import read_server
from jupyter_portproxy.services import manager as manager_module
from jupyter_portproxy.services.manager import Service, ServiceManager
from jupyter_portproxy.services.ports import PortLeases
from jupyter_portproxy.services.templates import load

from ..support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")
SERVE = """
import http.server, os, sys
print("serving", sys.argv[1:], os.environ.get("WHO"), flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
STUBBORN = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + SERVE
PYTHON = [sys.executable, "-c"]
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
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")


async def answers(service: Service) -> bool:
    """What the gateway's probe asks, without HTTP."""
    try:
        if service.endpoint.unix_socket:
            _, writer = await asyncio.open_unix_connection(service.endpoint.unix_socket)
        else:
            _, writer = await asyncio.open_connection("127.0.0.1", service.endpoint.port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.fixture
def make(tmp_path, jp_asyncio_loop):
    """Builds a manager with the given templates; at the end it is closed and must have left no process."""
    made = []

    def build(*, ports=range(10000, 20001), probe=answers, options=None, **templates) -> ServiceManager:
        manager = ServiceManager(
            PortLeases([ports]),
            lambda name, template: f"/b/proxy/service/{name}",
            "/b/",
            probe,
            tmp_path / "logs",
            {name: load(name, {"stop_timeout": 0.5, **data}) for name, data in templates.items()},
            **(options or {}),
        )
        made.append(manager)
        return manager

    before = set(psutil.Process().children(recursive=True))
    yield build
    for manager in made:
        jp_asyncio_loop.run_until_complete(manager.close())
    assert set(psutil.Process().children(recursive=True)) <= before


async def ended(service: Service, seconds: float = 15) -> None:
    await asyncio.wait_for(asyncio.wait({service.task}), seconds)


async def test_a_service_is_started_with_its_endpoint_and_stopped(make):
    manager = make(
        web={"command": [*PYTHON, SERVE, "{port}", "{prefix}", "{name}", "{base_url}"], "environment": {"WHO": "{name}!"}}
    )
    service = manager.start("web", "mine")
    assert service.state == "starting"
    await asyncio.wait_for(manager.wait_ready(service), 10)
    assert (service.state, service.exit_code) == ("up", None)
    text = service.log.tail().decode()
    assert text.startswith(f"serving ['{service.endpoint.port}', '/b/proxy/service/mine', 'mine', '/b/'] mine!")
    await manager.stop("mine")
    assert service.state == "down"
    assert not await answers(service)


async def test_a_later_state_has_a_larger_time_though_the_clock_is_set_back(make, monkeypatch):
    service = make(web={"command": [*PYTHON, SERVE, "{port}"]}).start("web")
    times = [service.since]
    for now, state in ((0.0, "up"), (times[0], "down"), (times[0], "starting"), (0.0, "up")):
        monkeypatch.setattr(manager_module.time, "time", lambda now=now: now)
        service.set_state(state)
        times.append(service.since)
    assert times == sorted(set(times))


async def test_a_probe_that_fails_is_repeated(make):
    faults = [ValueError("a fault"), KeyError("another")]

    async def probe(service: Service) -> bool:
        if faults:
            raise faults.pop()
        return await answers(service)

    manager = make(web={"command": [*PYTHON, SERVE, "{port}"]}, probe=probe, options={"retry_pause": 0.01})
    service = manager.start("web")
    await asyncio.wait_for(manager.wait_ready(service), 10)
    assert (service.state, faults) == ("up", [])


SCRIPT = {
    "command": [*PYTHON, SERVE, "{port}", "{script}", "{word}"],
    "arguments": [{"name": "script", "default": "app.py", "kind": "path"}, {"name": "word", "default": "x"}],
}


@pytest.fixture
def scripts(make, tmp_path):
    """A manager whose folder has some scripts, and a template for them."""
    manager = make(web=SCRIPT, **{"web-taken": {"command": ["true"]}}, options={"root_dir": str(tmp_path)})
    for path in ("app.py", "b.py", "taken.py", "other/app.py", "other/b.py", "a b;c.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    return manager


async def test_other_arguments_make_another_service(scripts, tmp_path):
    given = [
        {},
        {"script": "b.py"},
        {"script": "other/app.py"},
        {"script": "other/b.py"},
        {"script": "b.py", "word": "y"},
        {"script": "a b;c.py"},
        {"script": "taken.py"},
    ]
    started = [scripts.start("web", arguments=arguments) for arguments in given]
    names = ["web", "web-b", "web-other", "web-b-2", "web-b-3", "web-a-b-c", "web-taken-2"]
    assert [service.name for service in started] == names
    assert [scripts.describe(service) for service in started[:5]] == ["app.py", "b.py", "other/app.py", "other/b.py", "b.py, y"]
    await asyncio.gather(*(asyncio.wait_for(scripts.wait_ready(service), 20) for service in started))
    assert f"'{started[3].endpoint.port}', 'other/b.py', 'x'" in started[3].log.tail().decode()
    again = [scripts.start("web", arguments=arguments) for arguments in given]
    assert all(one is other for one, other in zip(started, again, strict=True))
    assert scripts.start("web", arguments={"script": str(tmp_path / "other" / ".." / "b.py")}) is started[1]
    assert scripts.start("web", "web", {"script": "./app.py"}) is started[0]
    with pytest.raises(BadInput, match=r"'web' runs with other arguments: script=app\.py, word=x"):
        scripts.start("web", "web", {"script": "b.py"})


async def test_an_argument_that_is_a_secret_is_masked(make):
    arguments = [{"name": "access_token", "default": ""}, {"name": "word", "default": "x"}]
    manager = make(web={"command": [*PYTHON, SERVE, "{port}", "{access_token}"], "arguments": arguments})
    service = manager.start("web", arguments={"access_token": "a-secret", "word": "y"})
    assert (service.arguments["access_token"], manager.describe(service)) == ("a-secret", "***, y")
    with pytest.raises(BadInput, match=r"with other arguments: access_token=\*\*\*, word=y\."):
        manager.start("web", "web", {"access_token": "another"})


async def test_a_service_that_has_ended_gives_its_name_to_the_next(scripts):
    for arguments in ({}, {"script": "b.py"}):
        await asyncio.wait_for(scripts.wait_ready(scripts.start("web", arguments=arguments)), 10)
    for name in ("web", "web-b"):
        await scripts.stop(name)
    assert scripts.start("web", arguments={"script": "b.py"}).name == "web-b"
    assert scripts.start("web", arguments={"script": "other/b.py"}).name == "web"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"scrpt": "b.py"}, "The template 'web' has no argument 'scrpt'. It has script, word."),
        ({"script": "no.py"}, "The argument 'script': there is no file or folder '{folder}/no.py'."),
        ({"script": "other/no"}, "The argument 'script': there is no file or folder '{folder}/other/no'."),
    ],
)
async def test_what_cannot_run_is_refused_before_and_while_another_one_runs(scripts, tmp_path, arguments, text):
    for _ in range(2):
        with pytest.raises(BadInput) as refused:
            scripts.start("web", arguments=arguments)
        assert refused.value.message == text.format(folder=tmp_path)
        scripts.start("web")
    assert len(scripts.list()) == 1


@pytest.mark.parametrize("script", ["b.py:app", "b:app", "b", "other.b:app", "other"])
async def test_what_flask_and_shiny_take_for_a_script_exists(scripts, script):
    assert scripts.start("web", arguments={"script": script}).arguments["script"] == script


async def test_a_path_that_may_be_new_is_no_error(make):
    logs = {"name": "logdir", "default": "logs", "kind": "path", "must_exist": False}
    assert make(web={"command": ["true"], "arguments": [logs]}).start("web").name == "web"


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


async def test_a_failure_is_told_with_and_without_its_output(make):
    manager = make(bad={"command": [*PYTHON, "print('Error: secret'); raise SystemExit(3)"]})
    with pytest.raises(NotFound):
        manager.service_for("bad")
    await ended(manager.start("bad"))
    service = manager.service_for("bad")
    whole, short = manager.failure(service), manager.failure(service, with_output=False)
    assert whole.message.endswith("before it was ready. Its output: Error: secret") and whole.details == ("Error: secret",)
    assert (short.message, short.details) == ("The service 'bad' is failed. It ended with exit code 3.", ())


async def test_two_clicks_start_one_process(make):
    manager = make(web={"command": [*PYTHON, SERVE, "{port}"]})
    first, second = manager.start("web"), manager.start("web")
    assert first is second
    await asyncio.wait_for(manager.wait_ready(first), 10)
    assert manager.start("web") is first
    assert first.log.tail().count(b"serving") == 1


async def test_a_restart_keeps_name_and_prefix(make):
    manager = make(web={"command": [*PYTHON, SERVE, "{port}", "{word}"], "arguments": [{"name": "word", "default": "a"}]})
    service = manager.start("web", arguments={"word": "b"})
    await asyncio.wait_for(manager.wait_ready(service), 10)
    again = await manager.restart("web")
    assert again is service and service.prefix == "/b/proxy/service/web"
    await asyncio.wait_for(manager.wait_ready(service), 10)
    assert service.log.tail().count(b"'b']") == 2


async def test_restarts_at_once_start_one_process(make):
    manager = make(web={"command": [*PYTHON, SERVE, "{port}"]})
    service = manager.start("web")
    await asyncio.wait_for(manager.wait_ready(service), 10)
    assert set(await asyncio.gather(*(manager.restart("web") for _ in range(3)))) == {service}
    await asyncio.wait_for(manager.wait_ready(service), 10)
    assert service.log.tail().count(b"serving") == 2
    guard = psutil.Process(service.process.pid)

    def guards() -> list[psutil.Process]:
        with suppress(psutil.ZombieProcess):  # one that has ended; the loop will reap it
            return [child for child in psutil.Process().children() if child.cmdline()[1:4] == guard.cmdline()[1:4]]
        return []

    await eventually(lambda: guards() == [guard])


async def test_a_restart_and_a_deletion_at_once_leave_no_process_behind(make):
    manager = make(web={"command": [*PYTHON, SERVE, "{port}"]})
    for calls in ([manager.restart, manager.delete], [manager.delete, manager.restart], [manager.delete, manager.delete]):
        service = manager.start("web")
        await asyncio.wait_for(manager.wait_ready(service), 10)
        ended = await asyncio.gather(*(call("web") for call in calls), return_exceptions=True)
        assert all(isinstance(end, (NotFound, Service, type(None))) for end in ended)
        assert manager.list() == [] and service.process is None


async def test_a_unix_socket_is_a_place(make):
    program = "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); time.sleep(60)"
    manager = make(web={"command": [*PYTHON, program, "{unix_socket}"], "unix_socket": True})
    service = manager.start("web")
    await asyncio.wait_for(manager.wait_ready(service), 10)
    directory = os.path.dirname(service.endpoint.unix_socket)
    assert os.stat(directory).st_mode & 0o077 == 0
    await manager.close()
    assert not os.path.exists(directory)  # noqa: ASYNC240


@pytest.mark.skipif(os.name == "nt", reason="Windows has no Unix sockets here")
async def test_a_long_folder_for_temporary_files_leaves_sockets_usable(make, tmp_path, monkeypatch):
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    program = "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); time.sleep(60)"
    manager = make(web={"command": [*PYTHON, program, "{unix_socket}"], "unix_socket": True})
    service = manager.start("web", "n" * 60)
    await asyncio.wait_for(manager.wait_ready(service), 10)
    assert os.stat(os.path.dirname(service.endpoint.unix_socket)).st_mode & 0o077 == 0


async def test_long_names_have_sockets_of_their_own(make):
    manager = make(web={"command": [*PYTHON, "import time; time.sleep(60)"], "unix_socket": True})
    paths = {manager.start("web", "n" * 63 + end).endpoint.unix_socket for end in "abc"}
    assert len(paths) == 3 and all(len(os.path.basename(path)) <= 30 for path in paths)


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


async def test_a_service_that_ignores_sigterm_is_killed(make):
    manager = make(web={"command": [*PYTHON, STUBBORN, "{port}"]})
    service = manager.start("web")
    await asyncio.wait_for(manager.wait_ready(service), 10)
    started = time.monotonic()
    await manager.stop("web")
    assert (service.state, service.exit_code) == ("down", 137)
    assert time.monotonic() - started < 3


async def test_a_crashing_command_is_started_at_most_five_times_a_minute(make):
    template = {"command": [*PYTHON, "print('once more'); raise SystemExit(1)"], "restart": "on-failure"}
    manager = make(bad=template, options={"first_pause": 0.01})
    service = manager.start("bad")
    await ended(service)
    assert service.log.tail().count(b"once more") == 5
    assert "It was started 5 times within a minute" in service.error
    with pytest.raises(ServiceFailed, match="5 times within a minute"):
        manager.start("bad")


@pytest.mark.parametrize(("long_run", "factors"), [(60, [1, 2, 4]), (0, [1, 1, 1])])
async def test_pauses_before_a_restart_grow_until_it_has_run_for_long(make, monkeypatch, long_run, factors):
    pauses = []

    async def wait_for_stop(service: Service, seconds: float) -> bool:
        pauses.append(seconds)
        return len(pauses) == 3

    monkeypatch.setattr(Service, "wait_for_stop", wait_for_stop)
    template = {"command": [*PYTHON, "raise SystemExit(3)"], "restart": "on-failure"}
    service = make(web=template, options={"long_run": long_run}).start("web")
    await ended(service, 30)
    assert pauses == [2.0 * factor for factor in factors]


async def test_what_ends_by_itself_says_so(make):
    program = f"{SERVE.replace('serve_forever', 'handle_request')}\nprint('done')"
    service = (manager := make(web={"command": [*PYTHON, program, "{port}"]})).start("web")
    await asyncio.wait_for(manager.wait_ready(service), 10)
    await ended(service)
    assert (service.state, service.exit_code, service.error) == ("down", 0, "It ended with exit code 0.")
    assert "is down. It ended with exit code 0." in manager.failure(service).message


async def test_a_service_that_works_may_be_stopped_and_started_as_often_as_the_user_likes(make):
    manager = make(web={"command": [*PYTHON, SERVE, "{port}"]})
    for _ in range(7):
        service = manager.start("web")
        await asyncio.wait_for(manager.wait_ready(service), 10)
        await manager.stop("web")
    assert service.state == "down"


async def test_a_start_after_the_end_of_a_stop_begins_a_new_run(make):
    manager = make(stubborn={"command": [*PYTHON, STUBBORN, "{port}"]})
    first = manager.start("stubborn")
    await manager.wait_ready(first)
    stopping = asyncio.ensure_future(manager.stop("stubborn"))
    await asyncio.sleep(0)
    assert first.state == "stopping"
    await manager.wait_stopped("stubborn")
    assert first.state == "down"
    second = manager.start("stubborn")
    await manager.wait_ready(second)
    await stopping
    assert second.state == "up"


FAILS_ONCE = """
import pathlib, sys
failed = pathlib.Path(sys.argv[2])
if not failed.exists():
    failed.touch()
    raise SystemExit(1)
"""


async def pausing(make, tmp_path):
    """A manager, and its service that has failed, waits for its restart and will run then."""
    command = [*PYTHON, FAILS_ONCE + SERVE, "{port}", str(tmp_path / "failed")]
    manager = make(web={"command": command, "restart": "on-failure"}, options={"first_pause": 1.5})
    service = manager.start("web")
    while service.state != "failed":
        await service.changed.wait()
    return manager, service


async def test_a_service_that_waits_for_its_restart_is_stopped_at_once(make, tmp_path):
    manager, _ = await pausing(make, tmp_path)
    await asyncio.wait_for(manager.close(), 1)


async def test_a_stop_ends_the_wait_for_a_restart(make, tmp_path):
    manager, service = await pausing(make, tmp_path)
    await manager.stop("web")
    await asyncio.sleep(2)
    assert (service.state, service.process) == ("failed", None)


async def test_a_deleted_service_is_not_restarted(make, tmp_path):
    manager, service = await pausing(make, tmp_path)
    await manager.delete("web")
    await asyncio.sleep(2)
    assert (manager.list(), service.process) == ([], None)


async def test_a_start_replaces_the_wait_for_a_restart(make, tmp_path):
    manager, service = await pausing(make, tmp_path)
    assert manager.start("web") is service
    await asyncio.wait_for(manager.wait_ready(service), 10)
    await asyncio.sleep(2)
    assert service.log.tail().count(b"serving") == 1 and service.state == "up"


async def test_each_failure_has_its_own_reason(make, tmp_path):
    program = f"""
import pathlib
runs = pathlib.Path({str(tmp_path / "runs")!r})
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
raise SystemExit(len(runs.read_text()))
"""
    manager = make(bad={"command": [*PYTHON, program], "restart": "on-failure"}, options={"first_pause": 0.01})
    service = manager.start("bad")
    await ended(service)
    assert service.error.startswith("It ended with exit code 5 before it was ready. It is not started again: ")


async def test_subscribers_get_each_state_of_a_restart(make, tmp_path):
    manager, service = await pausing(make, tmp_path)
    states = []
    manager.subscribe(lambda service: states.append(service.state))
    await eventually(lambda: service.state == "up")
    await manager.delete("web")
    assert states == ["starting", "up", "stopping", "down", "down"]


async def test_an_idle_service_is_stopped(make):
    manager = make(web={"command": [*PYTHON, SERVE, "{port}"], "idle_timeout": 0.1}, options={"health_period": 0.1})
    service = manager.start("web")
    await ended(service)
    assert service.state == "down"


async def test_a_service_in_use_is_not_idle(make):
    manager = make(web={"command": [*PYTHON, SERVE, "{port}"], "idle_timeout": 0.3}, options={"health_period": 0.05})
    service = manager.start("web")
    await manager.wait_ready(service)
    for _ in range(10):
        service.touch()
        await asyncio.sleep(0.1)
    assert service.state == "up"
    await ended(service)


# Listens, is deaf for a while after it finds a file, and listens again when that is gone.
DEAF = """
import pathlib, socket, sys, time
port, file = int(sys.argv[1]), pathlib.Path(sys.argv[2])
while True:
    server = socket.create_server(("127.0.0.1", port))
    while not file.exists():
        time.sleep(0.01)
    server.close()
    while file.exists():
        time.sleep(0.01)
"""


async def test_a_service_that_does_not_answer_is_unhealthy_until_it_does(make, tmp_path):
    deaf = tmp_path / "deaf"
    manager = make(web={"command": [*PYTHON, DEAF, "{port}", str(deaf)]}, options={"health_period": 0.05})
    states: list[str] = []
    unsubscribe = manager.subscribe(lambda service: states.append(service.state))
    service = manager.start("web")
    await manager.wait_ready(service)
    unsubscribe()
    deaf.touch()
    await asyncio.sleep(0.4)
    assert service.state == "up"  # health is checked only while there are subscribers
    manager.subscribe(lambda service: states.append(service.state))
    await eventually(lambda: service.state == "unhealthy")
    assert service.error == "It does not answer."
    deaf.unlink()
    await eventually(lambda: service.state == "up")
    assert (service.error, states) == ("", ["starting", "up", "unhealthy", "up"])


async def test_a_service_that_prints_much_fills_neither_memory_nor_disk(make, tmp_path):
    program = "import sys\nfor _ in range(40): sys.stdout.write('x' * (1 << 20) + '\\n')\nprint('the end', flush=True)"
    manager = make(loud={"command": [*PYTHON, program]})
    service = manager.start("loud")
    await ended(service)
    assert service.log.written > 40 << 20
    assert len(service.log.tail()) <= (1 << 20) + (1 << 16)
    assert service.log.last_lines()[-1] == "the end"
    assert sum(file.stat().st_size for file in (tmp_path / "logs").iterdir()) <= 20 << 20


async def test_fifty_starts_at_once_take_fifty_ports(make):
    manager = make(web={"command": [*PYTHON, "import time; time.sleep(60)"]})
    started = [manager.start("web", f"web-{n}") for n in range(50)]
    assert len({service.endpoint.port for service in started}) == 50
    assert len(manager.list()) == 50


async def test_a_taken_port_is_not_leased(make):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        manager = make(web={"command": ["true"]}, ports=range(port, port + 1))
        with pytest.raises(ServiceFailed, match="No allowed port is free"):
            manager.start("web")


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\0b", "x" * 300, 7])
async def test_a_bad_name_is_refused(make, name):
    with pytest.raises(BadInput, match="Invalid service name: "):
        make(web={"command": ["true"]}).start("web", name)


async def test_what_does_not_fit_is_refused(make):
    manager = make(web={"command": [*PYTHON, "import time; time.sleep(60)"]}, other={"command": ["true"]})
    manager.start("web", "mine")
    with pytest.raises(BadInput, match="another template"):
        manager.start("other", "mine")
    with pytest.raises(BadInput, match="no argument 'x'"):
        manager.start("web", "second", {"x": "1"})
    with pytest.raises(NotFound):
        manager.start("none")
    with pytest.raises(NotFound):
        await manager.stop("none")


async def test_a_deleted_service_is_forgotten_and_a_closed_manager_starts_nothing(make):
    manager = make(web={"command": [*PYTHON, SERVE, "{port}"]})
    manager.start("web")
    await manager.delete("web")
    assert manager.list() == []
    await manager.close()
    with pytest.raises(ShuttingDown):
        manager.start("web")


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
