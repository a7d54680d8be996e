"""Waiting processes are woken through named pipes, and poll without them."""

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuekit.backend import Record
from queuekit.engines.sqlite import SqliteBackend, SqliteBroker, waiting
from queuekit.engines.sqlite.pipes import open_pipe, wake
from queuekit.engines.sqlite.waiting import Notifier
from queuekit.envelope import Envelope
from queuekit.testing import eventually
from queuekit.urls import EngineURL
from queuekit_testing.processes import run_in_fork
from support.waiting import PATIENCE


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return where the pipes are."""
    return tmp_path / "jobs.db-wake"


@pytest.fixture
def notifier(directory: Path) -> Iterator[Notifier]:
    """Return the notifier of one process."""
    notifier = Notifier(str(directory))
    yield notifier
    notifier.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[SqliteBroker]:
    """Return a broker."""
    broker = SqliteBroker(EngineURL.parse(f"sqlite:///{tmp_path}/jobs.db"))
    yield broker
    broker.close()


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[SqliteBackend]:
    """Return a backend."""
    backend = SqliteBackend(EngineURL.parse(f"sqlite:///{tmp_path}/jobs.db"))
    yield backend
    backend.close()


@pytest.fixture
def unbounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let waiters sleep for as long as they like, so that only a notification wakes them."""
    monkeypatch.setattr(waiting, "LONGEST_SLEEP", 3_600.0)


def test_a_notification_before_the_wait_is_not_lost(notifier: Notifier, directory: Path, unbounded: None) -> None:
    """A byte written between listening and blocking ends the wait at once."""
    with notifier.listen(["q"]) as listener:
        Notifier(str(directory)).notify(["q"])

        listener.wait(3_600)

    assert stat.S_ISFIFO((directory / "queue-q").stat().st_mode)


def test_only_the_notified_queue_is_woken(notifier: Notifier) -> None:
    """A notification of another queue leaves the pipe of this one empty."""
    with notifier.listen(["q"]):
        notifier.notify(["other"])

        with pytest.raises(BlockingIOError):
            os.read(notifier._pipe_of("q"), 1)


def test_a_full_pipe_blocks_no_sender(notifier: Notifier) -> None:
    """Where nothing listens, notifying goes on without waiting or failing."""
    for _ in range(70_000):
        notifier.notify(["q"])

    with notifier.listen(["q"]) as listener:
        listener.wait(3_600)


def test_unusual_names_stay_in_the_directory(notifier: Notifier, directory: Path) -> None:
    """A queue's name cannot reach another place in the file system."""
    notifier.notify(["../up", ".", ".."])

    assert sorted(entry.name for entry in directory.iterdir()) == ["queue-.", "queue-..", "queue-..%2Fup"]


