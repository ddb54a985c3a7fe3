"""Projects on this host: only what runs and is registered is a target, a port has one project, and old news changes nothing."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import subprocess
import sys
import time
import uuid

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyter_portproxy.errors import BadInput, NoPort, ProjectStarting, ProjectStopped, RegistryAway, UnknownProject
from jupyter_portproxy.projects.model import NextHop
from jupyter_portproxy.projects.registry.leases import RegisteredProject, Registry
from jupyter_portproxy.services.ports import is_free

from ...support.cpu_time import slowness
from ...support.upstreams import free_port
from ...support.waiting import eventually

RANGE = range(32000, 33000)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "registry.sqlite"


@pytest.fixture
def make(path, jp_asyncio_loop):
    made = []

    def build(**options) -> Registry:
        made.append(Registry(path, **options))
        return made[-1]

    yield build
    for each in made:
        jp_asyncio_loop.run_until_complete(each.close())


@pytest.fixture
def registry(make):
    return make()


@pytest.fixture
def process():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


async def target(registry, key="p1") -> NextHop:
    return await registry.resolve(key, None)


async def refused(registry, kind, key="p1") -> None:
    with pytest.raises(kind) as caught:
        await registry.resolve(key, None)
    assert caught.value.hop == "project host"


# ---- states ----


async def test_a_running_project_is_found_on_loopback(registry):
    made = registry.register("p1", 40001, "s3cret")
    assert await target(registry) == NextHop("p1", "http", "127.0.0.1", 40001, "s3cret", made.generation)
    assert registry.list() == [RegisteredProject("p1", "running", 40001, made.generation, None)]


@pytest.mark.parametrize(
    "key", ["p2", "..", "%2e%2e", "P1", "a" * 10_000, "p1' or '1'='1", "p1; drop table projects", "\0", "proxy", ""]
)
async def test_an_unknown_project(registry, key):
    registry.register("p1", 40001, "s")
    await refused(registry, UnknownProject, key)
    assert len(registry.list()) == 1


async def test_a_life(registry):
    first = registry.register("p1", None, "s", state="starting")
    await refused(registry, ProjectStarting)
    with pytest.raises(BadInput, match="has no port"):
        registry.set_state("p1", "running")
    second = registry.register("p1", 40001, "s", state="starting")
    await refused(registry, ProjectStarting)
    registry.set_state("p1", "running", second.generation)
    assert (await target(registry)).generation == second.generation > first.generation
    registry.set_state("p1", "stopped", second.generation)
    await refused(registry, ProjectStopped)
    assert registry.list()[0].http_port is None, "its port may be another's now"
    registry.set_state("p1", "starting")
    await refused(registry, ProjectStarting)
    assert registry.list()[0].generation > second.generation
    registry.unregister("p1")
    await refused(registry, UnknownProject)


async def test_a_run_that_is_not_over_may_be_left_alone(registry, process):
    def claim():
        return registry.register("p1", 40002, "t", state="starting", replace=False)

    registry.register("p1", 40001, "s", process.pid)
    with pytest.raises(BadInput, match="'p1' is running already"):
        claim()
    assert (await target(registry)).credential == "s"
    process.kill()
    process.wait()
    assert claim().state == "starting", "its process has ended"
    with pytest.raises(BadInput, match="'p1' is starting already"):
        claim()
    registry.set_state("p1", "stopped")
    assert claim().http_port == 40002


async def test_nothing_is_there_before_the_file(make, path):
    registry = make()
    await refused(registry, RegistryAway)
    assert not registry.available
    await registry.start()
    assert path.exists() and registry.available
    await refused(registry, UnknownProject)


async def test_a_damaged_file_is_no_reason_not_to_start(make, path, caplog):
    path.write_bytes(b"garbage" * 1000)
    registry = make()
    await registry.start()
    await refused(registry, RegistryAway)
    assert "cannot be used" in caplog.text
    path.unlink()
    registry.register("p1", 40001, "s")
    assert (await target(registry)).port == 40001


async def test_deleted_while_running(make, path):
    registry = make()
    await registry.start()
    registry.register("p1", 40001, "s")
    changed = []
    registry.subscribe(changed.append)
    path.unlink()
    await refused(registry, RegistryAway)
    registry.register("p2", 40002, "s")
    assert (await target(registry, "p2")).port == 40002
    await refused(registry, UnknownProject)
    assert changed == ["p1", "p2"]


@pytest.mark.parametrize("call", ["set_state", "unregister"])
def test_what_is_not_registered_cannot_be_changed(registry, call):
    with pytest.raises(UnknownProject):
        getattr(registry, call)(*(["p1", "stopped"] if call == "set_state" else ["p1"]))


# ---- ports ----


@pytest.mark.parametrize("port", [0, -1, 65536, "40001", 40001.0, True, None])
def test_bad_ports(registry, port):
    with pytest.raises(BadInput):
        registry.register("p1", port, "s")


@pytest.mark.parametrize(
    "arguments",
    [("P1", 40001, "s"), ("p1", 40001, ""), ("p1", 40001, "a\r\nb"), ("p1", 40001, "s", -1), ("p1", 40001, "s", 4194305)],
)
def test_bad_values(registry, arguments):
    with pytest.raises(BadInput):
        registry.register(*arguments)
    with pytest.raises(RegistryAway):
        registry.list()


@pytest.mark.parametrize(("state", "port"), [("asleep", 40001), ("stopped", 40001)])
def test_bad_states(registry, state, port):
    with pytest.raises(BadInput):
        registry.register("p1", port, "s", state=state)
    with pytest.raises(BadInput):
        registry.set_state("p1", "asleep")


async def test_a_port_belongs_to_one_project(registry):
    first = registry.register("p1", 40001, "one")
    with pytest.raises(BadInput, match="Port 40001 belongs to the project 'p1'"):
        registry.register("p2", 40001, "two")
    assert await target(registry) == NextHop("p1", "http", "127.0.0.1", 40001, "one", first.generation)
    await refused(registry, UnknownProject, "p2")
    registry.set_state("p1", "stopped")
    registry.register("p2", 40001, "two")
    await refused(registry, ProjectStopped)
    assert (await target(registry, "p2")).credential == "two"


async def test_the_file_itself_refuses_two_projects_on_one_port(registry, path):
    registry.register("p1", 40001, "s")
    registry.register("p2", 40002, "s")
    other = sqlite3.connect(path, isolation_level=None)
    for statement in (
        "update projects set http_port = 40001 where key = 'p2'",
        "update projects set http_port = null where key = 'p2'",
        "update projects set state = 'stopped' where key = 'p2'",
        "update projects set http_port = '40003x' where key = 'p2'",
        "update projects set http_port = 0 where key = 'p2'",
        "update projects set state = 'up' where key = 'p2'",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            other.execute(statement)
    other.close()
    assert (await target(registry, "p2")).port == 40002


@pytest.mark.parametrize(
    ("column", "value"),
    [("http_port", "127.0.0.1:80"), ("http_port", 70000), ("secret", "a\nb"), ("secret", b"s"), ("generation", "new")],
)
async def test_a_damaged_row_is_no_target_and_harms_no_other(registry, path, column, value, caplog):
    registry.register("p1", 40001, "s")
    registry.register("p2", 40002, "s")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("pragma ignore_check_constraints = on")
    other.execute(f"update projects set {column} = ? where key = 'p1'", (value,))
    other.close()
    await refused(registry, ProjectStopped)
    assert "row of project p1 is damaged" in caplog.text
    assert (await target(registry, "p2")).port == 40002


# ---- runs that are over ----


async def test_news_of_an_earlier_run_changes_nothing(registry):
    old = registry.register("p1", 40001, "s")
    new = registry.register("p1", 40002, "s")
    for state in ("stopped", "running", "starting"):
        with pytest.raises(BadInput, match="That run of the project is over"):
            registry.set_state("p1", state, old.generation)
    assert (await target(registry)).generation == new.generation


async def test_a_generation_is_never_given_twice(registry):
    old = registry.register("p1", 40001, "s")
    registry.unregister("p1")
    assert registry.register("p1", 40001, "s").generation > old.generation


async def test_a_process_that_ends_without_a_word_is_a_project_that_stopped(registry, process):
    registry.register("p1", 40001, "s", process.pid)
    assert (await target(registry)).port == 40001
    process.kill()
    await eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    await refused(registry, ProjectStopped)
    assert registry.list()[0].state == "stopped"
    registry.register("p2", 40001, "two")
    await refused(registry, ProjectStopped)
    assert (await target(registry, "p2")).credential == "two"


async def test_a_reused_pid_is_not_the_project(registry, path):
    registry.register("p1", 40001, "s", os.getpid())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("update projects set born = '1'")
    other.close()
    await refused(registry, ProjectStopped)


async def test_a_pid_that_is_not_a_number_is_of_no_process(registry, path):
    registry.register("p1", 40001, "s", os.getpid())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("update projects set pid = 'self'")
    other.close()
    await refused(registry, ProjectStopped)


async def test_after_a_boot_nothing_runs_and_nothing_is_lent(make):
    registry = make()
    registry.register("p1", 40001, "s")
    port = registry.lease_port("p2", [RANGE])
    later = make(boot="another")
    await refused(later, ProjectStopped)
    assert later.list()[0].state == "stopped"
    with pytest.raises(BadInput):
        later.set_state("p1", "running")
    assert later.lease_port("p3", [range(port, port + 1)]) == port


# ---- leases ----


def test_a_port_is_lent_to_one_project(registry):
    first = free_port(RANGE)
    numbers = [range(first, first + 1)]
    assert registry.lease_port("p1", numbers) == first
    assert registry.lease_port("p1", numbers) == first, "its own again"
    with pytest.raises(NoPort):
        registry.lease_port("p2", numbers)
    with pytest.raises(BadInput, match=f"Port {first} belongs to the project 'p1'"):
        registry.register("p2", first, "s")
    registry.register("p1", first, "s")


@pytest.mark.parametrize("ports", [[], [range(1, 1024)], [range(70000, 70010)]])
def test_ports_that_are_not_lent(registry, ports):
    with pytest.raises(NoPort):
        registry.lease_port("p1", ports)
    with pytest.raises(BadInput):
        registry.lease_port("..", [RANGE])


@pytest.mark.parametrize(
    "end", [lambda r: r.set_state("p1", "stopped"), lambda r: r.unregister("p1")], ids=["stopped", "unregistered"]
)
def test_a_port_that_was_given_back_cools_down(make, end):
    registry = make(cool_down=0.3)
    first = free_port(RANGE)
    numbers = [range(first, first + 1)]
    registry.register("p1", registry.lease_port("p1", numbers), "s")
    end(registry)
    for key in ("p1", "p2"):
        with pytest.raises(NoPort):
            registry.lease_port(key, numbers)
    time.sleep(0.35)
    assert registry.lease_port("p2", numbers) == first


def test_a_wall_clock_that_jumps_changes_no_lease(make, monkeypatch):
    registry = make()
    first = free_port(RANGE)
    registry.register("p1", registry.lease_port("p1", [range(first, first + 1)]), "s")
    registry.set_state("p1", "stopped")
    for jump in (-1e9, 1e9):
        monkeypatch.setattr(time, "time", lambda jump=jump: jump)
        with pytest.raises(NoPort):
            registry.lease_port("p2", [range(first, first + 1)])


async def test_a_stranger_who_takes_a_port_after_the_stop_is_never_served(make):
    registry = make(cool_down=0)
    first = free_port(RANGE)
    numbers = [range(first, first + 1)]
    registry.register("p1", registry.lease_port("p1", numbers), "s")
    registry.set_state("p1", "stopped")
    with socket.create_server(("127.0.0.1", first)):
        assert not is_free(first)
        await refused(registry, ProjectStopped)
        with pytest.raises(NoPort):
            registry.lease_port("p2", numbers)


def test_a_project_that_moves_to_another_port_gives_the_first_back(make):
    registry = make(cool_down=0)
    first = free_port(RANGE)
    registry.lease_port("p1", [range(first, first + 1)])
    registry.register("p1", 40001, "s")
    assert registry.lease_port("p2", [range(first, first + 1)]) == first


def test_ports_of_projects_are_not_lent(registry):
    first = free_port(RANGE)
    registry.register("p1", first, "s")
    with pytest.raises(NoPort):
        registry.lease_port("p2", [range(first, first + 1)])


# ---- changes, and speed ----


async def test_subscribers_are_notified_of_changes_here_and_elsewhere(make, path):
    registry, changed = make(), []
    end = registry.subscribe(changed.append)
    await registry.start()
    made = registry.register("p1", 40001, "s")
    assert changed == ["p1"]
    elsewhere = make()
    elsewhere.register("p2", 40002, "s")
    await eventually(lambda: changed == ["p1", "p2"], 1)
    elsewhere.set_state("p1", "stopped", made.generation)
    await eventually(lambda: changed == ["p1", "p2", "p1"], 1)
    elsewhere.unregister("p1")
    await eventually(lambda: changed == ["p1", "p2", "p1", "p1"], 1)
    registry.report_failure("p2", 1)
    assert (await target(registry, "p2")).port == 40002
    end()
    elsewhere.unregister("p2")
    await refused(registry, UnknownProject, "p2")
    assert len(changed) == 4


async def test_what_another_process_writes_is_seen_by_the_next_request(registry, path):
    module = "jupyter_portproxy.projects.registry.leases"
    code = f"import sys; from {module} import Registry; Registry(sys.argv[1]).register('p1', 40001, 's')"
    registry.register("p0", 40000, "s")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(path))
    assert await process.wait() == 0
    assert (await target(registry)).port == 40001


async def test_a_target_is_equal_until_its_row_changes(registry, process):
    registry.register("p1", 40001, "s", process.pid)
    first = await target(registry)
    assert await target(registry) == first
    registry.register("p1", 40001, "s", process.pid)
    second = await target(registry)
    assert second != first and second.generation > first.generation
    process.kill()
    process.wait()
    with pytest.raises(ProjectStopped):  # the row is as it was
        await target(registry)


async def test_a_row_that_is_known_is_never_older_than_the_file(registry, make, path, tmp_path):
    """Of every writer: this registry, another one, or a program that puts another file in the file's place."""
    elsewhere = make()
    for writer in (registry, elsewhere):
        for port in (40001, 40002):
            writer.register("p1", port, "s")
            assert [(await target(registry)).port for _ in range(2)] == [port, port]
            writer.set_state("p1", "stopped")
            await refused(registry, ProjectStopped)
        writer.register("p1", 40001, "s")
        assert (await target(registry)).port == 40001
        writer.unregister("p1")
        await refused(registry, UnknownProject)
    registry.register("p1", 40001, "s")
    assert (await target(registry)).port == 40001
    other = Registry(tmp_path / "other.sqlite")
    other.register("p1", 40003, "s")
    await other.close()
    os.replace(tmp_path / "other.sqlite", path)
    assert (await target(registry)).port == 40003


