"""`jupyter portproxy placement ...` in processes of its own, against a real PostgreSQL."""

from __future__ import annotations

import getpass
import json
import socket
import time

import pytest

from ..support.jupyter_processes import portproxy
from ..support.upstreams import free_port

URL = "http://10.0.0.1:8000"
BAD_KEYS = ["..", "P1", "x'; drop table projects; --", "a" * 300, "proxy", ""]


@pytest.fixture
def placement(tmp_path, database):
    """Runs `jupyter portproxy placement ...` on the test's database, which the environment names."""
    more = {"PORTPROXY_PLACEMENT": database.dsn}
    return lambda *arguments, given="": portproxy(tmp_path, "placement", *arguments, more=more, given=given)


@pytest.fixture
def hosts(placement):
    assert placement("host", "h1", URL, "--credential", "c1-s3cret")[0] == 0
    assert placement("host", "h2", "https://[fd00::2]:443", "--credential-file", "-", given="c2-s3cret\n")[0] == 0


async def test_tables_are_made_by_init(tmp_path, empty_database):
    dsn = ("--placement", empty_database.dsn)
    code, _, errors = portproxy(tmp_path, "placement", "hosts", *dsn)
    assert (code, errors.splitlines()[1]) == (1, "Make them: jupyter portproxy placement init")
    assert portproxy(tmp_path, "placement", "init", *dsn) == (0, "The tables of placements are up to date (schema 4).\n", "")
    assert json.loads(portproxy(tmp_path, "placement", "init", "--json", *dsn)[1]) == {"schema": 4}
    assert portproxy(tmp_path, "placement", "hosts", *dsn)[1] == "No hosts.\n\n"


async def test_a_projects_life(tmp_path, placement, hosts, database):
    def listed():
        more = {"PORTPROXY_PLACEMENT": database.dsn}
        return json.loads(portproxy(tmp_path, "projects", "--json", more=more)[1])

    assert placement("place", "p1", "h1")[2] == "The project 'p1' is new.\nGive its owner: --owner USER\n"
    assert placement("place", "p1", "h1", "--owner", "ann", "--name", "Ünit") == (0, "p1 is on h1.\n", "")
    await database.sql("update projects set visibility = 'public', allowed_ports = '{6000-6010}'")
    assert placement("place", "p1", "h2")[0] == 0, "what is not given stays"
    (one,) = listed()
    assert (one["key"], one["host"], one["owner"], one["name"]) == ("p1", "h2", "ann", "Ünit")
    assert (one["state"], one["visibility"], one["allowed_ports"]) == ("host silent", "public", ["6000-6010"])
    assert placement("heartbeat", "h1") == (0, "h1 is alive.\n", "")
    assert json.loads(placement("move", "p1", "h1", "--json")[1]) == {"key": "p1", "host": "h1"}
    assert placement("member", "p1", "bob", "viewer")[1] == "bob is viewer of p1.\n"
    (two,) = listed()
    assert (two["host"], two["state"], two["members"]) == ("h1", "host up", {"bob": "viewer"})
    assert placement("member", "p1", "bob", "--remove")[1] == "bob is no longer a member of p1.\n"
    assert placement("unplace", "p1")[1] == "p1 is not placed now.\n"
    (three,) = listed()
    assert (three["host"], three["state"], three["members"]) == (None, "not placed", {})


async def test_what_places_projects_has_a_short_form(tmp_path, placement, hosts, database):
    def short(*arguments):
        return portproxy(tmp_path, *arguments, more={"PORTPROXY_PLACEMENT": database.dsn})

    assert short("place", "p1", "h1", "--owner", "ann", "--ports", "6000")[:2] == (0, "p1 is on h1.\n")
    assert json.loads(placement("project", "p1", "--json")[1])["name"] == "p1", "a new project is named as its key"
    assert json.loads(short("move", "p1", "h2", "--json")[1]) == {"key": "p1", "host": "h2"}
    shown = json.loads(placement("project", "p1", "--json")[1])
    assert (shown["host"], shown["owner"], shown["allowed_ports"]) == ("h2", "ann", ["6000"])
    assert short("unplace", "p1")[1] == "p1 is not placed now.\n"
    assert short("unplace", "p2") == (1, "", placement("unplace", "p2")[2])


