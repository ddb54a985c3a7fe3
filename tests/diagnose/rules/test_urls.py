from __future__ import annotations

import re
from dataclasses import replace

import pytest

from jupyter_portproxy.diagnose.observation import Evidence, Response, Visit

from ..observations import BEHIND_HUB, TARGET, find, find_one, observe

SECURE = replace(TARGET, jupyter_origin="https://hub.example")
ABSOLUTE = replace(TARGET, prefix=TARGET.absolute_prefix, keeps_prefix=True)
LOST = "root-relative-url"
REDIRECTED = "root-relative-url-redirected"

ROOTED = [
    '<script src="/app.js"></script>',
    "<script type=module src=/app.js></script>",
    "<link rel='stylesheet' href='/app.css'>",
    '<link rel="modulepreload" href="/app.js">',
    '<link rel=preload as=font crossorigin href="/app.woff2">',
    '<link rel="manifest" href="/site.webmanifest">',
    '<img srcset="/a.png 1x, /b.png 2x">',
    "<style>body{background:url(/a.png)}</style>",
    '<p style="background-image: url(/a.png)">',
    "<script>fetch('/api/data')</script>",
    "<script>fetch(`/api/items/${id}`)</script>",
    "<script>let r=new XMLHttpRequest;r.open('GET','/api')</script>",
    "<script>new EventSource('/events')</script>",
    "<script type=module>import '/src/main.js'</script>",
    "<script>import('/lazy.js')</script>",
    "<form method=post action=/save>",
]


@pytest.mark.parametrize("html", ROOTED)
def test_urls_at_the_root_are_lost_behind_a_hub_and_redirected_elsewhere(html):
    lost = {url: (200, 0) for url in re.findall(r"/[\w./-]+", html)}  # behind a hub such requests are not made
    assert find(observe(html, target=BEHIND_HUB, parts=lost)) == [LOST]
    assert find(observe(html)) == [REDIRECTED]


def test_a_form_that_posts_is_redirected_also_where_jupyter_has_a_page():
    assert find(observe("<form method=POST action=/login>")) == [REDIRECTED]
    assert find(observe("<button formmethod=post formaction=/logout>")) == [REDIRECTED]
    assert find(observe("<form action=/login>")) == [LOST]
    assert find(observe("<form method=post action=/proxy/x>")) == [LOST]
    below = replace(TARGET, base_url="/j/", prefix="/j/proxy/port/8050", absolute_prefix="/j/proxy/absolute/port/8050")
    assert find(observe("<form method=post action=/j/login>", target=below)) == [LOST]
    assert find(observe("<form method=post action=/login>", target=below)) == [REDIRECTED]


@pytest.mark.parametrize("policy", ["no-referrer", "origin, strict-origin", "no-referrer-when-downgrade, no-referrer, nonsense"])
def test_a_policy_without_referer_keeps_them_from_being_redirected(policy):
    seen = observe(ROOTED[0], fields=[("Referrer-Policy", policy)])
    assert find(seen) == [LOST]
    assert "Referrer-Policy" in find_one(seen, LOST).sentence
    assert find(observe(ROOTED[0], fields=[("Referrer-Policy", "same-origin")])) == [REDIRECTED]


def test_the_policy_of_a_meta_tag():
    assert find(observe(f"<meta name=referrer content=no-referrer>{ROOTED[0]}")) == [LOST]


def test_the_finding_names_the_first_url_and_the_number_of_the_others():
    seen = observe(
        "<p>\n<script src=/a.js></script>\n<script src=/b.js></script>", parts={"/a.js": (200, 404), "/b.js": (200, 404)}
    )
    finding = find_one(seen, LOST)
    assert "/a.js (and 1 more)" in finding.sentence
    assert finding.evidence.line == 2
    assert "src=/a.js" in finding.evidence.excerpt


def test_what_is_missing_on_localhost_too_is_no_finding():
    assert find(observe(ROOTED[0], parts={"/app.js": (404, 404)})) == []


def test_nothing_is_redirected_where_the_service_gets_the_prefix():
    assert find(observe("<script>fetch('/api')</script>", target=ABSOLUTE)) == [LOST]


def test_links_to_pages_of_jupyter_are_lost_and_other_links_redirected():
    assert find(observe("<a href=/login>")) == [LOST]
    assert "page of Jupyter" in find_one(observe("<a href=/login>"), LOST).sentence
    assert find(observe("<a href=/about>")) == [REDIRECTED]
    assert find(observe("<a href=/>")) == []
    assert find(observe("<script>open(location.origin + '/#notebook')</script>")) == []


def test_a_module_at_the_root_that_others_import_runs_twice():
    text = Response(200, text='import"./chunk.js"')
    module = Visit("script", "/main.js", Evidence("/", 1), "/main.js", "/main.js", text, text)
    assert "twice" in find_one(observe(more=(module,)), REDIRECTED).sentence


