"""A process that finishes two messages on MongoDB, and is killed before its n-th write: ``URL PREFIX QUEUE NUMBER``."""

import os
import signal
import sys
import threading

from pymongo import monitoring

from queuekit.backend import Join, Record
from queuekit.broker import Ack, CommitItem, Delivery
from queuekit.envelope import Envelope
from queuekit.ids import derived_id
from queuekit.urls import EngineURL
from queuekit_mongo.broker import MongoBroker
from queuekit_mongo.options import MongoOptions

LEASE = 1.0
"""Seconds that the victim holds messages."""
WRITES = ("insert", "update", "findAndModify", "commitTransaction")


class Killer(monitoring.CommandListener):
    """Kills this process before its *number*-th write; counting starts with :meth:`start`."""

    def __init__(self, number: int) -> None:
        self._left = number
        self._lock = threading.Lock()

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Count a command that is about to be sent."""
        if event.command_name in WRITES:
            with self._lock:
                self._left -= 1
                if not self._left:
                    os.kill(os.getpid(), signal.SIGKILL)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Ignore a reply."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Ignore an error."""


def finished(delivery: Delivery) -> CommitItem:
    """Return the outcome of one of two members of a group: its result, its arrival, and what follows the last."""
    queue = delivery.queue
    then = Envelope(id=derived_id(queue, "then"), queue=queue, body=b"then")
    return CommitItem(
        settlement=Ack(delivery),
        records=(Record(key=f"result:{delivery.id}", body=b"done", rank=5, final=True, ttl=600.0),),
        joins=(Join(group=f"group:{queue}", member=int(delivery.envelope.body), size=2, then=(then,)),),
    )


def main() -> None:
    """Take what is there, and finish it one after the other."""
    url, prefix, queue, number = sys.argv[1:]
    monitoring.register(Killer(int(number)))
    broker = MongoBroker(EngineURL.parse(url), options=MongoOptions(prefix=prefix, timeout=60.0))
    for _ in range(2):
        for delivery in broker.receive([queue], limit=1, wait=10.0, lease=LEASE):
            broker.commit([finished(delivery)])
    broker.close()


if __name__ == "__main__":
    main()
