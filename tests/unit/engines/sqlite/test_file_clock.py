"""The time of an ``sqlite:///`` file, which never steps back, and what time alone brings about."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from queuekit.backend import Condition, Record
from queuekit.broker import Ack, Dead, Delivery
from queuekit.clock import VirtualClock
from queuekit.engines.sqlite import SqliteBackend, SqliteBroker, settime, upkeep
from queuekit.engines.sqlite import boot_clock as boot
from queuekit.engines.sqlite import file_clock as timekeeping
from queuekit.engines.sqlite.boot_clock import BootClock
from queuekit.engines.sqlite.file_clock import FileTime, next_version
from queuekit.envelope import Envelope, Unique
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


# -- one time for all ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-3_600, 3_600], ids=["back", "forward"])
def test_time_does_not_step_with_the_clock(clock: SteppingClock, seconds: float) -> None:
    """After the time of day was set, time goes on from where it was, as fast as before."""
    told = FileTime(clock)
    before = told.now()

    clock.step(seconds)
    clock.advance(10)

    assert told.now() == before + 10
    assert told.ahead() == -seconds


@pytest.mark.parametrize("seconds", [-3_600, 120, 3_600], ids=["behind", "a-little-ahead", "ahead"])
def test_a_process_with_a_wrong_clock_moves_no_time(
    url: EngineURL, broker: SqliteBroker, clock: SteppingClock, seconds: float
) -> None:
    """Who comes with another time of day goes by that of the file, and so do all who come after it."""
    broker.send([message("delayed", delay=60), message("leased")])
    (leased,) = take(broker)
    clock.step(seconds)
    wrong = SqliteBroker(url, clock=clock)
    wrong.send([message("sent"), message("later", delay=60)])
    taken = take(wrong)
    wrong.close()
    clock.step(-seconds)
    newcomer = SqliteBroker(url, clock=clock)

    assert [one.id for one in taken] == ["sent"]
    assert take(newcomer) == []
    clock.advance(29)
    assert broker.extend([leased.lease], lease=60) == []
    clock.advance(31)
    assert {one.id for one in take(newcomer)} == {"delayed", "later", "sent"}
    newcomer.close()


def test_saves_the_mark_once_a_second(clock: SteppingClock) -> None:
    """The time that was reached is written down rarely."""
    told = FileTime(clock)
    marks = []

    for seconds in (0, 0.5, 0.5):
        clock.advance(seconds)
        marks.append(told.mark_to_save() is not None)
        marks.append(told.mark_to_save() is not None)

    assert marks == [True, False, False, False, True, False]


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


@pytest.mark.parametrize(("seconds", "where"), [(-3_600, "ahead of"), (3_600, "behind")])
def test_check_tells_of_a_wrong_time(broker: SqliteBroker, clock: SteppingClock, seconds: float, where: str) -> None:
    """An operator hears by how much the time of the file is off, and what sets it."""
    broker.send([message()])
    assert broker.check() == []

    clock.step(seconds)

    (line,) = broker.check()
    assert f"3600 s {where} the time of day" in line
    assert "python -m queuekit.engines.sqlite.settime" in line


# -- another boot ----------------------------------------------------------------------------------------------------


class Machine:
    """A machine that can be started again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.day = 1_800_000_000.0
        self.up = 1_000.0
        self.boot = "first"
        monkeypatch.setattr(
            timekeeping, "boot_clock", lambda _: BootClock(self.boot, lambda: self.up, lambda: self.day)
        )

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.day += seconds
        self.up += seconds

    def restart(self, *, boot: str, lost: float = 0.0) -> None:
        """Start again, five seconds later, with a time of day that has lost *lost* seconds."""
        self.day += 5.0 - lost
        self.up, self.boot = 3.0, boot


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine."""
    return Machine(monkeypatch)


@pytest.fixture
def start(url: EngineURL) -> Iterator[Callable[[], SqliteBroker]]:
    """Return what makes brokers as new processes do."""
    made: list[SqliteBroker] = []

    def make() -> SqliteBroker:
        made.append(SqliteBroker(url))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("boot", ["second", "unknown"])
def test_another_boot_ends_all_leases(machine: Machine, start: Callable[[], SqliteBroker], boot: str) -> None:
    """Whoever held a message is gone; delays go on, also where a system does not tell its boots apart."""
    machine.boot = "unknown" if boot == "unknown" else "first"
    before = start()
    before.send([message("held"), message("delayed", delay=60)])
    assert len(take(before)) == 1
    before.close()

    machine.restart(boot=boot)
    after = start()

    (again,) = take(after)
    assert (again.id, again.crashes) == ("held", 1)
    machine.run(29)
    assert take(after) == []
    after.settle([Ack(again)])
    machine.run(31)
    assert [one.id for one in take(after)] == ["delayed"]


def test_a_time_of_day_that_was_lost_releases_nothing_late(machine: Machine, start: Callable[[], SqliteBroker]) -> None:
    """A machine that starts in the past goes on from the last time that the file has seen."""
    before = start()
    before.send([message("delayed", delay=60)])
    before.close()

    machine.restart(boot="second", lost=1_000_000.0)
    after = start()

    assert take(after) == []
    machine.run(60)
    assert [one.id for one in take(after)] == ["delayed"]


def test_only_the_first_of_a_boot_ends_leases(machine: Machine, start: Callable[[], SqliteBroker]) -> None:
    """Who comes after it finds the time set, and the leases given since then."""
    before = start()
    before.send([message()])
    before.close()
    machine.restart(boot="second")
    first = start()
    assert len(take(first)) == 1

    assert take(start()) == []


def test_a_file_without_a_time_goes_on_from_its_mark(machine: Machine, start: Callable[[], SqliteBroker]) -> None:
    """A file that an earlier version has used keeps its leases."""
    before = start()
    before.send([message()])
    assert len(take(before)) == 1
    before._database.write("DELETE FROM meta WHERE name = 'clock'")
    before.close()

    assert take(start()) == []


@pytest.mark.parametrize("value", ["", "x y z", "nan 1.0 first", "1.0 inf first", "1.0", b"\xff", 7])
def test_nonsense_in_place_of_the_time_is_replaced(
    machine: Machine, start: Callable[[], SqliteBroker], value: object
) -> None:
    """A row that nobody of ours has written stops no work."""
    before = start()
    before.send([message()])
    before._database.write("UPDATE meta SET value = ? WHERE name = 'clock'", (value,))
    before.close()

    assert len(take(start())) == 1


class Ahead:
    """A clock that is none of ours, and an hour ahead."""

    def time(self) -> float:
        """Return UTC epoch seconds, as it sees them."""
        return time.time() + 3_600

    def monotonic(self) -> float:
        """Return the machine's seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block the calling thread."""
        time.sleep(seconds)

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a held *condition*."""
        return condition.wait(timeout)


def test_a_clock_of_an_apps_own_ends_no_leases(url: EngineURL, start: Callable[[], SqliteBroker]) -> None:
    """A clock that only tells another time of day is the machine's all the same."""
    first = start()
    first.send([message("held"), message("delayed", delay=60)])
    assert len(take(first)) == 1
    wrong = SqliteBroker(url, clock=Ahead())
    wrong.send([message("sent")])

    assert [one.id for one in take(wrong)] == ["sent"]
    wrong.close()
    assert take(start()) == []


