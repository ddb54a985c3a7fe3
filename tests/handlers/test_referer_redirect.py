"""What a service's page asks for at the root is sent below its prefix; what is Jupyter's, or another site's, is left alone."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from jupyter_portproxy.gateway.notices import FailedRequests
from jupyter_portproxy.gateway.page_failures import PageFailures
from jupyter_portproxy.handlers.router import PortRouter

from ..support.identity_providers import configured
from ..support.jupyter_processes import TOKEN
from ..support.upstreams import answers, free_port, mirror, serve
from ..support.waiting import eventually

PART = ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: script"]
PAGE = ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"]
OLD_PAGE = ["Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"]
OLD_PART = ["Accept: */*"]


@pytest.fixture
def jp_base_url(request):
    """The root, where apps that ignore prefixes do harm."""
    return getattr(request, "param", "/")


@pytest.fixture
def ask(call, origin):
    """A request whose Referer is a page below `/`; status and Location of its answer."""

    async def send(path, referer, *fields, **more):
        answer = await call(path, fields=[f"Referer: http://{origin}/{referer}", *fields], **more)
        return answer.status, answer.one("Location")

    return send


@pytest.mark.parametrize(
    ("prefix", "page"),
    [
        ("/proxy/port/15000", "proxy/port/15000/"),
        ("/proxy/port/15000", "proxy/port/15000/a/b?c=/d"),
        ("/proxy/port/15000", "proxy/port/15000"),
        ("/proxy/port/15000", "proxy/port/15000?a=/1"),
        ("/proxy/15000", "proxy/15000"),
        ("/proxy/https/15000", "proxy/https/15000?"),
        ("/proxy/localhost:15000", "proxy/localhost:15000"),
        ("/proxy/15000", "proxy/15000/x"),
        ("/proxy/https/15000", "proxy/https/15000/"),
        ("/proxy/127.0.0.1:15000", "proxy/127.0.0.1:15000/x"),
        ("/proxy/[::1]:15000", "proxy/[::1]:15000/x"),
        ("/server/15000", "server/15000/"),
        ("/server/15000", "server/15000?a"),
        ("/proxy/service/http-server", "proxy/service/http-server/"),
        ("/proxy/service/http-server", "proxy/service/http-server?a"),
    ],
)
async def test_every_form_that_strips_is_redirected(ask, prefix, page):
    path = "static/a%2Fb//c;d?q=%20&r=?"
    assert await ask(path, page, *PART) == (307, f"{prefix}/{path}")


@pytest.mark.parametrize(
    "page",
    [
        *["lab", "tree/x", "proxy/", "proxy/api/ports", "proxy/absolute/port/15000/", "proxy/absolute/15000/", "port/15000/"],
        *["proxy/port/99999/", "proxy/port/abc/", "nothing/x", "", "notebooks/proxy/port/15000/"],
        *["proxy/absolute/port/15000", "port/15000", "proxy/port/99999", "proxy/?port=15000"],
    ],
)
async def test_other_pages_are_left_alone(ask, page):
    assert (await ask("static/nothing.js", page, *PART))[0] == 404
    assert (await ask("api/status", page, *PART))[0] == 200


async def test_a_page_is_found_where_a_trusted_reverse_proxy_has_changed_host(call, jp_serverapp):
    jp_serverapp.web_app.settings["trust_xheaders"] = True
    for host, status in (("hub.example, localhost", 307), ("other.example", 404)):
        page = ["Referer: https://hub.example/proxy/port/15000/", f"X-Forwarded-Host: {host}"]
        assert (await call("static/nothing.js", fields=[*PART, *page])).status == status


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_is_kept(ask, method):
    content = b"x" * 3_000_000 if method in ("POST", "PUT", "PATCH") else None
    assert await ask("api/contents", "proxy/port/15000/", method=method, content=content) == (
        307,
        "/proxy/port/15000/api/contents",
    )


async def test_a_redirected_request_leads_to_the_service_with_its_content(call, origin):
    async with serve(mirror) as up:
        fields = [f"Referer: http://{origin}/proxy/port/{up.port}/form", f"Origin: http://{origin}", *PAGE]
        first = await call("login?next=%2F", "POST", fields=fields, content=b"a=b")
        assert first.status == 307 and first.one("Cache-Control") == "no-store"
        second = await call(first.one("Location")[1:], "POST", fields=fields, content=b"a=b")
        assert (second.status, up.last.method, up.last.target, up.last.content) == (200, "POST", "/login?next=%2F", b"a=b")
        assert len(up.requests) == 1


@pytest.mark.parametrize("kind", [PAGE, OLD_PAGE], ids=["fetch metadata", "accept"])
async def test_a_link_goes_to_jupyters_page_if_there_is_one_and_else_to_the_services(ask, kind):
    page = "proxy/port/15000/"
    assert (await ask("api/status", page, *kind))[0] == 200
    assert (await ask("login", page, *kind))[0] in (200, 302)
    assert await ask("api/status/", page, *kind) == (302, "/api/status")
    assert await ask("about?x", page, *kind) == (307, "/proxy/port/15000/about?x")
    assert await ask("about/us/", page, *kind) == (307, "/proxy/port/15000/about/us/")
    assert await ask("", page, *kind) == (307, "/proxy/port/15000/")


async def test_a_part_of_a_page_is_the_services_even_if_jupyter_has_it(ask):
    for kind in (PART, OLD_PART):
        assert await ask("api/status", "proxy/port/15000/", *kind) == (307, "/proxy/port/15000/api/status")


async def test_what_is_below_a_prefix_or_the_gateways_own_is_never_touched(ask, call):
    async with serve(answers(b"it")) as up:
        for path in (f"proxy/port/{up.port}/x", f"proxy/absolute/port/{up.port}/x", f"server/{up.port}/"):
            assert (await ask(path, "proxy/port/15001/", *PART))[0] == 200
    assert (await ask("proxy/api/ports", "proxy/port/15001/", *PART))[0] == 200
    assert (await ask("proxy/nothing", "proxy/port/15001/", *PART))[0] == 404


@pytest.mark.parametrize(
    "fields",
    [
        ["Referer: http://evil.example/proxy/port/15000/"],
        ["Referer: //HOST/proxy/port/15000/"],
        ["Referer: http://HOST.evil.example/proxy/port/15000/"],
        ["Referer: http://HOST@evil.example/proxy/port/15000/"],
        ["Referer: /proxy/port/15000/"],
        ["Referer: http://HOST/lab#/proxy/port/15000/"],
        ["Referer: http://HOST/proxy/port/15000/", "Sec-Fetch-Site: cross-site"],
        ["Referer: http://HOST/proxy/port/15000/", "Sec-Fetch-Site: same-site"],
        ["Referer: http://HOST/proxy/port/15000/", "Sec-Fetch-Dest: serviceworker", "Sec-Fetch-Mode: same-origin"],
    ],
)
async def test_only_a_page_of_this_very_origin_counts(call, origin, fields):
    assert (await call("static/nothing.js", fields=[field.replace("HOST", origin) for field in fields])).status == 404


async def test_a_request_without_a_login_is_not_redirected(ask):
    assert (await ask("static/x.js", "proxy/port/15000/", *PART, token=None))[0] == 403
    status, location = await ask("about", "proxy/port/15000/", *PAGE, token=None)
    assert status == 302 and location.startswith("/login?")


@pytest.fixture
def ask_outside(wire, origin, jp_base_url):
    """As `ask`, for a path outside the base URL: the browser sends no login there, whose cookie has the base URL as its path."""

    async def send(path, referer, *fields):
        async with await wire() as connection:
            lines = [
                f"GET {path} HTTP/1.1",
                f"Host: {origin}",
                f"Referer: http://{origin}{jp_base_url}{referer}",
                *fields,
                "",
                "",
            ]
            await connection.send("\r\n".join(lines).encode())
            answer = await connection.answer()
            return answer.status, answer.one("Location")

    return send


BELOW = pytest.mark.parametrize("jp_base_url", ["/user/ada/", "/a%40b/"], indirect=True)


@BELOW
@pytest.mark.parametrize("kind", [PART, OLD_PART, PAGE, OLD_PAGE])
async def test_outside_the_base_url_no_login_is_needed(ask_outside, jp_base_url, kind):
    for page in ("proxy/port/15000/", "proxy/port/15000", "proxy/port/15000?a=1", "proxy/port/15000/a/b"):
        there = f"{jp_base_url}proxy/port/15000/static/a%2Fb.js?x"
        assert await ask_outside("/static/a%2Fb.js?x", page, *kind) == (307, there)


@BELOW
async def test_without_a_login_the_response_does_not_reveal_what_there_is(ask_outside, gateway, jp_base_url):
    kept = next(name for name, template in gateway.services.templates.items() if template.keep_prefix)
    gateway.services.templates["bare"] = replace(gateway.services.templates["http-server"], name="bare", start_on_open=True)
    async with serve(answers(b"it")) as up:
        pages = [f"proxy/port/{up.port}", f"proxy/port/{free_port()}", "proxy/port/9", f"proxy/192.0.2.1:{up.port}"]
        pages += [f"proxy/service/{name}" for name in ("http-server", kept, "nothing")] + ["bare", "nothing", kept]
        for page in pages:
            assert await ask_outside("/x.js", f"{page}/", *PART) == (307, f"{jp_base_url}{page}/x.js"), page
        assert up.connections == 0
    for page in ("lab/", "proxy/", "proxy/port/abc/", "proxy/port/99999/", "proxy/absolute/port/15000/", "", "api/"):
        assert await ask_outside("/x.js", page, *PART) == (404, None), page


@BELOW
async def test_who_is_sent_below_the_base_url_needs_a_login_there(ask, ask_outside, call):
    async with serve(mirror) as up:
        _, there = await ask_outside("/x.js", f"proxy/port/{up.port}/", *PART)
        assert await ask_outside(there, f"proxy/port/{up.port}/", *PART) == (403, None)
        assert up.connections == 0
    assert (await ask("x.js", "user/ada/nothing/", *PART, token=None))[0] in (403, 404)
    assert (await ask("x.js", "user/ada/nothing/", *PART))[0] == 404  # no loop


async def test_a_redirect_stays_on_this_host(ask):
    assert await ask("/evil.example/x", "proxy/port/15000/", *PART) == (307, "/proxy/port/15000//evil.example/x")


@pytest.mark.parametrize("jp_server_config", [{"PortProxy": {"rescue": False}}], indirect=True)
async def test_it_can_be_switched_off(ask, gateway):
    assert not gateway.settings.rescue
    assert (await ask("static/x.js", "proxy/port/15000/", *PART))[0] == 404


@pytest.fixture
def jp_server_config(jp_server_config, request):
    return {**jp_server_config, **getattr(request, "param", {})}


async def test_a_service_at_its_bare_name_is_redirected_too(ask, gateway):
    gateway.services.templates["bare"] = replace(gateway.services.templates["http-server"], name="bare", start_on_open=True)
    assert await ask("static/x.js", "bare/x", *PART) == (307, "/bare/static/x.js")


async def test_a_template_that_keeps_its_prefix_needs_none(ask, gateway):
    gateway.services.templates["kept"] = next(t for t in gateway.services.templates.values() if t.keep_prefix)
    assert (await ask("static/nothing.js", "proxy/service/kept/", *PART))[0] == 404


async def test_jupyters_own_requests_cost_next_to_nothing(jp_serverapp, http_server, origin):
    """The router sees every path: 20 us on a quiet machine, of a request that takes Jupyter 300."""
    router = jp_serverapp.web_app.default_router
    ours = next(rule.target for rule in router.rules if isinstance(rule.target, PortRouter))
    loop = asyncio.get_running_loop()
    headers = HTTPHeaders({"Host": origin, "Referer": f"http://{origin}/lab/tree/x.ipynb"})
    connection = SimpleNamespace(context=SimpleNamespace(remote_ip="127.0.0.1", protocol="http"))
    line = RequestStartLine("GET", "/api/contents/x", "HTTP/1.1")
    request = HTTPServerRequest(headers=headers, connection=connection, start_line=line)
    before = loop.time()
    for _ in range(1000):
        assert ours.find_handler(request) is None
    assert (loop.time() - before) / 1000 < 0.0005


# ---- WebSockets have no Referer ----

UPGRADE = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]


async def notices(wire, origin):
    """Those that come within the first moments of a watch."""
    async with await wire() as connection:
        head = f"GET /proxy/api/events HTTP/1.1\r\nHost: {origin}\r\nAuthorization: token {TOKEN}\r\n\r\n"
        await connection.send(head.encode())
        await connection.head()
        pieces, found = connection.chunks(), []
        while True:
            try:
                text = (await asyncio.wait_for(anext(pieces), 1)).decode()
            except asyncio.TimeoutError:
                return found
            if text.startswith("event: notice"):
                found.append(json.loads(text.partition("data: ")[2]))


async def test_a_lost_socket_is_reported_once_with_the_last_redirected_service(ask, call, wire, origin):
    await ask("static/x.js", "proxy/port/15000/", *PART)
    for _ in range(2):
        assert (await call("ws/chat?a=x", fields=[f"Origin: http://{origin}", *UPGRADE])).status == 404
    (notice,) = await notices(wire, origin)
    assert notice == {
        "kind": "lost-socket",
        "path": "/ws/chat",
        "url": "/proxy/port/15000/",
        "isolated": "/proxy/enter/15000/",
    }
    assert await notices(wire, origin) == []


async def test_sockets_of_jupyter_of_other_sites_and_of_programs_are_not_reported(call, wire, origin):
    assert (await call("ws", fields=[f"Origin: http://{origin}", *UPGRADE], token=None)).status == 403
    assert (await call("ws", fields=["Origin: http://evil.example", *UPGRADE])).status == 404
    assert (await call("ws", fields=UPGRADE)).status == 404
    await call("terminals/websocket/1", fields=[f"Origin: http://{origin}", *UPGRADE])
    assert await notices(wire, origin) == []


async def test_a_lost_socket_of_an_unknown_service_names_none(call, wire, origin):
    await call(f"ws{free_port()}", fields=[f"Origin: http://{origin}", *UPGRADE])
    (notice,) = await notices(wire, origin)
    assert (notice["url"], notice["isolated"]) == (None, None)


# ---- parts of pages at the root that lead nowhere ----


@pytest.fixture
def failed(gateway, monkeypatch):
    """The notices about pages, soon after their cause."""
    found = []
    failures = PageFailures(found.append, delay=1.0)
    monkeypatch.setattr(gateway, "page_failures", failures)
    yield found
    failures.close()


@pytest.mark.parametrize("form", ["proxy/absolute/port/{port}", "port/{port}"])
async def test_what_is_not_redirected_and_is_not_jupyters_counts_as_failed(ask, call, failed, form):
    page = form.format(port=free_port())
    for _ in range(6):
        assert (await ask("static/x.js", f"{page}/", *PART))[0] == 404  # before the page is loaded
    await call(f"{page}/", fields=PAGE)
    for number in range(6):
        assert (await ask(f"static/{number}.js", f"{page}/", *PART))[0] == 404
        assert (await ask(f"about/{number}", f"{page}/", *PAGE))[0] == 404
        assert (await ask(f"api/status?{number}", f"{page}/", *PART))[0] == 200
    await eventually(lambda: failed == [FailedRequests(page.rpartition("/")[2], 6)])


@pytest.mark.parametrize("jp_server_config", [{**configured(), "PortProxy": {"rescue": False}}])
async def test_without_redirects_all_parts_at_the_root_count(ask, call, failed, jp_server_config):
    port = free_port()
    await call(f"proxy/port/{port}/", fields=PAGE)
    for number in range(3):
        assert (await ask(f"static/{number}.js", f"proxy/port/{port}/", *PART))[0] == 404
    await eventually(lambda: failed == [FailedRequests(str(port), 3)])


async def test_what_is_redirected_is_counted_where_it_leads(ask, call, gateway):
    async with serve(answers(b"it")) as up:
        await call(f"proxy/port/{up.port}/", fields=PAGE)
        for number in range(6):
            assert (await ask(f"static/{number}.js", f"proxy/port/{up.port}/", *PART))[0] == 307
    assert [page.failed for page in gateway.page_failures._pages.values()] == [set()]
