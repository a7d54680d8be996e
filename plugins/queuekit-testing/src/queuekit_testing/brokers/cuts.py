"""Calls whose connection is cut after each of their writes: nothing is lost (QK1), and a repeat adds nothing (QK13)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import attrs
import pytest

from queuekit.broker import Ack, Broker, Capabilities, Dead, Delivery, Release, Replace, Settlement
from queuekit.errors import UnavailableError
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.connections import CutAfter

__all__ = ["CutsTests"]

_MOST_WRITES = 12
"""Writes of one call after which the connection is cut, one after the other."""


def _replace(delivery: Delivery) -> Settlement:
    return Replace(delivery, attrs.evolve(delivery.envelope, attempt=1))


STAYS: dict[str, Callable[[Delivery], Settlement]] = {
    "release": Release,
    "release-counted": lambda delivery: Release(delivery, counted=True),
    "retry": _replace,
}
"""Settlements after which the message is on its queue, whether they were carried out or not."""


class CutsTests(BrokerKit):
    """What a network does in the middle of a call."""

    @pytest.mark.parametrize("settle", STAYS.values(), ids=STAYS.keys())
    def test_loses_nothing_that_goes_back(self, broker: Broker, settle: Callable[[Delivery], Settlement]) -> None:
        """A process that dies when its connection is cut leaves the message on its queue, before or after the step."""
        cuts = 0
        for writes in range(1, _MOST_WRITES + 1):
            queue = self.new_queue()  # where copies are not recognized, one may be left
            delivery = self.sent_and_taken(broker, self.message(queue, body=b"%d" % writes), lease=self.short)
            with CutAfter(writes, known=self._known) as cut, suppress(UnavailableError):
                broker.settle([settle(delivery)])

            again = self.insist(partial(self.take_one, broker, queue))

            assert (again.id, again.envelope.body) == (delivery.id, delivery.envelope.body)
            self.insist(partial(broker.settle, [Ack(again)]))
            if not cut.happened:
                break
            cuts += 1
        if not cuts:
            pytest.skip("opens no connection to cut")

    def test_sends_once_what_it_repeats(self, broker: Broker, declared: Capabilities) -> None:
        """A send that is repeated after its connection was cut is stored; where copies are recognized, once."""
        cuts = 0
        for writes in range(1, _MOST_WRITES + 1):
            queue = self.new_queue()
            envelope = self.message(queue)
            with CutAfter(writes, known=self._known) as cut, suppress(UnavailableError):
                broker.send([envelope])
            self.insist(partial(broker.send, [envelope]))

            delivery = self.insist(partial(self.take_one, broker, queue))
            others = [] if declared.dedup else broker.receive([queue], limit=1, wait=0, lease=self.long)

            assert {each.id for each in (delivery, *others)} == {envelope.id}
            self.insist(partial(broker.settle, [*map(Ack, (delivery, *others))]))
            assert not declared.dedup or self.insist(partial(self.look, broker, queue)) == []
            if not cut.happened:
                break
            cuts += 1
        if not cuts:
            pytest.skip("opens no connection to cut")

    @pytest.mark.parametrize("name", ["ack", "dead"])
    def test_settles_once_what_it_repeats(self, broker: Broker, queue: str, name: str) -> None:
        """A settlement that is repeated after its connection was cut is carried out: the message does not come back."""
        cuts = 0
        for writes in range(1, _MOST_WRITES + 1):
            delivery = self.sent_and_taken(broker, self.message(queue))
            settlement = Ack(delivery) if name == "ack" else Dead(delivery, reason="failed")
            with CutAfter(writes, known=self._known) as cut, suppress(UnavailableError):
                broker.settle([settlement])
            self.insist(partial(broker.settle, [settlement]))

            assert self.insist(partial(self.look, broker, queue)) == []
            if not cut.happened:
                break
            cuts += 1
        if not cuts:
            pytest.skip("opens no connection to cut")
