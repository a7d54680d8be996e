"""The time of an ``sqlite:///`` file, which never steps back, and what time alone brings about."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queuekit.backend import Condition, Record
from queuekit.broker import Ack, Dead, Delivery
from queuekit.envelope import Envelope, Unique
from queuekit.sqlite import SqliteBackend, SqliteBroker, upkeep
from queuekit.sqlite.timekeeping import FileTime, next_version
from queuekit.testing import VirtualClock
from queuekit.urls import EngineURL


class SteppingClock(VirtualClock):
    """A virtual clock whose time of day can be set, as an operator or the network does."""

    def __init__(self) -> None:
        super().__init__()
        self._offset = 0.0

    def time(self) -> float:
        """Return UTC epoch seconds, as far as this clock knows."""
        return super().time() + self._offset

    def step(self, seconds: float) -> None:
        """Set the time of day forward or back."""
        self._offset += seconds


@pytest.fixture
def clock() -> SteppingClock:
    """Return the machine's clock."""
    return SteppingClock()


@pytest.fixture
def url(tmp_path: Path) -> EngineURL:
    """Return the URL of a fresh file."""
    return EngineURL.parse(f"sqlite:///{tmp_path}/jobs.db")


@pytest.fixture
def broker(url: EngineURL, clock: SteppingClock) -> Iterator[SqliteBroker]:
    """Return a broker on that clock."""
    broker = SqliteBroker(url, clock=clock)
    yield broker
    broker.close()


@pytest.fixture
def backend(url: EngineURL, clock: SteppingClock) -> Iterator[SqliteBackend]:
    """Return a backend of the same file."""
    backend = SqliteBackend(url, clock=clock)
    yield backend
    backend.close()


def message(id: str = "a", **fields: Any) -> Envelope:
    """Return a message."""
    return Envelope(**{"id": id, "queue": "q", "body": b"body", **fields})


def take(broker: SqliteBroker, limit: int = 100) -> list[Delivery]:
    """Take what is there now."""
    return broker.receive(["q"], limit=limit, wait=0, lease=30)


# -- the clock is set back -------------------------------------------------------------------------------------------


def test_time_never_steps_back(clock: SteppingClock) -> None:
    """After the clock was set back, time goes on from where it was."""
    time = FileTime(clock)
    before = time.now()

    clock.step(-3_600)

    assert time.now() == before


def test_time_goes_on_while_the_clock_is_behind(clock: SteppingClock) -> None:
    """Durations keep their length, instead of ending when the clock has caught up."""
    time = FileTime(clock)
    before = time.now()

    clock.step(-3_600)
    clock.advance(10)

    assert time.now() == before + 10
    assert time.ahead() == 3_600


def test_time_follows_the_clock_forward(clock: SteppingClock) -> None:
    """A clock that is set forward is believed."""
    time = FileTime(clock)
    before = time.now()

    clock.step(60)

    assert time.now() == before + 60


def test_goes_on_from_what_another_process_has_seen(clock: SteppingClock) -> None:
    """A mark in the file that is later than the clock is where time begins."""
    time = FileTime(clock)

    time.observe(clock.time() + 100)

    assert time.ahead() == 100


def test_saves_the_mark_once_a_second(clock: SteppingClock) -> None:
    """The mark is written rarely, and at once when the clock was set back."""
    time = FileTime(clock)
    marks = []

    for seconds in (0, 0.5, 0.5, -60):
        if seconds < 0:
            clock.step(seconds)
        else:
            clock.advance(seconds)
        time.now()
        marks.append(time.mark_to_save() is not None)
        marks.append(time.mark_to_save() is not None)

    assert marks == [True, False, False, False, True, False, True, False]


def test_a_clock_set_back_releases_nothing_early(broker: SqliteBroker, clock: SteppingClock) -> None:
    """Delays and leases last as long as they were meant to, whatever happens to the clock (QK11)."""
    broker.send([message("delayed", delay=60), message("leased")])
    (leased,) = take(broker)

    clock.step(-3_600)
    clock.advance(29)

    assert take(broker) == []
    assert broker.extend([leased.lease], lease=60) == []
    clock.advance(31)
    assert [delivery.id for delivery in take(broker)] == ["delayed"]


def test_a_new_process_goes_on_from_the_mark(url: EngineURL, broker: SqliteBroker, clock: SteppingClock) -> None:
    """A lease given after a step back holds also for those who have seen the time before it."""
    broker.send([message()])
    clock.step(-3_600)
    broker.send([message("notices the step")])
    newcomer = SqliteBroker(url, clock=clock)

    taken = take(newcomer)

    assert len(taken) == 2
    assert take(broker) == []
    assert "the clock was set back" in newcomer.check()[0]
    newcomer.close()


# -- what time brings about ------------------------------------------------------------------------------------------


