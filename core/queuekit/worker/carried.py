"""How a delivery and its outcome travel between a worker and the process that runs the body, both on this machine.

Instances of attrs classes with slots are pickled field by field in Python. The usual ones travel as tuples instead, and
what the worker already has does not travel back.
"""

from __future__ import annotations

import math
import pickle  # safe: both ends run the same code for the same user
import struct
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import attrs

from queuekit.broker import Ack, Delivery
from queuekit.envelope import Envelope
from queuekit.execution.outcome import Outcome, Run
from queuekit.values import frozen, quickly

__all__ = [
    "Carried",
    "is_usual",
    "pack_deliveries",
    "pack_outcome",
    "pack_times",
    "read_deliveries",
    "read_outcome",
    "read_times",
]

_TIMES = struct.Struct("=dd")


def _names(kind: type[Any], *without: str) -> tuple[str, ...]:
    return tuple(one.name for one in attrs.fields(kind) if one.name not in without)


_OF_ENVELOPE = _names(Envelope)
_OF_DELIVERY = _names(Delivery, "envelope")
_OF_OUTCOME = _names(Outcome, "delivery", "settlement", "run")
_values_of_envelope, _values_of_delivery = attrgetter(*_OF_ENVELOPE), attrgetter(*_OF_DELIVERY)
_values_of_outcome = attrgetter(*_OF_OUTCOME)
_envelope, _delivery, _outcome = quickly(Envelope), quickly(Delivery), quickly(Outcome)


@frozen
class Carried:
    """A delivery on its way to a process."""

    number: int
    """How many were sent to this process with it."""
    serial: int
    """Serial of its run."""
    limit: float
    """Seconds after which its process may be ended; infinite without a limit."""
    delivery: Delivery


_carried = quickly(Carried)


def is_usual(delivery: Delivery) -> bool:
    """Return whether neither class is a broker's own, which may have more fields."""
    return type(delivery) is Delivery and type(delivery.envelope) is Envelope


def pack_deliveries(row: int, first: int, runs: Sequence[Run]) -> bytes:
    """Return what *runs* deliver as bytes for :func:`read_deliveries`.

    Args:
        row: Row of their thread in the run table.
        first: Number of the first one; the others follow.
        runs: The runs.
    """
    return pickle.dumps((row, [(number, *_plain(run)) for number, run in enumerate(runs, first)]))


def _plain(run: Run) -> tuple[Any, ...]:
    delivery, limit = run.delivery, math.inf if run.limit is None else run.limit
    if not is_usual(delivery):
        return run.serial, limit, delivery
    return run.serial, limit, (_values_of_envelope(delivery.envelope), _values_of_delivery(delivery))


def read_deliveries(data: bytes) -> tuple[int, list[Carried]]:
    """Return the row of the thread and the deliveries that :func:`pack_deliveries` packed."""
    row, found = pickle.loads(data)  # noqa: S301 - the worker wrote it
    return row, [_carried(number, serial, limit, _delivery_of(plain)) for number, serial, limit, plain in found]


def _delivery_of(plain: Any) -> Delivery:
    if isinstance(plain, Delivery):
        return plain
    of_envelope, of_delivery = plain
    envelope = _envelope(**dict(zip(_OF_ENVELOPE, of_envelope, strict=True)))
    return _delivery(envelope=envelope, **dict(zip(_OF_DELIVERY, of_delivery, strict=True)))


def pack_times(since: float, until: float) -> bytes:
    """Return the monotonic times of a body as bytes before its outcome."""
    return _TIMES.pack(since, until)


def read_times(answer: bytes) -> tuple[float, float, bytes]:
    """Return what :func:`pack_times` packed, and the outcome that follows."""
    since, until = _TIMES.unpack_from(answer)
    return since, until, answer[_TIMES.size :]


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
