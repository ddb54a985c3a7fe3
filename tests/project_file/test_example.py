import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.project_file.example import RunningProgram, print_example
from jupyter_portproxy.project_file.schema import read_schema
from jupyter_portproxy.services import templates

from .conftest import print_ports

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def without_comments(text):
    """The text with its examples: each line that is commented out, without its `#`."""
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    return "\n".join(line for line in lines if line.startswith(("[", "command", "port ", "label", "on_appear", "version")))


def test_services_and_ports_that_are_there(read_files, tmp_path):
    programs = [
        RunningProgram(
            4001, ["/venv/bin/python3.11", "/venv/bin/streamlit", "run", f"{tmp_path}/app.py", "--port=4001"], "app", kernel="ds"
        ),
        RunningProgram(4002, ["/usr/bin/redis-server", "--port", "4002", "--requirepass", "***"], "db.1", protocol="tcp"),
        RunningProgram(0, [], "worker"),
        RunningProgram(5173, ["node", "vite", "{x}"], label='Front "end"\n', protocol="https"),
        RunningProgram(5174, []),
    ]
    text = print_example(programs, str(tmp_path))
    result = read_files({"portproxy.toml": text})
    assert [problem.message for problem in result.problems] == ["The label 'Front \"end\"\\n' has a control character."]
    templates = result.templates
    assert [(each.name, each.command, each.protocol, each.kernel) for each in templates.values()] == [
        ("app", ("streamlit", "run", "app.py", "--port={port}"), "http", "ds"),
        ("db.1", ("redis-server", "--port", "{port}", "--requirepass", "***"), "tcp", ""),
    ]
    assert print_ports(result) == ["5174"]
    assert "# *** stands for a secret: write it into an environment_file that is not committed." in text
    assert '# command = ["node", "vite", "{{x}}"]' in text


def print_service(data, arguments, folder="/work/shop"):
    """A service of a template, as the file describes it."""
    template = templates.load("app", data)
    text = print_example([RunningProgram(4001, ["child"], "app", kernel="ds", template=template, arguments=arguments)], folder)
    return tomllib.loads(text)["services"]["app"]


def test_a_service_of_a_template_has_its_keys_with_the_arguments_filled_in():
    data = {
        "title": "My app",
        "command": ["app", "{script}", "{word}", "--port={port}", "{{x}}", "--base", "{prefix}/"],
        "environment": {"PORT": "{port}", "API_TOKEN": "abc"},
        "keep_prefix": True,
        "ready_timeout": 120,
        "activity_exclude": [".*/poll$"],
        "requires": {"program": "app"},
        "arguments": [{"name": "script", "kind": "path"}, {"name": "word"}],
    }
    assert print_service(data, {"script": "/work/shop/a/app.py", "word": "{port}"}) == {
        "title": "My app",
        "command": ["app", "a/app.py", "{{port}}", "--port={port}", "{{x}}", "--base", "{prefix}/"],
        "environment": {"PORT": "{port}", "API_TOKEN": "***"},
        "keep_prefix": True,
        "ready_timeout": 120,
        "activity_exclude": [".*/poll$"],
        "kernel": "ds",
    }
    worker = {"command": ["work"], "protocol": "none"}
    assert print_service(worker, {}) == {**worker, "kernel": "ds"}


@pytest.mark.parametrize(
    ("path", "cwd", "word"),
    [
        ("/work/shop", ".", "/work/shop"),
        ("/work/shop/web", "web", "/work/shop/web"),
        ("/work/shop-2", "/work/shop-2", "/work/shop-2"),
    ],
)
def test_a_path_is_relative_to_the_folder_where_that_is_the_working_directory(path, cwd, word):
    data = {"command": ["npx", "{folder}"], "arguments": [{"name": "folder", "kind": "path"}]}
    assert print_service(data, {"folder": path})["command"] == ["npx", cwd]
    service = print_service({**data, "cwd": "{folder}"}, {"folder": path})
    assert (service["cwd"], service["command"]) == (cwd, ["npx", word])


@pytest.mark.parametrize("name", templates.shipped())
def test_a_service_of_each_template_that_comes_with_the_package_can_be_read(read_files, name):
    template = templates.load(name, templates.shipped()[name])
    arguments = {each.name: each.default for each in template.arguments}
    text = print_example([RunningProgram(0, [], name, template=template, arguments=arguments)], "/work/shop")
    result = read_files({"portproxy.toml": text})
    assert result.problems == ()
    read = result.templates[name]
    assert (read.keep_prefix, read.unix_socket, read.uses("prefix")) == (
        template.keep_prefix,
        template.unix_socket,
        template.uses("prefix"),
    )


def test_an_example_without_anything_has_no_entries_but_valid_ones_in_comments(read_files):
    text = print_example([], "/folder")
    result = read_files({"portproxy.toml": text})
    assert (result.problems, result.ports, dict(result.templates)) == ((), (), {})
    result = read_files({"portproxy.toml": without_comments(text)})
    assert result.problems == () and list(result.templates) == ["docs"]
    assert print_ports(result) == ["3000 'Front end' open_once"]


def test_the_keys_in_comments_are_keys():
    keys = {
        line[2:].partition(" = ")[0] for line in print_example([], "/").splitlines() if line.startswith("# ") and " = " in line
    }
    service, port = (read_schema()["definitions"][name]["properties"] for name in ("service", "port"))
    assert keys <= service.keys() | port.keys() and len(keys) > 8


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        (["python", "-m", "http.server", "8000"], '["python", "-m", "http.server", "{port}"]'),
        (["serve", "-l", "tcp://0.0.0.0:8000", "18000", "80001"], '["serve", "-l", "tcp://0.0.0.0:{port}", "18000", "80001"]'),
        (["x", "--dir=/work/shop/data", "/work/shop-2/a", "/work/shop"], '["x", "--dir=data", "/work/shop-2/a", "/work/shop"]'),
        (["x", 'a"b\\c\t\x7f\U0001f600'], '["x", "a\\"b\\\\c\\u0009\\u007f\U0001f600"]'),
    ],
)
def test_a_command_has_the_placeholder_of_its_port(command, printed):
    text = print_example([RunningProgram(8000, command, "a")], "/work/shop")
    assert f"command = {printed}\n" in text


@given(st.lists(st.text(), min_size=1, max_size=4), st.text(max_size=20), st.integers(1, 65535))
def test_any_command_and_label_are_toml(command, label, port):
    programs = [RunningProgram(port, command, "a"), RunningProgram(port, command, label=label)]
    data = tomllib.loads(print_example(programs, "/"))
    assert len(data["services"]["a"]["command"]) >= 1 and data["ports"][0]["port"] == port