def test_promotes_in_bounded_batches(
    broker: SqliteBroker, clock: SteppingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of due messages is promoted a batch at a time, the first due first."""
    broker.send([message(f"{number:04}", delay=1 + number / 1_000) for number in range(1_500)])
    clock.advance(60)

    broker.receive(["q"], limit=0, wait=0, lease=30)

    assert broker._upkeep._look(["q"]).delayed == pytest.approx(clock.time() - 60 + 1 + 1_000 / 1_000)
    assert len(take(broker, 2_000)) == 1_000
    assert len(take(broker, 2_000)) == 500


def test_counts_a_crash_where_it_reclaims(broker: SqliteBroker, clock: SteppingClock) -> None:
    """Messages of an expired lease are ready again, with one more crash each."""
    broker.send([message(str(number)) for number in range(3)])
    take(broker)
    clock.advance(31)

    again = take(broker)

    assert [(delivery.number, delivery.crashes) for delivery in again] == [(2, 1)] * 3


def test_does_nothing_at_rest(broker: SqliteBroker, backend: SqliteBackend) -> None:
    """An idle receive writes nothing, so any number of idle workers disturbs nobody."""
    broker.send([message("later", delay=3_600)])
    take(broker)
    backend.put([Record(key="k", ttl=3_600)])
    connection = broker._database.handle().connection
    assert connection is not None
    before = connection.total_changes

    for _ in range(10):
        take(broker)

    assert connection.total_changes == before


def test_storage_is_empty_after_a_drain(broker: SqliteBroker, backend: SqliteBackend, clock: SteppingClock) -> None:
    """Once ids, unique keys, records and groups have run out, no row of them is left (QK14)."""
    broker.send([message(f"m{number}", unique=Unique(key=f"u{number}", until="ttl")) for number in range(1_200)])
    while deliveries := take(broker, 500):
        broker.settle([Ack(delivery) for delivery in deliveries])
    backend.put([Record(key=f"k{number}", ttl=60) for number in range(1_200)])
    for member in range(50):
        backend.join("group", member, 50, ttl=60)

    clock.advance(86_401)
    for _ in range(3):
        broker.receive(["q"], limit=0, wait=0, lease=30)

    tables = ("messages", "unique_keys", "records", "groups", "members")
    left = [broker._database.read(f"SELECT count(*) FROM {table}")[0][0] for table in tables]  # noqa: S608
    assert left == [0] * len(tables)


def test_a_large_group_is_forgotten_in_batches(
    backend: SqliteBackend, broker: SqliteBroker, clock: SteppingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members go before their group, so that none is left behind."""
    with backend._database.transaction() as transaction:
        transaction.write(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)"
            " INSERT INTO members SELECT 'g', i FROM n"
        )
        transaction.write("INSERT INTO groups VALUES ('g', 2500, ?)", (clock.time() + 60,))
    clock.advance(61)

    broker.receive(["q"], limit=0, wait=0, lease=30)
    between = broker._database.read("SELECT (SELECT count(*) FROM groups), (SELECT count(*) FROM members)")
    for _ in range(3):
        broker.receive(["q"], limit=0, wait=0, lease=30)

    assert between == [(1, 1_500)]
    assert broker._database.read("SELECT (SELECT count(*) FROM groups), (SELECT count(*) FROM members)") == [(0, 0)]


def test_an_expired_group_begins_anew(backend: SqliteBackend, clock: SteppingClock) -> None:
    """A group that was forgotten counts from the start, also before its rows were swept."""
    backend.join("g", 0, 3, ttl=60)
    clock.advance(61)

    assert backend.join("g", 1, 3, ttl=60) == (True, 1)


def test_gives_room_back_to_the_file_system(
    broker: SqliteBroker, clock: SteppingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was large once shrinks after the drain."""
    monkeypatch.setattr(upkeep, "FREE_PAGES", 10)
    broker.send([message(str(number), body=b"x" * 10_000) for number in range(200)])
    ((pages,),) = broker._database.read("PRAGMA page_count")

    broker.settle([Ack(delivery) for delivery in take(broker, 500)])
    clock.advance(301)
    for _ in range(3):
        broker.receive(["q"], limit=0, wait=0, lease=30)
        clock.advance(2)

    ((left,),) = broker._database.read("PRAGMA page_count")
    assert (pages > 400, left < 100) == (True, True)


# -- ids and versions ------------------------------------------------------------------------------------------------


def test_an_id_is_remembered_for_a_while(broker: SqliteBroker, clock: SteppingClock) -> None:
    """A send repeated within the window adds nothing; after it, it is a new message."""
    broker.send([message()])
    broker.settle([Ack(delivery) for delivery in take(broker)])

    clock.advance(299)
    broker.send([message()])
    assert take(broker) == []
    clock.advance(2)
    broker.send([message()])

    assert [delivery.id for delivery in take(broker)] == ["a"]


def test_a_dead_message_is_remembered_as_long_as_it_lies_there(broker: SqliteBroker, clock: SteppingClock) -> None:
    """Dead letters do not run out, and their ids stay taken."""
    broker.send([message()])
    broker.settle([Dead(delivery, reason="failed") for delivery in take(broker)])
    clock.advance(1_000_000)

    broker.send([message()])

    assert take(broker) == []
    assert broker.counts(["q"])["q"].dead == 1


def test_a_lock_taken_again_has_another_version(backend: SqliteBackend, url: EngineURL, clock: SteppingClock) -> None:
    """Who held a lock that ran out cannot mistake its successor's for its own, even at the very same time."""
    other = SqliteBackend(url, clock=clock)
    backend.put([Record(key="lock", ttl=10)], condition=Condition.ABSENT)
    version = backend.get(["lock"])["lock"].version
    backend.delete(["lock"])

    other.put([Record(key="lock", ttl=10)], condition=Condition.ABSENT)

    assert backend.put([Record(key="lock", ttl=10)], expect=version) == [False]
    assert backend.delete(["lock"], expect=version) == 0
    other.close()


def test_versions_grow_although_time_stands_still() -> None:
    """Each version is used once."""
    first = next_version(1.0, count=5)

    assert next_version(1.0) == first + 5
