"""The section of projects at `proxy/`: what it lists for whom, what its forms do, and what stays typed when one is refused."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from html import unescape
from urllib.parse import urlencode

import pytest

from ..support.project_sites import NAMED_USERS, local_site, two_projects
from ..support.upstreams import answers, free_port, serve

PROJECTS_ONLY = "--ServerApp.authorizer_class=jupyter_portproxy.auth.ProjectsOnly"
FORM = ["Content-Type: application/x-www-form-urlencoded"]
MARKUP = '"><img src=x>'


@pytest.fixture(scope="module", params=[(PROJECTS_ONLY,), ()], ids=["projects only", "services too"])
def site(request, tmp_path_factory):
    with local_site(tmp_path_factory.mktemp("site"), NAMED_USERS, *request.param) as running:
        running.has_services = not request.param
        yield running


@pytest.fixture
def admin(site):
    """The site's placements: ann's project with a viewer eve, and bob's, which ann may not see."""
    with two_projects(site, "a demo", "15100-15199", {"eve": "viewer"}) as admin:
        yield admin


@pytest.fixture
def page(site, admin):
    """The page as a user sees it, with single blanks."""

    async def read(user: str = "ann") -> str:
        answer = await site.ask("/proxy/", user)
        assert answer.status == 200
        return " ".join(answer.text.split())

    return read


@pytest.fixture
def submit(site, admin):
    """Sends a form of a project."""

    async def send(user: str = "ann", **form: str):
        return await site.ask("/proxy/", user, "POST", FORM, urlencode({"project": "of-ann", **form}).encode())

    return send


async def test_an_owner_sees_ports_links_and_forms(site, page):
    port = free_port(range(15100, 15200))
    async with serve(answers(b"<title>Sold &lt;img&gt; out</title>", b"Content-Type: text/html"), port=port):
        await asyncio.sleep(1.1)
        text = await page()
    assert "<h3>ann/a demo</h3>" in text and ">ports 15100-15199 &middot; key of-ann<" in text
    assert f'href="/ann/a%20demo/?port={port}" aria-label="Open port {port} of ann/a demo"' in text
    assert f'href="/of-ann/server/{port}/"' in text and "Sold &lt;img&gt; out" in text
    assert 'aria-label="Remove eve from ann/a demo"' in text and "of-bob" not in text
    assert ("<h1>Services and ports</h1>" in text, "Other ports</h2>" in text) == (site.has_services,) * 2


@pytest.mark.parametrize(("user", "sentence"), [("eve", ">viewer</p>"), ("stranger", "You are in no project.")])
async def test_others_see_nothing_to_change(page, user, sentence):
    text = await page(user)
    assert sentence in text and 'name="project"' not in text


async def test_the_forms_change_the_project(page, submit, admin):
    done = await submit(action="set-member", name=MARKUP, role="member")
    assert (done.status, done.one("Location")) == (303, "/proxy/#project-of-ann")
    assert (await submit(action="set-member", name="eve", role="owner")).status == 303
    assert (await submit(action="set-ports", ports=" 15001, 15003-15004 ")).status == 303
    project = await admin.find("of-ann")
    assert (project.members, project.allowed_ports) == ({MARKUP: "member", "eve": "owner"}, ("15001", "15003-15004"))
    assert (await submit("eve", action="remove-member", name=MARKUP)).status == 303
    assert (await submit(action="set-ports", ports="")).status == 303
    project = await admin.find("of-ann")
    assert (project.members, project.allowed_ports) == ({"eve": "owner"}, None)


async def test_a_port_is_reserved_and_released(page, submit):
    assert (await submit(action="reserve", name="web")).status == 303
    assert re.search(r"reserved port 151\d\d &middot; waits for a program, (10|9) min left", await page())
    assert (await submit(action="release", name="web")).status == 303
    assert "reserved port" not in await page()


