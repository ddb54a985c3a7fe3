"""Looks at real services through a real Jupyter server."""

from __future__ import annotations

import asyncio
import gzip
import time
import tracemalloc

import pytest

from jupyter_portproxy.diagnose import crawl
from jupyter_portproxy.diagnose.page_client import MAX_REDIRECTS

from ..support.upstreams import serve
from .conftest import Reply, site

PAGE = """<html><head>
<link rel=stylesheet href="s.css"><script src="/static/app.js"></script>
</head><body><a href="/about">About</a><form action="/go" method=post></form>
<img src="http://cdn.example/x.png"><iframe src="inner/"></iframe>
<script>new WebSocket("ws://" + location.host + "/ws"); new WebSocket("live"); fetch("/api")</script>"""
SITE = {
    "/": PAGE,
    "/s.css": Reply("a { background: url(/bg.png) } @import 'more.css'", "text/css"),
    "/more.css": Reply("b { background: url(deep.png) }", "text/css"),
    "/static/app.js": Reply('import "./x.js"; fetch("data.json")', "text/javascript"),
    "/static/x.js": Reply('import "./y.js"', "text/javascript"),
    "/bg.png": Reply(b"x", "image/png"),
    "/inner/": Reply("<script src=no.js></script>"),
}


def redirect(to: str, status: str = "302 Found", *fields: str) -> Reply:
    return Reply(status=status, fields=[f"Location: {to}", *fields])


def targets(seen) -> list[str]:
    return sorted({request.target for request in seen.requests})


async def test_the_page_and_its_parts_are_seen_both_ways(observe, jp_base_url):
    async with serve(site(SITE)) as service:
        seen = await observe(service.port)
    prefix = f"{jp_base_url}proxy/port/{service.port}"
    rows = [(v.kind, v.url, v.direct_url, v.proxied_url.replace(prefix, "@")) for v in seen.pages]
    assert rows == [
        ("page", "/", "/", "@/"),
        ("style", "s.css", "/s.css", "@/s.css"),
        ("script", "/static/app.js", "/static/app.js", "/static/app.js"),
        ("link", "/about", "/about", "/about"),
        ("post", "/go", "/go", "/go"),
        ("image", "http://cdn.example/x.png", "http://cdn.example/x.png", "http://cdn.example/x.png"),
        ("frame", "inner/", "/inner/", "@/inner/"),
        ("socket", "/ws", "/ws", "/ws"),
        ("socket", "live", "/live", "@/live"),
        ("fetch", "/api", "/api", "/api"),
        ("image", "/bg.png", "/bg.png", "/bg.png"),
        ("style", "more.css", "/more.css", "@/more.css"),
        ("script", "./x.js", "/static/x.js", "@/static/x.js"),
        ("fetch", "data.json", "/data.json", "@/data.json"),
    ]
    by_url = {visit.url: visit for visit in seen.pages}
    assert by_url["/static/app.js"].proxied.redirects == (f"{prefix}/static/app.js",)
    assert by_url["/static/app.js"].is_broken is False
    assert by_url["./x.js"].source.file == "/static/app.js"
    assert [by_url[url].proxied for url in ("/about", "/go", "/ws", "http://cdn.example/x.png")] == [None] * 4
    assert [by_url["live"].direct.status, by_url["live"].proxied.status] == [404, 404]
    assert seen.page.proxied.document.has_password_field is False


async def test_only_what_the_page_loads_is_requested(observe):
    async with serve(site(SITE)) as service:
        await observe(service.port)
    assert targets(service) == [
        "/",
        "/bg.png",
        "/inner/",
        "/live",
        "/more.css",
        "/s.css",
        "/static/app.js",
        "/static/x.js",
        "/ws",
    ]
    assert {request.method for request in service.requests} == {"GET"}


async def test_no_credential_of_jupyter_reaches_the_service(observe):
    async with serve(site(SITE)) as service:
        await observe(service.port)
    assert not [value for request in service.requests for name, value in request.fields if "token" in value.lower()]


async def test_what_only_the_proxied_page_has_is_requested_by_its_direct_url(observe):
    """A service that puts the prefix before its links, by X-Forwarded-Prefix."""

    def respond(request):
        prefix = request.one("X-Forwarded-Prefix") or ""
        return Reply(f"<script src='{prefix}/a.js'></script>") if request.target == "/" else Reply("1", "text/javascript")

    async with serve(site(respond)) as service:
        seen = await observe(service.port)
    [script] = seen.of_kind("script")
    assert (script.direct_url, script.direct.status, script.proxied.status, script.proxied.redirects) == ("/a.js", 200, 200, ())


