import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.project_file.document import UnreadableFile
from jupyter_portproxy.project_file.portproxy_toml import parse

from ..support.cpu_time import takes_at_most
from .conftest import print_notes, print_ports, print_problems

EXAMPLE = """
version = 1

[services.db]
command = ["postgres", "-p", "{port}"]
protocol = "tcp"

[services.api]
command = ["uvicorn", "app:app", "--port", "{port}"]
depends_on = ["db"]
environment_file = "conf/.env"
autostart = "ask"
environment.DB = "{db.port}"

[services."my.worker"]
command = ["celery", "worker"]
protocol = "none"

[[ports]]
port = 3000
label = "Front end"
on_appear = "open-once"
keep_host = true

[[ports]]
port = "4000-4010"
on_appear = "open_once"
protocol = "https"

[[ports]]
process = "vite"
label = "Vite"
"""


def test_services_and_ports_are_read(read_files, tmp_path):
    result = read_files({"portproxy.toml": EXAMPLE, "conf/.env": "A=1"})
    assert result.problems == ()
    assert list(result.templates) == ["db", "api", "my.worker"]
    api = result.templates["api"]
    assert (api.depends_on, [each.name for each in api.dependencies]) == (("db",), ["db"])
    assert (api.autostart, api.environment_file, api.environment, api.folder) == (
        "ask",
        "conf/.env",
        {"DB": "{db.port}"},
        str(tmp_path),
    )
    assert result.templates["my.worker"].ready == "started"
    assert print_ports(result) == ["3000 'Front end' open_once keep_host", "4000-4010 open_once https", "vite 'Vite'"]


def test_a_file_without_entries_is_read(read_files):
    result = read_files({"portproxy.toml": ""})
    assert [source.path for source in result.sources] == ["portproxy.toml"]
    assert (dict(result.templates), result.ports, result.problems) == ({}, (), ())


def test_points_in_a_text_are_no_long_key(read_files):
    text = "[services.a]\ncommand = ['x']\ntitle = '''\n" + "e.g. this i.e. that " * 100 + "'''\n# " + "a.b " * 100 + "." * 100
    assert read_files({"portproxy.toml": text}).problems == ()


def test_the_files_of_other_tools_are_not_read_then(read_files):
    result = read_files({"portproxy.toml": "", "Procfile": "web: x", "compose.yaml": "services: {a: {ports: ['80:80']}}"})
    assert [source.path for source in result.sources] == ["portproxy.toml"]
    assert print_notes(result) == ["portproxy.toml: Procfile, compose.yaml are left out, as there is a portproxy.toml."]
    assert not result.templates and not result.ports


