"""An authorizer for servers with projects: `c.ServerApp.authorizer_class = "jupyter_portproxy.auth.ProjectsOnly"`.

A server with projects is the Jupyter server of its operator, and its users must not control it. They reach projects and the list
of them, but neither the kernels, files and terminals of this server nor the ports of its machine.
"""

from __future__ import annotations

from jupyter_server.auth import Authorizer, User
from jupyter_server.base.handlers import JupyterHandler

from ..handlers.jupyter_request import PROJECTS_RESOURCE, JupyterRequest


class ProjectsOnly(Authorizer):
    """Authorizes requests for projects. What a user may reach of a project is decided by the members table."""

    def is_authorized(self, handler: JupyterHandler, user: User, action: str, resource: str) -> bool:
        """True for URLs of projects, redirects to them, and the list of projects; see jupyter_server's Authorizer."""
        route = handler.route if isinstance(handler, JupyterRequest) else None
        return resource == PROJECTS_RESOURCE or (route is not None and (route.is_project or route.is_redirect))
