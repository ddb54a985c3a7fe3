"""The link from an error page to the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jupyter_portproxy import errors, manual

PAGE = (Path(__file__).parents[1] / "docs" / "troubleshooting.md").read_text()


def every(kind: type[errors.GatewayError]) -> list[type[errors.GatewayError]]:
    return [kind, *(deeper for below in kind.__subclasses__() for deeper in every(below))]


@pytest.mark.parametrize(
    ("urls", "address"),
    [
        (["Source, https://x/", "Documentation, https://docs.example.org/en/"], "https://docs.example.org/en/"),
        (["Documentation, javascript:alert(1)"], ""),
        (["Source, https://x/"], ""),
        ([], ""),
    ],
)
def test_the_address_is_that_of_the_metadata(urls, address):
    assert manual.address(urls) == address


@pytest.mark.parametrize("code", sorted({kind.code for kind in every(errors.GatewayError)}))
def test_every_error_code_has_its_heading(code):
    assert re.search(rf"^### {code}$", PAGE, re.MULTILINE), f"docs/troubleshooting.md lacks '### {code}'"
    assert re.fullmatch(r"https://\S+/troubleshooting/#[a-z_]+", manual.about(code))


async def test_the_page_links_to_it_and_to_nothing_else(call):
    answer = await call("proxy/port/5000/", fields=["Accept: text/html"])
    assert answer.status == 403
    assert re.findall(r'(?:href|src)="([^"]*)"', answer.text) == [manual.about("forbidden")]
    assert 'rel="noopener noreferrer"' in answer.text and '<meta name="referrer" content="no-referrer">' in answer.text
