"""Rules for ports: their values, which one counts, and bad input; the file itself is tested in test_user_file."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace

import pytest

from jupyter_portproxy.errors import BadInput, NotFound
from jupyter_portproxy.services.port_rules import KEYS, MAX_RULES, PortAttributes, PortRules

from ..support.cpu_time import takes_at_most

LOG = logging.getLogger("test")
NAME = "<b>Ünïcode</b> 🙂 & \"quotes\" 'n' \\ {{ x }} "


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "portproxy" / "port-rules.json"


@pytest.fixture
def rules(path):
    return PortRules(path, LOG)


def test_a_rule_is_made_replaced_and_removed(rules, path):
    made = rules.put({"ports": "8501", "label": NAME, "on_appear": "open", "scheme": "https", "keep_host": True, "pinned": True})
    assert (made.label, made.process, rules.list()) == (NAME.strip(), None, [made])
    assert PortRules(path, LOG).list() == [made]
    replaced = rules.put({"ports": " 8501 - 8501 ", "keep_host": False})
    assert (replaced.id, replaced.ports, replaced.label, replaced.scheme) == (made.id, "8501", "", None)
    assert rules.list() == [replaced]
    assert rules.remove(made.id) == replaced
    assert rules.list() == PortRules(path, LOG).list() == []
    with pytest.raises(NotFound, match=f"There is no port rule named '{made.id}'"):
        rules.remove(made.id)


def test_a_change_keeps_the_other_attributes(rules, path):
    made = rules.change({"ports": "8501", "label": "before", "keep_host": False})
    assert rules.list() == [made] and (made.label, made.keep_host, made.pinned) == ("before", False, False)
    changed = rules.change({"ports": " 8501-8501", "process": None, "pinned": True, "scheme": "https"})
    assert changed == replace(made, pinned=True, scheme="https") and PortRules(path, LOG).list() == [changed]
    assert rules.change({"ports": "8501", "label": None, "keep_host": None}) == replace(changed, label="", keep_host=None)
    for values in ({"ports": "8501", "label": "x" * 101}, {"process": "(a"}, {"ports": "8501", "process": "a"}):
        with pytest.raises(BadInput):
            rules.change(values)
    assert [rule.label for rule in rules.list()] == [""]


def test_a_replaced_rule_keeps_its_turn_and_the_id_is_that_of_the_match(rules, path):
    first, second = rules.put({"process": "a"}), rules.put({"process": "b"})
    assert rules.put({"process": "a", "on_appear": "silent"}).id == first.id != second.id
    assert [rule.process for rule in PortRules(path, LOG).list()] == ["a", "b"]
    assert rules.put({"ports": "1"}).id != rules.put({"process": "1"}).id


def test_each_attribute_is_that_of_the_narrowest_rule_which_sets_it(rules, path):
    rules.put({"ports": "8000-8999", "label": "thousand", "on_appear": "silent", "scheme": "http", "keep_host": True})
    rules.put({"ports": "8500-8599", "label": "hundred", "on_appear": "open", "activity": "people"})
    rules.put({"ports": "8501-8600", "label": "as narrow", "on_appear": "ignore", "scheme": "tcp"})
    rules.put({"ports": "8501", "keep_host": False})
    rules.put({"process": ".*", "label": "for browsers", "on_appear": "open"})
    assert rules.find(8501) == PortAttributes("hundred", "open", "tcp", False, "people")
    assert rules.find(8500) == PortAttributes("hundred", "open", "http", True, "people")
    assert rules.find(8600) == PortAttributes("as narrow", "ignore", "tcp", True)
    assert rules.find(8000) == rules.find(8999) == PortAttributes("thousand", "silent", "http", True)
    assert rules.find(7999) == rules.find(9000) == PortAttributes()


def test_another_server_sees_a_change_at_once(rules, path):
    other = PortRules(path, LOG)
    for number in range(20):
        before = other.version
        made = rules.put({"ports": "8501", "label": str(number)})
        assert other.find(8501).label == str(number) and other.version != before
        rules.remove(made.id)
        assert other.find(8501) == PortAttributes()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "A rule has either 'ports' or 'process'."),
        ({"label": "x"}, "A rule has either 'ports' or 'process'."),
        ({"ports": "80", "process": "x"}, "A rule has either 'ports' or 'process'."),
        *(
            ({"ports": ports}, f"Invalid ports: {str(ports)!r}.")
            for ports in ("0", "70000", "9000-8000", "", "80,81", "٨٠", "-1")
        ),
        *(({"ports": ports}, f"Invalid ports: {str(ports)!r}.") for ports in (8501, True, ["8501"], {})),
        ({"process": "(a"}, "The pattern '(a' is not a regular expression: missing ), unterminated subpattern at position 0."),
        ({"process": "a{99999999999999}"}, "The pattern 'a{99999999999999}' is not a regular expression: the repetition number"),
        ({"process": "(?=x)y"}, "The pattern '(?=x)y' has '(?='."),
        ({"process": "(a{99}){99}"}, "The pattern '(a{99}){99}' is too large."),
        ({"process": "x" * 201}, "The pattern has 201 characters."),
        ({"process": ""}, "The pattern is empty."),
        ({"process": 5}, "Invalid pattern: '5'."),
        ({"process": "a\0"}, "The pattern 'a\\x00' has a control character."),
        ({"ports": "80", "label": "<b>🙂</b>" * 40}, "The label has 320 characters."),
        ({"ports": "80", "label": "a\nb"}, "The label 'a\\nb' has a control character."),
        ({"ports": "80", "label": "\ud800"}, "The label '\\ud800' has a control character."),
        ({"ports": "80", "label": "a\u202eb"}, "The label 'a\\u202eb' has a control character."),
        ({"ports": "80", "label": 1}, "Invalid label: '1'."),
        ({"ports": "80", "on_appear": "OPEN"}, "Invalid on_appear: 'OPEN'."),
        ({"ports": "80", "on_appear": ["open"]}, "Invalid on_appear: \"['open']\"."),
        ({"ports": "80", "scheme": "ftp"}, "Invalid scheme: 'ftp'."),
        ({"ports": "80", "keep_host": "yes"}, "Invalid keep_host: 'yes'."),
        ({"ports": "80", "keep_host": 1}, "Invalid keep_host: '1'."),
        ({"ports": "80", "pinned": 1}, "Invalid pinned: '1'."),
        ({"ports": "80-81", "pinned": True}, "Only a single port can be added ('pinned')."),
        ({"process": "x", "pinned": True}, "Only a single port can be added ('pinned')."),
        ({"process": "x", "scheme": "http"}, "A rule for processes has no 'scheme', no 'keep_host' and no 'activity'."),
        ({"process": "x", "activity": "all"}, "A rule for processes has no 'scheme', no 'keep_host' and no 'activity'."),
        ({"ports": "1", "activity": "some"}, "Invalid activity: 'some'."),
        ({"process": "x", "keep_host": False}, "A rule for processes has no 'scheme', no 'keep_host' and no 'activity'."),
    ],
)
def test_bad_input_is_one_sentence(rules, path, values, text):
    with pytest.raises(BadInput) as caught:
        rules.put(values)
    assert caught.value.message.startswith(text) and caught.value.hint and len(caught.value.message) < 300
    assert not path.exists()


@pytest.mark.parametrize("pattern", ["streamlit", "(?i)vite|next", "[[a]", "(a+)+$", "(" * 50 + ")" * 50, "🙂{2}", "x" * 200])
def test_a_pattern_is_kept_as_it_is(rules, path, pattern):
    begun = time.monotonic()
    assert rules.put({"process": pattern}).process == pattern
    assert rules.find(8501) == PortAttributes() and PortRules(path, LOG).list()[0].process == pattern
    assert time.monotonic() - begun < 0.5


def test_there_is_a_limit(rules, path):
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"rules": [{"ports": str(port)} for port in range(2000, 2000 + MAX_RULES)]}))
    with pytest.raises(BadInput, match="There are 500 rules for ports already"):
        rules.put({"ports": "5000"})
    with pytest.raises(BadInput, match="There are 500 rules for ports already"):
        rules.change({"ports": "5000"})
    assert rules.put({"ports": "2000", "label": "not a new one"}) in rules.list() and len(rules.list()) == MAX_RULES


@pytest.mark.parametrize(
    "content",
    [
        *({}, [], None, {"rules": {}}, {"rules": [1]}, {"rules": [{}]}, {"rules": [{"ports": "0"}]}),
        *({"rules": [{"process": ""}]}, {"rules": [{"ports": "80", "more": 1}]}),
        {"rules": [{"ports": str(port)} for port in range(1, MAX_RULES + 2)]},
    ],
)
def test_a_damaged_file_says_nothing_and_is_not_written_over(rules, path, content, caplog):
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    assert (rules.find(80), rules.list()) == (PortAttributes(), [])
    assert caplog.text.count("the port rules in") == caplog.text.count("cannot be read") == 1
    for change in (lambda: rules.put({"ports": "80"}), lambda: rules.remove("x")):
        with pytest.raises(BadInput, match="The list of port rules is damaged"):
            change()
    assert json.loads(path.read_text()) == content


def test_500_patterns_of_a_file_cost_the_loop_under_100_ms(rules, path):
    """They are not compiled: browsers ignore those that they cannot compile."""
    pattern = "(?i)" + "([a-z0-9_é]|x{1,3}|(?:abc|def|ghi))+" * 4
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"rules": [{"process": f"{pattern}{n}("} for n in range(MAX_RULES)]}))
    with takes_at_most(0.1):
        assert len(rules.list()) == MAX_RULES


def test_a_rule_of_the_api_can_be_written_into_the_file(rules, path):
    rule = rules.put({"ports": "8501", "label": NAME})
    entry = json.loads(path.read_text())["rules"][0]
    assert entry["id"] == rule.id and {*KEYS, "id"} == entry.keys()


def test_the_largest_file_can_be_read_again(rules, path):
    label, pattern = "🙂" * 100, "🙂" * 197
    path.parent.mkdir(parents=True)
    entries = [{"process": f"{pattern}{n:03}", "label": label, "on_appear": "open_once"} for n in range(MAX_RULES)]
    path.write_text(json.dumps({"rules": entries}))
    rules.put({"process": f"{pattern}000", "label": label})
    assert len(PortRules(path, LOG).list()) == MAX_RULES
