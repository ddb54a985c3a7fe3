from __future__ import annotations

from dataclasses import replace

import pytest

from jupyter_portproxy.diagnose.observation import Evidence, Visit
from jupyter_portproxy.diagnose.rules import RULES, SEVERITIES, Finding, Rule, find_all
from jupyter_portproxy.diagnose.rules.finding import PREFIX_REMEDIES, fill_in, host_of, name_urls

from ..observations import TARGET, find, observe


def test_the_worst_finding_is_first_then_the_order_of_the_rules():
    def rule(name, severity):
        return Rule(name, severity, name, name, lambda seen: [Finding(name, f"{name}.", Evidence("/"))])

    rules = [rule("a", "notice"), rule("b", "error"), rule("c", "warning"), rule("d", "error")]
    assert [finding.rule for _, finding in find_all(observe(), rules)] == ["b", "d", "c", "a"]


def test_the_findings_remedies_are_first_then_the_frameworks_then_the_rules():
    def look(seen):
        return [Finding("a", "A.", Evidence("/"), ("Of the finding.",))]

    rule = Rule("a", "error", "a", "a", look, "prefix", ("Of the rule: {port}.", "Of the finding."))
    [(_, finding)] = find_all(observe(target=replace(TARGET, template="streamlit")), [rule])
    assert finding.remedies == (
        "Of the finding.",
        "Start it with `--server.baseUrlPath /proxy/absolute/port/8050`, and open `/proxy/absolute/port/8050/`.",
        "Of the rule: 8050.",
    )


def test_a_remedy_is_left_out_if_the_target_does_not_have_its_value():
    target = replace(TARGET, isolated_url=None, port=None)
    assert fill_in(["at {isolated_url}", "port {port}", "host {jupyter_host}"], target) == ("host localhost",)
    assert fill_in(["{jupyter_origin} {jupyter_authority}"], target) == ("http://localhost:8888 localhost:8888",)


def test_a_host_is_named_once():
    texts = ['`A = ["localhost", "{jupyter_host}"]`.', '`config.hosts << "localhost" << "{jupyter_host}"`.']
    assert fill_in(texts, TARGET) == ('`A = ["localhost"]`.', '`config.hosts << "localhost"`.')
    remote = replace(TARGET, jupyter_origin="https://hub.example")
    assert fill_in(texts[:1], remote) == ('`A = ["localhost", "hub.example"]`.',)


def test_the_isolated_origin_is_a_remedy_and_the_link():
    seen = observe('<base href="/x/"><p>')
    [(_, finding)] = [each for each in find_all(seen) if each[0].id == "base-href"]
    assert finding.link == "http://p8050.localhost:8888/"
    assert any("http://p8050.localhost:8888/" in remedy for remedy in finding.remedies)


def test_names_of_several_urls():
    def visit(url):
        return Visit("script", url, Evidence("/"))

    assert name_urls([visit("/a"), visit("/b"), visit("/a"), visit("/c?token=abcdef")]) == "/a (and 2 more)"
    assert name_urls([visit("/c?token=abcdef")]) == "/c?token=***"


@pytest.mark.parametrize(
    ("url", "host"), [("HTTP://A.b:1/x", "a.b"), ("http://[::1]:2/", "::1"), ("http://[::1", ""), ("/x", "")]
)
def test_the_host_of_a_url(url, host):
    assert host_of(url) == host


def test_rules_are_in_the_order_of_their_severity_with_unique_ids():
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert [rule.severity for rule in RULES] == sorted((rule.severity for rule in RULES), key=SEVERITIES.index)


def test_the_remedies_of_rules_have_no_unknown_placeholder():
    for rule in RULES:
        assert all("{" not in remedy for remedy in fill_in((*rule.remedies, *PREFIX_REMEDIES), TARGET))


def test_nothing_is_found_in_a_page_with_relative_urls():
    page = """<!doctype html><title>x</title><link rel=stylesheet href=style.css>
    <script type=module src="./app.js"></script><img src=a.png srcset="b.png 2x"><a href=other>x</a><form action=?x></form>
    <script>fetch("data"); new WebSocket("ws")</script>"""
    assert find(observe(page)) == []
