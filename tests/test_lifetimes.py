"""A process is known by its number and its birth, so that a number which was given anew is not taken for the old process."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil

from jupyter_portproxy import lifetimes
from jupyter_portproxy.lifetimes import boot, born


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


def test_without_proc_psutil_is_asked(monkeypatch):
    def no_file(*arguments):
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", no_file)
    monkeypatch.setattr(lifetimes.os.path, "exists", lambda path: False)
    monkeypatch.setattr(lifetimes.psutil, "Process", Process)
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
