"""Every method of a broker, in random order, compared with a model."""

from __future__ import annotations

import pytest

from queuekit.broker import Broker
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.kit import need_hypothesis

__all__ = ["ModelledTests"]


class ModelledTests(BrokerKit):
    """QK1 to QK4, QK8 and QK13 in combinations that no other test has."""

    def test_behaves_like_its_model(self, broker: Broker) -> None:
        """Random sends, claims, settlements and operations have the same effect as in a model of the broker."""
        if not self.EXAMPLES:
            pytest.skip("EXAMPLES is 0")
        need_hypothesis()
        from queuekit_testing.brokers.machine import run_machine

        run_machine(self, broker)
