"""Run as a program of its own: starts one service and sees to it that nothing of it survives the server.

Rule of this file: only the standard library's small modules, for it runs once per service, with `python -I -S`.

    guard.py GRACE PLACE COMMAND...

Standard input is a pipe from the server. `u` on it says that the service is up. `t` stops the service (SIGTERM to its group,
SIGKILL to all of it after GRACE seconds); so does its end, which is the server's death by whatever cause. On Linux the guard is
the reaper of all that the service leaves behind (prctl(2), PR_SET_CHILD_SUBREAPER): also what forked and left is found and
stopped. It exits as the service did, 128 + N if signal N ended it, 127 if there is no such command.

PLACE is the port or the path of the Unix socket on which the service is to listen, or `-`. A program that exits and leaves a
process that listens there has gone into the background (Linux): that process is the service from then on. If it exits with 0,
leaves processes, and the service is not up yet, the guard waits for one of them to listen; stopped meanwhile, it exits with
BACKGROUND. A program that a signal has ended has crashed, whatever it leaves.
"""

import contextlib
import os
import select
import signal
import sys
import time

BACKGROUND = 251
_SIGNALLED = 128  # an exit code above it is that of a signal
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_TICK = 0.05
_LISTEN_INTERVAL = 0.5  # s, between two looks at who listens


def main(grace: float, place: str, command: list[str]) -> int:
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
    child, code = _watch_all(child, place, woken)
    os.read(begun, 1)  # until then the child ignores SIGTERM as its guard does, and would stay for the whole grace
    deadline = time.monotonic() + grace  # what the service left behind ends with it
    _signal(child, signal.SIGTERM)
    while code is None or _has_children():
        if time.monotonic() >= deadline:
            _signal(child, signal.SIGKILL)
        select.select([woken], [], [], _TICK)
        code = _reap(child, code)
    return code


def _watch_all(child: int, place: str, woken: int) -> tuple[int, int | None]:
    """Wait for the service's end, in the background too. Returns its last process and exit code, None if it is to be stopped."""
    said: list[bytes] = []
    code = _watch(child, woken, said)
    while code is not None and code < _SIGNALLED and place != "-" and _has_children():
        heir, code = _heir(place, woken, said, code)
        if heir is None:
            break
        child, code = heir, _watch(heir, woken, said)
    return child, code


def _watch(child: int, woken: int, said: list[bytes]) -> int | None:
    """Wait for the process's end, its exit code then, or for the server's word, or the server's own end: None."""
    code: int | None = None
    while code is None:
        ready, _, _ = select.select([0, woken], [], [])
        if 0 in ready and _is_stop(said):
            return None
        if woken in ready:
            os.read(woken, 4096)
            code = _reap(child, code)
    return code


def _is_stop(said: list[bytes]) -> bool:
    """Read one word of the server's: True if the service is to be stopped. Anything else is appended to `said`."""
    word = os.read(0, 1)
    if word == b"u":
        said.append(word)
    return word != b"u"


def _heir(place: str, woken: int, said: list[bytes], ended: int) -> tuple[int | None, int]:
    """The child of this process that listens at the place, or has a descendant that does; and the exit code if there is none.

    Until the service is up it waits for one, if the program that has ended did so with 0.
    """
    code: int | None = ended
    is_second_look = False
    while _has_children():
        code = _reap(0, code) if ended == 0 else ended
        found, inodes = _descendants(), _listening(place)
        listening = next((pid for pid in found if inodes and _holds(pid, inodes)), None)
        if listening is not None:
            while found[listening][0] != os.getpid():
                listening = found[listening][0]
            return listening, 0
        if ended or is_second_look:
            break
        is_second_look = bool(said)  # it has listened: it may have ended while it was looked for, and its exit code comes now
        ready, _, _ = select.select([0, woken], [], [], _TICK if is_second_look else _LISTEN_INTERVAL)
        if 0 in ready and _is_stop(said):
            return None, BACKGROUND
        if woken in ready:
            os.read(woken, 4096)
    return None, code or 0


def _listening(place: str) -> set[str]:
    """The inodes of the sockets that listen at the place (proc_net(5), unix(7))."""
    inodes = set()
    for name in ("tcp", "tcp6") if place.isdigit() else ("unix",):
        with contextlib.suppress(OSError), open(f"/proc/net/{name}", errors="surrogateescape") as sockets:
            for line in list(sockets)[1:]:
                part = line.split(None, 7)
                if name == "unix":  # Num RefCount Protocol Flags (10000: __SO_ACCEPTCON) Type St Inode Path
                    if part[3] == "00010000" and len(part) > 7 and _is_path(part[7].rstrip("\n"), place):
                        inodes.add(part[6])
                elif part[3] == "0A" and int(part[1].rpartition(":")[2], 16) == int(place):  # TCP_LISTEN
                    inodes.add(line.split()[9])
    return inodes


def _is_path(path: str, place: str) -> bool:
    return os.path.basename(path) == os.path.basename(place) and os.path.realpath(path) == os.path.realpath(place)


def _holds(pid: int, inodes: set[str]) -> bool:
    """True if the process has one of these sockets open."""
    with contextlib.suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{number}")[8:-1] in inodes:
                    return True
    return False


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
    """Collect all that has ended. Returns the exit code of the child, or of the last one if `child` is 0; else `code`."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if child in (0, pid):
                code = os.waitstatus_to_exitcode(status)
                code = 128 - code if code < 0 else code
    return code


def _signal(child: int, number: int) -> None:
    """To the service's group, and to every process that descends from it and is in another group now.

    To each of them once: for many programs a second SIGTERM is the order not to end in good order.
    """
    others = [pid for pid, (_, group) in _descendants().items() if group != child]
    with contextlib.suppress(OSError):
        os.killpg(child, number)
    for pid in others:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def _has_children() -> bool:
    """True while anything of the service is left (Linux): orphans become children of this process."""
    if sys.platform != "linux":
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _descendants() -> dict[int, tuple[int, int]]:
    """All processes below this one: parent and group of each (Linux; elsewhere none is known).

    One whose parent ends while `/proc` is read may be missed. Zombies are among them: threads may outlive the first one.
    """
    parents: dict[int, int] = {}
    groups: dict[int, int] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return {}
    for name in filter(str.isdigit, names):
        try:
            with open(f"/proc/{name}/stat", "rb") as stat:
                _, parent, group = stat.read().rpartition(b")")[2].split()[:3]
        except OSError:
            continue
        parents[int(name)], groups[int(name)] = int(parent), int(group)
    found: dict[int, tuple[int, int]] = {}
    level = {os.getpid()}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        found.update((pid, (parents[pid], groups[pid])) for pid in level)
    return found


def _prctl(option: int, value: int = 1) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2], sys.argv[3:]))
