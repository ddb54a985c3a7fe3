"""What a look at a page has shown, as the API returns it: findings, and sentences on what could not be looked at. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ..errors import documentation_of
from .observation import Observation, Response
from .rules import Finding, Rule, find_all

# Why a service shows no page, by the code of the error, and what to do.
_FAILURES = {
    "timeout": "{name} accepts connections, and did not answer within {seconds:.0f} s. Is it busy?",
    "upstream_timeout": "{name} did not accept a connection in time. Is it busy?",
    "unreachable": "Nothing listens at {name}. Start the service, and try again.",
    "bad_upstream": "{name} does not answer in HTTP. If it speaks https, set that in a rule of the port.",
    "distrusted": "The certificate of {name} is not trusted, or it speaks no https. See c.PortProxy.trusted_certificates.",
    "not_decodable": "The content of {name} is not in the coding that it names ({coding}). Only gzip and deflate are read.",
}


def build_report(seen: Observation) -> dict[str, Any]:
    """The response of the API (schema `Diagnosis` of docs/openapi.yaml)."""
    page = seen.page
    return {
        "target": seen.target.name,
        "url": next(visit.proxied_url for visit in seen.pages if visit.kind == "page"),
        "status": page.proxied.status if page.proxied is not None else 0,
        "requests": sum(response is not None for visit in seen.pages for response in (visit.direct, visit.proxied)),
        "problem": find_problem(seen),
        "findings": [_describe(rule, finding) for rule, finding in find_all(seen)],
        "notes": list(find_notes(seen)),
    }


def _describe(rule: Rule, finding: Finding) -> dict[str, Any]:
    return {
        "rule": rule.id,
        "severity": rule.severity,
        "title": rule.title,
        "sentence": finding.sentence,
        "evidence": asdict(finding.evidence),
        "remedies": list(finding.remedies),
        "link": finding.link,
        "documentation": documentation_of(rule.anchor),
    }


def find_problem(seen: Observation) -> str | None:
    """Why nothing could be looked at, in a sentence and what to do; None if the service has answered."""
    responses = [visit.direct for visit in seen.of_kind("page") if visit.direct is not None]
    response = responses[-1] if responses else Response()
    if not response.error or (response.status and response.error != "not_decodable"):
        return None
    kind = "port" if seen.target.name.isdigit() else "the service"
    failure = _FAILURES.get(response.error, "{name} could not be looked at ({error}).")
    values = {"name": f"{kind} {seen.target.name}", "seconds": response.seconds, "error": response.error}
    text = failure.format(**values, coding=_shown(response.field("content-encoding")))
    return text[:1].upper() + text[1:]


def find_notes(seen: Observation) -> Iterator[str]:
    """Sentences on what was not looked at."""
    page = seen.page
    for response, way in ((page.direct, "on localhost"), (page.proxied, "through Jupyter")):
        if response is not None and response.is_cut:
            yield from _cut_notes(response, way)
            break
    document = _document_of(page.proxied) or _document_of(page.direct)
    if document is not None and document.has_password_field:
        yield "The page is a login of the service itself: the pages behind it were not looked at."
    elif document is None and page.direct is not None and page.direct.status == 200 and not page.direct.error:
        kind = _shown(page.direct.field("content-type")) or "nothing that says its type"
        yield f"The first page is no HTML page, but {kind}: it loads nothing that could be looked at."
    is_late = page.proxied is not None and page.proxied.error == "timeout" and not page.proxied.status
    if is_late and page.direct is not None and not page.direct.error:
        yield "Through Jupyter, the page did not answer in time."
    waiting = [
        visit for visit in seen.pages if visit.direct is not None and visit.direct.error == "timeout" and visit.kind != "page"
    ]
    if waiting:
        yield f"{len(waiting)} of its parts did not answer in time, {_shown(waiting[0].direct_url)} for one."


def _cut_notes(response: Response, way: str) -> Iterator[str]:
    if response.error == "timeout":
        yield f"The page did not end in time {way}: only the {response.size:,} bytes that had arrived were looked at."
    else:
        yield f"The page has more than {response.size:,} bytes: only that many were looked at."


def _document_of(response: Response | None) -> Any:
    return response.document if response is not None else None


def _shown(text: str) -> str:
    """What a service sent, for a sentence: short, on one line."""
    return "".join(c for c in text[:120] if c.isprintable())
