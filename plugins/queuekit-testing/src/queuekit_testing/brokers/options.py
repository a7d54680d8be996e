"""Options of the service: a message carries them in its header, and keeps them wherever it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import pytest

from queuekit.backend import Join
from queuekit.broker import Ack, Broker, CommitItem, Dead, Delivery, Release, Replace
from queuekit.envelope import Envelope, join_frame, options_in
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.kit import needs, unique_name

__all__ = ["MessageOptionsTests"]

_UNKNOWN = {"queuekit-kit": "of a newer plugin"}


class MessageOptionsTests(BrokerKit):
    """What happens to the options of a message, whether the broker has a class for them or not."""

    MESSAGE_OPTIONS: ClassVar[Mapping[str, Any]] = {}
    """Options that a message of the tests may have on this server, if the broker declares ``message_options``."""

    def with_options(self, queue: str) -> Envelope:
        """Return a message with options; without known ones, with one that no broker knows."""
        given = dict(self.MESSAGE_OPTIONS) or _UNKNOWN
        return self.message(queue, body=join_frame({"v": 1, "broker": given}, b"payload"))

    def keeps_options(self, broker: Broker, first: Delivery, again: Delivery) -> bool:
        """Return whether a later delivery of a message has the options of the first one."""
        own, same = first.envelope.body, again.envelope.body
        return options_in(same) == options_in(own) != {} and (
            broker.options_of(again.envelope) == broker.options_of(first.envelope)
        )

    def test_has_a_default_for_each_option(self, broker: Broker, queue: str) -> None:
        """The class of a message's options is an attrs class that needs no argument, or there is none.

        A message may come from a fleet whose plugin has fewer options, and one with unknown options is still delivered.
        """
        kind = broker.message_options
        message = self.with_options(queue)

        read = broker.options_of(message)

        assert kind is None or (attrs.has(kind) and isinstance(kind(), kind))
        assert read == (None if kind is None else kind(**self.MESSAGE_OPTIONS))
        assert broker.options_of(self.message(queue)) is None

    @pytest.mark.parametrize("way", ["released", "released-counted", "expired"])
    def test_keeps_options_when_it_goes_back(self, broker: Broker, queue: str, way: str) -> None:
        """A message that is handed back, or whose lease ends, has its options when it is delivered again."""
        first = self.sent_and_taken(
            broker, self.with_options(queue), lease=self.short if way == "expired" else self.long
        )
        if way != "expired":
            self.do(broker, Release(first, counted=way == "released-counted"))

        assert self.keeps_options(broker, first, self.take_one(broker, queue))

    @pytest.mark.parametrize("change", [{"attempt": 1}, {"hop": 1}, {"attempt": 1, "not_before": 1.0}])
    def test_keeps_options_over_a_retry_and_a_hop(self, broker: Broker, queue: str, change: dict[str, Any]) -> None:
        """The next attempt of a message, or its next delay, has the options that it began with."""
        first = self.sent_and_taken(broker, self.with_options(queue))

        self.do(broker, Replace(first, attrs.evolve(first.envelope, **change)))

        assert self.keeps_options(broker, first, self.take_one(broker, queue))

    @needs("delay")
    def test_keeps_options_over_a_delay(self, broker: Broker, queue: str) -> None:
        """A message that is sent, released or repeated with a delay keeps its options, too."""
        first = self.sent_and_taken(broker, attrs.evolve(self.with_options(queue), delay=self.short))
        self.do(broker, Release(first, delay=self.short))
        second = self.take_one(broker, queue)
        self.do(broker, Replace(second, attrs.evolve(second.envelope, attempt=1, delay=self.short)))

        third = self.take_one(broker, queue)

        assert self.keeps_options(broker, first, second)
        assert self.keeps_options(broker, first, third)

    @needs("dead_letters")
    def test_keeps_options_over_a_replay(self, broker: Broker, queue: str) -> None:
        """A dead letter that is replayed has its options."""
        first = self.sent_and_taken(broker, self.with_options(queue))
        self.do(broker, Dead(first, reason="failed"))

        assert broker.requeue(queue, [first.id]) == [first.id]
        assert self.keeps_options(broker, first, self.take_one(broker, queue))

    @needs("commit")
    @pytest.mark.parametrize("way", ["sent", "joined"])
    def test_keeps_options_of_a_follow_up(self, broker: Broker, queue: str, way: str) -> None:
        """A message that an outcome sends, or that completes a group, has its options from the first delivery on."""
        sent, done = self.with_options(self.new_queue()), self.sent_and_taken(broker, self.message(queue))
        complete = Join(group=unique_name("group"), member=0, size=1, then=(sent,))
        outcome = CommitItem(
            settlement=Ack(done), sends=(sent,) if way == "sent" else (), joins=() if way == "sent" else (complete,)
        )

        assert broker.commit([outcome]) == [True]

        got = self.take_one(broker, sent.queue)
        assert options_in(got.envelope.body) == options_in(sent.body)
        assert broker.options_of(got.envelope) == broker.options_of(sent)
