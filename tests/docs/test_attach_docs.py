"""The recipes of docs/attach.md, run against a real server: a batch job, Dask's worker processes, an actor, a notebook.

The server of the examples is the one that runs here, and its ports are free ones. sbatch and Ray are stand-ins with the part that
the recipes use: Slurm runs the script in a session of its own and ends all of it, Ray makes an actor a process. A pod is checked
against the part of Kubernetes' schema (v1) that the page uses.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import jsonschema
import pytest
import yaml

from jupyter_portproxy.cli import main

from ..support.helm_chart import TEXT, list_of, mapping
from ..support.jupyter_processes import environment, jupyter_server
from ..support.markdown_blocks import BLOCKS
from ..support.upstreams import free_port

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="the blocks are for a POSIX shell"),
]
SERVER = "https://hub.example.org/user/ada/"
RAY = """
import multiprocessing

class Handle:
    def __init__(self, made, arguments):
        self._here, there = multiprocessing.Pipe()
        multiprocessing.Process(target=self._run, args=(there, made, arguments), daemon=True).start()

    @staticmethod
    def _run(there, made, arguments):
        actor = made(*arguments)
        while True:
            there.send(getattr(actor, there.recv())())

    def __getattr__(self, name):
        return type("Method", (), {"remote": lambda _: (self._here, name)})()

def init(): pass
def remote(made): return type("Class", (), {"remote": staticmethod(lambda *arguments: Handle(made, arguments))})
def get(call):
    call[0].send(call[1])
    return call[0].recv()
"""
POD = mapping(
    "apiVersion", "kind", "metadata", "spec",
    apiVersion={"const": "v1"}, kind={"const": "Pod"}, metadata=mapping("name", name=TEXT),
    spec=mapping("containers", containers=list_of(mapping(
        "name", "image", name=TEXT, image=TEXT, command=list_of(TEXT), args=list_of(TEXT),
        env=list_of(mapping("name", name=TEXT, value=TEXT, valueFrom=mapping(
            secretKeyRef=mapping("name", "key", name=TEXT, key=TEXT)))),
    ))),
)  # fmt: skip


def block(language: str, part: str) -> str:
    (found,) = (each.text for each in BLOCKS if (each.page, each.language) == ("docs/attach.md", language) and part in each.text)
    return found


@pytest.fixture
def home(tmp_path):
    """With `jupyter` and stand-ins on the PATH, and the token of the page."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {
        "jupyter": f'shift; exec {sys.executable} -m jupyter_portproxy "$@"',
        "tensorboard": f'exec {sys.executable} -m http.server --bind 127.0.0.1 "$4"',
        "python": f'exec {sys.executable} "$@"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    (tmp_path / "ray.py").write_text(RAY)
    return tmp_path


@pytest.fixture
def server(home):
    with jupyter_server(home) as running:
        yield running
        assert "Traceback" not in running.log


