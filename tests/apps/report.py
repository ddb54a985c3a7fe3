"""Writes the results of the matrix as a table into docs/apps.md.

Each run replaces the part between the two marks of the page. The rest of the page is written by hand.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from .app import App
from .visits import OK

BEGIN, END = "<!-- matrix: begin -->", "<!-- matrix: end -->"
_WAYS = {
    "direct": "alone",
    "path": "`proxy/service/`",
    "origin": "isolated origin",
    "lab": "JupyterLab tab",
    "incumbent": "jupyter-server-proxy",
}


def write_report(apps: list[App], made: dict[str, Any], page: Path) -> None:
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{table(apps, made)}\n{END}{after}")


def table(apps: list[App], made: dict[str, Any]) -> str:
    """A row for each application with the number of checks that pass for each URL; below, the checks that fail."""
    lines = ["| Application | " + " | ".join(_WAYS.values()) + " |", "|---|" + "---|" * len(_WAYS)]
    faults = []
    for app in apps:
        ways = made["results"][app.name]
        version = made["versions"][app.name]
        cells = [_cell(ways.get(way)) for way in _WAYS]
        lines.append(f"| {app.title}{' ' + version if version else ''} | " + " | ".join(cells) + " |")
        for way, name in _WAYS.items():
            bad = [f"{check} (`{_plain(why)}`)" for check, why in ways.get(way, {}).items() if why != OK]
            reasons = [reason for place, reason in app.known.items() if place.startswith(f"{way}: ")]
            if bad:
                faults.append(" ".join([f"- {app.title}, {name}: {'; '.join(bad)}.", *reasons]))
    totals = [_cell({f"{app}{check}": why for app, ways in made["results"].items() for check, why in ways.get(way, {}).items()})
              for way in _WAYS]  # fmt: skip
    lines.append("| **all** | " + " | ".join(totals) + " |")
    needs = [f"- **{app.title}**: {app.how}" for app in apps if app.how]
    lines += ["", "What each needs:", "", *needs]
    return "\n".join([*lines, "", *(["What does not hold:", "", *faults] if faults else []), ""]).replace("\n\n\n", "\n\n")


def _cell(checks: dict[str, str] | None) -> str:
    if checks is None:
        return ""
    return f"{sum(why == OK for why in checks.values())} of {len(checks)}"


def _plain(text: str) -> str:
    """A browser's message, shortened for a list."""
    return " ".join(text.replace("|", "/").replace("`", "'").split())[:160]


def version_of(app: App) -> str:
    """Of its first package; empty if it has none."""
    for package in app.pip[:1]:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(package.partition("[")[0].partition("<")[0])
    for package in app.npm[:1]:
        about = Path(sys.prefix, "node", "node_modules", package, "package.json")
        return str(json.loads(about.read_text())["version"]) if about.exists() else ""
    for package in app.debian[:1]:
        command = ["dpkg-query", "--show", "--showformat=${source:Upstream-Version}", package]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout if shutil.which(command[0]) else ""
    return ""
