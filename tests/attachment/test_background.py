"""An agent in a thread: what `attach` returns, and its end. The documentation's recipes run it in other processes."""

from __future__ import annotations

import asyncio
import threading

import pytest

from jupyter_portproxy.attachment.agent import AttachedPorts
from jupyter_portproxy.attachment.background import Attachment
from jupyter_portproxy.attachment.local_ports import LocalPorts
from jupyter_portproxy.errors import CliError
from jupyter_portproxy.upstream.websocket_client import ServerAccess

from ..support.upstreams import free_port
from ..support.waiting import eventually


@pytest.fixture
def attach(origin, jp_base_url, agents, jp_asyncio_loop):
    """`await attach()` makes one in a thread, as its constructor waits for the server, which runs in this loop."""
    made: list[Attachment] = []

    def make(token: str, url: str, timeout: float) -> Attachment:
        offer = AttachedPorts("kernel", "n0123", [6006], LocalPorts("n0123"))
        made.append(Attachment(ServerAccess(url, token), offer, "kernel", timeout))
        return made[-1]

    async def start(token: str = "", url: str = f"http://{origin}{jp_base_url}", timeout: float = 10) -> Attachment:
        return await asyncio.to_thread(make, token or agents.tokens.create(60)[1], url, timeout)

    yield start
    for each in made:
        jp_asyncio_loop.run_until_complete(asyncio.to_thread(each.close))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("portproxy attach")]


async def test_it_is_attached_until_it_is_closed(attach, agents, origin, jp_base_url):
    attached = await attach()
    url = f"http://{origin}{jp_base_url}proxy/service/kernel-6006/"
    assert attached.urls == {6006: url} and repr(attached) == f"kernel-6006: {url}"
    assert agents.list()[0].state.value == "up" and threads()
    await asyncio.to_thread(attached.close)
    await asyncio.to_thread(attached.close)
    await eventually(lambda: agents.list()[0].state.value == "ended")
    assert repr(attached).endswith("\nIt is detached.") and not threads()


async def test_what_cannot_be_attached_is_raised(attach):
    with pytest.raises(CliError, match="The attach token is not valid: it was revoked, has ended, or belongs to another user"):
        await attach("portproxy-attach-wrong")
    await eventually(lambda: not threads())


async def test_a_server_that_is_away_is_dialled_again(attach):
    attached = await attach(url=f"http://127.0.0.1:{free_port()}/", timeout=0.2)
    await eventually(lambda: "Next attempt in" in repr(attached))
    assert attached.urls == {}


async def test_the_end_at_the_server_is_shown(attach, agents):
    attached = await attach()
    agents.detach("kernel")
    await eventually(lambda: "It was detached at the server." in repr(attached))
    await eventually(lambda: not threads())
