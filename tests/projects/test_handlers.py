"""The REST API of projects: what each user sees, what owners change, and everything that is refused."""

from __future__ import annotations

import asyncio
import json
import time
from urllib.parse import quote

import pytest

from ..support.jupyter_processes import TOKEN
from ..support.project_sites import NAMED_USERS, local_site, two_projects
from ..support.upstreams import answers, free_port, serve

MARKUP = "<img src=x onerror=alert(1)>"
OWN, OTHER = range(15000, 15100), range(15200, 15300)
RANGE = "is outside allowed range (10000-20000)"
PROJECTS_ONLY = "--ServerApp.authorizer_class=jupyter_portproxy.auth.ProjectsOnly"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    arguments = (NAMED_USERS, PROJECTS_ONLY)
    with local_site(tmp_path_factory.mktemp("site"), *arguments, settings={"public_projects": True}) as running:
        yield running


@pytest.fixture
def admin(site):
    """The site's placements: ann's project with a member mem and a viewer eve, and bob's, which ann may not see."""
    with two_projects(site, "demo", "15000-15099", {"mem": "member", "eve": "viewer"}) as admin:
        yield admin


@pytest.fixture
def send(site, admin):
    """Sends JSON to the API as a user; status and answer."""

    async def call(method: str, path: str, body: object = None, user: str = "ann"):
        content = None if body is None else json.dumps(body).encode()
        answer = await site.ask(f"/proxy/api/{path}", user, method, content=content)
        return answer.status, json.loads(answer.text) if answer.content else None

    return call


@pytest.fixture
def listed(send):
    """The projects that a user sees, by key."""

    async def call(user: str = "ann"):
        status, items = await send("GET", "projects", user=user)
        assert status == 200
        return {item["key"]: item for item in items}

    return call


@pytest.fixture
def stored(listed):
    """The same without the live ports, which are those of other tests, too."""

    async def call():
        return {key: {**item, "ports": None} for key, item in (await listed()).items()}

    return call


# ---- what users see ----


async def test_an_owner_sees_the_project_with_its_members(listed):
    (project,) = (await listed()).values()
    assert project == {
        "key": "of-ann",
        "owner": "ann",
        "name": "demo",
        "role": "owner",
        "visibility": "private",
        "allowed_ports": ["15000-15099"],
        "ports": [],
        "members": [
            {"name": "eve", "role": "viewer", "allowed_ports": None},
            {"name": "mem", "role": "member", "allowed_ports": None},
        ],
        "reservations": [],
    }


@pytest.mark.parametrize(("user", "role"), [("mem", "member"), ("eve", "viewer")])
async def test_others_see_no_members(listed, user, role):
    (project,) = (await listed(user)).values()
    assert (project["key"], project["role"], project["members"], project["reservations"]) == ("of-ann", role, None, None)


async def test_a_stranger_sees_nothing_and_a_public_project_is_seen_by_all(listed, admin):
    assert await listed("stranger") == {}
    await admin.change("of-ann", visibility="public")
    assert (await listed("stranger"))["of-ann"]["role"] == "viewer"


async def test_live_ports_are_those_of_the_project_with_both_urls(site, listed):
    mine, theirs, nobodys = free_port(OWN), free_port(OTHER), free_port(range(16000, 17000))
    page = answers(b"<title>Sold &lt;img&gt; out</title>", b"Content-Type: text/html")
    async with serve(page, port=mine), serve(page, port=theirs), serve(page, port=nobodys):
        await asyncio.sleep(1.1)  # a scan is good for a second
        (port,) = (await listed("eve"))["of-ann"]["ports"]
        title = "Sold <img> out"
        urls = {"url": f"/ann/demo/?port={mine}", "key_url": f"/of-ann/server/{mine}/"}
        assert port == {"port": mine, "http": True, "title": title, **urls}
        for url in urls.values():
            assert (await site.ask(url, "eve")).status == 200
            assert (await site.ask(url, "bob")).status == 404


async def test_a_project_without_ports_of_its_own_has_the_unclaimed_ones(admin, listed):
    await admin.place("free", "local", owner="ann", name="free")
    mine, nobodys = free_port(OWN), free_port(range(16000, 17000))
    async with serve(answers(), port=mine), serve(answers(), port=nobodys):
        await asyncio.sleep(1.1)
        ports = {port["port"] for port in (await listed())["free"]["ports"]}
    assert nobodys in ports and mine not in ports


async def test_a_members_own_ports_and_the_system_user_restrict_the_live_ports(admin, listed):
    first, second = free_port(range(15000, 15050)), free_port(range(15050, 15100))
    await admin.add_member("of-ann", "mem", "member", [str(first)])
    async with serve(answers(), port=first), serve(answers(), port=second):
        await asyncio.sleep(1.1)
        assert [port["port"] for port in (await listed("mem"))["of-ann"]["ports"]] == [first]
        assert len((await listed())["of-ann"]["ports"]) == 2
        await admin.change("of-ann", system_user="nobody")
        await asyncio.sleep(1.1)
        assert (await listed())["of-ann"]["ports"] == []


