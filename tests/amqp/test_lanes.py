"""RabbitMQ has no order of turns: a task with lanes is rejected before anything is sent or fetched."""

from collections.abc import Iterator

import pytest

from queuekit import Queuekit, Signature
from queuekit.client.requirements import require
from queuekit.errors import CapabilityError
from queuekit.limits import arg
from support.rabbitmq import need_plugin

need_plugin()

NOWHERE = "amqp://127.0.0.1:1"


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """Return an app whose task ``export`` has lanes; nothing answers at its broker's address."""
    made = Queuekit(broker=NOWHERE)
    made.task(name="export", fair_by=arg("tenant"))(lambda tenant: tenant)
    yield made
    made.close()


def test_worker_does_not_start(app: Queuekit) -> None:
    """It names the task and the option."""
    with pytest.raises(CapabilityError, match="export asks for fair_by, which amqp:// does not support"):
        require(app.runtime, app.tasks)


@pytest.mark.parametrize("call", [Signature("export", ("acme",)), Signature("other", fair_by="acme")])
def test_call_is_not_sent(app: Queuekit, call: Signature[None]) -> None:
    """Neither that of the task nor one with a lane of its own; no connection is tried."""
    with pytest.raises(CapabilityError, match=f"{call.task} asks for fair_by, which amqp:// does not support"):
        app.send(call)
