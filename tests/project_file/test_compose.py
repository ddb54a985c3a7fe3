import pytest

from .conftest import print_notes, print_ports, print_problems

EXAMPLE = """
services:
  web:
    image: nginx
    ports:
      - "8080:80"
      - "127.0.0.1:8443:443/tcp"
      - "[::1]:9000:9000"
      - target: 3000
        published: "3010"
        name: front end
        app_protocol: HTTPS
    labels:
      portproxy.on-appear: open-once
      portproxy.8080.label: Site
      portproxy.8080.keep-host: true
  db:
    image: postgres
    ports:
      - 5432:5432
    labels: ["portproxy.protocol=tcp", "other=1"]
  pool:
    ports: ["7000-7010:7000-7010", "8000-8010:80"]
  hidden:
    expose: [9999]
    ports:
      - 3000
      - "53:53/udp"
      - "192.168.0.5:81:80"
      - "127.0.0.1::82"
  debug:
    profiles: [tools]
    ports: ["9229:9229"]
  host:
    network_mode: host
    ports: ["1:1"]
"""


def test_published_ports_are_read(read_files):
    result = read_files({"compose.yaml": EXAMPLE})
    assert result.problems == () and dict(result.templates) == {}
    assert print_ports(result) == [
        "8080 'Site' open_once keep_host",
        "8443 'web (443)' open_once",
        "9000 'web (9000)' open_once",
        "3010 'front end' open_once https",
        "5432 'db' tcp",
        "7000-7010 'pool (7000-7010)'",
        "8000-8010 'pool (80)'",
    ]
    chosen = "Compose chooses the port of this machine when it starts the service"
    assert print_notes(result) == [
        "compose.yaml:24 'expose' of 'hidden' is left out: those ports are for other containers.",
        f"compose.yaml:27 The port '3000' of 'hidden' is left out: {chosen}.",
        "compose.yaml:28 The port '53' of 'hidden' is left out: UDP is not proxied.",
        "compose.yaml:29 The port '80' of 'hidden' is left out: "
        "it is published at 192.168.0.5 alone, and not at this machine's loopback.",
        f"compose.yaml:30 The port '82' of 'hidden' is left out: {chosen}.",
        "compose.yaml:31 The service 'debug' is left out: it is of 'tools', a profile that is not started by default.",
        "compose.yaml:36 The ports of 'host' are left out: with 'network_mode: host' a service publishes none.",
    ]


def test_variables_and_profiles_come_from_env(read_files):
    text = "services: {a: {profiles: [x], ports: ['${PORT:-3000}:80', '${OTHER}:81', '$NONE:82']}}"
    result = read_files({"compose.yaml": text, ".env": "OTHER=4000\nCOMPOSE_PROFILES=y, x\n"})
    assert [rule.ports for rule in result.ports] == ["3000", "4000"]
    assert print_notes(result)[-1] == "compose.yaml: The variable NONE is not set in .env, and counts as empty."
    changed = read_files({".env": "OTHER=5000\nCOMPOSE_PROFILES=*\n"})
    assert [rule.ports for rule in changed.ports] == ["3000", "5000"]
    assert changed.digest != result.digest


def test_an_env_that_cannot_be_read_is_one_problem_with_its_line(read_files):
    files = {"compose.yaml": "services: {a: {ports: ['${PORT:-3000}:80']}}", "Procfile": "web: x", ".env": "A=1\nnot a line"}
    result = read_files(files)
    message = "It has no variables that can be read: line 2: it is not of the form KEY=VALUE."
    assert print_problems(result) == [f".env:2 : {message}"]
    assert [rule.ports for rule in result.ports] == ["3000"]


@pytest.mark.parametrize(
    ("names", "read", "left_out"),
    [
        (
            ["docker-compose.yaml", "docker-compose.yml", "compose.yml"],
            ["compose.yml"],
            ["docker-compose.yml", "docker-compose.yaml"],
        ),
        (["docker-compose.yaml", "docker-compose.yml"], ["docker-compose.yml"], ["docker-compose.yaml"]),
        (["compose.yaml", "docker-compose.override.yml"], ["compose.yaml", "docker-compose.override.yml"], []),
        (["docker-compose.override.yml", "Procfile"], [], []),
    ],
)
def test_which_files_are_read(read_files, names, read, left_out):
    result = read_files(dict.fromkeys(names, "services: {}"))
    assert [source.path for source in result.sources if source.kind == "compose.yaml"] == read
    notes = [note for note in print_notes(result) if "Procfile" not in note]
    assert notes == [f"{name}: {name} is left out: Compose reads {read[0]}." for name in left_out]


