"""Attach tokens: good for attaching services to this user's servers, and for nothing else.

They are in a file of the user's data folder (services.user_file), which has only their hashes. A token has an end. It is random
text with a fixed beginning, by which `protocol.credentials` keeps it from every upstream.
"""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import dataclass, replace
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Any

from ..errors import BadInput, NotFound
from ..protocol.credentials import ATTACH_TOKEN_START
from ..services.template_keys import NAME, NAME_HINT
from ..services.user_file import UserDataFile, find_entries, is_time, parse_seconds

MAX_TOKENS = 100
UNREADABLE = ("The server cannot read its list of attach tokens now.", "See the server's log.")  # message and hint
_SECRET_SIZE = 32  # bytes of randomness
_ID_SIZE = 4  # bytes
_USE_PERIOD = 60.0  # s between two writes of the time of the last use


@dataclass(frozen=True, slots=True)
class AttachToken:
    """A token without its secret. Times are in seconds since 1970.

    Attributes:
        digest: SHA-256 of its text, in hexadecimal digits.
        used: the last time an agent attached with it; None before the first.
    """

    id: str
    name: str
    digest: str
    created: float
    until: float
    used: float | None = None

    @property
    def has_ended(self) -> bool:
        return self.until <= time.time()


class AttachTokens:
    """The tokens in one file. Methods that change it raise BadInput if it cannot be used.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path, log: logging.Logger) -> None:
        self._file = UserDataFile(path, "attach tokens", _load, _dump, log)

    def list(self) -> list[AttachToken]:
        """All tokens that have not ended, the oldest first."""
        return sorted((each for each in self._file.read().values() if not each.has_ended), key=lambda each: each.created)

    @property
    def is_readable(self) -> bool:
        """False while the file is damaged or cannot be read: no token is valid then, and none has ended for good."""
        return not self._file.damage

    def get(self, id_: str) -> AttachToken | None:
        """A token that has not ended; None if there is none, or not any more."""
        token = self._file.read().get(id_)
        return token if token is not None and not token.has_ended else None

    def find(self, text: str) -> AttachToken | None:
        """The token with this text, if it has not ended."""
        if not text.startswith(ATTACH_TOKEN_START):
            return None
        digest = _digest(text)
        return next((each for each in self.list() if compare_digest(each.digest, digest)), None)

    def create(self, seconds: object, name: object = "") -> tuple[AttachToken, str]:
        """Make a token.

        Args:
            seconds: from now on, at most 366 days.
            name: for people.

        Returns:
            the token, and its text, which is kept nowhere.

        Raises:
            BadInput: the time or name is invalid, or there are too many tokens.
        """
        valid_for = parse_seconds(seconds)
        if not isinstance(name, str) or (name and not NAME.match(name)):
            raise BadInput.name("token", name, NAME_HINT)
        text, now = ATTACH_TOKEN_START + secrets.token_urlsafe(_SECRET_SIZE), time.time()
        token = AttachToken(secrets.token_hex(_ID_SIZE), name, _digest(text), now, now + valid_for)
        with self._file.change() as tokens:
            for each in [each for each in tokens.values() if each.has_ended]:
                del tokens[each.id]
            tokens[token.id] = token
            if len(tokens) > MAX_TOKENS:
                raise BadInput(f"There are {MAX_TOKENS} attach tokens already.", "Revoke one that you do not need.")
        return token, text

    def record_use(self, id_: str) -> None:
        """Note the time of a use; more often than once a minute has no effect."""
        token = self.get(id_)
        if token is None or (token.used is not None and 0 <= time.time() - token.used < _USE_PERIOD):
            return
        with self._file.change() as tokens:
            if id_ in tokens:
                tokens[id_] = replace(tokens[id_], used=time.time())

    def revoke(self, id_: str) -> None:
        """Raises: NotFound: there is no such token, or it has ended."""
        with self._file.change() as tokens:
            removed = tokens.pop(id_, None)
            if removed is None or removed.has_ended:
                raise NotFound(id_, "attach token")


def _digest(text: str) -> str:
    """Fast is enough: the text is random, so guesses cannot be fewer than with a slow hash."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _load(data: Any) -> dict[str, AttachToken]:
    """Raises: ValueError, OverflowError"""
    return {token.id: token for token in map(_load_token, find_entries(data, "tokens", list, MAX_TOKENS))}


def _load_token(entry: Any) -> AttachToken:
    try:
        token = AttachToken(**entry)
    except TypeError:
        raise ValueError("an entry is not a token") from None
    texts, times = (token.id, token.name, token.digest), (token.created, token.until)
    is_used = token.used is None or is_time(token.used)
    if not all(isinstance(text, str) for text in texts) or not all(map(is_time, times)) or not is_used:
        raise ValueError("an entry is not a token")
    return token


def _dump(tokens: dict[str, AttachToken]) -> object:
    keys = AttachToken.__slots__
    return {"tokens": [{key: getattr(token, key) for key in keys} for token in tokens.values()]}
