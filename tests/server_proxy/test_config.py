"""What was written for jupyter-server-proxy works here: configuration, entry points, and the packages that people have."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from urllib.parse import urljoin, urlparse, urlunparse

import pytest
import websockets
from tornado.httputil import HTTPHeaders
from traitlets import HasTraits, Unicode

from jupyter_portproxy.server_proxy import config
from jupyter_portproxy.server_proxy.config import read_entry_points, read_server, read_servers, rewritten
from jupyter_portproxy.services.hooks import BufferedResponse, Endpoint
from jupyter_portproxy.services.templates import TemplateError

from ..support.jupyter_processes import TOKEN, jupyter_server
from ..support.upstreams import answers, free_port, mirror, serve

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")
VALUES = {"port": "8050", "unix_socket": "/run/x.sock", "base_url": "/b/", "prefix": "/b/app", "name": "app"}
# Tells what it was asked, on a port or on a Unix socket.
ECHO = """
import http.server, os, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = (self.requestline + "\\n" + str(self.headers) + os.environ.get("TOLD", "")).encode()
        self.send_response(200)
        self.send_header("Content-Length", len(text))
        self.end_headers()
        self.wfile.write(text if self.command == "GET" else b"")
    do_HEAD = do_GET
    def address_string(self):
        return "x"
where = sys.argv[1]
if where.isdigit():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(where)), Handler)
else:
    server = socketserver.ThreadingUnixStreamServer(where, Handler)
server.serve_forever()
"""
SWAP = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True:
        client, _ = server.accept()
        while data := client.recv(1024):
            client.sendall(data.swapcase())
        client.close()
"""
ECHOES = [sys.executable, "-c", ECHO, "{port}"]


def one(**keys: object):
    """The template of a server with these keys."""
    problems: list[str] = []
    template = read_server("app", {"command": ["x"], **keys}, "/b/", problems)
    assert problems == []
    return template


# ---- reading ----


@pytest.mark.parametrize(
    ("keys", "attribute", "value"),
    [
        ({}, "ready_timeout", 5.0),
        ({"timeout": 20}, "ready_timeout", 20.0),
        ({}, "keep_prefix", False),
        ({"absolute_url": True}, "keep_prefix", True),
        ({"port": 8050}, "endpoint", Endpoint(8050)),
        ({"unix_socket": True}, "unix_socket", True),
        ({"unix_socket": True, "port": 8050}, "endpoint", None),
        ({"unix_socket": "/run/x.sock"}, "endpoint", Endpoint(0, "/run/x.sock")),
        ({}, "open_in", "browser"),
        ({"new_browser_tab": False}, "open_in", "lab"),
        ({}, "title", "app"),
        ({}, "category", "Notebook"),
        ({}, "path_info", ""),
        ({"launcher_entry": {"title": "An app", "category": "Other"}}, "title", "An app"),
        ({"launcher_entry": {"category": "Other"}}, "category", "Other"),
        ({"launcher_entry": {"enabled": False}}, "launcher", ""),
        ({}, "launcher", "Notebook"),
        ({"launcher_entry": {"path_info": "app/lab?x"}}, "path_info", "lab?x"),
        ({"launcher_entry": {"path_info": "other/lab"}}, "path_info", "../other/lab"),
        ({"launcher_entry": {"icon_path": "/x/i.svg"}}, "icon", "/b/server-proxy/icon/app"),
        ({"launcher_entry": {"icon_path": Path("/x/i.svg")}}, "icon", "/b/server-proxy/icon/app"),
        ({}, "external", False),
        ({"command": [], "port": 8050}, "external", True),
        ({}, "start_on_open", True),
        ({}, "at_root", True),
    ],
)
def test_every_key_has_its_meaning(keys, attribute, value):
    assert getattr(one(**keys), attribute) == value


def test_command_and_environment_are_filled_in_as_str_format_does():
    hooks = one(command=["a", "{port:06d}", "{unix_socket}", "{{x}}"], environment={"U": "{base_url}app"}).hooks
    assert hooks.command(VALUES) == ["a", "008050", "/run/x.sock", "{x}"]
    assert hooks.environment(VALUES) == {"U": "/b/app"}


