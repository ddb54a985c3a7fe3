"""What is open ends with its login; what is asked meanwhile, and how often."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.auth.identity import IdentityProvider, User
from tornado.web import HTTPError

from jupyter_portproxy.gateway import logins
from jupyter_portproxy.gateway.logins import Logins
from jupyter_portproxy.upstream.closable import Closable

from ..isolation.test_handlers import granting
from ..support.identity_providers import configured
from ..support.raw_clients import UPGRADE
from ..support.upstreams import mirror, serve
from ..support.waiting import eventually


class Open(Closable):
    """Something that is open until `shut_down`."""

    def __init__(self):
        self.codes = []

    def shut_down(self, code=1001):
        self.codes.append(code)
        self.run_close_callbacks()


class Login:
    """A login that holds as long as `answer` says, and counts the questions."""

    def __init__(self, answer=True):
        self.answer, self.checks = answer, 0

    def make(self):
        return self.is_valid

    async def is_valid(self):
        self.checks += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def watched():
    return Logins(logging.getLogger(__name__), 0.02, timeout=0.2)


async def test_one_question_for_all_that_a_login_has_opened_and_none_for_what_is_closed(watched):
    login, other, opened = Login(), Login(), [Open() for _ in range(50)]
    for number, open_ in enumerate(opened):
        watched.watch("a", login.make, open_)
        assert number == 0 or watched._logins["a"].is_valid == login.is_valid
    watched.watch("b", other.make, last := Open())
    await eventually(lambda: other.checks > 2)
    assert abs(login.checks - other.checks) <= 1  # once per round, however much is open
    last.run_close_callbacks()
    checks = other.checks
    await eventually(lambda: login.checks > checks + 3)
    assert other.checks <= checks + 1
    login.answer = False
    await eventually(lambda: all(open_.codes == [1008] for open_ in opened))
    await eventually(lambda: watched._task.done())
    assert (last.codes, watched._logins) == ([], {})


@pytest.mark.parametrize("answer", [OSError("x"), HTTPError(503), None])
async def test_a_question_that_fails_or_hangs_ends_nothing_and_holds_up_no_other(watched, answer):
    bad, good, stays, goes = Login(answer), Login(), Open(), Open()
    if answer is None:
        bad.is_valid = asyncio.Event().wait
    watched.watch("bad", bad.make, stays)
    watched.watch("good", good.make, goes)
    await eventually(lambda: good.checks > 2)
    good.answer = False
    await eventually(lambda: goes.codes == [1008])
    assert stays.codes == []
    stays.run_close_callbacks()
    await eventually(lambda: watched._task.done())


async def test_it_is_begun_again_after_all_was_closed(watched):
    for _ in range(2):
        login, open_ = Login(False), Open()
        watched.watch("a", login.make, open_)
        await eventually(lambda open_=open_: open_.codes == [1008] and watched._task.done())


def test_an_ended_login_is_noticed_within_thirty_seconds():
    assert logins.CHECK_INTERVAL + logins.CHECK_TIMEOUT < 30


# ---- through a server, in the path form ----


class Revoking(IdentityProvider):
    """Knows who sends `X-User`, as a reverse proxy would, until the name is revoked; fails while it is away."""

    login_age = 0.1
    revoked: frozenset[str] = frozenset()
    is_away = False
    checks = 0

    def get_user(self, handler):
        self.checks += 1
        if self.is_away:
            raise HTTPError(503)
        name = handler.request.headers.get("X-User", "")
        return User(name) if name and name not in self.revoked else None


class Permits(Authorizer):
    denied: frozenset[str] = frozenset()

    def is_authorized(self, handler, user, action, resource):
        return user.username not in self.denied


async def endless(connection) -> None:
    await connection.head()
    await connection.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    await connection.reader.read()


def _revoke(name, provider, authorizer):
    provider.revoked = frozenset([name])


def _deny(name, provider, authorizer):
    authorizer.denied = frozenset([name])


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=Revoking, authorizer_class=Permits)])
@pytest.mark.parametrize("end", [_revoke, _deny])
async def test_tunnels_and_responses_in_flight_end_with_the_login(
    jp_serverapp, gateway, wire, origin, jp_base_url, end, jp_server_config
):
    provider, authorizer = jp_serverapp.identity_provider, jp_serverapp.authorizer
    async with serve(granting) as sockets, serve(endless) as streams, contextlib.AsyncExitStack() as stack:
        opened = {"ada": [], "eve": []}
        for name, connections in opened.items():
            for port, fields, status in [(sockets.port, UPGRADE, 101), (streams.port, [], 200)]:
                connection = await stack.enter_async_context(await wire())
                start = [f"GET {jp_base_url}proxy/port/{port}/ HTTP/1.1", f"Host: {origin}", f"X-User: {name}"]
                await connection.send("\r\n".join([*start, *fields, "", ""]).encode())
                assert (await connection.head()).status == status
                connections.append(connection)
        provider.is_away, checks = True, provider.checks
        await eventually(lambda: provider.checks > checks + 4)
        provider.is_away = False
        end("eve", provider, authorizer)
        for connection in opened["eve"]:
            assert await connection.closed()
        assert (gateway.tunnels, gateway.exchanges) == (1, 1)
    await eventually(lambda: gateway.tunnels == gateway.exchanges == len(gateway.logins._logins) == 0)


@pytest.mark.parametrize("path", ["proxy/port/{}/", "proxy/absolute/{}/"])
async def test_a_login_of_jupyters_own_kinds_is_not_checked(call, gateway, path):
    async with serve(mirror) as up:
        assert (await call(path.format(up.port))).status == 200
        assert gateway.logins._task is None