@pytest.mark.parametrize(
    ("form", "sentence", "typed"),
    [
        ({"action": "set-ports", "ports": "22"}, "Port 22 is outside allowed range (10000-20000)", 'name="ports" value="22"'),
        ({"action": "set-ports", "ports": "abc"}, "Invalid ports: 'abc'.", 'name="ports" value="abc"'),
        ({"action": "set-ports", "ports": "15200"}, "Another project claims the ports 15200.", 'name="ports" value="15200"'),
        ({"action": "set-ports", "ports": MARKUP}, f"Invalid ports: '{MARKUP}'.", 'name="ports" value="&quot;&gt;&lt;img'),
        (
            {"action": "set-member", "name": "x" * 300, "role": "owner"},
            f"Invalid username: '{'x' * 80}'.",
            f'name="name" value="{"x" * 300}"',
        ),
        ({"action": "set-member", "name": "bob", "role": "king"}, "Invalid role: 'king'.", 'name="name" value="bob"'),
        ({"action": "reserve", "name": "a/b"}, "Invalid reservation name: 'a/b'.", 'name="name" value="a/b"'),
        ({"action": "remove-member", "name": "nobody"}, "'nobody' is not a member of this project.", ""),
        ({"action": "release", "name": "none"}, "There is no reservation named 'none'.", ""),
        ({"action": "start"}, "This page has no such action.", ""),
    ],
)
async def test_a_refusal_is_beside_its_form_which_keeps_the_text(submit, form, sentence, typed):
    answer = await submit(**form)
    text = " ".join(answer.text.split())
    assert answer.status in (400, 404)
    (problem,) = re.findall(r'<p class="problem" role="alert">(.*?)</p>', text)
    assert unescape(problem).startswith(sentence) and 'class="alert"' not in text
    assert typed in text and "<img" not in text and text.count("<details open>") == 1


async def test_a_viewer_and_a_stranger_change_nothing(submit, admin):
    for user, status in (("eve", 403), ("stranger", 404), ("bob", 404)):
        answer = await submit(user, action="set-ports", ports="15001")
        assert (answer.status, 'class="alert"' in answer.text) == (status, user != "eve")
    assert (await admin.find("of-ann")).allowed_ports == ("15100-15199",)


async def test_a_foreign_or_large_form_changes_nothing(site, submit, admin):
    content = urlencode({"project": "of-ann", "action": "set-ports", "ports": ""}).encode()
    fields = [*FORM, "Authorization: Odd ann", "Origin: http://evil.example"]
    assert (await site.ask("/proxy/", None, "POST", fields, content)).status in (403, 404)
    answer = await submit(action="set-ports", ports="1" * 10_000_000)
    assert (answer.status, len(answer.content) < 100_000, "bytes." in answer.text) == (400, True, True)
    assert (await admin.find("of-ann")).allowed_ports == ("15100-15199",)


async def test_the_events_are_those_of_the_users_own_projects(site, admin):
    """Without the permission for services there is no stream."""
    if not site.has_services:
        assert (await site.ask("/proxy/api/events", "ann")).status == 403
        return
    ann, bob = await watch(site, "ann"), await watch(site, "bob")
    assert ([item["key"] for item in ann.projects], [item["key"] for item in bob.projects]) == (["of-ann"], ["of-bob"])
    await admin.add_member("of-ann", "bob", "viewer")
    event, item = await bob.next_project()
    assert (event, item["key"], item["role"], item["members"]) == ("changed", "of-ann", "viewer", None)
    event, item = await ann.next_project()
    assert (event, len(item["members"])) == ("changed", 2)
    port = free_port(range(15100, 15200))
    async with serve(answers(), port=port):
        for watching in (ann, bob):
            assert [live["port"] for live in (await watching.next_project())[1]["ports"]] == [port]
    for watching in (ann, bob):
        assert (await watching.next_project())[1]["ports"] == []
    await admin.remove_member("of-ann", "bob")
    event, item = await bob.next_project()
    assert (event, item["key"]) == ("removed", "of-ann")
    ann.close()
    bob.close()


class Watch:
    """An open stream of events; `projects` of its snapshot."""

    projects: list[dict]

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.close = reader, writer.close

    async def next(self, wanted: Callable[[str, dict], bool]) -> tuple[str, dict]:
        event = ""
        while True:
            line = (await asyncio.wait_for(self._reader.readline(), 20)).decode().rstrip()
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: ") and wanted(event, item := json.loads(line[6:])):
                return event, item

    async def next_project(self) -> tuple[str, dict]:
        return await self.next(lambda event, item: item.get("kind") == "project")


async def watch(site, user: str) -> Watch:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    head = ["GET /proxy/api/events HTTP/1.1", f"Host: 127.0.0.1:{site.port}", f"Authorization: token user-{user}"]
    writer.write("\r\n".join([*head, "", ""]).encode())
    watching = Watch(reader, writer)
    watching.projects = (await watching.next(lambda event, item: event == "snapshot"))[1]["projects"]
    return watching


async def test_while_the_database_is_away_the_page_says_so(site, page):
    """The last test: the file is gone after it."""
    site.file.unlink()
    text = await page()
    assert "cannot look up projects just now." in text and "ann/a demo" not in text
