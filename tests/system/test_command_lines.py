"""Command lines as the API tells them: without secrets, printable, bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.system.command_lines import MASK, MAX_SIZE, mask_secrets, printable

from ..support.cpu_time import takes_at_most

SECRET = "x9-Hidden"


@pytest.mark.parametrize(
    "command",
    [
        ["a", f"--token={SECRET}"],
        ["a", "--token", SECRET],
        ["a", f"--password={SECRET} {SECRET}"],
        ["a", "-password", SECRET],
        ["a", f"--IdentityProvider.token={SECRET}", f"--ServerApp.password=argon2:{SECRET}"],
        ["a", f"--api-key={SECRET}", "--apiKey", SECRET, f"--api_key:{SECRET}"],
        ["a", f"--client-secret={SECRET}", "--auth", SECRET, f"-DdbPassword={SECRET}"],
        ["env", f"TOKEN={SECRET}", f"AWS_SECRET_ACCESS_KEY={SECRET}", f"PGPASSWORD={SECRET}", f"MYSQL_PWD={SECRET}", "a"],
        ["docker", "run", "-e", f"DB_PASSWORD={SECRET}", f"--env=GITHUB_TOKEN={SECRET}"],
        ["sh", "-c", f"TOKEN={SECRET} a; b --password {SECRET} | c --secret='{SECRET} {SECRET}'"],
        ["bash", "-c", f"exec a --port 1 --token {SECRET}"],
        ["a", f"postgres://user:{SECRET}@db/x", f"--url=redis://:{SECRET}@db"],
        ["a", f"http://localhost:1/?a=b&token={SECRET}&c=d", f"https://h/#access_token={SECRET}"],
        ["curl", "-H", f"Authorization: Bearer {SECRET}", "-H", f"X-Api-Key: {SECRET}", "-H", f"Cookie: a=b; s={SECRET}"],
        ["curl", "-u", f"user:{SECRET}"],
        ["redis-server", "--requirepass", SECRET, f"--masterauth={SECRET}"],
        ["a", f'{{"token": "{SECRET}", "port": 1}}'],
        [f"a --port 1 --token {SECRET}"],
    ],
)
def test_secrets_are_masked(command):
    shown = mask_secrets(command)
    assert SECRET not in " ".join(shown) and MASK in " ".join(shown)
    assert shown[0].startswith(command[0][:1])


@pytest.mark.parametrize(
    "command",
    [
        ["python", "-m", "http.server", "15000"],
        ["streamlit", "run", "app.py", "--server.port", "8501"],
        ["a", "--no-token", "app.py", "--token-file", "/run/secrets/x", "--password-file=/x"],
        ["a", "--tokenizer=bert", "--keyboard=us", "--author", "ada", "--passthrough=1"],
        ["a", "http://localhost:1/?a=b", "C:\\x", "k: v", "--token", "--port", "1"],
    ],
)
def test_what_is_no_secret_is_shown(command):
    assert mask_secrets(command) == command


def test_what_cannot_be_printed_is_replaced():
    assert mask_secrets(["a\x1b[31m\udcff", "b\nc\td"]) == ["a\ufffd[31m\ufffd", "b\nc\td"]
    assert printable("\x07") == "\ufffd"


def test_a_long_command_is_cut():
    assert sum(map(len, mask_secrets(["a" * 3000, "b" * (2 << 20), *["c"] * 100_000]))) <= MAX_SIZE


@pytest.mark.parametrize("unit", ["a", "a-", "a ", "a.b", "token=", "--token ", 'token:"', "://", "://a:", 'a"', " ", "=", "-"])
def test_the_worst_costs_little(unit):
    with takes_at_most(0.05):
        mask_secrets([unit * (2 << 20)])


@given(st.lists(st.text()))
def test_any_command_line_becomes_printable(command):
    assert all(text.replace("\n", "").replace("\t", "").isprintable() for text in mask_secrets(command))
