"""How the small classes are made of which each message takes several."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs

__all__ = ["quick_frozen"]

if TYPE_CHECKING:
    from attrs import frozen as quick_frozen
else:
    # `attrs.frozen` for whoever checks types. At run time a frozen class of ten fields takes four times as long to
    # make, 5 us a message in all, so there is no guard: nobody may write to one all the same.
    quick_frozen = partial(attrs.define, unsafe_hash=True, on_setattr=attrs.setters.NO_OP)
