"""The list of logins: kept, replaced, removed, damaged, written by several processes; with real backends of keyring."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys

import keyring
import pytest
from keyring.backends import fail, null
from keyrings.alt.file import PlaintextKeyring

from jupyter_portproxy.cli.credentials import FILE, KEYRING, Login, LoginStore
from jupyter_portproxy.errors import CliError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes of files")
ADA, BOB = "https://hub.example.org/user/ada/", "https://hub.example.org/user/bob/"
KEEP = """
import sys
from jupyter_portproxy.cli.credentials import LoginStore
for number in range(int(sys.argv[2])):
    LoginStore().keep(f"https://{sys.argv[1]}{number}.example.org/", f"token-{sys.argv[1]}{number}", "")
"""


@pytest.fixture
def backend(monkeypatch):
    """Sets the backend of keyring for one test."""
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


@pytest.fixture
def store(tmp_path, backend):
    backend(fail.Keyring())
    return LoginStore(tmp_path / "folder" / "logins.json")


@pytest.fixture
def with_keyring(tmp_path, backend):
    """A keyring that works, in a file of its own."""
    chosen = PlaintextKeyring()
    chosen.file_path = str(tmp_path / "keyring.cfg")
    backend(chosen)
    return LoginStore(tmp_path / "folder" / "logins.json")


def test_without_a_keyring_the_file_has_the_token_and_only_the_user_can_read_it(store):
    assert store.keep(ADA, "s3cret", "/ca.pem") == (Login(ADA, "/ca.pem", FILE, "s3cret"), "there is no keyring on this machine")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (store.path, store.path.parent)]
    assert modes == [0o600, 0o700]
    (login,) = LoginStore(store.path).logins()
    assert (login.url, login.ca_file, store.token(login)) == (ADA, "/ca.pem", "s3cret")
    assert "s3cret" not in repr(login)


def test_with_a_keyring_the_file_has_no_token(with_keyring):
    login, problem = with_keyring.keep(ADA, "s3cret", "")
    assert (login.place, problem, with_keyring.token(login)) == (KEYRING, "", "s3cret")
    assert "s3cret" not in with_keyring.path.read_text()
    assert keyring.get_password("jupyter-portproxy", ADA) == "s3cret"


def test_another_login_at_a_server_replaces_the_first(store):
    store.keep(ADA, "one", "")
    store.keep(BOB, "two", "")
    store.keep(ADA.rstrip("/"), "three", "/ca.pem")
    assert [(login.url, login.token) for login in store.logins()] == [(ADA.rstrip("/"), "three"), (BOB, "two")]


def test_a_url_that_is_spelled_differently_leaves_no_old_token_in_the_keyring(with_keyring):
    with_keyring.keep(ADA, "one", "")
    with_keyring.keep(ADA.rstrip("/"), "two", "")
    assert [keyring.get_password("jupyter-portproxy", url) for url in (ADA, ADA.rstrip("/"))] == [None, "two"]


def test_a_keyring_that_fails_later_leaves_no_old_token_in_it(with_keyring, backend):
    with_keyring.keep(ADA, "one", "")
    works = keyring.get_keyring()
    backend(null.Keyring())
    login, problem = with_keyring.keep(ADA, "two", "")
    assert (login.place, problem) == (FILE, "it does not keep what it is given")
    backend(works)
    login, problem = with_keyring.keep(ADA, "three", "")
    assert (login.place, problem, with_keyring.path.read_text().count("two")) == (KEYRING, "", 0)
    with_keyring.remove(login)
    assert (keyring.get_password("jupyter-portproxy", ADA), with_keyring.logins()) == (None, [])


def test_a_token_that_the_keyring_does_not_give_is_an_error_and_not_forgotten(with_keyring, backend):
    login, _ = with_keyring.keep(ADA, "s3cret", "")
    for chosen, reason in ((fail.Keyring(), "there is no keyring on this machine"), (null.Keyring(), "it is not there any more")):
        backend(chosen)
        with pytest.raises(CliError) as caught:
            with_keyring.token(login)
        assert str(caught.value).splitlines() == [
            f"The keyring does not give the token for {ADA}: {reason}.",
            f"Unlock the keyring, or log in again: jupyter portproxy login {ADA}",
        ]
    assert with_keyring.logins() == [login]


def test_a_backend_that_raises_an_error_of_its_own(with_keyring):
    keyring.get_keyring().file_path = f"{with_keyring.path.parent}/none/none\0"
    login, problem = with_keyring.keep(ADA, "s3cret", "")
    assert (login.place, problem) == (FILE, "embedded null byte")


DAMAGED = [
    "", "[]", "{}", "null", '{"logins": 1}', '{"logins": [1]}', '{"logins": [{}]}', "\x00", "[" * 100_000, "\udcff",
    '{"logins": [{"url": 1}]}', '{"logins": [{"url": "x", "place": "y"}]}', '{"logins": [{"url": "x", "more": "y"}]}',
]  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_is_an_error_and_nothing_is_written_over_it(store, text):
    store.path.parent.mkdir()
    store.path.write_text(text, errors="surrogateescape")
    store.path.chmod(0o600)
    sentence = rf"^The file of logins {store.path} is damaged\.\nDelete it and log in again\.$"
    for attempt in (store.logins, lambda: store.keep(ADA, "s3cret", "")):
        with pytest.raises(CliError, match=sentence):
            attempt()
    assert store.path.read_text(errors="surrogateescape") == text


def test_a_file_that_others_may_read_is_not_used(store):
    store.keep(ADA, "s3cret", "")
    for mode in (0o640, 0o604, 0o602):
        store.path.chmod(mode)
        with pytest.raises(CliError, match=rf"other users may read or write the file\.\nRun: chmod 600 {store.path}$"):
            store.logins()


@pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_used(store):
    store.keep(ADA, "s3cret", "")
    os.chown(store.path, 65534, -1)
    with pytest.raises(CliError, match=r"the file belongs to another user\.$"):
        store.logins()


def test_a_folder_that_cannot_be_written(tmp_path, backend):
    backend(fail.Keyring())
    (tmp_path / "folder").write_text("a file")
    path = tmp_path / "folder" / "logins.json"
    with pytest.raises(CliError, match=rf"^The logins in {path} cannot be written: File exists\.$"):
        LoginStore(path).keep(ADA, "s3cret", "")
    with pytest.raises(CliError, match=rf"^The logins in {path} cannot be read: Not a directory\.$"):
        LoginStore(path).logins()


def variables(folder) -> dict[str, str]:
    return {**os.environ, "XDG_CONFIG_HOME": str(folder), "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}


def test_two_logins_at_once_are_both_kept(tmp_path):
    commands = [[sys.executable, "-c", KEEP, name, "20"] for name in ("a", "b")]
    both = [subprocess.Popen(command, env=variables(tmp_path)) for command in commands]
    assert [process.wait(50) for process in both] == [0, 0]
    kept = LoginStore(tmp_path / "jupyter-portproxy" / "logins.json").logins()
    assert {login.url.split("/")[2]: login.token for login in kept} == {
        f"{name}{number}.example.org": f"token-{name}{number}" for name in "ab" for number in range(20)
    }


def test_a_login_that_is_killed_while_it_writes_leaves_a_whole_file(tmp_path):
    path = tmp_path / "jupyter-portproxy" / "logins.json"
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", KEEP, "a", "100000"], env=variables(tmp_path)) as process:
            while not path.exists():
                assert process.poll() is None
            process.send_signal(signal.SIGKILL)
        assert LoginStore(path).logins()
        json.loads(path.read_text())
        path.unlink()
    (path.parent / ".logins.json-abandoned").write_text("s3cret")
    LoginStore(path).keep(ADA, "s3cret", "")
    assert {file.name for file in path.parent.iterdir()} == {"logins.json", "logins.lock"}