async def test_a_look_up_is_quick(registry):
    keys = [str(uuid.UUID(int=number)) for number in range(300)]
    for number, key in enumerate(keys):
        registry.register(key, 40000 + number, "s", os.getpid())
    rounds = []
    for _ in range(5):  # what else the machine does only ever adds to the time
        begun = time.perf_counter()
        for key in keys:
            await target(registry, key)
        rounds.append((time.perf_counter() - begun) / len(keys))
    assert min(rounds) < 0.0005 * slowness()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(["p1", "p2", "p3"]), st.sampled_from(["register", "stop", "go", "lease"])), max_size=20)
)
def test_no_history_gives_two_running_projects_one_port(tmp_path, history):
    registry = Registry(tmp_path / f"{uuid.uuid4()}.sqlite", cool_down=0)
    free = [free_port(RANGE) for _ in range(2)]
    for key, step in history:
        try:
            if step == "register":
                registry.register(key, free[0], "s")
            elif step == "lease":
                registry.lease_port(key, [range(port, port + 1) for port in free])
            else:
                registry.set_state(key, "stopped" if step == "stop" else "running")
        except (BadInput, UnknownProject, NoPort):
            pass
    ports = [project.http_port for project in registry.list()] if history else []
    held = [port for port in ports if port is not None]
    assert len(held) == len(set(held))
    registry._file.close()


async def test_whether_a_request_starts_a_project_outlives_its_runs(registry):
    def starts():
        return [project.start_on_request for project in registry.list()]

    registry.register("p1", None, "s", state="stopped")
    assert starts() == [False]
    for state in ("starting", "stopped"):
        registry.register("p1", None, "s", state=state, start_on_request=True)
        registry.register("p1", None, "s", state=state)
        assert starts() == [True]
    with pytest.raises(ProjectStopped) as caught:
        await registry.resolve("p1", None)
    assert caught.value.on_request
    registry.register("p1", None, "s", state="stopped", start_on_request=False)
    with pytest.raises(ProjectStopped) as caught:
        await registry.resolve("p1", None)
    assert starts() == [False] and not caught.value.on_request
