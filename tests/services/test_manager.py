"""Services that start, crash, hang, linger and are stopped; no process of them is left."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
import time
from contextlib import suppress

import psutil
import pytest

from jupyter_portproxy.errors import BadInput, NotFound, ServiceFailed, ShuttingDown
from jupyter_portproxy.services.service import Service
from jupyter_portproxy.services.supervisor import Pauses

from ..support.services import PYTHON, SERVE, STUBBORN, answers, ended, pausing
from ..support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")


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


async def test_a_probe_that_fails_is_repeated(make):
    faults = [ValueError("a fault"), KeyError("another")]

    async def probe(service: Service) -> bool:
        if faults:
            raise faults.pop()
        return await answers(service)

    manager = make(web={"command": [*PYTHON, SERVE, "{port}"]}, probe=probe, options={"pauses": Pauses(retry=0.01)})
    service = manager.start("web")
    await asyncio.wait_for(manager.wait_ready(service), 10)
    assert (service.state, faults) == ("up", [])


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

    def is_guard(child: psutil.Process) -> bool:
        with suppress(psutil.NoSuchProcess):  # ended; a zombie, too, which another test may have left in this process
            return child.cmdline()[1:4] == guard.cmdline()[1:4]
        return False

    await eventually(lambda: list(filter(is_guard, psutil.Process().children())) == [guard])


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
    manager = make(bad=template, options={"pauses": Pauses(first_restart=0.01)})
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
    service = make(web=template, options={"pauses": Pauses(long_run=long_run)}).start("web")
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
    manager = make(bad={"command": [*PYTHON, program], "restart": "on-failure"}, options={"pauses": Pauses(first_restart=0.01)})
    service = manager.start("bad")
    await ended(service)
    assert service.error.startswith("It ended with exit code 5 before it was ready. It is not started again: ")


async def test_an_idle_service_is_stopped(make):
    manager = make(web={"command": [*PYTHON, SERVE, "{port}"], "idle_timeout": 0.1})
    service = manager.start("web")
    await ended(service)
    assert service.state == "down"


async def test_a_service_in_use_is_not_idle(make):
    manager = make(web={"command": [*PYTHON, SERVE, "{port}"], "idle_timeout": 0.3})
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
    manager = make(web={"command": [*PYTHON, DEAF, "{port}", str(deaf)]}, options={"pauses": Pauses(watch_period=0.05)})
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


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\0b", "x" * 300, 7, "15000"])
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


async def test_templates_that_say_so_are_started_with_the_server(make, caplog):
    sleep = [*PYTHON, "import time; time.sleep(60)"]
    manager = make(
        db={"command": sleep},
        api={"command": sleep, "depends_on": ["db"], "autostart": "always"},
        other={"command": sleep},
        bad={"command": sleep, "autostart": "always", "arguments": [{"name": "x", "kind": "path", "default": "/no/such"}]},
        worker={"command": sleep, "protocol": "none", "autostart": "always"},
    )
    manager.start_by_itself()
    assert [(service.name, service.started_by) for service in manager.list()] == [("api", ""), ("db", ""), ("worker", "")]
    assert "'bad' is not started with the server: The argument 'x': there is no file or folder '/no/such'." in caplog.text


async def test_a_subscriber_that_does_not_watch_causes_no_checks(make):
    probes = []

    async def probe(service: Service) -> bool:
        probes.append(service.name)
        return True

    manager = make(web={"command": [*PYTHON, SERVE, "{port}"]}, probe=probe, options={"pauses": Pauses(watch_period=0.02)})
    manager.subscribe(lambda service: None, watches=False)
    await asyncio.wait_for(manager.wait_ready(manager.start("web")), 10)
    await asyncio.sleep(0.2)
    assert probes == ["web"]
    unsubscribe = manager.subscribe(lambda service: None)
    await eventually(lambda: len(probes) > 3)
    unsubscribe()