def test_keeps_few_pipes_open(notifier: Notifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender to many queues does not run out of descriptors."""
    monkeypatch.setattr(waiting, "MOST_PIPES", 3)

    notifier.notify([f"q{number}" for number in range(10)])

    assert len(notifier._pipes) <= 3


def test_another_kind_of_file_is_left_alone(directory: Path) -> None:
    """A file that has a pipe's name and is not a pipe is not written to."""
    directory.mkdir()
    (directory / "queue-q").write_bytes(b"mine")

    with pytest.raises(OSError, match="not a named pipe"):
        open_pipe(directory / "queue-q")

    assert (directory / "queue-q").read_bytes() == b"mine"


def test_a_waiter_has_a_pipe_while_it_waits(notifier: Notifier, directory: Path, unbounded: None) -> None:
    """A thread that waits for records is notified through a pipe of its own, which it removes."""
    with notifier.listen_results(["result:a"]) as listener:
        Notifier(str(directory)).notify_results(["result:b", "result:a"])
        listener.wait(3_600)
        during = len(list((directory / "results").iterdir()))

    assert (during, list((directory / "results").iterdir())) == (1, [])


def test_a_waiter_for_many_records_is_woken_by_any(notifier: Notifier, directory: Path, unbounded: None) -> None:
    """Names of pipes are bounded; a waiter for more keys polls each time."""
    with notifier.listen_results([f"result:{number}" for number in range(1_000)]) as listener:
        Notifier(str(directory)).notify_results(["result:another"])

        listener.wait(3_600)

    assert list((directory / "results").iterdir()) == []


def test_the_pipe_of_a_dead_waiter_is_removed(directory: Path) -> None:
    """A waiter that was killed leaves a pipe behind, which the next writer clears away."""
    path = directory / "results" / "1.2.3-any"
    os.close(open_pipe(path))

    Notifier(str(directory)).notify_results(["result:a"])

    assert not path.exists()


def test_waking_a_waiter_that_has_just_left_is_fine(tmp_path: Path) -> None:
    """A pipe may be gone before it is written to."""
    wake(str(tmp_path / "gone"))

    assert list(tmp_path.iterdir()) == []


def test_a_child_has_pipes_of_its_own(notifier: Notifier) -> None:
    """After a fork the parent's listeners are not the child's, and a lock held by a lost thread stops nobody."""
    notifier.notify(["q"])
    with notifier.listen(["q"]), notifier._lock:

        def child() -> None:
            notifier.notify(["q"])
            assert not notifier.interrupts._waits

        assert run_in_fork(child) == 0


# -- in use ----------------------------------------------------------------------------------------------------------


def send_one(broker: SqliteBroker) -> None:
    """Send a message."""
    broker.send([Envelope(id="a", queue="q", body=b"")])


def waiting_receive(broker: SqliteBroker, got: list[str]) -> threading.Thread:
    """Start a receive that blocks, and return its thread once it listens."""

    def work() -> None:
        got.extend(delivery.id for delivery in broker.receive(["q"], limit=1, wait=60, lease=30))
        got.append("returned")

    thread = threading.Thread(target=work)
    thread.start()
    eventually(lambda: broker._notifier.interrupts._waits, what="the receive listens")
    return thread


def test_a_send_of_another_process_ends_a_wait(broker: SqliteBroker, unbounded: None) -> None:
    """A blocked receive returns for a message sent elsewhere, without polling."""
    got: list[str] = []
    broker.send([Envelope(id="other", queue="other", body=b"")])
    thread = waiting_receive(broker, got)

    code = run_in_fork(lambda: send_one(broker))
    thread.join(PATIENCE)

    assert (code, got) == (0, ["a", "returned"])


def test_a_delayed_send_shortens_a_wait(broker: SqliteBroker, unbounded: None) -> None:
    """A waiter without any expected event learns of a message that will be due."""
    got: list[str] = []
    thread = waiting_receive(broker, got)

    broker.send([Envelope(id="a", queue="q", body=b"", delay=0.05)])
    thread.join(PATIENCE)

    assert got == ["a", "returned"]


def test_the_notification_is_passed_on(broker: SqliteBroker, unbounded: None) -> None:
    """Of two waiters that take one message each, both get one although the sender notified once."""
    got: list[str] = []
    threads = [waiting_receive(broker, got)]
    eventually(lambda: len(broker._notifier.interrupts._waits) == 1)
    threads.append(
        threading.Thread(
            target=lambda: got.extend(delivery.id for delivery in broker.receive(["q"], limit=1, wait=60, lease=30))
        )
    )
    threads[1].start()
    eventually(lambda: len(broker._notifier.interrupts._waits) == 2)

    broker.send([Envelope(id=id, queue="q", body=b"") for id in "ab"])
    for thread in threads:
        thread.join(PATIENCE)

    assert sorted(got) == ["a", "b", "returned"]


@pytest.mark.parametrize("way", ["pipes", "polling"])
def test_an_interrupt_ends_a_wait(broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """A blocked receive returns empty-handed when its process stops."""
    if way == "polling":
        monkeypatch.setattr(os, "mkfifo", no_pipes)
    got: list[str] = []
    thread = waiting_receive(broker, got)

    broker.interrupt()
    thread.join(PATIENCE)

    assert got == ["returned"]


def test_an_interrupt_before_the_wait_is_not_lost(broker: SqliteBroker, unbounded: None) -> None:
    """An interrupt without a waiter ends the next wait, and only that."""
    broker.interrupt()

    assert broker.receive(["q"], limit=1, wait=60, lease=30) == []
    assert not broker._notifier.interrupts.interrupted(broker._notifier.interrupts.handled)


def test_a_record_ends_a_wait(backend: SqliteBackend, unbounded: None) -> None:
    """A waiter for a result is woken by its final record from another process, not by others."""
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.extend(backend.wait(["a", "b"], timeout=PATIENCE)))
    thread.start()
    eventually(lambda: backend._notifier.interrupts._waits, what="the wait listens")

    def child() -> None:
        backend.put([Record(key="c", final=True), Record(key="a")])
        backend.put([Record(key="b", final=True)])

    code = run_in_fork(child)
    thread.join(PATIENCE)

    assert (code, got) == (0, ["b"])


# -- where there are no named pipes ----------------------------------------------------------------------------------


def no_pipes(*_: object, **__: object) -> None:
    """Refuse, as a file system without named pipes does."""
    raise PermissionError("no named pipes here")


def test_polls_where_there_are_no_named_pipes(broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pipes a waiter looks again and again."""
    monkeypatch.setattr(os, "mkfifo", no_pipes)
    got: list[str] = []
    thread = waiting_receive(broker, got)

    broker.send([Envelope(id="a", queue="q", body=b"")])
    thread.join(PATIENCE)

    assert got == ["a", "returned"]


def test_results_are_polled_for_without_named_pipes(backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pipes who waits for a record looks again and again."""
    monkeypatch.setattr(os, "mkfifo", no_pipes)
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.extend(backend.wait(["a"], timeout=PATIENCE)))
    thread.start()
    eventually(lambda: backend._notifier.interrupts._waits, what="the wait has begun")

    backend.put([Record(key="a", final=True)])
    thread.join(PATIENCE)

    assert got == ["a"]
