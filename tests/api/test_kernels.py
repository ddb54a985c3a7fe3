"""Kernels of a real server by the API: the list, what is available there, and services that run there."""

from __future__ import annotations

import json
import os
import shutil
import sys
import venv

import pytest
from jupyter_server.auth.authorizer import Authorizer

from jupyter_portproxy.handlers.start_page import START_FIELD

from ..support.identity_providers import configured
from ..support.waiting import eventually

TOOL = """#!{prefix}/bin/python
import http.server, os, sys
print("runs in", sys.prefix, os.environ.get("VIRTUAL_ENV"), os.environ.get("COLOR"), flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
REQUIRES = {"program": "tool", "hint": "pip install tool"}
TEMPLATES = {
    "tool": {"command": ["tool", "{port}"], "requires": REQUIRES, "stop_timeout": 1},
    "bound": {"command": ["python", "-c", "import sys; print('runs in', sys.prefix)"], "kernel": "mine", "requires": REQUIRES},
    "lost": {"command": ["tool", "{port}"], "kernel": "gone", "requires": REQUIRES},
    "page": {"command": ["tool", "{port}"], "kernel": "mine", "requires": REQUIRES, "start_on_open": True},
}


CONFIG = {**configured(), "PortProxy": {"service_templates": TEMPLATES}}


@pytest.fixture
def jp_server_config():
    return CONFIG


@pytest.fixture
def prefix(tmp_path, jp_data_dir):
    """A venv with the program `tool`, and the spec of the kernel "mine" that is its Python."""
    place = tmp_path / "env"
    venv.create(place, symlinks=True)
    tool = place / "bin" / "tool"
    tool.write_text(TOOL.replace("{prefix}", str(place)))
    tool.chmod(0o755)
    spec = {"argv": [f"{place}/bin/python", "-m", "x"], "display_name": "Mine", "language": "python", "env": {"COLOR": "red"}}
    folder = jp_data_dir / "kernels" / "mine"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps(spec))
    return place


@pytest.fixture
def ask(call):
    async def send(method: str, path: str, **body):
        content = json.dumps(body).encode() if body else b"" if method == "POST" else None
        answer = await call(f"proxy/api/{path}", method, content=content)
        return answer.status, json.loads(answer.text)

    return send


async def test_kernels_are_listed_with_their_python_or_the_reason(ask, prefix, jp_data_dir):
    (jp_data_dir / "kernels" / "broken").mkdir()
    (jp_data_dir / "kernels" / "broken" / "kernel.json").write_text('{"argv": ["/gone/python"], "display_name": "Broken"}')
    status, kernels = await ask("GET", "kernels")
    assert status == 200
    by_name = {kernel["name"]: kernel for kernel in kernels}
    python = f"{prefix}/bin/python"
    assert by_name["mine"] == {
        "name": "mine",
        "title": "Mine",
        "language": "python",
        "python": python,
        "environment": str(prefix),
        "own": False,
        "available": True,
        "reason": "",
    }
    assert (by_name["python3"]["python"], by_name["python3"]["own"]) == (sys.executable, True)
    broken = by_name["broken"]
    assert (broken["available"], broken["python"]) == (False, None)
    assert broken["reason"].startswith("The program of the kernel 'broken' does not exist: /gone/python. Was its environment")


async def test_a_template_is_available_where_its_program_is(ask, prefix):
    async def rows(path):
        status, found = await ask("GET", path)
        assert status == 200
        return {row["name"]: (row["kernel"], row["available"], row["hint"]) for row in found}

    own = await rows("templates")
    assert own["tool"] == (None, False, "pip install tool")
    assert own["bound"] == ("mine", True, "")
    lost = "There is no kernel 'gone' on this server. There are: echo, mine, python3."
    assert own["lost"] == ("gone", False, lost)
    assert (await rows("templates?kernel=mine"))["tool"] == (None, True, "")
    elsewhere = (await rows("templates?kernel=python3"))["tool"]
    where = f"in the environment of the kernel 'python3': {sys.executable} -m pip install tool"
    assert elsewhere == (None, False, f"The program 'tool' is not installed {where}")
    status, error = await ask("GET", "templates?kernel=no")
    assert (status, error["code"], error["message"]) == (400, "bad_input", "There is no kernel 'no' on this server.")


async def test_a_service_runs_in_the_environment_of_a_kernel_also_after_a_restart(ask, prefix, gateway, monkeypatch):
    monkeypatch.setenv("VIRTUAL_ENV", "/the/servers")
    status, service = await ask("POST", "services", template="tool", kernel="mine")
    assert (status, service["kernel"]) == (201, "mine")
    running = gateway.services.get("tool")
    for _ in range(2):
        await eventually(lambda: running.state == "up", 10)
        assert running.last_lines() == [f"runs in {prefix} {prefix} red"]
        status, service = await ask("POST", "services/tool/restart")
        assert (status, service["kernel"]) == (200, "mine")
    assert (await ask("POST", "services", template="tool", kernel="mine"))[0] == 200
    status, other = await ask("POST", "services", template="tool", kernel="python3")
    assert (status, other["name"], other["kernel"]) == (201, "tool-2", "python3")
    status, error = await ask("POST", "services", template="tool", name="tool", kernel="")
    assert (status, error["message"]) == (400, "The service 'tool' runs with other arguments: kernel=mine.")


async def test_the_templates_kernel_is_the_default(ask, prefix, gateway):
    assert (await ask("POST", "services", template="bound"))[1]["kernel"] == "mine"
    service = gateway.services.get("bound")
    await eventually(lambda: service.state == "failed", 10)
    assert service.last_lines() == [f"runs in {prefix}"]
    status, own = await ask("POST", "services", template="bound", kernel="")
    assert (status, own["kernel"]) == (201, None)
    service = gateway.services.get(own["name"])
    await eventually(lambda: service.state == "failed", 10)
    assert service.last_lines() == [f"runs in {sys.prefix}"]


async def test_a_program_that_the_kernel_has_not_is_named_with_the_command_that_installs_it(
    ask, prefix, gateway, tmp_path, monkeypatch
):
    (prefix / "bin" / "tool").unlink()
    (tmp_path / "tool").write_text(TOOL.replace("{prefix}", sys.prefix))  # a script of the server's Python is none of the kernel
    (tmp_path / "tool").chmod(0o755)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{tmp_path}")
    await ask("POST", "services", template="tool", kernel="mine")
    service = gateway.services.get("tool")
    await eventually(lambda: service.state == "failed", 10)
    where = f"in the environment of the kernel 'mine': {prefix}/bin/python -m pip install tool"
    assert service.error == f"The program 'tool' is not installed {where}"


@pytest.mark.parametrize("kernel", ["no", 5, "../mine"])
async def test_an_unknown_kernel_starts_nothing(ask, prefix, gateway, kernel):
    status, error = await ask("POST", "services", template="tool", kernel=kernel)
    assert (status, error["code"]) == (400, "bad_input")
    assert gateway.services.list() == []


async def test_a_kernel_that_goes_while_its_service_runs(ask, prefix, gateway, jp_data_dir):
    await ask("POST", "services", template="tool", kernel="mine")
    service = gateway.services.get("tool")
    await eventually(lambda: service.state == "up", 10)
    shutil.rmtree(jp_data_dir / "kernels" / "mine")
    await ask("POST", "services/tool/restart")
    await eventually(lambda: service.state == "failed", 10)
    assert service.error == "There is no kernel 'mine' on this server. There are: echo, python3."


class Guests(Authorizer):
    """Lets all users use services, and none read about them."""

    def is_authorized(self, handler, user, action, resource):
        return action != "read"


@pytest.mark.parametrize(
    ("jp_server_config", "has_path"), [(CONFIG, True), ({**CONFIG, **configured(authorizer_class=Guests)}, False)]
)
@pytest.mark.parametrize("is_gone", [True, False])
async def test_error_pages_have_a_path_for_those_alone_who_may_read(call, prefix, jp_server_config, has_path, is_gone):
    if is_gone:
        shutil.rmtree(prefix)
    else:
        (prefix / "bin" / "tool").unlink()
    error = await call("proxy/service/page/")
    start_page = await call("proxy/service/page/", fields=[f"{START_FIELD}: report", "Sec-Fetch-Site: same-origin"])
    assert (error.status, start_page.status) == (502, 200)
    assert [f"{prefix}/bin/python" in answer.text for answer in (error, start_page)] == [has_path] * 2
