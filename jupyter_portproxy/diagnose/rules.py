"""The rules of the page doctor, and what they find. Pure.

A rule is data and one function `(Observation) -> findings`. It finds each cause once: twelve root-relative URLs are one finding,
with the first as its evidence. A new rule is an entry of `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from .observation import Evidence, Observation

# error: the page or a part of it does not work; warning: it may not; notice: it works, and is worth knowing.
Severity = Literal["error", "warning", "notice"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "notice")


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
    """

    id: str
    severity: Severity
    title: str
    anchor: str
    find: Callable[[Observation], Iterable[Finding]]


def find_root_relative(seen: Observation) -> Iterator[Finding]:
    visits = [v for v in seen.of_kind("script", "style", "image", "font", "manifest") if seen.leaves_prefix(v) and v.is_broken]
    if visits:
        first = visits[0]
        more = f" {len(visits)} URLs are like that." if len(visits) > 1 else ""
        yield Finding(
            "root-relative-url",
            f"The page loads {first.url} from the root of the server, not from below its prefix.{more}",
            first.source,
            (f"Open it in the form that keeps the prefix: {seen.target.absolute_prefix}/",),
            seen.target.isolated_url,
        )


RULES: tuple[Rule, ...] = (
    Rule("root-relative-url", "error", "URLs at the root", "the-page-is-blank-or-unstyled", find_root_relative),
)


def find_all(seen: Observation, rules: Iterable[Rule] = RULES) -> list[tuple[Rule, Finding]]:
    """The findings of all rules, the worst first; of one severity in the order of the rules."""
    ordered = sorted(rules, key=lambda rule: SEVERITIES.index(rule.severity))
    return [(rule, finding) for rule in ordered for finding in rule.find(seen)]
