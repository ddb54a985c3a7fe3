"""Looks at a page: requests it and what it loads, direct and through Jupyter, and makes an `Observation` of that.

Only GETs: the page, at most MAX_REDIRECTS redirects, and what the page itself loads, with what its style sheets and scripts load
by themselves. No link, no form, no URL that a script fetches. What would change Jupyter's state is not requested either, nor
another service: outside of the prefix only parts of the page that the gateway redirects by their Referer, or that are nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import cast, get_args
from urllib.parse import urlsplit

from ..protocol.origin_hosts import WELL_KNOWN_PATH
from ..protocol.url_fields import parse_refresh
from ..protocol.urls import is_below, parse_origin
from .decoding import decode_text
from .excerpts import locate_field
from .markup import Markup, parse_page, parse_script, parse_style
from .observation import Evidence, LoadedKind, Observation, Reference, Response, Target, Visit
from .page_client import MAX_REDIRECTS, Load, Loaded, PageClient, join_url, path_and_query

MAX_CONTENT = 2 << 20  # bytes of a page
MAX_LOADS = 40  # parts of a page that are requested
_MAX_BY_KIND = {"image": 12, "font": 4, "socket": 6, "frame": 3, "script": 30}
_MAX_PART = 1 << 20  # bytes of a script or style sheet
_MAX_OTHER = 16 << 10  # bytes of anything else, whose content does not matter
_MAX_KEPT_PAGE, _MAX_KEPT_PART = 256 << 10, 32 << 10  # characters of text that the rules see
_MAX_VISITS = 400
_AT_ONCE = 4  # parts that are requested at a time
_MAX_DELAY = 5.0  # s in which a Refresh counts as a redirect
_MAX_URL = 2000  # characters of such a redirect
_TEXTS = ("html", "javascript", "ecmascript", "css", "json", "text/plain", "xml")
# Parts that the gateway redirects by their Referer where they are at the root.
_RESCUED = ("script", "style", "image", "font", "manifest")
_LOADED: tuple[str, ...] = get_args(LoadedKind)


@dataclass(frozen=True, slots=True)
class _Step:
    """One page on the way through redirects, as it was requested at `url`."""

    url: str
    written: str
    source: Evidence
    response: Response
    markup: Markup | None


@dataclass(frozen=True, slots=True)
class _Found:
    """A reference, and the absolute URLs to which it leads."""

    reference: Reference
    direct_url: str
    proxied_url: str


@dataclass(frozen=True, slots=True)
class _Part:
    """What a script or style sheet loads and names, and its URL."""

    url: str = ""
    references: tuple[Reference, ...] = ()


class Crawl:
    """One look at one page.

    Args:
        direct: requests to the service, whose URL for the page is `direct_url`.
        proxied: requests to Jupyter, whose URL for the page is `proxied_url`.
        is_lost: True for a request to Jupyter that leads to nothing of Jupyter's or of the gateway's own.
    """

    def __init__(
        self,
        target: Target,
        direct: PageClient,
        proxied: PageClient,
        direct_url: str,
        proxied_url: str,
        is_lost: Callable[[Load], bool],
    ) -> None:
        self._target, self._direct, self._proxied = target, direct, proxied
        self._direct_url, self._proxied_url, self._is_lost = direct_url, proxied_url, is_lost
        self._slots, self._parsing = asyncio.Semaphore(_AT_ONCE), asyncio.Lock()  # one text is decoded at a time
        self._visits: list[Visit] = []
        self._counts: dict[str, int] = {}
        self._known: set[tuple[str, str]] = set()  # kinds and URLs
        self._referer = self._page_origin = ""  # of the page through Jupyter

    async def run(self) -> Observation:
        """What can be seen until the clients' budget is spent."""
        direct, walked = await asyncio.gather(
            self._walk(self._direct, self._direct_url), self._walk(self._proxied, self._proxied_url)
        )
        proxied = self._without_entrance(walked)
        self._visits = list(self._pair(direct, proxied))
        page = proxied[-1]
        if page.markup is not None and page.response.is_ok:
            base = join_url(page.url, page.markup.document.base_href) or page.url
            self._referer, self._page_origin = _referer_of(page), parse_origin(page.url) or self._proxied.origin
            inner = await self._load_all(self._resolve(page.markup.references, base, base))
            await self._load_all([found for part in inner for found in self._resolve(part.references, base, part.url)])
        return Observation(self._target, tuple(self._visits))

    # ---- the page ----

    async def _walk(self, client: PageClient, url: str) -> list[_Step]:
        """The page and what it redirects to, by Location, Refresh or `<meta>`."""
        steps: list[_Step] = []
        path = self._path_of(url)
        following: tuple[str, str, Evidence] | None = (url, path, Evidence(path))
        while following is not None:
            url, written, source = following
            loaded = await client.get(Load(url, "page", max_content=MAX_CONTENT))
            response, markup = await self._read_page(loaded)
            step = _Step(url, written, source, response, markup)
            following = self._next(step, client)
            if following is not None and len(steps) == MAX_REDIRECTS:
                following, step = None, replace(step, response=replace(response, error="too_many_redirects"))
            steps.append(step)
        return steps

    def _without_entrance(self, steps: list[_Step]) -> list[_Step]:
        """The steps from the first at an isolated origin on: those before it are the gateway's own, no pages of the service."""
        last = max((number for number, step in enumerate(steps) if self._is_entrance(step.url)), default=-1)
        return steps[last + 1 :] or steps

    def _next(self, step: _Step, client: PageClient) -> tuple[str, str, Evidence] | None:
        """URL, as it is written, and source of the redirect that a browser follows from there; None without one."""
        response, file = step.response, self._path_of(step.url)
        written, source = response.redirect_url, locate_field(file, "Location", response.field("location"))
        if not written and not response.error and (refresh := _soon(response.field("refresh"))):
            written, source = refresh, locate_field(file, "Refresh", response.field("refresh"))
        meta = response.document.meta("refresh") if response.document is not None else None
        if not written and meta is not None and (refresh := _soon(meta.value)):
            written, source = refresh, meta.evidence
        url = join_url(step.url, written) if written else ""
        if not url or (url == step.url and not response.redirect_url) or not self._may_walk(client, url):
            return None
        return url, written, source

    def _may_walk(self, client: PageClient, url: str) -> bool:
        """True for a page of the service, and for the gateway's own redirect into an isolated origin."""
        if not client.owns_url(url):
            return False
        if client is self._direct or not client.is_at_origin(url):
            return True
        return self._target.has_below(urlsplit(url).path) or self._is_entrance(url)

    async def _read_page(self, loaded: Loaded) -> tuple[Response, Markup | None]:
        content_type = loaded.response.field("content-type")
        is_html = "html" in content_type.lower()
        text = await self._decode(loaded)
        kept = replace(loaded.response, text=text[:_MAX_KEPT_PAGE])
        if not is_html or not text:
            return kept, None
        async with self._parsing:
            markup = await asyncio.to_thread(parse_page, text, self._path_of(loaded.url))
        return replace(kept, document=markup.document), markup

    def _pair(self, direct: list[_Step], proxied: list[_Step]) -> Iterator[Visit]:
        for ours, theirs in zip_longest(direct, proxied):
            step = ours or theirs
            yield Visit(
                "page",
                step.written,
                step.source,
                self._shown(ours.url, self._direct) if ours else "",
                self._shown(theirs.url, self._proxied) if theirs else "",
                ours.response if ours else None,
                theirs.response if theirs else None,
            )

    # ---- its parts ----

    def _resolve(self, references: Iterable[Reference], base: str, part_url: str) -> list[_Found]:
        """Where the references of a part of the proxied page lead; sockets and links are relative to the page's base."""
        found = []
        for reference in references:
            proxied = join_url(part_url if reference.kind in ("script", "style", "image", "font") else base, reference.url)
            if not proxied or (reference.kind, proxied) in self._known:
                continue
            self._known.add((reference.kind, proxied))
            found.append(_Found(reference, self._to_direct(proxied), proxied))
        return found

    def _to_direct(self, proxied_url: str) -> str:
        """The URL on localhost of what the browser requests from Jupyter."""
        if not self._proxied.owns_url(proxied_url):
            return proxied_url
        parts = urlsplit(proxied_url)
        path = parts.path
        prefix = next((prefix for prefix in self._target.stripped_prefixes if is_below(path, prefix)), "")
        if prefix and self._proxied.is_at_origin(proxied_url):
            path = path[len(prefix) :] or "/"
        return self._direct.origin + path + (f"?{parts.query}" if parts.query else "")

    async def _load_all(self, found: list[_Found]) -> list[_Part]:
        """Visit references; the result is what their scripts and style sheets say."""
        visiting = []
        for each in found[: max(0, _MAX_VISITS - len(self._visits))]:
            index, kind = len(self._visits), each.reference.kind
            shown = self._shown(each.direct_url, self._direct), self._shown(each.proxied_url, self._proxied)
            self._visits.append(Visit(kind, each.reference.url, each.reference.evidence, *shown))
            if kind in _LOADED and self._take_turn(kind):
                visiting.append(self._visit(index, each))
        return list(await asyncio.gather(*visiting))

    def _take_turn(self, kind: str) -> bool:
        """True if one more part of that kind may be requested."""
        if sum(self._counts.values()) >= MAX_LOADS or self._counts.get(kind, 0) >= _MAX_BY_KIND.get(kind, MAX_LOADS):
            return False
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return True

    async def _visit(self, index: int, found: _Found) -> _Part:
        visit = self._visits[index]
        async with self._slots:
            if self._direct.budget.is_spent:
                return _Part()
            if visit.kind == "socket":
                self._visits[index] = await self._visit_socket(visit, found)
                return _Part()
            direct, proxied = await asyncio.gather(
                self._load(self._direct, found.direct_url, visit, self._to_direct(self._referer) if self._referer else ""),
                self._load(self._proxied, found.proxied_url, visit, self._referer),
            )
            source = proxied if proxied is not None and proxied.response.is_ok else direct
            text = await self._decode(source) if source is not None else ""
            responses = [_add_text(each, text[:_MAX_KEPT_PART] if each is source else "") for each in (direct, proxied)]
            self._visits[index] = replace(visit, direct=responses[0], proxied=responses[1])
            if source is None or not source.response.is_ok:
                return _Part()
            url = source.url if source is proxied else found.proxied_url
            return _Part(url, await self._read_part(visit, source.url, text))

    async def _read_part(self, visit: Visit, url: str, text: str) -> tuple[Reference, ...]:
        parse = {"script": parse_script, "style": parse_style}.get(visit.kind)
        if parse is None or not text:
            return ()
        async with self._parsing:
            return tuple(await asyncio.to_thread(parse, text, self._path_of(url)))

    async def _visit_socket(self, visit: Visit, found: _Found) -> Visit:
        is_direct, is_proxied = self._direct.owns_url(found.direct_url), self._may_load(Load(found.proxied_url, "socket"))
        direct, proxied = await asyncio.gather(
            self._direct.shake_hands(found.direct_url, self._direct.origin) if is_direct else _nothing(),
            self._proxied.shake_hands(found.proxied_url, self._page_origin) if is_proxied else _nothing(),
        )
        return replace(visit, direct=direct, proxied=proxied)

    def _may_load(self, load: Load) -> bool:
        """True if the browser's request reaches this server, and nothing there but the service."""
        if not self._proxied.owns_url(load.url):
            return False
        if not self._proxied.is_at_origin(load.url):
            return True  # an isolated origin
        path = urlsplit(load.url).path or "/"
        if self._target.has_below(path):
            return True
        reaches = not self._target.is_behind_hub or path.startswith(self._target.base_url)
        return reaches and load.kind in _RESCUED and self._is_lost(load)

    async def _load(self, client: PageClient, url: str, visit: Visit, referer: str) -> Loaded | None:
        size = _MAX_PART if visit.kind in ("script", "style") else _MAX_OTHER
        load, may_load = Load(url, cast(LoadedKind, visit.kind), referer, size), self._may_load
        if client is self._direct:
            return await client.follow(load) if client.owns_url(url) else None
        return await client.follow(load, may_load) if may_load(load) else None

    async def _decode(self, loaded: Loaded) -> str:
        content_type = loaded.response.field("content-type")
        if not loaded.content or not any(each in content_type.lower() for each in _TEXTS):
            return ""
        async with self._parsing:
            return await asyncio.to_thread(decode_text, loaded.content, content_type, is_html="html" in content_type.lower())

    # ---- URLs ----

    def _is_entrance(self, url: str) -> bool:
        """True for a URL on the gateway's own way into the isolated origin of this target; it is sent back with a ticket once."""
        path, enter = urlsplit(url).path, f"{self._target.base_url}proxy/enter"
        return path == enter or is_below(path, f"{enter}/{self._target.name}") or path.startswith(WELL_KNOWN_PATH)

    def _path_of(self, url: str) -> str:
        """The path at the service of a URL, for people."""
        return path_and_query(self._to_direct(url))

    def _shown(self, url: str, client: PageClient) -> str:
        """The path of a URL of the client's own origin; any other URL as it is."""
        is_own = client.owns_url(url) and (client is self._direct or client.is_at_origin(url))
        return path_and_query(url) if is_own else url


def _referer_of(page: _Step) -> str:
    """What a browser sends as Referer with requests for the page's parts (Referrer Policy, 8.3)."""
    document = page.response.document
    meta = document.meta("referrer") if document is not None else None
    policies = [*page.response.field("referrer-policy").lower().split(","), meta.value.lower() if meta is not None else ""]
    policy = next((each.strip() for each in reversed(policies) if each.strip()), "")
    if policy in ("no-referrer", "never"):
        return ""
    return f"{parse_origin(page.url)}/" if policy in ("origin", "strict-origin") else page.url


def _soon(refresh: str) -> str:
    """The URL of a Refresh that a browser follows soon; empty without one."""
    seconds, url = parse_refresh(refresh)
    return url if seconds <= _MAX_DELAY and len(url) <= _MAX_URL else ""


def _add_text(loaded: Loaded | None, text: str) -> Response | None:
    return replace(loaded.response, text=text) if loaded is not None else None


async def _nothing() -> None:
    return None
