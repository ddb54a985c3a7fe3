import pytest

from jupyter_portproxy.services.template_keys import NAME_HINT

from .conftest import print_notes, print_problems

EXAMPLE = """# The processes of the shop
web: gunicorn shop.wsgi --bind 0.0.0.0:$PORT --log-file - # comment of the shell
worker:celery -A shop worker
api: uvicorn api:app --port ${PORT:-5000}
awk: awk '{print $1}' log/x
release: ./manage.py migrate
"""


def test_web_and_what_has_a_port_are_services_and_the_rest_workers(read_files):
    result = read_files({"Procfile": EXAMPLE})
    templates = result.templates
    assert list(templates) == ["web", "worker", "api", "awk"]
    assert [each.protocol for each in templates.values()] == ["http", "none", "http", "none"]
    assert [each.ready for each in templates.values()] == ["tcp", "started", "tcp", "started"]
    assert [dict(each.environment) for each in templates.values()] == [{"PORT": "{port}"}, {}, {"PORT": "{port}"}, {}]
    assert {each.environment_file for each in templates.values()} == {""}
    assert print_notes(result) == ["Procfile:6 'release' is left out: it runs before a deployment, and not with the app."]
    assert result.problems == () and result.ports == ()


def test_a_shell_gets_the_command_as_it_is(read_files):
    templates = read_files({"Procfile": EXAMPLE}).templates
    values = {"port": "4000"}
    assert templates["awk"].expand(values)[0] == ["sh", "-c", "awk '{print $1}' log/x"]
    assert templates["api"].expand(values)[:2] == (["sh", "-c", "uvicorn api:app --port ${PORT:-5000}"], {"PORT": "4000"})
    assert templates["worker"].expand(values)[0] == ["sh", "-c", "celery -A shop worker"]


def test_variables_come_from_env_if_it_is_there(read_files):
    result = read_files({"Procfile": "web: x", ".env": "A=1"})
    assert result.templates["web"].environment_file == ".env"
    changed = read_files({".env": "A=2"})
    assert changed.digest != result.digest


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"A=1\nB=\xff", ".env:2 : It has no variables that can be read: line 2: it is not UTF-8."),
        (b"A", ".env:1 : It has no variables that can be read: line 1: it is not of the form KEY=VALUE."),
        (b"#" * (300 << 10), ".env: : It has 300 KiB; at most 256 KiB are read."),
    ],
)
def test_an_env_that_cannot_be_read_is_a_problem_of_its_own(read_files, content, problem):
    result = read_files({"Procfile": "web: x", ".env": content})
    assert print_problems(result) == [problem]
    assert result.templates["web"].environment_file == ""


@pytest.mark.parametrize(
    ("text", "problems", "notes", "names"),
    [
        ("web: a\r\nweb: b\r\n", ["2 web: The process 'web' is there in line 1 already."], [], ["web"]),
        ("Web: a\nweb: b", ["2 web: The process 'web' differs from 'Web' only in upper and lower case."], [], ["Web"]),
        ("_x: a\nweb: b", [f"1 _x: The process '_x' is left out: Invalid template name: '_x'. {NAME_HINT}"], [], ["web"]),
        ("web: a\0b\nw: x", ["1 web: The process 'web' is left out: 'command' must be a text: 'a\\x00b'."], [], ["w"]),
        ("<<<<<<< HEAD\nweb: a", [], ["1 '<<<<<<< HEAD' is not of the form NAME: COMMAND, and left out."], ["web"]),
        ("web:\n\n// c\n", [], ["1 'web:' is not of the form NAME: COMMAND, and left out."], []),
        ("", [], [], []),
    ],
)  # fmt: skip
def test_a_wrong_line_is_left_out_and_the_rest_is_read(read_files, text, problems, notes, names):
    result = read_files({"Procfile": text})
    assert print_problems(result) == [f"Procfile:{line}" for line in problems]
    assert print_notes(result) == [f"Procfile:{line}" for line in notes]
    assert list(result.templates) == names


def test_there_are_at_most_a_hundred_processes(read_files):
    result = read_files({"Procfile": "".join(f"p{number}: x\n" for number in range(200))})
    assert print_problems(result) == ["Procfile:101 : There are more than 100 processes."]
    assert len(result.templates) == 100
