"""The ports that an agent attaches, at its own machine: who listens there, and connections to them.

Only a program of the agent's user, or of root, is reached: on Linux the kernel names the owner of the listening socket, and of a
new connection's other end before the first byte is sent. Other systems do not say.
"""

from __future__ import annotations

import os

from tornado.iostream import IOStream

from ..errors import Forbidden, GatewayError, Unreachable
from ..protocol import urls
from ..protocol.urls import Upstream
from ..system.addresses import LOOPBACK
from ..system.netlink import SUPPORTED
from ..system.socket_owners import OwnerUnknown, SocketOwners, user_name
from ..upstream.connect import dial

_CONNECT_TIMEOUT = 5.0  # s
_ROOT = 0


class LocalPorts:
    """Holds one netlink socket; close it.

    Args:
        host: the name of this machine, for messages.
        any_owner: also reach ports of other users, and those whose owner the system does not name.
    """

    def __init__(self, host: str, *, any_owner: bool = False, owners: SocketOwners | None = None) -> None:
        self._host, self._any_owner = host, any_owner
        self._owners = owners or SocketOwners()

    async def find_error(self, port: int) -> str:
        """One sentence: why the port cannot be reached now; empty if it can. Nothing is sent to it."""
        if not self._any_owner:
            try:
                owners = {owner for address in LOOPBACK for owner in self._owners.listener_owners(address, port)}
            except OwnerUnknown:
                pass  # a connection shows more
            else:
                foreign = owners - {os.getuid(), _ROOT}
                return self._foreign(port, foreign.pop()) if foreign else "" if owners else self._silent(port)
        try:
            (await self.dial(port)).close()
        except GatewayError as error:
            return error.message
        return ""

    async def dial(self, port: int) -> IOStream:
        """A connection to the port.

        Raises:
            GatewayError: its message is one sentence.
        """
        upstream = Upstream(urls.LOOPBACK_NAME, port, LOOPBACK)
        try:
            return await dial(upstream, self._approve, _CONNECT_TIMEOUT)
        except Forbidden:
            raise
        except GatewayError:
            raise Unreachable(self._silent(port)) from None

    def close(self) -> None:
        self._owners.close()

    def _approve(self, local: str, local_port: int, remote: str, remote_port: int, fd: int) -> None:
        """Raises: Forbidden"""
        if self._any_owner or not SUPPORTED:
            return
        try:
            owner = self._owners.peer_owner(local, local_port, remote, remote_port)
        except OwnerUnknown as error:
            text = f"The system of {self._host} does not name the owner of port {remote_port}: {error}."
            raise Forbidden(f"{text} If it is yours, attach with --any-owner.") from None
        if owner not in (os.getuid(), _ROOT):
            raise Forbidden(self._foreign(remote_port, owner))

    def _silent(self, port: int) -> str:
        return f"Nothing listens on port {port} of {self._host}."

    def _foreign(self, port: int, owner: int) -> str:
        return f"Port {port} of {self._host} belongs to another user there ({user_name(owner)})."
