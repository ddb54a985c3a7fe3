"""`jupyter portproxy watch` against a real server: lines, JSON, and the archive at the end."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time

import pytest

from jupyter_portproxy.cli.watch import _MAX_SAVED, _keep, print_exchange

from ..support.jupyter_processes import TOKEN, environment
from ..support.upstreams import free_port

BEGUN = "The requests to {} are shown from now on, until Ctrl-C.\n"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")


@contextlib.contextmanager
def watching(home, *arguments):
    """The command, once it watches: `next(lines)` is a line of its output."""
    command = [sys.executable, "-m", "jupyter_portproxy.cli.main", "watch", *arguments]
    with subprocess.Popen(
        command, env=environment(home), cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as it:
        try:
            yield it
        finally:
            it.kill()


def wait_for_recording(server, target):
    until = time.monotonic() + 20
    while not json.loads(server.call("GET", f"proxy/api/exchanges?target={target}")[1])["is_recording"]:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_line_for_each_request_and_an_archive_at_the_end(server, run, home):
    assert run("start", "web")[0] == 0
    with watching(home, "web", "--har", "out.har") as command:
        wait_for_recording(server, "web")
        assert server.get("proxy/service/web/?key=secret-1")[0] == 200
        assert server.get("proxy/service/web/none?token=" + TOKEN)[0] == 404
        first, second = command.stdout.readline(), command.stdout.readline()
        command.send_signal(signal.SIGINT)
        assert (command.wait(20), command.stderr.read()) == (0, BEGUN.format("web"))
    assert first.split()[1:3] == ["200", "GET"] and "/proxy/service/web/?key=***" in first
    assert second.split()[1:3] == ["404", "GET"] and second.endswith("[not passed on: Authorization]\n")
    archive = (home / "out.har").read_text()
    assert [entry["response"]["status"] for entry in json.loads(archive)["log"]["entries"]] == [200, 404]
    assert not [text for text in (first, second, archive) if "secret" in text or TOKEN in text]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has /dev/full")
def test_an_archive_that_cannot_be_written_is_one_sentence(server, home):
    with watching(home, "15000", "--har", "/dev/full") as command:
        wait_for_recording(server, "15000")
        command.send_signal(signal.SIGINT)
        assert command.wait(20) == 1
        assert command.stderr.read() == BEGUN.format("15000") + "The file /dev/full cannot be written: No space left on device.\n"


def test_json_is_one_object_in_each_line(server, home):
    port = free_port()
    with watching(home, str(port), "--json") as command:
        wait_for_recording(server, port)
        assert server.get(f"proxy/port/{port}/x")[0] == 502
        exchange = json.loads(command.stdout.readline())
    assert (exchange["status"], exchange["error"], exchange["method"]) == (502, "unreachable", "GET")


def test_the_end_of_the_server_is_an_error_and_the_archive_is_written(server, home):
    port = free_port()
    with watching(home, str(port), "--har", "out.har") as command:
        wait_for_recording(server, port)
        server.get(f"proxy/port/{port}/x")
        command.stdout.readline()
        server.process.terminate()
        assert command.wait(30) == 1
        begun, *errors = command.stderr.read().splitlines(keepends=True)
        assert (begun, len(errors)) == (BEGUN.format(port), 1)
    assert len(json.loads((home / "out.har").read_text())["log"]["entries"]) == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("nothing",), "There is no service named 'nothing'."),
        (("99999",), "'99999' is not a port: a port is a whole number from 1 to 65535."),
        (("9",), "Port 9 is outside allowed range (10000-20000)"),
        (("15000", "--har", "none/out.har"), "The file none/out.har cannot be written: No such file or directory."),
    ],
)
def test_bad_input_is_one_sentence(server, run, arguments, error):
    code, output, errors = run("watch", *arguments)
    assert (code, output, errors.splitlines()[0]) == (1, "", error)


BASE = {
    "id": 1, "since": 0.0, "kind": "http", "method": "GET", "url": "http://h/a?b=***", "status": 200, "is_open": False,
    "first_byte": 0.0124, "seconds": 1.5, "bytes_up": 0, "bytes_down": 123_456, "close_code": None, "closed_by": None,
    "is_whole": True, "error": "",
    "gateway": {
        "by_referer": False, "redirect": None, "removed": [], "removed_response": [], "refused_cookies": [], "left_out": 0,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "200  GET      12 ms  1500 ms  0 B up, 123 kB down      /a?b=***"),
        ({"seconds": 75.0, "url": "http://h/"}, "200  GET      12 ms     75 s  0 B up, 123 kB down      /"),
        ({"status": None, "first_byte": None, "is_whole": False}, "/a?b=***  [the client has gone]"),
        ({"is_whole": False, "error": "bad_upstream"}, "[cut; error bad_upstream]"),
        ({"kind": "websocket", "status": 101, "is_open": True, "seconds": None}, "101  WS       12 ms     open  0 B up"),
        ({"kind": "websocket", "status": 101, "close_code": 1001, "closed_by": "client"}, "[closed by the client, code 1001]"),
        ({"kind": "websocket", "status": 101, "is_whole": False}, "[cut without a close frame]"),
        ({"kind": "tcp", "status": 101}, "101  TCP"),
    ],
)
def test_lines(changes, line):
    assert line in print_exchange({**BASE, **changes})


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"by_referer": True}, "sent to the service by its Referer"),
        ({"redirect": {"from": "/a", "to": "/p/a"}}, "Location /a became /p/a"),
        (
            {"refused_cookies": [{"name": "_xsrf", "reason": "jupyter"}]},
            "cookie _xsrf refused: Jupyter has a cookie of that name",
        ),
        ({"refused_cookies": [{"name": "", "reason": "new"}]}, "cookie ? refused: new"),
        ({"removed": ["Authorization", "X-A"]}, "not passed on: Authorization, X-A"),
        ({"left_out": 3}, "3 before it not recorded"),
    ],
)
def test_notes(changes, note):
    assert print_exchange({**BASE, "gateway": {**BASE["gateway"], **changes}}).endswith(f"  [{note}]")


def test_an_archive_has_the_last_exchanges_and_each_once():
    saved = {}
    for number in range(_MAX_SAVED + 10):
        _keep(saved, {"id": number})
    _keep(saved, {"id": _MAX_SAVED, "close_code": 1000})
    assert (len(saved), min(saved), list(saved.values())[-1]) == (_MAX_SAVED, 10, {"id": _MAX_SAVED, "close_code": 1000})