def test_functions_get_what_their_parameters_name():
    hooks = one(command=lambda port: ["a", str(port + 1), "{port}"], environment=lambda base_url, other=1: {"U": base_url}).hooks
    assert hooks.command(VALUES) == ["a", "8051", "8050"]
    assert hooks.environment(VALUES) == {"U": "/b/"}


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (lambda: [], "Its 'command' gave no list of texts."),
        (lambda: {"a": "b"}, "Its 'command' gave no list of texts."),
        (lambda: 1 / 0, "Its 'command' failed: ZeroDivisionError: division by zero"),
        (["{nothing}"], "Its 'command' failed: KeyError: 'nothing'"),
        (lambda unknown: [], "Its 'command' failed: TypeError:"),
    ],
)
def test_a_command_that_gives_none_says_why(command, sentence):
    with pytest.raises(TemplateError, match=re.escape(sentence)):
        one(command=command).hooks.command(VALUES)


def test_fields_are_overridden_but_not_those_that_frame_the_request():
    override = {"X-Port": "{port}", "Content-Length": "5", "connection": "close"}
    assert one(request_headers_override=override).hooks.request_fields(Endpoint(8050), "/b/") == [("X-Port", "8050")]
    override = lambda base_url: {"X-Base": base_url}  # noqa: E731
    assert one(request_headers_override=override).hooks.request_fields(Endpoint(8050), "/b/") == [("X-Base", "/b/")]


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
    assert one(mappath=mappath).hooks.path(path) == mapped


def test_a_key_that_is_unknown_is_told_and_the_server_works():
    unknown: list[str] = []
    data = {"command": ["x"], "comand": ["y"], "launcher_entry": {"title": "T", "timeout": 5}}
    assert read_server("app", data, "/b/", unknown).name == "app"
    assert unknown == ["app['comand']", "app['launcher_entry']['timeout']"]


class Process(HasTraits):
    """As an object of jupyter-server-proxy's own class would come: with its name in it."""

    name = Unicode("other")
    port = 8050
    command = Unicode()

    def trait_values(self, **metadata):
        return {"name": self.name, "port": self.port, "command": ["x"], "parent": None, "config": {}, "log": None}


def test_an_object_is_read_as_its_traits():
    template = read_server("app", Process(), "/b/", [])
    assert (template.name, template.endpoint) == ("other", Endpoint(8050))


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a", {}, "it has none of 'command', 'port' and 'unix_socket'; it needs one"),
        ("a", {"port": 70000}, "'port' is 70000; it must be from 1 to 65535"),
        ("a", {"command": "x"}, "The 'command' trait of a _ServerProcess instance expected"),
        ("a", ["x"], "it is no mapping of keys to values, but list"),
        ("a", {"command": ["x"], "launcher_entry": 5}, "it is no mapping of keys to values, but int"),
        ("a", {"command": ["x"], "exclude_last_activity_patterns": ["("]}, "missing )"),
        ("a/b", {"command": ["x"]}, "'a/b' is no name for a server"),
        ("..", {"command": ["x"]}, "'..' is no name for a server"),
        ("lab", {"command": ["x"]}, "'lab' is the name of a page of Jupyter's own: choose another"),
    ],
)
def test_what_cannot_work_is_left_out_with_one_sentence(name, data, sentence):
    found, problems = read_servers({name: data, "good": {"port": 8050}}, "/b/", [])
    assert list(found) == ["good"]
    assert len(problems) == 1
    assert problems[0].startswith(f"The server '{name}' of c.ServerProxy.servers is left out: ")
    assert sentence in problems[0]


