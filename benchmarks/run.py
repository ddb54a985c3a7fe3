"""The benchmark: the same work through every subject, one after the other, in one run on one machine.

    python benchmarks/run.py                    everything, about ten minutes; writes docs/performance.md and its plots
    python benchmarks/run.py --scale 0.1        a tenth of the work
    python benchmarks/run.py --only bare,portproxy,jsp --measures get,page --output build/benchmark.json --no-report
    python benchmarks/run.py --check            fails if a ratio of benchmarks/bounds.json does not hold

Absolute figures differ from machine to machine and from day to day: read the ratios of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import resource
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import measures
import psutil
from check import broken
from report import write_report
from subjects import NAMES, Subject, start, start_origin

HERE = Path(__file__).resolve().parent


def main() -> int:
    options = parser().parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    figures = run(options.only.split(","), options.measures.split(","), options.scale, options.cache)
    result = {"machine": machine(), "scale": options.scale, "figures": figures}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    if not options.no_report:
        write_report(result, HERE.parent / "docs")
    faults = broken(figures, json.loads((HERE / "bounds.json").read_text())) if options.check else []
    print(*faults, sep="\n")
    return 1 if faults else 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--only", default=",".join(NAMES), help="subjects, with commas")
    made.add_argument("--measures", default=",".join(measures.ALL), help="measures, with commas")
    made.add_argument("--scale", type=float, default=1.0, help="how much of the work")
    made.add_argument("--cache", type=Path, default=HERE.parent / "build/benchmarks", help="where the peers are installed")
    made.add_argument("--output", type=Path, default=HERE / "results.json")
    made.add_argument("--no-report", action="store_true", help="leave docs/ as it is")
    made.add_argument("--check", action="store_true", help="compare with bounds.json")
    return made


def run(names: list[str], chosen: list[str], scale: float, cache: Path) -> dict[str, dict[str, float]]:
    """Figures by subject."""
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        origin, port = start_origin(Path(folder))
        try:
            for name in names:
                figures[name] = {}
                for together in _groups(chosen):
                    subject = start(name, port, Path(folder), cache)
                    try:
                        for measure in together:
                            figures[name].update(asyncio.run(_measured(subject, measure, scale)))
                    finally:
                        subject.stop()
        finally:
            origin.terminate()
            origin.wait()
    return figures


def _groups(chosen: list[str]) -> list[list[str]]:
    """What is measured on one process: what is told in memory needs one that has not had and freed any before."""
    alone = [[measure] for measure in chosen if measure in measures.OF_MEMORY]
    return [group for group in ([measure for measure in chosen if measure not in measures.OF_MEMORY], *alone) if group]


async def _measured(subject: Subject, measure: str, scale: float) -> measures.Figures:
    """The figures of one measure; none where the subject cannot do it, which is told."""
    try:
        found = await asyncio.wait_for(measures.ALL[measure](subject, scale), 180)
    except (OSError, RuntimeError, EOFError, asyncio.TimeoutError) as error:
        print(f"{subject.name} {measure}: {type(error).__name__} {error}", file=sys.stderr)
        return {}
    print(f"{subject.name} {measure}: {found}", file=sys.stderr)
    return found


def machine() -> str:
    """What the figures were measured on."""
    memory = psutil.virtual_memory().total / 1e9
    packages = [f"{name} {version(name)}" for name in ("tornado", "pycurl", "jupyter_server", "uvloop")]
    return ", ".join(
        [f"{psutil.cpu_count()} cores", f"{memory:.0f} GB", platform.system(), f"Python {platform.python_version()}", *packages]
    )


if __name__ == "__main__":
    sys.exit(main())
