from __future__ import annotations

import pytest

from jupyter_portproxy.diagnose.script_urls import find_script_urls, find_style_urls


@pytest.mark.parametrize(
    ("script", "kind", "url"),
    [
        ('new WebSocket("ws://localhost:8050/ws")', "socket", "ws://localhost:8050/ws"),
        ('new WebSocket("/ws")', "socket", "/ws"),
        ("new WebSocket('ws')", "socket", "ws"),
        ('const u = "ws://" + location.host + "/ws"; new WebSocket(u)', "socket", "/ws"),
        ("new WebSocket(`ws://${window.location.host}/ws`)", "socket", "/ws"),
        ("new WebSocket(`${proto}//${location.hostname}:${location.port}/ws/${room}`), wss", "socket", "/ws/"),
        ('(s ? "wss:" : "ws:") + "//" + location.hostname + ":" + location.port + "/live"', "socket", "/live"),
        ('new WebSocket(location.origin.replace(/^http/, "ws") + "/live")', "socket", "/live"),
        ("new ReconnectingWebSocket('/ws')", "socket", "/ws"),
        ('`${null || importMetaUrl.hostname}:${hmrPort || importMetaUrl.port}${"/base/"}`', "socket", "/base/"),
        ('const u = new URL("/ws", location.href); u.protocol = "ws:"; new WebSocket(u)', "socket", "/ws"),
        ('const api = new URL("/api", window.location.origin)', "fetch", "/api"),
        ("fetch(`${location.origin}/api/${id}`)", "fetch", "/api/"),
        ('fetch(window.location.origin + "/api")', "fetch", "/api"),
        ('axios.create({baseURL: "/api"})', "fetch", "/api"),
        ('$.ajax({ type: "POST", url: "/api" })', "fetch", "/api"),
        ('new HubConnectionBuilder().withUrl("/hub")', "fetch", "/hub"),
        ('window.open("/report")', "link", "/report"),
        ('fetch("/api/data")', "fetch", "/api/data"),
        ("fetch(`/api/${id}`)", "fetch", "/api/"),
        ("axios.get('/api')", "fetch", "/api"),
        ("$.getJSON('/api')", "fetch", "/api"),
        ('request.open("GET", "/xhr")', "fetch", "/xhr"),
        ('new EventSource("/events")', "fetch", "/events"),
        ('import("/lazy.js")', "fetch", "/lazy.js"),
        ("new window.WebSocket('/ws')", "socket", "/ws"),
        ("const u = scheme + '//' + location.host + '/ws'; let w; function f() { w = new WebSocket(u) }", "socket", "/ws"),
        ("var port = location.port; new WebSocket('ws://' + location.hostname + port + '/ws')", "socket", "/ws"),
        ("'ws://' + location.hostname + (location.port ? ':' + location.port : '') + '/ws'", "socket", "/ws"),
        ("const u = scheme + '//' + location.host + '/x'; new WebSocket(other)", "fetch", "/x"),
        ('r.p="/app/"', "fetch", "/app/"),
        ("useWebSocket('/ws')", "socket", "/ws"),
        ("fetch(`${location.protocol}//${location.host}/api/${id}`)", "fetch", "/api/"),
        ('const api = location.protocol + "//" + location.host + "/api"', "fetch", "/api"),
        ('request.open(method, "/xhr", true)', "fetch", "/xhr"),
        ("this.http.get('/api')", "fetch", "/api"),
        ("fetch(new Request('/api'))", "fetch", "/api"),
        ("picture.src = '/a.png'", "fetch", "/a.png"),
        ("fetch( /* all */ '/api')", "fetch", "/api"),
        ("location.pathname = '/login'", "link", "/login"),
        ("new Worker(new URL('/w.js', import.meta.url))", "fetch", "/w.js"),
        ("new Workbox('/sw.js')", "worker", "/sw.js"),
        ('import x from "/src/main.js"', "script", "/src/main.js"),
        ('import"./a.js"', "script", "./a.js"),
        ("importScripts('/w.js')", "script", "/w.js"),
        ('navigator.serviceWorker.register("/sw.js", {scope: "/"})', "worker", "/sw.js"),
        ('window.location.href = "/login"', "link", "/login"),
        ('location.replace("/login")', "link", "/login"),
    ],
)
def test_urls_of_scripts(script, kind, url):
    [(found_kind, found_url, at)] = find_script_urls(script)
    assert (found_kind, found_url) == (kind, url)
    assert script[at:].startswith(url)


