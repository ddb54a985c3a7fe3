"""A separate program that starts one service, and stops all its processes at the latest when the server ends.

    guard.py GRACE ADDRESS COMMAND...

It runs once per service with `python -I -S`, and imports small modules of the standard library only.

Standard input is a pipe from the server. `u` reports that the service is up. `t` stops the service (SIGTERM to its group, SIGKILL
to all its processes after GRACE seconds), and so does the end of the input, which the death of the server causes too. On Linux
the guard is the subreaper of the service (prctl(2), PR_SET_CHILD_SUBREAPER): processes that have left its group are found and
stopped too. It exits like the service, with 128 + N if signal N ended it, with 127 if there is no such command.

ADDRESS is the port or the path of the Unix socket on which the service is to listen, or `-`. A program that exits and leaves a
process that listens there has gone into the background (Linux): that process is the service from then on. If it exits with 0,
leaves processes, and the service is not up yet, the guard waits for one of them to listen; stopped meanwhile, it exits with
BACKGROUND. A program that was ended by a signal has crashed, whether it leaves processes or not.
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
_TICK = 0.05  # s
_LISTEN_INTERVAL = 0.5  # s, between two searches for a process that listens


def main(grace: float, address: str, command: list[str]) -> int:
    """Run the command until it ends or is to be stopped; returns its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    _prctl(_PR_SET_CHILD_SUBREAPER)
    exec_read, exec_write = os.pipe()  # closed by execvp
    child = os.fork()
    if child == 0:
        _become(command)
    os.close(exec_write)
    child, code = _watch_all(child, address, woken)
    os.read(exec_read, 1)  # until then the child ignores SIGTERM like the guard, and would run for the whole grace
    deadline = time.monotonic() + grace
    _signal(child, signal.SIGTERM)
    while code is None or _has_children():
        if time.monotonic() >= deadline:
            _signal(child, signal.SIGKILL)
        select.select([woken], [], [], _TICK)
        code = _reap(child, code)
    return code


def _watch_all(child: int, address: str, woken: int) -> tuple[int, int | None]:
    """Wait for the end of the service, also in the background. Returns its last process, and exit code or None as `_watch`."""
    reports: list[bytes] = []
    code = _watch(child, woken, reports)
    while code is not None and code < _SIGNALLED and address != "-" and _has_children():
        successor, code = _find_successor(address, woken, reports, code)
        if successor is None:
            break
        child, code = successor, _watch(successor, woken, reports)
    return child, code


def _watch(child: int, woken: int, reports: list[bytes]) -> int | None:
    """Wait for the end of the process, and return its exit code; or for an order to stop or the server's end, and return None."""
    code: int | None = None
    while code is None:
        ready, _, _ = select.select([0, woken], [], [])
        if 0 in ready and _is_stop(reports):
            return None
        if woken in ready:
            os.read(woken, 4096)
            code = _reap(child, code)
    return code


def _is_stop(reports: list[bytes]) -> bool:
    """Read one byte of the input: True if the service is to be stopped. `u` is appended to `reports`."""
    byte = os.read(0, 1)
    if byte == b"u":
        reports.append(byte)
    return byte != b"u"


def _find_successor(address: str, woken: int, reports: list[bytes], ended: int) -> tuple[int | None, int]:
    """The child of this process that listens at the address, or has a descendant that does; and the exit code if there is none.

    Until the service is up it waits for one, if the program has ended with 0.
    """
    code: int | None = ended
    is_last_search = False
    while _has_children():
        code = _reap(0, code) if ended == 0 else ended
        descendants, inodes = _descendants(), _listening(address)
        listening = next((pid for pid in descendants if inodes and _holds(pid, inodes)), None)
        if listening is not None:
            while descendants[listening][0] != os.getpid():
                listening = descendants[listening][0]
            return listening, 0
        if ended or is_last_search:
            break
        is_last_search = bool(reports)  # it has listened, and may have ended during the search: its exit code comes now
        ready, _, _ = select.select([0, woken], [], [], _TICK if is_last_search else _LISTEN_INTERVAL)
        if 0 in ready and _is_stop(reports):
            return None, BACKGROUND
        if woken in ready:
            os.read(woken, 4096)
    return None, code or 0


def _listening(address: str) -> set[str]:
    """The inodes of the sockets that listen at the address (proc_net(5), unix(7))."""
    inodes = set()
    for name in ("tcp", "tcp6") if address.isdigit() else ("unix",):
        with contextlib.suppress(OSError), open(f"/proc/net/{name}", errors="surrogateescape") as sockets:
            for line in list(sockets)[1:]:
                part = line.split(None, 7)
                if name == "unix":  # Num RefCount Protocol Flags (10000: __SO_ACCEPTCON) Type St Inode Path
                    if part[3] == "00010000" and len(part) > 7 and _is_path(part[7].rstrip("\n"), address):
                        inodes.add(part[6])
                elif part[3] == "0A" and int(part[1].rpartition(":")[2], 16) == int(address):  # TCP_LISTEN
                    inodes.add(line.split()[9])
    return inodes


def _is_path(path: str, address: str) -> bool:
    return os.path.basename(path) == os.path.basename(address) and os.path.realpath(path) == os.path.realpath(address)


def _holds(pid: int, inodes: set[str]) -> bool:
    """True if the process has one of these sockets open."""
    with contextlib.suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{number}")[8:-1] in inodes:
                    return True
    return False


def _become(command: list[str]) -> None:
    """In the child: a new session, default signals, /dev/null as input; then the command."""
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.execvp(command[0], command)  # noqa: S606 (without a shell, on purpose)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _reap(child: int, code: int | None) -> int | None:
    """Reap all ended children. Returns the exit code of the child, or of the last one if `child` is 0; else `code`."""
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
    """Send a signal to the service's group, and to each descendant that is in another group now.

    Each gets it once: many programs take a second SIGTERM as the order to exit without cleaning up.
    """
    others = [pid for pid, (_, group) in _descendants().items() if group != child]
    with contextlib.suppress(OSError):
        os.killpg(child, number)
    for pid in others:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def _has_children() -> bool:
    """True while a process of the service is left (Linux): orphans become children of this process."""
    if sys.platform != "linux":
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _descendants() -> dict[int, tuple[int, int]]:
    """All processes below this one: parent and group of each (Linux; elsewhere empty).

    One whose parent ends while `/proc` is read may be missed. Zombies are included: threads may outlive the main thread.
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
    descendants: dict[int, tuple[int, int]] = {}
    level = {os.getpid()}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        descendants.update((pid, (parents[pid], groups[pid])) for pid in level)
    return descendants


def _prctl(option: int, value: int = 1) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2], sys.argv[3:]))