async def test_a_project_is_made_changed_shown_and_forgotten(placement, hosts):
    def shown():
        return json.loads(placement("project", "p1", "--json")[1])

    assert placement("project", "p1", "--name", "One")[2] == "The project 'p1' is new.\nGive its owner: --owner USER\n"
    assert placement("project", "p1", "--owner", "ann", "--ports", "8888, 6000-6010") == (0, "p1 is created.\n", "")
    one = shown()
    assert (one["host"], one["state"], one["owner"], one["visibility"]) == (None, "not placed", "ann", "private")
    assert one["allowed_ports"] == ["8888", "6000-6010"]
    assert placement("place", "p1", "h1", "--visibility", "public")[0] == 0
    assert placement("project", "p1", "--owner", "bob", "--name", "Two") == (0, "p1 is changed.\n", "")
    two = shown()
    assert (two["host"], two["owner"], two["name"]) == ("h1", "bob", "Two")
    assert (two["visibility"], two["allowed_ports"]) == ("public", ["8888", "6000-6010"])
    assert json.loads(placement("project", "p1", "--ports", "any", "--json")[1])["allowed_ports"] is None
    lines = [line.split(None, 2) for line in placement("project", "p1")[1].splitlines()]
    assert ["visibility", "public"] in lines and ["allowed", "ports", "any"] in lines
    assert placement("remove", "p1") == (0, "p1 is deleted.\n", "")
    unknown = "The database has no project 'p1'.\nList the projects: jupyter portproxy projects\n"
    for command in (("project", "p1"), ("move", "p1", "h1"), ("remove", "p1"), ("members", "p1")):
        assert placement(*command) == (1, "", unknown), command


async def test_members_and_groups_have_roles_and_ports(placement, hosts):
    def listed():
        return {row["user"]: (row["role"], row["allowed_ports"]) for row in json.loads(placement("members", "p1", "--json")[1])}

    placement("place", "p1", "h1", "--owner", "ann")
    assert placement("member", "p1", "bob", "viewer", "--ports", "6006")[1] == "bob is viewer of p1.\n"
    assert placement("member", "p1", "@team", "member")[1] == "@team is member of p1.\n"
    assert listed() == {"ann": ("owner", None), "bob": ("viewer", ["6006"]), "@team": ("member", None)}
    assert placement("member", "p1", "bob", "member")[0] == 0, "the ports stay"
    placement("member", "p1", "ann", "owner", "--ports", "8000-9000")
    assert listed()["bob"] == ("member", ["6006"]) and listed()["ann"] == ("owner", ["8000-9000"])
    rows = [line.split() for line in placement("members", "p1")[1].splitlines()]
    assert rows[:2] == [["USER", "ROLE", "PORTS"], ["ann", "owner", "8000-9000"]] and ["@team", "member", "any"] in rows
    placement("member", "p1", "bob", "member", "--ports", "any")
    assert listed()["bob"] == ("member", None)
    placement("member", "p1", "bob", "--remove")
    assert "bob" not in listed()


