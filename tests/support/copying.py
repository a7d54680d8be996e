"""A broker in this process that keeps a repeated send as one more message, as message queues without ids of ours do."""

import itertools
import time
from collections.abc import Sequence
from typing import Any

import attrs

from queuekit.broker import Ack, Broker, Capabilities, Dead, Delivery, Lease, Release, Replace, Settlement
from queuekit.envelope import Envelope

__all__ = ["CopyingBroker"]


@attrs.define(eq=False)
class _Kept:
    envelope: Envelope
    due: float
    token: str = ""
    number: int = 0


class CopyingBroker(Broker):
    """Queues without deduplication, under leases by this process's monotonic clock."""

    capabilities = Capabilities(fenced_ack=False, dedup=False, unique=False, inspect=False, remove=False)

    def __init__(self) -> None:
        self.kept: list[_Kept] = []
        self.dead: list[str] = []
        self.settled: list[Settlement] = []
        self.handed_out: set[str] = set()
        """Tokens."""
        self._tokens = itertools.count()

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Keep *envelopes*, whatever is there."""
        self.kept += [_Kept(envelope, time.monotonic() + envelope.delay) for envelope in envelopes]
        return [envelope.id for envelope in envelopes]

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Take what is due."""
        now = time.monotonic()
        due = [one for one in self.kept if one.envelope.queue in queues and one.due <= now][:limit]
        for one in due:
            one.number, one.token, one.due = one.number + 1, f"t{next(self._tokens)}", now + lease
            self.handed_out.add(one.token)
        return [
            Delivery(envelope=one.envelope, token=one.token, number=one.number, crashes=one.number - 1) for one in due
        ]

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Make leases end later."""
        lost = [one for one in leases if self._find(one.token) is None]
        for one in leases:
            found = self._find(one.token)
            if found is not None:
                found.due = time.monotonic() + lease
        return lost

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """End leases."""
        self.settled += settlements
        pairs = [(each, self._find(each.delivery.token)) for each in settlements]
        for each, found in pairs:
            if found is not None:
                self._end(each, found)
        return [each.delivery for each, found in pairs if found is None]

    def end_leases(self) -> None:
        """Let all leases be over, and all delays."""
        for one in self.kept:
            one.due = 0.0

    def _find(self, token: str) -> Any:
        return next((one for one in self.kept if one.token == token), None)

    def _end(self, each: Settlement, found: _Kept) -> None:
        found.token = ""
        if isinstance(each, Release):
            found.due, found.number = time.monotonic() + each.delay, found.number - 1
            return
        self.kept.remove(found)
        if isinstance(each, Replace):
            self.send([each.envelope])
        elif isinstance(each, Dead):
            self.dead.append(found.envelope.id)
        else:
            assert isinstance(each, Ack)
