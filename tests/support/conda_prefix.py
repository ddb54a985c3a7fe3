"""A Python that runs from another folder, in the layout of a conda environment: a copy of the running one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"


def site_packages(prefix: Path) -> Path:
    return prefix / "lib" / f"python{MINOR}" / "site-packages"


def copy_python(prefix: Path) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    leave = shutil.ignore_patterns("site-packages", "dist-packages", "test", "__pycache__", "config-*")
    shutil.copytree(library, prefix / "lib" / library.name, symlinks=True, ignore=leave)
    (prefix / "bin").mkdir()
    shutil.copy2(Path(sys.executable).resolve(), prefix / "bin" / f"python{MINOR}")
    for name in ("python", "python3"):
        (prefix / "bin" / name).symlink_to(f"python{MINOR}")
    ask = [str(prefix / "bin" / "python"), "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
    if Path(packages) != site_packages(prefix):
        raise SystemExit(f"A copy of this Python puts packages into {packages}: make the environment with another one.")
