import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.project_file.document import UnreadableFile
from jupyter_portproxy.project_file.yaml_text import Tagged, parse

from ..support.cpu_time import takes_at_most


def value_of(text):
    (document,) = parse(text)
    return document.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("22:22", "22:22"),
        ("on", "on"),
        ("yes", "yes"),
        ("2026-11-30", "2026-11-30"),
        ("3000", 3000),
        ("0o17", 15),
        ("0x1F", 31),
        ("0123", "0123"),
        ("'3000'", "3000"),
        ("!!str 3000", "3000"),
        ("1.5", 1.5),
        ("true", True),
        ("~", None),
        ("9" * 10_000, "9" * 10_000),
    ],
)
def test_scalars_have_the_types_of_yaml_1_2(text, value):
    assert value_of(f"a: {text}") == {"a": value}


def test_anchors_and_merge_keys():
    text = "x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: {<<: [{a: 4}, *x]}\n"
    assert value_of(text) == {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}, "z": {"a": 4, "b": 2}}


def test_the_tags_of_compose_are_kept():
    assert value_of("a: !reset []\nb: !override [1]\nc: !other [2]\nd: !reset null") == {
        "a": Tagged("!reset", []),
        "b": Tagged("!override", [1]),
        "c": [2],
        "d": Tagged("!reset", "null"),
    }


def test_lines_and_repeated_keys():
    (document,) = parse("ports:\n- 1\n- port: 2\n  name: x\nservices:\n  web: {a: 1}\n  web:\n    a: 2\n")
    assert [document.line(*path) for path in (("ports",), ("ports", 0), ("ports", 1, "name"), ("services", "web"))] == [
        1,
        2,
        4,
        6,
    ]
    assert document.repeated == ((("services", "web"), 7),)
    assert document.value["services"] == {"web": {"a": 1}}


def test_a_stream_may_have_several_documents():
    assert [document.value for document in parse("a: 1\n---\nb: 2\n")] == [{"a": 1}, {"b": 2}]
    assert parse("") == []


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: [1\nb: 2", "It is not YAML: did not find expected ',' or ']' in line 2.", 2),
        ("a: 1\n\tb: 2", None, 2),
        ("a: 1\nb: \x07", "It is not YAML: the character '\\x07' is not allowed.", 2),
        ("a: *b", "'*b' in line 1 is the alias of nothing.", 1),
        ("a: &a\n- *a", "'*a' in line 2 is within what it stands for.", 2),
        ("? [1]\n: 2", "A key in line 1 is not a text.", 1),
        ("a: 1\n<<: 1\nb: 2", "'<<' in line 2 merges what is not a mapping.", 2),
        ("[" * 60 + "]" * 60, "Line 1 is nested too deep.", 1),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(text, message, line):
    with pytest.raises(UnreadableFile) as caught:
        parse(text)
    assert message in (caught.value.message, None)
    assert line in (caught.value.line, None)
    assert caught.value.message.endswith(".") and "\n" not in caught.value.message


LAUGHS = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40))
MERGES = "a: &a {" + ", ".join(f"k{i}: 1" for i in range(5000)) + "}\n" + "".join(f"b{i}: {{<<: *a}}\n" for i in range(5000))


@pytest.mark.parametrize("text", [LAUGHS, MERGES, "[" * (256 << 10), "- " * (128 << 10), "{a: " * (64 << 10), "&a " * (80 << 10)])
def test_bombs_take_less_than_a_second(text):
    with takes_at_most(1):
        try:
            parse(text)
        except UnreadableFile as error:
            assert error.message


def test_merge_keys_add_a_limited_number_of_entries():
    with pytest.raises(UnreadableFile) as caught:
        parse(MERGES)
    assert caught.value.message == "Its merge keys ('<<') add too many entries."


@given(st.text(st.sampled_from("abc:-&*[]{}<?!'\"#| \n1") | st.characters(codec="utf-8")))
def test_any_text_is_read_or_refused(text):
    try:
        parse(text)
    except UnreadableFile as error:
        assert error.message
