"""What a port's page tells of itself; the rest of the inventory is tested through the API."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.inventory import Inventory, Page, read_page

from .upstreams import free_port
from .waiting import eventually

HTML = [("Content-Type", "text/html; charset=utf-8")]


@pytest.mark.parametrize(
    ("content", "page"),
    [
        (b"<title>A  page\n</title>", Page(True, "A page")),
        (b"<title>A &amp; B</title><title>no</title>", Page(True, "A & B")),
        (b"<title></title>", Page(True)),
        (b"<link rel='shortcut icon' href='/static/a.ico'>", Page(True, "", "/p/static/a.ico")),
        (b"<link rel=icon href='./a.png'><link rel=icon href=b.png>", Page(True, "", "/p/a.png")),
        (b"<link rel=icon href='//evil.example/a.ico'>", Page(True)),
        (b"<link rel=icon href='https://evil.example/a.ico'>", Page(True)),
        (b"<link rel=icon href='data:image/png;base64,xx'>", Page(True)),
        (b"<link rel=icon><title>cut off", Page(True, "cut off")),
        (b"<title>" + b"x" * 5000 + b"</title>", Page(True, "x" * 200)),
        (b"\xff\xfe<title>\xe4", Page(True, "\ufffd")),
    ],
)
def test_title_and_icon_are_read(content, page):
    assert read_page(HTML, content, prefix="/p") == page


def test_only_html_has_a_title():
    assert read_page([("Content-Type", "application/json")], b"<title>x</title>", prefix="/p") == Page(True)


@given(st.binary(max_size=300))
def test_any_content_is_read(content):
    page = read_page(HTML, b"<link rel=icon href='" + content, prefix="/p")
    assert page.icon == "" or page.icon.startswith("/p/")


async def test_two_that_begin_to_watch_at_once_have_one_poll_and_leave_none(gateway):
    inventory = Inventory(gateway, "/", set)
    watches = [inventory.watch(), inventory.watch()]

    async def step(watch):
        return await anext(watch)

    async def until_told(watch, port):
        while (await anext(watch))[1].get("port") != port:
            pass

    def polls():
        return [task for task in asyncio.all_tasks() if task.get_name() == "portproxy inventory" and not task.done()]

    with socket.create_server(("127.0.0.1", free_port())):  # it accepts, and has nothing to say
        found = await asyncio.gather(*map(step, watches))
        assert [name for name, _ in found] == ["snapshot", "snapshot"]
        await asyncio.sleep(1.1)
        with socket.create_server(("127.0.0.1", free_port())) as new:
            await asyncio.gather(*(until_told(watch, new.getsockname()[1]) for watch in watches))
            assert len(polls()) == 1
    for watch in watches:
        await watch.aclose()
    await eventually(lambda: not polls())
