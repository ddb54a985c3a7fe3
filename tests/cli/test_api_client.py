"""The choice of one of several running servers, and servers that do not answer as they should."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading

import pytest

from jupyter_portproxy.cli.api_client import ApiClient
from jupyter_portproxy.cli.server_address import ServerAddress
from jupyter_portproxy.errors import CliError, ServerUnavailable

from ..support.jupyter_processes import jupyter_server, portproxy

CLI = f"{sys.executable} -m jupyter_portproxy.cli.main"
SERVE = f"exec {sys.executable} -m http.server --bind 127.0.0.1 {{port}}"
NESTED = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ServerApp.base_url={prefix}/"]
TEMPLATES = {
    "asks": {"command": ["sh", "-c", f"{CLI} url 15000 > said; {SERVE}"], "stop_timeout": 1},
    "below": {"command": [*NESTED, "--port={port}"], "keep_prefix": True},
    "below-socket": {"command": [*NESTED, "--ServerApp.sock={unix_socket}"], "keep_prefix": True, "unix_socket": True},
}


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / ".jupyter" / "jupyter_portproxy.d"
    folder.mkdir(parents=True)
    (folder / "mine.json").write_text(json.dumps(TEMPLATES))
    with jupyter_server(tmp_path) as running:
        yield running


@pytest.mark.parametrize("template", ["below", "below-socket"])
def test_a_nested_server_is_not_taken_for_the_one_that_started_it(server, tmp_path, template):
    assert portproxy(tmp_path, "start", template)[0] == 0
    code, output, errors = portproxy(tmp_path, "list", "--json")
    assert (code, errors) == (0, "")
    assert [service["name"] for service in json.loads(output)["services"]] == [template]


def test_of_two_servers_one_must_be_named_or_run_the_command(server, tmp_path):
    (tmp_path / "second").mkdir()
    with jupyter_server(tmp_path / "second", more={"HOME": str(tmp_path)}) as second:
        code, _, errors = portproxy(tmp_path, "list")
        assert (code, errors.splitlines()[0]) == (1, "Several servers run; choose one with --server:")
        assert len(errors.splitlines()) == 3
        for running, folder in ((server, tmp_path), (second, tmp_path / "second")):
            url = running.url.replace("127.0.0.1", "localhost")
            assert portproxy(tmp_path, "--server", url, "start", "asks")[0] == 0
            assert (folder / "said").read_text().startswith(f"{url}proxy/enter/15000/")
        logs = tmp_path / ".local" / "share" / "jupyter" / "runtime" / "portproxy"
        written = {path.relative_to(logs).as_posix() for path in logs.glob("**/*.log")}
        assert written == {f"jpserver-{running.process.pid}/asks.log" for running in (server, second)}
    assert portproxy(tmp_path, "list")[0] == 0


# ---- answers of other programs ----

CUT = "{url} does not answer in HTTP, or its response was cut."
PAGE = "{url} answers with a web page instead of data."
LOGIN = "{url} leads to a login page ({url}login)."
JSON = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"


@contextlib.contextmanager
def answering(answer: bytes):
    """A server on loopback that answers each request with these bytes; yields its URL and what it has received."""
    received: list[bytes] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    received.append(connection.recv(65536))
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/", received
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()


def json_answer(status: int, body: object) -> bytes:
    content = json.dumps(body).encode()
    return JSON % (status, len(content), content)


@pytest.mark.parametrize(
    ("answer", "kind", "sentence"),
    [
        (b"", ServerUnavailable, "The connection to {url} was lost: Remote end closed connection without response."),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ServerUnavailable, CUT),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1", ServerUnavailable, CUT),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1", ServerUnavailable, CUT),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n", CliError, PAGE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", CliError, PAGE),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", ServerUnavailable, CUT),
        (b"HTTP/1.1 302 X\r\nLocation: /login?next=x\r\nContent-Length: 0\r\n\r\n", CliError, LOGIN),
    ],
)  # fmt: skip
def test_what_is_not_the_apis_answer_is_a_sentence(answer, kind, sentence):
    with answering(answer) as (url, received):
        with pytest.raises(CliError) as caught:
            ApiClient(ServerAddress(url, "s3cret")).call("GET", "services")
        assert str(caught.value).splitlines()[0] == sentence.format(url=url)
        assert isinstance(caught.value, ServerUnavailable) is (kind is ServerUnavailable)
        assert "s3cret" not in str(caught.value)
        assert len(received) == 1 and b"\r\nAuthorization: token s3cret\r\n" in received[0]  # a redirect is not followed


def test_a_server_that_says_nothing_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(ServerUnavailable, match=rf"^{url} does not answer in time\.$"):
            ApiClient(ServerAddress(url), timeout=0.2).call("GET", "services")


def test_control_characters_of_a_server_do_not_reach_the_terminal(tmp_path):
    body = {"code": "x", "message": "\x1b]0;title\x07No.", "hint": "second\nline"}
    with answering(json_answer(418, body)) as (url, _):
        code, _, errors = portproxy(tmp_path, "--server", url, "list")
    assert (code, errors) == (1, "\ufffd]0;title\ufffdNo.\nsecond\nline\n")


@pytest.mark.parametrize("body", [{}, {"services": []}, "x", 1])
def test_another_programs_json_is_no_login(tmp_path, body):
    with answering(json_answer(200, body)) as (url, _):
        code, _, errors = portproxy(tmp_path, "login", url, given="s3cret")
    assert (code, errors.splitlines()[0]) == (1, PAGE.format(url=url))


def test_a_log_that_is_cut_is_a_sentence(tmp_path):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    with answering(head + b"5\r\nhello\r\n5\r\nhe") as (url, _):
        code, output, errors = portproxy(tmp_path, "--server", url, "logs", "-f", "mine")
    assert (code, output[:5], errors) == (1, "hello", f"{CUT.format(url=url)}\n")


@pytest.mark.parametrize(
    "command", [["list"], ["templates"], ["url", "web"], ["check", "15000"], ["allow", "15000"], ["start", "web"]]
)
def test_answers_without_the_keys_of_the_api_are_one_sentence(tmp_path, command):
    with answering(json_answer(200, [{"name": "x"}])) as (url, _):
        code, output, errors = portproxy(tmp_path, "--server", url, *command, more={"JUPYTER_TOKEN": "t"})
    reason = "in a form that this program does not know.\nIs its jupyter_portproxy of another version?"
    assert (code, output, errors) == (1, "", f"{url} answers {reason}\n")
