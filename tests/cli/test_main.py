"""The parser of `jupyter portproxy`, and what it does without a command."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from ..support.jupyter_processes import environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")


def test_without_a_command_it_shows_what_runs_and_the_commands_in_groups(server, run):
    run("start", "web", "--name", "mine")
    code, output, errors = run()
    assert (code, errors, output.splitlines()[0]) == (0, "", f"Jupyter server: {server.url.replace('127.0.0.1', 'localhost')}")
    assert re.search(r"^mine +up +[0-9]+ .*/proxy/service/mine/", output, re.MULTILINE)
    _, users, operators = re.split(r"^Commands:\n|^For the operators of hubs and project hosts:\n", output, flags=re.MULTILINE)
    assert "  start        Start a service from a template" in users and "  check " in users and "move" not in users
    assert "  move         Put a project on another host.\n" in operators and "  run-project " in operators
    assert users in run("--help")[1] and operators in run("--help")[1]


def test_without_a_command_and_a_server_it_says_so_and_is_no_error(home):
    """Also where `jupyter` is not on the PATH: by the module's own name."""
    program = [sys.executable, "-m", "jupyter_portproxy"]
    more = {**environment(home), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(program, env=more, cwd=home, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr, done.stdout.splitlines()[0]) == (0, "", "No Jupyter server of yours runs here.")
    assert "  start        Start a service from a template" in done.stdout


def test_a_help_text_imports_nothing_that_it_does_not_need(home):
    """On two cores it takes 80 ms, through `jupyter` 130 ms: with these, four times as long."""
    code = (
        "import sys\nfrom jupyter_portproxy.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    print(' '.join(sorted(sys.modules)))"
    )
    heavy = {
        "asyncio",
        "importlib.metadata",
        "jupyter_core",
        "jupyter_server",
        "psutil",
        "ssl",
        "tornado",
        "traitlets",
        "urllib.request",
    }
    for words in (["--help"], ["start", "--help"], ["projects", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], env=environment(home), capture_output=True, text=True, check=True
        )
        assert "argparse" in (modules := done.stdout.splitlines()[-1].split()) and not heavy & {*modules}, words


def _shell(home, command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of a shell in which `$P` is `jupyter portproxy`."""
    program = f"{sys.executable} -m jupyter_portproxy"
    variables = environment(home, {"P": program, **more})
    return subprocess.run(["sh", "-c", command], env=variables, cwd=home, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_cannot_be_written_is_one_sentence(home, unbuffered):
    (home / "portproxy.toml").write_text("version = 1\n")
    if sys.platform == "linux":
        done = _shell(home, "$P project > /dev/full", PYTHONUNBUFFERED=unbuffered)
        assert (done.returncode, done.stderr) == (1, "The output cannot be written: No space left on device.\n")
    done = _shell(home, "$P project | true", PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (0, "")


def test_standard_streams_may_be_closed(server, run, home):
    """As of a service manager. A socket that gets the number of one would get what is printed."""
    run("start", "web")
    for command in ("list", "logs web", "templates", "check 1"):
        done = _shell(home, f"$P {command} <&- >&-")
        assert (done.returncode, done.stderr) == (int(command == "check 1"), ""), command
    (home / "portproxy.toml").write_text('[services.one]\ncommand = ["true"]\n')
    assert "which you have not allowed: allow it at a terminal, or with --yes." in _shell(home, "$P up <&-").stderr
    done = _shell(home, "$P login http://127.0.0.1:1/ <&-")
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "The token is empty.")


def test_what_the_locale_cannot_print_is_an_escape(home):
    folder = home / "r\u00e4um"
    folder.mkdir()
    (folder / "portproxy.toml").write_text('[[ports]]\nport = 3000\nlabel = "\u041f"\n')
    done = _shell(home, f"$P project {folder}", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "") and "r\\xe4um: portproxy.toml" in done.stdout
    assert "port 3000 is called '\\u041f'" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_path_or_name_that_is_no_text_is_one_sentence(server, home):
    for command in ('mkdir "$N" && cd "$N" && $P up', '$P stop "$N"', '$P url "$N"', '$P await "$N"'):
        done = _shell(home, f"N=$(printf 'x\\377'); {command}")
        assert done.returncode == 1 and re.fullmatch(r"'.*x\\udcff' is not UTF-8 text\.\nRename it\.\n", done.stderr), command


@pytest.mark.parametrize(
    "command",
    ["start", "restart", "stop", "logs", "reserve", "url", "open", "await", "check", "check --page", "watch", "detach", "up",
     "down", "up --yes", "down shop", "project", "project init", "allow"],
)  # fmt: skip
def test_an_empty_argument_is_refused_and_does_not_mean_the_default(home, command):
    """As of a variable of the shell that is not set: `down "$NAME"` would stop all services of the folder."""
    done = _shell(home, f'$P {command} "$UNSET"')
    assert done.returncode == 2 and not done.stdout, done.stdout
    expected = "'' is not a port" if command == "allow" else "is empty: is a variable of the shell not set?"
    assert expected in done.stderr.splitlines()[-1]


def test_a_number_of_seconds_that_is_none_is_a_sentence(home):
    done = _shell(home, "$P reserve x --seconds abc")
    assert done.returncode == 2 and done.stderr.endswith(
        "argument --seconds: 'abc' is not a number of seconds, for example 600\n"
    )
