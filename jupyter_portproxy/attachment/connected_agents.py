"""The agents that have attached ports to this server, by name, and their services.

States of an agent:

    up      its control connection is open
    lost    it has ended without a goodbye: the name is kept for the agent's token, so that the agent returns by itself
    ended   the agent has ended, or was detached, or its token has ended: the name is free

`attach` makes it up; `lose` and `end` leave that state. An agent that has ended is listed for ten minutes, or until another one
needs its place. Its services are those of the ServiceManager, and are down while it is not up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from tornado.netutil import bind_unix_socket

from ..errors import BadInput, GatewayError, LoginUnavailable, NotFound
from ..protocol.attach_messages import Attached, Detach, Hello, PortHealth
from ..services.manager import ServiceManager
from ..services.service import Service
from ..services.template_keys import Argument
from ..services.templates import Template
from ..services.user_file import in_thread
from ..system import background_tasks
from ..system.netlink import SUPPORTED
from ..system.socket_owners import unix_peer_owner
from .sessions import OPEN_TIMEOUT, AttachSession, Control
from .tokens import UNREADABLE, AttachToken, AttachTokens

MAX_AGENTS = 50
_ENDED_KEPT = 600.0  # s
_CHECK_PERIOD = 5.0  # s between two looks at the tokens of agents
_BACKLOG = 1024  # connections
_ADDRESS = Argument("address", "Address")


class AgentState(Enum):
    UP = "up"
    LOST = "lost"
    ENDED = "ended"


@dataclass(eq=False)
class ConnectedAgent:
    """An agent, or what is left of it.

    Attributes:
        token: the ID of its attach token.
        since: time of the change to its state, in seconds since 1970, for people.
        changed: the same in `time.monotonic`.
        services: by port.
        detached: ports that the user has detached while the agent runs.
    """

    name: str
    host: str
    token: str
    instance: str
    session: AttachSession
    state: AgentState = AgentState.UP
    since: float = field(default_factory=time.time)
    changed: float = field(default_factory=time.monotonic)
    error: str = ""
    services: dict[int, Service] = field(default_factory=dict)
    detached: set[int] = field(default_factory=set)


class ConnectedAgents:
    """The agents of one server."""

    def __init__(self, tokens: AttachTokens, services: ServiceManager, log: logging.Logger) -> None:
        self.tokens, self._services, self._log = tokens, services, log
        self._check_period, self._open_timeout = _CHECK_PERIOD, OPEN_TIMEOUT
        self._agents: dict[str, ConnectedAgent] = {}
        self._task: asyncio.Task[None] | None = None

    # ---- queries ----

    def list(self) -> list[ConnectedAgent]:
        self._forget_ended()
        return sorted(self._agents.values(), key=lambda agent: agent.name)

    def find_session(self, id_: str) -> AttachSession | None:
        """The session of the waiting connection with this ID."""
        return next((agent.session for agent in self._agents.values() if agent.session.is_waiting(id_)), None)

    # ---- the life of an agent ----

    async def attach(self, hello: Hello, token: AttachToken, control: Control) -> ConnectedAgent:
        """List an agent and its services, and answer it.

        Raises:
            BadInput: the name is taken, a service's name is taken, or there are too many agents.
        """
        await self._free_name(hello, token)
        self._forget_ended()
        known = self._agents.get(hello.name)
        if known is None and not self._has_place():
            raise BadInput(f"There are {MAX_AGENTS} agents already.", "Detach one: jupyter portproxy detach NAME")
        detached = known.detached if known is not None and known.instance == hello.instance else set()
        listed = [port for port in hello.ports if port not in detached]
        if not listed:
            raise BadInput(f"All ports of '{hello.name}' were detached at the server.", "Start the agent again.")
        agent = self._make_agent(hello, token, control)
        agent.detached = detached
        before = set(known.services.values() if known is not None else ())
        try:
            for port in listed:
                self._attach_port(agent, port)
        except (GatewayError, OSError):
            agent.session.close()
            self._remove_services(set(agent.services.values()) - before)
            raise
        self._remove_services(before - set(agent.services.values()))
        self._agents[hello.name] = agent
        control.send(Attached({port: f"{service.prefix}/" for port, service in agent.services.items()}))
        for port in detached & set(hello.ports):
            control.send(Detach(port))
        for port, service in agent.services.items():
            service.write_event(f"attached from {agent.host} as port {port} of '{agent.name}'")
            self._services.attached.report(service, "unhealthy" if port in hello.errors else "up", hello.errors.get(port, ""))
        self._log.info("portproxy: '%s' on %s is attached by the token %s", agent.name, agent.host, token.id)
        if self._task is None or self._task.done():
            self._task = background_tasks.run("attach tokens", self._check_tokens, self._log)
        with contextlib.suppress(BadInput):  # the file cannot be written, which is in the log
            await in_thread(self.tokens.record_use, token.id)
        return agent

    def report(self, agent: ConnectedAgent, health: PortHealth) -> None:
        """Take over what an agent says about one of its ports; about others, nothing happens."""
        service = agent.services.get(health.port)
        if service is not None and agent.state is AgentState.UP and health.port not in agent.detached:
            self._services.attached.report(service, "unhealthy" if health.error else "up", health.error)

    def lose(self, agent: ConnectedAgent) -> None:
        """The control connection has ended without a goodbye."""
        self._leave(agent, AgentState.LOST, f"The connection to the agent on {agent.host} is lost. It returns by itself.")

    def end(self, agent: ConnectedAgent, why: str) -> None:
        self._leave(agent, AgentState.ENDED, why)

    def detach(self, name: str) -> None:
        """End an agent: it does not dial again.

        Raises:
            NotFound: there is none, or it has ended.
        """
        self._forget_ended()
        agent = self._agents.get(name)
        if agent is None:
            raise NotFound(name, "agent")
        if agent.state is AgentState.ENDED:
            raise NotFound.ended_agent(name)
        self._dismiss(agent, "It was detached at the server.")

    def end_token(self, id_: str) -> None:
        """End the agents of a token that is not valid any more."""
        for agent in [agent for agent in self._agents.values() if agent.token == id_ and agent.state is not AgentState.ENDED]:
            self._dismiss(agent, "Its attach token was revoked or has ended.")

    def close(self) -> None:
        """Close all connections; the agents dial again."""
        if self._task is not None:
            self._task.cancel()
        for agent in self._agents.values():
            agent.session.close()

    # ---- parts ----

    async def _free_name(self, hello: Hello, token: AttachToken) -> None:
        """Raises: BadInput: another agent has the name."""
        known = self._agents.get(hello.name)
        if known is None or known.state is AgentState.ENDED:
            return
        is_same = (known.token, known.instance) == (token.id, hello.instance)
        hint = f"Choose another name, or detach that agent: jupyter portproxy detach {hello.name}"
        if known.state is AgentState.LOST:
            if known.token != token.id:
                raise BadInput(f"The name '{hello.name}' is kept for an agent on {known.host} whose connection is lost.", hint)
            return
        if not is_same and await known.session.control.answers():
            raise BadInput(f"The name '{hello.name}' is taken by an agent on {known.host}.", hint)
        if known.state is AgentState.UP:
            # It may be a machine that has slept: it dials again, where its old connection would stay open for nothing.
            self._cut(known, BadInput("The agent did not answer for some seconds."))
        await self._free_name(hello, token)  # another agent may have come meanwhile

    def _make_agent(self, hello: Hello, token: AttachToken, control: Control) -> ConnectedAgent:
        session = AttachSession(
            control, token.id, lambda port, error: self.report(agent, PortHealth(port, error)), _is_own, self._log,
            open_timeout=self._open_timeout,
        )  # fmt: skip
        agent = ConnectedAgent(hello.name, hello.host, token.id, hello.instance, session)
        return agent

    def _attach_port(self, agent: ConnectedAgent, port: int) -> None:
        """Raises: BadInput, OSError"""
        name, where = f"{agent.name}-{port}", f"{agent.host}:{port}"
        template = Template(name, (), title=name, arguments=(_ADDRESS,), unix_socket=True, external=True)
        detach = partial(self._detach_port, agent, port)
        service = self._services.attached.attach(name, template, {"address": where}, agent.name, detach)
        agent.services[port] = service
        path = service.endpoint.unix_socket
        agent.session.listen(port, bind_unix_socket(path, mode=0o600, backlog=_BACKLOG))

    def _remove_services(self, services: Iterable[Service]) -> None:
        for service in services:
            self._services.attached.remove(service)

    def _detach_port(self, agent: ConnectedAgent, port: int) -> None:
        """What stopping a service does."""
        agent.detached.add(port)
        agent.session.stop_port(port)
        self._services.attached.report(agent.services[port], "down", "It was detached.")
        if agent.state is AgentState.UP:
            agent.session.control.send(Detach(port))

    def _dismiss(self, agent: ConnectedAgent, why: str) -> None:
        control = agent.session.control
        was_up = agent.state is AgentState.UP
        self.end(agent, why)
        if was_up:
            control.end(BadInput(f"'{agent.name}' is not attached any more. {why}"), is_final=True)

    def _cut(self, agent: ConnectedAgent, error: GatewayError) -> None:
        """Close the connection of an agent, which dials again."""
        self.lose(agent)
        agent.session.control.end(error, is_final=False)

    def _leave(self, agent: ConnectedAgent, state: AgentState, why: str) -> None:
        if state is agent.state or agent.state is AgentState.ENDED:
            return
        agent.state, agent.error, agent.since, agent.changed = state, why, time.time(), time.monotonic()
        agent.session.close()
        for port, service in agent.services.items():
            if port not in agent.detached:
                self._services.attached.report(service, "down", why)
        self._log.info("portproxy: '%s' on %s is not attached any more. %s", agent.name, agent.host, why)

    def _has_place(self) -> bool:
        """Whether one more agent can be listed; in a full list the one that ended first makes room."""
        if len(self._agents) < MAX_AGENTS:
            return True
        ended = [agent for agent in self._agents.values() if agent.state is AgentState.ENDED]
        if ended:
            self._forget(min(ended, key=lambda agent: agent.changed))
        return bool(ended)

    def _forget_ended(self) -> None:
        now = time.monotonic()
        for agent in list(self._agents.values()):
            if agent.state is AgentState.ENDED and now - agent.changed >= _ENDED_KEPT:
                self._forget(agent)

    def _forget(self, agent: ConnectedAgent) -> None:
        del self._agents[agent.name]
        self._remove_services(agent.services.values())

    async def _check_tokens(self) -> None:
        while any(agent.state is not AgentState.ENDED for agent in self._agents.values()):
            await asyncio.sleep(self._check_period)
            if not self.tokens.is_readable:  # for a moment perhaps, as on a network's file system
                for agent in [agent for agent in self._agents.values() if agent.state is AgentState.UP]:
                    self._cut(agent, LoginUnavailable(*UNREADABLE))
                continue
            for id_ in {agent.token for agent in self._agents.values()}:
                if self.tokens.get(id_) is None:
                    self.end_token(id_)


def _is_own(connection: socket.socket) -> bool:
    """True if this user or root is at the other end of a Unix socket."""
    return not SUPPORTED or unix_peer_owner(connection.fileno()) in (os.getuid(), 0)
