"""Functions of a configuration for jupyter-server-proxy see and change what they did there."""

from __future__ import annotations

import asyncio
import re
import sys
from urllib.parse import urljoin, urlparse, urlunparse

import pytest
import websockets
from tornado.httputil import HTTPHeaders

from jupyter_portproxy.server_proxy.config import read_server
from jupyter_portproxy.server_proxy.hooks import RewritableResponse
from jupyter_portproxy.services.hooks import BufferedResponse, Endpoint
from jupyter_portproxy.services.template_keys import TemplateError

from ..support.identity_providers import configured
from ..support.jupyter_processes import TOKEN
from ..support.upstreams import endless, serve

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")
VALUES = {"port": "8050", "unix_socket": "/run/x.sock", "base_url": "/b/", "prefix": "/b/app", "name": "app"}


def hooks(**keys: object):
    """The hooks of a server with these keys."""
    problems: list[str] = []
    template = read_server("app", {"command": ["x"], **keys}, "/b/", problems)
    assert problems == []
    return template.hooks


def rewrite(functions, response, request, host, port, path):
    return hooks(rewrite_response=functions).rewrite(response, request, host, port, path)


def test_command_and_environment_are_filled_in_as_str_format_does():
    server = hooks(command=["a", "{port:06d}", "{unix_socket}", "{{x}}"], environment={"U": "{base_url}app"})
    assert server.command(VALUES) == ["a", "008050", "/run/x.sock", "{x}"]
    assert server.environment(VALUES) == {"U": "/b/app"}


def test_functions_get_what_their_parameters_name():
    server = hooks(command=lambda port: ["a", str(port + 1), "{port}"], environment=lambda base_url, other=1: {"U": base_url})
    assert server.command(VALUES) == ["a", "8051", "8050"]
    assert server.environment(VALUES) == {"U": "/b/"}


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (lambda: [], "Its 'command' did not give a list of strings."),
        (lambda: {"a": "b"}, "Its 'command' did not give a list of strings."),
        (lambda: 1 / 0, "Its 'command' failed: ZeroDivisionError: division by zero"),
        (["{nothing}"], "Its 'command' failed: KeyError: 'nothing'"),
        (lambda unknown: [], "Its 'command' failed: TypeError:"),
    ],
)
def test_a_command_that_gives_none_says_why(command, sentence):
    with pytest.raises(TemplateError, match=re.escape(sentence)):
        hooks(command=command).command(VALUES)


def test_fields_are_overridden_but_not_those_that_frame_the_request():
    override = {"X-Port": "{port}", "Content-Length": "5", "connection": "close"}
    assert hooks(request_headers_override=override).request_fields(Endpoint(8050), "/b/") == [("X-Port", "8050")]
    override = lambda base_url: {"X-Base": base_url}  # noqa: E731
    assert hooks(request_headers_override=override).request_fields(Endpoint(8050), "/b/") == [("X-Base", "/b/")]


@pytest.mark.parametrize(
    ("mappath", "path", "mapped"),
    [
        ({}, "/a%2Fb", "/a%2Fb"),
        ({"/": "/index.html"}, "/", "/index.html"),
        ({"/": "/index.html"}, "/x%20", "/x%20"),
        (lambda path: path + "é x", "/a", "/a%C3%A9%20x"),
        (lambda path: "//evil/" + path, "/a", "/evil//a"),
    ],
)
def test_paths_are_mapped(mappath, path, mapped):
    assert hooks(mappath=mappath).path(path) == mapped


def whole(status=200, reason="OK", fields=(), content=b"a dog"):
    return BufferedResponse(status, reason, list(fields), content)


def test_functions_rewrite_one_after_the_other_each_on_a_copy():
    def to_cat(response, orig_response):
        response.body = response.body.replace(b"dog", b"cat")
        response.headers["I-Like"] = "tacos"
        assert orig_response.body == b"a dog"

    def refuse(response, path, host, port, request):
        assert (path, host, port, request) == ("/p", "localhost", 8050, "the request")
        assert response.body == b"a cat"
        response.code = 403

    cookies = [("Set-Cookie", "a"), ("Set-Cookie", "b")]
    answer = rewrite([to_cat, refuse], whole(fields=cookies), "the request", "localhost", 8050, "/p")
    assert (answer.status, answer.reason, answer.content) == (403, "Forbidden", b"a cat")
    assert answer.fields == [*cookies, ("I-Like", "tacos")]


def test_a_reason_of_the_services_own_stays_and_fields_may_be_a_dict():
    def change(response):
        response.code, response.headers = 418, {"A": "b"}

    answer = rewrite(change, whole(reason="Fine"), None, "h", 1, "/")
    assert (answer.status, answer.reason, answer.fields) == (418, "Fine", [("A", "b")])
    assert isinstance(RewritableResponse(whole()).headers, HTTPHeaders)


