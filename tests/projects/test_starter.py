"""Projects are started by a command: once at a time, a few at once, and a failure is one sentence."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path

import pytest
from traitlets.config import Config

from jupyter_portproxy.config import PortProxy
from jupyter_portproxy.errors import PROJECT_HOST, Forbidden, ProjectStarting, ProjectStopped, UnknownProject
from jupyter_portproxy.gateway.destinations import Requester
from jupyter_portproxy.gateway.policy import Policy
from jupyter_portproxy.projects.chain import Chain
from jupyter_portproxy.projects.registry.leases import Registry
from jupyter_portproxy.projects.starter import Starter
from jupyter_portproxy.protocol.project_urls import ProjectRoute

from ..support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="projects are run on POSIX systems")
LOG = logging.getLogger("test")
ANN = Requester("ann", may_start=True)
PAGE = ProjectRoute("p1", "/p1", None, "/lab", "?a")
POST = ProjectRoute("p1", "/p1", None, "/proxy/start", "?next=%2Fp1%2Flab")


class Host:
    """Starts with a Python program; a project runs once it has written a file."""

    def __init__(self, folder: Path, program: str, timeout: float = 120.0, **variables: str) -> None:
        self.folder = folder
        text = program.replace("{", "{{").replace("}", "}}")
        command = [sys.executable, "-c", f"import os, sys, time\n{text}", "{key}", str(folder)]
        self.starter = Starter(command, "/b/", variables, self.runs, LOG, timeout=timeout)

    async def runs(self, key: str) -> bool:
        return (self.folder / key).exists()

    def count(self) -> int:
        """How many programs have begun."""
        return len(list(self.folder.glob("begun-*")))


BEGIN = "open(f'{sys.argv[2]}/begun-{sys.argv[1]}-{os.getpid()}', 'w')\n"
UP = BEGIN + "open(f'{sys.argv[2]}/{sys.argv[1]}', 'w')\n"


async def ended(starter, key="p1"):
    await eventually(lambda: not starter.is_starting(key), 10)


async def test_a_project_is_started_once_however_many_ask(tmp_path):
    host = Host(tmp_path, "time.sleep(0.3)\n" + UP)
    for _ in range(100):
        host.starter.start("p1")
        assert host.starter.is_starting("p1")
    await ended(host.starter)
    assert (host.count(), host.starter.failure("p1"), host.starter.failed_lately("p1")) == (1, "", False)
    await host.starter.close()


async def test_a_few_start_at_once(tmp_path):
    host = Host(tmp_path, BEGIN + "time.sleep(60)")
    for number in range(10):
        host.starter.start(f"p{number}")
    await eventually(lambda: host.count() == 4, 10)
    await asyncio.sleep(0.5)
    assert host.count() == 4
    for number in range(10):
        (tmp_path / f"p{number}").touch()
    await eventually(lambda: host.count() == 10, 10)
    for begun in tmp_path.glob("begun-*"):
        os.kill(int(begun.name.rpartition("-")[2]), signal.SIGKILL)
    await host.starter.close()


async def test_a_command_that_fails_is_one_sentence_and_may_be_tried_again(tmp_path, caplog):
    host = Host(tmp_path, "sys.exit('geheim' if not os.path.exists(sys.argv[2] + '/good') else 0)")
    host.starter.start("p1")
    await ended(host.starter)
    assert host.starter.failure("p1") == "Its last start failed with exit code 1." and host.starter.failed_lately("p1")
    (tmp_path / "good").touch()
    host.starter.start("p1")
    assert host.starter.is_starting("p1")
    await asyncio.sleep(0.5)
    assert host.starter.is_starting("p1")  # the command may end before the project runs
    (tmp_path / "p1").touch()
    await ended(host.starter)
    assert (host.starter.failure("p1"), host.starter.failed_lately("p1")) == ("", False)
    await host.starter.close()


async def test_a_project_that_never_runs_is_given_up(tmp_path):
    host = Host(tmp_path, BEGIN + "time.sleep(60)", timeout=1.0)
    host.starter.start("p1")
    await ended(host.starter)
    assert host.starter.failure("p1") == "It was not ready within 1 s of its last start."
    (begun,) = tmp_path.glob("begun-*")
    pid = int(begun.name.rpartition("-")[2])
    await eventually(lambda: not Path(f"/proc/{pid}").exists(), 5)  # ended, and no zombie
    await host.starter.close()


async def test_a_command_that_there_is_not(tmp_path):
    async def runs(key):
        return False

    starter = Starter(["/nowhere/at-all", "{key}"], "/", {}, runs, LOG)
    starter.start("p1")
    await ended(starter)
    assert starter.failure("p1") == "The command that starts projects cannot be run."
    await starter.close()


async def test_what_runs_lives_on_when_the_host_ends_and_has_the_hosts_variables(tmp_path):
    tells = "print('x' * 1000000)\nopen(f'{sys.argv[2]}/{sys.argv[1]}', 'w').write(f'{os.getpid()} {os.environ[\"V\"]}')\n"
    host = Host(tmp_path, f"{tells}time.sleep(60)", V="w")
    host.starter.start("p1")
    await ended(host.starter)
    await eventually(lambda: (tmp_path / "p1").read_text(), 5)
    await host.starter.close()
    pid, value = (tmp_path / "p1").read_text().split()
    assert value == "w"
    os.kill(int(pid), signal.SIGKILL)  # it was there


# ---- what a request makes of it ----


@pytest.fixture
def registry(tmp_path, jp_asyncio_loop):
    made = Registry(tmp_path / "registry.sqlite")
    made.register("p1", None, "secret", state="stopped")
    yield made
    jp_asyncio_loop.run_until_complete(made.close())


@pytest.fixture
def chain(tmp_path, registry, jp_asyncio_loop):
    host = Host(tmp_path, BEGIN + "sys.exit(3)")
    made = Chain(Policy(PortProxy(config=Config())), registry, PROJECT_HOST, {}, ["c"], LOG, host.starter)
    made.host = host
    yield made
    jp_asyncio_loop.run_until_complete(made.close())


async def stopped(chain, asker=ANN, route=PAGE):
    with pytest.raises(ProjectStopped) as caught:
        await chain.locate(route, asker)
    return caught.value


async def test_a_stopped_project_has_a_button_for_those_who_may(chain):
    assert (await stopped(chain)).start == "/p1/proxy/start?next=%2Fp1%2Flab%3Fa"
    assert (await stopped(chain, Requester("eve"))).start == ""
    assert chain.host.count() == 0


async def test_the_button_starts_it_and_a_failure_is_shown(chain):
    with pytest.raises(Forbidden):
        await chain.start(POST, Requester("eve", posts=True))
    with pytest.raises(UnknownProject):
        await chain.start(ProjectRoute("p2", "/p2", None, "/proxy/start", ""), Requester("ann", True, True))
    for request, asker in [(POST, ANN), (PAGE, Requester("ann", True, True))]:
        assert await chain.start(request, asker) is None
    assert chain.host.count() == 0
    redirect = await chain.start(POST, Requester("ann", True, True))
    assert (redirect.location, redirect.status) == ("/p1/lab", 303)
    with pytest.raises(ProjectStarting):
        await chain.locate(PAGE, Requester("eve"))
    await ended(chain.host.starter)
    error = await stopped(chain)
    assert error.message == "The project host reports that this project is stopped. Its last start failed with exit code 3."
    assert error.start and not error.details


async def test_a_request_starts_it_where_the_operator_wants_that_and_not_again_and_again(chain, registry):
    registry.register("p1", None, "secret", state="stopped", start_on_request=True)
    assert (await stopped(chain, Requester("eve"))).start == ""
    with pytest.raises(ProjectStarting):
        await chain.locate(PAGE, ANN)
    await ended(chain.host.starter)
    assert (await stopped(chain)).start
    assert chain.host.count() == 1
    assert await chain.start(POST, Requester("ann", True, True))  # the button tries it at once
    await ended(chain.host.starter)
    assert chain.host.count() == 2


async def test_a_project_that_stops_right_after_a_request_found_it_running_may_be_started_again(chain, registry):
    """Its run may lie between two checks of the registry."""
    chain.host.starter.start("p1")
    registry.register("p1", 12345, "secret", os.getpid())
    assert (await chain.locate(PAGE, ANN)).upstream.port == 12345
    registry.register("p1", None, "secret", state="stopped")
    assert (await stopped(chain)).start
    assert await chain.start(POST, Requester("ann", True, True))
    with pytest.raises(ProjectStarting):
        await chain.locate(PAGE, ANN)
    await eventually(lambda: chain.host.count() == 2, 10)
    await ended(chain.host.starter)


def test_the_default_command_is_the_one_that_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "projects.md").read_text()
    assert f"c.PortProxy.project_starter = {json.dumps(PortProxy().project_starter)}\n" in page


async def test_the_hosts_base_url_is_in_the_command(tmp_path):
    host = Host(tmp_path, "")
    host.starter._command = [sys.executable, "-c", f"open('{tmp_path}/p1', 'w').write('{{base_url}}{{key}}')"]
    host.starter.start("p1")
    await ended(host.starter)
    await eventually(lambda: (tmp_path / "p1").read_text() == "/b/p1", 5)
    await host.starter.close()