async def test_a_project_without_a_host_or_a_name_is_listed(admin, listed):
    await admin.place("bare", None, owner="ann")
    project = (await listed())["bare"]
    assert (project["name"], project["ports"], project["allowed_ports"]) == ("", [], None)


# ---- what owners change ----


async def test_an_owner_adds_changes_and_removes_a_member(site, send, listed):
    status, project = await send("PUT", "projects/of-ann/members/bob", {"role": "viewer"})
    assert (status, {"name": "bob", "role": "viewer", "allowed_ports": None} in project["members"]) == (200, True)
    assert (await listed("bob")).keys() == {"of-ann", "of-bob"}
    status, project = await send("PUT", "projects/of-ann/members/bob", {"role": "member", "allowed_ports": ["15001"]})
    assert {"name": "bob", "role": "member", "allowed_ports": ["15001"]} in project["members"]
    assert await send("DELETE", "projects/of-ann/members/bob") == (204, None)
    assert (await listed("bob")).keys() == {"of-bob"}


@pytest.mark.parametrize("name", [MARKUP, "@team", "a/b", "ü", "two words", "%2e"])
async def test_a_members_name_is_any_text(send, listed, name):
    assert (await send("PUT", f"projects/of-ann/members/{quote(name, safe='')}", {"role": "viewer"}))[0] == 200
    assert name in [member["name"] for member in (await listed())["of-ann"]["members"]]


async def test_an_owner_changes_the_ports(site, send):
    status, project = await send("PATCH", "projects/of-ann", {"allowed_ports": [15000, "15400-15410"]})
    assert (status, project["allowed_ports"]) == (200, ["15000", "15400-15410"])
    status, project = await send("PATCH", "projects/of-ann", {"allowed_ports": None})
    assert (status, project["allowed_ports"]) == (200, None)


async def test_an_owner_reserves_a_port_of_the_project_and_releases_it(send, listed):
    status, reserved = await send("POST", "projects/of-ann/reservations", {"name": "web", "seconds": 60})
    assert (status, reserved["name"], reserved["port"] in OWN, reserved["used"]) == (201, "web", True, False)
    assert 50 < reserved["until"] - time.time() < 61
    assert reserved["url"] == f"/ann/demo/?port={reserved['port']}"
    assert [(item["name"], item["port"]) for item in (await listed())["of-ann"]["reservations"]] == [("web", reserved["port"])]
    assert (await send("POST", "projects/of-bob/reservations", {"name": "web"}, "bob"))[0] == 201  # names are of one project
    status, error = await send("POST", "projects/of-ann/reservations", {"name": "web"})
    assert (status, error["message"]) == (400, "The name 'web' is reserved already.")
    for user, key in (("ann", "of-ann"), ("bob", "of-bob")):
        assert await send("DELETE", f"projects/{key}/reservations/web", user=user) == (204, None)
    status, error = await send("DELETE", "projects/of-ann/reservations/web")
    assert (status, error["message"]) == (404, "There is no reservation named 'web'.")


async def test_reservations_use_up_the_ports_of_the_project(admin, send):
    await admin.change("of-ann", allowed_ports=[str(free_port(OWN))])
    assert (await send("POST", "projects/of-ann/reservations", {"name": "one"}))[0] == 201
    status, error = await send("POST", "projects/of-ann/reservations", {"name": "two"})
    assert (status, error["message"]) == (400, "No port of this project is free.")
    assert (await send("DELETE", "projects/of-ann/reservations/one"))[0] == 204


# ---- what is refused ----

BAD = [
    ("PUT", "projects/of-ann/members/bob", {"role": "king"}, "Invalid role: 'king'."),
    ("PUT", "projects/of-ann/members/bob", {}, "Invalid role: "),
    ("PUT", "projects/of-ann/members/bob", {"role": ["owner"]}, "Invalid role: "),
    ("PUT", "projects/of-ann/members/bob", {"role": "viewer", "x": 1}, "The request's content is not an object with keys among"),
    ("PUT", f"projects/of-ann/members/{'x' * 300}", {"role": "viewer"}, "Invalid username: "),
    ("PUT", "projects/of-ann/members/%00", {"role": "viewer"}, "Invalid username: "),
    ("PUT", "projects/of-ann/members/@", {"role": "viewer"}, "Invalid username: "),
    ("PUT", "projects/of-ann/members/bob", {"role": "viewer", "allowed_ports": ["22"]}, f"Port 22 {RANGE}"),
    ("DELETE", "projects/of-ann/members/nobody", None, "'nobody' is not a member of this project."),
    ("DELETE", "projects/of-ann/members/ann", None, "'ann' is not a member of this project."),
    ("PATCH", "projects/of-ann", {"allowed_ports": ["22"]}, f"Port 22 {RANGE}"),
    ("PATCH", "projects/of-ann", {"allowed_ports": ["15000-30000"]}, f"Port 20001 {RANGE}"),
    ("PATCH", "projects/of-ann", {"allowed_ports": ["70000"]}, "Invalid ports: '70000'."),
    ("PATCH", "projects/of-ann", {"allowed_ports": ["abc"]}, "Invalid ports: 'abc'."),
    ("PATCH", "projects/of-ann", {"allowed_ports": [MARKUP]}, "Invalid ports: "),
    ("PATCH", "projects/of-ann", {"allowed_ports": "15000"}, "'allowed_ports' is not a list."),
    ("PATCH", "projects/of-ann", {}, "'allowed_ports' is missing."),
    ("PATCH", "projects/of-ann", {"allowed_ports": ["15200"]}, "Another project claims the ports 15200."),
    ("POST", "projects/of-ann/reservations", {"name": "a/b"}, "Invalid reservation name: 'a/b'."),
    ("POST", "projects/of-ann/reservations", {}, "Invalid reservation name: 'None'."),
    ("POST", "projects/of-ann/reservations", {"name": "a", "seconds": -1}, "Invalid time: -1."),
]