@pytest.mark.parametrize("href", ["/", "/app/", "http://localhost:8050/", "//other.example/"])
def test_a_base_that_leaves_the_prefix(href):
    seen = observe(f'<base target=_top href="{href}"><script src=app.js></script>', parts={"app.js": (200, 404)})
    assert find(seen)[0] == "base-href"
    assert "root-relative-url" not in find(seen)


@pytest.mark.parametrize("href", ["./", "/proxy/port/8050/", "x/"])
def test_a_base_below_the_prefix(href):
    assert find(observe(f'<base href="{href}"><script src=app.js></script>')) == []


def test_a_page_without_a_slash_at_its_end():
    seen = observe("<script src=app.js></script>", path="/app", parts={"app.js": (404, 404)})
    assert find(seen) == ["trailing-slash"]
    assert find_one(seen, "trailing-slash").link == "/proxy/port/8050/app/"
    assert find(observe("<script src=app.js></script>", path="/app")) == []
    assert find(observe("<script src=app.js></script>", path="/app.html", parts={"app.js": (404, 404)})) == []


def test_a_part_below_the_prefix_that_fails():
    assert find(observe("<script src=app.js></script>", parts={"app.js": (200, 502)})) == ["part-fails"]


@pytest.mark.parametrize(
    "html",
    [
        '<script src="http://localhost:8050/app.js"></script>',
        "<a href='http://127.0.0.1:8050/x'>",
        "<link rel=stylesheet href=//localhost:8050/a.css>",
        "<script>fetch('http://localhost:9000/api')</script>",
        "<script>new WebSocket('ws://localhost:8050/ws')</script>",
        '<script>window.config={"root":"http://localhost:8050"}</script>',
        r'<script>var c="{\"root\":1}",u="http:\/\/0.0.0.0:8050\/x"</script>',
        "<form action=http://[::1]:8050/save>",
    ],
)
def test_urls_of_localhost(html):
    assert find(observe(html, parts={"ws://localhost:8050/ws": (101, 0)}))[0] == "localhost-url"


def test_other_addresses_are_none():
    assert find(observe("<script src=https://cdn.example/x.js></script><p>http://localhost:8050</p>")) == []
    assert find(observe(script='var base="http://localhost"')) == []
    assert (
        find(
            observe('<link rel=canonical href="http://localhost:8050/"><meta property="og:url" content="http://localhost:8050/">')
        )
        == []
    )
    assert find(observe(script='a()\n  // new WebSocket("ws://localhost:8050/ws"); fetch("http://localhost:8050/")\nb()')) == []
    assert find(observe('<link rel=canonical href="http://localhost:8050/"><p data-url="http://localhost:8050/">')) == [
        "localhost-url"
    ]


DOCUMENTATION = """<pre>curl "http://localhost:8050/x"; new WebSocket("ws://" + location.host + "/ws")</pre>
<code>const s = io();</code><textarea>navigator.serviceWorker.register("sw.js", {scope: "/"}); "http://localhost:8050"</textarea>
<script src=socket.io.js></script>
<script>const example = `fetch("http://localhost:8050/x", {headers: {"X-Forwarded-User": u}}); io(); location.href = "/lab"`;
show('register("sw.js", {scope: "/"})', "serviceWorker.register('sw.js', {scope: '/'}); new WebSocket('ws://' + location.host)");
</script>"""


def test_source_text_in_a_page_is_no_code():
    assert find(observe(DOCUMENTATION)) == []
    assert find(observe(DOCUMENTATION, target=SECURE)) == []
    assert find(observe(f"{DOCUMENTATION}<script>const s = io(), base = 'http://localhost:8050'</script>")) == [
        "localhost-url",
        "root-websocket",
    ]


@pytest.mark.parametrize(
    "html",
    [
        "<script src=http://cdn.example/x.js></script>",
        "<img src='http://pictures.example/x.png'>",
        "<script>fetch('http://api.example/data')</script>",
        "<script>new WebSocket('ws://api.example/ws')</script>",
        '<script>new WebSocket("ws://" + location.host + location.pathname + "ws")</script>',
        "<script>new WebSocket(`ws://${window.location.host}${location.pathname}ws`)</script>",
    ],
)
def test_mixed_content_where_jupyter_is_at_https(html):
    assert "mixed-content" in find(observe(html, target=SECURE))
    assert "mixed-content" not in find(observe(html))


def test_a_script_that_chooses_the_scheme_has_no_mixed_content():
    script = 'const u = (location.protocol === "https:" ? "wss://" : "ws://") + location.host + location.pathname + "ws"'
    assert find(observe(f"<script>{script}</script>", target=SECURE)) == []


@pytest.mark.parametrize(
    "script",
    [
        'new WebSocket("ws://" + location.host + "/ws")',
        "new WebSocket(`${location.protocol==='https:'?'wss':'ws'}://${location.host}/live`)",
        'new WebSocket("/ws")',
    ],
)
def test_a_websocket_at_the_root(script):
    seen = observe(f"<script>{script}</script>", parts={"/ws": (101, 404), "/live": (101, 404)})
    assert find(seen) == ["root-websocket"]


