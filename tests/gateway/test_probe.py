"""The probe: the first page of a port. Readiness is tested with services, in tests/services and tests/api."""

from __future__ import annotations

import pytest

from jupyter_portproxy.config import PortProxy
from jupyter_portproxy.errors import BadUpstream
from jupyter_portproxy.gateway.connector import Connector
from jupyter_portproxy.gateway.policy import Policy
from jupyter_portproxy.gateway.probe import Probe

from ..support.upstreams import answers, closes_without_answer, cut_mid_content, free_port, never_answers, says, serve


@pytest.fixture
def probe():
    policy = Policy(PortProxy())
    connector = Connector(policy, connect_timeout=1.0)
    yield Probe(policy, connector)
    connector.close()
    policy.close()


async def test_a_page_is_read_up_to_64_kib(probe):
    async with serve(answers(b"x" * 100_000)) as upstream:
        fields, content = await probe.page(upstream.port)
    assert (("Content-Type", "text/plain") in fields, len(content)) == (True, 65536)
    assert upstream.last.one("User-Agent") == "jupyter_portproxy"


async def test_a_port_without_an_answer_has_no_page(probe):
    async with serve(cut_mid_content) as upstream:
        assert await probe.page(upstream.port) is None
    async with serve(never_answers) as upstream:
        assert await probe.page(upstream.port) is None
    assert await probe.page(free_port()) is None


@pytest.mark.parametrize("script", [closes_without_answer, says(b"SSH-2.0-OpenSSH_9.2\r\n"), says(b"\x15\x03\x01\0\x02\x02F")])
async def test_a_port_that_does_not_speak_http_is_told_from_one_that_does_not_answer(probe, script):
    async with serve(script) as upstream:
        with pytest.raises(BadUpstream):
            await probe.page(upstream.port)