@pytest.mark.parametrize(("method", "path", "body", "sentence"), BAD)
async def test_bad_input_is_one_sentence_and_changes_nothing(send, stored, method, path, body, sentence):
    before = await stored()
    status, error = await send(method, path, body)
    assert (status, error["message"].startswith(sentence), bool(error["hint"])) == (400, True, True), error
    assert await stored() == before


async def test_the_other_project_is_named_only_to_a_user_who_may_see_it(send, admin):
    await admin.add_member("of-bob", "ann", "viewer")
    status, error = await send("PATCH", "projects/of-ann", {"allowed_ports": ["15100-15200"]})
    assert (status, error["message"]) == (400, "The projects 'of-ann' and 'of-bob' claim the same ports: 15200.")


CHANGES = [
    ("PUT", "members/bob", {"role": "viewer"}),
    ("DELETE", "members/eve", None),
    ("PATCH", "", {"allowed_ports": None}),
    ("POST", "reservations", {"name": "web"}),
    ("DELETE", "reservations/web", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_only_owners_change_a_project(send, stored, method, path, body):
    before = await stored()
    for user, role in (("eve", "viewer"), ("mem", "member")):
        status, error = await send(method, f"projects/of-ann/{path}".rstrip("/"), body, user)
        assert (status, error["message"]) == (403, f"As a {role} of this project you may not change it.")
    assert await stored() == before


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_for_a_stranger_a_project_is_one_that_does_not_exist(send, method, path, body):
    answers_ = [await send(method, f"projects/{key}/{path}".rstrip("/"), body, "stranger") for key in ("of-ann", "no-such")]
    there, missing = [(status, {**error, "message": error["message"].replace(key, "KEY")})
                      for (status, error), key in zip(answers_, ("of-ann", "no-such"), strict=True)]  # fmt: skip
    assert there == missing and there[0] == 404
    assert there[1]["message"] == "The server has no project 'KEY'."


async def test_another_owner_than_the_first_may_change_it_too(send, admin):
    await admin.add_member("of-ann", "bob", "owner")
    assert (await send("PATCH", "projects/of-ann", {"allowed_ports": ["15050"]}, "bob"))[0] == 200


async def test_a_change_needs_a_login_its_origin_and_the_xsrf_token(site, admin, listed):
    path, content = "/proxy/api/projects/of-ann", b'{"allowed_ports": null}'
    assert (await site.ask(path, None, "PATCH", content=content)).status == 403
    assert (await site.ask("/proxy/api/projects", None)).status == 403
    foreign = ["Authorization: Odd ann", "Origin: http://evil.example", "Sec-Fetch-Site: cross-site"]
    assert (await site.ask(path, None, "PATCH", foreign, content)).status in (403, 404)
    own = ["Authorization: Odd ann", f"Origin: http://127.0.0.1:{site.port}"]
    assert (await site.ask(path, None, "PATCH", own, content)).status == 403  # as by a cookie, and without the token of the form
    assert (await listed())["of-ann"]["allowed_ports"] == ["15000-15099"]


async def test_ten_megabytes_are_refused_at_once(site, admin):
    begun = time.monotonic()
    answer = await site.ask("/proxy/api/projects/of-ann", "ann", "PATCH", content=b'{"allowed_ports": ["' + b"1" * 10_000_000)
    assert (answer.status, json.loads(answer.text)["message"]) == (400, "The request's content has 10000020 bytes.")
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "projects"), ("GET", "projects/of-ann"), ("GET", "projects/of-ann/members/eve")]
)
async def test_other_methods(send, method, path):
    assert (await send(method, path, {} if method == "POST" else None))[0] == 405


async def test_without_projects_there_is_no_such_api(call):
    assert (await call("proxy/api/projects", token=TOKEN)).status == 404
