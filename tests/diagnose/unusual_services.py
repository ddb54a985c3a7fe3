"""More services for the page doctor, of unusual shape: each with one fault, and healthy ones that look as if they had some."""

from __future__ import annotations

from .faulty_services import APP, CSS, ISOLATED, PICTURE, REDIRECTED, SCRIPT, STYLE, Response, Small, page, redirect, refuse

FILLER = "let filler = 1;\n" * 20
DJANGO = """<!DOCTYPE html><title>403 Forbidden</title><h1>Forbidden <span>(403)</span></h1>
<p>CSRF verification failed. Request aborted.</p>
<p>Origin checking failed - http://localhost does not match any trusted origins.</p>"""
DOCUMENTATION = """<h1>API</h1><pre><code class=language-js>fetch("/api") new WebSocket("ws://localhost:{port}/ws")</code></pre>
<script>show(`<script src='/x.js'></scr` + `ipt>`, "curl 'http://localhost:{port}/x'")</script>
<textarea><link rel=stylesheet href=/x.css></textarea>"""
EDITOR = r"""const T={a:"fetch('/api')\nimport x from '/y.js'",b:`<base href="/"><img src='/z.png'>location.href = "/login"`,
c:/new WebSocket\(['"]\/ws['"]\)/};// navigator.serviceWorker.register('/sw.js')
start(T)"""

FAULTY_TOO = [
    Small(
        "fetch with a constant root",
        {"/": page("<script>\nconst API = '/api/v2';\nasync () => await fetch(`${API}/items?limit=${n}`)\n</script>")},
        REDIRECTED,
        "/api/v2/items",
        "relative",
    ),
    Small(
        "dynamic import at the root",
        {"/": page("<script type=module>const m = await import('/m/app.mjs'); m.start()</script>"), "/m/app.mjs": APP},
        REDIRECTED,
        "/m/app.mjs",
        "relative",
    ),
    Small(
        "second picture of a srcset",
        {"/": page("<img srcset='img/a.jpg 1x, /img/b.jpg 2x'>"), "/img/a.jpg": PICTURE, "/img/b.jpg": PICTURE},
        REDIRECTED,
        "/img/b.jpg",
    ),
    Small(
        "XMLHttpRequest in a bundle",
        {"/": page('<script>var x=new XMLHttpRequest();x.open("post","/rpc",!0);x.send()</script>')},
        REDIRECTED,
        "/rpc",
    ),
    Small(
        "style sheet of a style sheet",
        {"/": page("", "<link rel=stylesheet href=a.css>"), "/a.css": Response("@import '/b.css';", STYLE), "/b.css": CSS},
        REDIRECTED,
        "/b.css",
    ),
    Small(
        "public path of webpack",
        {
            "/": page("<script src=r.js></script>"),
            "/r.js": Response('var r={};r.p="/app/";e.src=r.p+"static/"+i+".chunk.js"', SCRIPT),
        },
        REDIRECTED,
        "/app/",
    ),
    Small(
        "policy for WebSockets",
        {
            "/": page(
                "<script>new WebSocket('live')</script>",
                fields=[("Content-Security-Policy", "default-src 'self'; connect-src ws://localhost:{port}")],
            )
        },
        "csp-blocks",
        "connect-src",
        "'self'",
        frozenset({"/live"}),
    ),
    Small(
        "WebSocket far from its scheme",
        {
            "/": page(
                f"<script>const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';\n{FILLER}"
                "const url = scheme + '//' + location.host + '/live';\nlet w; function go() { w = new WebSocket(url) }</script>"
            )
        },
        "root-websocket",
        "/live",
        ISOLATED,
        frozenset({"/live"}),
    ),
    Small(
        "STOMP",
        {"/": page("<script>new StompJs.Client({brokerURL:'ws://'+location.host+'/gs'})</script>")},
        "root-websocket",
        "/gs",
        ISOLATED,
        frozenset({"/gs"}),
    ),
    Small(
        "scope of a service worker in a field",
        {
            "/": page("<script>navigator.serviceWorker.register('js/sw.js',{scope:'./'})</script>"),
            "/js/sw.js": Response("1", SCRIPT, fields=[("Service-Worker-Allowed", "/")]),
        },
        "service-worker-scope",
        "scope",
    ),
    Small("Django's check of origins", {"/": refuse(403, DJANGO)}, "request-refused", "CSRF", "CSRF_TRUSTED_ORIGINS"),
    Small(
        "check of the host in JSON",
        {"/": Response('{"error":"Host not allowed: localhost:{port}"}', "application/json", 403)},
        "request-refused",
        "Host",
    ),
    Small(
        "circle with and without a slash",
        {"/": redirect("/app"), "/app": redirect("/app/", 301), "/app/": redirect("/app", 308)},
        "redirect-loop",
        "circle",
    ),
]
HEALTHY_TOO = [
    Small("documentation", {"/": page(DOCUMENTATION)}),
    Small("editor", {"/": page("<script src=e.js></script>"), "/e.js": Response(EDITOR, SCRIPT)}),
    Small(
        "URLs from the page's own",
        {
            "/": page(
                "<script>const b=document.baseURI;fetch(new URL('api/items',b));const w=new URL('ws',b);"
                "w.protocol=w.protocol.replace('http','ws');new WebSocket(w)</script>"
            )
        },
        sockets=frozenset({"/ws"}),
    ),
    Small(
        "routes of a router",
        {
            "/": page("<script src=r.js></script>"),
            "/r.js": Response(
                'const routes=[{path:"/login"},{path:"/api/:id"}];router.get("/x",h);a=b/c;if(location.pathname==="/login"){}',
                SCRIPT,
            ),
        },
    ),
    Small("page that loads itself", {"/": page("", "<meta http-equiv=refresh content=60>", [("Refresh", "30")])}),
    Small(
        "chain of relative redirects",
        {
            "/": redirect("./en", 307),
            "/en": redirect("en/", 301),
            "/en/": page("<script src=../a.js></script>"),
            "/a.js": APP,
        },
    ),
    Small(
        "cookies of other hosts and of the page",
        {
            "/": page(
                "", fields=[("Set-Cookie", "theme=dark"), ("Set-Cookie", "sid=a; Domain=.shop.example; Path=/; SameSite=Strict")]
            )
        },
    ),
]
