"""Options of RabbitMQ that are checked before anything is sent."""

import pytest

from queuekit import Queuekit
from queuekit.errors import OptionError
from support.rabbitmq import need_plugin

need_plugin()
from queuekit_amqp.options import AmqpMessageOptions, AmqpOptions  # noqa: E402


def test_names_are_measured_in_bytes() -> None:
    """As AMQP does, which takes 255."""
    assert AmqpMessageOptions(routing_key="é" * 100).routing_key == "é" * 100

    with pytest.raises(ValueError, match="it has 202 bytes, at most 200"):
        AmqpMessageOptions(routing_key="é" * 101)
    with pytest.raises(ValueError, match="it has 202 bytes, at most 200"):
        AmqpOptions(exchange="é" * 101)


def test_send_refuses_a_routing_key_that_is_too_long() -> None:
    """It names the task and the option, before a connection is opened."""
    app = Queuekit(broker="amqp://127.0.0.1:1?exchange=jobs")
    task = app.task(name="t")(print)

    with pytest.raises(OptionError, match=r"t: broker\['routing_key'\]: it has 202 bytes"):
        task.options(broker={"routing_key": "é" * 101}).send()
    app.close()


def test_send_refuses_text_that_amqp_cannot_carry() -> None:
    """RabbitMQ hands a message that no queue takes back with other text, so that it would pass for a stored one."""
    app = Queuekit(broker="amqp://127.0.0.1:1?exchange=jobs")
    task = app.task(name="t")(print)

    with pytest.raises(OptionError, match=r"t: broker\['routing_key'\]: it has a lone surrogate"):
        task.options(broker={"routing_key": "eu.\udcff"}).send()
    app.close()
