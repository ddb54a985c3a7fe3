"""Fixtures of tests that run on both stores."""

from __future__ import annotations

from ...support.placements import admin, empty_placements, make, placements, shared_placements

__all__ = ["admin", "empty_placements", "make", "placements", "shared_placements"]
