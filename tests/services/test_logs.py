"""What services print: its end in memory, and files that belong to one server."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from jupyter_portproxy.services import logs
from jupyter_portproxy.services.logs import Log

LOG = logging.getLogger("logs")


def test_a_log_keeps_its_end(tmp_path):
    log = Log(logs.prepare(tmp_path / "logs", LOG), "a.log")
    for n in range(30000):
        log.write(b"%0100d\n" % n)
    log.close()
    assert log.last_lines(1) == [f"{29999:0100d}"]
    assert 1 << 20 <= len(log.tail()) < (1 << 20) + 200


def test_the_lines_of_a_run_leave_out_those_before(tmp_path):
    log = Log(logs.prepare(tmp_path / "logs", LOG), "a.log")
    log.write(b"of the first run\n")
    begin = log.written
    assert log.last_lines(begin=begin) == []
    log.write(b"one\ntwo\n")
    assert (log.last_lines(begin=begin), log.last_lines(1, begin)) == (["one", "two"], ["two"])
    log.close()


def test_a_full_file_is_kept_beside_the_next_one(tmp_path):
    log = Log(logs.prepare(tmp_path / "logs", LOG), "a.log", max_file_size=10)
    for piece in (b"123456", b"abcdef", b"ABCDEF"):
        log.write(piece)
    log.close()
    found = {path.name: path.read_bytes() for path in (tmp_path / "logs").iterdir()}
    assert found == {"a.log.1": b"abcdef", "a.log": b"ABCDEF"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (tmp_path / "logs").iterdir())


@pytest.fixture
def own(tmp_path):
    """A server's folder below a runtime folder that everybody may write."""
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    runtime.chmod(0o777)
    return logs.folder(runtime / "portproxy")


def test_folders_that_were_open_to_others_are_closed_to_them(own):
    for path in (own.parent, own):
        path.mkdir()
        path.chmod(0o777)
    os.close(logs.prepare(own, LOG))
    assert [path.stat().st_mode & 0o777 for path in (own.parent, own)] == [0o700, 0o700]


def links(path, elsewhere):
    path.symlink_to(elsewhere)


def others(path, elsewhere):
    path.mkdir()  # another user's, as the test makes the process believe


def file(path, elsewhere):
    path.write_text("")


@pytest.mark.parametrize(("put", "why"), [(links, "link"), (others, "another user, uid"), (file, "not a folder")])
@pytest.mark.parametrize("below", [False, True])
def test_what_others_have_put_there_is_refused(own, tmp_path, caplog, monkeypatch, put, why, below):
    if put is others:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if below:
        own.parent.mkdir()
    put(own if below else own.parent, elsewhere)
    folder = logs.prepare(own, LOG)
    assert folder is None
    assert str(own) in caplog.text and why in caplog.text and "JUPYTER_RUNTIME_DIR" in caplog.text
    log = Log(folder, "a.log")
    log.write(b"a secret")
    log.close()
    assert log.tail() == b"a secret" and not list(elsewhere.iterdir())


@pytest.mark.parametrize("kind", ["symlink", "hard link", "mode", "owner", "pipe"])
def test_files_that_others_have_put_there_are_replaced(own, tmp_path, kind):
    folder = logs.prepare(own, LOG)
    path, other = own / "a.log", tmp_path / "other"
    other.write_text("other")
    if kind == "symlink":
        path.symlink_to(other)
    elif kind == "hard link":
        path.hardlink_to(other)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("planted")
        path.chmod(0o666 if kind == "mode" else 0o600)
        if kind == "owner" and os.geteuid() == 0:
            os.chown(path, 65001, 65001)
    reader = open(path) if kind == "mode" else None  # noqa: SIM115
    log = Log(folder, "a.log")
    log.write(b"a secret")
    log.close()
    assert other.read_text() == "other"
    assert path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().endswith(b"a secret")
    if reader is not None:
        assert "secret" not in reader.read()
        reader.close()


def test_a_folder_that_is_replaced_later_gets_nothing(own, tmp_path):
    log = Log(logs.prepare(own, LOG), "a.log")
    own.parent.rename(tmp_path / "moved")
    own.mkdir(parents=True)
    log.write(b"x" * (logs.MAX_FILE_SIZE + 1))
    log.write(b"more")
    log.close()
    assert not list(own.iterdir())
    assert (tmp_path / "moved" / own.name / "a.log").read_bytes() == b"more"


def test_links_among_ended_servers_are_not_followed(own, tmp_path, ended):
    own.parent.mkdir()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    for pid in ended:
        (own.parent / f"jpserver-{pid}").symlink_to(precious)
    os.close(logs.prepare(own, LOG))
    assert (precious / "file").exists()


@pytest.mark.parametrize("number", [2**31, 2**32, 2**64, "9" * 200])
def test_a_folder_whose_number_is_no_pid_is_left_alone(own, number):
    other = own.parent / f"jpserver-{number}"
    other.mkdir(parents=True)
    os.close(logs.prepare(own, LOG))
    assert other.exists()


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
    os.close(logs.prepare(own, LOG))
    os.close(logs.prepare(own, LOG))
    running.communicate()
    kept = {f"jpserver-{pid}" for pid in (*ended[:4], ended[7], running.pid, os.getpid())}
    assert {path.name for path in parent.iterdir()} == {*kept, "another-program"}
    assert own.stat().st_mode & 0o777 == 0o700
