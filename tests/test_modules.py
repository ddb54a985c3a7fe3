"""Every module has a summary and a file of tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "jupyter_portproxy"
MODULES = sorted(path for path in PACKAGE.glob("*.py") if not path.name.startswith("__"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_module_has_a_test_file(module):
    tests = Path(__file__).parent / f"test_{module.stem}.py"
    assert "def test_" in tests.read_text()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_module_opens_with_a_summary(module):
    doc = ast.get_docstring(ast.parse(module.read_text()))
    assert doc and doc.splitlines()[0].strip()
