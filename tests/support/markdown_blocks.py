"""Parses the fenced blocks of the documentation, for the tests that run them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .fresh_environment import ROOT

DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_for_a_clone(self) -> bool:
        """A developer's commands; what `make` makes is tested as what it is."""
        return self.page == "CONTRIBUTING.md" and self.language == "sh" and not self.text.startswith("make ")


def _all() -> Iterator[Block]:
    for path in PAGES:
        text = path.read_text()
        for found in re.finditer(r"^( *)```([^\n`]*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
            body = re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE)
            yield Block(str(path.relative_to(ROOT)), text[: found.start()].count("\n") + 1, found[2], body)


BLOCKS = list(_all())


def each(blocks: list[Block]) -> pytest.MarkDecorator:
    """The test is run for each of them."""
    return pytest.mark.parametrize("block", blocks, ids=str)


def of(*languages: str) -> pytest.MarkDecorator:
    return each([block for block in BLOCKS if block.language in languages])
