"""Puts a model into the Android project, if its app can run it."""

from __future__ import annotations

from .placement import Placement, place
from .runtime_version import app_runtime
from .suitability import check_suitable

__all__ = ["Placement", "app_runtime", "check_suitable", "place"]
