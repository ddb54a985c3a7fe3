"""PURE. What one hop of a chain tells the next of a request, in one header field; and how that refuses to believe it.

Rule of this file: it is words of our own to ourselves. Each field of a request costs him who sends it and him who reads it,
at every hop, and so does each character of it: words are a letter. The service at the end gets the fields that everybody
knows. Whoever reads it has to know first who wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode

from .forwarded import SCHEMES, ForwardedClient

HOP_FIELD = "X-Portproxy-Hop"
# A project host's own refusal has it, and nothing else: each hop takes it out of what comes from behind it.
REFUSAL_FIELD = "X-Portproxy-Refusal"
# What has no value is not said, nor a scheme that is "http".
_CREDENTIAL, _USER, _MAY = "c", "u", "m"
_SCHEME, _HOST, _PEERS, _PORT, _CHAIN, _FORWARDED = "s", "h", "p", "n", "f", "w"
_START = "start"  # of what one may
_PLAIN = "http"
_REFUSED = 403
_SAFE = "/:;,=@[]\"'()*!$?"  # stay readable
_MOST = 16
_MAX_HOPS = 16  # each is told to a service together with the client's Host


@dataclass(frozen=True, slots=True)
class HopHeader:
    """One hop's word to the next.

    Attributes:
        credential: what makes a project host believe it; empty where something else does.
        user: who is logged in.
        may_start: they may start the project.
        forwarded_client: who the client is; None if it says nothing of that.
    """

    credential: str = field(default="", repr=False)
    user: str = ""
    may_start: bool = False
    forwarded_client: ForwardedClient | None = None

    def to_field(self, client: ForwardedClient) -> tuple[str, str]:
        """The field that says all this, and `client` in place of `forwarded_client`."""
        words = [(_CREDENTIAL, self.credential), (_USER, self.user), (_MAY, _START if self.may_start else "")]
        words += [(_SCHEME, client.scheme if client.scheme != _PLAIN else ""), (_HOST, client.host)]
        words += [(_PEERS, ",".join(client.peers)), (_PORT, client.port), (_CHAIN, client.chain), (_FORWARDED, client.forwarded)]
        return HOP_FIELD, urlencode([(word, value) for word, value in words if value], safe=_SAFE, quote_via=quote)

    def is_refused(self, status: int, fields: Iterable[tuple[str, str]]) -> bool:
        """True for the answer of a hop that does not believe this credential."""
        return status == _REFUSED and bool(self.credential) and any(name.lower() == REFUSAL_FIELD.lower() for name, _ in fields)


def parse_hop_header(value: str) -> HopHeader:
    """The field's value -> what it says; what cannot be read says nothing."""
    try:
        words = dict(parse_qsl(value, max_num_fields=_MOST))
    except ValueError:
        return HopHeader()
    return HopHeader(words.get(_CREDENTIAL, ""), words.get(_USER, ""), words.get(_MAY) == _START, _forwarding(words))


def _forwarding(words: dict[str, str]) -> ForwardedClient | None:
    scheme, peers = words.get(_SCHEME, _PLAIN), words.get(_PEERS, "")
    if scheme not in SCHEMES or not peers or peers.count(",") >= _MAX_HOPS:
        return None
    before = words.get(_PORT, ""), words.get(_CHAIN, ""), words.get(_FORWARDED, "")
    return ForwardedClient(scheme, words.get(_HOST, ""), tuple(peers.split(",")), *before)


AUTHORIZATION_FIELD = "X-Portproxy-Authorization"  # the client's own, beside the one that lets the request into the container
