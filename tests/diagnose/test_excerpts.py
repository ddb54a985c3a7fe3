from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.diagnose.excerpts import MAX_EXCERPT, locate, locate_field, locate_start, make_excerpt
from jupyter_portproxy.diagnose.observation import Evidence


def test_the_line_of_what_is_meant():
    text = 'one\n  two "/x"\nthree'
    assert locate("/a.js", text, text.index("/x"), text.index("/x") + 2) == Evidence("/a.js", 2, "", 'two "/x"')


def test_a_bundle_in_one_line_is_cut_around_what_is_meant():
    text = "a" * 5000 + 'fetch("/x")' + "b" * 5000
    found = locate("/a.js", text, 5000, 5011)
    assert found.line == 1
    assert 'fetch("/x")' in found.excerpt
    assert len(found.excerpt) <= MAX_EXCERPT


@pytest.mark.parametrize(
    ("text", "excerpt"),
    [
        ("a\x1b[31mred\x00", r"a\x1b[31mred\x00"),
        ("a\u202eb", r"a\u202eb"),
        ("/x?token=abcdef&page=2", "/x?token=***&page=2"),
        ('{"apiKey": "abcdef", "name": "x"}', '{"apiKey": "***", "name": "x"}'),
        ("  a\n\t b ", "a b"),
    ],
)
def test_control_characters_are_escaped_and_secrets_masked(text, excerpt):
    assert make_excerpt(text) == excerpt


@pytest.mark.parametrize(
    ("name", "value", "excerpt"),
    [
        ("Set-Cookie", "sid=abcdef; Path=/; Secure", "sid=***; Path=/; Secure"),
        ("Authorization", "Bearer abcdef", "Bearer ***"),
        ("Cookie", "a=b", "***"),
        ("Location", "/login?next=/&token=abcdef", "/login?next=/&token=***"),
    ],
)
def test_values_of_fields(name, value, excerpt):
    assert locate_field("/", name, value) == Evidence("/", None, name, excerpt)


@given(st.text(max_size=2000))
def test_any_text_becomes_one_short_line(text):
    excerpt = make_excerpt(text)
    assert len(excerpt) <= MAX_EXCERPT
    assert excerpt.isprintable()


def test_the_first_line_of_a_text():
    assert locate_start("/", "\n <p>one\ntwo") == Evidence("/", 1, excerpt="<p>one")
    assert locate_start("/", "\n") == Evidence("/")
