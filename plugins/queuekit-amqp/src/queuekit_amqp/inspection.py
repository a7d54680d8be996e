"""Count messages, and report settings of queues that may lose some."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pika import spec

from queuekit.broker import QueueCounts
from queuekit_amqp.channel import ChannelClosedError
from queuekit_amqp.connections import Link
from queuekit_amqp.layout import Layout, Place
from queuekit_amqp.topology import passive

__all__ = ["CRASHES_EACH", "check_queue", "count", "purge"]

CRASHES_EACH = 10
"""Least deliveries that a queue must allow for each delivery that core counts: hand-backs count as well."""
_DIFFERENT = 406
_LIMIT = "x-delivery-limit"
_DEAD_LETTERS = "x-dead-letter-exchange"
_CURRENT = re.compile(r"inequivalent arg '([^']+)'.*?but current is (?:the value )?(?:'([^']*)'|none)", re.DOTALL)


def count(link: Link, places: Sequence[Place]) -> QueueCounts:
    """Return the counts of the queue with *places*; RabbitMQ tells those that are ready alone."""
    return QueueCounts(ready=sum(passive(link, place.name) or 0 for place in places))


def purge(link: Link, places: Sequence[Place]) -> int:
    """Delete the messages of *places* that are ready, and return how many there were."""
    purged = 0
    for place in places:
        if passive(link, place.name) is None:
            continue
        channel = link.take()
        try:
            (answer,) = channel.call(spec.Queue.Purge(queue=place.name), timeout=link.timeout())
        finally:
            link.give(channel)
        purged += int(answer.message_count)
    return purged


def check_queue(link: Link, layout: Layout, place: Place, *, max_deliveries: int) -> list[str]:
    """Return the problems of the queue of *place*, one line each; one that does not exist is none."""
    least = CRASHES_EACH * max_deliveries
    wanted = layout.arguments().get(_LIMIT)
    if isinstance(wanted, int) and 0 <= wanted < least:
        return [_too_few(place, wanted, least)]
    if passive(link, place.name) is None:
        return []
    arguments = layout.arguments()
    problems = _compared(link, place, arguments, least)
    if problems == [_losing(place)]:
        # RabbitMQ reports one difference at a time.
        rest = {name: value for name, value in arguments.items() if name not in layout.keeps}
        problems += _compared(link, place, rest, least)
    return problems


def _compared(link: Link, place: Place, arguments: Mapping[str, Any], least: int) -> list[str]:
    """Return what RabbitMQ reports if the queue of *place* is declared with *arguments*."""
    channel = link.take()
    try:
        channel.call(
            spec.Queue.Declare(queue=place.name, durable=True, arguments=dict(arguments)), timeout=link.timeout()
        )
    except ChannelClosedError as error:
        if error.reply != _DIFFERENT:
            raise
        return [_different(place, error.text, least)]
    finally:
        link.give(channel)
    return []


def _different(place: Place, text: str, least: int) -> str:
    """Return what is wrong with a queue that was declared otherwise."""
    found = _CURRENT.search(text)
    name, value = (found[1], found[2] or "") if found else ("", "")
    if name == _LIMIT and value.isdigit() and int(value) < least:
        return _too_few(place, int(value), least)
    if name == _DEAD_LETTERS and not value:
        return _losing(place)
    if name == _LIMIT and not value:
        return f"{place.name}: it has no {_LIMIT}, so RabbitMQ 4 drops a message after 20 deliveries. Declare it anew"
    return f"{place.name}: it was declared otherwise than its options say, and is used as it is: {text}"


def _losing(place: Place) -> str:
    return f"{place.name}: it has no {_DEAD_LETTERS}, so it loses what a limit of a policy takes out. Declare it anew"


def _too_few(place: Place, limit: int, least: int) -> str:
    return (
        f"{place.name}: its {_LIMIT} drops a message after {limit} deliveries, and hand-backs count as deliveries. "
        f"Set it to {least} or more: {CRASHES_EACH} times worker.max_deliveries"
    )
