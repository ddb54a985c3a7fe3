"""`jupyter portproxy user`: adds a user, changes the password, removes the user."""

from __future__ import annotations

import json

import pytest

from jupyter_portproxy.auth.user_passwords import UserFile

from ..support.jupyter_processes import portproxy


@pytest.fixture
def file(tmp_path):
    return UserFile(str(tmp_path / ".local" / "share" / "jupyter" / "portproxy" / "users"))


def test_a_user_is_added_changed_and_removed(tmp_path, file):
    assert portproxy(tmp_path, "user", "ann", "--password-file", "-", given="secret\n") == (0, "ann can log in.\n", "")
    first = file.read()["ann"]
    code, printed, _ = portproxy(tmp_path, "user", "ann", "--password-file", "-", "--json", given="another")
    assert (code, json.loads(printed), file.read()["ann"] == first) == (0, {"name": "ann"}, False)
    assert portproxy(tmp_path, "user", "ann", "--remove")[:2] == (0, "ann is removed.\n")
    assert file.read() == {}


@pytest.mark.parametrize(
    ("arguments", "given", "sentence"),
    [
        (["a:b", "--password-file", "-"], "x", "Invalid user name: 'a:b'."),
        (["ann", "--password-file", "-"], "", "Invalid password."),
        (["ann"], "", "Standard input is not a terminal."),
        (["ann", "--remove"], "", "There is no user 'ann'."),
        (["ann", "--password-file", "none"], "", "The file none cannot be read: No such file or directory."),
        (["ann", "--password-file", "-", "--users-file", "/proc/users"], "x", "The file of users /proc/users cannot be used: "),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, file, arguments, given, sentence):
    code, printed, errors = portproxy(tmp_path, "user", *arguments, given=given)
    assert (code, printed, errors.startswith(sentence), "Traceback" in errors) == (1, "", True, False), errors
    assert file.read() == {}
