"""The guard ends with its service, and its service with the server, whatever either does."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import jupyter_portproxy

GUARD = Path(jupyter_portproxy.__file__).parent / "services" / "guard.py"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
COUNTS = """
import signal, time
came = []
signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
print("up", flush=True)
while not came:
    time.sleep(0.05)
time.sleep(1)
print(len(came))
"""
LEAVES = """
import os, time
there, here = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.write(here, b".")
        time.sleep(60)
    os._exit(0)
os.wait()
os.read(there, 1)
time.sleep(float(os.environ["STAYS"]))
"""


@pytest.fixture
def guard():
    """Starts a guard for a Python program; its input is the pipe to the server."""
    running = []

    def start(program: str, grace: float = 5, place: str = "-", **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-I", "-S", str(GUARD), str(grace), place, sys.executable, "-c", program]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(command, env={**os.environ, **environment}, **pipes))
        return running[-1]

    yield start
    for process in running:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def gone(pid: int) -> bool:
    until = time.monotonic() + 2
    while time.monotonic() < until:
        try:
            if b") Z " in Path(f"/proc/{pid}/stat").read_bytes():
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_a_word_that_comes_before_the_service_has_begun_stops_it_at_once(guard):
    process = guard("import time; time.sleep(60)", grace=9)
    began = time.monotonic()
    process.stdin.write("t")
    process.stdin.flush()
    assert process.wait(9) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("program", "code"), [("pass", 0), ("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_it_exits_as_the_service_did(guard, program, code):
    assert guard(program).wait(10) == code


def test_a_command_that_does_not_exist_is_an_error():
    command = [sys.executable, str(GUARD), "1", "-", "/no/such/program"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == "/no/such/program: No such file or directory\n"
        assert process.wait(5) == 127


def test_the_end_of_its_input_ends_the_service(guard):
    process = guard("import time; print('up', flush=True); time.sleep(60)")
    assert process.stdout.readline() == "up\n"
    process.stdin.close()
    assert process.wait(3) == 128 + signal.SIGTERM


def test_a_service_that_ignores_sigterm_is_killed_after_its_grace(guard):
    process = guard(STUBBORN, grace=0.5)
    assert process.stdout.readline() == "up\n"
    started = time.monotonic()
    process.stdin.close()
    assert process.wait(5) == 128 + signal.SIGKILL
    assert 0.4 < time.monotonic() - started < 3


def test_a_service_gets_one_sigterm(guard):
    """A second SIGTERM cut the good end of a Jupyter server short: it exited with 143."""
    process = guard(COUNTS)
    assert process.stdout.readline() == "up\n"
    process.stdin.close()
    assert process.stdout.read() == "1\n"
    assert process.wait(5) == 0


@linux
@pytest.mark.parametrize("stays", ["0", "60"])
def test_what_forked_and_left_is_found_and_ended(guard, stays):
    process = guard(LEAVES, STAYS=stays)
    left = int(process.stdout.readline())
    if stays == "60":
        process.stdin.close()
    process.wait(5)
    assert gone(left)


@linux
def test_a_killed_guard_takes_the_service_with_it(guard):
    process = guard("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    pid = int(process.stdout.readline())
    process.kill()
    assert gone(pid)


@linux
def test_it_takes_no_processor_time_while_it_waits(guard):
    process = guard("import time; print('up', flush=True); time.sleep(60)")
    process.stdout.readline()
    time.sleep(0.5)
    before = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    time.sleep(1)
    later = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    assert before == later


THREADS = """
import ctypes, os, threading, time
there, here = os.pipe()
if os.fork() == 0:
    os.setsid()
    threading.Thread(target=time.sleep, args=(60,)).start()
    print(os.getpid(), flush=True)
    ctypes.CDLL(None).pthread_exit(None)
time.sleep(60)
"""


@linux
def test_a_process_whose_first_thread_has_ended_is_ended(guard):
    process = guard(THREADS)
    pid = int(process.stdout.readline())
    until = time.monotonic() + 5
    while b") Z " not in Path(f"/proc/{pid}/stat").read_bytes():
        assert time.monotonic() < until
        time.sleep(0.01)
    process.stdin.close()
    process.wait(10)
    assert not Path(f"/proc/{pid}").exists()


MANY = """
import os, time
for _ in range(40):
    if os.fork() == 0:
        os.setsid()
        os.write(1, b"%d\\n" % os.getpid())
        time.sleep(60)
time.sleep(60)
"""


@linux
def test_no_pid_is_taken_any_more_when_it_exits(guard):
    """A zombie counts as alive for programs that look for another one of them, as Vite does."""
    assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER: what the guard leaves stays visible here
    try:
        process = guard(MANY)
        pids = [int(process.stdout.readline()) for _ in range(40)]
        process.stdin.close()
        process.wait(10)
        assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    finally:
        ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)
