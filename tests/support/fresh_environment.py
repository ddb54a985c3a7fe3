"""An environment like a reader's own: the real pip, without this package until a test installs it.

Nothing is downloaded. pip finds this clone's wheel and empty packages with the names of third-party programs; the dependencies of
these are those of the test environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = "jupyter_portproxy"
LAUNCHER = "#!{python}\nimport sys\nfrom {module} import {first}\nsys.exit({function}())\n"


class Fresh:
    """A virtual environment in a folder.

    Args:
        names: packages that pip finds besides this one. They have no content.
    """

    def __init__(self, folder: Path, names: Iterable[str] = ()) -> None:
        venv.create(folder, with_pip=True)
        self.folder, self.bin, self.python = folder, folder / "bin", folder / "bin" / "python"
        site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
        (site / "beside.pth").write_text(f"{_beside(folder / 'beside')}\n")
        for script in entry_points(group="console_scripts"):
            if script.dist is not None and script.dist.name not in (OURS, "pip"):
                launcher = self.bin / script.name
                first = script.attr.partition(".")[0]
                launcher.write_text(LAUNCHER.format(python=self.python, module=script.module, first=first, function=script.attr))
                launcher.chmod(0o755)
        self._packages = folder / "packages"
        self._packages.mkdir()
        for name in names:
            _empty_package(self._packages, name)

    @property
    def variables(self) -> dict[str, str]:
        """For commands that are to run in it."""
        found = f"{wheel().parent} {self._packages}"
        pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": found, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        pip["PIP_NO_WARN_CONFLICTS"] = "1"  # a look at all packages of the tests' environment, after each installation
        return {**pip, "PATH": f"{self.bin}:{os.environ['PATH']}", "VIRTUAL_ENV": str(self.folder)}

    def run(self, command: str, cwd: Path | None = None) -> str:
        """What a shell's command prints; it must succeed, and pip must not merely warn."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], env={**os.environ, **self.variables}, cwd=cwd, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0 and "does not provide the extra" not in done.stdout, done.stdout
        return done.stdout

    def forget(self) -> None:
        """This package is not installed any more."""
        self.run(f"pip uninstall --yes {OURS}")


@cache
def wheel() -> Path:
    """This clone's, built once for all tests of a process: files of tests run side by side."""
    return built(ROOT, ROOT / "build" / f"wheel-of-the-tests-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}")


def built(project: Path, folder: Path) -> Path:
    """The wheel of a project; its build system is the one in the environment of the tests."""
    for old in folder.glob("*.whl"):
        old.unlink()
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def _beside(folder: Path) -> Path:
    """The packages of the tests' environment, without this one: it would count as installed."""
    folder.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if OURS not in path.name and path.suffix != ".pth" and not path.name.startswith("pip"):
            (folder / path.name).symlink_to(path)
    return folder


def _empty_package(folder: Path, name: str) -> None:
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{module}-1.0-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
