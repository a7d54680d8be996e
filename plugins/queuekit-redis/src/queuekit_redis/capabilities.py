"""Capabilities and limits of broker and backend, as data, so that core knows them before it connects."""

from __future__ import annotations

import attrs

from queuekit.backend import BackendCapabilities, BackendLimits
from queuekit.broker import Capabilities, Limits

__all__ = [
    "BACKEND_CAPABILITIES",
    "BACKEND_LIMITS",
    "CAPABILITIES",
    "CLUSTER_CAPABILITIES",
    "CLUSTER_SCHEMES",
    "LIMITS",
    "SCHEMES",
]

SCHEMES = ("redis", "rediss", "redis+unix", "redis+sentinel")
"""Schemes of one server, or of one primary at a time."""
CLUSTER_SCHEMES = ("redis+cluster",)

CAPABILITIES = Capabilities(commit=True, lanes=True)
CLUSTER_CAPABILITIES = attrs.evolve(CAPABILITIES, commit=False)
"""On a Cluster, a step accesses one slot only, so it cannot write records and messages together."""
LIMITS = Limits(lease_granularity=0.002)
BACKEND_CAPABILITIES = BackendCapabilities(notify=True, same=True)
BACKEND_LIMITS = BackendLimits(ttl_granularity=0.002)