async def test_redirects_are_pages_with_cookies(observe, jp_base_url):
    def respond(request):
        if "seen=1" not in (request.one("Cookie") or ""):
            return redirect("/home", "302 Found", "Set-Cookie: seen=1; Path=/")
        return Reply("<title>Home</title>")

    async with serve(site(respond)) as service:
        seen = await observe(service.port)
    first, second = seen.pages
    assert (first.direct.status, first.proxied.status, second.url) == (302, 302, "/home")
    assert first.proxied.field("location") == f"{jp_base_url}proxy/port/{service.port}/home"
    assert (second.source.file, second.source.field, second.direct.document.title) == ("/", "Location", "Home")
    assert seen.page is second and second.proxied.document.title == "Home"


@pytest.mark.parametrize(
    ("page", "is_followed"),
    [
        (Reply("<meta http-equiv=refresh content='0; url=app/'>"), True),
        (Reply("", fields=["Refresh: 1; url=app/"]), True),
        (Reply("<meta http-equiv=refresh content='60; url=app/'>"), False),
        (Reply("<meta http-equiv=refresh content='5'>"), False),
        (Reply("<meta http-equiv=refresh content='0; url=/'>"), False),
    ],
)
async def test_a_refresh_is_followed_as_a_redirect(observe, page, is_followed):
    async with serve(site({"/": page, "/app/": "<title>App</title>"})) as service:
        seen = await observe(service.port)
    assert (seen.page.direct_url == "/app/") is is_followed


async def test_a_redirect_out_of_the_prefix_is_not_followed(observe, jp_base_url):
    page = "<meta http-equiv=refresh content='0; url=/lab'>"
    async with serve(site({"/": page, "/lab": "<title>Lab</title>"})) as service:
        seen = await observe(service.port)
    direct, proxied = [v.direct for v in seen.pages], [v.proxied for v in seen.pages]
    assert [response and response.status for response in direct] == [200, 200]
    assert [response and response.status for response in proxied] == [200, None]


@pytest.mark.parametrize("path", ["proxy/port/{other}/delete", "logout", "api/status"])
@pytest.mark.parametrize("is_redirected", [False, True])
@pytest.mark.parametrize("policy", ["no-referrer", "same-origin"])
async def test_no_part_leads_to_jupyter_or_to_another_port(observe, origin, jp_base_url, path, is_redirected, policy):
    """These requests would have the caller's login, which the page of the service must not use."""
    async with serve(site({"/delete": "gone"})) as other:
        url = f"http://{origin}{jp_base_url}{path.format(other=other.port)}"
        part = "part.js" if is_redirected else url
        page = Reply(f"<script src='{part}'></script>", fields=[f"Referrer-Policy: {policy}"])
        async with serve(site({"/": page, "/part.js": redirect(url)})) as service:
            [script] = (await observe(service.port)).of_kind("script")
    assert targets(other) == []
    assert (script.proxied.status, script.proxied.redirects) == (302, ()) if is_redirected else script.proxied is None


async def test_a_page_does_not_lead_into_the_isolated_origin_of_another_port(observe, jp_base_url, origin):
    async with serve(site({"/": "other"})) as other:
        url = f"http://{origin}{jp_base_url}proxy/enter/{other.port}/"
        async with serve(site({"/": redirect(url)})) as service:
            seen = await observe(service.port)
    assert [visit.proxied.status for visit in seen.of_kind("page")] == [302]


async def test_endless_redirects_end(observe):
    numbers = iter(range(10_000))
    async with serve(site(lambda request: redirect(f"/{next(numbers)}"))) as service:
        seen = await observe(service.port)
    assert len(seen.pages) == MAX_REDIRECTS + 1
    assert (seen.page.direct.error, seen.page.proxied.error) == ("too_many_redirects", "too_many_redirects")


async def test_a_part_with_endless_redirects(observe):
    def respond(request):
        return Reply("<script src=a.js></script>") if request.target == "/" else redirect("a.js")

    async with serve(site(respond)) as service:
        [script] = (await observe(service.port)).of_kind("script")
    assert (script.direct.error, script.proxied.error) == ("too_many_redirects", "too_many_redirects")
    assert len(script.proxied.redirects) == MAX_REDIRECTS


async def test_a_service_that_hangs(observe):
    async def hang(connection):
        await connection.request()
        await connection.until_closed()

    async with serve(hang) as service:
        started = time.monotonic()
        seen = await observe(service.port, seconds=1.5)
        assert time.monotonic() - started < 3
        assert (seen.page.direct.error, seen.page.direct.status) == ("timeout", 0)


async def test_a_service_that_never_ends_its_page(observe):
    async def drip(connection):
        await connection.request()
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<title>Slow</title><script src=a.js></script>")
        while True:
            await connection.write(b" ")
            await asyncio.sleep(0.05)

    async with serve(drip) as service:
        started = time.monotonic()
        seen = await observe(service.port, seconds=1.5)
        assert time.monotonic() - started < 4
    response = seen.page.direct
    assert (response.status, response.error, response.is_cut, response.document.title) == (200, "timeout", True, "Slow")


