"""The house: every room has its rule and its tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "jupyter_portproxy"
ROOMS = sorted(path for path in PACKAGE.glob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: path.stem)
def test_a_room_has_a_test_file(room):
    tests = Path(__file__).parent / f"test_{room.stem}.py"
    assert "def test_" in tests.read_text()


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: path.stem)
def test_a_room_opens_with_its_rule(room):
    doc = ast.get_docstring(ast.parse(room.read_text()))
    assert doc and "Rule of this file:" in doc
