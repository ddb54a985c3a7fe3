"""A process is known by its number and its birth, so that a number which was given anew is not taken for the old process."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from jupyter_portproxy.system import process_identity
from jupyter_portproxy.system.process_identity import Lives, boot, born

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


def test_a_boot_stays_the_same():
    assert boot() == boot()


def test_a_living_process_was_born_once_and_a_dead_one_never():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    first = born(process.pid)
    assert first and born(process.pid) == first
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert born(process.pid) == "", "nobody has collected it, and it runs no more"
    process.communicate()
    assert born(process.pid) == ""


def test_two_processes_are_not_taken_for_each_other():
    time.sleep(0.02)  # a tick
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert born(process.pid) != born(os.getpid())
        process.communicate()


@pytest.fixture
def lives():
    made = Lives()
    yield made
    made.close()


def test_a_process_runs_until_it_ends_whether_or_not_somebody_collects_it(lives):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    birth = born(process.pid)
    assert [lives.run(process.pid, birth) for _ in range(3)] == [True, True, True]
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not lives.run(process.pid, birth)
    process.communicate()
    assert not lives.run(process.pid, birth)


def test_a_number_that_was_given_anew_is_another_process(lives):
    assert lives.run(os.getpid(), born(os.getpid()))
    assert not lives.run(os.getpid(), "1")
    assert not lives.run(2**22 + 1, "1")


@linux
def test_of_many_processes_few_handles_are_kept_and_none_when_it_is_closed(lives, monkeypatch):
    monkeypatch.setattr(process_identity, "_MOST", 2)
    before = len(os.listdir("/proc/self/fd"))
    processes = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(4)]
    pipes = len(os.listdir("/proc/self/fd"))
    births = [(process.pid, born(process.pid)) for process in processes]
    for _ in range(3):
        assert all(lives.run(*birth) for birth in births)
        assert len(os.listdir("/proc/self/fd")) == pipes + 2
    lives.close()
    for process in processes:
        process.communicate()
    assert len(os.listdir("/proc/self/fd")) == before


@linux
def test_without_handles_proc_is_read(lives, monkeypatch):
    monkeypatch.setattr(process_identity, "_handle_of", lambda pid: None)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        birth = born(process.pid)
        assert lives.run(process.pid, birth) and lives.run(process.pid, birth)
        process.communicate()
    assert not lives.run(process.pid, birth)


def test_without_proc_psutil_is_asked(monkeypatch):
    def no_file(*arguments):
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", no_file)
    monkeypatch.setattr(process_identity.os.path, "exists", lambda path: False)
    monkeypatch.setattr(process_identity.psutil, "Process", Process)
    assert born(7) == "12.5"
    assert born(8) == "" and born(9) == ""


class Process:
    def __init__(self, pid: int) -> None:
        if pid == 9:
            raise psutil.NoSuchProcess(pid)
        self.pid = pid

    def status(self) -> str:
        return psutil.STATUS_ZOMBIE if self.pid == 8 else psutil.STATUS_RUNNING

    def create_time(self) -> float:
        return 12.5
