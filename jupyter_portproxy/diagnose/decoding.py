"""The text of a response: its content coding and its character encoding. Pure; no input raises, and the size is bounded."""

from __future__ import annotations

import codecs
import re
import zlib

_CHARSET = re.compile(r"charset\s*=\s*[\"']?([a-z0-9._:-]{1,40})", re.IGNORECASE | re.ASCII)
_META_CHARSET = re.compile(rb"<meta\b[^>]{0,200}?\bcharset\s*=\s*[\"']?\s*([a-z0-9._:-]{1,40})", re.IGNORECASE)
_PRESCAN = 1024  # bytes in which a page names its encoding (HTML Living Standard, 4.2.5.4)
_MARKS = (  # byte order marks; those of UTF-32 are none for browsers
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What codecs.lookup knows and browsers do not: other forms of text, and those whose decoders read escapes.
_NO_CHARSETS = frozenset({"idna", "punycode", "undefined", "raw-unicode-escape", "unicode-escape", "utf-7", "mbcs", "oem"})
CONTENT_CODINGS = ("gzip", "x-gzip", "deflate", "identity", "")


class Inflater:
    """Decodes the content coding of a response as it arrives, up to a size.

    Attributes:
        content: what has been decoded.
        is_cut: there is more than `limit` bytes.
        is_broken: the content is not in the coding that the response names.

    Args:
        coding: the value of Content-Encoding; one of CONTENT_CODINGS.
        limit: bytes that are kept.
    """

    def __init__(self, coding: str, limit: int) -> None:
        self.content, self.is_cut, self.is_broken = bytearray(), False, False
        self._limit = limit
        self._coding = coding.strip().lower()
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 32) if self._coding not in ("", "identity") else None
        self._is_first = True

    def feed(self, data: bytes) -> None:
        left = self._limit - len(self.content)
        if self._decoder is not None and not self.is_broken:
            data = self._inflate(data, left + 1)
        self.is_cut = self.is_cut or len(data) > left
        self.content += data[: max(left, 0)]

    def _inflate(self, data: bytes, size: int) -> bytes:
        """At most `size` bytes of what `data` decodes to. `deflate` without zlib's header is common (RFC 9110 8.4.1.2)."""
        assert self._decoder is not None
        is_first, self._is_first = self._is_first and bool(data), self._is_first and not data
        try:
            return self._decoder.decompress(data, max(size, 1))
        except zlib.error:
            if is_first and self._coding == "deflate":
                self._decoder = zlib.decompressobj(-zlib.MAX_WBITS)
                return self._inflate(data, size)
            self.is_broken = True
            return b""


def decode_text(content: bytes, content_type: str, *, is_html: bool) -> str:
    """The text, by its byte order mark, the charset of Content-Type, the page's own `<meta>`, or else UTF-8 or Windows-1252."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace")
    named = _CHARSET.search(content_type)
    encoding = _find_encoding(named[1]) if named is not None else ""
    if not encoding and content[:4].count(0) == 2:  # UTF-16 without a mark: two ASCII characters
        encoding = "utf-16-le" if content[1] == 0 else "utf-16-be"
    if not encoding and is_html and (meta := _META_CHARSET.search(content[:_PRESCAN])) is not None:
        encoding = _find_encoding(meta[1].decode("ascii", "replace"))
        encoding = "utf-8" if encoding.startswith("utf-16") else encoding  # it could not be read as ASCII
    if encoding:
        return content.decode(encoding, "replace")
    text = content.decode("utf-8", "replace")
    return content.decode("cp1252", "replace") if is_html and text.count("\ufffd") > len(text) // 20 else text


def _find_encoding(name: str) -> str:
    """Python's name of a character encoding; empty for none that a browser knows."""
    try:
        encoding = codecs.lookup(name.lower()).name
        "".encode(encoding)  # LookupError for codecs between bytes
    except (LookupError, ValueError):
        return ""
    if encoding.replace("_", "-") in _NO_CHARSETS:
        return ""
    return "utf-16-le" if encoding == "utf-16" else encoding
