"""Fair shares, as an option of a task or a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from queuekit.values import frozen

__all__ = ["Fair"]


@frozen
class Fair:
    """Lets the values of an argument take turns, so that none waits behind a long row of another; for ``fair_by``.

    Attributes:
        by: The argument whose value is the lane of a call, e.g. ``arg("tenant")``. A call in which it is missing or
            ``None`` is in the common lane, which takes turns like any other.
        weights: Shares by value: a lane of weight 9 gets nine starts for each one of a lane of weight 1. From 0.01 to
            1,000; default: 1 for each value.
    """

    by: str | Any
    weights: Mapping[str, float] = attrs.field(factory=dict, hash=False)
