"""A SQLite file may be locked, damaged, deleted or replaced at any time: that is a 503 for a while, never a crash."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import time

import pytest

from jupyter_portproxy.errors import RegistryAway
from jupyter_portproxy.projects.registry.database import registry_file
from jupyter_portproxy.projects.sqlite_file import split_statements

LOG = logging.getLogger("tests")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "registry.sqlite"


@pytest.fixture
def file(path):
    file = registry_file(path, LOG)
    yield file
    file.close()


def number(db) -> int:
    return db.execute("select generation from counter").fetchone()[0]


def count(db) -> None:
    db.execute("update counter set generation = generation + 1")


def read(file):
    """The counter, past the pause after a failure."""
    time.sleep(0.3)
    return file.run(number)


def test_other_users_cannot_read_it(file, path):
    file.write(count)
    for each in path.parent.iterdir():
        assert stat.S_IMODE(each.stat().st_mode) == 0o600, each
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_is_open_to_others_is_closed_to_them(file, path):
    file.write(count)
    file.close()
    os.chmod(path, 0o644)
    assert file.run(number) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_file_of_another_user_is_refused(file, path, monkeypatch):
    file.write(count)
    monkeypatch.setattr(os, "getuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(RegistryAway):
        file.run(number)


def test_what_fails_is_undone(file):
    def fails(db):
        count(db)
        raise KeyError

    file.write(count)
    with pytest.raises(KeyError):
        file.write(fails)
    assert file.run(number) == 1 and file.available


def test_its_version_changes_with_each_writer(file, path):
    file.write(count)
    before = file.version()
    assert file.run(number) and file.version() == before
    file.write(count)
    own = file.version()
    other = registry_file(path, LOG)
    other.write(count)
    other.close()
    assert len({before, own, file.version()}) == 3 and file.version() == file.version()


def test_reading_makes_no_file(file, path):
    with pytest.raises(RegistryAway) as caught:
        file.run(number)
    assert not path.exists() and caught.value.hop == "project host"


def test_deleted_while_it_is_open(file, path):
    file.write(count)
    path.unlink()
    with pytest.raises(RegistryAway):
        file.run(number)
    file.write(lambda db: None)
    assert read(file) == 0, "the leftovers of the old file's log must not be taken for the new one's"


def test_replaced_while_it_is_open(file, path):
    file.write(count)
    other = registry_file(path.with_name("other"), LOG)
    for _ in range(5):
        other.write(count)
    other.close()
    os.replace(path.with_name("other"), path)
    assert file.run(number) == 5
    file.write(count)
    assert file.run(number) == 6


def test_anothers_log_survives_the_closing_of_a_replaced_file(file, path):
    """SQLite deletes `-wal` by its name when the last connection closes: it must not be the new file's."""
    file.write(count)
    path.unlink()
    other = registry_file(path, LOG)
    for _ in range(3):
        other.write(count)
    assert file.run(number) == 3
    other.write(count)
    other.close()
    assert read(file) == 4


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 8000])
def test_damaged_and_mended(file, path, content, caplog):
    file.write(count)
    file.close()
    good = path.read_bytes()
    path.write_bytes(content)
    for _ in range(3):
        with pytest.raises(RegistryAway):
            read(file)
    assert len(caplog.messages) == 1 and "cannot be used" in caplog.text, "one line, however often it is asked"
    path.write_bytes(good)
    assert read(file) == 1


def test_damaged_while_it_is_open(file, path):
    file.write(count)
    other = sqlite3.connect(path)
    other.execute("pragma wal_checkpoint(truncate)")
    other.close()
    with path.open("r+b") as raw:
        raw.write(b"\xff" * path.stat().st_size)
    try:
        assert file.run(number) == 1, "what SQLite has in its memory is still good"
    except RegistryAway as error:
        assert error.status == 503
    file.close()
    for attempt in (file.run, file.write):
        with pytest.raises(RegistryAway):
            attempt(number)


def test_a_folder_in_its_place(file, path):
    path.mkdir(parents=True)
    with pytest.raises(RegistryAway):
        file.run(number)
    with pytest.raises(RegistryAway):
        file.write(count)


def test_locked_stops_the_loop_for_a_moment_only(file, path):
    file.write(count)
    file.close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("pragma locking_mode = exclusive")
    other.execute("begin exclusive")
    try:
        begun = time.monotonic()
        for _ in range(1000):
            with pytest.raises(RegistryAway) as caught:
                file.run(number)
        assert time.monotonic() - begun < 0.25
        assert caught.value.status == 503 and caught.value.retry_after
    finally:
        other.close()
    assert read(file) == 1


def test_a_writer_elsewhere_does_not_stop_readers(file, path):
    file.write(count)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    try:
        assert file.run(number) == 1
        with pytest.raises(RegistryAway):
            file.write(count)
    finally:
        other.close()
    assert read(file) == 1


def test_a_semicolon_within_a_trigger_ends_no_statement():
    trigger = "create trigger t after insert on a begin delete from b; delete from c; end;"
    text = "insert into a values ('x;y');"
    assert list(split_statements(f"create table a (b);{trigger}{text}")) == ["create table a (b);", trigger, text]
