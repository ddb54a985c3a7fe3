"""Every module has a summary and a file of tests; class names are unique."""

from __future__ import annotations

import ast
from collections import Counter
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


def test_a_class_name_means_one_thing_in_the_whole_package():
    trees = [ast.parse(path.read_text()) for path in FILES]
    names = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    assert [name for name, times in names.items() if times > 1] == []
