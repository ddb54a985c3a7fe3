"""The API of folders: who may call it, what it answers, its events, and bad input."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from jupyter_server.auth import Authorizer

from ..support.identity_providers import configured
from ..support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")
FILE = f"""
[services.web]
command = {json.dumps([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"])}
stop_timeout = 1
environment = {{ NODE_OPTIONS = "--require ./evil.js" }}
autostart = "ask"
activity = "people"
activity_exclude = ["/poll"]
running_is_activity = true

[services.wrong]
command = "not a list"

[[ports]]
port = 15000
label = "Shop"
"""
CALLS = [
    ("GET", "folders?path=shop", None),
    ("POST", "folders/open", {"path": "shop"}),
    ("PUT", "folders/consent", {"path": "shop", "digest": ""}),
    ("DELETE", "folders/consent?path=shop", None),
    ("POST", "folders/up", {"path": "shop", "digest": ""}),
    ("POST", "folders/down", {"path": "shop"}),
]


class ReadsOnly(Authorizer):
    """May read, and not start services."""

    def is_authorized(self, handler, user, action, resource):
        return action == "read"


@pytest.fixture
def api(call):
    async def send(method: str, path: str, body: object = None):
        content = None if body is None else json.dumps(body).encode()
        answer = await call(f"proxy/api/{path}", method, content=content)
        return answer.status, json.loads(answer.content) if answer.content else None

    return send


@pytest.fixture(autouse=True)
def shop(jp_root_dir) -> Path:
    path = Path(jp_root_dir, "shop")
    path.mkdir()
    (path / "portproxy.toml").write_text(FILE)
    return path


async def test_a_folder_is_looked_at_allowed_started_and_stopped(api, extension, shop):
    status, item = await api("GET", "folders?path=shop")
    assert status == 200 and item == {
        "path": "shop",
        "folder": str(shop),
        "name": "shop",
        "files": [{"path": "portproxy.toml", "kind": "portproxy.toml"}],
        "services": [
            {
                "name": "web",
                "service": None,
                "state": None,
                "command": [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"],
                "cwd": "",
                "environment": {"NODE_OPTIONS": "--require ./evil.js"},
                "environment_file": "",
                "kernel": "",
                "autostart": "ask",
                "restart": "never",
                "depends_on": [],
                "activity": "people",
                "activity_exclude": ["/poll"],
                "running_is_activity": True,
            }
        ],
        "ports": item["ports"],
        "problems": item["problems"],
        "notes": [],
        "digest": item["digest"],
        "consent": "none",
    }
    assert [rule["label"] for rule in item["ports"]] == ["Shop"]
    assert [(each["file"], each["line"]) for each in item["problems"]] == [("portproxy.toml", 12)]
    body = {"path": "shop", "digest": item["digest"]}
    status, error = await api("POST", "folders/up", body)
    assert (status, error["code"], error["message"]) == (
        409,
        "no_consent",
        "The project file of the folder 'shop' is not allowed, or has changed since it was.",
    )
    status, error = await api("PUT", "folders/consent", {**body, "digest": "0" * 64})
    assert (status, error["code"]) == (409, "folder_changed")
    assert (await api("PUT", "folders/consent", body))[1]["consent"] == "given"
    status, item = await api("POST", "folders/up", body)
    assert (status, item["services"][0]["service"]) == (202, "web")
    service = extension.services.get("web")
    await eventually(lambda: service.state == "up")
    assert service.started_by
    status, item = await api("POST", "folders/down", {"path": str(shop)})
    assert (status, item["services"][0]["state"]) == (200, "down")
    status, item = await api("DELETE", "folders/consent?path=shop")
    assert (status, item["consent"], (await api("GET", "services"))[1]) == (200, "none", [])


async def test_a_folder_without_a_project_file(api, shop):
    (shop / "portproxy.toml").unlink()
    for method, path, body in CALLS:
        status, error = await api(method, path, body)
        if path == "folders/open":
            assert (status, error) == (200, None)
        elif method != "DELETE":
            assert (status, error["code"], error["message"]) == (
                404,
                "not_found",
                "There is no project file in the folder 'shop'.",
            )


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"folders?path={'x' * 5000}", None),
        ("POST", "folders/open", {"path": 1}),
        ("POST", "folders/open", {"folder": "shop"}),
        ("PUT", "folders/consent", {"path": ["shop"], "digest": ""}),
        ("POST", "folders/up", {"path": "shop", "digest": "", "services": "web"}),
        ("POST", "folders/up", {"path": "shop", "digest": "", "services": [1]}),
        ("POST", "folders/down", {"path": "shop", "services": "web"}),
        ("POST", "folders/down", {"path": None}),
    ],
)
async def test_bad_input_is_one_sentence(api, method, path, body):
    status, error = await api(method, path, body)
    assert (status, error["code"]) == (400, "bad_input") and error["message"]


@pytest.mark.parametrize("digest", [None, 1, [], {}, "x", "0" * 64])
async def test_no_other_digest_allows_anything(api, extension, digest):
    for method, path in (("PUT", "folders/consent"), ("POST", "folders/up")):
        status, error = await api(method, path, {"path": "shop", "digest": digest})
        assert (status, error["code"]) == (409, "folder_changed")
    assert (await api("GET", "folders?path=shop"))[1]["consent"] == "none" and extension.services.list() == []


async def test_pages_of_other_sites_open_nothing(call, origin):
    answer = await call("proxy/api/folders/open", "POST", ["Cookie: a=b"], b'{"path": "shop"}', token=None)
    assert answer.status == 403


async def test_editors_get_the_schema(api):
    status, schema = await api("GET", "project-file-schema")
    assert (status, schema["type"], "services" in schema["properties"]) == (200, "object", True)


# ---- events ----


async def next_folder(watching) -> tuple[str, dict]:
    while True:
        event = await asyncio.wait_for(anext(watching), 10)
        if event and event[1].get("kind") == "folder":
            return event


async def test_events_have_the_folders_that_are_known_and_their_changes(extension, api, shop):
    watching = extension.events.watch(sees_folders=True)
    assert (await anext(watching))[1]["folders"] == []
    _, item = await api("POST", "folders/open", {"path": "shop"})
    assert await next_folder(watching) == ("changed", {"kind": "folder", **item})
    (shop / "portproxy.toml").write_text(FILE.replace("Shop", "Store"))
    event, changed = await next_folder(watching)
    assert (event, changed["ports"][0]["label"]) == ("changed", "Store") and changed["digest"] != item["digest"]
    body = {"path": "shop", "digest": changed["digest"]}
    await api("PUT", "folders/consent", body)
    await api("POST", "folders/up", body)
    seen = [(await next_folder(watching))[1] for _ in range(2)]
    assert [(each["consent"], each["services"][0]["state"]) for each in seen] == [("given", "starting"), ("given", "up")]
    await api("POST", "folders/down", {"path": "shop"})
    await api("DELETE", "services/web")
    (shop / "portproxy.toml").unlink()
    while (event := await next_folder(watching))[0] != "removed":
        pass
    assert event[1]["folder"] == str(shop)
    await watching.aclose()


async def test_a_new_project_file_of_the_root_is_shown(extension, api, shop):
    watching = extension.events.watch(sees_folders=True)
    assert (await anext(watching))[1]["folders"] == []
    (shop.parent / "Procfile").write_text("web: python3 app.py $PORT\n")
    event, item = await next_folder(watching)
    assert (event, item["path"], item["files"]) == ("changed", "", [{"path": "Procfile", "kind": "Procfile"}])
    await watching.aclose()


async def test_who_may_not_start_services_sees_no_folder(extension, api):
    watching = extension.events.watch()
    assert "folders" not in (await anext(watching))[1]
    other = extension.events.watch(sees_folders=True)
    await anext(other)
    await api("POST", "folders/open", {"path": "shop"})
    await next_folder(other)
    queue = next(queue for queue, watcher in extension.events._watchers.items() if not watcher.sees_folders)
    assert all(item.get("kind") != "folder" for _, item in list(queue._queue))
    for each in (watching, other):
        await each.aclose()


class TestWithoutPermission:
    @pytest.fixture
    def jp_server_config(self):
        return configured(authorizer_class=ReadsOnly)

    @pytest.mark.parametrize(("method", "path", "body"), CALLS)
    async def test_who_may_only_read_sees_no_folder(self, api, method, path, body):
        assert (await api(method, path, body))[0] == 403

    async def test_nor_in_events(self, call, wire, origin, jp_base_url):
        from ..conftest import TOKEN

        async with await wire() as connection:
            head = f"GET {jp_base_url}proxy/api/events HTTP/1.1\r\nHost: {origin}\r\nAuthorization: token {TOKEN}\r\n\r\n"
            await connection.send(head.encode())
            content = b""
            while b"event: snapshot" not in content or b"\n\n" not in content:
                content += await asyncio.wait_for(connection.reader.read(65536), 10)
        assert b'"services"' in content and b'"folders"' not in content


@pytest.mark.parametrize("setting", [{"project_files": False}, {"project_resolver": "local"}])
class TestWithoutProjectFiles:
    """They are turned off, or several people share the server."""

    @pytest.fixture
    def jp_server_config(self, jp_server_config, setting):
        return {**jp_server_config, "PortProxy": setting}

    async def test_no_folder_is_read(self, api, extension, setting):
        for method, path, body in CALLS:
            status, error = await api(method, path, body)
            assert (status, error["code"]) == (403, "no_project_files"), path
        watching = extension.events.watch(sees_folders=True)
        assert "folders" not in (await anext(watching))[1]
        await watching.aclose()
