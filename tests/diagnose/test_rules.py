from __future__ import annotations

from jupyter_portproxy.diagnose.observation import Answer, Evidence, Observation, Target, Visit
from jupyter_portproxy.diagnose.rules import Finding, Rule, find_all

TARGET = Target("8050", 8050, "/proxy/port/8050", "/proxy/absolute/port/8050", "/", "http://localhost:8888")


def observe(*visits: Visit) -> Observation:
    page = Visit("page", "/", Evidence("/"), "/", "/proxy/port/8050/", Answer(200), Answer(200))
    return Observation(TARGET, (page, *visits))


def script(url: str, proxied: str, status: int, line: int = 1) -> Visit:
    return Visit("script", url, Evidence("/", line), url, proxied, Answer(200), Answer(status))


def test_urls_at_the_root_are_one_finding_with_the_first_as_evidence():
    seen = observe(script("/a.js", "/a.js", 404, 3), script("/b.js", "/b.js", 404, 4))
    [(rule, finding)] = find_all(seen)
    assert rule.id == finding.rule == "root-relative-url"
    assert finding.evidence == Evidence("/", 3)
    assert "/a.js" in finding.sentence and "2 URLs" in finding.sentence


def test_urls_that_work_and_those_below_the_prefix_are_none():
    assert find_all(observe(script("/a.js", "/a.js", 200), script("b.js", "/proxy/port/8050/b.js", 404))) == []


def test_the_worst_finding_is_first_then_the_order_of_the_rules():
    def rule(name, severity):
        return Rule(name, severity, name, name, lambda seen: [Finding(name, f"{name}.", Evidence("/"))])

    rules = [rule("a", "notice"), rule("b", "error"), rule("c", "warning"), rule("d", "error")]
    assert [finding.rule for _, finding in find_all(observe(), rules)] == ["b", "d", "c", "a"]
