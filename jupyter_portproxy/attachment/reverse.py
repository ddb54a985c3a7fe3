"""Ports of a client's machine beside the server: `forward --reverse`. Each is a listening socket on 127.0.0.1.

Only the server's own user may connect to it: on Linux the kernel names the owner of the connecting end, and any other connection
is closed before a byte is read. Other systems do not say: there every user of the machine can connect.
"""

from __future__ import annotations

import errno
import logging
import os
import socket

from ..errors import BadInput, GatewayError
from ..gateway.policy import Policy
from ..protocol import urls
from ..protocol.attach_messages import Attached, Listen
from ..protocol.urls import Route
from ..system.addresses import LOOPBACK
from ..system.netlink import SUPPORTED
from ..system.socket_owners import OwnerUnknown, SocketOwners
from ..upstream.closable import Closable, CloseCode
from .sessions import AttachSession, Control

MAX_CLIENTS = 20
_BACKLOG = 128  # connections
_HOST = LOOPBACK[0]


class ReverseClient(Closable):
    """A client and its listening sockets. It ends with the login that it came with (`shut_down`)."""

    def __init__(self, listen: Listen, session: AttachSession) -> None:
        self.host, self.instance, self.ports, self.session = listen.host, listen.instance, listen.ports, session

    def shut_down(self, code: CloseCode = CloseCode.GOING_AWAY) -> None:
        is_final = code is CloseCode.POLICY_VIOLATION
        self.session.control.end(
            BadInput("Your login has ended." if is_final else "The server is shutting down."), is_final=is_final
        )


class ReverseListeners:
    """The clients of one server. Holds one netlink socket; close it."""

    def __init__(self, policy: Policy, log: logging.Logger) -> None:
        self._policy, self._log, self._owners = policy, log, SocketOwners()
        self._clients: dict[str, ReverseClient] = {}  # by instance

    def find_session(self, id_: str) -> AttachSession | None:
        """The session of the waiting connection with this ID."""
        return next((client.session for client in self._clients.values() if client.session.is_waiting(id_)), None)

    def listen(self, wanted: Listen, credential: object, control: Control) -> ReverseClient:
        """Listen on all of the ports, and answer the client.

        Raises:
            Forbidden, LoopDetected: a port is not allowed.
            BadInput: a port is in use, or there are too many clients.
        """
        known = self._clients.get(wanted.instance)
        if known is not None:  # its connection is half-open
            self.end(known)
        if len(self._clients) >= MAX_CLIENTS:
            raise BadInput(f"{MAX_CLIENTS} programs forward ports to this server already.", "End one of them.")
        session = AttachSession(control, credential, self._report, self._is_own, self._log)
        try:
            for port in wanted.ports:
                session.listen(port, self._bind(port))
        except (GatewayError, OSError):
            session.close()
            raise
        client = self._clients[wanted.instance] = ReverseClient(wanted, session)
        control.send(Attached({port: f"{_HOST}:{port}" for port in wanted.ports}))
        self._log.info("portproxy: ports %s lead to %s", ", ".join(map(str, wanted.ports)), wanted.host)
        return client

    def end(self, client: ReverseClient) -> None:
        """Close the listening sockets and the connections of a client. A second call does nothing."""
        if self._clients.get(client.instance) is client:
            del self._clients[client.instance]
            self._log.info("portproxy: ports %s do not lead to %s any more", ", ".join(map(str, client.ports)), client.host)
        client.session.close()
        client.run_close_callbacks()

    def close(self) -> None:
        for client in list(self._clients.values()):
            self.end(client)
        self._owners.close()

    def _bind(self, port: int) -> socket.socket:
        self._policy.check(Route(urls.LOOPBACK_NAME, port, "", "/", ""))
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setblocking(False)
            sock.bind((_HOST, port))
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            why = "is in use" if error.errno == errno.EADDRINUSE else "cannot be used"
            raise BadInput(f"Port {port} of the server's machine {why}.", "Choose another one.") from None
        return sock

    def _is_own(self, connection: socket.socket) -> bool:
        if not SUPPORTED:
            return True
        try:
            owner = self._owners.peer_owner(*connection.getsockname()[:2], *connection.getpeername()[:2])
        except (OwnerUnknown, OSError):
            return False
        return owner == os.getuid()

    def _report(self, port: int, error: str) -> None:
        self._log.warning("portproxy: a connection to port %d was not served: %s", port, error)
