"""The command does what the client did, as far as it was recorded; a shell takes it as it stands."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest

from jupyter_portproxy.diagnose.curl_command import print_command


def exchange(url="http://127.0.0.1:8888/x", method="GET", fields=(), kind="http"):
    return {"kind": kind, "method": method, "url": url, "request_fields": [list(field) for field in fields]}


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
        (
            exchange("http://h/x?c[0][data]=***"),
            "# These values were not recorded: ***\ncurl --globoff 'http://h/x?c[0][data]=***'",
        ),
        (exchange("http://h/{a,b}"), "curl --globoff 'http://h/{a,b}'"),
        (exchange("http://h/a/../b"), "curl --path-as-is http://h/a/../b"),
        (exchange("http://h/.%2E"), "curl --path-as-is http://h/.%2E"),
        (exchange("http://h/..%2fb/.../.x"), "curl http://h/..%2fb/.../.x"),
        (exchange("http://h/caf\xc3\xa9"), "curl http://h/caf%C3%A9"),
        (exchange(fields=[("X-A", "\xc3\xbc")]), "curl http://127.0.0.1:8888/x -H 'X-A: ü'"),
        (exchange(fields=[("X-A", "'\xfc\\")]), r"curl http://127.0.0.1:8888/x -H $'X-A: \x27\xfc\x5c'"),
        (exchange(fields=[("X-A", "\xc2\x9b")]), r"curl http://127.0.0.1:8888/x -H $'X-A: \xc2\x9b'"),
        (
            exchange(
                "wss://h/x",
                fields=[("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "***")],
                kind="websocket",
            ),
            "curl --include --no-buffer --http1.1 https://h/x -H 'Connection: keep-alive, Upgrade' -H 'Upgrade: websocket' "
            "-H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='",
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
