"""Where a token may be sent: owners of ports, certificates, proxies; and what is said of a server that does not answer."""

from __future__ import annotations

import base64
import contextlib
import datetime
import socket
import ssl
import sys
import threading

import pytest
import trustme

from jupyter_portproxy.cli.connection import open_socket
from jupyter_portproxy.cli.server_address import ServerAddress
from jupyter_portproxy.errors import CliError, ServerUnavailable
from jupyter_portproxy.system.socket_owners import NotAnswered, SocketOwners

from ..support.connect_proxy import connect_proxy
from ..support.other_user import another_users_server, root
from ..support.upstreams import free_port


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextlib.contextmanager
def tls_server(*names: str, **options):
    """A TLS server that answers `ok`; yields its port, and the authority of its certificate."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **options).configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=_serve, args=(listener, context))
        serving.start()
        try:
            yield listener.getsockname()[1], authority
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()


def _serve(listener: socket.socket, context: ssl.SSLContext) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            with client, contextlib.suppress(OSError), context.wrap_socket(client, server_side=True) as encrypted:
                encrypted.sendall(b"ok")


def _reads(server: ServerAddress) -> bytes:
    with open_socket(server) as sock:
        return sock.recv(10)


def _sentence(server: ServerAddress, kind: type[CliError] = CliError) -> str:
    with pytest.raises(CliError) as caught:
        open_socket(server)
    assert type(caught.value) is kind
    return str(caught.value)


def trusting(authority: trustme.CA, folder, url: str) -> ServerAddress:
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return ServerAddress(url, "s3cret", str(folder / "ca.pem"))


# ---- servers that do not answer ----


def test_a_server_that_does_not_answer():
    port = free_port()
    sentence = _sentence(ServerAddress(f"http://localhost:{port}/"), ServerUnavailable)
    assert sentence == f"The server at localhost:{port} does not answer: the connection is refused."
    sentence = _sentence(ServerAddress("https://hub.invalid/"), ServerUnavailable)
    assert sentence.startswith("The name hub.invalid does not resolve.\n")


# ---- other users of this machine ----


@root
@pytest.mark.parametrize("is_local", [True, False])
def test_a_port_of_another_user_gets_no_byte(is_local):
    with another_users_server() as (process, port):
        sentence = _sentence(ServerAddress(f"http://127.0.0.1:{port}/", "s3cret", is_local=is_local))
        assert sentence == f"Nothing was sent to port {port}: it belongs to another user of this machine (nobody)."
        assert process.stdout.readline() == "0\n"


def test_a_port_of_this_user_is_used_by_every_name_of_loopback():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for host in ("localhost", "127.0.0.1", "hub.localhost"):
            with open_socket(ServerAddress(f"http://{host}:{listener.getsockname()[1]}/")) as sock:
                assert sock.getpeername()[0] == "127.0.0.1"


# ---- certificates ----


def test_a_certificate_of_an_unknown_authority_is_refused_unless_its_file_is_given(tmp_path):
    with tls_server("localhost") as (port, authority):
        url = f"https://localhost:{port}/"
        sentence = _sentence(ServerAddress(url, "s3cret"))
        assert sentence.startswith(f"The certificate of localhost:{port} is not trusted: ") and "--ca-file FILE" in sentence
        assert _reads(trusting(authority, tmp_path, url)) == b"ok"
        assert "is not trusted" in _sentence(trusting(trustme.CA(), tmp_path, url))


def test_a_certificate_for_another_name_or_out_of_date_is_refused(tmp_path):
    with tls_server("other.example.org") as (port, authority):
        sentence = _sentence(trusting(authority, tmp_path, f"https://localhost:{port}/"))
        assert sentence.startswith(f"The certificate of localhost:{port} is for another name.\n")
        sentence = _sentence(trusting(authority, tmp_path, f"https://127.0.0.1:{port}/"))
        assert sentence.startswith(f"The certificate of 127.0.0.1:{port} is for another name.\n")
    past = datetime.datetime(2020, 1, 1)
    with tls_server("localhost", not_before=past, not_after=past + datetime.timedelta(1)) as (port, authority):
        sentence = _sentence(trusting(authority, tmp_path, f"https://localhost:{port}/"))
        assert sentence == f"The certificate of localhost:{port} has expired.\nIts administrator must renew it."


@pytest.mark.skipif(sys.platform != "linux", reason="the owner of the other end is known on Linux only")
def test_the_own_server_of_this_machine_may_have_any_certificate(tmp_path):
    """The kernel says whose process it is; its certificate is for the name in browsers, or self-signed."""
    with tls_server("hub.example.org") as (port, authority):
        url = f"https://localhost:{port}/"
        assert _reads(ServerAddress(url, "s3cret", is_local=True)) == b"ok"
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        assert "is for another name" in _sentence(ServerAddress(url, "s3cret", str(tmp_path / "ca.pem"), is_local=True))


@pytest.mark.skipif(sys.platform != "linux", reason="as above")
def test_any_certificate_needs_a_kernel_that_names_the_owner(monkeypatch):
    """A sandbox may not. Over http it stays as it is."""

    def answer_nothing(*_: object) -> None:
        raise NotAnswered("the system reports neither end of the connection")

    monkeypatch.setattr(SocketOwners, "peer_owner", answer_nothing)
    with tls_server("hub.example.org") as (port, _):
        sentence = _sentence(ServerAddress(f"https://localhost:{port}/", "s3cret", is_local=True))
        assert sentence.startswith(f"Nothing was sent to port {port}, as its owner is unknown: ")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        open_socket(ServerAddress(f"http://localhost:{listener.getsockname()[1]}/", is_local=True)).close()


@root
def test_a_port_of_another_user_gets_no_tls_handshake():
    with another_users_server() as (process, port):
        sentence = _sentence(ServerAddress(f"https://127.0.0.1:{port}/", "s3cret", is_local=True))
        assert sentence == f"Nothing was sent to port {port}: it belongs to another user of this machine (nobody)."
        assert process.stdout.readline() == "0\n"


def test_a_port_that_speaks_no_tls():
    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=answer)
        answering.start()
        port = listener.getsockname()[1]
        sentence = _sentence(ServerAddress(f"https://localhost:{port}/", "s3cret"))
        answering.join()
    assert sentence == f"localhost:{port} does not speak TLS as https needs it: wrong version number."


# ---- proxies ----


def test_the_proxy_of_the_environment_sees_a_connect_request_alone(tmp_path, monkeypatch):
    with tls_server("hub.example.org") as (port, authority), connect_proxy(port) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("://", "://ada:p%40ss@"))
        assert _reads(trusting(authority, tmp_path, "https://hub.example.org/")) == b"ok"
        user = base64.b64encode(b"ada:p@ss").decode()
        (head,) = proxy.heads
        assert (
            head.splitlines()[0].startswith("CONNECT hub.example.org:443 HTTP/1.")
            and f"Proxy-Authorization: Basic {user}" in head
        )
        assert b"s3cret" not in proxy.passed and proxy.passed[0] == 22  # a TLS handshake record


def test_no_proxy_is_honoured(tmp_path, monkeypatch):
    with connect_proxy(1) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        for exception in ("hub.invalid", ".invalid", "hub.invalid:443", "*"):
            monkeypatch.setenv("no_proxy", exception)
            assert "does not resolve" in _sentence(ServerAddress("https://hub.invalid/"), ServerUnavailable)
        assert proxy.heads == []


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy"])
def test_loopback_needs_no_proxy(tmp_path, monkeypatch, name):
    with tls_server("localhost") as (port, authority), connect_proxy(port) as proxy:
        monkeypatch.setenv(name, proxy.url)
        assert _reads(trusting(authority, tmp_path, f"https://localhost:{port}/")) == b"ok"
        assert proxy.heads == []
        sentence = _sentence(ServerAddress("https://hub.example.org/"))
        assert "is not trusted" in sentence or "is for another name" in sentence
        assert len(proxy.heads) == 1


def test_a_proxy_that_refuses(monkeypatch):
    with connect_proxy(1, b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n") as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("://", "://ada:s3cret@"))
        sentence = _sentence(ServerAddress("https://hub.example.org/"), ServerUnavailable)
    host = proxy.url.removeprefix("http://")
    reason = "Tunnel connection failed: 407 Proxy Authentication Required"
    assert sentence == f"hub.example.org:443 is not reached through the proxy {host} of https_proxy: {reason}."


@pytest.mark.parametrize(
    "proxy", ["socks5://127.0.0.1:1", "https://127.0.0.1:1", "http://", "http://127.0.0.1:x", "http://ada:s3cret@[x"]
)
def test_a_proxy_that_cannot_be_used(monkeypatch, proxy):
    monkeypatch.setenv("https_proxy", proxy)
    sentence = _sentence(ServerAddress("https://hub.example.org/"))
    assert (
        sentence.endswith(" of the environment variable https_proxy cannot be used.\nWrite http://HOST:PORT")
        and "s3cret" not in sentence
    )
