"""Tables in the text of a test: rows that people can read."""

from __future__ import annotations

import pytest


def rows(text):
    """A table, a row a line, its cells parted by `->`."""
    return [tuple(cell.strip() for cell in line.split("->")) for line in text.strip().splitlines()]


def table(text):
    """Parametrizes a test by a table whose first row names its columns."""
    names, *rest = rows(text)
    return pytest.mark.parametrize(names, rest)


def lines(text):
    """Header lines parted by `|`, as fields."""
    return [tuple(line.split(": ")) for line in text.split("|") if line]
