"""Where the documentation says more about an error.

Rule of this file: the documentation's address stands in pyproject.toml alone and comes from the package's metadata. A link is
text: nothing is fetched, and the page that has it sends no Referer.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import metadata

_LABEL = "Documentation"


def address(urls: Iterable[str]) -> str:
    """The documentation's address among the `Project-URL` lines of a package (`Label, https://...`); empty if it has none."""
    found = (url.partition(",") for url in urls)
    return next((url.strip() for label, _, url in found if label.strip() == _LABEL and url.strip().startswith("https://")), "")


def about(code: str) -> str:
    """Where troubleshooting explains this error code; empty if the package names no documentation."""
    return f"{_DOCUMENTATION}troubleshooting/#{code}" if _DOCUMENTATION else ""


_DOCUMENTATION = address(metadata("jupyter_portproxy").get_all("Project-URL") or ())