async def test_a_page_of_50_megabytes_and_a_bomb_cost_little(observe):
    huge = b"<script src=a.js></script>" + b" " * 50_000_000
    coded = {"/": (b"", huge), "/bomb": (b"Content-Encoding: gzip\r\n", gzip.compress(huge))}

    async def write(connection):
        field, content = coded.get((await connection.request()).target, (b"", b""))
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n" + field + b"\r\n")
        for start in range(0, len(content), 65536):
            await connection.write(content[start : start + 65536])

    async with serve(write) as service:
        for path in coded:
            tracemalloc.start()
            try:
                seen = await observe(service.port, path)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert peak < 32 << 20
            response = seen.page.proxied
            assert (response.status, response.is_cut, response.size, response.error) == (200, True, crawl.MAX_CONTENT, "")
            assert len(seen.of_kind("script")) == 1


async def test_parts_are_limited_in_number_and_size(observe):
    page = "".join(f"<script src='{number}.js'></script><img src='{number}.png'>" for number in range(300))
    big = Reply("x" * (5 << 20), "text/javascript")
    async with serve(site(lambda request: Reply(page) if request.target == "/" else big)) as service:
        seen = await observe(service.port, size=8 << 20)
    sizes = [
        response.size for v in seen.pages for response in (v.direct, v.proxied) if response is not None and v.kind == "script"
    ]
    assert max(sizes) == 1 << 20
    assert sum(sizes) <= 16 << 20
    small = Reply("1", "text/javascript")
    async with serve(site(lambda request: Reply(page) if request.target == "/" else small)) as service:
        seen = await observe(service.port)
    assert len(seen.pages) > 300
    assert len([v for v in seen.pages[1:] if v.direct is not None]) == crawl.MAX_LOADS


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (PAGE.encode("utf-16"), "text/html"),
        (PAGE.encode("utf-16-be"), "text/html; charset=utf-16be"),
        (PAGE.replace("</head>", "<<//><!-").encode(), "text/html"),
        (b"\xff\xfe\0" + PAGE.encode("utf-8"), "text/html; charset=none-such"),
    ],
)
async def test_encodings_and_broken_markup(observe, body, kind):
    async with serve(site({"/": Reply(body, kind)})) as service:
        seen = await observe(service.port)
    assert seen.page.proxied.document is not None
    if not body.startswith(b"\xff\xfe\0"):
        assert "/static/app.js" in [visit.url for visit in seen.of_kind("script")]


async def test_a_service_that_answers_only_to_browsers(observe):
    def respond(request):
        names = ("Accept", "Accept-Language", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Accept-Encoding", "Upgrade-Insecure-Requests")
        is_browser = "Mozilla" in (request.one("User-Agent") or "") and all(request.one(name) for name in names)
        return Reply("<p>ok") if is_browser else Reply(status="403 Forbidden")

    async with serve(site(respond)) as service:
        seen = await observe(service.port)
    assert (seen.page.direct.status, seen.page.proxied.status) == (200, 200)


async def test_a_referrer_policy_is_kept(observe):
    """Without a Referer the gateway does not redirect what is at the root."""
    page = '<meta name=referrer content=no-referrer><script src="/a.js"></script>'
    async with serve(site({"/": page, "/a.js": Reply("1", "text/javascript")})) as service:
        [script] = (await observe(service.port)).of_kind("script")
    assert (script.direct.status, script.proxied.status, script.is_broken) == (200, 404, True)


async def test_behind_the_hub_what_is_outside_the_base_url_is_not_requested(observe):
    page = '<script src="/a.js"></script>'
    async with serve(site({"/": page, "/a.js": Reply("1", "text/javascript")})) as service:
        seen = await observe(service.port, is_behind_hub=True)
    [script] = seen.of_kind("script")
    assert (script.direct.status, script.proxied) == (200, None)
    assert seen.leaves_prefix(script)


async def test_the_gateways_own_errors_have_their_code(observe):
    async def closes(connection):
        await connection.request()

    async with serve(closes) as service:
        seen = await observe(service.port)
    assert (seen.page.direct.error, seen.page.direct.status) == ("bad_upstream", 0)
    assert (seen.page.proxied.error, seen.page.proxied.status) == ("bad_upstream", 502)


async def test_a_service_cannot_name_an_error_of_the_gateway(observe):
    async with serve(site({"/": Reply("x", fields=["X-Portproxy-Error: forbidden"])})) as service:
        seen = await observe(service.port)
    assert [(response.status, response.error) for response in (seen.page.direct, seen.page.proxied)] == [(200, "")] * 2


async def test_urls_on_localhost_are_seen_there_only(observe):
    async with serve(site(lambda request: Reply("1", "text/javascript"))) as other:
        pages = {"/": f"<script src='http://localhost:{other.port}/x.js'></script>"}
        async with serve(site(pages)) as service:
            pages["/"] += f"<script src='http://127.0.0.1:{service.port}/a.js'></script>"
            seen = await observe(service.port)
        assert other.requests == []
    first, second = seen.of_kind("script")
    assert (first.direct, first.proxied) == (None, None)
    assert (second.direct.status, second.direct_url, second.proxied) == (404, "/a.js", None)
