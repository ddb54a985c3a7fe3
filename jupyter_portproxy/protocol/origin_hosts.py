"""Host names of isolated origins: `p15000.localhost`, or by a pattern such as `{port}--{user}.apps.example.org`."""

from __future__ import annotations

import re

from .forwarded import RequestHead, matches_client_url
from .urls import split_port

LOCAL_PATTERN = "p{port}.localhost"


WELL_KNOWN_PATH = "/.well-known/portproxy/"


_TARGET = r"(?P<target>[a-z0-9]([a-z0-9-]*[a-z0-9])?)"


_HOST = re.compile(r"(?P<name>[a-z0-9._-]{1,253})(:(?P<port>[0-9]{1,5}))?\Z", re.ASCII)


_PATTERN = re.compile(r"[a-z0-9-]*\{port\}(?:[a-z0-9-]|\{user\})*(\.(?:[a-z0-9-]|\{user\})+)+(:[0-9]{1,5})?\Z", re.ASCII)


_LOOPBACK = re.compile(r"localhost|127\.0\.0\.1|\[::1\]")


_LONGEST_LABEL = 63  # RFC 1035 2.3.4


# Features that browsers deny to frames of another origin unless their `allow` attribute delegates them (Permissions Policy).
FRAME_FEATURES = (
    "accelerometer", "autoplay", "bluetooth", "camera", "clipboard-read", "clipboard-write", "cross-origin-isolated",
    "display-capture", "encrypted-media", "fullscreen", "gamepad", "geolocation", "gyroscope", "hid", "idle-detection",
    "keyboard-map", "local-fonts", "microphone", "midi", "payment", "picture-in-picture", "publickey-credentials-create",
    "publickey-credentials-get", "screen-wake-lock", "serial", "storage-access", "usb", "web-share", "window-management",
    "xr-spatial-tracking",
)  # fmt: skip


class OriginHosts:
    """The host names of origins.

    Args:
        pattern: `{port}--{user}.apps.example.org`, with a port behind it or not; empty for `p{port}.localhost`.
        user: the name that stands for `{user}`.
        at_hub: Jupyter is behind JupyterHub, whose proxy brings no `p{port}.localhost` here, wherever the browser is.

    Attributes:
        exist: False if no browser finds an origin.

    Raises:
        ValueError: the pattern cannot be one; the text says why.
    """

    def __init__(self, pattern: str = "", user: str = "", *, at_hub: bool = False) -> None:
        self.is_local = not pattern
        self.is_available = not (self.is_local and at_hub)
        if pattern and not _PATTERN.match(pattern):
            raise ValueError(
                f"{pattern!r} is no host name with {{port}} in its first label: write '{{port}}--{{user}}.apps.example.org'"
            )
        name, _, self._port = (pattern or LOCAL_PATTERN).replace("{user}", encode_label(user)).partition(":")
        before, after = name.split("{port}")
        self._before, self._after = before, after
        self._name = re.compile(re.escape(before) + _TARGET + re.escape(after) + r"\Z", re.ASCII)

    def parse_target(self, host: str) -> str | None:
        """The port or the service's name that a Host field asks for; None if it is no host of ours."""
        found = _HOST.match(host.lower())
        if found is None or (self._port and found["port"] != self._port):
            return None
        match = self._name.match(found["name"])
        return match["target"] if match and _fits(found["name"]) else None

    def find_host(self, target: str, request: RequestHead) -> str | None:
        """`host[:port]` of a target's origin for the browser that sent a request to Jupyter; None if it would not find that.

        Where a reverse proxy has put another Host into the request, a local name would be one of the browser's own machine.
        """
        if not self.is_available or (self.is_local and not matches_client_url(request)):
            return None
        return self.build_host(target, request.headers.get("Host", ""))

    def build_host(self, target: str, jupyters: str) -> str | None:
        """`host[:port]` of a target's origin; None if it has none.

        Args:
            jupyters: the Host field of a request to Jupyter: browsers resolve `*.localhost` to their own machine, so that
                the local names are of use only where Jupyter is there too, or at the other end of a tunnel.
        """
        port = self._port
        if self.is_local:
            name, port = split_port(jupyters)
            if not _LOOPBACK.fullmatch(name.lower()):
                return None
        name = self._before + target + self._after
        return (f"{name}:{port}" if port else name) if self.parse_target(f"{name}:{port}" if port else name) == target else None

    def build_pattern(self, host: str) -> str:
        """The host of the origin of target `1` with `{target}` in the place of that."""
        return f"{self._before}{{target}}{host[len(self._before) + 1 :]}"


def encode_label(name: str) -> str:
    """A user's name as a part of a label: what no host name may have becomes `-` and its bytes in hexadecimal."""
    return "".join(c if re.fullmatch(r"[a-z0-9]", c) else "-" + c.encode("utf-8", "replace").hex() for c in name.lower())


def _fits(name: str) -> bool:
    return all(0 < len(part) <= _LONGEST_LABEL for part in name.split("."))
