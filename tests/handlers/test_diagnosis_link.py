"""The link of error pages and of the list to the diagnosis in JupyterLab: its place, its content, and the command instead."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from urllib.parse import quote, unquote

import pytest

from jupyter_portproxy import errors
from jupyter_portproxy.handlers.diagnosis_link import DiagnosisLink, link_diagnosis

from ..conftest import TOKEN
from ..support.upstreams import answers, free_port, says, serve

NAVIGATION = ["Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: none", "Sec-Fetch-Dest: document"]
FRAME = [*NAVIGATION[:2], "Sec-Fetch-Site: same-origin", "Sec-Fetch-Dest: iframe"]
FORBIDS_FRAMES = answers(head=b"X-Frame-Options: DENY\r\nContent-Type: text/html")
COMMAND = "jupyter portproxy check {} --page"
WITH_LAB = {
    "ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True, "jupyterlab": True}},
    "IdentityProvider": {"token": TOKEN},
}
with_lab = pytest.mark.parametrize("jp_server_config", [WITH_LAB])


async def says_nothing(connection) -> None:
    await asyncio.sleep(5)


def link_of(text: str) -> str | None:
    found = re.search(r'<a href="([^"]*)"[^>]*>Diagnose this page</a>', text)
    return unescape(found[1]) if found else None


@pytest.mark.parametrize(
    ("target", "path", "subject"),
    [
        ("8050", "/", "8050"),
        ("8050", "", "8050"),
        ("my.app_2", "/a/b", "my.app_2%2Fa%2Fb"),
        ("8050", "/a%2Fb/c?token=secret", "8050%2Fa%252Fb%2Fc"),
        ("8050", "/?token=secret", "8050"),
        ("8050", "/é", "8050"),
        ("8050", "/a\nb", "8050"),
        ("8050", "/" + 2001 * "a", "8050"),
        ("8050", '/"><script>&x=', "8050%2F%22%3E%3Cscript%3E%26x%3D"),
    ],
)
def test_the_link_has_a_target_and_a_path(target, path, subject):
    link = link_diagnosis("/a@b/lab", target, path)
    assert link == DiagnosisLink(f"/a@b/lab?portproxy-diagnose={subject}", COMMAND.format(target))
    assert link_diagnosis("", target, path) == DiagnosisLink("", COMMAND.format(target))


@pytest.mark.parametrize("target", ["", "a b", "$(id)", "-x", "a/b", "é", "8050\n", 129 * "a", "<b>"])
def test_there_is_none_for_what_is_no_port_and_no_name(target):
    assert link_diagnosis("/lab", target) is None


def test_pages_of_a_service_that_has_failed_have_one():
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and getattr(kind, "is_diagnosable", False)}
    assert {kind.code for kind in kinds} == {"unreachable", "bad_upstream", "distrusted", "timeout", "not_framed"}


@with_lab
async def test_error_pages_link_to_the_diagnosis_in_jupyterlab(call, jp_base_url, gateway):
    gateway.settings.first_byte_timeout = 0.2
    async with serve(says(b"SSH-2.0-OpenSSH\r\n")) as ssh, serve(FORBIDS_FRAMES) as alone, serve(says_nothing) as late:
        for port, fields, code in (
            (free_port(), NAVIGATION, "unreachable"),
            (ssh.port, NAVIGATION, "bad_upstream"),
            (alone.port, FRAME, "not_framed"),
            (late.port, NAVIGATION, "timeout"),
        ):
            page = await call(f"proxy/port/{port}/x/%2e?token={TOKEN}", fields=fields)
            assert page.one("X-Portproxy-Error") == code
            assert link_of(page.text) == f"{jp_base_url}lab?portproxy-diagnose={port}%2Fx%2F%252e"
            assert TOKEN not in page.text and COMMAND.format(port) not in page.text


@with_lab
async def test_each_of_two_pages_in_a_second_has_its_own_link(call, jp_base_url):
    port = free_port()
    for path in ("first", "second", "%22%3E"):
        page = await call(f"proxy/port/{port}/{path}", fields=NAVIGATION)
        assert link_of(page.text) == f"{jp_base_url}lab?portproxy-diagnose={port}%2F{quote(path)}"


@with_lab
async def test_what_is_under_no_page_or_has_no_cause_in_the_service_has_none(call):
    port = free_port()
    for path, fields in (
        (f"port/{port}/", ["Accept: text/html", "Sec-Fetch-Mode: cors"]),
        (f"port/{port}/", ["Accept: application/json", *NAVIGATION[1:]]),
        ("port/70000/", NAVIGATION),
        ("port/5000/", NAVIGATION),
        ("service/unknown/", NAVIGATION),
        (f"port/{port}.example:99/", NAVIGATION),
    ):
        page = await call(f"proxy/{path}", fields=fields)
        assert page.status >= 400 and "portproxy-diagnose" not in page.text and "--page" not in page.text, path
    refused = await call(f"proxy/port/{port}/", fields=["Accept: text/html"], token=None)
    assert "portproxy-diagnose" not in refused.text


async def test_without_jupyterlab_the_page_shows_the_command(call):
    port = free_port()
    page = await call(f"proxy/port/{port}/x", fields=NAVIGATION)
    assert f"<code>{COMMAND.format(port)}</code>" in page.text and link_of(page.text) is None


@with_lab
async def test_a_link_holds_no_markup_of_the_path(call):
    port = free_port()
    page = await call(f"proxy/port/{port}/%22%3E%3Cscript%3E'\"><img>", fields=NAVIGATION)
    link = link_of(page.text)
    assert link is not None and "<img>" not in page.text and not set("<>\"'") & set(link)
    assert unquote(link).endswith("/%22%3E%3Cscript%3E'\"><img>")


@with_lab
async def test_the_list_links_to_it_for_each_page_that_can_be_opened(call, jp_base_url):
    async with serve(answers()) as up:
        page = await call("proxy/", fields=NAVIGATION)
        assert f'href="{jp_base_url}lab?portproxy-diagnose={up.port}" aria-label="Diagnose port {up.port}"' in page.text
        assert "portproxy check" not in page.text


async def test_the_list_shows_the_command_without_jupyterlab(call):
    async with serve(answers()):
        page = await call("proxy/", fields=NAVIGATION)
        assert f"<code>{COMMAND.format('PORT')}</code>" in page.text and "portproxy-diagnose" not in page.text
