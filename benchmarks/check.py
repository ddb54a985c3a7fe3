"""Guards what was reached: ratios between subjects of one run, never absolute figures.

A bound in bounds.json: {"figure": ..., "of": subject, "to": subject, "at_most" or "at_least": ratio}.
"""

from __future__ import annotations

from typing import Any


def broken(figures: dict[str, dict[str, float]], bounds: list[dict[str, Any]]) -> list[str]:
    """A sentence for each bound that does not hold; for one that cannot be checked, too."""
    return [sentence for bound in bounds if (sentence := _broken(figures, bound))]


def _broken(figures: dict[str, dict[str, float]], bound: dict[str, Any]) -> str:
    figure, of, to = bound["figure"], bound["of"], bound["to"]
    try:
        ratio = figures[of][figure] / figures[to][figure]
    except (KeyError, ZeroDivisionError):
        return f"{figure}: there is no figure for {of} or {to}."
    if ratio > bound.get("at_most", ratio):
        return f"{figure}: {of} is {ratio:.2f} of {to}, at most {bound['at_most']} was reached before."
    if ratio < bound.get("at_least", ratio):
        return f"{figure}: {of} is {ratio:.2f} of {to}, at least {bound['at_least']} was reached before."
    return ""
