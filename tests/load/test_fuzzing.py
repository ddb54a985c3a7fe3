"""What parses the outside keeps its promises for whatever hypothesis and the corpus come up with; `make fuzz` looks longer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .fuzzing import CORPUS, TARGETS

WORDS = rb"""HTTP/1.1|200 OK|: |/|..|%2e|?|&|=|;|,| |\|//|[::1]|@|Set-Cookie|Location|Cookie|Connection|Content-Length
Transfer-Encoding|chunked|Path=|Domain=|proxy/|port/|absolute/|service/|8050|localhost:8050|/user/ada/|http://|token=|_xsrf
0123456789abcdef-token|username-hub-8888|hub.example:8888|__Host-|Authorization|Bearer |Via|Forwarded|Referer|Origin
Service-Worker-Allowed|{|}|"name"|1e9""".replace(b"\n", b"|").split(b"|")
WORDS += [b"\r\n", b"\t", b"\n", b"\x00", b"\xff", b"\x7f", b"\x81\x7e"]
PIECES = st.one_of(st.sampled_from(WORDS), st.binary(max_size=6))
DATA = st.one_of(st.binary(max_size=400), st.lists(PIECES, max_size=30).map(b"".join))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=400, deadline=None)
@given(data=DATA)
def test_promises_hold(name, data):
    TARGETS[name](data)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_corpus_holds(path):
    TARGETS[path.parent.name](path.read_bytes())


def test_every_target_has_a_small_corpus():
    for name in TARGETS:
        files = list((CORPUS / name).iterdir())
        assert 0 < len(files) <= 20 and sum(path.stat().st_size for path in files) < 20_000
