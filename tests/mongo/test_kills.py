"""A process is killed before each of its writes in turn: what another one then finds is whole."""

import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

from queuekit.broker import Ack, CommitItem, Place
from queuekit.envelope import Envelope
from queuekit.ids import new_id
from queuekit_mongo.backend import MongoBackend
from queuekit_mongo.broker import MongoBroker
from support.mongo_victim import LEASE, finished
from support.mongod import shared_url
from support.venvs import ROOT
from support.waiting import PATIENCE

_MOST_WRITES = 40


def is_killed(broker: MongoBroker, queue: str, number: int) -> bool:
    """Run the victim on *queue*; return whether it was killed before its *number*-th write."""
    words = [shared_url("plugin"), broker._engine.options.prefix, queue, str(number)]
    ended = subprocess.run(
        [sys.executable, "-m", "support.mongo_victim", *words],
        cwd=ROOT / "tests",
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode in (0, -signal.SIGKILL)
    return ended.returncode != 0


def finish_all(broker: MongoBroker, queue: str) -> Counter[bytes]:
    """Finish what is left on *queue*, and return how often each message was settled."""
    done: Counter[bytes] = Counter()
    while broker.peek(queue, place=Place.READY).items or broker.peek(queue, place=Place.LEASED).items:
        for delivery in broker.receive([queue], limit=10, wait=LEASE, lease=PATIENCE):
            follows = delivery.envelope.body == b"then"
            item = CommitItem(settlement=Ack(delivery)) if follows else finished(delivery)
            done[delivery.envelope.body] += broker.commit([item])[0]
    return done


@pytest.mark.torture
def test_a_group_is_whole_wherever_a_process_is_killed(broker: MongoBroker, backend: MongoBackend) -> None:
    """Each member has its result, and what follows the group is sent once (QK1, QK12)."""
    number = 0
    for number in range(1, _MOST_WRITES):
        queue = f"q-{new_id()}"
        members = [Envelope(id=new_id(), queue=queue, body=b"%d" % member) for member in range(2)]
        broker.send(members)

        killed = is_killed(broker, queue, number)
        done = finish_all(broker, queue)

        assert done[b"then"] == 1
        assert len(backend.get([f"result:{one.id}" for one in members])) == 2
        if not killed:
            break
    assert number > 5
    print(f"killed before each of {number - 1} writes")  # noqa: T201 - the figure is the point
