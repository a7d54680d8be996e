"""An operator at work on RabbitMQ, which reports no single messages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from queuekit import Queuekit
from queuekit.broker import Broker, Release
from queuekit.envelope import Envelope
from queuekit.operations.admin import Admin
from queuekit.operations.moves import move
from queuekit_testing.kit import unique_name
from support import operating
from support.rabbitmq import need_plugin, shared_address, shared_url
from support.waiting import PATIENCE, UNHURRIED, wait_until

need_plugin()


def moved(app: Queuekit, queue: str, to: str | None = None) -> list[str]:
    """Move messages, to their own queues unless *to* is given, and return their ids."""
    return list(move(Admin(app), queue, to, sleep=lambda _: None))


def counted(app: Queuekit) -> dict[str, int]:
    """Return the queues as ``queuekit queues`` lists them."""
    return {view.name: view.counts.ready for view in Admin(app).queues()}


@pytest.fixture
def app(tmp_path: Path, queue: str) -> Iterator[Queuekit]:
    """Return an app with a queue of its own."""
    engines: dict[str, Any] = {"broker": shared_url("auto_delete=300"), "backend": f"sqlite:///{tmp_path}/results.db"}
    made = Queuekit(send_timeout=UNHURRIED, default_queue=queue, **engines)
    yield made
    made.close()


def test_bounds_dead_letters(app: Queuekit) -> None:
    """By number and age, the oldest first; what was dropped is remembered."""
    operating.bound_dead_letters(app)


def test_moves_messages(app: Queuekit) -> None:
    """To another queue and back, with their ids and unique keys."""
    operating.move_messages(app)


def test_moves_back_what_rabbitmq_took_out(tmp_path: Path, queue: str) -> None:
    """What a limit takes out is listed, and goes back to its queue with its priority."""
    prefix = unique_name("limits")
    url = shared_url("auto_delete=300", f"prefix={prefix}", 'queue_arguments={"x-delivery-limit":1}')
    app = Queuekit(broker=url, backend=f"sqlite:///{tmp_path}/results.db", default_queue=queue, send_timeout=UNHURRIED)
    app.task(name="pay", priority=9)(lambda: 1)
    id, dropped, broker = app.tasks["pay"].send().id, f"{prefix}.dropped", app.runtime.broker
    wait_until(lambda: handed_back(broker, queue) or counted(app).get(dropped) == 1, "RabbitMQ takes it out")

    wait_until(lambda: counted(app) == {queue: 0, dropped: 1}, "RabbitMQ counts it once")
    assert any(f"queuekit move {dropped}" in line for line in broker.check())
    assert moved(app, dropped) == [id]
    wait_until(lambda: counted(app) == {queue: 1}, "RabbitMQ counts what was moved")
    (back,) = broker.receive([queue], limit=1, wait=PATIENCE, lease=PATIENCE)
    assert (back.id, back.queue, back.envelope.priority, back.crashes) == (id, queue, 9, 0)
    app.close()


def handed_back(broker: Broker, queue: str) -> bool:
    """Hand back what there is, as after a crash, and return false."""
    broker.settle([Release(one, counted=True) for one in broker.receive([queue], limit=1, wait=0, lease=PATIENCE)])
    return False


def test_moves_back_what_had_lost_its_queue(tmp_path: Path, queue: str) -> None:
    """A delayed message whose queue was deleted is listed, and its queue is made anew."""
    prefix = unique_name("lost")
    url = shared_url("auto_delete=300", f"prefix={prefix}")
    app = Queuekit(broker=url, backend=f"sqlite:///{tmp_path}/results.db", default_queue=queue, send_timeout=UNHURRIED)
    broker, lost = app.runtime.broker, f"{prefix}.lost"
    broker.send([Envelope(id="late", queue=queue, body=b"", delay=1.0)])
    host, _, port = shared_address().partition(":")
    with pika.BlockingConnection(pika.ConnectionParameters(host, int(port))) as connection:
        connection.channel().queue_delete(queue)
    wait_until(lambda: counted(app).get(lost) == 1, "it is due")

    assert moved(app, lost) == ["late"]

    wait_until(lambda: counted(app) == {queue: 1}, "RabbitMQ counts what was moved")
    app.close()