def test_an_entry_point_that_raises_is_told_and_the_others_work(tmp_path, monkeypatch):
    info = tmp_path / "odd-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
    groups = "good = odd:good\nraises = odd:raises\ngone = odd:gone\nnone = odd:none\nclasses = odd.classes:setup\n"
    (info / "entry_points.txt").write_text(f"[{config.GROUP}]\n{groups}")
    good = "def good():\n    return {'port': 8050}\n"
    (tmp_path / "odd.py").write_text(f"{good}def raises():\n    raise OSError('no\\n  disk')\ndef none():\n    return None\n")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd.py").rename(tmp_path / "odd" / "__init__.py")
    (tmp_path / "odd" / "classes.py").write_text("from jupyter_server_proxy.handlers import ProxyHandler\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found, problems = read_entry_points("/b/", [])
    assert found["good"].endpoint == Endpoint(8050)
    assert {"raises", "gone", "none"} & found.keys() == set()
    assert "The entry point 'raises' (odd:raises) is left out: OSError: no disk. " in problems
    assert sum("(odd" in problem for problem in problems) == 4
    (classes,) = [problem for problem in problems if "odd.classes" in problem]
    assert "It imports jupyter_server_proxy, which is not installed. Its extension may stay disabled: pip install" in classes


# ---- rewriting ----


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
    answer = rewritten([to_cat, refuse], whole(fields=cookies), "the request", "localhost", 8050, "/p")
    assert (answer.status, answer.reason, answer.content) == (403, "Forbidden", b"a cat")
    assert answer.fields == [*cookies, ("I-Like", "tacos")]


def test_a_reason_of_the_services_own_stays_and_fields_may_be_a_dict():
    def change(response):
        response.code, response.headers = 418, {"A": "b"}

    answer = rewritten(change, whole(reason="Fine"), None, "h", 1, "/")
    assert (answer.status, answer.reason, answer.fields) == (418, "Fine", [("A", "b")])
    assert isinstance(config.RewritableResponse(whole()).headers, HTTPHeaders)


def test_a_field_may_be_a_number_or_bytes_and_one_that_cannot_be_sent_is_an_error():
    def change(response):
        response.headers["X-Count"], response.headers["X-Bytes"] = 5, b"\xe4"

    assert rewritten(change, whole(), None, "h", 1, "/").fields == [("X-Count", "5"), ("X-Bytes", "\xe4")]
    for name, value in (("A", "b\r\nSet-Cookie: c"), ("A", "\u20ac"), ("A b", "c"), ("A", "\0")):
        with pytest.raises(ValueError, match=f"cannot be sent: '{name}'"):
            rewritten(
                lambda response, field=(name, value): setattr(response, "headers", dict([field])), whole(), None, "h", 1, "/"
            )


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
    answer = rewritten(rewrite_netloc, whole(302, "Found", [("Location", sent)]), Asked(), "localhost", 8787, "/help/x")
    assert answer.fields == [("Location", sent)]


@pytest.mark.parametrize("location", ["//hub.example.org/hub/home", "https://other.example.org/auth-sign-in", "/elsewhere"])
def test_a_location_that_was_changed_in_another_way_is_the_functions(location):
    def change(response):
        response.headers["Location"] = location

    answer = rewritten(change, whole(302, "Found", [("Location", "/auth-sign-in")]), Asked(), "localhost", 8787, "/help/x")
    assert answer.fields == [("Location", location)]


# ---- a server with such a configuration ----


def shout(response):
    response.body = response.body.upper()
    response.headers["X-Shouted"] = "yes"


def fails(response):
    raise ValueError("a secret of the configuration")


def mapped(path):
    return path + "mapped"


@pytest.fixture
def unix_path(tmp_path_factory):
    return str(tmp_path_factory.mktemp("s") / "own.sock")


@pytest.fixture
def fixed_port():
    return free_port(range(30000, 40000))


@pytest.fixture
def jp_server_config(tmp_path, unix_path, fixed_port):
    icon = tmp_path / "icon.svg"
    icon.write_text("<svg/>")
    servers = {
        "plain": {"command": ECHOES, "launcher_entry": {"title": "Plain", "icon_path": str(icon)}},
        "absolute": {"command": ECHOES, "absolute_url": True, "environment": {"TOLD": "told {base_url}"}},
        "fixed": {"command": ECHOES, "port": fixed_port},
        "external": {"port": fixed_port},
        "second": {"command": ECHOES, "port": fixed_port, "mappath": mapped},
        "socket": {"command": [sys.executable, "-c", ECHO, "{unix_socket}"], "unix_socket": unix_path},
        "socket-external": {"unix_socket": unix_path},
        "mapped": {"command": ECHOES, "mappath": mapped, "request_headers_override": {"X-Own": "own {port}", "User-Agent": "me"}},
        "shouts": {"command": ECHOES, "rewrite_response": [shout]},
        "fails": {"command": ECHOES, "rewrite_response": fails},
        "raw": {"command": [sys.executable, "-c", SWAP, "{port}"], "raw_socket_proxy": True},
        "quiet": {"command": ECHOES, "update_last_activity": False},
        "asks": {"command": ECHOES, "update_last_activity": lambda handler: "loud" in handler.request.path},
        "excludes": {"command": ECHOES, "exclude_last_activity_patterns": [r".*/poll$"]},
        "broken": {"command": 5},
        "ends": {"command": [sys.executable, "-c", "print('this is why'); raise SystemExit(3)"]},
    }
    return {
        "ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True}},
        "IdentityProvider": {"token": TOKEN},
        "ServerProxy": {"servers": servers},
    }


async def test_opening_the_name_starts_it(call, jp_base_url):
    answer = await call("plain/a%2Fb?c=%20")
    assert answer.status == 200
    assert answer.text.startswith("GET /a%2Fb?c=%20 HTTP/1.1\n")
    assert f"X-Forwarded-Context: {jp_base_url}plain\n" in answer.text
    assert f"X-Proxycontextpath: {jp_base_url}plain\n" in answer.text
    assert TOKEN not in answer.text
    assert (await call("plain")).one("Location") == f"{jp_base_url}plain/"
    assert (await call("proxy/service/plain/x?y")).one("Location") == f"{jp_base_url}plain/x?y"


async def test_an_absolute_url_keeps_the_prefix(call, jp_base_url):
    answer = await call("absolute/x")
    assert answer.text.startswith(f"GET {jp_base_url}absolute/x HTTP/1.1\n")
    assert "X-Forwarded-Context" not in answer.text
    assert answer.text.endswith(f"told {jp_base_url}")


async def test_a_fixed_port_is_used_and_its_number_is_allowed_too(call, fixed_port):
    assert (await call("external/x")).status == 502
    assert (await call("fixed/x")).text.startswith("GET /x HTTP/1.1\n")
    assert (await call("external/y")).text.startswith("GET /y HTTP/1.1\n")
    assert (await call(f"proxy/{fixed_port}/z")).text.startswith("GET /z HTTP/1.1\n")


async def test_two_servers_with_one_fixed_port_are_one_service(call, fixed_port):
    assert (await call("second/x")).text.startswith("GET /xmapped HTTP/1.1\n")
    assert (await call("fixed/x")).text.startswith("GET /x HTTP/1.1\n")
    started = await call("proxy/api/services", "POST", content=json.dumps({"template": "fixed"}).encode())
    assert json.loads(started.text)["name"] == "second"
    assert [service["name"] for service in json.loads((await call("proxy/api/services")).text)] == ["second"]
    await call("proxy/api/services/second", "DELETE")
    assert (await call("fixed/x")).text.startswith("GET /x HTTP/1.1\n")
    assert (await call("second/x")).text.startswith("GET /xmapped HTTP/1.1\n")


async def test_a_fixed_port_that_is_taken_is_never_taken_for_the_service(call, fixed_port):
    async with serve(answers(b"a stranger"), port=fixed_port):
        answer = await call("fixed/x")
    assert (answer.status, answer.text.splitlines()[0]) == (502, f"Port {fixed_port} is in use by another program.")


async def test_a_fixed_socket_is_used(call, unix_path):
    assert (await call("socket/x")).text.startswith("GET /x HTTP/1.1\n")
    assert (await call("socket-external/y")).text.startswith("GET /y HTTP/1.1\n")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can give files away")
async def test_a_socket_of_another_user_is_not_entered(call, unix_path):
    server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), unix_path)
    os.chown(unix_path, 65534, 65534)
    async with server:
        answer = await call("socket-external/y")
    assert (answer.status, answer.text.splitlines()[0]) == (403, "The service's socket belongs to another user of this machine.")


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


