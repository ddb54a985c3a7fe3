"""`make versions`: the unit tests on the oldest and on the newest supported versions, each in an environment of its own.

Nothing is skipped. A missing interpreter, a version that does not install, or a failed test is an error, reported after the other
environments have been tested.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACE = ROOT / ".venv" / "versions"
INCUMBENT = ["jupyter-server-proxy", "hello-jupyter-proxy", "jupyter-www-proxy", "simpervisor"]


@dataclass(frozen=True)
class Row:
    """One environment: a Python, what is pinned in it, and options of pytest."""

    name: str
    python: str
    pins: tuple[str, ...]
    options: tuple[str, ...] = ()


# What today's jupyter_events says of an old jupyter_server's own schemas.
OLD_EVENTS = ("-W", "ignore::jupyter_events.utils.JupyterEventsVersionWarning")
ROWS = [
    Row("oldest", "3.10", ("tornado==6.5.*", "jupyter_server==2.7.*", "pycurl==7.45.7", "traitlets==5.6.*"), OLD_EVENTS),
    Row("newest", "3.13", ("tornado>=6.6", "jupyter_server>=2.21,<3")),
]


def candidates(version: str) -> Iterator[str]:
    """Where a Python of that version may be: on the PATH, at pyenv's, at uv's."""
    yield f"python{version}"
    yield sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from map(str, sorted(pyenv.glob(f"{version}.*/bin/python{version}"), reverse=True))
    if shutil.which("uv"):
        found = subprocess.run(["uv", "python", "find", version], capture_output=True, text=True, check=False)
        yield found.stdout.strip()


def interpreter(version: str) -> str:
    """A Python of that version which runs."""
    for candidate in candidates(version):
        path = shutil.which(candidate) if candidate else None
        if path is None:
            continue
        done = subprocess.run([path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True)
        if done.stdout.strip() == version:
            return path
    raise SystemExit(f"Python {version} is missing. Install it (for example: uv python install {version}) and try again.")


def install(row: Row, home: Path) -> Path:
    """The environment of a row, made anew; returns its Python."""
    shutil.rmtree(home, ignore_errors=True)
    base, python = interpreter(row.python), home / "bin" / "python"
    wanted = ["-e", ".[test]", *row.pins]
    if shutil.which("uv"):
        run(["uv", "venv", "--quiet", "--python", base, str(home)])
        pip = ["uv", "pip", "install", "--quiet", "--python", str(python)]
    else:
        run([base, "-m", "venv", str(home)])
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, *wanted])
    run([*pip, "--no-deps", "--target", str(home / "incumbent"), *INCUMBENT])
    (home / "chp").symlink_to(ROOT / ".venv" / "chp")  # JupyterHub's front: Node's, not Python's
    return python


def run(command: list[str], **more: str) -> None:
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, **more})


def check(row: Row) -> str:
    """Runs the unit tests of a row; returns what went wrong, or nothing."""
    home = PLACE / row.name
    print(f"== {row.name}: Python {row.python}, {', '.join(row.pins)}", flush=True)
    try:
        python = install(row, home)
        run([str(python), "-c", VERSIONS])
        run(
            [str(python), "-m", "pytest", "tests", "--ignore", "tests/ui", "-q", *row.options, *sys.argv[2:]],
            PATH=f"{home / 'bin'}:{os.environ['PATH']}",
        )
    except subprocess.CalledProcessError as error:
        return f"{row.name}: {' '.join(map(str, error.cmd))[:80]}: exit code {error.returncode}"
    return ""


VERSIONS = """
import sys
from importlib.metadata import version
print(sys.version.split()[0], *(f"{name} {version(name)}" for name in ("tornado", "jupyter_server", "pycurl", "traitlets")))
"""


def main() -> None:
    wanted = re.split(r"[, ]+", sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] else [row.name for row in ROWS]
    rows = [row for row in ROWS if row.name in wanted]
    for row in rows:
        interpreter(row.python)  # before anything is installed
    wrong = [problem for row in rows if (problem := check(row))]
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
