"""No secret stays in what may be kept of a request, wherever it stood; what helps to understand the request does stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.diagnose import masking
from jupyter_portproxy.diagnose.masking import MASK, MAX_HEAD, MAX_URL, MAX_VALUE, mask_field, mask_fields, mask_url

SECRET = "s3cretValue"
SECRETS = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=8, max_size=30).map(lambda text: f"S3{text}")


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("/proxy/port/8050/a/b.js", "/proxy/port/8050/a/b.js"),
        ("/a?x=1&y=2", "/a?x=***&y=***"),
        ("/a?import&t=17&v", "/a?import&t=***&v"),
        ("/a?s3cretValue", "/a?***"),
        ("/a?abcdefghijklmnop", "/a?***"),
        ("/a?=x&&b=", "/a?=***&&b=***"),
        ("/a?x=1;y=2", "/a?x=***;y=***"),
        ("/a?next=/b?token=x#y", "/a?next=***#***"),
        ("/a#access_token=x&y=z", "/a#***"),
        ("http://ada:pass@h:1/a?b=c", "http://***@h:1/a?b=***"),
        ("//ada:pa/ss@h/", "//ada:pa/ss@h/"),  # no user information: its host is `ada`
        ("/a;jsessionid=x/b;v=1?c", "/a;jsessionid=***/b;v=***?c"),
        ("/proxy/enter/8050/x?token=y", "/proxy/enter/8050/x?token=***"),
        ("/proxy/enter/8050%3Ftoken%3Dx/y", "/proxy/enter/8050%3F***/y"),
        ("/proxy/enter?target=8050&next=%2Fx&nonce=n&ticket=t", "/proxy/enter?target=***&next=***&nonce=***&ticket=***"),
        ("http://p8050.localhost:8888/.portproxy/enter?ticket=t&next=%2F", "http://p8050.localhost:8888/.portproxy/enter?ticket=***&next=***"),
    ],
)  # fmt: skip
def test_urls(url, masked):
    assert mask_url(url) == masked


def test_a_known_secret_is_masked_in_the_attributes_of_a_cookie():
    assert mask_field("Set-Cookie", f"a=1; Path=/{SECRET}/b", [SECRET]) == "a=***; Path=/***/b"


@pytest.mark.parametrize(
    ("name", "value", "masked"),
    [
        ("Cookie", "a=s3cretValue; b=s3cretValue", "a=***; b=***"),
        ("cookie", "s3cretValue; a", "***; ***"),
        ("Set-Cookie", "sid=s3cretValue; Path=/a?s3cretValue; Max-Age=3; HttpOnly", "sid=***; Path=/a?***; Max-Age=3; HttpOnly"),
        ("Set-Cookie", "s3cretValue; X=s3cretValue; s3cretValue", "***; X=***; ***"),
        ("Authorization", "Bearer s3cretValue", "Bearer ***"),
        ("Authorization", "s3cretValue x", "***"),
        ("Proxy-Authorization", "Basic s3cretValue", "Basic ***"),
        ("WWW-Authenticate", 'Digest nonce="s3cretValue"', "Digest ***"),
        ("X-XSRFToken", "s3cretValue", "***"),
        ("X-Api-Key", "s3cretValue", "***"),
        ("X-Anything-Else", "s3cretValue", "***"),
        ("Referer", "https://h/a?b=s3cretValue#s3cretValue", "https://h/a?b=***#***"),
        ("Origin", "https://u:s3cretValue@h", "https://***@h"),
        ("Location", "/a;sid=s3cretValue?b=s3cretValue", "/a;sid=***?b=***"),
        ("Refresh", "5; url=/a?b=s3cretValue", "5; url=/a?b=***"),
        ("Link", '</a?s3cretValue>; rel="next", </b?c=s3cretValue>; rel=x', '</a?***>; rel="next", </b?c=***>; rel=x'),
        ("Sec-WebSocket-Protocol", "bearer, s3cretValue", "***, ***"),
        ("Sec-WebSocket-Protocol", "graphql-ws, v1.token.websocket.jupyter.org.s3cretValue", "graphql-ws, ***"),
        ("Content-Type", "text/html; charset=utf-8", "text/html; charset=utf-8"),
        ("Accept", "text/html;q=0.9, */*;q=0.8", "text/html;q=0.9, */*;q=0.8"),
        ("Content-Security-Policy", "default-src 'self'; report-uri /r?k=s3cretValue", "default-src 'self'; report-uri /r?k=***"),
        ("X-Frame-Options", "DENY", "DENY"),
    ],
)  # fmt: skip
def test_fields(name, value, masked):
    assert mask_field(name, value) == masked
    assert SECRET not in masked


@pytest.mark.parametrize("name", ["Referer", "User-Agent", "X-Frame-Options"])
def test_a_known_secret_is_masked_wherever_it_stands(name):
    assert SECRET not in mask_field(name, f"/a/{SECRET}/b", {SECRET})
    assert SECRET not in mask_url(f"/a/{SECRET}/b", {SECRET})


def test_a_line_that_is_known_for_one_login_is_masked_for_another():
    fields, known = [("Referer", f"/a/{SECRET}/b"), ("Accept", "*/*")], {}
    assert mask_fields(fields, {"anothersecret"}, known).startswith(f"Referer: /a/{SECRET}/b")
    assert mask_fields(fields, {SECRET}, known) == "Referer: /a/***/b\nAccept: */*"
    assert mask_fields(fields, {SECRET}, known) == "Referer: /a/***/b\nAccept: */*"


def test_known_lines_are_short():
    known = {}
    mask_fields([("X-Long" * 10_000, MASK), ("Accept", "*/*")], (), known)
    assert list(known) == [("Accept", "*/*")]


PLACES = [
    "/a?{}", "/a?x={}", "/a?x=1&y={}&z", "/a?x={};y", "/a#{}", "/a?b#{}", "//u:{}@h/", "http://{}@h:1/", "/a;sid={}/b",
    "/a%3Fx%3D{}", "/a?x=/b?y={}", "/a?x=\xff{}", "/?x=1&{}", "http://h/?a={}\thttp://h/?b={}",
]  # fmt: skip
CREDENTIALS = ["Cookie", "Set-Cookie", "Authorization", "Proxy-Authorization", "X-XSRFToken", "X-Auth-Token", "Api-Key"]


@given(SECRETS, st.sampled_from(PLACES), st.sampled_from(["Referer", "Location", "Content-Location", "Link", "Refresh", "Via"]))
def test_no_secret_of_a_url_stays(secret, place, name):
    url = place.replace("{}", secret)
    assert secret not in mask_url(url)
    if name != "Via" or not (";sid" in url or "%3F" in url):  # only fields for URLs may have these as parts of URLs
        assert secret not in mask_field(name, url)


@given(
    SECRETS,
    st.sampled_from(CREDENTIALS),
    st.sampled_from(["{}", " {} ", "a={}", "a=b; c={}", "x {}", "Bearer {}", '"{}"', "{};{},{}"]),
)
def test_no_secret_of_a_credential_stays(secret, name, form):
    assert secret not in mask_field(name, form.replace("{}", secret))


@given(st.text(st.characters(max_codepoint=255), max_size=4000), st.text(st.characters(max_codepoint=255), max_size=4000))
def test_any_text_is_one_bounded_line(name, value):
    assert len(mask_url(value)) <= MAX_URL
    head = mask_fields([(name.replace("\n", ""), value)] * 50)
    assert len(head) <= MAX_HEAD + 10 and len(mask_field(name, value)) <= MAX_VALUE
    assert "\n" not in mask_field(name, value)


def test_long_texts_take_linear_time_and_are_cut():
    for text in ("//" * 30000, "?" * 60000, ";a=" * 20000, "#" * 60000, "%3f" * 20000, "=&" * 30000, f"http://{'a' * 60000}@h/"):
        assert len(mask_url(text)) <= MAX_URL
        assert len(mask_field("Set-Cookie", text)) <= MAX_VALUE
    assert mask_url("/" + "a" * 5000).endswith("...")
    many = mask_fields([(f"X-{number}", "v") for number in range(5000)])
    assert len(many) <= MAX_HEAD + 10 and many.endswith("\n...: ")


def test_the_lists_of_names_are_in_lower_case_and_have_no_credentials():
    assert all(name == name.lower() for name in masking._KEPT | masking._URLS)
    assert masking._URLS <= masking._KEPT and not masking._KEPT & set(masking._RULES)
    assert not [name for name in masking._KEPT if any(word in name for word in ("token", "auth", "secret", "cookie", "key"))]
    assert MASK == "***"
