"""The extension as jupyter_server loads, configures and stops it."""

from __future__ import annotations

from .clients import frame
from .upstreams import answers, echo_frames, serve


async def test_is_loaded_and_serves_below_the_base_url(call, jp_base_url):
    assert jp_base_url == "/a%40b/"
    async with serve(answers(b"hello")) as upstream:
        answer = await call(f"proxy/port/{upstream.port}/")
    assert (answer.status, answer.text) == (200, "hello")