async def test_a_function_that_fails_is_an_error_without_its_words(call):
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


async def test_the_launchers_of_jupyter_server_proxy_find_what_they_ask_for(call, jp_base_url):
    listed = {item["name"]: item for item in json.loads((await call("server-proxy/servers-info")).text)["server_processes"]}
    assert "broken" not in listed
    entry = {"enabled": True, "title": "Plain", "path_info": "plain/", "category": "Notebook"}
    entry["icon_url"] = f"{jp_base_url}server-proxy/icon/plain"
    assert listed["plain"] == {"name": "plain", "launcher_entry": entry, "new_browser_tab": True}
    icon = await call("server-proxy/icon/plain")
    assert (icon.status, icon.one("Content-Type"), icon.text) == (200, "image/svg+xml", "<svg/>")
    for name in ("mapped", "nothing", "..%2Fx"):
        assert (await call(f"server-proxy/icon/{name}")).status == 404
    assert (await call("server-proxy/servers-info", token=None)).status == 302  # to the login


def find_state(web_app, name):
    """The lines of marimo-jupyter-extension 0.5.0, with the name as an argument."""
    for host_rule in web_app.default_router.rules:
        target = getattr(host_rule, "target", None)
        if not hasattr(target, "rules"):
            continue
        for rule in target.rules:
            kwargs = getattr(rule, "target_kwargs", None) or {}
            if "state" not in kwargs:
                continue
            matcher = getattr(rule, "matcher", None)
            regex = getattr(matcher, "regex", None)
            if regex and name in regex.pattern:
                return kwargs["state"]
    return None


