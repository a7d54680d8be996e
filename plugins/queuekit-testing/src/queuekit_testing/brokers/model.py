"""Anything that can be done to a broker, in any order, beside a model of what should come of it."""

from __future__ import annotations

import pytest

from queuekit.broker import Broker
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.kit import need_hypothesis

__all__ = ["ModelledTests"]


class ModelledTests(BrokerKit):
    """QK1 to QK4, QK8 and QK13 in combinations that nobody has thought of."""

    def test_behaves_like_its_model(self, broker: Broker) -> None:
        """Sends, claims, settlements and the verbs of an operator, at random, do what a model of them does."""
        if not self.EXAMPLES:
            pytest.skip("EXAMPLES is 0")
        need_hypothesis()
        from queuekit_testing.brokers.machine import run_machine

        run_machine(self, broker)
