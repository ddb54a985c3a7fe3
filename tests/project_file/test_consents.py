"""Consents; the file itself is tested in tests/services/test_user_file.py."""

from __future__ import annotations

import json
import logging
import os
import stat

import pytest

from jupyter_portproxy.errors import BadInput
from jupyter_portproxy.project_file import consents as module
from jupyter_portproxy.project_file.consents import Consents

LOG = logging.getLogger("test")
ONE, OTHER = "1" * 64, "2" * 64


@pytest.fixture
def path(tmp_path):
    return tmp_path / "portproxy" / "folders.json"


@pytest.fixture
def consents(path):
    return Consents(path, LOG)


def test_a_consent_is_for_one_folder_and_one_content(consents, path):
    assert (consents.get("/shop"), path.exists()) == (None, False)
    consents.give("/shop", ONE)
    assert [consents.get(folder) for folder in ("/shop", "/shop/", "/sho", "/")] == [ONE, None, None, None]
    consents.give("/shop", OTHER)
    assert consents.get("/shop") == OTHER == Consents(path, LOG).get("/shop")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_consent_is_withdrawn(consents, path):
    consents.withdraw("/shop")
    assert not path.exists()
    consents.give("/shop", ONE)
    consents.give("/blog", ONE)
    consents.withdraw("/shop")
    assert (consents.get("/shop"), consents.get("/blog")) == (None, ONE)


def test_of_too_many_the_oldest_asks_again(consents, monkeypatch):
    monkeypatch.setattr(module, "MAX_CONSENTS", 3)
    for folder in ("/a", "/b", "/c", "/a", "/d"):  # /a is given again
        consents.give(folder, ONE)
    assert [folder for folder in ("/a", "/b", "/c", "/d") if consents.get(folder)] == ["/a", "/c", "/d"]


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[]",
        '{"folders": []}',
        f'{{"folders": {{"shop": "{ONE}"}}}}',
        '{"folders": {"/shop": "1"}}',
        '{"folders": {"/s": null}}',
    ],
)
def test_a_damaged_file_allows_nothing_and_is_not_written_over(consents, path, content):
    path.parent.mkdir()
    path.write_text(content)
    assert consents.get("/shop") is None
    with pytest.raises(BadInput, match="The list of allowed folders is damaged"):
        consents.give("/shop", ONE)
    assert path.read_text() == content


def test_no_entry_is_an_object_of_another_kind(consents, path):
    consents.give("/shop", ONE)
    assert json.loads(path.read_text()) == {"folders": {"/shop": ONE}}
