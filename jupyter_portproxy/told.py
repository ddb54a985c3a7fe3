"""PURE. What one hop of a chain tells the next of a request, in one header field; and how that refuses to believe it.

Rule of this file: it is words of our own to ourselves. Each field of a request costs him who sends it and him who reads it,
at every hop; the service at the end gets the fields that everybody knows. Whoever reads it has to know first who wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode

HOP = "X-Portproxy-Hop"
# A project host's own refusal has it, and nothing else: each hop takes it out of what comes from behind it.
REFUSAL = "X-Portproxy-Refusal"
# What is said in it -> the field that says so to everybody else.
_FORWARDING = {
    "for": "X-Forwarded-For",
    "proto": "X-Forwarded-Proto",
    "host": "X-Forwarded-Host",
    "port": "X-Forwarded-Port",
    "forwarded": "Forwarded",
}
_START = "start"
_REFUSED = 403
_SAFE = "/:;,=@[]\"'()*!$?"  # stay readable
_MOST = 16


@dataclass(frozen=True, slots=True)
class Told:
    """One hop's word to the next.

    Attributes:
        credential: what makes a project host believe it; empty where something else does.
        user: who is logged in.
        may_start: they may start the project.
        forwarding: names and values of X-Forwarded-* and Forwarded, as the hop before would have sent them.
    """

    credential: str = field(default="", repr=False)
    user: str = ""
    may_start: bool = False
    forwarding: tuple[tuple[str, str], ...] = ()

    def field(self, forwarding: Iterable[tuple[str, str]]) -> tuple[str, str]:
        """The field that says all this, and these fields in place of `forwarding`."""
        values = {name.lower(): value for name, value in forwarding}
        words = [("credential", self.credential), ("user", self.user), ("may", _START if self.may_start else "")]
        words += [(word, values.get(name.lower(), "")) for word, name in _FORWARDING.items()]
        return HOP, urlencode([(word, value) for word, value in words if value], safe=_SAFE, quote_via=quote)

    def is_refused(self, status: int, fields: Iterable[tuple[str, str]]) -> bool:
        """True for the answer of a hop that does not believe this credential."""
        return status == _REFUSED and bool(self.credential) and any(name.lower() == REFUSAL.lower() for name, _ in fields)


def read(value: str) -> Told:
    """The field's value -> what it says; what cannot be read says nothing."""
    try:
        words = dict(parse_qsl(value, max_num_fields=_MOST))
    except ValueError:
        return Told()
    forwarding = tuple((name, words[word]) for word, name in _FORWARDING.items() if word in words)
    return Told(words.get("credential", ""), words.get("user", ""), words.get("may") == _START, forwarding)
