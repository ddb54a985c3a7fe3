"""Identity providers and authorizers of all kinds, called with a proxied request."""

from __future__ import annotations

import json

import pytest
from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.auth.identity import IdentityProvider, User
from tornado.web import HTTPError

from ..support.identity_providers import configured
from ..support.jupyter_processes import TOKEN
from ..support.raw_clients import UPGRADE
from ..support.upstreams import mirror, serve


async def test_no_xsrf_token_is_needed(call):
    async with serve(mirror) as up:
        assert (await call(f"proxy/port/{up.port}/", "POST", content=b"a=1")).status == 200


async def test_a_services_own_token_in_the_url_does_not_hide_the_login_in_authorization(call):
    async with serve(mirror) as up:
        path = f"proxy/port/{up.port}/x?a=1&token=own"
        for fields in ([], UPGRADE):
            answer = await call(path, fields=fields)
            assert (answer.status, up.last.target, up.last.one("Authorization")) == (200, "/x?a=1&token=own", None)
        answer = await call(f"proxy/port/{up.port}/x?token={TOKEN}", fields=["Authorization: Bearer own"], token=None)
        assert (answer.status, up.last.target, up.last.one("Authorization")) == (200, "/x", "Bearer own")
        up.connections = 0
        for login in ([], ["Authorization: token wrong"]):
            assert (await call(path, fields=login, token=None)).status == 403
        assert up.connections == 0


class Hub(IdentityProvider):
    """As JupyterHub's: believes a cookie only with an XSRF token, and leaves a cookie for the login that it sends to."""

    async def get_user(self, handler):
        def get_login_url():
            handler.set_secure_cookie("jupyterhub-user-ada-oauth-state", "state")
            return "/hub/api/oauth2/authorize?state=state"

        handler.get_login_url = get_login_url
        handler._jupyter_current_user = None  # else Jupyter's own check passes by itself
        try:
            handler.check_xsrf_cookie()
        except HTTPError:
            return None
        return User("ada") if handler.get_cookie("jupyterhub-user-ada") else None


class Nobody(Authorizer):
    """Allows nothing of this extension's."""

    def is_authorized(self, handler, user, action, resource):
        return (action, resource) != ("execute", "portproxy")


class Broken(IdentityProvider):
    """Fails as a hub that is away does."""

    async def get_user(self, handler):
        raise HTTPError(503) if self.token else RuntimeError("secret detail")


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=Hub)])
async def test_an_identity_provider_that_checks_xsrf_tokens_accepts_requests_of_services(call, origin, jp_server_config):
    async with serve(mirror) as up:
        for fields in (["Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"], UPGRADE):
            answer = await call(f"proxy/port/{up.port}/", fields=["Cookie: jupyterhub-user-ada=1", *fields], token=None)
            assert (answer.status, up.connections) == (200, 1), fields
            up.connections = 0
        wrong = ["Cookie: jupyterhub-user-ada=1", "Origin: http://evil.example"]
        assert (await call(f"proxy/port/{up.port}/", "POST", wrong, token=None)).status == 403
        assert up.connections == 0


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=Hub)])
async def test_a_redirect_to_the_login_keeps_its_cookie_even_beside_a_services_own_password(call, jp_server_config):
    fields = ["Accept: text/html", "Sec-Fetch-Mode: navigate", "Authorization: Basic b2Y6YS1zZXJ2aWNl"]
    for sent in (fields, fields[:2]):
        answer = await call("proxy/port/15000/", fields=sent, token=None)
        assert (answer.status, answer.one("Location")) == (302, "/hub/api/oauth2/authorize?state=state")
        assert answer.one("Set-Cookie").startswith("jupyterhub-user-ada-oauth-state=")


@pytest.mark.parametrize("jp_server_config", [configured(authorizer_class=Nobody)])
async def test_the_authorizer_decides(call, jp_server_config):
    async with serve(mirror) as up:
        for fields in ([], UPGRADE):
            answer = await call(f"proxy/port/{up.port}/", fields=fields)
            assert (answer.status, "portproxy:execute" in answer.text) == (403, True)
        assert up.connections == 0


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=Broken)])
async def test_a_login_that_cannot_be_checked_is_a_503(call, jp_server_config, jp_serverapp):
    async with serve(mirror) as up:
        for fields in ([], UPGRADE):
            answer = await call(f"proxy/port/{up.port}/", fields=[*fields, "Accept: application/json"])
            assert (answer.status, json.loads(answer.text)["code"]) == (503, "login_unavailable")
        jp_serverapp.identity_provider.token = ""
        answer = await call(f"proxy/port/{up.port}/")
        assert (answer.status, "secret detail" in answer.text) == (503, False)
        assert up.connections == 0
