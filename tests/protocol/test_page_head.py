"""Title and icon of a page: what browsers read, from any bytes, in bounded time."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jupyter_portproxy.protocol.page_head import MAX_BYTES, build_icon_url, parse_page_head

from ..support.cpu_time import takes_less_than

WORST = [
    "<", "<!", "<![", "<![x]>", "<![<", "</", "<?", "&#", "<title>&#", "<title>&a", "<title ", "<title>", "</title", "<a>",
    "</a>",
    "<a b='", '<a b="', "<a b=\"c' d='e\" ", "<a b", "<a =", "<a ", "<a\n", "<a/", "<link", "<link ", "<link>", "<link rel=icon>",
    "<link rel=icon href='&#", "<!--", "<!-->", "<!--->", "<!-- -", "-->", "<script>", "<script></script>", "<style><",
    "<textarea", "\0", "<\0", "<a\0", "\xff", "<title>\x1b[31m", "]]>", "<![CDATA[",
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("<!DOCTYPE html><html><head><meta charset=utf-8><TITLE lang=en>A\n page</TITLE>", ("A page", "")),
        ("<title>a</title><![x]><p>b", ("a", "")),
        ("<![x]><title>a</title>", ("a", "")),
        ("<![<><title>a</title>", ("a", "")),
        ("<!-- <title>no</title> --><title>a</title>", ("a", "")),
        ("<!--><title>a</title>", ("a", "")),
        ("<script>'<title>no</title>'</script><title>a</title>", ("a", "")),
        ("<meta content='<title>no</title>'><title>a</title>", ("a", "")),
        ("<title>a <b>c</title>", ("a <b>c", "")),
        ("<title>a</titlex> b</title >", ("a</titlex> b", "")),
        ("<title>&lt;b&gt; &#8211; &eacute;</title>", ("<b> \u2013 \u00e9", "")),
        ("<title>a\0b\x1b[31m\u202ec</title>", ("ab[31mc", "")),
        ("<title></title><title>b</title>", ("b", "")),
        ("<link rel='shortcut ICON' href = a.ico >", ("", "a.ico")),
        ('<link href="a.ico?x=1&amp;y=2" rel=icon />', ("", "a.ico?x=1&y=2")),
        ("<link rel=icon/ href=b>", ("", "")),
        ("<link rel=stylesheet href=a.css><link rel=icon href=b.ico>", ("", "b.ico")),
        ("<link rel=icon rel=stylesheet href=a><link rel='apple-touch-icon' href=b>", ("", "a")),
        ("<link rel=icon href='a", ("", "")),
        ("<linkx rel=icon href=a><!link rel=icon href=a></link rel=icon href=a>", ("", "")),
    ],
)
def test_what_a_browser_reads_is_read(content, found):
    assert parse_page_head(content.encode()) == found


@pytest.mark.parametrize(
    ("icon", "url"),
    [
        ("a.ico", "/p/a.ico"), ("./a.ico", "/p/a.ico"), ("/a/b.ico?c=d:e", "/p/a/b.ico?c=d:e"),
        ("a..ico", "/p/a..ico"),
        ("", ""), ("//evil.example/a", ""), ("https:a", ""), ("data:image/png;base64,x", ""),
        ("\\\\evil.example", ""), ("/\\evil", ""),
        ("../../logout", ""), ("a/../../x", ""), ("/%2e%2E/x", ""), ("a/..", ""), ("..?x", ""), (".\t./x", ""), ("a\ud800", ""),
    ],
)  # fmt: skip
def test_an_icon_is_below_the_prefix_or_none(icon, url):
    assert build_icon_url(icon, "/p") == url


@pytest.mark.parametrize("unit", WORST)
@pytest.mark.parametrize("before", ["", "<title>", "<a ", "<link rel=icon href="])
def test_the_worst_pages_cost_little(unit, before):
    content = (before + unit * MAX_BYTES).encode("latin-1")[: 4 * MAX_BYTES]
    assert takes_less_than(0.02, lambda: parse_page_head(content))


@given(st.lists(st.sampled_from([*WORST, "'", '"', ">", "=", " ", "icon", "href", "x"]) | st.text(max_size=5), max_size=60))
@example(["<title>", "&#", "9" * 5000])
def test_no_page_raises(pieces):
    text = "".join(pieces)
    for content in (text.encode("utf-8", "surrogatepass"), text.encode("utf-16", "surrogatepass")):
        title, icon = parse_page_head(content)
        assert title.isprintable() and len(title) <= 200
        assert build_icon_url(icon, "/p") == "" or build_icon_url(icon, "/p").startswith("/p/")


@given(st.binary(max_size=2000))
def test_no_bytes_raise(content):
    parse_page_head(content)
    parse_page_head(b"<title>" + content)
    parse_page_head(b"<link rel=icon href='" + content)
