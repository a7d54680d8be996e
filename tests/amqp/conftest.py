"""Brokers on the RabbitMQ that all tests of a run share."""

from collections.abc import Callable, Iterator

import pytest

from queuekit.backend import Backend
from queuekit.broker import Broker
from queuekit_testing.engines import new_backend, new_broker
from queuekit_testing.kit import unique_name
from support.rabbitmq import shared_url

Make = Callable[..., Broker]


@pytest.fixture
def records() -> Backend:
    """Return the result backend that the brokers of a test share."""
    return new_backend(f"memory://{unique_name('records')}")


@pytest.fixture
def make_broker(records: Backend) -> Iterator[Make]:
    """Return what makes brokers; they are closed after the test."""
    made: list[Broker] = []

    def make(*options: str, url: str = "") -> Broker:
        broker = new_broker(url or shared_url("auto_delete=300", *options))
        broker.share(records)
        made.append(broker)
        return broker

    yield make
    for broker in made:
        broker.close()


@pytest.fixture
def broker(make_broker: Make) -> Broker:
    """Return a broker."""
    return make_broker()


@pytest.fixture
def queue() -> str:
    """Return the name of a queue that nobody else uses."""
    return unique_name("amqp")
