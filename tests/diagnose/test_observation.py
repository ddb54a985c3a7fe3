from __future__ import annotations

import pytest

from jupyter_portproxy.diagnose.observation import Document, Evidence, MetaTag, Observation, Response, Target, Visit

TARGET = Target("8050", 8050, "/ann/proxy/port/8050", "/ann/proxy/absolute/port/8050", "/ann/", "https://hub.example")


def visit(kind: str, url: str = "", proxied_url: str = "") -> Visit:
    return Visit(kind, url, Evidence("/"), url, proxied_url)


@pytest.mark.parametrize(
    ("url", "leaves"),
    [
        ("/ann/proxy/port/8050/a.js", False),
        ("/ann/proxy/absolute/port/8050/a.js", False),
        ("/ann/proxy/absolute/8050/a.js", False),
        ("/ann/proxy/8050/a.js", False),
        ("/ann/port/8050/a.js", False),
        ("/ann/server/8050/a.js", False),
        ("/ann/proxy/absolute/8051/a.js", True),
        ("/proxy/absolute/8050/a.js", True),
        ("/ann/proxy/port/80501/a.js", True),
        ("/static/a.js", True),
        ("/ann/proxy/port/8050/../x", True),
        ("https://cdn.example/a.js", False),
    ],
)
def test_what_leaves_the_prefix(url, leaves):
    assert Observation(TARGET, ()).leaves_prefix(visit("script", "a.js", url)) is leaves


def test_the_prefixes_of_a_service():
    socket = Target("x", None, "/proxy/service/x", "/proxy/service/x", "/", "http://localhost:8888")
    assert (socket.stripped_prefixes, socket.kept_prefixes) == (("/proxy/service/x",), ("/proxy/service/x",))
    kept = Target("x", 8050, "/proxy/service/x", "/proxy/service/x", "/", "http://localhost:8888", keeps_prefix=True)
    assert kept.stripped_prefixes == ("/proxy/8050", "/server/8050")
    assert kept.kept_prefixes == ("/proxy/service/x", "/proxy/absolute/port/8050", "/proxy/absolute/8050", "/port/8050")


def test_the_page_is_the_last_one_of_its_redirects():
    last = visit("page", "/login")
    seen = Observation(TARGET, (visit("page", "/"), last, visit("script", "a.js")))
    assert seen.page is last
    assert [v.url for v in seen.of_kind("page", "script")] == ["/", "/login", "a.js"]


def test_only_redirects_have_a_redirect_url():
    location = (("Location", "/x"),)
    assert [Response(status, fields=location).redirect_url for status in (301, 304, 308, 200)] == ["/x", "", "/x", ""]


def test_a_visit_is_broken_if_it_works_on_localhost_alone():
    works, fails = Response(200), Response(404)
    broken = [
        Visit("image", "", Evidence("/"), direct=d, proxied=p).is_broken for d in (works, fails) for p in (works, fails, None)
    ]
    assert broken == [False, True, False, False, False, False]


def test_responses_with_an_error_are_not_ok():
    statuses = (0, 101, 200, 204, 304, 404)
    assert [Response(status).is_ok for status in statuses] == [False, True, True, True, False, False]
    assert not Response(200, error="timeout").is_ok


def test_root_relative_urls():
    assert [visit("script", url).is_root_relative for url in ("/a", "//h/a", "a", "http://h/a")] == [True, False, False, False]


def test_fields_and_meta_tags_are_found_by_their_names():
    response = Response(200, fields=(("Set-Cookie", "a=1"), ("X", "y"), ("set-cookie", "b=2")))
    assert response.field("x") == "y"
    assert response.all_fields("set-cookie") == ["a=1", "b=2"]
    tag = MetaTag("refresh", "0; url=/x", Evidence("/", 2))
    assert Document(metas=(tag,)).meta("refresh") is tag
    assert Document().meta("refresh") is None


def test_the_scheme_of_the_browser():
    assert TARGET.is_secure
