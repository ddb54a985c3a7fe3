"""The form of a rule of the page doctor, and of what it finds. Pure.

A rule is data and one function `(Observation) -> findings`. The function says what is wrong and where; the remedies are the
finding's own, then those of the framework that is recognized, for the rule's topic, then the rule's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from ..excerpts import make_excerpt
from ..observation import Evidence, Observation, Target, Visit

# error: the page or a part of it does not work; warning: it may not; notice: it works, and is worth knowing.
Severity = Literal["error", "warning", "notice"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "notice")
# What a framework has an option for: the path at which it is mounted; the names of hosts and origins that it accepts; frames;
# redirects to https; the scheme of the URLs that it makes; cookies; the check of browsers.
Topic = Literal["", "prefix", "origin", "frames", "https", "scheme", "cookies", "browsers"]

ISOLATED = "Open it at its isolated origin, where `/` is the service's: {isolated_url}"
ABSOLUTE = "Give it the base path `{absolute_prefix}/` by an option of its own, and open it there."
RELATIVE = "If the code is yours: write its URLs relative to the page, without the first slash."
PREFIX_REMEDIES = (ISOLATED, ABSOLUTE, RELATIVE)
_SAME_HOST = re.compile(r"""("[^"\s]{1,255}")(?:(?:, | << )\1)+""")  # Jupyter may be at localhost, too
_PLACEHOLDER = re.compile(r"\{(isolated_url|absolute_prefix|prefix|port|jupyter_(?:origin|authority|host))\}")


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause.

    Attributes:
        rule: id of the rule.
        sentence: what is wrong, with the value.
        evidence: where it stands.
        remedies: sentences: what cures it, the best first.
        link: a URL or path that cures it when it is opened, such as the isolated origin; None without one.
    """

    rule: str
    sentence: str
    evidence: Evidence
    remedies: tuple[str, ...] = ()
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule.

    Attributes:
        id: stable, of lower-case words with hyphens: programs and documentation use it.
        title: a few words for a table.
        anchor: of the heading in docs/troubleshooting.md.
        find: pure; yields at most one finding for each cause.
        topic: which of a framework's remedies cure it; empty for none.
        remedies: those for all frameworks. The target's values replace `{prefix}`, `{absolute_prefix}`, `{port}`,
            `{isolated_url}`, `{jupyter_origin}`, `{jupyter_authority}` and `{jupyter_host}`; a remedy with a value that the
            target does not have is left out.
    """

    id: str
    severity: Severity
    title: str
    anchor: str
    find: Callable[[Observation], Iterable[Finding]]
    topic: Topic = ""
    remedies: tuple[str, ...] = ()


def fill_in(remedies: Iterable[str], target: Target) -> tuple[str, ...]:
    """The remedies that apply to a target, with its values."""
    values = {
        "isolated_url": target.isolated_url or "",
        "absolute_prefix": target.absolute_prefix,
        "prefix": target.prefix,
        "port": "" if target.port is None else str(target.port),
        "jupyter_origin": target.jupyter_origin,
        "jupyter_authority": target.jupyter_origin.partition("://")[2],
        "jupyter_host": host_of(target.jupyter_origin),
    }
    usable = [text for text in remedies if all(values[name] for name in _PLACEHOLDER.findall(text))]
    filled = (_PLACEHOLDER.sub(lambda match: values[match[1]], text) for text in usable)
    return tuple(dict.fromkeys(_SAME_HOST.sub(r"\1", text) for text in filled))


def name_urls(visits: Sequence[Visit]) -> str:
    """The first URL as it is written, and how many others there are."""
    others = len({visit.url for visit in visits}) - 1
    return make_excerpt(visits[0].url) + (f" (and {others} more)" if others > 0 else "")


def host_of(url: str) -> str:
    """The host of an absolute URL without its port, in lower case; empty for any other text."""
    try:
        return urlsplit(url.strip()).hostname or ""
    except ValueError:  # an IPv6 address without its bracket
        return ""
