"""How a delivery and its outcome travel between a worker and the process that runs the body, both on this machine.

Instances of attrs classes with slots are pickled field by field in Python. The usual ones travel as tuples instead, and
what the worker already has does not travel back.
"""

from __future__ import annotations

import pickle  # safe: both ends run the same code for the same user
from operator import attrgetter
from typing import Any

import attrs

from queuekit.broker import Ack, Delivery
from queuekit.envelope import Envelope
from queuekit.execution.outcome import Outcome
from queuekit.values import quickly

__all__ = ["pack_delivery", "pack_outcome", "read_delivery", "read_outcome"]


def _names(kind: type[Any], *without: str) -> tuple[str, ...]:
    return tuple(one.name for one in attrs.fields(kind) if one.name not in without)


_OF_ENVELOPE = _names(Envelope)
_OF_DELIVERY = _names(Delivery, "envelope")
_OF_OUTCOME = _names(Outcome, "delivery", "settlement", "run")
_values_of_envelope, _values_of_delivery = attrgetter(*_OF_ENVELOPE), attrgetter(*_OF_DELIVERY)
_values_of_outcome = attrgetter(*_OF_OUTCOME)
_envelope, _delivery, _outcome = quickly(Envelope), quickly(Delivery), quickly(Outcome)


def pack_delivery(delivery: Delivery) -> bytes:
    """Return *delivery* as bytes for :func:`read_delivery`."""
    envelope = delivery.envelope
    if type(delivery) is not Delivery or type(envelope) is not Envelope:  # a broker's own subclass may have more
        return pickle.dumps(delivery)
    return pickle.dumps((_values_of_envelope(envelope), _values_of_delivery(delivery)))


def read_delivery(data: bytes) -> Delivery:
    """Return what :func:`pack_delivery` packed."""
    found: Any = pickle.loads(data)  # noqa: S301 - the worker wrote it
    if isinstance(found, Delivery):
        return found
    of_envelope, of_delivery = found
    envelope = _envelope(**dict(zip(_OF_ENVELOPE, of_envelope, strict=True)))
    return _delivery(envelope=envelope, **dict(zip(_OF_DELIVERY, of_delivery, strict=True)))


def pack_outcome(outcome: Outcome) -> bytes:
    """Return *outcome*, without its run, as bytes for :func:`read_outcome`.

    Raises:
        Exception: It holds a value for a follow-up whose class cannot be pickled.
    """
    settlement = outcome.settlement
    if type(settlement) is Ack and settlement.delivery is outcome.delivery:
        return pickle.dumps(_values_of_outcome(outcome))
    outcome.run = None
    return pickle.dumps(outcome)


def read_outcome(data: bytes, delivery: Delivery) -> Any:
    """Return the outcome of *delivery* that :func:`pack_outcome` packed, or what else the process sent.

    Raises:
        Exception: It holds a value whose class cannot be unpickled.
    """
    found: Any = pickle.loads(data)  # noqa: S301 - a child of this worker wrote it
    if not isinstance(found, tuple):
        return found
    fields = dict(zip(_OF_OUTCOME, found, strict=True))
    return _outcome(delivery=delivery, settlement=Ack(delivery), **fields)
