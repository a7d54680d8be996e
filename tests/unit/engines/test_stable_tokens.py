"""Tokens that stay, on a broker whose renewals change them: no part of a worker hears of it."""

from __future__ import annotations

import pytest

from queuekit import Queuekit
from queuekit.backend import Backend
from queuekit.broker import Ack, Broker, Lease
from queuekit.client.runtime import _completed
from queuekit.engines.memory import MemoryBackend, MemoryBroker
from queuekit.engines.stable_tokens import WithStableTokens
from queuekit.urls import EngineURL
from queuekit_testing.brokers.leases import LeasesTests
from queuekit_testing.kit import unique_name
from support.renewal_defects import Renewing
from support.working import make_app


def new_url() -> EngineURL:
    """Return the URL of an engine that nobody else uses."""
    return EngineURL.parse(f"memory://{unique_name('tokens')}")


class TestLeasesWithStableTokens(LeasesTests):
    """All that is asked of leases."""

    CLOCK_OF_ITS_OWN = False
    SHORT = 0.05

    @pytest.fixture
    def server(self) -> None:
        """Choose an engine."""
        self.url = new_url()
        self.engine = MemoryBroker(self.url)

    def make_broker(self) -> Broker:
        """Return one more client."""
        return WithStableTokens(Renewing(self.url))


def test_settles_with_the_first_token_after_many_renewals() -> None:
    """The worker shows what it was given; the service sees what it gave last."""
    suite = TestLeasesWithStableTokens()
    suite.url = new_url()
    with suite.session() as broker:
        delivery = suite.sent_and_taken(broker, suite.message(suite.new_queue()))
        for _ in range(3):
            assert broker.extend([delivery.lease], lease=60) == []

        assert broker.settle([Ack(delivery)]) == []
        assert broker.extend([delivery.lease], lease=60) == [delivery.lease]


@pytest.mark.parametrize("backend", [None, MemoryBackend(new_url())], ids=["no-results", "results"])
def test_is_put_around_brokers_that_override_renew(backend: Backend | None) -> None:
    """Those alone; only the process that claimed can renew on such a broker."""
    changing, keeping = _completed(Renewing(new_url()), backend), _completed(MemoryBroker(new_url()), backend)

    assert isinstance(changing, WithStableTokens)
    assert not changing.capabilities.portable_leases
    assert not isinstance(keeping, WithStableTokens)


def test_knows_nothing_of_its_parent_in_a_fork() -> None:
    """What the parent renews is the parent's."""
    app: Queuekit = make_app()
    broker = WithStableTokens(Renewing(app.runtime.broker_url))
    broker._current["token"] = Lease("jobs", "one", "token", 1)

    broker.renew_in_fork()

    assert broker._current == {}
