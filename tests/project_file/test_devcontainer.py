import json

import pytest

from jupyter_portproxy.project_file.devcontainer import widen_pattern

from .conftest import print_notes, print_ports, print_problems

FILE = ".devcontainer/devcontainer.json"
EXAMPLE = """// of a web application
{
  "name": "Shop",
  "forwardPorts": [3000, "db:5432", "localhost:9000", 8000,],
  "appPort": ["8080:80", 9229, "127.0.0.1:7000:7001/tcp"],
  "portsAttributes": {
    "3000": { "label": "${localWorkspaceFolderBasename} front", "onAutoForward": "openBrowserOnce", "requireLocalPort": true },
    "40000-55000": { "onAutoForward": "ignore" },
    ".+\\\\/server.js": { "label": "Server", "onAutoForward": "openPreview" },
    "db:5432": { "label": "Database" },
    "8443": { "protocol": "https", "onAutoForward": "silent", "elevateIfNeeded": false },
  },
  "postCreateCommand": "npm install",
  "postStartCommand": "npm start",
}
"""


def test_ports_are_read(read_files, tmp_path):
    result = read_files({FILE: EXAMPLE})
    assert result.problems == () and dict(result.templates) == {}
    assert print_ports(result) == [
        f"3000 '{tmp_path.name} front' open_once pinned",
        "8443 silent https",
        "9000 pinned",
        "8000 pinned",
        "80 pinned",
        "9229 pinned",
        "7001 pinned",
        "40000-55000 ignore",
        ".+\\/server.js 'Server' preview",
    ]
    assert print_notes(result) == [
        f"{FILE}:4 'db:5432' is left out: it is a port of another container.",
        f"{FILE}:7 'requireLocalPort' of 3000 is left out: the browser's machine gets no port.",
        f"{FILE}:10 'db:5432' is left out: it is a port of another container.",
        f"{FILE}:13 'postCreateCommand' and 'postStartCommand' are left out: no command of this file is run.",
    ]


def read(read_files, **data):
    return read_files({".devcontainer.json": json.dumps(data)})


@pytest.mark.parametrize(
    ("action", "on_appear"),
    [
        ("notify", "notify"),
        ("openBrowser", "open"),
        ("openBrowserOnce", "open_once"),
        ("openPreview", "preview"),
        ("silent", "silent"),
        ("ignore", "ignore"),
    ],
)
def test_what_happens_when_a_port_appears(read_files, action, on_appear):
    result = read(read_files, portsAttributes={"3000": {"onAutoForward": action}})
    assert print_ports(result) == [f"3000 {on_appear}"]


def test_the_container_itself_may_be_named(read_files):
    result = read(read_files, service="app", forwardPorts=["app:3000", "127.0.0.1:4000", "${localEnv:PORT:5000}"])
    assert print_ports(result) == ["3000 pinned", "4000 pinned", "5000 pinned"]


def test_other_ports_are_those_without_attributes(read_files):
    attributes = {"3000": {"label": "Web"}, "8000-8999": {"label": "API"}}
    result = read(read_files, portsAttributes=attributes, otherPortsAttributes={"onAutoForward": "silent"}, forwardPorts=[5432])
    assert print_ports(result) == [
        "3000 'Web'",
        "5432 pinned",
        "8000-8999 'API'",
        "1-2999 silent",
        "3001-7999 silent",
        "9000-65535 silent",
    ]


def test_next_to_patterns_other_ports_have_a_pattern(read_files):
    attributes = {"vite": {"onAutoForward": "openBrowser"}, "3000": {"label": "Web"}, "flask": {"label": "Flask"}}
    result = read(read_files, portsAttributes=attributes, otherPortsAttributes={"onAutoForward": "ignore", "protocol": "https"})
    assert print_ports(result) == [
        "3000 'Web' notify",
        "1-2999 https",
        "3001-65535 https",
        "vite open",
        "flask 'Flask' notify",
        ". ignore",
    ]


def test_of_ranges_that_overlap_the_first_port_decides(read_files):
    attributes = {"3100-3200": {"label": "inner"}, "3000-3999": {"label": "outer"}, "3150": {"label": "port"}}
    result = read(read_files, portsAttributes=attributes)
    assert print_ports(result) == ["3000-3149 'outer'", "3150 'port'", "3151-3999 'outer'"]


@pytest.mark.parametrize(
    ("pattern", "wide"),
    [("^node .*x", "^(?:[^ ]+ )?node .*x"), ("node", "node"), ("^a|b", "^a|b"), (".+/server.js", ".+/server.js")],
)
def test_the_start_of_a_command_line_is_after_the_name_of_the_process(pattern, wide):
    assert widen_pattern(pattern) == wide