GOOD = '[services.good]\ncommand = ["x"]\n[[ports]]\nport = 1234\n'


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("service.a = 1\n", ["1 service: There is no key 'service' at the top level."]),
        ('[services.a]\ncomand = ["x"]\n', ["2 services.a.comand: There is no key 'comand' for a service."]),
        (
            '[services.a]\ncommand = ["x"]\nat_root = true\nfolder = "/"\n',
            [
                "3 services.a.at_root: There is no key 'at_root' for a service.",
                "4 services.a.folder: There is no key 'folder' for a service.",
            ],
        ),
        ("[services.a]\ntitle = 'x'\n", ["1 services.a.command: The service 'a' is left out: it has no command."]),
        ("[services.a]\ncommand = []\n", ["2 services.a.command: The service 'a' is left out: it has no command."]),
        (
            '[services.a]\ncommand = ["x"]\nrestart = "sometimes"\n',
            [
                "3 services.a.restart: The service 'a' is left out: "
                "'restart' must be one of never, on-failure, on-unhealthy, always: 'sometimes'."
            ],
        ),
        ("services.a = 3\n", ["1 services.a: The service 'a' is left out: it is not a mapping of keys to values."]),
        (
            '[services."a b"]\ncommand = ["x"]\n',
            [
                "1 services.a b: The service 'a b' is left out: Invalid template name: 'a b'. "
                "Use up to 64 letters, digits, '.', '_' and '-'."
            ],
        ),
        (
            '[services.Good]\ncommand = ["x"]\n[services.A]\ncommand = ["x"]\n[services.a]\ncommand = ["x"]\n',
            [
                "5 services.a: The name 'a' differs from 'A' only in upper and lower case.",
                "7 services.good: The name 'good' differs from 'Good' only in upper and lower case.",
            ],
        ),
        (
            '[services.a]\ncommand = ["x"]\ndepends_on = ["b"]\n[services.b]\ncommand = ["x"]\ndepends_on = ["a"]\n',
            [
                "3 services.a.depends_on: The service 'a' is left out: 'depends_on' is a cycle: a -> b -> a.",
                "6 services.b.depends_on: The service 'b' is left out: 'depends_on' is a cycle: b -> a -> b.",
            ],
        ),
        (
            '[services.a]\ncommand = ["x"]\ndepends_on = ["gone"]\n',
            ["3 services.a.depends_on: The service 'a' is left out: 'depends_on' has 'gone', which does not exist."],
        ),
        (
            '[services.a]\ncommand = ["x"]\n[services.b]\ncommand = ["y"]\n'
            '[services.a]\ncommand = ["z"]\n[services.a.environment]\nX = "1"\n[services.b]\n',
            [
                "5 services.a: 'services.a' is there twice; the first one counts.",
                "9 services.b: 'services.b' is there twice; the first one counts.",
            ],
        ),
        ("[[ports]]\nprot = 1\n", ["2 ports[0].prot: There is no key 'prot' for a port."]),
        ("[[ports]]\nlabel = 'x'\n", ["1 ports[0].port: A port has either 'port' or 'process'."]),
        ("[[ports]]\nport = true\n", ["2 ports[0].port: 'port' is True."]),
        ("[[ports]]\nport = 70000\n", ["1 ports[0]: Invalid ports: '70000'."]),
        (
            "[[ports]]\nport = 1\nscheme = 'http'\nprotocol = 'tcp'\n",
            ["4 ports[0].protocol: 'scheme' is 'http', and 'protocol' is 'tcp'."],
        ),
        ("[[ports]]\nport = 1\non_appear = 'shout'\n", ["3 ports[0].on_appear: 'on_appear' is 'shout'."]),
        ("[[ports]]\nport = 1234\nlabel = 'x'\n", ["6 ports[1]: There is another entry for '1234' in line 1."]),
        ('[[ports]]\nport = 1\nlabel = "a\\u001b[31m"\n', ["1 ports[0]: The label 'a\\x1b[31m' has a control character."]),
        ("[[ports]]\nprocess = '(a'\n", None),
        (
            "[[ports]]\nprocess = 'a'\nscheme = 'https'\n",
            ["1 ports[0]: A rule for processes has no 'scheme', no 'keep_host' and no 'activity'."],
        ),
    ],
)
def test_a_wrong_entry_is_left_out_and_the_rest_is_read(read_files, text, problems):
    result = read_files({"portproxy.toml": text + GOOD})
    if problems is not None:
        assert print_problems(result) == [f"portproxy.toml:{line}" for line in problems]
    assert len(result.problems) == (1 if problems is None else len(problems))
    assert all(problem.hint for problem in result.problems)
    assert print_ports(result)[0].startswith("1234")
    assert "good" in result.templates or "Good" in result.templates


def test_of_two_services_of_one_name_the_first_counts(read_files):
    text = """
[services.a]
command = ["x"]
[services.a]
command = ["z"]
[services.a.environment]
X = "1"
[services.b]
command = ["y"]
"""
    templates = read_files({"portproxy.toml": text}).templates
    assert [(each.name, each.command, dict(each.environment)) for each in templates.values()] == [
        ("a", ("x",), {}),
        ("b", ("y",), {}),
    ]
    many = "[services.a]\ncommand = ['x']\n[services.b]\ncommand = ['x']\n" * 12
    assert read_files({"portproxy.toml": many}).problems[0].message.startswith("It is not TOML: ")


def test_rules_stay_as_they_are_written(read_files):
    """The narrowest counts, as `services.port_rules` has it."""
    text = '[[ports]]\nport = "3000-3999"\nlabel = "all"\n[[ports]]\nport = 3000\nlabel = "one"\n'
    assert print_ports(read_files({"portproxy.toml": text})) == ["3000-3999 'all'", "3000 'one'"]


