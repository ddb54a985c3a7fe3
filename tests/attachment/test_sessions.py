"""The connections of one control connection, over real Unix sockets."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest
from tornado.iostream import IOStream, StreamClosedError
from tornado.netutil import bind_unix_socket

from jupyter_portproxy.attachment import sessions
from jupyter_portproxy.attachment.sessions import AttachSession
from jupyter_portproxy.errors import NotFound
from jupyter_portproxy.protocol.attach_messages import Open

from ..support.waiting import eventually


class RecordedControl:
    """A `Control` that keeps what it was given."""

    def __init__(self) -> None:
        self.sent: list[object] = []
        self.ended: list[tuple[str, bool]] = []
        self.is_alive = True

    def send(self, message) -> None:
        self.sent.append(message)

    async def answers(self) -> bool:
        await asyncio.sleep(0)
        return self.is_alive

    def end(self, error, *, is_final) -> None:
        self.ended.append((error.message, is_final))


@pytest.fixture
def reports():
    return []


@pytest.fixture
def session(reports, jp_asyncio_loop):
    made = AttachSession(
        RecordedControl(), "a token", lambda *report: reports.append(report), lambda sock: True, logging.getLogger("test"),
        open_timeout=0.2,
    )  # fmt: skip
    yield made
    made.close()


@pytest.fixture
def path(tmp_path, session):
    socket_path = str(tmp_path / "a.sock")
    session.listen(6006, bind_unix_socket(socket_path, mode=0o600))
    return socket_path


async def client(path: str) -> IOStream:
    stream = IOStream(socket.socket(socket.AF_UNIX))
    await stream.connect(path)
    return stream


async def test_a_connection_waits_until_it_is_taken(session, path):
    stream = await client(path)
    await eventually(lambda: session.control.sent)
    (message,) = session.control.sent
    assert message == Open(message.id, 6006) and len(message.id) == 32 and session.is_waiting(message.id)
    port, waiting = session.take(message.id)
    assert port == 6006 and not session.is_waiting(message.id)
    await stream.write(b"hello")
    assert await waiting.read_bytes(5) == b"hello"
    with pytest.raises(NotFound):
        session.take(message.id)
    waiting.close()
    stream.close()


async def test_a_refused_connection_is_closed_and_reported(session, path, reports):
    stream = await client(path)
    await eventually(lambda: session.control.sent)
    session.refuse(session.control.sent[0].id, "Nothing listens.")
    with pytest.raises(StreamClosedError):
        await stream.read_bytes(1)
    assert reports == [(6006, "Nothing listens.")]
    session.refuse(session.control.sent[0].id, "Nothing listens.")
    session.refuse("unknown", "Nothing listens.")
    assert len(reports) == 1


async def test_a_connection_that_is_not_served_is_closed(session, path, reports, caplog):
    stream = await client(path)
    with pytest.raises(StreamClosedError):
        await stream.read_bytes(1)
    assert not session.is_waiting(session.control.sent[0].id) and reports == []
    assert "did not serve a connection to port 6006 within 0.2 s" in caplog.text


async def test_connections_over_the_limit_are_closed_at_once(session, path, monkeypatch):
    monkeypatch.setattr(sessions, "MAX_WAITING", 2)
    streams = [await client(path) for _ in range(3)]
    with pytest.raises(StreamClosedError):
        await streams[2].read_bytes(1)
    assert len(session.control.sent) == 2
    for stream in streams:
        stream.close()


async def test_a_connection_that_is_not_approved_is_closed(session, tmp_path):
    refusing = AttachSession(session.control, "a token", print, lambda sock: False, logging.getLogger("test"))
    refusing.listen(1, bind_unix_socket(str(tmp_path / "b.sock")))
    with pytest.raises(StreamClosedError):
        await (await client(str(tmp_path / "b.sock"))).read_bytes(1)
    assert session.control.sent == []
    refusing.close()


async def test_the_end_closes_everything(session, path):
    stream = await client(path)
    await eventually(lambda: session.control.sent)
    session.close()
    assert session.is_closed and not session.is_waiting(session.control.sent[0].id)
    with pytest.raises(StreamClosedError):
        await stream.read_bytes(1)
    with pytest.raises(OSError):
        await client(path)


async def test_one_port_ends_without_the_others(session, path, tmp_path):
    session.listen(8265, bind_unix_socket(str(tmp_path / "b.sock")))
    ended, other = await client(path), await client(str(tmp_path / "b.sock"))
    await eventually(lambda: len(session.control.sent) == 2)
    session.stop_port(6006)
    with pytest.raises(StreamClosedError):
        await ended.read_bytes(1)
    assert [session.is_waiting(message.id) for message in session.control.sent] == [
        message.port == 8265 for message in session.control.sent
    ]
    other.close()
