"""Every module has a summary and a file of tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "jupyter_portproxy"
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if "node_modules" not in path.parts]
MODULES = [path.relative_to(PACKAGE) for path in FILES if not path.name.startswith("__")]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_has_a_test_file(module):
    tests = TESTS / module.parent / f"test_{module.name}"
    assert "def test_" in tests.read_text()


@pytest.mark.parametrize("module", [path.relative_to(PACKAGE) for path in FILES], ids=str)
def test_a_module_opens_with_a_summary(module):
    doc = ast.get_docstring(ast.parse((PACKAGE / module).read_text()))
    assert doc and doc.splitlines()[0].strip()
