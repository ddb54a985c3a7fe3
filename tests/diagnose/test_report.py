from __future__ import annotations

import json

import pytest

from jupyter_portproxy.diagnose.observation import Document, Evidence, Observation, Response, Target, Visit
from jupyter_portproxy.diagnose.report import build_report, find_notes, find_problem

TARGET = Target("8050", 8050, "/proxy/port/8050", "/proxy/absolute/port/8050", "/", "http://localhost:8888")
HTML = (("Content-Type", "text/html"),)


def observe(direct: Response, proxied: Response | None = None, *parts: Visit) -> Observation:
    return Observation(TARGET, (Visit("page", "/", Evidence("/"), "/", "/proxy/port/8050/", direct, proxied or direct), *parts))


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (Response(error="timeout", seconds=8.02), "Port 8050 accepts connections, and did not answer within 8 s. Is it busy?"),
        (Response(error="unreachable"), "Nothing listens at port 8050. Start the service, and try again."),
        (
            Response(200, fields=(("Content-Encoding", "br"),), error="not_decodable"),
            "The content of port 8050 is not in the coding that it names (br). Only gzip and deflate are read.",
        ),
        (Response(error="forbidden"), "Port 8050 could not be looked at (forbidden)."),
        (Response(302, error="too_many_redirects"), None),
        (Response(500), None),
        (Response(200), None),
        (Response(200, error="timeout", is_cut=True), None),
        (Response(302), None),
    ],
)
def test_why_the_service_shows_no_page(response, problem):
    assert find_problem(observe(response)) == problem


def test_a_service_has_its_name():
    target = Target("web", 15000, "/proxy/service/web", "/p", "/", "http://h")
    seen = Observation(target, (Visit("page", "/", Evidence("/"), "/", "/", Response(error="distrusted")),))
    assert find_problem(seen).startswith("The certificate of the service web is not trusted")


@pytest.mark.parametrize(
    ("response", "note"),
    [
        (
            Response(200, fields=HTML, size=2_097_152, is_cut=True, document=Document()),
            "The page has more than 2,097,152 ",
        ),
        (
            Response(200, fields=HTML, size=12, is_cut=True, error="timeout", document=Document()),
            "The page did not end in time on",
        ),
        (Response(200, fields=HTML, document=Document(has_password_field=True)), "The page is a login of the service itself"),
        (Response(200, fields=(("Content-Type", "application/json"),)), "The first page is no HTML page, but application/json"),
    ],
)
def test_what_was_not_looked_at(response, note):
    [found] = find_notes(observe(response))
    assert found.startswith(note)


def test_a_page_that_is_late_through_jupyter_alone_and_late_parts():
    page, late = Response(200, fields=HTML, document=Document()), Response(error="timeout")
    assert list(find_notes(observe(page))) == []
    part = Visit("script", "a.js", Evidence("/", 1), "/a.js", "/x", late, late)
    assert list(find_notes(observe(page, late, part, part))) == [
        "Through Jupyter, the page did not answer in time.",
        "2 of its parts did not answer in time, /a.js for one.",
    ]


def test_without_a_response_there_is_a_problem_and_no_finding():
    report = build_report(observe(Response(error="bad_upstream"), Response(502, error="bad_upstream")))
    assert (report["findings"], bool(report["problem"])) == ([], True)


def test_the_report_is_json_with_the_worst_first():
    page = Response(200, fields=HTML, document=Document())
    part = Visit(
        "script", "/a.js", Evidence("/", 3, excerpt="<script src=/a.js>"), "/a.js", "/a.js", Response(200), Response(404)
    )
    report = json.loads(json.dumps(build_report(observe(page, page, part))))
    assert (report["target"], report["url"], report["status"], report["requests"]) == ("8050", "/proxy/port/8050/", 200, 4)
    assert (report["problem"], report["notes"]) == (None, [])
    finding = report["findings"][0]
    assert finding["severity"] == "error"
    assert finding["evidence"]["file"] == "/" and finding["evidence"]["line"] == 3
    assert "troubleshooting/#" in finding["documentation"] and finding["remedies"]