def test_the_nearest_key_is_proposed(read_files):
    result = read_files({"portproxy.toml": '[services.a]\ncomand = ["x"]\n[[ports]]\nport = 1\nonAppear = "open"\n'})
    assert [problem.hint for problem in result.problems] == ["Did you mean 'command'?", "Did you mean 'on_appear'?"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../.env", "'../.env' is outside of the folder"),
        ("/etc/passwd", "'/etc/passwd' is outside of the folder"),
        ("gone", "it cannot be read: No such file or directory"),
        ("sub", "it is not a regular file"),
        ("link", "it is a symbolic link that leads out of the folder"),
        ("latin", "line 2: it is not UTF-8"),
        ("words", "line 1: it is not of the form KEY=VALUE"),
    ],
)
def test_an_environment_file_is_a_text_within_the_folder(read_files, tmp_path, path, reason):
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    text = f'[services.a]\ncommand = ["x"]\nenvironment_file = "{path}"\n'
    result = read_files({"portproxy.toml": text + GOOD, "latin": b"A=1\nB=\xe9", "words": "not a variable"})
    expected = (
        f"portproxy.toml:3 services.a.environment_file: The service 'a' is left out: 'environment_file' is '{path}': {reason}."
    )
    assert print_problems(result) == [expected]
    assert list(result.templates) == ["good"]


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a = \n", "It is not TOML: Invalid value in line 1.", 1),
        ("[services.a]\ntitle = 'x'\ntitle = 'y'\n", "It is not TOML: Cannot overwrite a value in line 3.", 3),
        ("[services]\na = 1\n[services.a]\n", None, 3),
        ("version = 2\n", "Its version is 2, which this jupyter_portproxy does not know.", 1),
        ("a = " + "[" * 100_000, "Its lists and tables are nested too deep.", None),
        ("a = 2026-99-99\n", None, 1),
        (f"a = {'9' * 10_000}\n", None, None),
        ("\n\na" + ".a" * 10_000 + " = 1\n", "A key in line 3 has more than 64 parts.", 3),
        ("x = {a" + ' . "b"' * 10_000 + " = 1}\n", "A key in line 1 has more than 64 parts.", 1),
    ],
)
def test_what_is_not_toml_is_refused_in_a_sentence(read_files, text, message, line):
    with takes_at_most(1):
        result = read_files({"portproxy.toml": text})
    (problem,) = result.problems
    assert message in (problem.message, None) and problem.line == line and problem.hint
    assert not result.templates and not result.ports


def test_there_are_at_most_a_hundred_services(read_files):
    text = "".join(f'[services.s{number}]\ncommand = ["x"]\n' for number in range(200))
    result = read_files({"portproxy.toml": text})
    assert print_problems(result) == ["portproxy.toml:201 services: There are 200 services; only the first 100 are read."]
    assert list(result.templates) == [f"s{number}" for number in range(100)]


def test_there_are_at_most_two_hundred_ports(read_files):
    result = read_files({"portproxy.toml": "".join(f"[[ports]]\nport = {number}\n" for number in range(1, 300))})
    assert print_problems(result) == ["portproxy.toml:401 ports[200]: There are 299 ports; only the first 200 are read."]
    assert len(result.ports) == 200


def test_templates_of_the_server_may_be_needed(tmp_path):
    from jupyter_portproxy.project_file.read import read_folder
    from jupyter_portproxy.services.templates import load

    (tmp_path / "portproxy.toml").write_text('[services.a]\ncommand = ["x"]\ndepends_on = ["shared"]\n')
    result = read_folder(tmp_path, {"shared": load("shared", {"command": ["x"]})})
    assert [each.name for each in result.templates["a"].dependencies] == ["shared"]


@given(st.text(st.sampled_from("[]{}=.\"'#\\ \na1") | st.characters(codec="utf-8")))
def test_any_text_is_read_or_refused(text):
    try:
        parse(text)
    except UnreadableFile as error:
        assert error.message


REPEATED = "".join(f"[a{number}]\n" for number in range(30_000)) + "[a1]\n[a2]\n" * 10


@pytest.mark.parametrize(
    "text", [REPEATED, '"\\', "'", '"\\"', "a.", "[a]\n", "[[a]]\n", "a=1\n", "#", "a={", '"""', "[a.b.c]\n"]
)
def test_no_text_takes_more_than_a_second(text):
    with takes_at_most(1):
        try:
            parse(text * ((256 << 10) // len(text)))
        except UnreadableFile as error:
            assert error.message


@pytest.mark.parametrize("part", ["'", '"'])
@pytest.mark.parametrize("line", ["{}", "[{}"])
def test_the_time_for_quotes_in_a_text_is_linear(part, line):
    quotes = line.format(f".{part}".join([part] * 30))  # each more would have taken 1.6 times as long
    with takes_at_most(0.3):
        assert parse(f"x = '''\n{quotes}\n'''\n").value == {"x": f"{quotes}\n"}


@pytest.mark.parametrize("where", ["version = {}", "[[ports]]\nport = {}", "[services.a]\ncommand = [{}]"])
def test_a_number_that_python_does_not_print_is_a_problem(read_files, where):
    result = read_files({"portproxy.toml": where.format("0x" + "f" * 5000)})
    assert print_problems(result) == ["portproxy.toml: : It is not TOML: a number has more than 64 bits."]