async def test_extensions_find_a_servers_process_watch_it_and_restart_it(call, jp_web_app):
    state = find_state(jp_web_app, "plain")
    assert state and state.get("proc") is None and len(state) == 1
    await call("plain/x")
    assert state["proc"].running and set(state) == {"proc_lock", "proc"}
    first = (await call("proxy/api/services/plain")).text
    async with state["proc_lock"]:
        await asyncio.wait_for(state["proc"].terminate(), 5)
        assert "proc" not in state
    assert (await call("plain/x")).status == 200  # no page: one that was stopped by hand would not start
    assert json.loads(first)["since"] < json.loads((await call("proxy/api/services/plain")).text)["since"]
    process = state["proc"]
    await process.kill()
    await process.kill()
    assert not process.running and (await call("plain(?!)")).status == 404


async def test_they_are_services_like_all_others(call):
    templates = {item["name"]: item for item in json.loads((await call("proxy/api/templates")).text)}
    plain = templates["plain"]
    assert (plain["title"], plain["category"], plain["external"]) == ("Plain", "Notebook", False)
    assert templates["external"]["external"]
    await call("plain/")
    (service,) = json.loads((await call("proxy/api/services")).text)
    assert (service["name"], service["state"]) == ("plain", "up")
    body = json.dumps({"template": "external"}).encode()
    refused = await call("proxy/api/services", "POST", content=body)
    assert (refused.status, json.loads(refused.text)["message"]) == (400, "'external' is not started by this server.")


async def test_one_that_was_stopped_is_started_by_a_page_and_by_nothing_else(call):
    await call("plain/")
    await call("proxy/api/services/plain/stop", "POST", content=b"{}")
    assert (await call("plain/poll")).status == 502
    page = ["Accept: text/html", "Sec-Fetch-Mode: navigate"]
    assert (await call("plain/", fields=page)).status == 503
    assert (await call("plain/poll")).status == 200


async def test_one_that_ends_at_once_says_why_and_is_not_started_for_ever(call):
    for _ in range(8):
        answer = await call("ends/x")
        assert answer.status == 502
    assert "this is why" in answer.text
    log = (await call("proxy/api/services/ends/logs")).text
    assert 1 <= log.count("this is why") <= 5


