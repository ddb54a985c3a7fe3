"""The JSON schema of `portproxy.toml`, for editors. A test compares it with what is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


def read_schema() -> Mapping[str, object]:
    """The schema, in draft 7."""
    schema: Mapping[str, object] = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
    return schema
