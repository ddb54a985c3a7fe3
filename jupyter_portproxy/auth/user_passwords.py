"""A login with names and passwords: `c.ServerApp.identity_provider_class = "jupyter_portproxy.auth.UserPasswords"`.

Jupyter's own password login gives its users no names, which members of projects need. The users are in a file, one per line:
`NAME:HASH`. It is read again when it has changed. A login ends when its user is removed or gets another password.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir
from jupyter_server.auth import decorator
from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.auth.security import passwd, passwd_check
from jupyter_server.base.handlers import JupyterHandler
from tornado.web import RequestHandler
from traitlets import Type, Unicode

from ..errors import BadInput
from ..handlers.error_page import PAGES
from ..system.private_file import replace_file

_NAME_HINT = "Use 1 to 255 printable characters without ':', the first one not '@'."
_MAX_NAME, _MAX_PASSWORD = 255, 1024  # characters
_MAX_CHECKS = 2  # at once: each takes about 0.1 s of a CPU
_FAILURE_PAUSE = 1.0  # s before the response to a wrong password
_PATH = re.compile(r"/(?!/)[\x21-\x5b\x5d-\x7e]*")  # of this server: no host, no backslash
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'self'"
_allow_unauthenticated = getattr(decorator, "allow_unauthenticated", lambda method: method)  # jupyter_server 2.13 and newer


class UserFile:
    """The file of users. Programs that write it at once may lose one of the changes.

    Args:
        path: empty for `portproxy/users` in Jupyter's data folder.
    """

    def __init__(self, path: str = "") -> None:
        self.path = Path(path or Path(jupyter_data_dir(), "portproxy", "users"))
        self._users: dict[str, str] = {}
        self._state: tuple[int, ...] = ()

    def read(self) -> dict[str, str]:
        """Name -> hash of the password. Raises: OSError, UnicodeError"""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return {}
        state = (status.st_mtime_ns, status.st_size, status.st_ino)
        if state != self._state:
            pairs = (line.partition(":") for line in self.path.read_text("utf-8").splitlines())
            self._users, self._state = {name: password_hash for name, _, password_hash in pairs if name and password_hash}, state
        return self._users

    def set(self, name: str, password: str) -> None:
        """Add a user, or change the password. Raises: BadInput, OSError, UnicodeError"""
        if not 0 < len(name) <= _MAX_NAME or not name.isprintable() or ":" in name or name.startswith("@"):
            raise BadInput.name("user", name, _NAME_HINT)
        if not 0 < len(password) <= _MAX_PASSWORD:
            raise BadInput("Invalid password.", f"Use 1 to {_MAX_PASSWORD} characters.")
        self._write({**self.read(), name: _hash(password)})

    def remove(self, name: str) -> None:
        """Raises: BadInput, OSError, UnicodeError"""
        users = dict(self.read())
        if users.pop(name, None) is None:
            raise BadInput(f"There is no user '{name}'.", f"The names are in {self.path}.")
        self._write(users)

    def _write(self, users: dict[str, str]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, "".join(f"{name}:{password_hash}\n" for name, password_hash in users.items()))


class PasswordLoginHandler(JupyterHandler):
    """`GET login` shows the form; `POST` logs in and redirects to the page that was requested first."""

    @property
    def content_security_policy(self) -> str:
        return _POLICY

    @_allow_unauthenticated  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        if self.current_user:
            self.redirect(self._next())
        else:
            self._show()

    @_allow_unauthenticated  # type: ignore[untyped-decorator]
    async def post(self) -> None:
        provider = self.identity_provider
        assert isinstance(provider, UserPasswords)  # which sets this handler
        user = await provider.check(self.get_body_argument("username", ""), self.get_body_argument("password", "", strip=False))
        if user is None:
            self.set_status(401)
            return self._show("The name or the password is wrong.")
        self.log.info("User %r logged in.", user.username)
        provider.set_login_cookie(self, user)
        self.redirect(self._next())

    def _show(self, problem: str = "") -> None:
        self.set_header("Cache-Control", "no-store")
        name, path = self.get_body_argument("username", ""), self.request.uri or ""
        self.finish(PAGES.load("auth/login.html").generate(xsrf=self.xsrf_form_html(), problem=problem, name=name, action=path))

    def _next(self) -> str:
        wanted = self.get_query_argument("next", "")
        return wanted if wanted.startswith(self.base_url) and _PATH.fullmatch(wanted) else f"{self.base_url}proxy/"


class UserPasswords(IdentityProvider):
    """Authenticates users by the names and passwords of a file, which `jupyter portproxy user NAME` writes."""

    token = ""  # no login without a name

    users_file = Unicode(
        "",
        help="""The file of users. Empty: `portproxy/users` in Jupyter's data folder.
        Example: `c.UserPasswords.users_file = "/var/lib/portproxy/users"`.""",
    ).tag(config=True)

    login_handler_class = Type(default_value=PasswordLoginHandler, klass=RequestHandler, config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._file = UserFile(self.users_file)
        self._checks = asyncio.Semaphore(_MAX_CHECKS)
        self._random_hash = _hash(secrets.token_hex(16))  # compared for unknown names, which then take the same time
        if not self._users():
            self.log.warning("portproxy: %s has no users. Add one: jupyter portproxy user NAME", self._file.path)

    async def check(self, name: str, password: str) -> User | None:
        """The user of that name and password; None, after a pause, if there is none."""
        password_hash = self._users().get(name)
        async with self._checks:
            is_right = await asyncio.to_thread(passwd_check, password_hash or self._random_hash, password[:_MAX_PASSWORD])
        if password_hash is not None and is_right:
            return User(name)
        await asyncio.sleep(_FAILURE_PAUSE)
        return None

    def user_to_cookie(self, user: User) -> str:
        return json.dumps({"username": user.username, "login": _digest(self._users().get(user.username, ""))})

    def user_from_cookie(self, cookie_value: str) -> User | None:
        login = json.loads(cookie_value)
        password_hash = self._users().get(login["username"])
        is_valid = password_hash is not None and login["login"] == _digest(password_hash)
        return User(login["username"]) if is_valid else None

    def _users(self) -> dict[str, str]:
        try:
            return self._file.read()
        except (OSError, UnicodeError) as error:
            self.log.error("portproxy: the file of users %s cannot be read: %s", self._file.path, error)
            return {}


def _hash(password: str) -> str:
    return str(passwd(password))  # type: ignore[no-untyped-call]


def _digest(password_hash: str) -> str:
    """The part of a login's cookie that changes with the password."""
    return hashlib.sha256(password_hash.encode()).hexdigest()
