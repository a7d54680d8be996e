"""The decorator of small frozen classes; each message creates several instances of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs

__all__ = ["quick_frozen"]

if TYPE_CHECKING:
    from attrs import frozen as quick_frozen
else:
    # `attrs.frozen` for type checkers. At run time a frozen class of ten fields takes four times as long to create, in
    # all 5 us per message, so nothing prevents writes to an instance; do not write to one.
    quick_frozen = partial(attrs.define, unsafe_hash=True, on_setattr=attrs.setters.NO_OP)
