"""Several processes on one ``sqlite:///`` file: nobody takes twice, nobody starves, and nothing breaks when killed."""

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from queuekit.backend import Record
from queuekit.broker import Ack, Broker, CommitItem, Replace
from queuekit.engines.sqlite import SqliteBackend, SqliteBroker
from queuekit.envelope import Envelope
from queuekit.urls import EngineURL
from queuekit_testing.processes import Child
from support.waiting import PATIENCE


def claim_all(talk: Connection, make: Callable[[], Broker], limit: int) -> None:
    """Take and acknowledge until nothing is left, then tell the ids; once more each time that something is said."""
    broker = make()
    broker.receive(["q"], limit=0, wait=0, lease=60)  # opens the file
    talk.send("ready")
    while True:
        talk.recv()
        ids: list[str] = []
        while deliveries := broker.receive(["q"], limit=limit, wait=0.3, lease=60):
            assert broker.settle([Ack(delivery) for delivery in deliveries]) == []
            ids += [delivery.id for delivery in deliveries]
        talk.send(ids)


def send_some(talk: Connection, make: Callable[[], Broker], name: str) -> None:
    """Send one message at a time, as a busy web application does."""
    broker = make()
    talk.send("ready")
    talk.recv()
    for number in range(200):
        broker.send([Envelope(id=f"{name}-{number}", queue="q", body=b"")])
    talk.send("done")


def commit_forever(talk: Connection, make: Callable[[], Broker]) -> None:
    """Work in batches until killed, telling what was committed."""
    broker = make()
    talk.send("ready")
    while True:
        deliveries = broker.receive(["q"], limit=20, wait=0.1, lease=0.2)
        items = [
            CommitItem(
                settlement=Replace(delivery, again(delivery.envelope))
                if delivery.envelope.attempt < 2
                else Ack(delivery),
                records=(Record(key=f"{delivery.id}:{delivery.envelope.attempt}", final=True),),
            )
            for delivery in deliveries
        ]
        broker.commit(items)
        talk.send(len(items))


def again(envelope: Envelope) -> Envelope:
    """Return the next attempt of a message."""
    return Envelope(id=envelope.id, queue=envelope.queue, body=envelope.body, attempt=envelope.attempt + 1)


class TestProcesses:
    """Children that work on the file of the test."""

    @pytest.fixture(autouse=True)
    def file(self, tmp_path: Path) -> None:
        """Choose the file."""
        self.path = tmp_path / "jobs.db"
        self.url = EngineURL.parse(f"sqlite:///{self.path}")

    def make_broker(self) -> Broker:
        """Return a broker, in whatever process."""
        return SqliteBroker(self.url)

    def children(self, count: int, work: Callable[..., None], *args: object) -> list[Child]:
        """Start children that wait for each other."""
        children = [Child(work, self.make_broker, *args) for _ in range(count)]
        for child in children:
            child.hear(timeout=PATIENCE)
        return children

    @pytest.mark.parametrize(("limit", "total"), [pytest.param(4, 1_000, marks=pytest.mark.full), (100, 4_000)])
    def test_eight_processes_take_each_message_once(self, limit: int, total: int) -> None:
        """All messages are taken, none of them twice, and no process starves.

        The system may keep a process from computing for most of one round, but not of eight. A round in large batches
        is over before it has given each the processor.
        """
        broker = self.make_broker()
        children = self.children(8, claim_all, limit)
        rounds, taken, shares = 0, Counter[str](), [0] * len(children)

        while rounds == 0 or (limit == 4 and not self.are_fair(shares) and rounds < 8):
            for start in range(0, total, 1_000):
                ids = [f"{rounds}-{start + number}" for number in range(1_000)]
                broker.send([Envelope(id=id, queue="q", body=b"x" * 100) for id in ids])
            for child in children:
                child.pipe.send("go")
            found = [child.hear(timeout=PATIENCE) for child in children]
            shares = [share + len(ids) for share, ids in zip(shares, found, strict=True)]
            taken.update(id for ids in found for id in ids)
            rounds += 1

        assert (len(taken), set(taken.values())) == (rounds * total, {1})
        assert limit != 4 or self.are_fair(shares)
        for child in children:
            child.kill()
        broker.close()

    @staticmethod
    def are_fair(shares: list[int]) -> bool:
        """Return whether no process has taken three times as much as another."""
        return 3 * min(shares) >= max(shares)

    def test_senders_and_takers_at_once(self) -> None:
        """Messages sent by several processes while others take them all arrive, once."""
        takers = self.children(3, claim_all, 10)
        senders = [Child(send_some, self.make_broker, f"s{number}") for number in range(3)]
        for sender in senders:
            sender.hear(timeout=PATIENCE)

        for child in (*senders, *takers):
            child.pipe.send("go")
        for sender in senders:
            assert sender.hear(timeout=PATIENCE) == "done"
        taken = Counter(id for taker in takers for id in taker.hear(timeout=PATIENCE))

        rest = self.make_broker().receive(["q"], limit=1_000, wait=0, lease=60)
        taken.update(delivery.id for delivery in rest)
        assert (len(taken), set(taken.values())) == (600, {1})
        for child in (*senders, *takers):
            child.kill()

    def test_survives_kills_in_the_middle_of_commits(self) -> None:
        """After each SIGKILL the file is sound, and in the end each outcome is there, complete."""
        broker, backend = SqliteBroker(self.url), SqliteBackend(self.url)
        ids = [str(number) for number in range(1_000)]
        broker.send([Envelope(id=id, queue="q", body=b"x" * 500) for id in ids])

        for _ in range(4):
            (child,) = self.children(1, commit_forever)
            for _ in range(5):
                child.hear(timeout=PATIENCE)
            child.kill()
            with contextlib.closing(sqlite3.connect(self.path)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        finish(broker)

        records = backend.get([f"{id}:{attempt}" for id in ids for attempt in range(3)])
        assert len(records) == 3 * len(ids)
        broker.close()
        backend.close()


def finish(broker: SqliteBroker) -> None:
    """Do in this process what the killed ones have left."""
    while True:
        counts = broker.counts(["q"])["q"]
        if counts.ready + counts.leased == 0:
            return
        for delivery in broker.receive(["q"], limit=500, wait=0.5, lease=60):
            attempt = delivery.envelope.attempt
            record = Record(key=f"{delivery.id}:{attempt}", final=True)
            settlement = Replace(delivery, again(delivery.envelope)) if attempt < 2 else Ack(delivery)
            assert broker.commit([CommitItem(settlement=settlement, records=(record,))]) == [True]
