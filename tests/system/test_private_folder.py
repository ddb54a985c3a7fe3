"""Folders for Unix sockets: private, removed at the end, and by the next process if theirs was killed."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from contextlib import contextmanager

import pytest

from jupyter_portproxy.system.private_folder import PrivateFolder, remove_stale_folders

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither modes nor flock")
HOLD = """
import socket, sys
from jupyter_portproxy.system.private_folder import PrivateFolder
folder = PrivateFolder("test-", sys.argv[1])
sock = socket.socket(socket.AF_UNIX)
sock.bind(f"{folder.path}/a.sock")
print(folder.path.name, flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(parent):
    """A process that has such a folder, and the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process, parent / process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def stale(parent):
    with holder(parent) as (_, folder):
        pass
    assert sorted(os.listdir(folder)) == ["a.sock", "lock"]
    return folder


def test_it_is_private_and_removed_with_its_content(tmp_path):
    folder = PrivateFolder("test-", str(tmp_path))
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    (folder.path / "a").touch()
    folder.close()
    assert not os.listdir(tmp_path)


def test_those_of_killed_processes_are_removed_and_no_other(tmp_path):
    one, two = stale(tmp_path), stale(tmp_path)
    mine = PrivateFolder("test-", str(tmp_path))
    with holder(tmp_path) as (_, running):
        remove_stale_folders("test-", str(tmp_path))
        assert not one.exists() and not two.exists()
        assert running.exists() and mine.path.exists() and (running / "a.sock").exists()
    remove_stale_folders("other-", str(tmp_path))
    assert running.exists()
    remove_stale_folders("test-", str(tmp_path))
    assert os.listdir(tmp_path) == [mine.path.name]
    mine.close()
    remove_stale_folders("test-", str(tmp_path / "none"))  # nothing is there


@pytest.mark.parametrize("what", ["file", "link", "folder", "mode", "unlocked", "linked lock"])
def test_what_may_be_another_programs_is_left(tmp_path, what):
    folder = stale(tmp_path)
    match what:
        case "file":
            (folder / "a.txt").touch()
        case "link":
            (folder / "b.sock").symlink_to(folder / "a.sock")
        case "folder":
            (folder / "more").mkdir()
        case "mode":
            folder.chmod(0o750)
        case "unlocked":
            (folder / "lock").unlink()
        case "linked lock":
            (tmp_path / "elsewhere").touch()
            (folder / "lock").unlink()
            (folder / "lock").symlink_to(tmp_path / "elsewhere")
    before = sorted(os.listdir(folder))
    remove_stale_folders("test-", str(tmp_path))
    assert sorted(os.listdir(folder)) == before


def test_a_link_to_such_a_folder_is_not_followed(tmp_path):
    (parent := tmp_path / "parent").mkdir()
    folder = stale(tmp_path)
    (parent / "test-link").symlink_to(folder)
    remove_stale_folders("test-", str(parent))
    assert (folder / "a.sock").exists() and (parent / "test-link").is_symlink()


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="becomes another user of a Linux machine")
def test_that_of_another_user_is_left(tmp_path):
    folder = stale(tmp_path)
    for path in (folder, folder / "lock", folder / "a.sock"):
        os.chown(path, 65534, 65534)
    remove_stale_folders("test-", str(tmp_path))
    assert (folder / "a.sock").exists()


def test_one_that_is_being_made_is_left(tmp_path):
    (folder := tmp_path / "test-new").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "a.sock"))
    (folder / "lock.new").touch()
    remove_stale_folders("test-", str(tmp_path))
    assert len(os.listdir(folder)) == 2
