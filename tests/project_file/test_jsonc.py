import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.project_file.document import UnreadableFile
from jupyter_portproxy.project_file.jsonc import parse

from ..support.cpu_time import takes_at_most

TEXT = """// a comment
{
  "url": "https://example.org/*no comment*/", /* a
  comment */ "ports": [
    3000,
    "db:5432", // trailing
  ],
  "a": {"b": {"c": "\\"//"},},
}
"""


def test_comments_and_trailing_commas_are_no_part_of_the_value():
    assert parse(TEXT).value == {
        "url": "https://example.org/*no comment*/",
        "ports": [3000, "db:5432"],
        "a": {"b": {"c": '"//'}},
    }


def test_keys_and_items_have_their_lines():
    document = parse(TEXT)
    paths = [("url",), ("ports",), ("ports", 0), ("ports", 1), ("a",), ("a", "b", "c")]
    assert [document.line(*path) for path in paths] == [3, 4, 5, 6, 8, 8]


def test_a_value_has_the_line_of_its_key():
    document = parse('{"a":\n1,\n"b":\n{"c":\n[\n2]}}')
    assert [document.line(*path) for path in (("a",), ("b",), ("b", "c"), ("b", "c", 0))] == [1, 3, 4, 6]


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ('{"a": 1,\n"b" 2}', "It is not JSON: Expecting ':' delimiter in line 2.", 2),
        ("", "It is not JSON: Expecting value in line 1.", 1),
        ('{"a": [1,,2]}', "It is not JSON: Expecting value in line 1.", 1),
        ('{"a": NaN}', "It is not JSON: it has NaN.", None),
        ("[" * 10_000, "Its lists and objects are nested too deep.", None),
        ("[" * 100_000, "It has too many keys and values.", None),
        ("[" * 100 + "]" * 100, "Its lists and objects are nested too deep.", None),
        ('{"a": ' + "9" * 10_000 + "}", None, None),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(text, message, line):
    with pytest.raises(UnreadableFile) as caught:
        parse(text)
    assert message in (caught.value.message, None) and caught.value.line == line
    assert caught.value.message.endswith(".") and "\n" not in caught.value.message


def test_lists_may_be_nested_fifty_levels_deep():
    assert parse("[" * 50 + "]" * 50).value is not None


@pytest.mark.parametrize("text", ['/* "', '"\\"', "/*/", "// \\", '"\\', "[,"])
def test_the_time_for_what_is_not_closed_is_linear(text):
    with takes_at_most(1), pytest.raises(UnreadableFile):
        parse(text * ((256 << 10) // len(text)))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(), each, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_json_is_read_as_json(value):
    assert parse(json.dumps(value, indent=1)).value == value
    assert parse(json.dumps(value, ensure_ascii=False)).value == value


@given(st.text(st.sampled_from('{}[]:,"/*\\ \na1')))
def test_any_text_is_read_or_refused(text):
    try:
        parse(text)
    except UnreadableFile as error:
        assert error.message