async def test_tables_of_an_earlier_version_are_an_error(placement, database):
    await database.sql("alter table project_members drop column allowed_ports")
    sentence = "The tables of placements are of an earlier version.\nRun: jupyter portproxy placement init\n"
    assert placement("members", "p1") == (1, "", sentence)


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_a_bad_key_changes_nothing(tmp_path, shared_database, key):
    projects = "select * from projects order by project_id"
    before, more = await shared_database.sql(projects), {"PORTPROXY_PLACEMENT": shared_database.dsn}
    code, output, error = portproxy(tmp_path, "placement", "place", key, "h1", "--owner", "ann", more=more)
    assert (code, output, error.splitlines()[0]) == (1, "", f"Invalid project key: {key[:80]!r}.")
    assert await shared_database.sql(projects) == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["host", "h1", "ftp://x"], "Invalid URL of a host: it is not of the form http://HOST:PORT or https://HOST:PORT."),
        (["host", "h1", "http://h:80/path"], "Invalid URL of a host: it is not of the form"),
        (["host", "h1", "http://h:99999"], "Invalid URL of a host: its host or its port is invalid."),
        (["host", "../h", URL], "Invalid name of a host: '../h'."),
        (["move", "p1", "h1"], "There is no host 'h1'."),
        (["move", "p9", "h7"], "The database has no project 'p9'."),
        (["unplace", "p9"], "The database has no project 'p9'."),
        (["place", "p1", "h9"], "There is no host 'h9'."),
        (["place", "p1", "h7", "--owner", "\x1b[31m"], "Invalid owner: '\\x1b[31m'."),
        (["member", "p1", "bob", "king"], "Invalid role: 'king'."),
        (["place", "p1", "h7", "--ports", "0"], "'0' is not a port or a range of ports"),
        (["project", "p1", "--ports", ""], "'' is not a port or a range of ports"),
        (["project", "p1", "--visibility", "shared"], "Invalid visibility: 'shared'."),
        (["project", "p1", "--owner", ""], "Invalid owner: ''."),
        (["project", "p1", "--owner", "@team"], "A group cannot own a project."),
        (["project", "p9"], "The database has no project 'p9'."),
        (["remove", "p9"], "The database has no project 'p9'."),
        (["members", "p9"], "The database has no project 'p9'."),
        (["members", "../p"], "Invalid project key: '../p'."),
        (["member", "p1", "@", "viewer"], "Invalid username: ''."),
        (["member", "p1", "bob", "viewer", "--ports", "80-"], "'80-' is not a port or a range of ports"),
        (["member", "p1", "bob", "--remove", "--ports", "80"], "Give a role (owner, member or viewer), or --remove."),
        (["member", "p1", "ann", "viewer"], "'ann' owns this project and stays its owner."),
        (["up", "h9"], "There is no host 'h9'."),
        (["drain", "a/b"], "Invalid name of a host: 'a/b'."),
        (["remove-host", "h9"], "There is no host 'h9'."),
        (["remove-host", "h7"], "The host has projects."),
        (["member", "p9", "bob", "owner"], "The database has no project 'p9'."),
        (["member", "p1", "bob"], "Give a role (owner, member or viewer), or --remove."),
        (["member", "p1", "bob", "viewer", "--remove"], "Give a role (owner, member or viewer), or --remove."),
        (["member", "p1", "nobody", "--remove"], "'nobody' is not a member of this project."),
        (["heartbeat", "h9"], "There is no host 'h9'."),
        (["heartbeat", "h7", "--every", "0"], "--every: heartbeats are sent every 0.1 to 3600 seconds."),
        (["heartbeat", "h7", "--every", "nan"], "--every: heartbeats are sent every 0.1 to 3600 seconds."),
    ],
)
async def test_bad_input_is_refused_in_a_sentence(tmp_path, shared_database, arguments, sentence):
    database, more = shared_database, {"PORTPROXY_PLACEMENT": shared_database.dsn}
    await database.sql(
        "insert into project_hosts (host_id, internal_url, credential) values ('h7', 'http://h:1', 'c') on conflict do nothing"
    )
    await database.sql("insert into projects (project_id, owner, host_id) values ('p1', 'ann', 'h7') on conflict do nothing")
    arguments += ["--credential", "c"] if arguments[0] == "host" else []
    code, out, error = portproxy(tmp_path, "placement", *arguments, more=more)
    assert (code, out, error.startswith(sentence)) == (1, "", True), error
    assert len(error.splitlines()) <= 2


@pytest.mark.parametrize(
    ("dsn", "sentence"),
    [
        ("postgresql://ann:geheim@127.0.0.1:{closed}/x", "The database does not answer.\n"),
        ("postgresql://ann:geheim@127.0.0.1:{open}/x", "The database does not take this user or password.\n"),
        ("postgresql://postgres:geheim@127.0.0.1:{open}/nowhere", "The server has no such database.\n"),
        ("postgresql://ann:geheim@no-such-host.invalid/x", "The database does not answer.\n"),
        ("postgresql://ann:geheim#geheim@h/x", "The DSN is not the address of a database.\n"),
        ("mysql://ann:geheim@h/x", "The DSN is not the address of a database.\n"),
        ("geheim", "The DSN is not the address of a database.\n"),
    ],
)
async def test_the_error_of_a_wrong_dsn_has_no_password(tmp_path, postgres_server, dsn, sentence):
    whole = dsn.format(closed=free_port(), open=postgres_server.port)
    for arguments in (("placement", "init"), ("placement", "hosts"), ("projects",)):
        code, out, error = portproxy(tmp_path, *arguments, "--placement", whole)
        assert (code, out) == (1, "") and error.startswith(sentence), error
        assert "geheim" not in error


