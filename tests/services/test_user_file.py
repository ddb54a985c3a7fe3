"""A file of entries: its states, and several servers of one user."""

from __future__ import annotations

import json
import logging
import os
import stat
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jupyter_portproxy.errors import BadInput
from jupyter_portproxy.services.user_file import UserDataFile

from ..support.cpu_time import takes_less_than

LOG = logging.getLogger("test")


def make(path):
    def load(data):
        if not isinstance(data, dict) or not all(isinstance(value, int) for value in data.values()):
            raise ValueError("these are not numbers")
        return data

    return UserDataFile(path, "numbers", load, dict, LOG)


def put(file, name, number=1):
    with file.change() as entries:
        entries[name] = number


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "portproxy" / "numbers.json"


@pytest.fixture
def file(path):
    return make(path)


def test_entries_are_kept_in_the_file(file, path):
    assert (file.read(), path.exists()) == ({}, False)
    put(file, "one")
    put(file, "two", 2)
    assert file.read() == make(path).read() == {"one": 1, "two": 2}
    with file.change() as entries:
        del entries["one"]
    assert file.read() == make(path).read() == {"two": 2}


def test_the_version_changes_with_the_file_alone(file, path):
    seen = {file.version}
    for change in (lambda: put(file, "one"), lambda: put(make(path), "one", 2), lambda: put(file, "one", 2), path.unlink):
        change()
        entries = file.read()
        assert file.version not in seen and file.read() is entries
        assert file.version == (file.read(), file.version)[1]
        seen.add(file.version)
    file.read()
    assert file.version in seen


def test_an_exception_leaves_the_file_as_it_is(file):
    put(file, "one")
    with pytest.raises(KeyError), file.change() as entries:
        entries["two"] = 2
        raise KeyError
    assert file.read() == {"one": 1}


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_only_its_user_can_read_the_file(file, path):
    put(file, "one")
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path, path.with_suffix(".lock"), path.parent)] == [0o600, 0o600, 0o700]
    assert sorted(p.name for p in path.parent.iterdir()) == ["numbers.json", "numbers.lock"]


def test_another_server_sees_a_change_at_once(file, path):
    other = make(path)
    for number in range(50):
        put(file, "one", number)
        assert other.read() == {"one": number}


def test_no_change_of_several_servers_is_lost(path):
    with ThreadPoolExecutor(2) as threads:  # more would wait for the lock for too long on a busy machine
        list(threads.map(lambda number: put(make(path), str(number), number), range(100)))
    assert sorted(make(path).read().values()) == list(range(100))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no lock")
def test_a_program_that_keeps_the_lock_does_not_stop_the_server(file, path):
    import fcntl

    put(file, "one")
    with path.with_suffix(".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        begun = time.monotonic()
        with pytest.raises(BadInput, match="Another program changes the list of numbers"):
            put(file, "two")
        assert time.monotonic() - begun < 0.5 and file.read() == {"one": 1}
    put(file, "two")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b"null", b'{"one": "1"}', b"[" * 100_000, b'{"one": 1}' + b" " * (4 << 20)],
)
def test_a_damaged_file_is_not_written_over(file, path, content, caplog):
    put(file, "one")
    path.write_bytes(content)
    assert (file.read(), file.read()) == ({}, {})
    assert caplog.text.count("the numbers in") == caplog.text.count("cannot be read") == 1
    with pytest.raises(BadInput, match="The list of numbers is damaged") as error:
        put(file, "two")
    assert str(path.parent.parent) not in error.value.message + error.value.hint
    assert path.read_bytes() == content
    path.unlink()
    put(file, "two")
    assert file.read() == {"two": 1}


@pytest.mark.skipif(sys.platform != "linux", reason="the free descriptors of Linux")
def test_a_file_that_could_not_be_opened_for_a_moment_is_read_at_the_next_look(file, path):
    import resource

    put(make(path), "one")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)  # the lowest free one
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptor, limits[1]))
    try:
        entries = file.read()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (entries, file.read()) == ({}, {"one": 1})
    put(file, "two")


@pytest.mark.skipif(os.name != "posix", reason="named pipes of POSIX")
def test_what_is_no_file_is_not_read(file, path, caplog):
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    assert file.read() == {} and "it is not a file" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="runs as another user of Linux")
def test_a_folder_that_cannot_be_written_is_one_sentence(path):
    """As another user, for root may write everywhere."""
    path.parent.mkdir(parents=True)
    result, sent = os.pipe()
    if not (child := os.fork()):
        try:
            os.chdir(path.parent)
            os.setuid(65534)
            put(make(Path(path.name)), "one")
        except BadInput as error:
            os.write(sent, error.message.encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(result, 1000) == b"The list of numbers cannot be written: Permission denied."
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="users of POSIX")
def test_a_file_of_another_user_counts_for_nothing(file, path):
    put(file, "one")
    os.chown(path, 65534, -1)
    assert file.read() == {}


def test_a_look_is_cheap(file, path):
    path.parent.mkdir(parents=True)
    for _ in range(2):  # without and with a file
        assert takes_less_than(200 * 100e-6, lambda: [file.read() for _ in range(200)])
        path.write_text(json.dumps({str(number): number for number in range(1000)}))
