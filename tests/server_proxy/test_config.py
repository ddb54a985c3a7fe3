"""What was written for jupyter-server-proxy works here: configuration, entry points, and the packages that people have."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
from pathlib import Path

import pytest
from traitlets import HasTraits, Unicode

from jupyter_portproxy.server_proxy import config
from jupyter_portproxy.server_proxy.config import ServerProxy, adopt, read_entry_points, read_server, read_servers
from jupyter_portproxy.services.hooks import Endpoint

from ..support.jupyter_processes import TOKEN, jupyter_server
from ..support.upstreams import answers, mirror, serve
from .conftest import shout

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")


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


def test_an_unknown_key_is_logged_and_the_server_works():
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
        ("a", {"command": "x"}, "The 'command' trait of a ServerProcess instance expected"),
        ("a", ["x"], "it is not a mapping of keys to values, but list"),
        ("a", {"command": ["x"], "launcher_entry": 5}, "it is not a mapping of keys to values, but int"),
        ("a", {"command": ["x"], "exclude_last_activity_patterns": ["("]}, "missing )"),
        ("a/b", {"command": ["x"]}, "Invalid server name: 'a/b'"),
        ("..", {"command": ["x"]}, "Invalid server name: '..'"),
        ("lab", {"command": ["x"]}, "'lab' is the name of a page of Jupyter's own: choose another"),
    ],
)
def test_what_cannot_work_is_left_out_with_one_sentence(name, data, sentence):
    found, problems = read_servers({name: data, "good": {"port": 8050}}, "/b/", [])
    assert list(found) == ["good"]
    assert len(problems) == 1
    assert problems[0].startswith(f"The server '{name}' of c.ServerProxy.servers is left out: ")
    assert sentence in problems[0]


def test_a_pattern_that_may_stop_the_server_is_left_out_alone(caplog):
    patterns = ["(a+)+$", re.compile(".*a.*b.*c"), ".*/poll$"]
    settings = ServerProxy(servers={"app": {"command": ["x"], "exclude_last_activity_patterns": patterns}})
    hooks = adopt(settings, "/b/", logging.getLogger("test"), is_enabled=False).templates["app"].hooks
    assert [pattern.pattern for pattern in hooks.patterns] == [".*/poll$"]
    why = "write at most 2 of the characters * + ? {, and none of these after a group."
    assert [record.getMessage() for record in caplog.records] == [
        f"portproxy: app: the pattern '{pattern}' of exclude_last_activity_patterns is left out, as it may stop the server: {why}"
        for pattern in ("(a+)+$", ".*a.*b.*c")
    ]


def test_an_entry_point_that_raises_is_logged_and_the_others_work(tmp_path, monkeypatch):
    info = tmp_path / "odd-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
    groups = (
        "exits = odd:exits\ngood = odd:good\nraises = odd:raises\ngone = odd:gone\nnone = odd:none\nclasses = odd.classes:setup\n"
    )
    (info / "entry_points.txt").write_text(f"[{config.ENTRY_POINT_GROUP}]\n{groups}")
    good = "def good():\n    return {'port': 8050}\ndef exits():\n    raise SystemExit('no licence')\n"
    (tmp_path / "odd.py").write_text(f"{good}def raises():\n    raise OSError('no\\n  disk')\ndef none():\n    return None\n")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd.py").rename(tmp_path / "odd" / "__init__.py")
    (tmp_path / "odd" / "classes.py").write_text("from jupyter_server_proxy.handlers import ProxyHandler\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found, problems = read_entry_points("/b/", [])
    assert found["good"].endpoint == Endpoint(8050)
    assert {"raises", "gone", "none"} & found.keys() == set()
    assert "The entry point 'raises' (odd:raises) is left out: OSError: no disk. " in problems
    assert "The entry point 'exits' (odd:exits) is left out: SystemExit: no licence. " in problems
    assert sum("(odd" in problem for problem in problems) == 5
    (classes,) = [problem for problem in problems if "odd.classes" in problem]
    assert "It imports jupyter_server_proxy, which is not installed. Its extension may stay disabled: pip install" in classes


# ---- a server with such a configuration ----


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
        assert (await call(f"proxy/127.0.0.3:{upstream.port}/")).status == 502  # loopback: allowed, without a listener
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
            _, echoed = await asyncio.to_thread(server.get, f"proxy/{upstream.port}/x")
        assert "via" in {name.lower() for name, _ in json.loads(echoed)["fields"]}  # ports stay ours
        assert not {"hello", "www"} & {item["name"] for item in json.loads(server.get("proxy/api/templates")[1])}
        assert server.log.count("jupyter server extension disable jupyter_server_proxy") == 1
        assert "keeps its names (hello, www)" in server.log
        assert "Traceback" not in server.log
