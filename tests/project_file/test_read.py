import os
import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyter_portproxy.project_file.model import Source
from jupyter_portproxy.project_file.read import read_folder

from ..support.cpu_time import takes_at_most
from .conftest import print_notes, print_ports, print_problems

NAMES = ("portproxy.toml", ".devcontainer/devcontainer.json", ".gitpod.yml", "Procfile", "compose.yaml")
EMPTY = dict(zip(NAMES, ("", "{}", "ports: []", "web: x", "services: {}"), strict=True))


def test_a_folder_without_project_files_has_nothing(tmp_path):
    (tmp_path / "README.md").write_text("")
    (tmp_path / ".env").write_text("A=1")
    (tmp_path / ".devcontainer").mkdir()
    assert read_folder(tmp_path) is None
    assert read_folder(tmp_path / "gone") is None
    assert read_folder(tmp_path / "README.md") is None


def test_all_files_of_other_tools_are_read_together(read_files, tmp_path):
    result = read_files({name: content for name, content in EMPTY.items() if name != "portproxy.toml"})
    assert result.sources == (
        Source(".devcontainer/devcontainer.json", "devcontainer.json"),
        Source(".gitpod.yml", ".gitpod.yml"),
        Source("Procfile", "Procfile"),
        Source("compose.yaml", "compose.yaml"),
    )
    assert (result.folder, result.name) == (os.path.realpath(tmp_path), tmp_path.name)
    assert list(result.templates) == ["web"]


def test_the_attributes_of_the_devcontainer_come_first(read_files):
    result = read_files(
        {
            ".devcontainer.json": '{"portsAttributes": {"3000-3009": {"label": "Dev"}, "8080": {"onAutoForward": "silent"}}}',
            ".gitpod.yml": "ports: [{port: 3001, name: Pod, onOpen: notify}, {port: 8080, name: Pod, onOpen: notify}]",
            "compose.yaml": "services: {web: {ports: ['8080:80', '9000:9000']}}",
        }
    )
    assert print_ports(result) == ["3000 'Dev'", "3001 'Dev' notify", "3002-3009 'Dev'", "8080 'Pod' silent", "9000 'web (9000)'"]


def test_a_folder_behind_a_link_has_its_real_path(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "Procfile").write_text("web: x")
    (tmp_path / "link").symlink_to("real")
    assert read_folder(tmp_path / "link").folder == str(tmp_path / "real")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "link", "dangling", "large", "utf-16", "latin-1", "unreadable"])
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, name, kind):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
        case "link":
            path.symlink_to("/etc/passwd")
        case "dangling":
            path.symlink_to("gone")
        case "large":
            path.write_bytes(b"#" * (10 << 20))
        case "utf-16":
            path.write_bytes(EMPTY[name].encode("utf-16") + b"\n\0")
        case "latin-1":
            path.write_bytes(EMPTY[name].encode() + b"\xe9")
        case "unreadable":
            path.symlink_to("/proc/1/mem")
    start = time.monotonic()
    result = read_folder(tmp_path)
    assert time.monotonic() - start < 1
    (problem,) = result.problems
    assert (problem.file, problem.key) == (name, "")
    assert problem.message.endswith(".") and problem.hint.endswith(".") and "Traceback" not in problem.message
    assert not result.templates and not result.ports
    assert [source.path for source in result.sources] == [name]


def test_a_folder_of_a_devcontainer_may_be_a_link_to_elsewhere(tmp_path):
    (tmp_path / "outside" / "x").mkdir(parents=True)
    for path in ("devcontainer.json", "x/devcontainer.json"):
        (tmp_path / "outside" / path).write_text('{"forwardPorts": [1]}')
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".devcontainer").symlink_to("../outside")
    result = read_folder(tmp_path / "folder")
    assert [problem.message for problem in result.problems] == ["It is a symbolic link that leads out of the folder."]
    (tmp_path / "outside" / "devcontainer.json").unlink()
    assert read_folder(tmp_path / "folder") is None


def test_the_digest_changes_with_each_file_that_was_read(read_files):
    text = '[services.a]\ncommand = ["x"]\nenvironment_file = "env"\n'
    first = read_files({"portproxy.toml": text, "env": "A=1", "other": "1"})
    assert read_files({"other": "2"}).digest == first.digest
    digests = {first.digest, read_files({"env": "A=2"}).digest, read_files({"portproxy.toml": text + "\n"}).digest}
    assert len(digests) == 3