@pytest.mark.parametrize(
    "call", ["io()", "io.connect('http://' + document.domain + ':' + location.port)", 'io("/chat", {transports: ["websocket"]})']
)
def test_socket_io_without_a_path(call):
    html = f'<script src="https://cdn.example/socket.io/4.7.5/socket.io.min.js"></script><script>var s = {call};</script>'
    assert find(observe(html)) == ["root-websocket"]
    assert "path" in find_one(observe(html), "root-websocket").remedies[0]


@pytest.mark.parametrize("call", ['io({path: "/x/socket.io"})', "radio()", "studio.io()"])
def test_socket_io_with_a_path(call):
    assert find(observe(f"<script src=socket.io.js></script><script>{call};</script>")) == []


@pytest.mark.parametrize(
    "script",
    [
        "function io(e,t){return e}io(1,2)",
        "const a=1,io=e=>e;io(2)",
        "var io = () => 1; io()",
        "class A{io(e){return e}}",
        "x={io(){}}",
    ],
)
def test_another_function_with_the_name_of_socket_io(script):
    assert find(observe("<script src=socket.io.js></script>", script=script)) == []
    assert find(observe("<script src=socket.io.js></script>", script=f"if (a) {{ io() }} {'// ' + script}")) == ["root-websocket"]


def test_websockets_that_the_service_does_not_have_are_none():
    assert find(observe('<script>new WebSocket("/ws")</script>', parts={"/ws": (404, 404)})) == []
    assert find(observe('<script>new WebSocket("ws")</script>')) == []


@pytest.mark.parametrize(("direct", "proxied"), [(101, 403), (403, 403), (101, 400)])
def test_a_websocket_that_is_refused(direct, proxied):
    seen = observe('<script>new WebSocket("ws")</script>', parts={"ws": (direct, proxied)})
    assert find(seen) == ["websocket-refused"]


@pytest.mark.parametrize(
    "script",
    [
        'navigator.serviceWorker.register("/sw.js")',
        "navigator.serviceWorker.register('sw.js', { scope: '/' })",
        'navigator.serviceWorker.register("./sw.js",{type:"module",scope:"/app/"})',
    ],
)
def test_a_service_worker_out_of_its_scope(script):
    assert find(observe(f"<script>{script}</script>")) == ["service-worker-scope"]


def test_a_service_worker_below_the_prefix():
    assert find(observe('<script>navigator.serviceWorker.register("sw.js", {scope: "./"})</script>')) == []


def test_a_scope_that_does_not_pass():
    direct, proxied = Response(200, fields=(("Service-Worker-Allowed", "/"),)), Response(200)
    worker = Visit("worker", "js/sw.js", Evidence("/"), "/js/sw.js", "/proxy/port/8050/js/sw.js", direct, proxied)
    finding = find_one(observe(more=(worker,)), "service-worker-scope")
    assert finding.evidence == Evidence("/js/sw.js", None, "Service-Worker-Allowed", "/")


@pytest.mark.parametrize(
    "html",
    [
        '<meta http-equiv="refresh" content="0; url=/login">',
        "<meta http-equiv=Refresh content=\"0;URL='/lab'\">",
        '<meta http-equiv="refresh" content="5; http://localhost:8050/x">',
        '<script>location.href = "/login"</script>',
        "<script>window.location.replace('/tree/x')</script>",
        '<script>window.location="/lab"</script>',
        "<script>setTimeout(()=>{document.location.assign(`/hub/home`)},10)</script>",
    ],
)
def test_pages_that_lead_to_jupyter(html):
    assert find(observe(html)) == ["redirect-outside-prefix"]


@pytest.mark.parametrize(
    "html",
    [
        "<meta http-equiv=Refresh content=\"0;URL='/app/'\">",
        "<script>window.location.replace('/app')</script>",
        "<script>setTimeout(()=>{document.location.assign(`/start`)},10)</script>",
    ],
)
def test_pages_that_lead_to_the_root_are_redirected_where_that_is_possible(html):
    assert find(observe(html)) == [REDIRECTED]
    assert find(observe(html, target=BEHIND_HUB)) == ["redirect-outside-prefix"]


@pytest.mark.parametrize(
    "html",
    [
        '<meta http-equiv="refresh" content="30">',
        '<meta http-equiv="refresh" content="0; url=app/">',
        '<script>location.href = "login"</script>',
        "<script>if (location.pathname === '/x') {}</script>",
    ],
)
def test_pages_that_stay_below_the_prefix(html):
    assert find(observe(html)) == []


def test_a_library_that_leads_to_the_root_is_none():
    assert find(observe(script='onClick:()=>{window.location.href="/"}', target=ABSOLUTE)) == []
    assert find(observe('<script>window.location.href="/"</script>', target=ABSOLUTE)) == ["redirect-outside-prefix"]
