"""The life of services: what they need is started first, ended runs are started again as their template says."""

from __future__ import annotations

import asyncio
import sys

import psutil
import pytest

from jupyter_portproxy.errors import ConsentMissing, ServiceFailed
from jupyter_portproxy.services.dependencies import link
from jupyter_portproxy.services.supervisor import Pauses
from jupyter_portproxy.services.templates import load

from ..support.services import PYTHON, SERVE, ended
from ..support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")
SLEEP = "import time; time.sleep(60)"
SLOW = f"import time; time.sleep(0.5)\n{SERVE}"
# Ends a second run with 0, and any other with the given code; prints the number of each.
COUNTS = """
import pathlib, sys
runs = pathlib.Path(sys.argv[1])
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
print("run", len(runs.read_text()), flush=True)
raise SystemExit(int(sys.argv[2]))
"""
# Listens; accepts no connection any more once there is the file, until it is started again.
DEAF = """
import pathlib, socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.01)
pathlib.Path(sys.argv[2]).unlink()
server.close()
time.sleep(60)
"""


def stack(**more):
    """A database, an API that needs it, and a site that needs that."""
    return {
        "db": {"command": [*PYTHON, SLOW, "{port}", "of-{name}"], **more.get("db", {})},
        "api": {"command": [*PYTHON, SERVE, "{port}", "db={db.port}{db.prefix}"], "depends_on": ["db"], **more.get("api", {})},
        "web": {"command": [*PYTHON, SERVE, "{port}", "api={api.port}"], "depends_on": ["api"], **more.get("web", {})},
    }


def record(manager):
    """The changes of states from now on."""
    states: list[tuple[str, str, str]] = []
    manager.subscribe(lambda service: states.append((service.name, service.state, service.error)), watches=False)
    return states


async def up(manager, *names: str):
    services = [manager.get(name) for name in names]
    await asyncio.wait_for(asyncio.gather(*map(manager.wait_ready, services)), 20)
    return services


# ---- what a service needs ----


async def test_what_a_service_needs_is_ready_before_it_is_started(make):
    manager = make(**stack())
    states = record(manager)
    web = manager.start("web", started_by="ada")
    assert (web.state, [service.name for service in manager.list()]) == ("starting", ["api", "db", "web"])
    await eventually(lambda: web.error == "It waits for 'api'.")
    db, api, _ = await up(manager, "db", "api", "web")
    assert (api.error, web.error) == ("", "")
    assert {service.started_by for service in (db, api, web)} == {"ada"}
    assert ("api", "starting", "It waits for 'db'.") in states
    ups = [name for name, state, _ in states if state == "up"]
    assert ups == ["db", "api", "web"]
    assert f"'db={db.endpoint.port}/b/proxy/service/db'" in api.log.tail().decode()
    assert f"'api={api.endpoint.port}'" in web.log.tail().decode()


async def test_what_runs_already_is_not_started_again(make):
    manager = make(**stack())
    db = manager.start("db", "mine")
    await up(manager, "mine")
    api = manager.start("api")
    await up(manager, "api")
    assert (api.needs, [service.name for service in manager.list()]) == ((db,), ["api", "mine"])


@pytest.mark.parametrize(
    ("db", "reason"),
    [
        ({"command": [*PYTHON, "raise SystemExit(3)"]}, "It ended with exit code 3 before it was ready."),
        (
            {"command": [*PYTHON, SLEEP], "ready_timeout": 0.5},
            "It did not listen on port {} within 0.5 s.",
        ),
        ({"command": ["no-such-program"]}, "The program 'no-such-program' is not installed."),
    ],
)
async def test_a_need_that_fails_is_one_sentence_of_each_that_needs_it(make, db, reason):
    manager = make(**stack(db=db))
    web = manager.start("web")
    await ended(web)
    api = manager.get("api")
    reason = f"It needs 'db', which has failed: {reason.format(manager.get('db').endpoint.port)}"
    assert (api.state, api.error, api.process) == ("failed", reason, None)
    assert (web.state, web.error) == ("failed", f"It needs 'api', which has failed: {reason}")


async def test_a_need_that_cannot_be_started_refuses_the_start(make):
    manager = make(**stack(db={"arguments": [{"name": "folder", "kind": "path", "default": "/no/such"}]}))
    with pytest.raises(ServiceFailed, match=r"'api' needs 'db', which was not started: .*there is no file or folder '/no/such'"):
        manager.start("api")
    assert manager.list() == []
    port = manager._endpoints._ports
    assert port._leased == set()  # the port that was leased for it


async def test_a_service_that_waits_is_stopped_at_once(make):
    manager = make(**stack(db={"command": [*PYTHON, SLEEP]}))
    api = manager.start("api")
    await eventually(lambda: api.error == "It waits for 'db'.")
    await asyncio.wait_for(manager.stop("api"), 1)
    assert (api.state, manager.get("db").state) == ("down", "starting")


async def test_a_stop_ends_one_service_alone(make):
    manager = make(**stack())
    manager.start("web")
    db, api, web = await up(manager, "db", "api", "web")
    await manager.stop("db")
    assert (db.state, api.state, web.state) == ("down", "up", "up")
    await manager.restart("api")
    await up(manager, "db", "api")


async def test_a_need_that_is_being_stopped_is_started_again(make):
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SERVE}"
    manager = make(**stack(db={"command": [*PYTHON, stubborn, "{port}"]}))
    db = manager.start("db")
    await up(manager, "db")
    stopping = asyncio.ensure_future(manager.stop("db"))
    await asyncio.sleep(0)
    api = manager.start("api")
    assert (db.state, api.state) == ("stopping", "starting")
    await up(manager, "api")
    await stopping
    assert (api.needs, db.state) == ((db,), "up")