def test_a_field_may_be_a_number_or_bytes_and_one_that_cannot_be_sent_is_an_error():
    def change(response):
        response.headers["X-Count"], response.headers["X-Bytes"] = 5, b"\xe4"

    assert rewrite(change, whole(), None, "h", 1, "/").fields == [("X-Count", "5"), ("X-Bytes", "\xe4")]
    for name, value in (("A", "b\r\nSet-Cookie: c"), ("A", "\u20ac"), ("A b", "c"), ("A", "\0")):
        with pytest.raises(ValueError, match=f"cannot be sent: '{name}'"):
            rewrite(lambda response, field=(name, value): setattr(response, "headers", dict([field])), whole(), None, "h", 1, "/")


@pytest.mark.parametrize(
    ("body", "kind", "content"),
    [
        ("caf\xe9", "text/plain", b"caf\xc3\xa9"),
        ({"a": 1}, "application/json; charset=UTF-8", b'{"a": 1}'),
        (bytearray(b"a"), "text/plain", b"a"),
        ("", "text/plain", b""),
        (None, "text/plain", b""),
    ],
)
def test_a_body_may_be_what_tornado_writes(body, kind, content):
    def change(response):
        response.body = body

    answer = rewrite(change, whole(fields=[("Content-Type", "text/plain")]), None, "h", 1, "/")
    assert (answer.fields, answer.content) == ([("Content-Type", kind)], content)


class Asked:
    """Of a request what jupyter-rsession-proxy's function reads."""

    host, path, uri = "hub.example.org", "/b/rstudio/help/x", "/b/rstudio/help/x?q"


def rewrite_netloc(response, request):
    """The lines of jupyter-rsession-proxy 2.5.1."""
    for header, v in response.headers.get_all():
        if header == "Location":
            u = urlparse(v)
            redirect_path = u.path
            if u.path.startswith("../"):
                redirect_path = urljoin(request.path, u.path)
            if u.netloc != request.host:
                response.headers[header] = urlunparse(u._replace(netloc=request.host, path=redirect_path))


@pytest.mark.parametrize(
    "sent",
    ["/auth-sign-in?x=1#f", "http://localhost:8787/b/rstudio/", "./auth", "auth", "../library/html", "http://localhost:8787"],
)
def test_a_location_that_only_got_the_clients_host_stays_what_the_service_sent(sent):
    answer = rewrite(rewrite_netloc, whole(302, "Found", [("Location", sent)]), Asked(), "localhost", 8787, "/help/x")
    assert answer.fields == [("Location", sent)]


@pytest.mark.parametrize("location", ["//hub.example.org/hub/home", "https://other.example.org/auth-sign-in", "/elsewhere"])
def test_a_location_that_was_changed_in_another_way_is_the_functions(location):
    def change(response):
        response.headers["Location"] = location

    answer = rewrite(change, whole(302, "Found", [("Location", "/auth-sign-in")]), Asked(), "localhost", 8787, "/help/x")
    assert answer.fields == [("Location", location)]


async def test_paths_and_fields_are_changed_on_their_way(call):
    text = (await call("mapped/x?q", fields=["User-Agent: you"])).text
    assert text.startswith("GET /xmapped?q HTTP/1.1\n")
    assert re.search(r"^X-Own: own \d+$", text, re.MULTILINE)
    assert "User-Agent: me\n" in text and "you" not in text


async def test_answers_are_rewritten(call):
    answer = await call("shouts/x")
    assert (answer.status, answer.one("X-Shouted")) == (200, "yes")
    assert answer.text.startswith("GET /X HTTP/1.1\n")
    assert int(answer.one("Content-Length")) == len(answer.content)
    assert (await call("shouts/x", "HEAD")).content == b""


async def test_a_function_that_fails_is_an_error_without_its_text(call):
    answer = await call("fails/x")
    assert (answer.status, answer.text.splitlines()[0]) == (500, "Something went wrong inside the gateway.")
    assert "secret" not in answer.text


async def test_a_raw_socket_carries_messages_as_bytes(origin, call, jp_base_url):
    login = {"Authorization": f"token {TOKEN}"}
    async with websockets.connect(
        f"ws://{origin}{jp_base_url}raw/", additional_headers=login, subprotocols=["binary"]
    ) as connection:
        for message, back in ((b"Hello", b"hELLO"), ("World", b"wORLD")):
            await connection.send(message)
            assert await asyncio.wait_for(connection.recv(), 5) == back
        assert connection.subprotocol == "binary"
    answer = await call("raw/")
    assert (answer.status, answer.text.splitlines()[0]) == (405, "This service speaks over WebSockets only.")


@pytest.mark.parametrize(
    ("path", "counts"),
    [("quiet/x", False), ("asks/x", False), ("asks/loud", True), ("excludes/poll", False), ("excludes/x", True)],
)
async def test_activity_counts_as_the_configuration_says(call, jp_web_app, path, counts):
    assert (await call(path)).status == 200
    assert ("portproxy" in jp_web_app.settings["last_activity_times"]) == counts


@pytest.mark.parametrize("jp_server_config", [{**configured(), "ServerProxy": {"non_service_rewrite_response": lambda: None}}])
async def test_an_answer_too_large_to_be_rewritten_is_refused(call, jp_server_config):
    async with serve(endless) as up:
        answer = await call(f"proxy/port/{up.port}/")
    assert (answer.status, answer.text.splitlines()[0][:62]) == (
        502,
        "The service's response could not be used: it is larger than 10",
    )
