"""Attach tokens in their file; the file itself is tested in services/test_user_file."""

from __future__ import annotations

import json
import logging
import stat
import time

import pytest

from jupyter_portproxy.attachment.tokens import MAX_TOKENS, AttachTokens
from jupyter_portproxy.errors import BadInput, NotFound
from jupyter_portproxy.services.user_file import MAX_SECONDS

LOG = logging.getLogger("test")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "attach-tokens.json"


@pytest.fixture
def tokens(path):
    return AttachTokens(path, LOG)


def test_a_token_is_found_by_its_text_until_it_is_revoked(tokens, path):
    token, text = tokens.create(3600, "trainer")
    assert tokens.find(text) == token == tokens.get(token.id) == AttachTokens(path, LOG).find(text)
    assert tokens.list() == [token] and 3590 < token.until - time.time() <= 3600
    tokens.revoke(token.id)
    assert (tokens.find(text), tokens.get(token.id), tokens.list()) == (None, None, [])
    with pytest.raises(NotFound) as caught:
        tokens.revoke(token.id)
    assert caught.value.message == f"There is no attach token named '{token.id}'."


def test_the_file_has_the_hash_alone_and_is_private(tokens, path):
    token, text = tokens.create(60)
    content = path.read_text()
    secret = text.removeprefix("portproxy-attach-")
    assert secret not in content and token.digest in content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(secret) >= 43  # 256 bits in base64


def test_texts_that_are_not_a_token(tokens):
    token, text = tokens.create(60)
    for other in ["", text[:-1], text + "x", text.upper(), token.id, token.digest, f"portproxy-attach-{token.digest}", "\ud800"]:
        assert tokens.find(other) is None


def test_a_token_ends_by_itself(tokens, path):
    token, text = tokens.create(0.2)
    assert tokens.find(text) == token
    time.sleep(0.25)
    assert (tokens.find(text), tokens.get(token.id), tokens.list()) == (None, None, [])
    with pytest.raises(NotFound):
        tokens.revoke(token.id)
    other, _ = tokens.create(60)
    assert [entry["id"] for entry in json.loads(path.read_text())["tokens"]] == [other.id]


@pytest.mark.parametrize("seconds", [0, -1, MAX_SECONDS + 1, "8h", True, None, float("nan"), float("inf"), [], 10**400])
def test_an_invalid_time_is_refused(tokens, path, seconds):
    with pytest.raises(BadInput, match="Invalid time: "):
        tokens.create(seconds)
    assert not path.exists()


@pytest.mark.parametrize("name", ["a/b", " ", "<b>", "x" * 65, 5, None])
def test_an_invalid_name_is_refused(tokens, path, name):
    with pytest.raises(BadInput, match="Invalid token name: "):
        tokens.create(60, name)
    assert not path.exists()


def test_the_number_of_tokens_is_limited(tokens):
    for _ in range(MAX_TOKENS):
        tokens.create(60)
    with pytest.raises(BadInput, match="There are 100 attach tokens already"):
        tokens.create(60)
    assert len(tokens.list()) == MAX_TOKENS


def test_the_last_use_is_noted_once_a_minute(tokens, path):
    token, text = tokens.create(60)
    tokens.record_use(token.id)
    used = tokens.find(text).used
    assert used is not None and abs(used - time.time()) < 5
    written = path.read_bytes()
    tokens.record_use(token.id)
    tokens.record_use("unknown")
    assert path.read_bytes() == written


GOOD = {"id": "a", "name": "", "digest": "0", "created": 0, "until": 9e9, "used": None}


@pytest.mark.parametrize(
    "entry",
    [{}, [], None, *({**GOOD, **wrong} for wrong in ({"until": None}, {"until": "x"}, {"digest": 5}, {"used": True}, {"x": 1}))],
)
def test_a_damaged_file_has_no_tokens_and_is_not_written_over(tokens, path, entry, caplog):
    path.parent.mkdir(parents=True)
    path.write_text(content := json.dumps({"tokens": [entry]}))
    assert tokens.list() == [] and "attach tokens" in caplog.text
    with pytest.raises(BadInput, match="The list of attach tokens is damaged"):
        tokens.create(60)
    assert path.read_text() == content
