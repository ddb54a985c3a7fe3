"""Ambiguous messages are refused: framing of requests and responses, heads of responses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.errors import BadFraming, BadUpstream
from jupyter_portproxy.protocol import framing

from ..support.tables import lines, table


@table("""
sent -> length
Content-Length: 0                    -> 0
Content-Length: 5|content-length: 5  -> 5
Content-Length: 5, 5                 -> 5
Transfer-Encoding: Chunked           ->
""")
def test_a_requests_framing_is_read(sent, length):
    assert framing.parse_request_content("HTTP/1.1", lines(sent)) == framing.Content(int(length) if length else None)
    assert framing.parse_request_content("HTTP/1.1", [("Accept", "5")]) is None


LENGTHS = [("Content-Length", value) for value in ("-5", "+5", "5 5", "", "5,", "5, 6", "0x5", "5.0", "\xa05", "\xb2", "9" * 40)]
CODINGS = ["\xa0chunked", "\x0bchunked", "chunked, chunked", "chunked, identity", "gzip, chunked", "xchunked", '"chunked"']
CODINGS = [("Transfer-Encoding", value) for value in CODINGS]
TWO_WAYS = """
Content-Length: 5|content-length: 6
Content-Length: 5|Content_Length: 6
Content-Length: 5|Transfer-Encoding: chunked
Transfer_Encoding: chunked|Content-Length: 5
Transfer-Encoding: chunked|Transfer-Encoding: chunked
"""


@pytest.mark.parametrize("fields", [*([one] for one in LENGTHS + CODINGS), *map(lines, TWO_WAYS.strip().splitlines())])
def test_a_request_that_can_be_read_in_two_ways_is_refused(fields):
    with pytest.raises(BadFraming):
        framing.parse_request_content("HTTP/1.1", fields)


def test_a_transfer_coding_in_http_1_0_is_refused():
    with pytest.raises(BadFraming):
        framing.parse_request_content("HTTP/1.0", [("Transfer-Encoding", "chunked")])


@pytest.mark.parametrize("field", LENGTHS + CODINGS)
def test_an_answer_that_can_be_read_in_two_ways_is_refused(field):
    with pytest.raises(BadUpstream):
        framing.check_head([("X-App", "1"), field])


def test_an_answer_with_equal_lengths_or_one_chunked_coding_is_taken():
    framing.check_head(lines("Content-Length: 5|content-length: 5, 5|Transfer-Encoding: Chunked|X-App: \t\xe4"))


@table(
    "start -> status -> reason\nHTTP/1.1 200 OK -> 200 -> OK\nHTTP/1.0 404 -> 404 ->\nHTTP/1.1 200 <b>\xe4\0 -> 200 -> <b>\xe4"
    "\nHTTP/1.1 999 -> 999 ->\nHTTP/1.1 600 Odd -> 600 -> Odd\nHTTP/1.1 200\tOK -> 200 -> OK\nHTTP/1.1 200OK -> 200 -> OK"
)
@table("head -> fields\n->\nA: 1|a:2 |B:x -> A: 1|a: 2|B: x\nA: 1|\t 2| 3|B: x:y\xe4 -> A: 1 2 3|B: x:y\xe4")
def test_an_answers_head_is_read(start, status, reason, head, fields):
    head = [line.encode("latin-1") for line in (start, *filter(None, head.split("|")))]
    assert framing.parse_head(head) == (int(status), reason, lines(fields))


@pytest.mark.parametrize("field", [b"Content-Length: 2", b"Content-Length: 0", b"Transfer-Encoding: chunked"])
def test_an_answer_that_has_no_content_has_no_length(field):
    assert framing.parse_head([b"HTTP/1.1 204 No Content", b"A: 1", field])[2] == [("A", "1")]


BAD_STARTS = ["", "OK", "HTTP/2 200", "HTTP/1.1 20", "HTTP/1.1 099", "HTTP/1.1 2000", "ICY 200 OK", "HTTP/1.1 \xb200"]
BAD_FIELDS = [
    [line] for line in (b" A: 1", b"A", b"A: \0", b"A: 1\rB: 2", b"Content-Length : 1", b"transfer-encoding\t: chunked")
]
BAD_FIELDS += [[b"A: 1"] * 1001, [b"Content-Length: 1", b"content-length: 2"], [b"Content-Length: 1", b"Content-Length:"]]
BAD_FIELDS += [[b"Content-Length: 1\x01"], [b"Transfer-Encoding: chunked\x0b"], [b"\xe4: 1", b"A"], [b"A: 1", b"", b"B"]]


@pytest.mark.parametrize("start", BAD_STARTS)
def test_an_answer_that_is_no_http_is_refused(start):
    with pytest.raises(BadUpstream):
        framing.parse_head([start.encode("latin-1")])


@pytest.mark.parametrize("fields", BAD_FIELDS)
def test_a_head_that_could_split_or_smuggle_is_refused(fields):
    with pytest.raises(BadUpstream):
        framing.parse_head([b"HTTP/1.1 200 OK", *fields])


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"X-\xe4: 1", "X-\xe4"),
        (b"X[1]: 1", "X[1]"),
        (b"A B: 1", "A B"),
        (b": 1", ": 1"),
        (b"  : 1", None),  # a folded line
        (b"A: \x01", "A"),
        (b"A: \x7f", "A"),
        (b"Set-Cookie: a=\x02", "Set-Cookie"),
        (b"Content-Length:", "Content-Length"),
        (b"Content-Length: \t", "Content-Length"),
        (b"Content-Length\xe4: 5", "Content-Length\xe4"),
    ],
)
def test_a_field_that_cannot_pass_is_dropped_with_its_folded_lines_and_named(line, name):
    dropped: list[str] = []
    head = [b"HTTP/1.1 200 OK", b"B: 1", line, *([b" folded"] if name else []), b"C: 2"]
    status, _, fields = framing.parse_head(
        head if line[:14] != b"Content-Length" or b"\xe4" in line else [*head[:3], b"C: 2"], dropped
    )
    assert (status, dropped) == (200, [name] if name else [])
    assert fields == ([("B", "1"), ("C", "2")] if name else [("B", "1 : 1"), ("C", "2")])


def test_what_is_given_twice_is_called_so():
    chunked = ("Transfer-Encoding", "chunked")
    for fields in ([chunked, chunked], [("transfer-encoding", "chunked, Chunked")]):
        with pytest.raises(BadUpstream, match="chunked is given more than once"):
            framing.check_head(fields)
    with pytest.raises(BadFraming, match="given more than once"):
        framing.parse_request_content("HTTP/1.1", [chunked, chunked])
    with pytest.raises(BadUpstream, match="is not chunked"):
        framing.check_head([chunked, ("Transfer-Encoding", "gzip")])


@given(st.lists(st.binary() | st.from_regex(rb"\A[A-Za-z-]{1,9}:[ -\xff]*\Z")))
def test_any_head_is_read_or_refused_and_none_carries_control_characters(head):
    try:
        _, _, fields = framing.parse_head([b"HTTP/1.1 200 OK", *head])
    except BadUpstream:
        return
    assert all(c == "\t" or ord(c) >= 32 for name, value in fields for c in name + value)


@pytest.mark.parametrize(
    ("names", "expected"), [({"Content-Length"}, True), ({"Transfer-Encoding", "Host"}, True), ({"Host", "Content-Type"}, False)]
)
def test_the_fields_of_a_request_announce_content(names, expected):
    assert framing.announces_content(names) is expected