async def test_the_end_of_the_server_stops_what_is_needed_last(make):
    manager = make(**stack())
    manager.start("web")
    await up(manager, "db", "api", "web")
    states = record(manager)
    await manager.close()
    assert [(name, state) for name, state, _ in states] == [("web", "down"), ("api", "down"), ("db", "down")]


async def test_some_services_are_stopped_in_that_order_too(make):
    manager = make(**stack())
    manager.start("web")
    services = await up(manager, "db", "api", "web")
    states = record(manager)
    await manager.stop_all(services[:2])
    assert [(name, state) for name, state, _ in states if state == "down"] == [("api", "down"), ("db", "down")]
    assert services[2].state == "up"


# ---- restarts ----


@pytest.mark.parametrize(
    ("restart", "code", "runs"),
    [("never", 0, 1), ("never", 1, 1), ("on-failure", 0, 1), ("on-failure", 1, 5), ("always", 0, 5), ("always", 1, 5)],
)
async def test_a_worker_is_started_again_as_its_template_says(make, tmp_path, restart, code, runs):
    command = [*PYTHON, COUNTS, str(tmp_path / "runs"), str(code)]
    options = {"pauses": Pauses(first_restart=0.01)}
    manager = make(worker={"command": command, "protocol": "none", "restart": restart}, options=options)
    worker = manager.start("worker")
    await ended(worker)
    assert worker.log.tail().count(b"run") == runs
    if runs == 1:
        assert (worker.state, worker.exit_code) == ("failed" if code else "down", code)
    else:
        assert "It is not started again: It was started 5 times within a minute." in worker.error


async def test_what_is_always_started_again_stays_stopped_when_a_person_stops_it(make):
    manager = make(
        web={"command": [*PYTHON, SERVE, "{port}"], "restart": "always"}, options={"pauses": Pauses(first_restart=0.01)}
    )
    manager.start("web")
    (web,) = await up(manager, "web")
    await manager.stop("web")
    await asyncio.sleep(0.2)
    assert (web.state, web.task.done()) == ("down", True)


async def test_pauses_do_not_grow_beyond_five_minutes(make, monkeypatch):
    pauses = []

    async def wait_for_stop(service, seconds: float) -> bool:
        pauses.append(seconds)
        return len(pauses) == 12

    from jupyter_portproxy.services import supervisor
    from jupyter_portproxy.services.service import Service

    monkeypatch.setattr(Service, "wait_for_stop", wait_for_stop)
    monkeypatch.setattr(supervisor, "MAX_STARTS_PER_MINUTE", 20)
    await ended(make(web={"command": ["no-such-program"], "restart": "on-failure"}).start("web"))
    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0, 300.0, 300.0]


@pytest.mark.parametrize("restart", ["never", "on-failure", "on-unhealthy", "always"])
async def test_an_unhealthy_service_is_started_again_if_its_template_says_so(make, tmp_path, restart):
    template = {"command": [*PYTHON, DEAF, "{port}", str(tmp_path / "deaf")], "health_period": 1, "restart": restart}
    manager = make(web=template, options={"pauses": Pauses(first_restart=0.1)})
    manager.start("web")
    (web,) = await up(manager, "web")
    states = record(manager)
    (tmp_path / "deaf").touch()
    await eventually(lambda: web.state == "unhealthy", seconds=10)
    if restart in ("never", "on-failure"):
        await asyncio.sleep(1)
        assert (web.state, web.error) == ("unhealthy", "It does not answer.")
        return
    await eventually(lambda: web.state == "up", seconds=10)
    assert [(state, error) for _, state, error in states] == [
        ("unhealthy", "It does not answer."),
        ("failed", "It did not answer 2 health checks in a row."),
        ("starting", "It did not answer 2 health checks in a row."),
        ("up", ""),
    ]
    assert manager.unhealthy["web"] == manager.failures["web"] == 1


# ---- folders ----


def of_folder(folder, **data):
    return {name: load(name, {"stop_timeout": 0.5, **each}, str(folder)) for name, each in data.items()}


async def test_a_service_of_a_folder_needs_its_consent_at_each_start(make, tmp_path):
    allowed = [True]
    options = {"may_start": lambda template: allowed[0], "pauses": Pauses(first_restart=0.3)}
    manager = make(plain={"command": ["true"]}, options=options)
    template = of_folder(tmp_path, web={"command": [*PYTHON, "raise SystemExit(1)"], "restart": "on-failure"})["web"]
    web = manager.start_template(template)
    await eventually(lambda: web.state == "failed")
    allowed[0] = False
    await ended(web)
    assert "It is not started again: The project file of the folder" in web.error
    with pytest.raises(ConsentMissing) as refused:
        manager.start_template(template)
    assert (refused.value.status, refused.value.code) == (409, "no_consent")
    with pytest.raises(ConsentMissing):
        await manager.restart("web")
    assert manager.start("plain").state == "starting"  # the configuration's own need none


async def test_a_folder_that_is_gone_while_its_services_run_does_not_hinder_their_stop(make, tmp_path):
    folder = tmp_path / "repo"
    folder.mkdir()
    templates, _ = link(of_folder(folder, **stack()), {})
    manager = make()
    web = manager.start_template(templates["web"])
    await up(manager, "db", "api", "web")
    assert psutil.Process(web.process.pid).cwd() == str(folder)
    folder.rmdir()
    services = manager.list()
    await manager.stop_all(services)
    assert {service.state for service in services} == {"down"}
    manager.start_template(templates["db"])
    await ended(manager.get("db"))
    assert manager.get("db").error == f"The folder '{folder}/' does not exist."
