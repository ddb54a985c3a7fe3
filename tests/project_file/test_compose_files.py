import pytest

from ..support.cpu_time import takes_at_most
from .conftest import print_notes, print_ports, print_problems


def ports(result):
    return [f"{rule.ports} {rule.label}" for rule in result.ports]


def test_an_override_adds_replaces_and_resets(read_files):
    base = "services: {a: {ports: ['1:1']}, b: {ports: ['2:2']}, c: {ports: ['3:3']}, d: {}}"
    override = "services: {a: {ports: ['11:1']}, b: {ports: !override ['22:2']}, c: {ports: !reset []}, e: {ports: ['5:5']}}"
    result = read_files({"compose.yaml": base, "compose.override.yaml": override})
    assert [rule.ports for rule in result.ports] == ["1", "11", "22", "5"]


def test_a_service_extends_another(read_files):
    files = {
        "compose.yaml": """
services:
  base: {ports: ['1:1'], labels: {portproxy.scheme: https}, profiles: [never]}
  near: {extends: base, ports: ['2:2'], labels: {portproxy.label: Near}}
  far: {extends: {file: other/common.yml, service: app}}
""",
        "other/common.yml": "services: {app: {extends: {service: root}}, root: {ports: ['3:3']}, unused: {ports: ['4:4']}}",
    }
    result = read_files({**files, ".env": "COMPOSE_PROFILES=never"})
    assert print_ports(result) == ["1 'base' https", "2 'Near' https", "3 'far'"]
    assert [source.path for source in result.sources] == ["compose.yaml", "other/common.yml"]


def test_other_applications_are_included(read_files):
    files = {
        "compose.yaml": """
include: [db/compose.yaml, {path: [more/a.yml, more/b.yml], env_file: more.env}]
services: {a: {ports: ['1:1']}}
""",
        "db/compose.yaml": "include: [deep/x.yml]\nservices: {db: {ports: ['${PORT}:2']}}",
        "db/.env": "PORT=2222",
        "db/deep/x.yml": "services: {x: {ports: ['3:3']}}",
        "more/a.yml": "services: {m: {ports: ['${MORE}:4']}}",
        "more/b.yml": "services: {m: {ports: ['5:5']}}",
        "more.env": "MORE=4444",
    }
    result = read_files(files)
    assert sorted(rule.ports for rule in result.ports) == ["1", "2222", "3", "4444", "5"]
    assert result.problems == () and result.notes == ()
    assert {*result.watched} >= {"db/.env", "more.env", "db/deep/x.yml"}


def test_what_is_elsewhere_is_not_included(read_files):
    items = ["https://github.com/a/b.git", "oci:example.org/x", "git@example.org:x", "../x.yml", "gone.yml", "{env_file: x}"]
    result = read_files({"compose.yaml": f"include: [{', '.join(items)}]\nservices: {{a: {{ports: ['1:1']}}}}"})
    assert [rule.ports for rule in result.ports] == ["1"]
    assert print_notes(result) == [f"compose.yaml:1 '{item}' is left out: it is not in this folder." for item in items[:3]]
    assert print_problems(result) == [
        "compose.yaml:1 include[3]: '../x.yml' is left out: '../x.yml' is outside of the folder.",
        "gone.yml: : It cannot be read: No such file or directory.",
        "compose.yaml:1 include[5]: {'env_file': 'x'} has no path.",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "services:\n  a: {extends: b}\n  b: {extends: a, ports: ['1:1']}",
            "3 services.b.extends: 'extends' is a cycle: a -> b -> a.",
        ),
        ("services:\n  a: {extends: a}", "2 services.a.extends: 'extends' is a cycle: a -> a."),
        ("services:\n  a: {extends: gone}", "2 services.a.extends: 'extends' names 'gone', which compose.yaml does not have."),
        ("services:\n  a: {extends: 3}", "2 services.a.extends: 'extends' is 3."),
        (
            "services:\n  a: {extends: {file: ../x, service: b}}",
            "2 services.a.extends: 'extends' cannot be read: '../x' is outside of the folder.",
        ),
    ],
)
def test_what_cannot_be_extended_is_a_problem(read_files, text, problem):
    assert f"compose.yaml:{problem}" in print_problems(read_files({"compose.yaml": text}))


def test_a_name_of_two_applications_is_that_of_the_first(read_files):
    files = {"compose.yaml": "include: [b.yml]\nservices: {a: {ports: ['1:1']}}", "b.yml": "services:\n  a: {ports: ['2:2']}"}
    result = read_files(files)
    assert ports(result) == ["1 a"]
    assert print_problems(result) == ["b.yml:2 services.a: The service 'a' is there already; that of b.yml is left out."]


def test_many_applications_that_include_each_other_take_no_time(read_files):
    names = [f"{number}.yml" for number in range(100)]
    text = f"include: [{', '.join(names)}]\nservices: {{}}"
    with takes_at_most(1):
        read_files({"compose.yaml": text, **dict.fromkeys(names, text)})


def test_many_services_with_the_same_ports_take_no_time(read_files):
    shared = "x-ports: &ports [" + ", ".join(f"'{port}:{port}'" for port in range(1, 15_000)) + "]\nservices:\n"
    services = "".join(
        f"  s{number}: {{ports: *ports{f', extends: s{number - 1}' if number else ''}}}\n" for number in range(1000)
    )
    with takes_at_most(1):
        result = read_files({"compose.yaml": shared + services})
    assert len(result.ports) == 200
    assert "services: There are more than 200 services; the others are not read." in "".join(print_problems(result))


def test_several_documents_are_merged(read_files):
    result = read_files({"compose.yaml": "services: {a: {ports: ['1:1']}}\n---\nservices: {a: {ports: ['2:2']}}\n"})
    assert [rule.ports for rule in result.ports] == ["1", "2"]
