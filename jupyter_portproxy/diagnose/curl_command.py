"""A recorded exchange as a command of curl, with marks where a value was not recorded. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

_MARK = "***"
_NOTE = f"# These values were not recorded: {_MARK}"
# What curl writes itself, or what would make its output unreadable.
_OWN = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "te"})


def print_command(exchange: Mapping[str, Any]) -> str:
    """The command for a shell; `exchange` is one of the API (schema `Exchange` of docs/openapi.yaml)."""
    fields = [(name, value) for name, value in exchange["request_fields"] if name.lower() not in _OWN and name != "..."]
    method = exchange["method"]
    words = ["curl", *([] if method == "GET" else ["--head"] if method == "HEAD" else ["-X", method]), exchange["url"]]
    for name, value in fields:
        words += ["-H", f"{name}: {value}" if value else f"{name};"]
    command = " ".join(map(shlex.quote, words))
    return f"{_NOTE}\n{command}" if _MARK in command else command
