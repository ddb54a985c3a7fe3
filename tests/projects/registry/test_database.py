"""The registry's tables are made and migrated when its file is opened; `test_sqlite_file` has what may happen to the file."""

from __future__ import annotations

import logging
import sqlite3

import pytest

from jupyter_portproxy.errors import RegistryAway
from jupyter_portproxy.projects.registry.database import MIGRATIONS, registry_file

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


def test_it_knows_its_version_and_keeps_its_hands_off_a_newer_one(file, path, caplog):
    file.write(count)
    other = sqlite3.connect(path)
    assert other.execute("pragma user_version").fetchone() == (len(MIGRATIONS),)
    other.execute("pragma user_version = 99")
    other.close()
    file.close()
    with pytest.raises(RegistryAway):
        file.run(number)
    assert "a newer version of jupyter_portproxy made it (schema 99)" in caplog.text


def test_an_empty_file_is_filled(file, path):
    path.parent.mkdir()
    path.touch()
    assert file.run(number) == 0
