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