@pytest.fixture
def variables(home, server):
    """After the page's first command: the token is in its file, and in the variable."""
    more = environment(home, {"PATH": f"{home / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(home)})
    subprocess.run(["bash", "-euc", block("sh", "umask")], env=more, cwd=home, check=True, capture_output=True)
    assert (home / "attach-token").stat().st_mode & 0o777 == 0o600
    return {**more, "PORTPROXY_ATTACH_TOKEN": (home / "attach-token").read_text().strip()}


@pytest.fixture
def port():
    """Of a program that runs here."""
    server = ThreadingHTTPServer(("127.0.0.1", free_port()), SimpleHTTPRequestHandler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def adapted(text: str, server, port: int) -> str:
    return re.sub(r"\b6006\b", str(port), text.replace(SERVER, server.url))


def states(server) -> dict[str, str]:
    return {service["name"]: service["state"] for service in json.loads(server.get("proxy/api/services")[1])}


def wait_for(predicate, seconds: float = 20):
    end = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_the_command_of_the_page(home, server, variables, port):
    other = free_port()
    command = adapted(block("sh", "8265"), server, port).replace("8265", str(other))
    started = time.monotonic()
    process = subprocess.Popen(["bash", "-euc", f"exec {command}"], env=variables, cwd=home, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: states(server) == {f"trainer-{port}": "up", f"trainer-{other}": "unhealthy"})
    assert time.monotonic() - started < 5
    process.terminate()
    assert process.communicate(timeout=10)[0].count("is attached: ") == 2 and process.returncode == 0


def test_a_slurm_job(home, server, variables):
    """As sbatch: the job's own session, SLURM_JOB_ID, and no process of it is left afterwards."""
    port = free_port()
    text = adapted(block("sh", "#SBATCH"), server, port)
    assert text.startswith("#!/bin/bash\n#SBATCH ")
    (home / "train.sh").write_text(text)
    (home / "train.py").write_text("import time; time.sleep(60)")
    job = {**variables, "SLURM_JOB_ID": "4711"}
    del job["PORTPROXY_ATTACH_TOKEN"]
    process = subprocess.Popen(["bash", "train.sh"], env=job, cwd=home, start_new_session=True, stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: states(server) == {f"trainer-4711-{port}": "up"})
        assert server.get(f"proxy/service/trainer-4711-{port}/")[0] == 200
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)
    wait_for(lambda: states(server) == {f"trainer-4711-{port}": "down"})
    assert json.loads(server.get("proxy/api/attached")[1])[0]["state"] == "ended"


def test_dask_workers(home, server, variables):
    """Two worker processes and a scheduler, started as a person does."""
    scheduler = free_port()
    commands = [["scheduler", "--host", "127.0.0.1", "--port", str(scheduler), "--dashboard-address", "127.0.0.1:0"]]
    commands += [
        ["worker", f"tcp://127.0.0.1:{scheduler}", "--no-nanny", "--name", name, "--dashboard-address", "127.0.0.1:0"]
        for name in ("one", "two")
    ]
    dask = shutil.which("dask", path=os.path.dirname(sys.executable))
    processes = [
        subprocess.Popen([dask, *command], env=variables, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    try:
        code = adapted(block("python", "dask.distributed"), server, 0)
        code = code.replace('"])\nprint', '"])\nclient.wait_for_workers(2)\nprint')
        assert "wait_for_workers" in code
        more = {**variables, "DASK_SCHEDULER": f"tcp://127.0.0.1:{scheduler}"}
        done = subprocess.run([sys.executable, "-c", code], env=more, cwd=home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = states(server)
        assert sorted(name.rpartition("-")[0] for name in found) == ["dask-one", "dask-two"] and {*found.values()} == {"up"}
        for name in found:
            assert server.get(f"proxy/service/{name}/health") == (200, "ok")  # the pages need Bokeh
    finally:
        for process in processes:
            process.kill()
            process.wait()
    wait_for(lambda: {*states(server).values()} == {"down"})


def test_a_ray_actor(home, server, variables, port):
    code = adapted(block("python", "import ray"), server, port) + "import time; time.sleep(3)\n"
    process = subprocess.Popen([sys.executable, "-c", code], env=variables, cwd=home, stdout=subprocess.PIPE, text=True)
    assert f"{server.url}proxy/service/board-{port}/" in process.stdout.readline()
    assert server.get(f"proxy/service/board-{port}/")[0] == 200
    process.communicate(timeout=20)
    wait_for(lambda: states(server) == {f"board-{port}": "down"})


def test_a_notebook_of_a_remote_kernel(home, server, variables, port):
    """With an event loop that runs already, as that of a kernel does."""
    code = adapted(block("python", 'name="kernel"'), server, port)
    inside = f"import asyncio\nasync def cell():\n{textwrap.indent(code, '    ')}\nasyncio.run(cell())\n"
    done = subprocess.run([sys.executable, "-c", inside], env=variables, cwd=home, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        0,
        "",
    ) and done.stdout == f"kernel-{port}: {server.url}proxy/service/kernel-{port}/\n"
    assert states(server) == {f"kernel-{port}": "down"}


def test_a_pod():
    pod = yaml.safe_load(block("yaml", "kind: Pod"))
    jsonschema.validate(pod, POD)
    command = next(each["command"] for each in pod["spec"]["containers"] if each["name"] == "attach")
    assert command[0] == "jupyter-portproxy"
    options = main._parse(command[1:], 0)
    assert (options.server, options.name, options.arguments, options.any_owner) == (SERVER, "trainer", ["6006"], True)


@pytest.mark.parametrize("wrong", [{"kind": "Job"}, {"spec": {"containers": [{"name": "a"}]}}, {"spec": {"container": []}}])
def test_a_pod_that_kubernetes_does_not_take(wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**yaml.safe_load(block("yaml", "kind: Pod")), **wrong}, POD)
