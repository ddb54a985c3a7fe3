"""A process is identified by its pid and start time, so that a reused pid is not taken for the old process."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from jupyter_portproxy.system import process_identity
from jupyter_portproxy.system.process_identity import boot_id, is_running, start_time

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


def test_a_boot_stays_the_same():
    assert boot_id() == boot_id()


def test_a_living_process_was_started_once_and_a_dead_one_never():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    first = start_time(process.pid)
    assert first and start_time(process.pid) == first
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert start_time(process.pid) == "", "a zombie does not run"
    process.communicate()
    assert start_time(process.pid) == ""


def test_two_processes_are_not_taken_for_each_other():
    time.sleep(0.02)  # a tick
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert start_time(process.pid) != start_time(os.getpid())
        process.communicate()


def test_a_process_runs_until_it_ends_whether_or_not_it_is_collected():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    birth = start_time(process.pid)
    assert [is_running(process.pid, birth) for _ in range(3)] == [True, True, True]
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not is_running(process.pid, birth)
    process.communicate()
    assert not is_running(process.pid, birth)


def test_a_reused_pid_is_another_process():
    assert is_running(os.getpid(), start_time(os.getpid()))
    assert not is_running(os.getpid(), "1")
    assert not is_running(2**22 + 1, "1")


def test_without_proc_psutil_is_used(monkeypatch):
    def no_file(*arguments):
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", no_file)
    monkeypatch.setattr(process_identity.os.path, "exists", lambda path: False)
    monkeypatch.setattr(process_identity.psutil, "Process", Process)
    assert start_time(7) == "12.5"
    assert start_time(8) == "" and start_time(9) == ""


class Process:
    def __init__(self, pid: int) -> None:
        if pid == 9:
            raise psutil.NoSuchProcess(pid)
        self.pid = pid

    def status(self) -> str:
        return psutil.STATUS_ZOMBIE if self.pid == 8 else psutil.STATUS_RUNNING

    def create_time(self) -> float:
        return 12.5
