"""What a hop tells the next one, in one field."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.told import HOP, Told, read

FORWARDING = (
    ("X-Forwarded-For", "192.0.2.1, 198.51.100.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "hub.example.org"),
    ("X-Forwarded-Port", "443"),
    ("Forwarded", 'for=192.0.2.1;proto=https;host="hub.example.org", for="[2001:db8::1]"'),
)
LATIN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), min_size=1)


def test_it_is_one_field_that_people_can_read():
    name, value = Told("the-credential", "ann", may_start=True).field(FORWARDING)
    assert name == HOP
    assert value.startswith("credential=the-credential&user=ann&may=start&for=192.0.2.1,%20198.51.100.7&proto=https&")


@given(LATIN, st.text(st.characters(exclude_categories=["Cs"])), st.booleans(), st.tuples(*[LATIN] * 5))
def test_what_is_said_is_what_is_read(credential, user, may_start, values):
    forwarding = tuple(zip([name for name, _ in FORWARDING], values, strict=True))
    _, value = Told(credential, user, may_start).field(forwarding)
    assert re.fullmatch(r"[\x21-\x7e]*", value)  # any field may have it
    assert read(value) == Told(credential, user, may_start, forwarding)


def test_what_has_no_value_is_not_said():
    assert Told().field([]) == (HOP, "")
    assert Told().field([("x-forwarded-port", "80"), ("X-Forwarded-Host", ""), ("Other", "x")]) == (HOP, "port=80")
    assert read("port=80") == Told(forwarding=(("X-Forwarded-Port", "80"),))


@pytest.mark.parametrize(
    "value", ["", "nonsense", "the-credential ann start", "may=anything", "&".join(f"user={n}" for n in range(17))]
)
def test_what_cannot_be_read_says_nothing(value):
    assert read(value) == Told()


def test_only_who_has_shown_a_credential_is_refused_for_it():
    refusal = [("Content-Type", "text/html"), ("x-portproxy-refusal", "credential")]
    assert Told("wrong").is_refused(403, refusal)
    assert not Told("wrong").is_refused(200, refusal) and not Told("wrong").is_refused(403, refusal[:1])
    assert not Told().is_refused(403, refusal)


def test_a_credential_is_not_shown():
    assert "the-credential" not in repr(Told("the-credential"))
