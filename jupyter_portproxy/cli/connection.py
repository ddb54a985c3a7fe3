"""Connections to a Jupyter server, here or elsewhere, over which its token may be sent.

On loopback no proxy is used, and the owner of the other end is checked before the first byte (Linux): a port may belong to
another user by now. To other hosts only TLS with a verified certificate goes, through the proxy that the environment names, if
any (`https_proxy`, `no_proxy`): the proxy sees a CONNECT request and encrypted bytes.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from base64 import b64encode
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from urllib.parse import unquote, urlsplit

from ..errors import CliError, ServerUnavailable
from ..protocol.urls import ip_literal
from ..system.socket_owners import NotAnswered, OwnerUnknown, SocketOwners, user_name
from .server_address import ServerAddress

CONNECT_TIMEOUT = 10.0  # s
_LOOPBACK = ("127.0.0.1", "::1")
_ROOT = 0  # may read this process's memory in any case; it runs the hub or the container that publishes the port
_UNTRUSTED = (18, 19, 20, 21)  # OpenSSL's X509_V_ERR_*: self-signed, or an issuer that is not known
_EXPIRED, _OTHER_NAME = 10, (62, 64)


def open_socket(server: ServerAddress, timeout: float | None = CONNECT_TIMEOUT) -> socket.socket:
    """A connection to the server, encrypted for https, on which requests may be sent.

    Args:
        timeout: of the socket afterwards, in seconds.

    Raises:
        ServerUnavailable: the server does not answer; trying again may help.
        CliError: the server must not be used: its certificate or its port is not the one that was expected.
    """
    sock = _dial(server)
    try:
        check_owner(server, sock)
        if server.is_https:
            sock = _wrap(sock, server)
        sock.settimeout(timeout)
    except BaseException:
        sock.close()
        raise
    return sock


def _dial(server: ServerAddress) -> socket.socket:
    """The TCP connection below TLS."""
    if server.is_loopback or server.is_local:
        return _connect(server, _LOOPBACK if server.is_loopback and ip_literal(server.host) is None else (server.host,))
    proxy = find_proxy(server)
    return _tunnel(server, proxy) if proxy else _connect(server, (server.host,))


def check_owner(server: ServerAddress, sock: socket.socket) -> None:
    """Raise a CliError if the token must not be sent on this new connection, because of whose process the other end is."""
    if server.is_local:
        _check_owner(sock, must_be_known=server.is_https and not server.trust.verified)
    elif server.is_loopback and not server.is_https:
        _check_owner(sock, _ROOT)


def _connect(server: ServerAddress, hosts: tuple[str, ...]) -> socket.socket:
    problem: OSError | None = None
    for host in hosts:
        try:
            sock = socket.create_connection((host, server.port), CONNECT_TIMEOUT)
        except OSError as error:
            problem = problem or error
            continue
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    raise ServerUnavailable(_explain(server.authority, server.host, problem))


def _explain(authority: str, host: str, error: OSError | None) -> str:
    match error:
        case socket.gaierror():
            return f"The name {host} does not resolve.\nIs it spelled right, and is this machine connected to the network?"
        case ConnectionRefusedError():
            return f"The server at {authority} does not answer: the connection is refused."
        case TimeoutError():
            return f"The server at {authority} does not answer within {CONNECT_TIMEOUT:.0f} seconds."
        case OSError(errno=errno.EHOSTUNREACH | errno.ENETUNREACH):
            return f"There is no way to {authority} from this machine.\nDoes it need a VPN, or the variable https_proxy?"
    return f"The server at {authority} does not answer: {getattr(error, 'strerror', None) or error}."


def _check_owner(sock: socket.socket, *others: int, must_be_known: bool = False) -> None:
    """Raise a CliError if the other end of a new connection belongs neither to this user nor to one of the `others`.

    Args:
        must_be_known: there is no other check, so that a kernel without an answer (a sandbox) ends the connection too.
    """
    if not hasattr(os, "getuid"):
        return
    local, remote = sock.getsockname(), sock.getpeername()
    with closing(SocketOwners()) as kernel:
        try:
            owner = kernel.peer_owner(*local[:2], *remote[:2])
        except OwnerUnknown as error:
            if isinstance(error, NotAnswered) and not must_be_known:
                return
            raise CliError(f"Nothing was sent to port {remote[1]}, as its owner is unknown: {error}.") from None
    if owner not in (os.getuid(), *others):
        raise CliError(f"Nothing was sent to port {remote[1]}: it belongs to another user of this machine ({user_name(owner)}).")


# ---- the proxy of the environment ----


def find_proxy(server: ServerAddress) -> str:
    """The proxy through which connections to this server go, `http://[USER:PASSWORD@]HOST:PORT`; empty for a direct connection.

    Raises:
        CliError: the environment names one that cannot be used.
    """
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if server.is_loopback or server.is_local or not proxy or proxy_bypass(server.authority) or proxy_bypass(server.host):
        return ""
    text = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(text)
        is_valid = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        shown = text.rpartition("@")[2]
        raise CliError(f"The proxy {shown!r} of the environment variable https_proxy cannot be used.\nWrite http://HOST:PORT")
    return text


def _tunnel(server: ServerAddress, proxy: str) -> socket.socket:
    """A connection through an HTTP proxy (RFC 9110 9.3.6)."""
    parts = urlsplit(proxy)
    port = parts.port or 80
    fields = {}
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        fields["Proxy-Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
    connection = HTTPConnection(parts.hostname or "", port, timeout=CONNECT_TIMEOUT)
    connection.set_tunnel(server.host, server.port, fields)
    try:
        connection.connect()
    except (OSError, HTTPException, UnicodeError) as error:  # the last: of a host name that cannot be one
        connection.close()
        name = f"{parts.hostname}:{port}"
        reason = getattr(error, "strerror", None) or error
        raise ServerUnavailable(f"{server.authority} is not reached through the proxy {name} of https_proxy: {reason}.") from None
    sock: socket.socket = connection.sock
    return sock


# ---- TLS ----


def _wrap(sock: socket.socket, server: ServerAddress) -> socket.socket:
    sock.settimeout(CONNECT_TIMEOUT)
    try:
        return server.tls_context.wrap_socket(sock, server_hostname=server.host)
    except ssl.SSLCertVerificationError as error:
        raise CliError(_explain_certificate(error, server)) from None
    except ssl.SSLError as error:
        reason = str(error.reason or error).replace("_", " ").lower()
        raise CliError(f"{server.authority} does not speak TLS as https needs it: {reason}.") from None
    except OSError as error:
        raise ServerUnavailable(_explain(server.authority, server.host, error)) from None


def _explain_certificate(error: ssl.SSLCertVerificationError, server: ServerAddress) -> str:
    if error.verify_code in _UNTRUSTED:
        return (
            f"The certificate of {server.authority} is not trusted: {error.verify_message}.\n"
            "If its authority is your organization's, or the server's own, name its certificate: --ca-file FILE"
        )
    if error.verify_code == _EXPIRED:
        return f"The certificate of {server.authority} has expired.\nIts administrator must renew it."
    if error.verify_code in _OTHER_NAME:
        return f"The certificate of {server.authority} is for another name.\nUse the name that the browser shows."
    return f"The certificate of {server.authority} is not valid: {error.verify_message}."
