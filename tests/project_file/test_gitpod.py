import pytest

from .conftest import print_notes, print_ports, print_problems

EXAMPLE = """
image: gitpod/workspace-full
tasks:
  - init: npm install
    command: npm start
ports:
  - port: 3000
    onOpen: open-browser
    name: Front end
    visibility: public
  - port: 3306
    onOpen: ignore
  - port: 9000-9999
    onOpen: ignore-completely
  - port: "4000:4010"
    onOpen: open-preview
    description: Previews
    visibility: private
  - port: 8443
    protocol: https
  - port: 8080
    protocol: http
  - port: 5432
    protocol: TCP
    onOpen: notify
  - port: 53
    protocol: UDP
"""


def test_ports_are_read(read_files):
    result = read_files({".gitpod.yml": EXAMPLE})
    assert print_ports(result) == [
        "3000 'Front end' open",
        "3306 silent",
        "8443 https",
        "8080",
        "5432 notify tcp",
        "9000-9999 ignore",
        "4000-4010 'Previews' preview",
    ]
    assert result.problems == () and dict(result.templates) == {}
    assert print_notes(result) == [
        ".gitpod.yml:3 'tasks' is left out: only 'ports' is read, and no command of this file is run.",
        ".gitpod.yml:2 'image' is left out: only 'ports' is read, and no command of this file is run.",
        ".gitpod.yml:10 'visibility: public' of 3000 is left out: a folder shares nothing.",
        ".gitpod.yml:27 The port 53 is left out: UDP is not proxied.",
    ]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("- 1", [" : It is not a mapping of keys to values."]),
        ("ports: 3000", ["1 ports: 'ports' is not a list: 3000."]),
        ("ports: [3000]", ["1 ports[0]: 3000 has no 'port'."]),
        ("ports:\n- port: 70000\n- port: 1", ["2 ports[0]: Invalid ports: '70000'."]),
        ("ports:\n- port: 1\n  onopen: notify", ["3 ports[0].onopen: There is no key 'onopen' for a port."]),
        ("ports:\n- port: 1\n  onOpen: shout", ["3 ports[0].onOpen: 'onOpen' is 'shout'."]),
        ("ports:\n- port: 1\n  onOpen: []", ["3 ports[0].onOpen: 'onOpen' is []."]),
        ("ports:\n- port: 1\n  protocol: 5", ["3 ports[0].protocol: 'protocol' is 5."]),
        ("ports:\n- port: 1\n  protocol: ftp", ["3 ports[0].protocol: 'protocol' is 'ftp'."]),
        ("ports: &a\n- port: *a\n- port: 1", ["2 : '*a' in line 2 is within what it stands for."]),
        ('ports:\n- port: 1\n  name: "\\e[31m"', ["2 ports[0]: The label '\\x1b[31m' has a control character."]),
        ("ports: [{port: 1}]\nports: [{port: 2}]", ["2 ports: 'ports' is there twice; the first one counts."]),
    ],
)
def test_a_wrong_entry_is_left_out_and_the_rest_is_read(read_files, text, problems):
    result = read_files({".gitpod.yml": text})
    assert print_problems(result) == [f".gitpod.yml:{line}" for line in problems]
    assert all(problem.hint for problem in result.problems)


def test_a_port_counts_before_a_range_and_the_first_range_before_others(read_files):
    text = "ports: [{port: 3000-4000, onOpen: ignore}, {port: 3500-3501, name: x, onOpen: notify}, {port: 3001, onOpen: notify}]"
    assert print_ports(read_files({".gitpod.yml": text})) == [
        "3000 silent",
        "3001 notify",
        "3002-3499 silent",
        "3500-3501 'x' silent",
        "3502-4000 silent",
    ]


@pytest.mark.parametrize("text", ["", "---", "ports:", "tasks: []"])
def test_a_file_without_ports_has_no_entries(read_files, text):
    result = read_files({".gitpod.yml": text})
    assert (result.ports, result.problems) == ((), ())


def test_a_wrong_key_leaves_the_rest_of_its_entry(read_files):
    result = read_files({".gitpod.yml": "ports:\n- port: 1\n  name: One\n  onopen: notify\n"})
    assert print_ports(result) == ["1 'One'"]
    assert result.problems[0].hint == "Did you mean 'onOpen'?"
