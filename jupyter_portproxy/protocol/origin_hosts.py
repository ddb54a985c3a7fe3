"""Host names of isolated origins: `p15000.localhost`, or by a pattern such as `{port}--{user}.apps.example.org`."""

from __future__ import annotations

import re

from .forwarded import RequestHead, matches_client_url
from .urls import split_port

LOCAL_PATTERN = "p{port}.localhost"
WELL_KNOWN_PATH = "/.well-known/portproxy/"
_TARGET = r"(?P<target>[a-z0-9]([a-z0-9-]*[a-z0-9])?)"
_PATTERN = re.compile(r"[a-z0-9-]*\{port\}(?:[a-z0-9-]|\{user\})*(\.(?:[a-z0-9-]|\{user\})+)+(:[0-9]{1,5})?\Z", re.ASCII)
_LOOPBACK = re.compile(r"localhost|127\.0\.0\.1|\[::1\]", re.ASCII | re.IGNORECASE)
_MAX_LABEL, _MAX_NAME = 63, 253  # RFC 1035 2.3.4
# Features that browsers deny to frames of another origin unless their `allow` attribute delegates them (Permissions Policy).
FRAME_FEATURES = (
    "accelerometer", "autoplay", "bluetooth", "camera", "clipboard-read", "clipboard-write", "cross-origin-isolated",
    "display-capture", "encrypted-media", "fullscreen", "gamepad", "geolocation", "gyroscope", "hid", "idle-detection",
    "keyboard-map", "local-fonts", "microphone", "midi", "payment", "picture-in-picture", "publickey-credentials-create",
    "publickey-credentials-get", "screen-wake-lock", "serial", "storage-access", "usb", "web-share", "window-management",
    "xr-spatial-tracking",
)  # fmt: skip


class OriginHosts:
    """The host names of isolated origins, one for each target: a port, or the name of a service.

    Args:
        pattern: `{port}--{user}.apps.example.org`, with or without a port after it; empty for `p{port}.localhost`.
        user: the name in the place of `{user}`.
        at_hub: Jupyter is behind JupyterHub, whose proxy does not route `p{port}.localhost` here.

    Attributes:
        is_local: the pattern is `p{port}.localhost`.
        is_available: False if browsers cannot reach any isolated origin.

    Raises:
        ValueError: the pattern is invalid.
    """

    def __init__(self, pattern: str = "", user: str = "", *, at_hub: bool = False) -> None:
        self.is_local = not pattern
        self.is_available = not (self.is_local and at_hub)
        if pattern and not _PATTERN.match(pattern):
            raise ValueError(
                f"Invalid pattern of host names, without {{port}} in its first label: {pattern!r}. "
                "Write '{port}--{user}.apps.example.org'."
            )
        name, _, self._port = (pattern or LOCAL_PATTERN).replace("{user}", encode_label(user)).partition(":")
        self._before, self._after = name.split("{port}")
        self._name = re.compile(re.escape(self._before) + _TARGET + re.escape(self._after) + r"\Z", re.ASCII)

    def parse_target(self, host: str) -> str | None:
        """The target of a Host field; None for the host of anything else."""
        name, port = split_port(host.lower())
        if len(name) > _MAX_NAME or len(port) > 5 or (self._port and port != self._port):
            return None
        match = self._name.match(name)
        return match["target"] if match and all(0 < len(label) <= _MAX_LABEL for label in name.split(".")) else None

    def find_host(self, target: str, request: RequestHead) -> str | None:
        """`host[:port]` of a target's origin for the browser that sent a request to Jupyter; None if it could not reach that.

        Where a reverse proxy has changed the request's Host, a local name would be one of the browser's own machine.
        """
        if not self.is_available or (self.is_local and not matches_client_url(request)):
            return None
        return self.build_host(target, request.headers.get("Host", ""))

    def build_host(self, target: str, jupyter_host: str) -> str | None:
        """`host[:port]` of a target's origin; None if it has none.

        Args:
            jupyter_host: the Host field of a request to Jupyter. Browsers resolve `*.localhost` to their own machine, so that
                local names only work where Jupyter is there too, or at the other end of a tunnel.
        """
        port = self._port
        if self.is_local:
            name, port = split_port(jupyter_host)
            if not is_loopback_host(name):
                return None
        host = self._before + target + self._after + (f":{port}" if port else "")
        return host if self.parse_target(host) == target else None

    def build_pattern(self, host: str) -> str:
        """`host`, which is that of target `1`, with `{target}` in the place of the target."""
        return f"{self._before}{{target}}{host[len(self._before) + 1 :]}"


def is_loopback_host(name: str) -> bool:
    """True for the host names, without a port, under which browsers reach a Jupyter server on their own machine."""
    return _LOOPBACK.fullmatch(name) is not None


def encode_label(name: str) -> str:
    """A user's name as a part of a label: `-` and hexadecimal bytes in place of what host names cannot contain."""
    return re.sub(r"[^a-z0-9]", lambda match: "-" + match[0].encode("utf-8", "replace").hex(), name.lower())
