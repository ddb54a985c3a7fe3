from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.project_file.port_order import resolve
from jupyter_portproxy.protocol.urls import parse_ports
from jupyter_portproxy.services.port_rules import parse_rule


def rule(ports, **values):
    return parse_rule({"ports": ports, **values})


def test_two_rules_for_the_same_ports_become_one():
    (merged,) = resolve([rule("3000", label="first", pinned=True), rule("3000", label="second", on_appear="open")])
    assert (merged.label, merged.on_appear, merged.pinned) == ("first", "open", True)


def test_rules_whose_order_is_that_of_their_width_stay():
    rules = [
        rule("3000", label="a"),
        rule("3000-3999", label="b"),
        rule("1-65535", on_appear="silent"),
        parse_rule({"process": "vite"}),
    ]
    assert resolve(rules) == rules


def test_a_wider_rule_that_comes_first_keeps_its_ports():
    resolved = resolve([rule("3000-3002", label="a"), rule("3001", label="b", scheme="https"), rule("3002-3004", label="c")])
    assert [(each.ports, each.label, each.scheme) for each in resolved] == [
        ("3000", "a", None),
        ("3001", "a", "https"),
        ("3002", "a", None),
        ("3003-3004", "c", None),
    ]
    assert [each.id for each in resolved] == [rule(each.ports).id for each in resolved]


def test_a_single_port_is_listed_within_a_range_that_is_not():
    rules = [rule("3000-3999", label="a"), rule("3001", pinned=True), rule("3002-4000", label="b")]
    assert [(each.ports, each.label, each.pinned) for each in resolve(rules)] == [
        ("3000", "a", False),
        ("3001", "a", True),
        ("3002-3999", "a", False),
        ("4000", "b", False),
    ]
    assert resolve(rules[:2]) == rules[:2]
    assert resolve([rule("3000", keep_host=False), rule("3000", keep_host=True)])[0].keep_host is False


def test_different_attributes_do_not_collide():
    rules = [rule("3000-3999", on_appear="silent"), rule("3001", label="b")]
    assert resolve(rules) == rules


RANGES = st.tuples(
    st.integers(1, 12), st.integers(0, 6), st.sampled_from(["", "a", "b"]), st.sampled_from([None, "open", "silent"])
)


@given(st.lists(RANGES, max_size=8))
def test_each_port_gets_the_attributes_of_the_first_rule_that_has_them(ranges):
    rules = [rule(f"{first}-{first + more}", label=label, on_appear=action) for first, more, label, action in ranges]
    resolved = sorted(resolve(rules), key=lambda each: len(parse_ports([each.ports])[0]))  # as services.port_rules applies them
    for port in range(1, 20):
        for name in ("label", "on_appear"):
            expected, found = (
                next((value for each in given if port in parse_ports([each.ports])[0] and (value := getattr(each, name))), None)
                for given in (rules, resolved)
            )
            assert found == expected