def test_a_clock_of_a_test_ends_no_leases_of_others(url: EngineURL, start: Callable[[], SqliteBroker]) -> None:
    """Who looks into a file with a virtual clock leaves it as it is."""
    first = start()
    first.send([message()])
    assert len(take(first)) == 1

    virtual = SqliteBroker(url, clock=VirtualClock())
    virtual.counts(["q"])
    virtual.close()

    assert take(start()) == []


# -- the machine's own words -----------------------------------------------------------------------------------------


def test_a_boot_clock_of_another_namespace_is_moved_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container whose boot clock was moved has the time of its machine."""
    usual = boot._machine.__wrapped__()
    (tmp_path / "offsets").write_text("monotonic           5         0\nboottime      86400 500000000\n")
    monkeypatch.setattr(boot, "_OFFSETS", tmp_path / "offsets")

    moved = boot._machine.__wrapped__()

    assert usual.now() - moved.now() == pytest.approx(86_400.5, abs=1.0)
    assert moved.boot == usual.boot


@pytest.mark.parametrize("text", ["", "nonsense", "boottime x y", "boottime 1"])
def test_what_cannot_be_read_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Systems that say nothing of time, or something else, have the clock that they tell."""
    for name in ("_OFFSETS", "_UPTIME", "_STAT", "_BOOT_ID"):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(boot, name, tmp_path / name)

    clock = boot._machine.__wrapped__()

    assert clock.time() == pytest.approx(time.time(), abs=5.0)
    assert clock.now() == pytest.approx(time.clock_gettime(boot._clock()), abs=5.0)


