"""The state machine of the conformance kit, long enough to find what the everyday run does not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from queuekit.broker import Broker
from queuekit.testing import BrokerConformance
from queuekit_testing.brokers.machine import run_machine
from support.engines import ENGINES
from support.working import make_app

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]
EXAMPLES = 200


class Suite(BrokerConformance):
    """The kit on any engine."""

    EXAMPLES = EXAMPLES

    def __init__(self, make: Callable[[], Broker]) -> None:
        self.make = make

    def make_broker(self) -> Broker:
        """Return one more client."""
        return self.make()


@pytest.mark.parametrize("name", ENGINES)
def test_behaves_like_its_model(name: str, tmp_path: Path) -> None:
    """Hundreds of random sequences do on an engine what they do in the model."""
    url = ENGINES[name](tmp_path)["broker"]
    suite = Suite(lambda: make_app(broker=url).runtime.broker)

    with suite.session() as broker:
        run_machine(suite, broker)

    assert broker.capabilities == suite.make_broker().capabilities
