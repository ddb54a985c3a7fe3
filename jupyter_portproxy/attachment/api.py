"""The REST API of attach tokens and agents, below `proxy/api/attach-tokens` and `proxy/api/attached`."""

from __future__ import annotations

from typing import Any

from ..api.handlers import ProxyAPIHandler, permitted
from ..errors import NothingAttaches
from ..services.user_file import in_thread
from .connected_agents import ConnectedAgent, ConnectedAgents
from .tokens import AttachToken


class AttachAPIHandler(ProxyAPIHandler):
    """The collaborator of all handlers.

    Args:
        agents: None where several people share this server.
    """

    def initialize(self, agents: ConnectedAgents | None) -> None:  # type: ignore[override]
        self._agents = agents

    @property
    def agents(self) -> ConnectedAgents:
        """Raises: Forbidden: nothing can be attached here."""
        if self._agents is None:
            raise NothingAttaches()
        return self._agents


class AttachTokensHandler(AttachAPIHandler):
    """`GET attach-tokens`: without their text; `POST attach-tokens` makes one and shows its text once: {seconds, name?}."""

    @permitted("read")
    async def get(self) -> None:
        self.send([describe_token(token) for token in self.agents.tokens.list()])

    @permitted("execute")
    async def post(self) -> None:
        data = self.json_body("seconds", "name")
        token, text = await in_thread(self.agents.tokens.create, data.get("seconds"), data.get("name", ""))
        self.send({**describe_token(token), "token": text}, 201)


class AttachTokenHandler(AttachAPIHandler):
    """`DELETE attach-tokens/ID`: revokes it, and detaches its agents."""

    @permitted("execute")
    async def delete(self, token: str) -> None:
        await in_thread(self.agents.tokens.revoke, token)
        self.agents.end_token(token)
        self.send_nothing()


class AttachedHandler(AttachAPIHandler):
    """`GET attached`: the agents."""

    @permitted("read")
    async def get(self) -> None:
        self.send([describe_agent(agent) for agent in self.agents.list()])


class AttachedAgentHandler(AttachAPIHandler):
    """`DELETE attached/NAME`: detaches an agent, which does not dial again."""

    @permitted("execute")
    async def delete(self, name: str) -> None:
        self.agents.detach(name)
        self.send_nothing()


def describe_agent(agent: ConnectedAgent) -> dict[str, Any]:
    """Schema `Agent` of docs/openapi.yaml."""
    services = [service.name for port, service in sorted(agent.services.items()) if port not in agent.detached]
    return {
        "name": agent.name,
        "host": agent.host,
        "state": agent.state.value,
        "since": agent.since,
        "error": agent.error,
        "token": agent.token,
        "services": services,
    }


def describe_token(token: AttachToken) -> dict[str, Any]:
    """Schema `AttachToken` of docs/openapi.yaml."""
    return {key: getattr(token, key) for key in ("id", "name", "created", "until", "used")}


ROUTES: list[tuple[str, type[AttachAPIHandler]]] = [
    (r"/proxy/api/attach-tokens", AttachTokensHandler),
    (r"/proxy/api/attach-tokens/(?P<token>[^/]+)", AttachTokenHandler),
    (r"/proxy/api/attached", AttachedHandler),
    (r"/proxy/api/attached/([^/]+)", AttachedAgentHandler),
]
