"""Small real services for the page doctor: each with one fault and nothing else, and healthy ones.

A service answers GETs by path; each path has a `Response` or a function of the request. `{port}` in texts is its own port.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from ..support.upstreams import Connection, Request, Seen, serve

HTML, SCRIPT, STYLE, TEXT = "text/html; charset=utf-8", "text/javascript", "text/css", "text/plain"
Fields = list[tuple[str, str]]


@dataclass
class Response:
    text: str = ""
    kind: str = HTML
    status: int = 200
    fields: Fields = field(default_factory=list)


Answering = Response | Callable[[Request], Response]


@dataclass
class Small:
    """A service.

    Attributes:
        paths: path without query -> response; others get 404.
        sockets: paths at which WebSockets open.
        admits: whether a handshake is accepted.
        rule: of the finding that the doctor makes first; empty for a healthy service, `*` for what depends on the base URL.
        words: in its sentence.
        remedy: in one of its remedies.
        path: at which the doctor looks.
        caller: fields of the call to the API.
    """

    name: str
    paths: Mapping[str, Answering]
    rule: str = ""
    words: str = ""
    remedy: str = ""
    sockets: frozenset[str] = frozenset()
    admits: Callable[[Request], bool] = lambda request: True
    path: str = "/"
    caller: tuple[str, ...] = ()

    async def talk(self, connection: Connection) -> None:
        while True:
            request = await connection.head()
            path = request.target.partition("?")[0]
            if request.one("Upgrade") is not None and path in self.sockets and self.admits(request):
                await self._open_socket(connection, request)
                return
            refused = Response("Forbidden", TEXT, 403)
            found = refused if request.one("Upgrade") is not None and path in self.sockets else self.paths.get(path)
            response = found(request) if callable(found) else found or Response("Not found", TEXT, 404)
            await self._write(connection, response)

    async def _write(self, connection: Connection, response: Response) -> None:
        port = str(connection.seen.port)
        content = response.text.replace("{port}", port).encode()
        fields = [("Content-Type", response.kind), ("Content-Length", str(len(content))), *response.fields]
        head = [f"HTTP/1.1 {response.status} X", *(f"{name}: {value.replace('{port}', port)}" for name, value in fields)]
        await connection.write("\r\n".join([*head, "", ""]).encode() + content)

    async def _open_socket(self, connection: Connection, request: Request) -> None:
        key = f"{request.one('Sec-WebSocket-Key')}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        head = f"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        await connection.write(head.encode())
        await connection.until_closed()


@contextlib.asynccontextmanager
async def running(service: Small) -> AsyncIterator[Seen]:
    """The service on a port of its own."""
    async with serve(service.talk) as seen:
        yield seen


def page(body: str, head: str = "", fields: Fields | None = None) -> Response:
    text = f"<!doctype html>\n<html><head><meta charset=utf-8><title>small</title>{head}</head>\n<body>\n{body}\n</body></html>"
    return Response(text, fields=fields or [])


def redirect(location: str, status: int = 302, fields: Fields | None = None) -> Response:
    return Response("", TEXT, status, [("Location", location), *(fields or [])])


def refuse(status: int, text: str, fields: Fields | None = None) -> Response:
    return Response(text, HTML, status, fields or [])


APP, CSS = Response("console.log('app');", SCRIPT), Response("body{color:black}", STYLE)
PICTURE = Response("picture", "image/png")
JSON = Response("{}", "application/json")
NO_REFERRER = [("Referrer-Policy", "no-referrer")]
REDIRECTED, LOST = "root-relative-url-redirected", "root-relative-url"
ISOLATED = "isolated origin"
HTTPS = ("Origin: https://{origin}",)  # the browser is at https, behind a reverse proxy that does not say so


def answer_host(request: Request) -> Response:
    """Django with another ALLOWED_HOSTS."""
    host = request.one("Host") or ""
    if host.startswith("shop.example"):
        return page("shop")
    text = f"<title>DisallowedHost at /</title><pre>Invalid HTTP_HOST header: '{host}'. Add it to ALLOWED_HOSTS.</pre>"
    return refuse(400, text)


def need_no_proxy(text: str = "no", status: int = 403) -> Callable[[Request], Response]:
    """Answers only requests that no proxy has forwarded."""
    return lambda request: refuse(status, text) if request.one("X-Forwarded-For") else page("hello")


def need_cookie(request: Request) -> Response:
    if "__Host-check=1" in (request.one("Cookie") or ""):
        return page("hello")
    return redirect("/", fields=[("Set-Cookie", "__Host-check=1; Path=/; Secure")])


FAULTY = [
    Small(
        "root script",
        {"/": page("<script src='/static/app.js'></script>"), "/static/app.js": APP},
        REDIRECTED,
        "/static/app.js",
        ISOLATED,
    ),
    Small(
        "root script without Referer",
        {"/": page("<script src='/static/app.js'></script>", fields=NO_REFERRER), "/static/app.js": APP},
        LOST,
        "/static/app.js",
        "/proxy/absolute/port/{port}/",
    ),
    Small(
        "root url() in a style sheet",
        {
            "/": page("", "<link rel=stylesheet href=site.css>"),
            "/site.css": Response("@font-face{font-family:x;src:url(/fonts/x.woff2)}", STYLE),
            "/fonts/x.woff2": Response("font", "font/woff2"),
        },
        REDIRECTED,
        "/fonts/x.woff2",
        "relative to the page",
    ),
    Small("root fetch", {"/": page("<script>fetch('/api/items').then(show)</script>")}, REDIRECTED, "/api/items", ISOLATED),
    Small(
        "root WebSocket",
        {"/": page("<script>new WebSocket('ws://' + location.host + '/ws')</script>")},
        "root-websocket",
        "/ws",
        ISOLATED,
        frozenset({"/ws"}),
    ),
    Small(
        "localhost link",
        {"/": page("<a href='http://localhost:{port}/next'>next</a>")},
        "localhost-url",
        "http://localhost:{port}/next",
        "relative",
    ),
    Small(
        "redirect to another port",
        {"/": redirect("http://localhost:9/login")},
        "redirect-outside-prefix",
        "http://localhost:9/login",
        ISOLATED,
    ),
    Small("redirect to https", {"/": redirect("https://localhost:{port}/", 301)}, "https-forced", "https", "Turn off"),
    Small(
        "Refresh to another port",
        {"/": page("", fields=[("Refresh", "0; url=http://127.0.0.1:9/")])},
        "redirect-outside-prefix",
        "127.0.0.1:9",
        ISOLATED,
    ),
    Small(
        "meta refresh",
        {"/": page("", "<meta http-equiv='refresh' content='0; url=/start'>"), "/start": page("start")},
        "*",
        "/start",
        ISOLATED,
    ),
    Small("Host check", {"/": answer_host}, "request-refused", "Host", "ALLOWED_HOSTS"),
    Small(
        "CSRF check",
        {"/": need_no_proxy("CSRF verification failed. Request aborted.")},
        "request-refused",
        "CSRF",
        "CSRF_TRUSTED_ORIGINS",
    ),
    Small(
        "X-Frame-Options",
        {"/": page("", fields=[("X-Frame-Options", "DENY")])},
        "frame-forbidden",
        "X-Frame-Options",
        "browser tab",
    ),
    Small(
        "Content-Security-Policy with its own address",
        {
            "/": page("<script src=app.js></script>", fields=[("Content-Security-Policy", "script-src http://localhost:{port}")]),
            "/app.js": APP,
        },
        "csp-blocks",
        "script-src",
        "'self'",
    ),
    Small("cookie _xsrf", {"/": page("", fields=[("Set-Cookie", "_xsrf=2|abc; Path=/")])}, "cookie-refused", "_xsrf", ISOLATED),
    Small(
        "service worker at the root",
        {"/": page("<script>navigator.serviceWorker.register('/sw.js')</script>"), "/sw.js": APP},
        "service-worker-scope",
        "/sw.js",
        ISOLATED,
    ),
    Small(
        "base href", {"/": page("<script src=app.js></script>", "<base href='/'>"), "/app.js": APP}, "base-href", "href=/", "base"
    ),
    Small(
        "no slash",
        {"/app": page("<script src=main.js></script>"), "/app/main.js": APP},
        "trailing-slash",
        "main.js",
        "with the slash",
        path="/app",
    ),
    Small(
        "mixed content",
        {"/": page("<script src='http://cdn.example/x.js'></script>")},
        "mixed-content",
        "http://cdn.example/x.js",
        "without scheme",
        caller=HTTPS,
    ),
    Small(
        "refused WebSocket",
        {"/": page("<script>new WebSocket('live')</script>")},
        "websocket-refused",
        "live",
        "http://localhost:{port}",
        frozenset({"/live"}),
        lambda request: request.one("X-Forwarded-For") is None,
    ),
    Small(
        "required field",
        {"/": refuse(401, "Missing header: X-Forwarded-User")},
        "field-removed",
        "X-Forwarded-User",
        "another name",
    ),
    Small("circle of redirects", {"/": redirect("/a"), "/a": redirect("/")}, "redirect-loop", "circle", ISOLATED),
    Small(
        "login wall", {"/": refuse(401, "no", [("WWW-Authenticate", 'Basic realm="x"')])}, "login-required", "401", "without it"
    ),
    Small("browsers only", {"/": refuse(403, "This page is only for real browsers.")}, "browsers-only", "403", "User-Agent"),
    Small("only localhost", {"/": need_no_proxy(status=404)}, "page-differs", "404", ISOLATED),
]

# Of the same kinds, as other frameworks write them: in one line, with other quotes, built by scripts.
KINDS = [
    Small(
        "bundle in one line",
        {
            "/": page("<script src=b.js></script>"),
            "/b.js": Response(
                "!" + "function(){var a=1}();" * 3000 + 'e.exports=()=>fetch("/api/v1/me").then(r=>r.json());', SCRIPT
            ),
        },
        REDIRECTED,
        "/api/v1/me",
    ),
    Small(
        "import map",
        {
            "/": page(
                "", '<script type="importmap">{"imports":{"app":"/js/app.js"}}</script><script type=module>import "app"</script>'
            ),
            "/js/app.js": APP,
        },
        REDIRECTED,
        "/js/app.js",
    ),
    Small(
        "module import",
        {"/": page("<script type=module>import{start}from'/src/main.js';start()</script>"), "/src/main.js": APP},
        REDIRECTED,
        "/src/main.js",
    ),
    Small(
        "srcset",
        {
            "/": page("<picture><source srcset='/a-2x.webp 2x, /a.webp'><img src=a.png></picture>"),
            "/a-2x.webp": PICTURE,
            "/a.png": PICTURE,
        },
        REDIRECTED,
        "/a-2x.webp",
    ),
    Small("preload", {"/": page("", '<link rel="preload" as="script" href="/pre.js">'), "/pre.js": APP}, REDIRECTED, "/pre.js"),
    Small(
        "manifest",
        {"/": page("", "<link rel=manifest href=/site.webmanifest>"), "/site.webmanifest": JSON},
        REDIRECTED,
        "/site.webmanifest",
    ),
    Small(
        "event handler",
        {"/": page("""<button onclick="fetch('/api/click', {method: 'POST'})">x</button>""")},
        REDIRECTED,
        "/api/click",
    ),
    Small(
        "event handler that leads away",
        {"/": page("""<button onclick="location.href='/logout'">x</button>""")},
        "*",
        "/logout",
    ),
    Small(
        "WebSocket of a template literal",
        {
            "/": page(
                "<script>const p=location.protocol==='https:'?'wss':'ws';new WebSocket(`${p}://${location.host}/live/${id}`)</script>"
            )
        },
        "root-websocket",
        "/live/",
        sockets=frozenset({"/live/"}),
    ),
    Small(
        "relative WebSocket at the root",
        {"/": page("<script>new WebSocket('/stream')</script>")},
        "root-websocket",
        "/stream",
        sockets=frozenset({"/stream"}),
    ),
    Small("template literal", {"/": page("<script>fetch(`/api/items/${id}?page=${n}`)</script>")}, REDIRECTED, "/api/items/"),
    Small(
        "axios and jQuery",
        {"/": page("<script>axios.post('/api/save', x); $.getJSON('/api/list')</script>")},
        REDIRECTED,
        "/api/save",
    ),
    Small(
        "redirect by a script",
        {"/": page('<script>window.location.href = "/login"</script>')},
        "*",
        "/login",
    ),
    Small(
        "absolute API",
        {"/": page("<script>const API='http://localhost:8000';fetch('http://localhost:8000/items')</script>")},
        "localhost-url",
        "http://localhost:8000/items",
    ),
    Small(
        "configuration with its own address",
        {"/": page('<script>window.cfg={"root":"http:\\/\\/127.0.0.1:{port}\\/app"}</script>')},
        "localhost-url",
        "http://127.0.0.1:{port}",
    ),
    Small(
        "SameSite=None; Secure over http",
        {"/": page("", fields=[("Set-Cookie", "sid=a; Path=/; SameSite=None; Secure")])},
        "cookie-insecure",
        "sid",
    ),
    Small("SameSite=None alone", {"/": page("", fields=[("Set-Cookie", "sid=a; SameSite=None")])}, "cookie-insecure", "SameSite"),
    Small(
        "__Host- cookie", {"/": page("", fields=[("Set-Cookie", "__Host-sid=a; Path=/; Secure")])}, "cookie-refused", "__Host-sid"
    ),
    Small("cookie that is needed", {"/": need_cookie}, "redirect-loop", "circle"),
    Small(
        "two cookies of one name",
        {"/": page("", fields=[("Set-Cookie", "sid=a; Path=/"), ("Set-Cookie", "sid=b; Path=/app")])},
        "cookie-shadowed",
        "sid",
    ),
    Small(
        "policy in a meta tag",
        {
            "/": page(
                "<img src=a.png>",
                "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src http://localhost:{port}/a.png\">",
            ),
            "/a.png": PICTURE,
        },
        "csp-blocks",
        "img-src",
    ),
    Small(
        "Vite's host check",
        {"/": refuse(403, 'Blocked request. This host ("localhost") is not allowed.\nTo allow this host, add it')},
        "request-refused",
        "Host",
        "allowedHosts",
    ),
    Small(
        "Rails' host check",
        {"/": refuse(403, "<h1>Blocked hosts: localhost:{port}</h1>")},
        "request-refused",
        "Host",
        "config.hosts",
    ),
    Small("Spring's CORS check", {"/": refuse(403, "Invalid CORS request")}, "request-refused", "Origin", "CORS"),
    Small(
        "frame-ancestors",
        {"/": page("", fields=[("Content-Security-Policy", "frame-ancestors 'none'")])},
        "frame-forbidden",
        "Content-Security-Policy",
    ),
    Small(
        "scope of a service worker",
        {"/": page("<script>navigator.serviceWorker.register('sw.js',{scope:'/'})</script>"), "/sw.js": APP},
        "service-worker-scope",
        "scope",
    ),
    Small(
        "field of a script",
        {"/": page("<script>fetch('me',{headers:{'X-Forwarded-User':u}})</script>")},
        "field-removed",
        "X-Forwarded-User",
    ),
    Small(
        "base of another origin",
        {"/": page("<img src=a.png>", "<base href='http://localhost:{port}/'>"), "/a.png": PICTURE},
        "base-href",
        "localhost",
    ),
    Small(
        "plain WebSocket in an https page",
        {"/": page("<script>new WebSocket('ws://'+location.host+location.pathname+'ws')</script>")},
        "mixed-content",
        "ws://",
        caller=HTTPS,
    ),
    Small(
        "Create React App",
        {
            "/": page(
                "<noscript>You need to enable JavaScript to run this app.</noscript><div id=root></div>",
                '<script defer="defer" src="/static/js/main.8d2f1c3b.js"></script>',
            ),
            "/static/js/main.8d2f1c3b.js": APP,
        },
        REDIRECTED,
        "main.8d2f1c3b.js",
        '"homepage": "."',
    ),
    Small(
        "Vue CLI",
        {
            "/": page(
                "<div id=app></div>",
                "<script defer src=/js/chunk-vendors.1a2b.js></script><link href=/css/app.3c.css rel=stylesheet>",
            ),
            "/js/chunk-vendors.1a2b.js": APP,
            "/css/app.3c.css": CSS,
        },
        REDIRECTED,
        "chunk-vendors",
        "publicPath",
    ),
    Small(
        "Next.js",
        {"/": page('<script src="/_next/static/chunks/main.js" async=""></script>'), "/_next/static/chunks/main.js": APP},
        REDIRECTED,
        "/_next/",
        "basePath",
    ),
    Small(
        "login elsewhere that leads back to localhost",
        {"/": redirect("https://sso.example/auth?client_id=a&redirect_uri=http%3A%2F%2Flocalhost%3A{port}%2Fcallback")},
        "login-callback",
        "sso.example",
        "/proxy/port/{port}/",
    ),
    Small(
        "SAML login",
        {"/": redirect("https://idp.example/sso?SAMLRequest=fZJ", 303)},
        "login-required",
        "idp.example",
        "callback",
    ),
    Small("an error of its own", {"/": refuse(500, "<h1>Internal Server Error</h1>")}, "page-fails", "500", "log"),
    Small(
        "a script that fails behind proxies",
        {"/": page("<script src=app.js></script>"), "/app.js": lambda r: refuse(502, "no") if r.one("X-Forwarded-For") else APP},
        "part-fails",
        "app.js",
        ISOLATED,
    ),
    Small(
        "Vite's development server",
        {
            "/": page("<div id=app></div>", '<script type="module" src="/@vite/client"></script>'),
            "/@vite/client": Response(
                'const h = `${null || importMetaUrl.hostname}:${hmrPort || importMetaUrl.port}${"/"}`;', SCRIPT
            ),
        },
        "root-websocket",
        "WebSocket",
        "vite --base",
        sockets=frozenset({"/"}),
    ),
    Small(
        "Socket.IO",
        {
            "/": page("<script src=socket.io/socket.io.js></script><script>const s = io();</script>"),
            "/socket.io/socket.io.js": APP,
        },
        "root-websocket",
        "/socket.io/",
        "path",
    ),
    Small("htmx", {"/": page('<div hx-get="/rows" hx-trigger="load"></div>')}, REDIRECTED, "/rows"),
    Small(
        "SVG sprite",
        {"/": page("<svg><use href='/icons.svg#a'/></svg>"), "/icons.svg": Response("<svg/>", "image/svg+xml")},
        REDIRECTED,
        "/icons.svg",
    ),
]

SCRIPT_WITH_CHOICE = (
    "const u=(location.protocol==='https:'?'wss://':'ws://')+location.host+location.pathname+'ws';new WebSocket(u)"
)
HEALTHY = [
    Small(
        "static files",
        {
            "/": page("<img src=a.png><a href=b/>b</a><script src=./js/app.js></script>", "<link rel=stylesheet href=c.css>"),
            "/a.png": PICTURE,
            "/js/app.js": APP,
            "/c.css": CSS,
        },
    ),
    Small(
        "relative build",
        {
            "/": page("<div id=root></div>", '<script type="module" crossorigin src="./assets/i.js"></script>'),
            "/assets/i.js": Response('import"./c.js";fetch("data.json")', SCRIPT),
            "/assets/c.js": APP,
        },
    ),
    Small("redirect to a folder", {"/": redirect("/app/"), "/app/": page("<script src=main.js></script>"), "/app/main.js": APP}),
    Small("WebSocket below the page", {"/": page(f"<script>{SCRIPT_WITH_CHOICE}</script>")}, sockets=frozenset({"/ws"})),
    Small(
        "same-origin frames and policies",
        {
            "/": page(
                "<script src=a.js></script>",
                fields=[
                    ("X-Frame-Options", "SAMEORIGIN"),
                    ("Content-Security-Policy", "default-src 'self'; frame-ancestors 'self'"),
                ],
            ),
            "/a.js": APP,
        },
    ),
    Small(
        "cookies",
        {
            "/": page(
                "",
                fields=[
                    ("Set-Cookie", "sid=a; Path=/; HttpOnly; SameSite=Lax"),
                    ("Set-Cookie", "t=b; Domain=localhost; Path=/other"),
                ],
            )
        },
    ),
    Small(
        "login form",
        {
            "/": redirect("/login"),
            "/login": page(
                "<form method=post action=login><input type=password name=p></form>",
                fields=[("Set-Cookie", "csrftoken=a; Path=/")],
            ),
        },
    ),
    Small(
        "prefix from a field",
        {
            "/": lambda r: page(
                "<script src='{0}/app.js'></script><a href='{0}/x'>x</a>".replace("{0}", r.one("X-Forwarded-Prefix") or "")
            ),
            "/app.js": APP,
        },
    ),
    Small("relative service worker", {"/": page("<script>navigator.serviceWorker.register('sw.js')</script>"), "/sw.js": APP}),
    Small("plain text", {"/": Response("Not a page, and no http://localhost:{port}/ in it.", TEXT)}),
    Small(
        "other servers", {"/": page("<script src='https://cdn.example/x.js'></script><a href='https://example.org/login'>x</a>")}
    ),
    Small(
        "words of error pages",
        {"/": page("<p>Invalid Host header, CSRF verification failed, your browser is not supported. localhost:{port}</p>")},
    ),
    Small(
        "constants of a library",
        {
            "/": page("<script src=lib.js></script>"),
            "/lib.js": Response(
                'n.DEFAULT_URL="ws://localhost:5006/ws";n.onClick=()=>{window.location.href="/"};u=()=>location.origin+"/#view/"+e',
                SCRIPT,
            ),
        },
    ),
    Small(
        "no slash, and only an icon is missing",
        {"/app": page("<script src=static/a.js></script>", "<link rel=icon href=./gone.ico>"), "/static/a.js": APP},
        path="/app",
    ),
    Small("missing pictures", {"/": page("<img src=gone.png><link rel=icon href=gone.ico>")}),
]
