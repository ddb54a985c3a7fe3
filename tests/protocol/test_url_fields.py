"""Which URLs the forms of header fields find, and that all else of a value stays byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.protocol.url_fields import PAGE_FIELDS, REQUEST_URL_FIELDS, RESPONSE_URL_FIELDS, parse_refresh

FORMS = {**RESPONSE_URL_FIELDS, **REQUEST_URL_FIELDS}


@pytest.mark.parametrize(
    ("name", "value", "changed"),
    [
        ("location", "/x", "</x>"),
        ("location", "", "<>"),
        ("refresh", "5", "5"),
        ("refresh", "5; url=/x", "5; url=</x>"),
        ("refresh", "0.5,URL = '/x'; more", "0.5,URL = '</x>'; more"),
        ("refresh", '1 url="/x"', '1 url="</x>"'),
        ("refresh", "0; /x", "0; </x>"),
        ("link", '</a>; rel="next", <b>; title="<c>"', '<</a>>; rel="next", <<b>>; title="<c>"'),
        ("link", '</a>; anchor="/b"', '<</a>>; anchor="</b>"'),
        ("uri", "</a>, </b>", "<</a>>, <</b>>"),
        ("if", '<http://h/a> (<urn:uuid:1> ["e>"]) </b> (<x>)', '<<http://h/a>> (<urn:uuid:1> ["e>"]) <</b>> (<x>)'),
        ("if", "(<urn:uuid:1>)", "(<urn:uuid:1>)"),
        ("hx-location", "/x", "</x>"),
        ("hx-location", '{"path":"/x", "target":"/y"}', '{"path":"</x>", "target":"/y"}'),
        ("speculation-rules", '"/a.json", "/b.json"', '"</a.json>", "</b.json>"'),
        ("upload-concat", "final;/a /b", "<final>;</a> </b>"),
    ],
)
def test_the_urls_of_a_value_are_found(name, value, changed):
    assert FORMS[name](value, lambda url: f"<{url}>") == changed


@pytest.mark.parametrize(
    ("value", "refresh"),
    [
        ("5", (0, "")),
        ("5; url=/x", (5, "/x")),
        ("0.5,URL = '/x'; more", (0, "/x")),
        (' 61 url="/x y" ', (61, "/x y")),
        ("..; /x ", (0, "/x")),
        (f"{'9' * 5000}; /x", (float("inf"), "/x")),
        ("/x", (0, "")),
    ],
)
def test_a_refresh(value, refresh):
    assert parse_refresh(value) == refresh


@given(st.sampled_from(sorted(FORMS)), st.text(st.sampled_from("<>\"'()=;, /ax\\{}"), max_size=60))
def test_a_value_whose_urls_stay_is_the_same(name, value):
    assert FORMS[name](value, lambda url: url) == value


def test_pages_are_fields_of_requests():
    assert set(REQUEST_URL_FIELDS) >= PAGE_FIELDS and not set(RESPONSE_URL_FIELDS) & set(REQUEST_URL_FIELDS)