@pytest.mark.parametrize(
    "jp_server_config",
    [
        {
            "ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True}},
            "IdentityProvider": {"token": TOKEN},
            "ServerProxy": {"non_service_rewrite_response": shout, "host_allowlist": ["127.0.0.2", "no host!"]},
        }
    ],
)
async def test_plain_ports_are_rewritten_and_listed_hosts_allowed(call, jp_server_config):
    async with serve(answers(b"hello")) as upstream:
        assert (await call(f"proxy/port/{upstream.port}/")).text == "HELLO"
        assert (await call(f"proxy/127.0.0.3:{upstream.port}/")).status == 502  # loopback: allowed, and nobody there
        assert (await call(f"proxy/10.1.2.3:{upstream.port}/")).status == 403
    stream = answers(b"data: x\n\n", head=b"Content-Type: text/event-stream")
    async with serve(stream) as upstream:
        assert (await call(f"proxy/port/{upstream.port}/")).text == "data: x\n\n"


@pytest.mark.parametrize(
    "jp_server_config",
    [
        {
            "ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True}},
            "IdentityProvider": {"token": TOKEN},
            "ServerProxy": {"host_allowlist": lambda handler, host: host.startswith("192.0.2.") and bool(handler.request.method)},
            "PortProxy": {"connect_timeout": 0.2},
        }
    ],
)
async def test_a_function_may_allow_hosts(call, jp_server_config):
    assert (await call("proxy/192.0.3.1:15000/")).status == 403
    assert (await call("proxy/192.0.2.1:15000/")).status in (502, 504)  # allowed: it is dialled, and no such host exists


async def test_an_answer_too_large_to_be_rewritten_is_refused(call, gateway, monkeypatch):
    monkeypatch.setattr(gateway, "max_whole_body", 3)
    answer = await call("shouts/x")
    assert (answer.status, answer.text.splitlines()[0][:60]) == (
        502,
        "The service's answer could not be used: it is larger than 10",
    )


# ---- the packages that people have, unmodified ----

PACKAGES = Path(sys.prefix, "incumbent")


@pytest.fixture
def packages():
    """The variables of a process that sees jupyter-server-proxy and two packages made for it."""
    assert (PACKAGES / "jupyter_server_proxy").is_dir(), f"{PACKAGES} is missing: `make test` installs it"
    return {"PYTHONPATH": str(PACKAGES)}


def test_packages_made_for_it_work_unmodified(tmp_path, packages):
    with jupyter_server(tmp_path, more=packages) as server:
        status, page = server.get("hello/some/path")
        assert (status, "Hello Jupyter-server-proxy" in page, "<code>/some/path</code>" in page) == (200, True, True)
        assert "X-Forwarded-Context: /hello" in page and TOKEN not in page
        status, page = server.get("www/")
        assert (status, "Directory listing" in page) == (200, True)
        status, icon = server.get("server-proxy/icon/www")
        assert (status, "<svg" in icon) == (200, True)
        listed = {item["name"] for item in json.loads(server.get("server-proxy/servers-info")[1])["server_processes"]}
        assert listed == {"hello", "www"}


async def test_where_it_is_enabled_itself_it_keeps_its_names(tmp_path, packages):
    enabled = {"jupyter_portproxy": True, "jupyter_server_proxy": True}
    with jupyter_server(tmp_path, f"--ServerApp.jpserver_extensions={enabled}", more=packages) as server:
        status, page = server.get("hello/some/path")
        assert (status, "Hello Jupyter-server-proxy" in page) == (200, True)
        assert "Via:" not in page  # it did not come through this gateway
        async with serve(mirror) as upstream:
            _, told = await asyncio.to_thread(server.get, f"proxy/{upstream.port}/x")
        assert "via" in {name.lower() for name, _ in json.loads(told)["fields"]}  # ports stay ours
        assert not {"hello", "www"} & {item["name"] for item in json.loads(server.get("proxy/api/templates")[1])}
        assert server.log.count("jupyter server extension disable jupyter_server_proxy") == 1
        assert "keeps its names (hello, www)" in server.log
        assert "Traceback" not in server.log