def test_env_may_name_other_files(read_files):
    files = {".env": "COMPOSE_FILE=a.yml:sub/b.yml", "a.yml": "services: {a: {ports: ['1:1']}}", "compose.yaml": EXAMPLE}
    result = read_files({**files, "sub/b.yml": "services: {a: {ports: ['2:2']}}"})
    assert [rule.ports for rule in result.ports] == ["1", "2"]
    outside = read_files({".env": "COMPOSE_FILE=../x.yml"})
    assert print_problems(outside) == [".env: COMPOSE_FILE: '../x.yml' is outside of the folder."]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("- 1", ["1 : It is not a mapping of keys to values."]),
        ("services:\n  a:\n    ports: [x, 1.5, '1:2:3:4:x', '9-1', '70000:1', '1-3:1-2', '2:2']", None),
        (
            "services:\n  a:\n    ports:\n    - '1-3:1-2'\n    - '70000:1'\n    - '2:2'",
            [
                "4 services.a.ports: The two ranges of '1-3:1-2' have different lengths.",
                "5 services.a.ports: Invalid ports: '70000'.",
            ],
        ),
        ("services: [a]", ["1 services: 'services' is not a mapping: ['a']."]),
        (
            "version: '3'\nweb:\n  ports: ['1:1']\nx-y: 1\n",
            ["2 web: There is no key 'web' at the top level; services are below 'services'."],
        ),
        (
            "services:\n  a: {ports: '1:1'}\n  b: {ports: {1: 1}}\n  c: {ports: ['2:2']}",
            ["2 services.a.ports: 'ports' is not a list: '1:1'.", "3 services.b.ports: 'ports' is not a list: {'1': 1}."],
        ),
        ("services:\n  a: 3\n  b: {ports: ['2:2']}", ["2 services.a: The service 'a' is not a mapping: 3."]),
        (
            "services:\n  a: {ports: ['2:2']}\n  a: {ports: ['3:3']}",
            ["3 services.a: 'a' is there twice; the first one counts."],
        ),
        (
            "services:\n  a:\n    ports: ['${PORT?set it}:80', '2:2']",
            ["3 services.a.ports: The variable PORT is not set: set it."],
        ),
        (
            "services:\n  a:\n    ports: ['2:2']\n    labels:\n      portproxy.lable: x\n      portproxy.3.label: x\n"
            "      portproxy.keep-host: perhaps\n      portproxy.on-appear: shout",
            [
                "5 services.a.labels: There is no label 'portproxy.lable'.",
                "7 services.a.labels: 'portproxy.keep-host' is 'perhaps'.",
                "3 services.a.ports: Invalid on_appear: 'shout'.",
                "2 services.a.labels: A label is for the port 3, which 'a' does not publish.",
            ],
        ),
        ("services:\n  a:\n    ports: ['2:2']\n    labels: {portproxy.label: \"\\a\"}", None),
    ],
)
def test_a_wrong_entry_is_left_out_and_the_rest_is_read(read_files, text, problems):
    result = read_files({"compose.yaml": text})
    if problems is not None:
        assert print_problems(result) == [f"compose.yaml:{line}" for line in problems]
    assert result.problems and all(problem.message.endswith(".") for problem in result.problems)
    if "'2:2'" in text and "labels" not in text:
        assert [rule.ports for rule in result.ports] == ["2"]


def test_a_label_may_be_for_a_port_within_a_published_range(read_files):
    labels = [
        "label=Pool",
        "3001.label=First",
        "3001.scheme=https",
        "3003-3004.on-appear=silent",
        "3005.label=Own",
        "3000-3006.label=X",
    ]
    text = f"services: {{a: {{ports: ['3000-3005:80', '3005:81'], labels: {[f'portproxy.{label}' for label in labels]}}}}}"
    result = read_files({"compose.yaml": text})
    assert print_ports(result) == ["3001 'First' https", "3005 'Own'", "3000-3005 'Pool'", "3003-3004 'Pool' silent"]
    assert print_problems(result) == [
        "compose.yaml:1 services.a.labels: A label is for the port 3000-3006, which 'a' does not publish."
    ]


def test_a_later_file_may_have_the_same_port_with_other_attributes(read_files):
    long = "{target: 80, published: 8080, name: Shop, app_protocol: http}"
    result = read_files(
        {"compose.yaml": "services: {a: {ports: ['8080:80']}}", "compose.override.yml": f"services: {{a: {{ports: [{long}]}}}}"}
    )
    assert print_ports(result) == ["8080 'Shop' http"]