async def test_a_database_that_says_nothing_is_not_waited_for_long(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        dsn = f"postgresql://ann:geheim@127.0.0.1:{mute.getsockname()[1]}/x"
        begun = time.monotonic()
        assert portproxy(tmp_path, "placement", "hosts", "--placement", dsn) == (1, "", "The database takes too long.\n")
        assert 14 < time.monotonic() - begun < 25


# ---- a SQLite file ----


@pytest.fixture
def local(tmp_path):
    """Runs a command with the default file, whose tables are made."""

    def run(*arguments, **keywords):
        return portproxy(tmp_path, *arguments, **keywords)

    assert run("placement", "init") == (0, "The tables of placements are up to date (schema 1).\n", "")
    return run


def test_without_a_dsn_it_is_a_file_in_jupyters_data_folder(tmp_path):
    sentence = "The database has no tables of placements yet.\nMake them: jupyter portproxy placement init\n"
    for command in (("placement", "projects"), ("placement", "member", "p1", "bob", "viewer"), ("placement", "project", "p1")):
        assert portproxy(tmp_path, *command) == (1, "", sentence)
    path = tmp_path / ".local/share/jupyter/portproxy/projects.sqlite"
    assert not path.exists()
    assert portproxy(tmp_path, "placement", "init")[0] == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert portproxy(tmp_path, "placement", "projects") == (0, "No projects.\n\n", "")
    assert portproxy(tmp_path, "projects") == (0, "No projects.\n\n", "")


def test_the_first_project_makes_the_default_file_and_no_other(tmp_path):
    other = tmp_path / "other.sqlite"
    sentence = "The database has no tables of placements yet.\nMake them: jupyter portproxy placement init\n"
    assert portproxy(tmp_path, "place", "p1", "--owner", "ann", "--placement", f"sqlite:///{other}") == (1, "", sentence)
    assert portproxy(tmp_path, "place", "p1", "--owner", "ann") == (0, "p1 is on this machine.\n", "")
    assert [(tmp_path / ".local/share/jupyter/portproxy/projects.sqlite").exists(), other.exists()] == [True, False]


def test_projects_of_this_machine(local):
    user = getpass.getuser()
    assert local("place", "p1", "--owner", "ann", "--name", "My project", "--ports", "15000-15099", "--system-user", user) == (
        0,
        "p1 is on this machine.\n",
        "",
    )
    assert local("place", "p2", "--owner", "bob", "--ports", "15050")[2] == (
        "The projects 'p2' and 'p1' claim the same ports: 15050.\nGive each project on this machine ports of its own.\n"
    )
    assert local("place", "p2", "--owner", "bob", "--visibility", "public")[0] == 0
    assert local("placement", "rename", "p2", "Größe 2") == (0, "p2 has the name 'Größe 2'.\n", "")
    assert local("placement", "member", "p1", "bob", "viewer")[0] == 0
    rows = [line.split("  ") for line in local("placement", "projects")[1].splitlines()]
    assert [cell.strip() for cell in rows[1] if cell.strip()] == (
        ["p1", "ann", "My project", "local", "host up", "private", "1", "15000-15099"]
    )
    one, two = json.loads(local("placement", "projects", "--json")[1])
    assert (one["system_user"], one["members"], one["allowed_ports"]) == (user, {"bob": "viewer"}, ["15000-15099"])
    assert (two["name"], two["visibility"], two["system_user"], two["allowed_ports"]) == ("Größe 2", "public", None, None)
    assert local("place", "p1", "--system-user", "any", "--ports", "any")[0] == 0
    assert json.loads(local("placement", "project", "p1", "--json")[1])["system_user"] is None
    assert local("place", "p2", "--ports", "15050") == (0, "p2 is on this machine.\n", "")
    assert local("unplace", "p2")[0] == 0
    assert local("move", "p2", "local") == (0, "p2 is on this machine.\n", "")
    row = json.loads(local("projects", "--json")[1])[0]
    assert (row["from"], row["key"], row["host"]) == ("placement", "p1", "local")


def test_with_other_hosts_a_place_needs_one(local):
    assert local("placement", "host", "h1", URL, "--credential", "c")[0] == 0
    sentence = "Give the host of the project.\nList the hosts: jupyter portproxy placement hosts\n"
    assert local("place", "p1", "--owner", "ann") == (1, "", sentence)
    assert local("place", "p1", "h1", "--owner", "ann") == (0, "p1 is on h1.\n", "")
    assert local("place", "p1", "--name", "x") == (0, "p1 is on h1.\n", "")


def test_postgres_needs_a_host(placement):
    assert placement("place", "p1", "--owner", "ann")[2].startswith("Give the host of the project.\n")


def test_all_is_copied_to_postgres_and_back(tmp_path, local, empty_database):
    assert local("place", "p1", "--owner", "ann", "--ports", "15000-15099")[0] == 0
    assert local("placement", "member", "p1", "bob", "viewer")[0] == 0
    first = f"sqlite:///{tmp_path}/.local/share/jupyter/portproxy/projects.sqlite"
    sentence = "Copied and verified row by row: 1 project, 1 member, 1 host.\n"
    assert local("placement", "copy", first, empty_database.dsn) == (0, sentence, "")
    last = f"sqlite:///{tmp_path}/b.sqlite"
    counts = {"projects": 1, "members": 1, "hosts": 1}
    assert json.loads(local("placement", "copy", empty_database.dsn, last, "--json")[1]) == counts
    again = "The destination has 1 projects.\nCopy into a database without projects.\n"
    assert local("placement", "copy", first, last) == (1, "", again)
    rows = [json.loads(local("placement", "projects", "--json", "--placement", dsn)[1]) for dsn in (first, last)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["place", "p1", "--owner", "ann", "--system-user", "no such user"], "--system-user: this machine has no user 'no such"),
        (["place", "p1", "--owner", "ann", "--name", "a" * 300], f"Invalid name: {'a' * 80!r}.\n"),
        (["place", "p1", "--owner", "a" * 300], f"Invalid owner: {'a' * 80!r}.\n"),
        (["place", "p1", "--owner", " "], "Invalid owner: ' '.\n"),
        (["place", "lab", "--owner", "ann"], "Invalid project key: 'lab'.\n"),
        (["place", "%2F", "--owner", "ann"], "Invalid project key: '%2F'.\n"),
        (["place", "p1", "h1", "--owner", "ann"], "There is no host 'h1'.\n"),
        (["place", "p1", "--owner", "ann", "--placement", "sqlite:///"], "The DSN is not the address of a database.\n"),
        (["placement", "init", "--placement", "sqlite:////proc/x/y"], "The file /proc/x/y cannot be used: No such file or"),
        (["placement", "init", "--placement", "sqlite:////dev/null/x"], "The file /dev/null/x cannot be used: Not a directory."),
        (["placement", "rename", "p9", "x"], "The database has no project 'p9'."),
        (["placement", "rename", "p9", ".."], "Invalid name: '..'.\n"),
        (["placement", "remove-host", "local"], "The host 'local' is this machine.\n"),
        (["placement", "host", "local", URL, "--credential", "c"], "The host 'local' is this machine.\n"),
        (["placement", "copy", "nonsense", "nonsense"], "The source: The DSN is not the address of a database.\n"),
    ],
)
def test_bad_input_for_a_file_is_refused_in_a_sentence(local, arguments, sentence):
    code, out, error = local(*arguments)
    assert (code, out, error.startswith(sentence)) == (1, "", True), error
    assert len(error.splitlines()) <= 2
    assert json.loads(local("placement", "projects", "--json")[1]) == []
