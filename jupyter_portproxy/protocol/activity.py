"""What counts as activity of the Jupyter server: everything, what a person does, or nothing.

What a person does ("people"), as far as a request shows it:

- a page navigation: `Sec-Fetch-Mode: navigate` (W3C Fetch Metadata). Browsers omit the field on plain http to other hosts than
  localhost, and programs do not have it: then a GET whose Accept begins with text/html, as those of browsers do (HTML Living
  Standard, 7.4.5)
- a request with another method than GET, HEAD, OPTIONS
- a message with data that the client sends through a WebSocket, but not its handshake, nor pings, pongs and close frames

Scripts that fetch, event streams, pictures and messages of the service are none. A page that reloads itself looks like a person,
and so does a script that polls with POST.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_PATH = 2000  # characters; a longer one is compared with no pattern, as that may take the square of its length
KINDS = ("all", "people", "none")
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class ActivityRule:
    """Which requests of one destination count.

    Attributes:
        kind: one of KINDS.
        exclude: patterns for the start of a request's path; one that fits does not count.
    """

    kind: str = "all"
    exclude: tuple[re.Pattern[str], ...] = ()

    def counts_request(self, method: str, fields: Mapping[str, str], *, upgrade: bool = False) -> bool:
        """True if a request counts, unless its path is excluded. It follows from method and header fields alone.

        Args:
            upgrade: it is the handshake of a WebSocket.
        """
        if self.kind != "people":
            return self.kind == "all"
        return not upgrade and is_by_person(method, fields)

    def excludes(self, uri: str) -> bool:
        """True if requests and messages with this target do not count."""
        return bool(self.exclude) and self._matches(uri.partition("?")[0])

    def _matches(self, path: str) -> bool:
        return len(path) <= MAX_PATH and any(pattern.match(path) for pattern in self.exclude)


ALL = ActivityRule()


def is_by_person(method: str, fields: Mapping[str, str]) -> bool:
    """True if a person has caused a request, as far as it shows that."""
    if method not in _READING:
        return True
    if method != "GET":
        return False
    mode = fields.get("Sec-Fetch-Mode")
    if mode is not None:
        return mode == "navigate"
    return fields.get("Accept", "").lstrip().lower().startswith("text/html")