@pytest.mark.parametrize(
    ("text", "problems", "ports"),
    [
        ("[]", [" : It is not an object of keys and values."], []),
        ('{"forwardPorts": 3000}', ["1 forwardPorts: 'forwardPorts' is not a list: 3000."], []),
        (
            '{"forwardPorts": [true, "x", 70000, 0, 1]}',
            [
                "1 forwardPorts[0]: True is not a port.",
                "1 forwardPorts[1]: 'x' is not a port.",
                "1 forwardPorts[2]: Invalid ports: '70000'.",
                "1 forwardPorts[3]: Invalid ports: '0'.",
            ],
            ["1 pinned"],
        ),
        ('{"portsAttributes": []}', ["1 portsAttributes: 'portsAttributes' is not an object: []."], []),
        ('{"portsAttributes": {"1": 2}}', ["1 portsAttributes.1: 2 is not an object."], ["1"]),
        (
            '{"portsAttributes": {\n"1": {\n"lable": "x",\n"onAutoForward": "open",\n"protocol": "tcp",\n"label": "One"}}}',
            [
                "3 portsAttributes.1.lable: There is no attribute 'lable' of a port.",
                "4 portsAttributes.1.onAutoForward: 'onAutoForward' is 'open'.",
                "5 portsAttributes.1.protocol: 'protocol' is 'tcp'.",
            ],
            ["1 'One'"],
        ),
        (
            '{"portsAttributes": {"(?=a)": {"label": "x"}, "9-1": {}, "2": {"label": 3}, "1": {}}}',
            [
                "1 portsAttributes.2: Invalid label: '3'.",
                "1 portsAttributes.9-1: Invalid ports: '9-1'.",
                "1 portsAttributes.(?=a): The pattern '(?=a)' has '(?='.",
            ],
            ["1"],
        ),
        (
            '{"portsAttributes": {"1": {"label": "a\\u202eb"}}}',
            ["1 portsAttributes.1: The label 'a\\u202eb' has a control character."],
            [],
        ),
    ],
)
def test_a_wrong_entry_is_left_out_and_the_rest_is_read(read_files, text, problems, ports):
    result = read_files({".devcontainer.json": text})
    assert print_problems(result) == [f".devcontainer.json:{line}" for line in problems]
    assert print_ports(result) == ports
    assert all(problem.hint for problem in result.problems)


def test_sharing_is_left_out(read_files):
    result = read(read_files, portsAttributes={"1": {"visibility": "public"}, "2": {"visibility": "private"}})
    assert print_notes(result) == [".devcontainer.json:1 'visibility' of 1 is left out: a folder shares nothing."]


def test_which_file_is_read(read_files):
    result = read_files({".devcontainer.json": '{"forwardPorts": [1]}'})
    assert print_ports(result) == ["1 pinned"]
    result = read_files({FILE: '{"forwardPorts": [2]}'})
    assert print_ports(result) == ["2 pinned"]
    result = read_files({".devcontainer/other/devcontainer.json": "{}"})
    assert [source.path for source in result.sources] == [FILE]


def test_the_only_file_in_a_folder_of_its_own_is_read(read_files):
    result = read_files({".devcontainer/python/devcontainer.json": '{"forwardPorts": [1]}', ".devcontainer/library/x": ""})
    assert [(source.path, source.kind) for source in result.sources] == [
        (".devcontainer/python/devcontainer.json", "devcontainer.json")
    ]
    assert print_ports(result) == ["1 pinned"]


def test_of_several_files_none_is_read(read_files):
    paths = [f".devcontainer/{name}/devcontainer.json" for name in ("a", "b")]
    result = read_files(dict.fromkeys(paths, '{"forwardPorts": [1]}'))
    assert (result.sources, result.ports) == ((), ())
    assert print_notes(result) == [
        f"{paths[0]}: {', '.join(paths)} are left out, as each is a choice: copy one of them to {FILE}."
    ]


COMPOSE = """
services:
  app: {image: x, ports: ["3000:3000"], depends_on: [cache]}
  db: {image: postgres, ports: ["5432:5432"]}
  cache: {image: redis, ports: ["6379:6379"]}
"""


def test_the_files_of_compose_are_those_that_it_names(read_files):
    data = {"dockerComposeFile": ["../docker-compose.yml", "docker-compose.dev.yml"], "service": "app"}
    files = {
        FILE: json.dumps(data),
        "docker-compose.yml": COMPOSE,
        ".devcontainer/docker-compose.dev.yml": "services: {app: {ports: ['3001:3001']}}",
        "compose.yaml": "services: {other: {ports: ['1:1']}}",
    }
    result = read_files(files)
    assert [source.path for source in result.sources] == [FILE, "docker-compose.yml", ".devcontainer/docker-compose.dev.yml"]
    assert [rule.ports for rule in result.ports] == ["3000", "3001", "5432", "6379"]
    assert print_notes(result) == ["compose.yaml: compose.yaml is left out: devcontainer.json has other files."]


def test_only_the_services_that_run_are_read(read_files):
    data = {"dockerComposeFile": "compose.yaml", "service": "app", "runServices": ["app"]}
    result = read_files({".devcontainer.json": json.dumps(data), "compose.yaml": COMPOSE})
    assert [rule.ports for rule in result.ports] == ["3000", "6379"]
    assert print_notes(result) == ["compose.yaml:4 The service 'db' is left out: 'runServices' is without it."]


def test_a_file_of_compose_outside_is_a_problem(read_files):
    result = read_files({".devcontainer.json": '{"dockerComposeFile": "../x.yml", "forwardPorts": [1]}'})
    assert print_problems(result) == [".devcontainer.json: dockerComposeFile: '../x.yml' is outside of the folder."]
    assert print_ports(result) == ["1 pinned"]
