"""Handshakes over real sockets: what is sent, directly, with TLS and through a proxy, and the sentence for each refusal."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import socket
import ssl

import pytest
import trustme

from jupyter_portproxy.system.tls import Trust
from jupyter_portproxy.upstream.websocket_client import HandshakeError, ServerAccess, check_login, check_websocket, open_websocket

from ..support.upstreams import Connection, free_port, says, serve

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


async def grants(connection: Connection) -> None:
    """A server that grants the handshake, says hello in the same segment, and sends back what comes."""
    request = await connection.head()
    accept = base64.b64encode(hashlib.sha1(f"{request.one('Sec-WebSocket-Key')}{GUID}".encode()).digest())
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
    await connection.write(head % accept + b"hello")
    while data := await connection.reader.read(1 << 16):
        await connection.write(data)


def access(port: int, scheme: str = "http", host: str = "127.0.0.1", **more) -> ServerAccess:
    return ServerAccess(f"{scheme}://{host}:{port}/user/a%40b/", "secret", **more)


async def refused(server: ServerAccess, timeout: float = 5) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        await open_websocket(server, "proxy/tcp/5432", timeout)
    assert "secret" not in str(caught.value)
    return caught.value


def answer(status: str, content: object = b"", *fields: str) -> bytes:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]).encode() + body


async def test_the_stream_is_raw_after_the_handshake():
    async with serve(grants) as up:
        stream = await open_websocket(access(up.port), "f3a1/proxy/tcp/5432")
        assert await stream.read_bytes(5) == b"hello"
        await stream.write(b"\x82\x00")
        assert await stream.read_bytes(2) == b"\x82\x00"
        stream.close()
    request = up.last
    assert (request.method, request.target) == ("GET", "/user/a%40b/f3a1/proxy/tcp/5432")
    names = {name: value for name, value in request.fields if name != "Sec-WebSocket-Key"}
    assert names == {
        "Host": f"127.0.0.1:{up.port}", "Authorization": "token secret", "User-Agent": "jupyter-portproxy",
        "Accept": "application/json", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    }  # fmt: skip


async def test_a_wrong_accept_is_no_websocket():
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
    async with serve(says(head)) as up:
        error = await refused(access(up.port))
    assert "its Sec-WebSocket-Accept is wrong" in str(error) and not error.is_passing


FORBIDDEN = {"code": "forbidden", "message": "Port 5432 is not allowed.", "hint": "The administrator can allow it."}


@pytest.mark.parametrize(
    ("response", "text", "kind"),
    [
        (answer("403 Forbidden", FORBIDDEN), "Port 5432 is not allowed.\nThe administrator can allow it.", "final"),
        (answer("403 Forbidden", {**FORBIDDEN, "code": "unauthenticated"}), "Port 5432 is not allowed.", "login"),
        (answer("403 Forbidden", {**FORBIDDEN, "code": "token_only"}), "Port 5432 is not allowed.", "login"),
        (answer("403 Forbidden", b"<html>"), "answered 403 Forbidden.", "login"),
        (answer("401 Unauthorized"), "answered 401 Unauthorized.", "login"),
        (answer("404 Not Found", b"<html>"), "answered 404 Not Found.", "final"),
        (answer("502 Bad Gateway", {"code": "unreachable", "message": "Nothing.", "hint": ""}), "Nothing.", "final"),
        (answer("503 Service Unavailable", {"code": "shutting_down", "message": "Down.", "hint": ""}), "Down.", "passing"),
        (answer("502 Bad Gateway", b"nginx"), "answered 502 Bad Gateway.", "passing"),
        (answer("503 "), "answered 503 Service Unavailable.", "passing"),
        (answer("424 "), "answered 424 Failed Dependency.", "passing"),
        (answer("200 OK", b"a page"), "does not answer as a WebSocket server", "final"),
        (answer("302 Found", b"", "Location: /hub/user/a%40b/proxy/tcp/5432"), "answered 302 Found.", "passing"),
        (answer("302 Found", b"", "Location: /hub/login?next=x"), "answered 302 Found.", "login"),
        (answer("302 Found"), "answered 302 Found.", "login"),
        (b"", "it closed the connection.", "passing"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "it closed the connection.", "passing"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 500\r\n\r\ncut", "answered 403 Forbidden.", "login"),
    ],
)  # fmt: skip
async def test_a_refusal_is_a_sentence_and_a_kind(response, text, kind):
    async with serve(says(response)) as up:
        error = await refused(access(up.port))
    assert text in str(error)
    assert (error.is_passing, error.is_login) == (kind == "passing", kind == "login")


async def test_the_sentence_of_a_refusal_is_that_of_the_caller():
    def explain(status, fields, content) -> str:
        return f"{status} {fields['lOCATION']} {content!r}"

    async with serve(says(answer("302 Found", b"x", "Location: /y"))) as up:
        assert str(await refused(access(up.port, explain=explain))) == "302 /y b'x'"


def test_a_token_is_not_in_the_text_of_an_access():
    assert "secret" not in repr(access(1, proxy="http://ann:secret@proxy"))


async def test_a_redirect_is_not_followed():
    async with (
        serve(grants) as other,
        serve(says(answer("307 Temporary", b"", f"Location: http://127.0.0.1:{other.port}/"))) as up,
    ):
        await refused(access(up.port))
        assert other.connections == 0


async def test_a_refusal_without_end_has_an_end():
    async def endless(connection: Connection) -> None:
        await connection.head()
        await connection.write(b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                await connection.write(b"1000\r\n" + bytes(4096) + b"\r\n")

    async with serve(endless) as up:
        assert "answered 403 Forbidden" in str(await refused(access(up.port), timeout=0.5))


async def test_a_server_that_is_silent_or_gone_is_away():
    async def silent(connection: Connection) -> None:
        await connection.until_closed()

    async with serve(silent) as up:
        error = await refused(access(up.port), timeout=0.3)
        assert str(error) == f"The server at http://127.0.0.1:{up.port}/user/a%40b/ did not answer within 0.3 s."
        assert error.is_passing
    error = await refused(access(port := free_port()))
    assert str(error) == f"The server at http://127.0.0.1:{port}/user/a%40b/ does not answer: Connection refused."
    assert error.is_passing
    error = await refused(access(80, host="no-such-host.invalid"))
    assert "The name no-such-host.invalid of the server at" in str(error) and error.is_passing


async def test_approve_sees_the_connection_before_the_first_byte():
    def approve(sock: socket.socket) -> None:
        raise HandshakeError(f"not {sock.getpeername()[1]}")

    async with serve(says(b"")) as up:
        assert str(await refused(access(up.port, approve=approve))) == f"not {up.port}"
    assert not up.requests


async def test_a_version_that_does_not_exist_is_refused_last():
    async with serve(says(answer("426 Upgrade Required", b"", "Sec-WebSocket-Version: 7, 8, 13"))) as up:
        await check_websocket(access(up.port), "proxy/tcp/5432")
        assert (up.last.one("Sec-WebSocket-Version"), up.last.one("Upgrade")) == ("0", "websocket")
    for response, text in (
        (answer("200 OK"), "does not answer as a WebSocket server"),
        (answer("403 Forbidden", FORBIDDEN), "Port 5"),
    ):
        async with serve(says(response)) as up:
            with pytest.raises(HandshakeError, match=text):
                await check_websocket(access(up.port), "proxy/tcp/5432")
    async with serve(grants) as up:
        with pytest.raises(HandshakeError, match="does not answer as a WebSocket server"):
            await check_websocket(access(up.port), "proxy/tcp/5432")


async def test_the_login_is_checked_without_a_port():
    async with serve(says(answer("400 Bad Request", b'{"code": "bad_route", "message": "No port.", "hint": ""}'))) as up:
        await check_login(access(up.port))
        assert up.last.target == "/user/a%40b/proxy/tcp/"
    async with serve(says(answer("403 Forbidden", b'{"code": "unauthenticated", "message": "No login.", "hint": ""}'))) as up:
        with pytest.raises(HandshakeError, match="No login") as refusal:
            await check_login(access(up.port))
        assert refusal.value.is_login


# ---- TLS ----


@pytest.fixture
def authority(tmp_path):
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    return made


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def test_a_certificate_is_verified(authority, tmp_path):
    async with serve(grants, tls=server_context(authority, "localhost")) as up:
        server = access(up.port, "https", "localhost")
        error = await refused(server)
        assert "The certificate of localhost could not be verified: unable to get local issuer certificate." in str(error)
        assert str(error).endswith("--ca-file FILE.") and not error.is_passing and not up.requests
        stream = await open_websocket(access(up.port, "https", "localhost", trust=Trust(str(tmp_path / "ca.pem"))), "proxy/tcp/1")
        assert await stream.read_bytes(5) == b"hello"
        stream.close()
    async with serve(grants, tls=server_context(authority, "other.example")) as up:
        error = await refused(access(up.port, "https", "localhost", trust=Trust(str(tmp_path / "ca.pem"))))
        assert "Hostname mismatch" in str(error)


async def test_https_to_a_plain_server_is_said_to_be_no_tls():
    async def plain(connection: Connection) -> None:
        await connection.write(answer("400 Bad Request"))

    async with serve(plain) as up:
        error = await refused(access(up.port, "https", "localhost"))
    assert "did not complete the TLS handshake: " in str(error) and not error.is_passing


async def test_a_silent_tls_server_is_given_up():
    async def silent(connection: Connection) -> None:
        await connection.until_closed()

    async with serve(silent) as up:
        assert "did not complete the TLS handshake within 0.3 s" in str(await refused(access(up.port, "https"), timeout=0.3))


# ---- a proxy ----


async def connects(connection: Connection) -> None:
    """An HTTP proxy: CONNECT, then bytes both ways."""
    host, _, port = (await connection.head()).target.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    await connection.write(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(1 << 16):
                sink.write(data)
        sink.close()

    try:
        await asyncio.gather(copy(connection.reader, writer), copy(reader, connection.writer))
    finally:
        writer.close()


async def test_https_goes_through_a_proxy(authority, tmp_path):
    async with serve(grants, tls=server_context(authority, "localhost")) as up, serve(connects) as proxy:
        through = f"http://ann:p%40ss@127.0.0.1:{proxy.port}"
        server = access(up.port, "https", "localhost", trust=Trust(str(tmp_path / "ca.pem")), proxy=through)
        stream = await open_websocket(server, "proxy/tcp/5432")
        assert await stream.read_bytes(5) == b"hello"
        stream.close()
    assert (proxy.last.method, proxy.last.target) == ("CONNECT", f"localhost:{up.port}")
    assert proxy.last.one("Proxy-Authorization") == f"Basic {base64.b64encode(b'ann:p@ss').decode()}"
    assert proxy.last.one("Authorization") is None


@pytest.mark.parametrize(
    ("response", "text", "passing"),
    [
        (answer("407 Proxy Authentication Required"), "refused the connection to h.invalid:443: 407 Proxy Authentication", False),
        (answer("503 Service Unavailable"), "refused the connection to h.invalid:443: 503 Service Unavailable.", True),
        (b"", "closed the connection.", True),
        (b"SSH-2.0\r\n\r\n", "refused the connection to h.invalid:443: SSH-2.0.", False),
    ],
)
async def test_a_proxy_that_refuses_is_named_without_its_password(response, text, passing):
    async with serve(says(response)) as proxy:
        error = await refused(access(443, "https", "h.invalid", proxy=f"http://ann:secret@127.0.0.1:{proxy.port}"))
    assert f"The proxy http://127.0.0.1:{proxy.port} {text}" in str(error)
    assert error.is_passing is passing
