"""Writes tables and plots of a run into docs/performance.md and docs/pictures/.

Each run replaces the part between the two marks of the page. The rest of the page is written by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
_PLOTS = ["GET: CPU us/request", "GET: requests/s at 16 connections", "page of 200 files: ms", "WebSocket: round trips/s"]


def write_report(result: dict[str, Any], docs: Path) -> None:
    page = docs / "performance.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(before + BEGIN + "\n\n" + tables(result) + "\n" + END + after)
    plot(result["figures"], docs / "pictures")


def tables(result: dict[str, Any]) -> str:
    """All figures of a run as one table, a row for each."""
    figures: dict[str, dict[str, float]] = result["figures"]
    names = list(dict.fromkeys(name for of_one in figures.values() for name in of_one))
    lines = [f"Measured on: {result['machine']}.", ""]
    lines += ["| Measure | " + " | ".join(figures) + " |", "|---|" + "---:|" * len(figures)]
    lines += [f"| {name} | " + " | ".join(_number(of_one.get(name)) for of_one in figures.values()) + " |" for name in names]
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def plot(figures: dict[str, dict[str, float]], folder: Path) -> None:
    """One picture with a few bar charts."""
    import matplotlib  # here, so that a check without a report needs none

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "portproxy"  # the same figures make the same file
    from matplotlib import pyplot

    chosen = [name for name in _PLOTS if any(name in of_one for of_one in figures.values())]
    drawing, axes = pyplot.subplots(1, len(chosen), figsize=(4 * len(chosen), 3.2), squeeze=False)
    for axis, name in zip(axes[0], chosen, strict=True):
        shown = {subject: of_one[name] for subject, of_one in figures.items() if name in of_one}
        colours = ["#e46e2e" if subject in ("portproxy", "uvloop") else "#8a8a8a" for subject in shown]
        axis.barh(list(shown), list(shown.values()), color=colours)
        axis.invert_yaxis()
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=8)
    drawing.tight_layout()
    drawing.savefig(folder / "performance.svg", metadata={"Date": None})
    pyplot.close(drawing)