@pytest.mark.parametrize(
    "script",
    [
        "new WebSocket(url)",
        "new WebSocket(`ws://${location.host}${location.pathname}ws`)",
        'new WebSocket("ws://" + location.host + location.pathname + "ws")',
        'import React from "react"',
        'fetch(base + "/api")',
        'const page = location.host + "/about"',  # no WebSocket near
        "prefetch('/x')",
        "  // new WebSocket('/ws')",
        "a()\n/* fetch('/api')\n * new WebSocket('ws://localhost/ws')\n */\nb()",
        "a()\n/* never ends: fetch('/api')",
        'location == "/x"',
        'new URL("./worker.js", import.meta.url)',
        "new URL(path, location.href)",
        "open(`${location.origin}${base}/x`)",
        'caches.open("v1", "/x")',
        'r.p = "./"; a.p = "/x"; b.p == "/"',
        "frame.src = 'a.html'",
        'this.fetchAll("/x"); my$fetch("/x"); Array.from("/x")',
    ],
)
def test_what_is_no_url(script):
    assert list(find_script_urls(script)) == []


def test_urls_of_styles():
    style = """@import "/a.css"; @import url(b.css); @import"/c.css"screen;@import'd.css';
    body { background: url( '/c.png' ) } /* url(/no.png) */ @font-face { src: url(/f.woff2?v=1) } /* url(/never.png)"""
    assert [(kind, url) for kind, url, _ in find_style_urls(style)] == [
        ("style", "/a.css"),
        ("style", "b.css"),
        ("style", "/c.css"),
        ("style", "d.css"),
        ("image", "/c.png"),
        ("font", "/f.woff2?v=1"),
    ]
    assert all(style[at:].startswith(url) for _, url, at in find_style_urls(style))


DOCUMENTATION = r"""
const source = "fetch('/api/a'); new WebSocket('ws://localhost:8050/ws')";
const quoted = 'call fetch("/api/b") or location.href = "/login"', escaped = "fetch(\"/api/c\")";
const page = `<script src="/x.js"></script><script>fetch("/api/d"); new WebSocket("/ws")</script>`;
a = b / 2; // fetch('/api/e')
run(/* fetch('/api/f') */ /"fetch('\/api/g')/);
const nested = `text ${ show(`fetch('/api/h')`) } import("/api/i")`;
module.exports = "import x from '/x.js'\nserviceWorker.register('/sw.js')\n\"ws://\" + location.host + \"/ws\"";
"""


def test_text_in_literals_and_comments_is_no_code():
    assert list(find_script_urls(DOCUMENTATION)) == []


def test_code_between_literals_and_in_expressions_of_literals_is_found():
    script = DOCUMENTATION + "run(`a ${ fetch('/api/real') } b`); eval(\"fetch('/api/evaluated')\")"
    assert [url for _, url, _ in find_script_urls(script)] == ["/api/real", "/api/evaluated"]


@pytest.mark.parametrize(
    ("script", "kind", "url"),
    [
        ("const API = '/api'; fetch(`${API}/items`)", "fetch", "/api/items"),
        ("const root = ''; fetch(root + '/items')", "fetch", "/items"),
        ("var base = location.origin; fetch(`${ base }/items/${id}`)", "fetch", "/items/"),
        ("let url = '/stream'; new EventSource(url)", "fetch", "/stream"),
        ("const path = '/ws'; new WebSocket(path)", "socket", "/ws"),
    ],
)
def test_constants(script, kind, url):
    assert [(found, name) for found, name, _ in find_script_urls(script)] == [(kind, url)]


@pytest.mark.parametrize(
    "script",
    [
        "const base = document.baseURI; fetch(base + '/x')",
        "let path = '/b'; let path = '/c'; fetch(path)",
        "const path = `/b/${c}`; fetch(path)",
        "const path = '/b'; fetch(other)",
        "const e = '/b'; fetch(e)",
        "const key = 'settings'; store.fetch(key)",
    ],
)
def test_what_is_no_constant(script):
    assert list(find_script_urls(script)) == []


@pytest.mark.parametrize(
    ("query", "url"),
    [
        ("?protocol=ws%3A&hostname=127.0.0.1&port=8080&pathname=%2Fws&logging=info", "ws://127.0.0.1:8080/ws"),
        ("?protocol=ws%3A&hostname=0.0.0.0&port=8080&pathname=%2Fws", "ws://localhost:8080/ws"),
        ("?protocol=auto%3A&hostname=0.0.0.0&port=0&pathname=%2Fproxy%2Fport%2F8080%2Fws", "/proxy/port/8080/ws"),
    ],
)
def test_the_socket_of_webpack_dev_server(query, url):
    script = f'eval("var __resourceQuery = \\"{query}\\";")'
    assert [(kind, found) for kind, found, _ in find_script_urls(script)] == [("socket", url)]
