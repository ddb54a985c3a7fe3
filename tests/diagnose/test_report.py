from __future__ import annotations

import json

import pytest

from jupyter_portproxy.diagnose.observation import Answer, Document, Evidence, Observation, Target, Visit
from jupyter_portproxy.diagnose.report import build_report, find_notes, find_problem

TARGET = Target("8050", 8050, "/proxy/port/8050", "/proxy/absolute/port/8050", "/", "http://localhost:8888")
HTML = (("Content-Type", "text/html"),)


def observe(direct: Answer, proxied: Answer | None = None, *parts: Visit) -> Observation:
    return Observation(TARGET, (Visit("page", "/", Evidence("/"), "/", "/proxy/port/8050/", direct, proxied or direct), *parts))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer(error="timeout", seconds=8.02), "Port 8050 accepts connections, and did not answer within 8 s. Is it busy?"),
        (Answer(error="unreachable"), "Nothing listens for port 8050 any more. Start the service, and try again."),
        (
            Answer(200, fields=(("Content-Encoding", "br"),), error="not_decodable"),
            "The content of port 8050 is not in the coding that it names (br). Only gzip and deflate are read.",
        ),
        (Answer(error="forbidden"), "Port 8050 could not be looked at (forbidden)."),
        (Answer(302, error="too_many_redirects"), None),
        (Answer(500), None),
        (Answer(200), None),
        (Answer(200, error="timeout", is_cut=True), None),
        (Answer(302), None),
    ],
)
def test_why_the_service_shows_no_page(answer, problem):
    assert find_problem(observe(answer)) == problem


def test_a_service_has_its_name():
    target = Target("web", 15000, "/proxy/service/web", "/p", "/", "http://h")
    seen = Observation(target, (Visit("page", "/", Evidence("/"), "/", "/", Answer(error="distrusted")),))
    assert find_problem(seen).startswith("The certificate of the service web is not trusted")


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        (
            Answer(200, fields=HTML, size=2_097_152, is_cut=True, document=Document()),
            "The page has more than 2,097,152 ",
        ),
        (
            Answer(200, fields=HTML, size=12, is_cut=True, error="timeout", document=Document()),
            "The page did not end in time on",
        ),
        (Answer(200, fields=HTML, document=Document(has_password_field=True)), "The page is a login of the service itself"),
        (Answer(200, fields=(("Content-Type", "application/json"),)), "The first page is no HTML page, but application/json"),
    ],
)
def test_what_was_not_looked_at(answer, note):
    [found] = find_notes(observe(answer))
    assert found.startswith(note)


def test_a_page_that_is_late_through_jupyter_alone_and_late_parts():
    page, late = Answer(200, fields=HTML, document=Document()), Answer(error="timeout")
    assert list(find_notes(observe(page))) == []
    part = Visit("script", "a.js", Evidence("/", 1), "/a.js", "/x", late, late)
    assert list(find_notes(observe(page, late, part, part))) == [
        "Through Jupyter, the page did not answer in time.",
        "2 of its parts did not answer in time, /a.js for one.",
    ]


def test_without_an_answer_there_is_a_problem_and_no_finding():
    report = build_report(observe(Answer(error="bad_upstream"), Answer(502, error="bad_upstream")))
    assert (report["findings"], bool(report["problem"])) == ([], True)


def test_the_report_is_json_with_the_worst_first():
    page = Answer(200, fields=HTML, document=Document())
    part = Visit("script", "/a.js", Evidence("/", 3, excerpt="<script src=/a.js>"), "/a.js", "/a.js", Answer(200), Answer(404))
    report = json.loads(json.dumps(build_report(observe(page, page, part))))
    assert (report["target"], report["url"], report["status"], report["requests"]) == ("8050", "/proxy/port/8050/", 200, 4)
    assert (report["problem"], report["notes"]) == (None, [])
    finding = report["findings"][0]
    assert finding["severity"] == "error"
    assert finding["evidence"]["file"] == "/" and finding["evidence"]["line"] == 3
    assert "troubleshooting/#" in finding["documentation"] and finding["remedies"]
