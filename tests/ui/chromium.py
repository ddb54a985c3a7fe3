"""The Chromium to test with. As a program, prints its path: the machine's, else Debian's package, else Playwright's download."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any


def launch_options(browser: Any) -> dict[str, Any]:
    """Arguments for `browser.launch()` of Playwright, which start Chromium with the features that its users have."""
    path = os.environ.get("CHROMIUM") or browser.executable_path
    wrapper = Path(__file__).with_name("partitioned.sh")
    return {"executable_path": wrapper, "args": ["--no-sandbox"], "env": {**os.environ, "CHROMIUM": path}}


def installed() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


def main() -> str:
    if found := installed():
        return found
    if shutil.which("apt-get") and os.getuid() == 0:
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core")
        return installed() or sys.exit("Debian's package brought no chromium.")
    run(sys.executable, "-m", "playwright", "install", "chromium")
    return ""  # Playwright finds its own


if __name__ == "__main__":
    print(main())
