"""The command does what the client did, as far as it was recorded; a shell takes it as it stands."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest

from jupyter_portproxy.diagnose.curl_command import print_command


def exchange(url="http://127.0.0.1:8888/x", method="GET", fields=()):
    return {"method": method, "url": url, "request_fields": [list(field) for field in fields]}


@pytest.mark.parametrize(
    ("item", "command"),
    [
        (exchange(), "curl http://127.0.0.1:8888/x"),
        (exchange(method="HEAD"), "curl --head http://127.0.0.1:8888/x"),
        (exchange(method="DELETE"), "curl -X DELETE http://127.0.0.1:8888/x"),
        (
            exchange(fields=[("Host", "h"), ("Accept", "a b"), ("Content-Length", "3"), ("X-Empty", ""), ("...", "")]),
            "curl http://127.0.0.1:8888/x -H 'Accept: a b' -H 'X-Empty;'",
        ),
        (
            exchange("http://h/x?a=***", fields=[("Cookie", "a=***")]),
            "# These values were not recorded: ***\ncurl 'http://h/x?a=***' -H 'Cookie: a=***'",
        ),
    ],
)
def test_commands(item, command):
    assert print_command(item) == command


@pytest.mark.parametrize("text", ["a'b", "$(id)", "`id`", "a\\'; id #", '"', "!x", "a\tb", "-o/tmp/x"])
def test_no_text_leaves_its_word(text):
    item = exchange(f"http://h/{text}", method=text, fields=[("X-A", text)])
    assert shlex.split(print_command(item)) == ["curl", "-X", text, f"http://h/{text}", "-H", f"X-A: {text}"]


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell")
def test_a_shell_runs_it_as_one_command():
    command = print_command(exchange("http://h/$(echo a)?a=***", fields=[("X-A", "it's; `b`")]))
    done = subprocess.run(["sh", "-c", command.replace("curl", "printf '%s\\n'")], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["http://h/$(echo a)?a=***", "-H", "X-A: it's; `b`"]
