"""What was seen of a page, as data: `crawl` makes it, rules read it. Pure.

A page is requested twice: *direct*, at the service itself, and *proxied*, through this Jupyter server as browsers do. What the
page loads is requested the same two ways. An `Observation` has one `Visit` for each, in the order in which a browser comes to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ..protocol.framing import find_field
from ..protocol.url_fields import REDIRECT_STATUSES
from ..protocol.urls import is_below
from .script_code import Code, mask_page, mask_script

# page: the first page and what it redirects to. frame: of an <iframe>. worker: a service worker.
LoadedKind = Literal["page", "frame", "script", "style", "image", "font", "manifest", "worker", "socket"]
# Never requested, as that may change state. fetch: of fetch, XMLHttpRequest, EventSource or import() in a script. link: <a href>,
# and what a script assigns to `location`. form, post: the action of a form that is sent by GET, by POST.
NamedKind = Literal["fetch", "link", "form", "post"]
VisitKind = Literal[LoadedKind, NamedKind]


@dataclass(frozen=True, slots=True)
class Target:
    """The port or service whose page is looked at, and how it is reached.

    Attributes:
        name: the port as text, or the service's name.
        port: None for a service at a Unix socket.
        prefix: the path of its path-based URL without the final slash, such as `/user/ann/proxy/port/8050`.
        absolute_prefix: the same of the form that keeps the prefix; the same as `prefix` if the service gets the prefix anyway.
        keeps_prefix: the service gets the whole path, with the prefix.
        base_url: of the Jupyter server, such as `/user/ann/`.
        scheme: which the service speaks, http or https.
        process: name of the process that listens; empty if it is not known.
        command: its command line, secrets masked.
        template: name of the service's template.
        isolated_url: the URL of its isolated origin; None without one.
        jupyter_origin: scheme and authority by which the client reaches the Jupyter server, such as `https://hub.example.org`.
        is_behind_hub: requests outside `base_url` go to JupyterHub, not to this server, and are not made.
    """

    name: str
    port: int | None
    prefix: str
    absolute_prefix: str
    base_url: str
    jupyter_origin: str
    keeps_prefix: bool = False
    scheme: str = "http"
    process: str = ""
    command: tuple[str, ...] = ()
    template: str | None = None
    isolated_url: str | None = None
    is_behind_hub: bool = False

    @property
    def stripped_prefixes(self) -> tuple[str, ...]:
        """The paths at which the service gets what follows them: `prefix`, and the other forms for its port."""
        if self.port is None:
            return () if self.keeps_prefix else (self.prefix,)
        others = (f"{self.base_url}proxy/{self.port}", f"{self.base_url}server/{self.port}")
        return others if self.keeps_prefix else (self.prefix, *others)

    @property
    def kept_prefixes(self) -> tuple[str, ...]:
        """The paths at which the service gets the whole path: `absolute_prefix`, and the other forms for its port."""
        if self.port is None:
            return (self.absolute_prefix,)
        forms = ("proxy/absolute/port", "proxy/absolute", "port")
        return tuple(dict.fromkeys((self.absolute_prefix, *(f"{self.base_url}{form}/{self.port}" for form in forms))))

    def has_below(self, path: str) -> bool:
        """True if a path of Jupyter's origin leads to the service."""
        return any(is_below(path, prefix) for prefix in (self.prefix, *self.stripped_prefixes, *self.kept_prefixes))

    @property
    def is_secure(self) -> bool:
        """True if the browser reaches Jupyter by https."""
        return self.jupyter_origin.startswith("https:")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where something stands: in a line of a document, or in a header field.

    Attributes:
        file: the path of the document or response at the service, such as `/static/app.js`, or an absolute URL.
        line: the first is 1; None for a header field.
        field: the field's name; empty for a line.
        excerpt: the text there, at most 160 characters on one line.
    """

    file: str
    line: int | None = None
    field: str = ""
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class MetaTag:
    """A `<meta>` of a page.

    Attributes:
        name: `http-equiv`, `name` or `property` in lower case.
        value: `content`.
    """

    name: str
    value: str
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Reference:
    """A URL in a document, a script or a style sheet.

    Attributes:
        url: as it is written. Of `"ws://" + location.host + "/ws"`, and other expressions with the page's own host, it is `/ws`.
    """

    kind: VisitKind
    url: str
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Document:
    """What an HTML page says beside the URLs that it loads.

    Attributes:
        title: of the page; empty without one.
        base: where its `<base href>` stands; None without one.
        base_href: the URL in it.
        metas: its `<meta>` tags.
        has_password_field: it has an `<input type=password>`: it is a login.
    """

    title: str = ""
    base: Evidence | None = None
    base_href: str = ""
    metas: tuple[MetaTag, ...] = ()
    has_password_field: bool = False

    def meta(self, name: str) -> MetaTag | None:
        return next((meta for meta in self.metas if meta.name == name), None)


@dataclass(frozen=True, slots=True)
class Response:
    """What came back for one request.

    Attributes:
        status: 0 without a response.
        fields: of the response, as they arrived.
        text: content of HTML, a script, a style sheet, JSON or plain text, decoded, as far as it is kept.
        size: bytes of content that were read, after decompression.
        is_cut: there is more content than was read.
        error: code of what was wrong: of the gateway's own error response, of a connection that failed (as in `errors.py`), or
            `timeout` (headers or content too late), `too_many_redirects`, `not_decodable` (content coding). Empty if nothing was.
        seconds: until the head had arrived.
        redirects: the values of Location that were followed to this response. None is followed for a visit of the kind `page`.
        document: what the HTML says; None for other content.
    """

    status: int = 0
    reason: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    text: str = ""
    size: int = 0
    is_cut: bool = False
    error: str = ""
    seconds: float = 0.0
    redirects: tuple[str, ...] = ()
    document: Document | None = None

    def field(self, name: str) -> str:
        """The first value of the field `name` (lower case); empty without one."""
        return find_field(self.fields, name)

    def all_fields(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name]

    @property
    def redirect_url(self) -> str:
        """The Location of a redirect; empty for other responses."""
        return self.field("location") if self.status in REDIRECT_STATUSES else ""

    @property
    def is_ok(self) -> bool:
        """True for a whole response with a status of success, or 101 of a WebSocket."""
        return not self.error and (self.status == 101 or 200 <= self.status < 300)


@dataclass(frozen=True, slots=True)
class Visit:
    """One URL that the page loads, or the page itself.

    Attributes:
        url: as it is written in the source; the requested path for the first page.
        source: where it stands; the path itself for the first page.
        direct_url: where it leads on localhost: a path, or an absolute URL of another origin.
        proxied_url: where it leads in the browser: a path at Jupyter's origin, or an absolute URL of another origin.
        direct: the service's own response; None if it was not requested.
        proxied: the response through Jupyter; None if it was not requested.
    """

    kind: VisitKind
    url: str
    source: Evidence
    direct_url: str = ""
    proxied_url: str = ""
    direct: Response | None = None
    proxied: Response | None = None

    @property
    def file(self) -> str:
        """The `file` of evidence in its responses."""
        return self.direct_url or self.url

    @property
    def is_root_relative(self) -> bool:
        """True for `/static/app.js`, not for `//host/app.js`."""
        return self.url.startswith("/") and not self.url.startswith("//")

    @property
    def is_broken(self) -> bool:
        """True if it works on localhost and not through Jupyter."""
        return self.direct is not None and self.direct.is_ok and self.proxied is not None and not self.proxied.is_ok


@dataclass(frozen=True)
class Observation:
    """What was seen of one page."""

    target: Target
    pages: tuple[Visit, ...]

    @cached_property
    def page(self) -> Visit:
        """The page at the end of its redirects: the last visit of that kind."""
        return [visit for visit in self.pages if visit.kind == "page"][-1]

    def of_kind(self, *kinds: VisitKind) -> list[Visit]:
        return [visit for visit in self.pages if visit.kind in kinds]

    @cached_property
    def codes(self) -> list[Code]:
        """The page and its scripts, as the browser gets them."""
        codes: dict[str, Code] = {}
        for visit in self.of_kind("page", "frame", "script", "worker"):
            response = visit.proxied if visit.proxied is not None and visit.proxied.text else visit.direct
            if response is not None and response.text and visit.direct_url not in codes:
                is_page = visit.kind in ("page", "frame")
                mask = mask_page(response.text) if is_page else mask_script(response.text)
                codes[visit.direct_url] = Code(visit.file, response.text, mask)
        return list(codes.values())

    def leaves_prefix(self, visit: Visit) -> bool:
        """True if the browser's request goes to Jupyter's origin, but not below the service's prefix."""
        return visit.proxied_url.startswith("/") and not self.target.has_below(visit.proxied_url)
