"""Capabilities and limits of broker and backend, as data, so that core knows them before it connects."""

from __future__ import annotations

from queuekit.backend import BackendCapabilities, BackendLimits
from queuekit.broker import Capabilities, Limits

__all__ = ["BACKEND_CAPABILITIES", "BACKEND_LIMITS", "CAPABILITIES", "LIMITS", "SCHEMES"]

SCHEMES = ("mongodb", "mongodb+srv")

CAPABILITIES = Capabilities(commit=True, lanes=True)
"""On a replica set or a sharded cluster. The first connection shows a standalone server, which has no transactions."""
LIMITS = Limits(max_body=15_000_000, lease_granularity=0.002)
"""A document holds 16 MiB, including queuekit's own fields."""
BACKEND_CAPABILITIES = BackendCapabilities(notify=True, same=True)
BACKEND_LIMITS = BackendLimits(max_record=15_000_000, ttl_granularity=0.002)
