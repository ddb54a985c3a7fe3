"""Observations for the tests of rules, made of a page's markup: what a browser would request, and with which result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urljoin

from jupyter_portproxy.diagnose.markup import parse_page, parse_script
from jupyter_portproxy.diagnose.observation import Evidence, Observation, Response, Target, Visit
from jupyter_portproxy.diagnose.rules import RULES, Finding, find_all

JUPYTER = "http://localhost:8888"
TARGET = Target(
    "8050", 8050, "/proxy/port/8050", "/proxy/absolute/port/8050", "/", JUPYTER, isolated_url="http://p8050.localhost:8888/"
)
BEHIND_HUB = replace(
    TARGET,
    prefix="/user/ada/proxy/port/8050",
    absolute_prefix="/user/ada/proxy/absolute/port/8050",
    base_url="/user/ada/",
    jupyter_origin="https://hub.example",
    is_behind_hub=True,
)
NAMED = ("fetch", "link", "form", "post")
OK = Response(200)


def observe(
    html: str = "",
    *,
    target: Target = TARGET,
    path: str = "/",
    fields: list[tuple[str, str]] | None = None,
    script: str = "",
    parts: Mapping[str, tuple[int, int]] | None = None,
    status: int = 200,
    more: tuple[Visit, ...] = (),
) -> Observation:
    """What is seen of a page with this markup, and with this text in `app.js`.

    Args:
        fields: of the page's responses, direct and through Jupyter alike.
        parts: URL as written -> status on localhost and through Jupyter; 200 and 200 for others.
        more: visits before the page.
    """
    markup = parse_page(html, path)
    response = Response(status, fields=tuple(fields or ()), text=html, document=markup.document)
    page = Visit("page", path, Evidence(path), path, target.prefix + path, response, response)
    references = markup.references + (parse_script(script, "/app.js") if script else [])
    visits = [page]
    if script:
        text = Response(200, text=script)
        visits.append(Visit("script", "app.js", Evidence(path, 1), "/app.js", f"{target.prefix}/app.js", text, text))
    base = urljoin(target.jupyter_origin + page.proxied_url, markup.document.base_href)
    direct_base = urljoin(f"http://localhost:8050{path}", markup.document.base_href)
    for reference in references:
        proxied_url = urljoin(base, reference.url).removeprefix(target.jupyter_origin)
        direct_url = urljoin(direct_base, reference.url).removeprefix("http://localhost:8050")
        direct, proxied = (parts or {}).get(reference.url, (101, 101) if reference.kind == "socket" else (200, 200))
        requested = reference.kind not in NAMED
        visits.append(
            Visit(
                reference.kind,
                reference.url,
                reference.evidence,
                direct_url,
                proxied_url,
                Response(direct) if requested else None,
                Response(proxied) if requested and proxied else None,
            )
        )
    return Observation(target, (*more, *visits))


def find(seen: Observation) -> list[str]:
    """The ids of the rules that find something."""
    return [rule.id for rule, _ in find_all(seen)]


def find_one(seen: Observation, rule: str) -> Finding:
    """The one finding of a rule."""
    assert rule in [each.id for each in RULES]
    (finding,) = [finding for each, finding in find_all(seen) if each.id == rule]
    return finding
