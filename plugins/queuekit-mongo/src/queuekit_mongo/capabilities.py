"""What broker and backend can do, as data, so that core knows it before anything is opened."""

from __future__ import annotations

from queuekit.backend import BackendCapabilities, BackendLimits
from queuekit.broker import Capabilities, Limits

__all__ = ["BACKEND_CAPABILITIES", "BACKEND_LIMITS", "CAPABILITIES", "LIMITS", "SCHEMES"]

SCHEMES = ("mongodb", "mongodb+srv")

CAPABILITIES = Capabilities(commit=True)
"""On a replica set or a sharded cluster; a lone server has no transactions, which shows at the first connection."""
LIMITS = Limits(max_body=15_000_000, lease_granularity=0.002)
"""A document holds 16 MiB, of which some is ours."""
BACKEND_CAPABILITIES = BackendCapabilities(notify=True, same=True)
BACKEND_LIMITS = BackendLimits(max_record=15_000_000, ttl_granularity=0.002)
