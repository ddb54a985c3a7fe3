from __future__ import annotations

import pytest

from jupyter_portproxy.diagnose.markup import MAX_REFERENCES, parse_page, parse_script, parse_style
from jupyter_portproxy.diagnose.observation import Evidence

PAGE = """<!DOCTYPE html>
<html><head><title> A &amp; B </title>
<base href="/app/">
<meta http-equiv="Content-Security-Policy" content="default-src 'self'">
<meta name=generator content=Hugo>
<link rel="shortcut icon" href="/favicon.ico"><link rel=stylesheet href="s.css"><link rel=alternate href="/feed">
<link rel=preload as=font href=/f.woff2><link rel="manifest" href="m.json">
<script src="/a.js?x=1&amp;y=2"></script>
<script>fetch("/api")</script>
<script type="application/json">{"fetch": "fetch('/no')"}</script>
<style>p { background: url(/p.png) }</style></head>
<body style="background: url('/b.png')"><!-- <img src="/no.png"> -->
<img srcset="/1x.png 1x, /2x.png 2x"><img src="data:image/png;base64,x"><iframe src="/frame"></iframe>
<a href="/about">About</a><a href="/about">About</a><a href="#top">Top</a>
<form action="/go"><input type=Password></form>
"""


def test_what_a_page_loads_and_names():
    found = [(each.kind, each.url, each.evidence.line) for each in parse_page(PAGE, "/").references]
    assert found == [
        ("image", "/favicon.ico", 6),
        ("style", "s.css", 6),
        ("font", "/f.woff2", 7),
        ("manifest", "m.json", 7),
        ("script", "/a.js?x=1&y=2", 8),
        ("fetch", "/api", 9),
        ("image", "/p.png", 11),
        ("image", "/b.png", 12),
        ("image", "/1x.png", 13),
        ("image", "/2x.png", 13),
        ("frame", "/frame", 13),
        ("link", "/about", 14),
        ("form", "/go", 15),
    ]


MORE = """<script type="importmap">{"imports": {"app": "/js/app.js", "react": "https://cdn.example/react.js"}}</script>
<svg><use href="/icons.svg#a"/></svg><button onclick="fetch(&quot;/click&quot;)">x</button>
<div hx-get=/rows hx-trigger=load></div><div data-hx-post="/save"></div><div hx-ext=ws ws-connect="/chat"></div>
<meta name="action-cable-url" content="/cable">"""


def test_import_maps_event_handlers_sprites_and_attributes_of_frameworks():
    assert [(each.kind, each.url, each.evidence.line) for each in parse_page(MORE, "/").references] == [
        ("script", "/js/app.js", 1),
        ("script", "https://cdn.example/react.js", 1),
        ("image", "/icons.svg#a", 2),
        ("fetch", "/click", 2),
        ("fetch", "/rows", 3),
        ("fetch", "/save", 3),
        ("socket", "/chat", 3),
        ("socket", "/cable", 4),
    ]


def test_what_a_page_says():
    document = parse_page(PAGE, "/x").document
    assert (document.title, document.base_href, document.has_password_field) == ("A & B", "/app/", True)
    assert document.base == Evidence("/x", 3, excerpt='<base href="/app/">')
    policy = document.meta("content-security-policy")
    assert policy is not None and (policy.value, policy.evidence.line) == ("default-src 'self'", 4)
    assert document.meta("generator").value == "Hugo"


def test_scripts_and_styles_have_lines_and_excerpts():
    [found] = parse_script('let a = 1\n\nfetch("/api")\n', "/a.js")
    assert found.evidence == Evidence("/a.js", 3, excerpt='fetch("/api")')
    [found] = parse_style("\np { background: url(/p.png) }", "/s.css")
    assert (found.url, found.evidence.file, found.evidence.line) == ("/p.png", "/s.css", 2)


def test_an_excerpt_of_a_long_line_surrounds_the_url():
    [found] = parse_script(f'{"x;" * 50_000}fetch("/api"){";y" * 50_000}', "/a.js")
    assert len(found.evidence.excerpt) <= 160 and 'fetch("/api")' in found.evidence.excerpt


def test_the_number_of_references_is_limited():
    page = "".join(f'<img src="/{number}.png">\n' for number in range(10_000))
    assert len(parse_page(page, "/").references) == MAX_REFERENCES


def test_control_characters_do_not_reach_an_excerpt():
    [found] = parse_page("<img alt='\x1b[31m' src=/a.png>", "/").references
    assert found.evidence.excerpt == r"<img alt='\x1b[31m' src=/a.png>"


def test_links_in_source_text_are_examples():
    page = "<pre><a href='http://localhost:8000/'>x</a><img src=/a.png></pre><a href=/b>b</a><code><a href=/c>"
    page += "</code><a href=/d>d</a><kbd><a href=/e>"
    assert [each.url for each in parse_page(page, "/").references] == ["/a.png", "/b", "/d", "/e"]


@pytest.mark.parametrize(
    ("value", "urls"),
    [
        ("/a.png 1x, /b.png 2x", ["/a.png", "/b.png"]),
        ("\n/a.png 320w,\n\t/b.png 640w\n", ["/a.png", "/b.png"]),
        ("/a.png 1x,/b.png 2x", ["/a.png", "/b.png"]),
        ("/w_1,h_2/a.png, /b.png", ["/w_1,h_2/a.png", "/b.png"]),
        ("/a.png", ["/a.png"]),
        (" , ,", []),
    ],
)
def test_urls_of_srcset(value, urls):
    assert [each.url for each in parse_page(f'<img srcset="{value}">', "/").references] == urls
