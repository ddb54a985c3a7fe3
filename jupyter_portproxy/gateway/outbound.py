"""Builds the outbound request from the inbound one: target, header fields, and what the upstream is approved by."""

from __future__ import annotations

import logging
import secrets

from ..config import PortProxy
from ..errors import Internal, LoopDetected
from ..protocol import framing
from ..protocol.credentials import remove_secret_parameters
from ..protocol.headers import Client, Fields, build_request_fields, find_identity_fields, has_loop, replace_fields
from ..services.hooks import Endpoint, RequestHooks
from ..services.template_keys import TemplateError
from ..upstream.exchange import Outbound
from .destinations import Destination
from .policy import Policy


class OutboundBuilder:
    """Builds outbound requests.

    Attributes:
        via: this server's pseudonym in the Via field (RFC 9110 7.6.3).
    """

    def __init__(self, settings: PortProxy, policy: Policy, base_url: str) -> None:
        self.via = f"portproxy-{secrets.token_hex(4)}"
        self._policy, self._base_url, self._connect_timeout = policy, base_url, settings.connect_timeout
        self._log: logging.Logger = settings.log

    def build(
        self, method: str, to: Destination, fields: Fields, client: Client, content: framing.Content | None = None
    ) -> Outbound:
        """The outbound request of an exchange. Raises: LoopDetected"""
        return Outbound(
            method,
            to.upstream,
            remove_secret_parameters(to.route.target, client.secrets),
            self.build_fields(to, fields, client, method),
            content,
            self._connect_timeout,
            self._policy.approval_of(to.upstream),
        )

    def build_fields(self, to: Destination, fields: Fields, client: Client, method: str = "GET") -> Fields:
        """The header fields of an outbound request, of exchanges and upgrades alike. Raises: LoopDetected"""
        if has_loop(fields, self.via):
            raise LoopDetected()
        if self._log.isEnabledFor(logging.DEBUG) and (names := find_identity_fields(fields)):
            self._log.debug("portproxy: not passed on, as only this server may identify the user: %s", ", ".join(names))
        if to.url_mapping is not None:
            fields = to.url_mapping.map_request_fields(fields, client)
        keep_host = self._policy.keeps_host(to.upstream) or (to.service is not None and to.service.template.keep_host)
        out = build_request_fields(
            fields, to.route, to.upstream, client, via=self.via, method=method, keep_host=keep_host, hop=to.hop
        )
        return out if to.hooks is None else replace_fields(out, self._hook_fields(to, to.hooks), to.hooks.renamed_fields)

    def _hook_fields(self, to: Destination, hooks: RequestHooks) -> Fields:
        try:
            return hooks.request_fields(Endpoint(to.upstream.port, to.upstream.unix_socket), self._base_url)
        except TemplateError as error:
            self._log.error("portproxy: %s", error)
            raise Internal() from None