def test_a_system_without_such_clocks_has_those_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python cannot ask for a clock by its number, the usual ones have to do."""
    monkeypatch.delattr(time, "clock_gettime")

    clock = boot._machine.__wrapped__()

    assert clock == BootClock("unknown", time.monotonic, time.time)


def test_a_process_that_is_told_another_time_has_the_machines(
    start: Callable[[], SqliteBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first to use a file sets its time, and even if its own clock is an hour ahead that is the machine's."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3_600)
    first = start()
    first.send([message()])

    (taken,) = take(first)

    assert taken.claimed_at == pytest.approx(real(), abs=30.0)
    assert first.check() == []


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="what is told in files is Linux's")
def test_a_library_that_fakes_all_clocks_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a process is told other clocks than the kernel has, its files tell the right ones."""
    real = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda number: real(number) + 3_600)

    clock = boot._machine.__wrapped__()

    assert clock.time() == pytest.approx(real(time.CLOCK_REALTIME), abs=30.0)
    assert clock.now() == pytest.approx(real(time.CLOCK_BOOTTIME), abs=30.0)


# -- setting it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-3_600, 3_600], ids=["back", "forward"])
def test_sets_the_time_and_keeps_all_durations(
    machine: Machine, start: Callable[[], SqliteBroker], seconds: float
) -> None:
    """What is delayed and what is held keep their time; what was sent for a moment keeps the moment."""
    before = start()
    before.send([message("held"), message("delayed", delay=60)])
    assert len(take(before)) == 1
    machine.day += seconds
    before.send([message("moment", not_before=machine.day + 120)])
    before.close()

    assert settime.set_time(before._database.path) == seconds

    after = start()
    assert after.check() == []
    assert take(after) == []
    machine.run(60)
    assert {one.id for one in take(after)} == {"held", "delayed"}
    machine.run(59)
    assert "moment" not in {one.id for one in take(after)}
    machine.run(2)
    assert "moment" in {one.id for one in take(after)}


def test_does_not_set_the_time_of_a_file_in_use(
    machine: Machine, start: Callable[[], SqliteBroker], capsys: pytest.CaptureFixture[str]
) -> None:
    """While anybody has the file open nothing is changed, and the command says what to do."""
    broker = start()
    broker.send([message()])
    machine.day += 3_600

    assert settime.main([broker._database.path]) == 4

    assert "is used by another process" in capsys.readouterr().err
    assert len(take(broker)) == 1
    broker.close()
    assert settime.main([broker._database.path]) == 0
    assert "moved by +3600.000 s" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--now"]])
def test_the_command_tells_its_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without one file there is nothing to set."""
    assert settime.main(arguments) == 2

    assert "usage" in capsys.readouterr().err


def test_the_command_helps(capsys: pytest.CaptureFixture[str]) -> None:
    """``--help`` is no file."""
    assert settime.main(["--help"]) == 0

    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"", b"no database, but long enough to be looked at"])
def test_the_command_names_what_is_no_file_of_ours(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is missing, or another program's, is named and left as it is."""
    path = tmp_path / "other.db"
    if content is not None:
        path.write_bytes(content)

    code = settime.main([str(path)])

    assert code == (0 if content == b"" else 4)
    assert (str(path) in capsys.readouterr().err) == (code == 4)
    assert content == b"" or not path.exists() or path.read_bytes() == content


# -- what time brings about ------------------------------------------------------------------------------------------


def test_promotes_in_bounded_batches(
    broker: SqliteBroker, clock: SteppingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of due messages is promoted a batch at a time, the first due first."""
    broker.send([message(f"{number:04}", delay=1 + number / 1_000) for number in range(1_500)])
    clock.advance(60)

    broker.receive(["q"], limit=0, wait=0, lease=30)

    assert broker._upkeep._snapshot(["q"]).delayed == pytest.approx(clock.time() - 60 + 1 + 1_000 / 1_000)
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
