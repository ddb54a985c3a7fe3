"""An authorizer for hubs: `c.ServerApp.authorizer_class = "jupyter_portproxy.auth.ProjectsOnly"`.

Rule of this file: a hub is a Jupyter server of whoever runs it, and its users are not its owners. They reach projects, and
neither the kernels, files and terminals of this server nor the ports of its machine.
"""

from __future__ import annotations

from jupyter_server.auth import Authorizer, User
from jupyter_server.base.handlers import JupyterHandler

from ..handlers.base import PortHandler
from ..protocol.named_project_urls import NamedProjectRoute
from ..protocol.project_urls import ProjectRoute
from ..protocol.urls import Redirect


class ProjectsOnly(Authorizer):
    """Lets those who are logged in ask for projects; what each may reach of them, the members table says."""

    def is_authorized(self, handler: JupyterHandler, user: User, action: str, resource: str) -> bool:
        """True for URLs that lead to projects, or only name one; see jupyter_server's Authorizer."""
        return isinstance(handler, PortHandler) and isinstance(handler.asked, (ProjectRoute, NamedProjectRoute, Redirect))