def test_while_nothing_changes_for_what_is_watched_nothing_changes(read_files, tmp_path):
    result = read_files({"Procfile": "web: x"})
    assert {*NAMES, ".env", ".devcontainer", "docker-compose.yml"} <= {*result.watched}
    (tmp_path / "compose.yaml").write_text("include: [sub/x.yml]\nservices: {}")
    assert "sub/x.yml" in read_folder(tmp_path).watched


def test_all_files_together_have_a_limit(read_files):
    compose = "".join(f"  s{port}: {{ports: ['{port}:80']}}\n" for port in range(1, 151))
    pod = "".join(f"- port: {port}\n" for port in range(1001, 1151))
    result = read_files({"compose.yaml": f"services:\n{compose}", ".gitpod.yml": f"ports:\n{pod}"})
    assert len(result.ports) == 200
    message = "All files together have 300 entries for ports; only the first 200 are used."
    assert print_problems(result) == [f"compose.yaml: : {message}"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(NAMES), st.binary(max_size=200))
def test_any_bytes_are_read_without_an_exception(tmp_path, name, content):
    check_bytes(tmp_path, name, content)


SEEDS = (
    b"""version = 1
[services.a]
command = ["x", "{port}"]
depends_on = ["b"]
[services.b]
command=["y"]
[[ports]]
port="1-9"
""",
    b"""{"forwardPorts": [3000, "db:1"], "dockerComposeFile": ["compose.yaml"], "service": "a", // comment
"portsAttributes": {"3000": {"label": "x"}, "a.*b": {}}, "otherPortsAttributes": {"label": "y"}}""",
    b"""ports:
- port: 3000-4000
  onOpen: notify
  name: x
- port: 1
  protocol: https
""",
    b"""# comment
web: x $PORT
worker: y
release: z
""",
    b"""include: [a.yml]
services:
  a: &a
    ports: ['${P:-1}:80', {target: 1, published: '2'}]
    labels: [portproxy.label=x]
  b: {<<: *a, extends: a, profiles: [x]}
""",
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(st.integers(0, len(NAMES) - 1), st.integers(), st.integers(1, 6))
def test_damaged_files_are_read_without_an_exception(tmp_path, index, seed, changes):
    dice = random.Random(seed)
    content = bytearray(SEEDS[index])
    for _ in range(changes):
        position = dice.randrange(len(content) + 1)
        match dice.randrange(4):
            case 0:
                content[position : position + dice.randrange(8)] = b""
            case 1:
                content[position:position] = dice.choice(
                    [b"[", b"]", b"{", b"}", b'"', b"'", b":", b",", b"\n", b" ", b"*a", b"&a", b"-"]
                )
            case 2:
                content[position : position + 1] = bytes([dice.randrange(256)])
            case 3:
                content[position:position] = content[dice.randrange(len(content) + 1) :][: dice.randrange(40)]
    check_bytes(tmp_path, NAMES[index], bytes(content))


def check_bytes(folder, name, content):
    for each in NAMES:
        (folder / each).parent.mkdir(exist_ok=True)
        (folder / each).unlink(missing_ok=True)
    (folder / name).write_bytes(content)
    result = read_folder(folder)
    assert result is not None
    assert all(line.endswith((".", "?")) and line.isprintable() for line in print_problems(result) + print_notes(result))


BOMB = "a0: &a0 [x]\n" + "".join(f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]\n" for number in range(1, 8))


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("compose.yaml", "services: *a7\n"),
        ("compose.yaml", "services: {s: {ports: *a7}}\n"),
        ("compose.yaml", "services: {s: {ports: [!reset *a7, {target: *a7, published: 1}], labels: *a7, profiles: *a7}}\n"),
        (".gitpod.yml", "ports: [{port: *a7}, {port: 3000, name: *a7, onOpen: *a7}, *a7]\n"),
    ],
)
def test_a_value_that_aliases_make_long_is_not_printed_in_whole(read_files, name, use):
    with takes_at_most(0.5):
        read_files({name: BOMB + use})
