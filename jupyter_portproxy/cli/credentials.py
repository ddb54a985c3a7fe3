"""The logins of `jupyter portproxy login`: which servers, and their tokens.

A token is kept by the library `keyring`, where that is installed and has a backend that works, else in the list of logins itself.
The list is a JSON file of mode 0600 in a folder of mode 0700, replaced as a whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CliError
from ..system.private_file import hold_lock, replace_file
from .output import PROGRAM
from .server_address import check_token, is_same_server

KEYRING, FILE = "keyring", "file"
_SERVICE = "jupyter-portproxy"  # the name of the tokens in the keyring
_LOCK_TIMEOUT = 5.0  # s
_MAX_SIZE = 1 << 20  # bytes


@dataclass(frozen=True)
class Login:
    """A server that was logged in to.

    Attributes:
        url: its base URL.
        ca_file: absolute path of the certificates that are trusted; empty: the system's.
        place: KEYRING or FILE, where the token is.
        token: empty if it is in the keyring.
    """

    url: str
    ca_file: str = ""
    place: str = FILE
    token: str = field(default="", repr=False)


class LoginStore:
    """The logins of this user.

    Args:
        path: of the list; default: `logins.json` in the user's configuration folder.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or _default_folder() / "logins.json"

    def logins(self) -> list[Login]:
        """All logins, sorted by URL. Raises a CliError if the list is damaged or cannot be read."""
        try:
            with open(self.path, encoding="utf-8") as file:
                _check_file(os.fstat(file.fileno()), self.path)
                return sorted((_load(entry) for entry in json.load(file)["logins"]), key=lambda login: login.url)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CliError(f"The logins in {self.path} cannot be read: {error.strerror}.") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise CliError(f"The file of logins {self.path} is damaged.\nDelete it and log in again.") from None

    def token(self, login: Login) -> str:
        """The token of a login. Raises a CliError if the keyring does not give it."""
        if login.place == FILE:
            return login.token
        token, problem = _keyring("get_password", _SERVICE, login.url)
        if problem or not token:
            reason = problem or "it is not there any more"
            again = f"Unlock the keyring, or log in again: {PROGRAM} login {login.url}"
            raise CliError(f"The keyring does not give the token for {login.url}: {reason}.\n{again}")
        return str(token)

    def keep(self, url: str, token: str, ca_file: str) -> tuple[Login, str]:
        """Keep a token for a server, in the place of one that is there for it.

        Returns:
            the login, and why the keyring does not have the token, or an empty string.
        """
        problem = _keep_in_keyring(url, check_token(token))
        login = Login(url, ca_file, FILE, token) if problem else Login(url, ca_file, KEYRING)
        with self._change() as logins:
            replaced = [each for each in logins if is_same_server(url, each.url)]
            logins[:] = [*(each for each in logins if each not in replaced), login]
        for each in replaced:
            if each.place == KEYRING and (login.place == FILE or each.url != url):
                _keyring("delete_password", _SERVICE, each.url)
        return login, problem

    def remove(self, login: Login) -> None:
        """Remove a login and its token. Raises a CliError if the keyring still has the token."""
        with self._change() as logins:
            logins[:] = [each for each in logins if each.url != login.url]
        if login.place == FILE:
            return
        found, problem = _keyring("get_password", _SERVICE, login.url)
        if found:
            problem = _keyring("delete_password", _SERVICE, login.url)[1]
        if problem:
            hint = f"Remove the entry {_SERVICE} there."
            raise CliError(f"The login is forgotten, but the keyring still has the token for {login.url}: {problem}.\n{hint}")

    @contextlib.contextmanager
    def _change(self) -> Iterator[list[Login]]:
        """The logins, to be changed in place and then written. Raises a CliError if they cannot be written."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with hold_lock(self.path, _LOCK_TIMEOUT):
                logins = self.logins()
                yield logins
                for abandoned in self.path.parent.glob(f".{self.path.name}-*"):  # by a program that was killed while it wrote
                    abandoned.unlink(missing_ok=True)
                replace_file(self.path, json.dumps({"logins": [_dump(login) for login in logins]}, indent=1))
        except TimeoutError:
            raise CliError(f"Another program changes the logins in {self.path}.\nTry again.") from None
        except OSError as error:
            raise CliError(f"The logins in {self.path} cannot be written: {error.strerror}.") from None


def _default_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming", "jupyter-portproxy")
    try:
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "jupyter-portproxy")
    except RuntimeError:
        raise CliError("Logins cannot be kept, as this user has no home folder.\nSet the environment variable HOME.") from None


def _check_file(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_SIZE:
        raise ValueError("it is not a small file")
    if not hasattr(os, "getuid"):
        return
    if status.st_uid != os.getuid():
        raise CliError(f"The logins in {path} are not used: the file belongs to another user.")
    if status.st_mode & 0o077:
        raise CliError(f"The logins in {path} are not used: other users may read or write the file.\nRun: chmod 600 {path}")


def _load(entry: dict[str, Any]) -> Login:
    login = Login(**entry)
    if login.place not in (KEYRING, FILE) or not all(isinstance(value, str) for value in vars(login).values()):
        raise ValueError("not a login")
    return login


def _dump(login: Login) -> dict[str, str]:
    return {name: value for name, value in vars(login).items() if value}


# ---- the keyring ----


def _keep_in_keyring(url: str, token: str) -> str:
    """Store a token and read it again, as some backends store nothing. Returns what prevents it, or an empty string."""
    problem = _keyring("set_password", _SERVICE, url, token)[1]
    if problem:
        return problem
    found, problem = _keyring("get_password", _SERVICE, url)
    return problem or ("" if found == token else "it does not keep what it is given")


def _keyring(function: str, *arguments: str) -> tuple[Any, str]:
    """The result of a function of `keyring`, and what prevented it, or an empty string.

    Backends raise errors of all kinds: of D-Bus, of the system's libraries, of files.
    """
    try:
        import keyring
        from keyring.errors import NoKeyringError
    except ImportError:
        return None, "the library keyring is not installed"
    try:
        return getattr(keyring, function)(*arguments), ""
    except NoKeyringError:
        return None, "there is no keyring on this machine"
    except Exception as error:
        return None, (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
