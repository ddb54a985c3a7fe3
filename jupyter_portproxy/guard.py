"""Run as a program of its own: starts one service and sees to it that nothing of it survives the server.

Rule of this file: only the standard library's small modules, for it runs once per service, with `python -I -S`.

    guard.py GRACE COMMAND...

Standard input is a pipe from the server. `t` on it stops the service (SIGTERM to its group, SIGKILL to all of it after GRACE
seconds); so does its end, which is the server's death by whatever cause. On Linux the guard is the reaper of all that the
service leaves behind (prctl(2), PR_SET_CHILD_SUBREAPER): also what forked and left is found and stopped. It exits as the
service did, 128 + N if signal N ended it, 127 if there is no such command.
"""

import contextlib
import os
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_TICK = 0.05


def main(grace: float, command: list[str]) -> int:
    """Run the command until it ends or is to be stopped; returns its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    _prctl(_PR_SET_CHILD_SUBREAPER)
    begun, beginning = os.pipe()  # closed by execvp
    child = os.fork()
    if child == 0:
        _become(command)
    os.close(beginning)
    code = _watch(child, woken)
    os.read(begun, 1)  # until then the child ignores SIGTERM as its guard does, and would stay for the whole grace
    deadline = time.monotonic() + grace  # what the service left behind ends with it
    _signal(child, signal.SIGTERM)
    while code is None or _descendants():
        if time.monotonic() >= deadline:
            _signal(child, signal.SIGKILL)
        select.select([woken], [], [], _TICK)
        code = _reap(child, code)
    return code


def _watch(child: int, woken: int) -> int | None:
    """Wait for the service's end, its exit code then, or for the server's word, or the server's own end: None."""
    code: int | None = None
    while code is None:
        ready, _, _ = select.select([0, woken], [], [])
        if 0 in ready:
            return None
        os.read(woken, 4096)
        code = _reap(child, code)
    return code


def _become(command: list[str]) -> None:
    """In the child: a group of its own, default signals, no guard's input; then the command."""
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.execvp(command[0], command)  # noqa: S606 (no shell: that is the point)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _reap(child: int, code: int | None) -> int | None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                code = 128 - code if code < 0 else code
    return code


def _signal(child: int, number: int) -> None:
    """To the service's group, and to every process that descends from it and is in another group now.

    To each of them once: for many programs a second SIGTERM is the order not to end in good order.
    """
    others = [pid for pid, group in _descendants().items() if group != child]
    with contextlib.suppress(OSError):
        os.killpg(child, number)
    for pid in others:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def _descendants() -> dict[int, int]:
    """All processes below this one, and their groups (Linux; elsewhere none is known)."""
    parents: dict[int, int] = {}
    groups: dict[int, int] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return {}
    for name in filter(str.isdigit, names):
        try:
            with open(f"/proc/{name}/stat", "rb") as stat:
                state, parent, group = stat.read().rpartition(b")")[2].split()[:3]
        except OSError:
            continue
        if state != b"Z":
            parents[int(name)], groups[int(name)] = int(parent), int(group)
    found: dict[int, int] = {}
    level = {os.getpid()}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        found.update((pid, groups[pid]) for pid in level)
    return found


def _prctl(option: int, value: int = 1) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
