"""Many processes that claim from one queue: nobody gets what another has, and nobody goes short (QK2, QK3)."""

import signal
from collections import Counter

import pytest

from support.claimer import claim_in_processes
from support.fault_tasks import hold, nap
from support.fleet import Fleet
from support.other_tasks import app as other_app
from support.other_tasks import elsewhere
from support.waiting import wait_until

PROCESSES = 5


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.full), 10])
def test_no_message_is_claimed_twice_and_nobody_starves(fleet: Fleet, batch: int) -> None:
    """Five processes empty a queue: each message has one claimer, and nobody gets nothing while there is something."""
    sent = [result.id for result in fleet.app.send_many(nap.s(0) for _ in range(120 * batch + 600))]

    claims = claim_in_processes(fleet.urls["broker"], fleet.folder, processes=PROCESSES, batch=batch)

    assert Counter(id for ids, _ in claims for id in ids) == dict.fromkeys(sent, 1)
    assert [left for _, left in claims] == [0] * PROCESSES


def test_long_tasks_are_shared_fairly(fleet: Fleet) -> None:
    """A worker takes no more long tasks than it can run; the rest is left to others."""
    gate = fleet.gate()
    fleet.start_ready(concurrency=2)
    ids = [result.id for result in fleet.app.send_many(hold.s(str(gate)) for _ in range(4))]
    wait_until(lambda: len(fleet.ledger.counts("begin")) == 2, what="two running")

    fleet.start_ready(concurrency=2)
    wait_until(lambda: fleet.ledger.has("begin", ids), what="all four running")
    gate.touch()
    fleet.drained()

    assert sorted(Counter(line.pid for line in fleet.ledger.lines("begin")).values()) == [2, 2]


def test_weights_decide_between_queues(fleet: Fleet) -> None:
    """Of two full queues the heavier is emptied first, and the lighter one is not forgotten meanwhile."""
    heavy, light = (
        {result.id for result in fleet.app.send_many(nap.s(0.01).options(queue=queue) for _ in range(150))}
        for queue in ("heavy", "light")
    )

    fleet.start("-q", "heavy:8,light:1", concurrency=1, prefetch=0)
    fleet.drained(queues=("heavy", "light"))

    order = [line.id for line in fleet.ledger.lines("end")]
    assert len(order) == len(set(order)) == 300
    half = order[:150]
    assert sum(id in heavy for id in half) > 2 * sum(id in light for id in half) > 0


def test_two_apps_share_a_queue(fleet: Fleet) -> None:
    """A worker hands back what only the other app knows, loses none of it, and the other's worker does it."""
    other_app.configure(dict(fleet.urls))
    there = [result.id for result in other_app.send_many(elsewhere.s() for _ in range(60))]
    here = [result.id for result in fleet.app.send_many(nap.s(0.001) for _ in range(60))]

    stranger = fleet.start(concurrency=4)
    wait_until(lambda: fleet.ledger.has("end", here), what="what the first worker knows")
    assert not fleet.ledger.has("begin", there[:1])
    fleet.start(concurrency=4, app="support.other_tasks:app")
    stranger.signal(signal.SIGTERM)

    fleet.drained()
    other_app.close()
    assert stranger.wait() == 0
    assert fleet.ledger.counts("end") == dict.fromkeys([*here, *there], 1)
    assert not fleet.dead()
    pids = [{line.pid for line in fleet.ledger.lines("end") if line.id in ids} for ids in (here, there)]
    assert pids[0].isdisjoint(pids[1])


def test_cancelled_tasks_stop(fleet: Fleet) -> None:
    """Running ones are interrupted, waiting ones never run."""
    gate = fleet.gate()
    fleet.start_ready(concurrency=2)
    running = hold.send(str(gate))
    wait_until(lambda: fleet.ledger.has("begin", [running.id]), what="the task running")
    waiting = nap.options(delay=3600).send(0)

    assert running.cancel()
    assert waiting.cancel()
    fleet.drained()

    assert fleet.app.info(running.id).state == "CANCELLED"
    assert fleet.app.info(waiting.id).state == "CANCELLED"
    assert not fleet.ledger.lines(id=waiting.id)
