from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.protocol.html_tags import HtmlTags

from ..support.cpu_time import takes_less_than


def read(text: str, max_steps: int = 1000) -> list[tuple[str, dict[str, str], str]]:
    return [(tag.name, tag.attributes, tag.content) for tag in HtmlTags(text, max_steps, 100)]


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("<P class=a ID='b' x>", [("p", {"class": "a", "id": "b", "x": ""}, "")]),
        ("a < b <!doctype html><!-- <p> --><br/>", [("br", {}, "")]),
        ("<script>if (a < b) '<p>'</script><i>", [("script", {}, "if (a < b) '<p>'"), ("i", {}, "")]),
        ("<title>a</titles></title><b>", [("title", {}, "a</titles>"), ("b", {}, "")]),
        ("<img src='a' src='b'", [("img", {}, "")]),
        ('<a href="never closed><b>', [("a", {}, "")]),
        ("</p><p>", [("p", {}, "")]),
    ],
)
def test_start_tags(text, tags):
    assert read(text) == tags


def test_a_tag_has_its_place():
    [tag] = HtmlTags("ab<p x=1>c", 10, 10)
    assert (tag.start, tag.end) == (2, 9)


def test_steps_and_content_are_limited():
    assert len(read("<p>" * 100, 10)) == 5  # a step for the tag and one for its end
    [(_, _, content)] = read("<script>" + "x" * 1000)
    assert len(content) == 100


@given(st.text(alphabet="<>/!-= \"'asctripe\n"))
def test_no_text_raises(text):
    for tag in HtmlTags(text, 10_000, 100):
        assert text[tag.start] == "<" and tag.start < tag.end <= len(text)


@pytest.mark.parametrize("piece", ["<", "<a ", "<!--", "<script>", '<a href="x">', "<a b=", "</"])
def test_the_work_is_linear(piece):
    text = piece * (400_000 // len(piece))
    assert takes_less_than(2, lambda: list(HtmlTags(text, 400_000, 100)), runs=3)
