"""The header field in which one hop of a chain describes a request, and its client, to the next hop.

Every hop prints or parses it for every request, so it is one field. The last hop writes the common fields (X-Forwarded-*,
Forwarded) for the service. A hop must have authenticated the sender before it uses what it has parsed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode

from .forwarded import SCHEMES, ForwardedClient

HOP_FIELD = "X-Portproxy-Hop"
REFUSAL_FIELD = "X-Portproxy-Refusal"  # in a project host's own 403; every hop drops it from responses of its upstream
AUTHORIZATION_FIELD = "X-Portproxy-Authorization"  # the client's own, beside the one that authenticates at the container
_START = "start"  # the permission to start the project
_DEFAULT_SCHEME = "http"  # omitted, as are empty values
_SAFE = "/:;,=@[]\"'()*!$?"  # stay readable
_MAX_KEYS = 16
_MAX_PEERS = 16  # each of them becomes an element of Forwarded that contains the client's Host


@dataclass(frozen=True, slots=True)
class HopHeader:
    """What one hop sends to the next.

    Attributes:
        credential: authenticates the sender at a project host; empty where the connection does.
        user: name of the user who is logged in.
        may_start: the user may start the project.
        forwarded_client: None if the field does not describe the client.
    """

    credential: str = field(default="", repr=False)
    user: str = ""
    may_start: bool = False
    forwarded_client: ForwardedClient | None = None

    def to_field(self, client: ForwardedClient) -> tuple[str, str]:
        """The header field, with `client` in place of `forwarded_client`."""
        values = {
            "credential": self.credential,
            "user": self.user,
            "permission": _START if self.may_start else "",
            "scheme": "" if client.scheme == _DEFAULT_SCHEME else client.scheme,
            "host": client.host,
            "peers": ",".join(client.peers),
            "port": client.port,
            "chain": client.chain,
            "forwarded": client.forwarded,
        }
        return HOP_FIELD, urlencode({name: value for name, value in values.items() if value}, safe=_SAFE, quote_via=quote)

    def is_refused(self, status: int, fields: Iterable[tuple[str, str]]) -> bool:
        """True for the response of a hop that refused this credential."""
        return status == 403 and bool(self.credential) and any(name.lower() == REFUSAL_FIELD.lower() for name, _ in fields)


def parse_hop_header(value: str) -> HopHeader:
    """Parse the field's value; a malformed one gives an empty HopHeader."""
    try:
        values = defaultdict(str, parse_qsl(value, max_num_fields=_MAX_KEYS))
    except ValueError:
        return HopHeader()
    return HopHeader(values["credential"], values["user"], values["permission"] == _START, _parse_client(values))


def _parse_client(values: Mapping[str, str]) -> ForwardedClient | None:
    scheme, peers = values["scheme"] or _DEFAULT_SCHEME, values["peers"].split(",") if values["peers"] else []
    if scheme not in SCHEMES or not 0 < len(peers) <= _MAX_PEERS:
        return None
    return ForwardedClient(scheme, values["host"], tuple(peers), values["port"], values["chain"], values["forwarded"])
