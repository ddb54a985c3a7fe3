from __future__ import annotations

import gzip
import zlib

import pytest

from jupyter_portproxy.diagnose.decoding import Inflater, decode_text

TEXT = "<p>Grüße</p>"
META = '<meta charset="{}"><p>Grüße'


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (TEXT.encode(), "text/html"),
        (TEXT.encode("utf-8-sig"), "text/html; charset=latin-1"),
        (b"\xff\xfe" + TEXT.encode("utf-16-le"), "text/html"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "text/html; charset=utf-8"),
        (TEXT.encode("utf-16-le"), "text/html"),
        (TEXT.encode("utf-16-be"), "text/html"),
        (TEXT.encode("utf-16-le"), "text/html; charset=UTF-16"),
        (TEXT.encode("latin-1"), 'text/html; charset="ISO-8859-1"'),
        (TEXT.encode("cp1252"), "text/html"),
        (TEXT.encode("koi8-r", "replace").replace(b"?", "ü".encode("cp1252")), "text/html; charset=windows-1252"),
    ],
)
def test_encodings(content, content_type):
    assert decode_text(content, content_type, is_html=True).replace("üüe", "üße") == TEXT


@pytest.mark.parametrize(("name", "encoding"), [("windows-1252", "cp1252"), ("utf-16", "utf-8"), ("iso-8859-15", "iso-8859-15")])
def test_the_encoding_in_the_page(name, encoding):
    text = META.format(name)
    assert decode_text(text.encode(encoding), "text/html", is_html=True) == text


@pytest.mark.parametrize("name", ["base64", "zlib", "idna", "unicode-escape", "utf-7", "none-such", "hex", "undefined", "rot13"])
def test_names_that_are_no_encodings_of_browsers(name):
    assert decode_text(TEXT.encode(), f"text/html; charset={name}", is_html=True) == TEXT


@pytest.mark.parametrize(
    ("coding", "encode"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data)[2:-4]),
        ("identity", bytes),
        ("", bytes),
    ],
)
def test_content_codings_in_pieces(coding, encode):
    data = bytes(range(256)) * 40
    inflater = Inflater(coding, 1 << 20)
    encoded = encode(data)
    for start in range(0, len(encoded), 7):
        inflater.feed(encoded[start : start + 7])
    assert (bytes(inflater.content), inflater.is_cut, inflater.is_broken) == (data, False, False)


def test_a_bomb_is_cut():
    inflater = Inflater("gzip", 1000)
    inflater.feed(gzip.compress(bytes(50 << 20)))
    assert (len(inflater.content), inflater.is_cut) == (1000, True)


def test_what_fits_exactly_is_not_cut():
    inflater = Inflater("", 4)
    inflater.feed(b"ab")
    inflater.feed(b"cd")
    assert (bytes(inflater.content), inflater.is_cut) == (b"abcd", False)
    inflater.feed(b"e")
    assert inflater.is_cut


def test_content_that_is_not_in_its_coding():
    inflater = Inflater("gzip", 1000)
    inflater.feed(b"<p>plain</p>")
    assert inflater.is_broken and not inflater.content
