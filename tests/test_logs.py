"""What services print: its end in memory, and files that belong to one server."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from jupyter_portproxy import logs
from jupyter_portproxy.logs import Log


def test_a_log_keeps_its_end(tmp_path):
    log = Log(tmp_path / "a.log")
    for n in range(30000):
        log.write(b"%0100d\n" % n)
    log.close()
    assert log.last_lines(1) == [f"{29999:0100d}"]
    assert 1 << 20 <= len(log.tail()) < (1 << 20) + 200


@pytest.fixture
def ended():
    """The pids of eight processes that have ended."""
    processes = [subprocess.Popen([sys.executable, "-S", "-c", ""]) for _ in range(8)]
    return [process.pid for process in processes if process.wait() == 0]


def test_each_server_has_its_own_folder_and_the_last_five_of_those_that_ended_are_kept(tmp_path, ended):
    running = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    parent = tmp_path / "portproxy"
    parent.mkdir()
    (parent / "another-program").mkdir()
    for age, pid in enumerate([*ended, running.pid]):
        folder = parent / f"jpserver-{pid}"
        folder.mkdir()
        for path in (folder / "web.log", folder):
            path.touch()
            os.utime(path, (1e9 - age, 1e9 - age))
    os.utime(parent / f"jpserver-{ended[7]}" / "web.log", (2e9, 2e9))  # the oldest, but in use elsewhere
    own = logs.folder(parent)
    assert own == parent / f"jpserver-{os.getpid()}"
    logs.prepare(own)
    logs.prepare(own)
    running.communicate()
    kept = {f"jpserver-{pid}" for pid in (*ended[:4], ended[7], running.pid, os.getpid())}
    assert {path.name for path in parent.iterdir()} == {*kept, "another-program"}
    assert own.stat().st_mode & 0o777 == 0o700
