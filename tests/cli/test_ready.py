"""`jupyter portproxy await` against a real server."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from ..support.jupyter_processes import environment, jupyter_server
from ..support.upstreams import free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")


@pytest.fixture
def listener(home):
    """A port on which a web server begins to listen after a second."""
    port = free_port()
    begin = (
        "import runpy, sys, time; time.sleep(1); sys.argv[1:] = sys.argv[2:]; runpy.run_module(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", f"import sys; sys.argv[0] = 'http.server'; {begin}", "", "--bind", "127.0.0.1", str(port)]
    with subprocess.Popen(command, cwd=home, env=environment(home), stderr=subprocess.DEVNULL) as process:
        yield port
        process.kill()


def test_a_port_that_does_not_exist_yet_is_waited_for(server, run, listener):
    assert run("await", str(listener)) == (0, f"Port {listener} is ready.\n", "")
    assert run("await", str(listener), "--http", "/", "--timeout", "5s")[0] == 0
    code, output, error = run("await", str(listener), "--http", "/none", "--timeout", "0.5")
    assert (code, output) == (1, "")
    assert error == f"Port {listener} is not ready after 0.5 s. Port {listener} answers /none with status 404.\n"


def test_a_service_that_does_not_exist_yet_is_waited_for(server, run):
    starting = threading.Timer(1, lambda: run("start", "web"))
    starting.start()
    assert run("await", "web", "--http", "/") == (0, "'web' is ready.\n", "")
    starting.join()


def test_a_service_that_fails_ends_the_wait_at_once(server, run):
    starting = threading.Timer(1, lambda: run("start", "fails"))
    starting.start()
    before = time.monotonic()
    code, output, error = run("await", "fails", "--timeout", "25")
    assert (code, output, time.monotonic() - before < 20) == (1, "", True)
    assert error.startswith("'fails' will not be ready. The service 'fails' is failed. It ended with exit code 3 ")
    starting.join()
    # Another client may start it again, as far as the next command knows.
    code, _, error = run("await", "fails", "--timeout", "0.3")
    assert (code, error.startswith("'fails' is not ready after 0.3 s. The service 'fails' is failed.")) == (1, True)


def test_bad_values_are_one_sentence(server, run):
    for arguments, expected, sentence in [
        (["0"], 1, "'0' is not a port: a port is a whole number from 1 to 65535."),
        (["70000"], 1, "'70000' is not a port: a port is a whole number from 1 to 65535."),
        (["80"], 1, "Port 80 is outside allowed range"),
        (["../x"], 1, "Invalid service name: '../x'."),
        (["web", "--http", "health"], 1, "Invalid path: 'health'.\nWrite a path as in a URL, such as /health."),
        (["web", "--timeout", "0"], 2, "'0s' is not a time above 0"),
        (["web", "--timeout", "soon"], 2, "'soon' is not a time"),
    ]:
        code, output, error = run("await", *arguments)
        assert (code, output, "Traceback" in error) == (expected, "", False) and sentence in error


def test_a_server_that_goes_away_is_waited_for(home, run):
    with jupyter_server(home, "--log-level=DEBUG") as server:

        def end() -> None:
            while "/api/ready" not in server.log:
                time.sleep(0.1)
            server.process.kill()

        ending = threading.Thread(target=end, daemon=True)
        ending.start()
        code, _, error = run("await", "later", "--timeout", "6")
        assert code == 1
        assert error.startswith("'later' is not ready after 6 s. ") and "does not answer: the connection is refused." in error
        ending.join()
