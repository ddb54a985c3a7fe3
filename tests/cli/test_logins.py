"""`login`, `logout` and `logins`, against real servers; the token is never shown."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import stat
import subprocess
import sys

import pytest

from ..support.jupyter_processes import TOKEN, environment, jupyter_server, portproxy

NOT_A_TOKEN = "The token contains blanks, line ends or characters outside ASCII: is there more than the token?"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes of files, and a terminal")


@pytest.fixture
def elsewhere(tmp_path):
    """A server that is not found by its runtime file, as it has another home."""
    (tmp_path / "server").mkdir()
    with jupyter_server(tmp_path / "server", base="/user/ada/") as server:
        yield server


@pytest.fixture
def laptop(tmp_path):
    """Runs commands in a home without a server; returns (exit code, output, errors)."""
    (home := tmp_path / "laptop").mkdir()
    backend = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring", "JUPYTER_TOKEN": "", "XDG_CONFIG_HOME": ""}

    def run(*arguments: str, given: str = "", **more: str) -> tuple[int, str, str]:
        return portproxy(home, *arguments, more={**backend, **more}, given=given)

    run.home = home
    return run


def test_the_token_is_asked_for_once(elsewhere, laptop):
    assert laptop("list")[2].splitlines()[0] == "No Jupyter server of yours runs here."
    file = laptop.home / ".config" / "jupyter-portproxy" / "logins.json"
    code, output, errors = laptop("login", f"{elsewhere.url}lab/tree", given=f"{TOKEN}\n")
    where = f"file {file}, which only you can read, because there is no keyring on this machine"
    assert (code, output, errors) == (0, f"You are logged in to {elsewhere.url}\nThe token is kept in the {where}.\n", "")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent)] == [0o600, 0o700]
    assert json.loads(laptop("list", "--json")[1])["services"] == []
    assert json.loads(laptop("--server", elsewhere.url, "list", "--json")[1])["services"] == []
    code, output, _ = laptop("logins")
    assert (code, output.splitlines()[0].split(), TOKEN in output) == (0, ["LOGIN", "TOKEN", "IN", "CA", "FILE"], False)
    assert output.splitlines()[1].split() == [elsewhere.url, "file", "-"]
    assert laptop("login") == laptop("logins")
    assert json.loads(laptop("logins", "--json")[1]) == [{"url": elsewhere.url, "token_in": "file", "ca_file": ""}]
    code, output, _ = laptop("logout")
    assert (code, output.split(" is forgotten")[0]) == (0, f"The token for {elsewhere.url}")
    assert TOKEN not in file.read_text()
    assert laptop("logout")[::2] == (1, "You are not logged in to any server.\n")
    assert laptop("logout", elsewhere.url)[::2] == (1, f"You are not logged in to {elsewhere.url}\n")
    assert laptop("list")[0] == 1


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("", "The token is empty."),
        ("\n", "The token is empty."),
        ("wrong", "The token for {url} is not accepted: it has ended, or does not permit that."),
        (
            f"{TOKEN}\n{TOKEN}\n",
            NOT_A_TOKEN,
        ),
        (f"token {TOKEN}", NOT_A_TOKEN),
        (f"ä{TOKEN}", NOT_A_TOKEN),
    ],
)
def test_a_token_that_is_not_accepted_is_not_kept(elsewhere, laptop, given, sentence):
    code, output, errors = laptop("login", elsewhere.url, given=given)
    assert (code, output, errors.splitlines()[0]) == (1, "", sentence.format(url=elsewhere.url))
    assert laptop("logins")[1] == "No logins.\n\n"


def test_the_token_is_read_from_a_file_or_the_url(elsewhere, laptop):
    (laptop.home / "token").write_text(f"{TOKEN}\n")
    assert laptop("login", elsewhere.url, "--token-file", "token")[0] == 0
    assert laptop("--server", elsewhere.url, "logout")[0] == 0
    assert laptop("login", f"{elsewhere.url}lab?token={TOKEN}")[0] == 0
    assert laptop("--server", elsewhere.url, "login", given="wrong")[0] == 1
    assert laptop("--server", elsewhere.url, "login", given=TOKEN)[0] == 0
    assert len(json.loads(laptop("logins", "--json")[1])) == 1
    assert laptop("login", elsewhere.url, "--token-file", "none")[::2] == (
        1,
        "The file none cannot be read: No such file or directory.\n",
    )


def test_with_a_keyring_the_file_has_no_token(elsewhere, laptop):
    keyring = {"PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring"}
    code, output, _ = laptop("login", elsewhere.url, given=TOKEN, **keyring)
    assert (code, output.splitlines()[1]) == (0, "The token is kept in the keyring.")
    assert TOKEN not in (laptop.home / ".config" / "jupyter-portproxy" / "logins.json").read_text()
    assert laptop("list", **keyring)[0] == 0
    code, _, errors = laptop("list")
    assert (code, errors.splitlines()[0]) == (
        1,
        f"The keyring does not give the token for {elsewhere.url}: there is no keyring on this machine.",
    )
    assert laptop("logout", **keyring)[0] == 0
    assert laptop("list", **keyring)[0] == 1


def test_a_token_that_is_typed_is_not_shown(elsewhere, laptop):
    """In a real terminal."""
    variables = environment(laptop.home, {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"})
    terminal, inner = pty.openpty()
    command = [sys.executable, "-m", "jupyter_portproxy.cli.main", "login", elsewhere.url]
    with subprocess.Popen(command, env=variables, stdin=inner, stdout=inner, stderr=inner, start_new_session=True) as process:
        os.close(inner)
        shown = ""
        while "Token for " not in shown:
            shown += _read(terminal)
        os.write(terminal, f"{TOKEN}\n".encode())
        while data := _read(terminal):
            shown += data
        assert process.wait(20) == 0, shown
    os.close(terminal)
    origin = elsewhere.url.removesuffix("/user/ada/")
    assert f"Make a token at {origin}/hub/token" in shown and f"You are logged in to {elsewhere.url}" in shown
    assert TOKEN not in shown


def _read(terminal: int) -> str:
    """What is shown next; empty when the program has ended."""
    assert select.select([terminal], [], [], 20)[0]
    with contextlib.suppress(OSError):
        return os.read(terminal, 4096).decode()
    return ""
