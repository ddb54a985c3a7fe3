"""Folders of a real server: what is read and when, consent, starts, and what attackers and accidents may do."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from jupyter_portproxy.errors import BadInput, ConsentMissing, FolderChanged, NotFound
from jupyter_portproxy.project_file import folders as module
from jupyter_portproxy.services.user_file import in_thread

from ..support.jupyter_processes import jupyter_server
from ..support.upstreams import free_port
from ..support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")
SERVE = """import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()
"""


def service(name: str, *lines: str) -> str:
    command = json.dumps([sys.executable, "-c", SERVE, "{port}"])
    return "\n".join([f"[services.{name}]", f"command = {command}", "stop_timeout = 1", *lines, ""])


@pytest.fixture
def folders(extension):
    return extension.folders


@pytest.fixture
def shop(jp_root_dir) -> Path:
    """A folder below the root, with one service."""
    path = Path(jp_root_dir, "shop")
    path.mkdir()
    write(path, service("web"))
    return path


def write(path: Path, text: str, *, age: float = 10) -> None:
    """Write the project file, as if it was some seconds ago."""
    file = path / "portproxy.toml"
    file.write_text(text)
    os.utime(file, (time.time() - age, time.time() - age))


def item_of(folders, path: Path) -> dict:
    return next(item for item in folders.items() if item["folder"] == str(path))


async def digest_of(folders, path: Path) -> str:
    return folders.describe(await folders.find(str(path)))["digest"]


def states(extension) -> dict[str, str]:
    return {each.name: each.state for each in extension.services.list()}


# ---- consent ----


async def test_nothing_of_a_folder_has_an_effect_before_it_is_allowed(folders, extension, shop):
    write(shop, service("web", 'autostart = "always"') + '[[ports]]\nport = 15000\nlabel = "Shop"\nscheme = "https"\n')
    item = await folders.open("shop")
    assert (item["path"], item["folder"], item["name"], item["consent"]) == ("shop", str(shop), "shop", "none")
    assert [(each["name"], each["service"], each["state"]) for each in item["services"]] == [("web", None, None)]
    assert item["ports"][0]["label"] == "Shop" and item["files"] == [{"path": "portproxy.toml", "kind": "portproxy.toml"}]
    with pytest.raises(ConsentMissing):
        await folders.up("shop", item["digest"], "ada")
    assert extension.services.list() == [] and extension.policy.attributes_of(15000).label == ""


@pytest.mark.parametrize("path", ["", ".hidden", "..name", "a/b"])
async def test_the_path_is_relative_to_the_root(folders, jp_root_dir, path):
    folder = Path(jp_root_dir, path)
    os.makedirs(folder, exist_ok=True)
    write(folder, service("web"))
    for asked in (path, str(folder)):
        assert folders.describe(await folders.find(asked))["path"] == path


async def test_the_path_of_a_folder_elsewhere_is_absolute(folders, tmp_path):
    write(tmp_path, service("web"))
    assert folders.describe(await folders.find(str(tmp_path)))["path"] == str(tmp_path)


async def test_what_is_allowed_is_started_and_its_rules_count(folders, extension, shop):
    write(shop, service("web") + '[[ports]]\nport = 15000\nlabel = "Shop"\n')
    digest = await digest_of(folders, shop)
    assert (await folders.allow("shop", digest))["consent"] == "given"
    assert extension.policy.attributes_of(15000).label == "Shop" and extension.services.list() == []
    item = await folders.up("shop", digest, "ada")
    assert item["services"][0]["service"] == "web"
    await eventually(lambda: states(extension) == {"web": "up"})
    assert item_of(folders, shop)["services"][0]["state"] == "up"
    await folders.down("shop")
    assert states(extension) == {"web": "down"}


async def test_a_withdrawn_consent_leaves_nothing_that_could_start_again(folders, extension, shop):
    write(shop, service("web", "start_on_open = true") + "[[ports]]\nport = 15000\nlabel = 'Shop'\n")
    digest = await digest_of(folders, shop)
    await folders.allow("shop", digest)
    await folders.up("shop", digest, "ada")
    assert (await folders.withdraw("shop"))["consent"] == "none"
    assert extension.services.list() == [] and extension.policy.attributes_of(15000).label == ""
    with pytest.raises(ConsentMissing):
        await folders.up("shop", digest, "ada")


async def test_a_file_that_changes_while_the_question_is_open_is_not_allowed(folders, extension, shop):
    digest = await digest_of(folders, shop)
    write(shop, service("web") + "# another one\n")
    with pytest.raises(FolderChanged, match="The project files of 'shop' have changed, so that nothing more is started"):
        await folders.allow("shop", digest)
    assert (await folders.find("shop")) and item_of(folders, shop)["consent"] == "none"


@pytest.mark.parametrize("changed", ["portproxy.toml", ".env"])
async def test_a_changed_file_asks_again(folders, extension, shop, changed):
    (shop / ".env").write_text("LEVEL=1\n")
    write(shop, service("web", 'environment_file = ".env"') + "[[ports]]\nport = 15000\nlabel = 'Shop'\n")
    before = await digest_of(folders, shop)
    await folders.allow("shop", before)
    (shop / changed).write_text((shop / changed).read_text() + "# another one\n")
    item = folders.describe(await folders.find("shop"))
    assert item["consent"] == "changed" and item["digest"] != before
    assert extension.policy.attributes_of(15000).label == ""
    with pytest.raises(FolderChanged):
        await folders.up("shop", before, "ada")
    with pytest.raises(ConsentMissing):
        await folders.up("shop", item["digest"], "ada")
    assert extension.services.list() == []


async def test_a_file_that_changes_between_two_starts_starts_nothing_more(folders, extension, shop):
    write(shop, service("one") + service("two"))
    digest = await digest_of(folders, shop)
    await folders.allow("shop", digest)
    end = extension.services.subscribe(lambda service: write(shop, service_of_an_attacker))
    service_of_an_attacker = service("two").replace("import sys", "import os, sys")
    with pytest.raises(FolderChanged):
        await folders.up("shop", digest, "ada")
    end()
    assert list(states(extension)) == ["one"]


async def test_a_service_is_started_from_the_reading_that_was_checked(folders, extension, shop, monkeypatch):
    """Not from an earlier one, and not from the file as it is a moment later."""
    monkeypatch.setattr(module.file_stamps, "RESOLUTION", 0.0)
    write(shop, service("web"))
    digest = await digest_of(folders, shop)
    await folders.allow("shop", digest)
    real = module.read.read_folder

    def read_and_be_overtaken(path, others):
        found = real(path, others)
        write(shop, service("web").replace("import sys", "import os, sys"))
        return found

    monkeypatch.setattr(module.read, "read_folder", read_and_be_overtaken)
    await folders.up("shop", digest, "ada")
    assert extension.services.get("web").template.command[2] == SERVE


async def test_another_server_of_the_user_may_withdraw_the_consent(folders, extension, shop):
    write(shop, "[[ports]]\nport = 15000\nlabel = 'Shop'\n")
    await folders.allow("shop", await digest_of(folders, shop))
    other = module.Consents(Path(os.environ["JUPYTER_DATA_DIR"], "portproxy", "folder-consents.json"), extension.log)
    await in_thread(other.withdraw, str(shop))
    assert extension.policy.attributes_of(15000).label == "Shop"
    await folders.refresh()
    assert extension.policy.attributes_of(15000).label == "" and item_of(folders, shop)["consent"] == "none"


# ---- starts ----


async def test_what_starts_by_itself_does_so_when_the_folder_is_first_opened(folders, extension, shop):
    write(shop, service("web", 'autostart = "always"') + service("asks", 'autostart = "ask"') + service("never"))
    await folders.allow("shop", await digest_of(folders, shop))
    await folders.find("shop")
    assert extension.services.list() == []
    await folders.open("shop")
    assert list(states(extension)) == ["web"]
    await folders.down("shop")
    await folders.open("shop")
    assert states(extension) == {"web": "down"}


def test_a_server_starts_again_what_is_allowed_and_starts_by_itself_or_ran_before(tmp_path):
    text = service("auto", 'autostart = "always"') + service("kept", 'restart = "always"') + service("plain")
    write(tmp_path, text)

    def call(server, method: str, path: str, body: object = None):
        status, content = server.call(method, f"proxy/api/{path}", body)
        assert status < 300, content
        return json.loads(content)

    def run_server(expected: list[str], change) -> None:
        with jupyter_server(tmp_path) as server:
            end, found = time.monotonic() + 15, None
            while found != expected or time.monotonic() < end - 13:  # two seconds more: nothing else is started
                found = [each["name"] for each in call(server, "GET", "services") if each["state"] == "up"]
                assert time.monotonic() < end, (found, expected, server.log)
                time.sleep(0.1)
            change(server, call(server, "GET", "folders?path="))
            server.process.kill()
            server.process.wait()

    def allow_and_start(server, item):
        body = {"path": "", "digest": item["digest"]}
        assert call(server, "PUT", "folders/consent", body)["consent"] == "given"
        call(server, "POST", "folders/up", body)
        while {each["state"] for each in call(server, "GET", "services")} != {"up"}:
            time.sleep(0.1)

    run_server([], allow_and_start)
    run_server(["auto", "kept"], lambda server, item: write(tmp_path, text + "# another one\n"))
    run_server([], lambda server, item: None)


async def test_only_named_services_are_started(folders, extension, shop):
    write(shop, service("one") + service("two"))
    digest = await digest_of(folders, shop)
    await folders.allow("shop", digest)
    with pytest.raises(NotFound, match="There is no service named 'three'"):
        await folders.up("shop", digest, "ada", ["two", "three"])
    assert extension.services.list() == []
    await folders.up("shop", digest, "ada", ["two"])
    assert list(states(extension)) == ["two"]


async def test_what_cannot_be_started_leaves_the_rest(folders, extension, shop):
    with socket.create_server(("127.0.0.1", port := free_port())):
        write(
            shop,
            service("db", f"port = {port}")
            + service("api", 'depends_on = ["db"]')
            + service("elsewhere", "port = 25000")
            + service("web"),
        )
        await folders.allow("shop", digest := await digest_of(folders, shop))
        item = await folders.up("shop", digest, "ada")
        assert item["failures"] == [
            {"name": "db", "message": f"Port {port} of the service 'db' is in use by another program."},
            {"name": "api", "message": "It needs 'db', which is not started."},
            {
                "name": "elsewhere",
                "message": "Port 25000 of the service 'elsewhere' is not allowed on this server (c.PortProxy.allowed_ports).",
            },
        ]
        assert list(states(extension)) == ["web"]


async def test_a_service_that_starts_by_itself_fails_alone(folders, extension, shop, caplog):
    with socket.create_server(("127.0.0.1", port := free_port())):
        write(shop, service("db", f"port = {port}", 'autostart = "always"') + service("web", 'autostart = "always"'))
        await folders.allow("shop", await digest_of(folders, shop))
        await folders.open("shop")
        assert list(states(extension)) == ["web"]
        assert f"'db' of {shop} is not started: Port {port} of the service 'db' is in use by another program." in caplog.text


async def test_named_services_stop_with_what_depends_on_them_and_what_only_they_need(folders, extension, shop):
    write(shop, service("db") + service("api", 'depends_on = ["db"]') + service("web", 'depends_on = ["api"]') + service("other"))
    await folders.allow("shop", digest := await digest_of(folders, shop))
    await folders.up("shop", digest, "ada", ["web", "other"])
    await eventually(lambda: set(states(extension).values()) == {"up"} and len(states(extension)) == 4)
    with pytest.raises(NotFound) as caught:
        await folders.down("shop", ["web", "x"])
    assert caught.value.message == "There is no service named 'x' in the folder 'shop', which has api, db, other, web."
    await folders.down("shop", ["api"])
    assert states(extension) == {"api": "down", "db": "down", "other": "up", "web": "down"}


async def test_what_the_file_no_longer_has_leaves_the_list_when_it_does_not_run(folders, extension, shop):
    text = service("one") + service("two") + service("three")
    write(shop, text)
    await folders.allow("shop", digest := await digest_of(folders, shop))
    await folders.up("shop", digest, "ada")
    await eventually(lambda: set(states(extension).values()) == {"up"})
    await folders.down("shop", ["one", "three"])
    write(shop, service("one", "port = 'x'") + "[[ports]]\nport = 0\n")
    await folders.find("shop")
    assert states(extension) == {"one": "down", "two": "up"}  # the first one is wrong, and not removed
    assert {each.name: each.is_removed for each in extension.services.list()} == {"one": False, "two": True}
    write(shop, text)
    await folders.find("shop")
    assert not extension.services.get("two").is_removed
    write(shop, "[[ports]]\nport = 15000\n")
    await folders.find("shop")
    assert extension.services.get("two").is_removed and list(states(extension)) == ["two"]
    await asyncio.gather(folders.down("shop", ["two"]), folders.down("shop"))
    assert states(extension) == {}  # also where no client follows the event stream


async def test_a_file_that_cannot_be_read_removes_nothing(folders, extension, shop):
    await folders.allow("shop", digest := await digest_of(folders, shop))
    await folders.up("shop", digest, "ada")
    await folders.down("shop")
    write(shop, "[services.web\n")
    await folders.find("shop")
    assert states(extension) == {"web": "down"} and not extension.services.get("web").is_removed


async def test_what_runs_is_left_alone_unless_its_template_has_changed(folders, extension, shop):
    write(shop, service("one") + service("two"))
    await folders.allow("shop", digest := await digest_of(folders, shop))
    await folders.up("shop", digest, "ada")
    await eventually(lambda: set(states(extension).values()) == {"up"})
    before = {each.name: each.process.pid for each in extension.services.list()}
    write(shop, service("one") + service("two", 'title = "Two"'))
    await folders.allow("shop", digest := await digest_of(folders, shop))
    await folders.up("shop", digest, "ada")
    await eventually(lambda: set(states(extension).values()) == {"up"})
    after = {each.name: each.process.pid for each in extension.services.list()}
    assert after["one"] == before["one"] and after["two"] != before["two"]
    assert extension.services.get("two").template.title == "Two"


async def test_a_deleted_folder_leaves_its_services_and_down_stops_them(folders, extension, shop):
    digest = await digest_of(folders, shop)
    await folders.allow("shop", digest)
    await folders.up("shop", digest, "ada")
    await eventually(lambda: states(extension) == {"web": "up"})
    shutil.rmtree(shop)
    with pytest.raises(FolderChanged):
        await folders.up("shop", digest, "ada")
    assert states(extension) == {"web": "up"}
    item = await folders.down("shop")
    assert (item["folder"], item["services"], item["digest"], states(extension)) == (str(shop), [], "", {})
    with pytest.raises(NotFound) as caught:
        await folders.down("shop")
    assert caught.value.message == f"There is no folder '{shop}'."
    assert await folders.open("shop") is None


# ---- reading ----


@pytest.fixture
def reads(monkeypatch, shop):
    """The names of the threads of all readings of the shop; the times of files are taken as exact."""
    names, real = [], module.read.read_folder

    def read_folder(path, others):
        if path == str(shop):
            names.append(threading.current_thread().name)
        return real(path, others)

    monkeypatch.setattr(module.file_stamps, "RESOLUTION", 0.0)
    monkeypatch.setattr(module.read, "read_folder", read_folder)
    return names


async def test_files_are_read_in_a_thread_and_only_after_a_change(folders, shop, reads):
    for _ in range(3):
        await folders.find("shop")
        await folders.refresh()
    assert len(reads) == 1 and "MainThread" not in reads
    await asyncio.sleep(module.READ_INTERVAL)
    write(shop, service("web") + "# longer\n")
    await folders.refresh()
    await folders.refresh()
    assert len(reads) == 2


async def test_a_folder_that_changes_all_the_time_is_read_once_a_second(folders, shop, reads):
    begin = time.monotonic()
    for number in range(30):
        write(shop, service("web") + "#" * number)
        await folders.refresh()
        await asyncio.sleep(0.02)
    found = [folders.describe(await folders.find("shop"))["digest"] for _ in range(2)]
    assert len(reads) <= 2 + (time.monotonic() - begin) / module.READ_INTERVAL
    assert found[0] == found[1]
    known = await folders.find("shop")
    assert known.file.digest == module.read.read_folder(str(shop), {}).digest


async def test_requests_for_a_folder_that_has_just_changed_share_one_reading(folders, shop):
    await folders.find("shop")
    begin = time.monotonic()
    await asyncio.gather(*(folders.find("shop") for _ in range(5)))
    assert time.monotonic() - begin < 2 * module.READ_INTERVAL


async def test_a_change_within_the_resolution_of_file_times_is_seen(folders, shop, monkeypatch):
    now = time.time_ns()
    monkeypatch.setattr(module, "READ_INTERVAL", 0.0)
    monkeypatch.setattr(
        module.file_stamps, "_look", lambda look, path: (0, 0, 0, 0, now)
    )  # as if no time and no size had changed
    before = await digest_of(folders, shop)
    write(shop, service("web", 'title = "b"'))
    assert await digest_of(folders, shop) != before


async def test_the_least_recently_used_folder_without_services_is_forgotten(folders, extension, jp_root_dir, monkeypatch):
    monkeypatch.setattr(module, "MAX_FOLDERS", 3)  # the root is one of them
    paths = [Path(jp_root_dir, name) for name in ("a", "b", "c", "d")]
    for number, path in enumerate(paths):
        path.mkdir()
        write(path, service(path.name) + f"[[ports]]\nport = {15000 + number}\nlabel = 'x'\n")
    await folders.start()
    for name in ("a", "b", "a"):
        await folders.allow(name, await digest_of(folders, Path(jp_root_dir, name)))
    await folders.find("c")
    assert [item["path"] for item in folders.items()] == ["a", "c"]
    assert [extension.policy.attributes_of(port).label for port in (15000, 15001)] == ["x", ""]
    for name in ("a", "c"):
        digest = await digest_of(folders, Path(jp_root_dir, name))
        await folders.allow(name, digest)
        await folders.up(name, digest, "ada")
    with pytest.raises(BadInput, match="3 folders have services already"):
        await folders.find("d")
    assert [item["path"] for item in folders.items()] == ["a", "c"]


# ---- paths ----


@pytest.fixture
def outside(shop, jp_root_dir) -> Path:
    """A folder outside of the root, and a link in the root that leads to the shop."""
    Path(jp_root_dir, "link").symlink_to(shop)
    path = Path(jp_root_dir).parent / "outside"
    path.mkdir()
    write(path, service("web"))
    return path


async def test_one_folder_has_one_consent_whatever_leads_to_it(folders, shop, outside):
    await folders.allow("link", await digest_of(folders, shop))
    for path in ("shop", "shop/", "./shop", "shop/../shop", "link", str(shop), "link/../shop"):
        item = folders.describe(await folders.find(path))
        assert (item["path"], item["folder"], item["consent"]) == ("shop", str(shop), "given"), path
    assert folders.describe(await folders.find("../outside"))["path"] == str(outside)


@pytest.mark.parametrize("path", [None, 1, [], "a\0b", "x" * 4097, "\ud800"])
async def test_a_path_that_is_none_is_one_sentence(folders, path):
    for method in (folders.find, folders.open, folders.down, folders.withdraw):
        with pytest.raises(BadInput, match="Invalid path"):
            await method(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "There is no project file in the folder '{name}'."),
        ("/proc/self/fd", "There is no project file in the folder 'fd'."),
        ("none", "There is no folder '{root}/none'."),
        ("none/ä <b>", "There is no folder '{root}/none/ä %3Cb%3E'."),
        ("shop/portproxy.toml", "There is no folder '{root}/shop/portproxy.toml'."),
        ("shop/portproxy.toml/x", "There is no folder '{root}/shop/portproxy.toml/x'."),
        ("/proc/self/environ", "There is no folder '/proc/{pid}/environ'."),
        ("/dev/null", "There is no folder '/dev/null'."),
        ("/proc/self/exe", f"There is no folder '{os.path.realpath('/proc/self/exe')}'."),
    ],
)
async def test_what_has_no_project_file_is_not_found(folders, shop, path, message):
    root = shop.parent
    with pytest.raises(NotFound) as caught:
        await folders.find(path)
    assert caught.value.message.startswith(message.format(root=root, name=root.name, pid=os.getpid()))


async def test_a_file_that_is_none_makes_nothing_wait(folders, extension, shop, jp_root_dir):
    for make in (
        os.mkfifo,
        os.mkdir,
        lambda path: os.symlink("/proc/self/environ", path),
        lambda path: os.symlink("/dev/zero", path),
    ):
        shutil.rmtree(shop)
        shop.mkdir()
        make(shop / "portproxy.toml")
        known = await asyncio.wait_for(folders.find("shop"), 5)
        item = folders.describe(known)
        assert item["services"] == item["ports"] == [] and item["problems"], item
        assert "JUPYTER" not in json.dumps(item["problems"])


async def test_a_service_gets_the_variables_that_were_allowed(folders, extension, shop):
    """Also at a restart after the file of variables has changed."""
    (shop / ".env").write_text("WORD=allowed\n")
    command = json.dumps([sys.executable, "-c", "import os, time; print(os.environ['WORD'], flush=True); time.sleep(60)"])
    write(shop, f"[services.web]\ncommand = {command}\nprotocol = 'none'\nenvironment_file = '.env'\nstop_timeout = 1\n")
    digest = await digest_of(folders, shop)
    await folders.allow("shop", digest)
    await folders.up("shop", digest, "ada")
    web = extension.services.get("web")
    await eventually(lambda: web.last_lines() == ["allowed"])
    (shop / ".env").write_text("WORD=evil\n")
    await extension.services.restart("web")
    await eventually(lambda: web.last_lines() == ["allowed"])
    await folders.find("shop")  # the change is seen
    with pytest.raises(ConsentMissing):
        await extension.services.restart("web")
