"""When a suspect asks again, and how an end is told; the processes themselves are at work in tests/integration."""

import os
import pickle
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from queuekit import Signature
from queuekit.broker import Delivery, Release
from queuekit.envelope import Envelope
from queuekit.execution.outcome import Run
from queuekit.wire.records import entered_mark, read_info
from queuekit.worker import isolation
from queuekit.worker.app_ref import AppRef
from queuekit.worker.carried import pack_times
from queuekit.worker.frames import FramedSocket
from queuekit.worker.isolation import NOT_BEGUN, Isolation, _BodyProcess, _NotBegunError, _put_off
from queuekit.worker.permits import Permits, PermitsOfProcess
from support.waiting import PATIENCE, wait_until
from support.working import executor_of, make_app, prepared, take

BEYOND_BUFFERS = "x" * 900_000
"""More than a pipe takes without a reader."""


@pytest.mark.parametrize(
    ("number", "crashes", "seconds"), [(3, 2, 1), (6, 2, 8), (500, 2, 60)], ids=["first", "later", "longest"]
)
def test_asks_again_later_and_later(number: int, crashes: int, seconds: float) -> None:
    """By how often it was put off already."""
    delivery = Delivery(
        envelope=Envelope(id="a", queue="q", body=b""),
        token="t",  # noqa: S106 - of a lease
        number=number,
        crashes=crashes,
    )

    assert _put_off(delivery) == seconds


def test_takes_back_no_crash_that_is_confirmed() -> None:
    """A worker that stops deletes the marks of bodies that it ends itself, and of no others (QK6)."""
    app = make_app()
    app.task(name="t")(print)
    app.send_many([Signature("t"), Signature("t")])
    runs = [prepared(app, delivery) for delivery in take(app, 2)]
    marks = [entered_mark(runs[0].delivery, seen=True), entered_mark(runs[1].delivery, seen=False)]
    backend = app.runtime.need_backend("a test")
    backend.put(marks)
    for run in runs:
        run.suspect = True

    made = Isolation(app.runtime, executor_of(app), ref=AppRef(target="tasks:app"), worker="w-1", always=True)
    made._unmark(runs)

    assert set(backend.get([mark.key for mark in marks])) == {marks[0].key}


@pytest.mark.parametrize(
    ("closed", "status", "records"), [(True, "returned", []), (False, "failed", ["FAILURE"])], ids=["stop", "crash"]
)
def test_a_body_acknowledged_early_does_not_run_again(*, closed: bool, status: str, records: list[str]) -> None:
    """Its process ends with the worker or by itself: it runs at most once, and a crash is its failure."""
    app = make_app()
    app.task(name="t", ack="early", pool="process")(print)
    app.tasks["t"].send()
    made = Isolation(app.runtime, executor_of(app), ref=AppRef(target="tasks:app"), worker="w-1", always=True)
    made._closed = closed
    child: Any = SimpleNamespace(cancelled=False, overran=False, exit_reason=lambda: "exited with code 1")

    outcome = made._without_answer(child, prepared(app))

    assert (outcome.status, outcome.settlement, outcome.sends) == (status, None, ())
    assert [read_info("", record).state.value for record in outcome.records] == records
    app.close()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        pytest.param(None, "ended with its fork server", id="unknown"),
        pytest.param(3, "exited with code 3", id="code"),
        pytest.param(-signal.SIGSEGV, "killed by SIGSEGV", id="signal"),
        pytest.param(-200, "killed by signal 200", id="unknown-signal"),
    ],
)
def test_tells_in_words_how_a_body_ended(code: int | None, words: str) -> None:
    """For the dead letter's error."""
    process: Any = SimpleNamespace(code=code, pipe=SimpleNamespace(fileno=lambda: -1))

    assert _BodyProcess(process).exit_reason() == words


class Deaf(NamedTuple):
    """A process for bodies that reads nothing, as if it were stopped."""

    body: _BodyProcess
    pipe: Connection
    """Its end."""
    permits: PermitsOfProcess
    tells: Connection
    """What its end closes."""
    threads: list[threading.Thread]

    def read(self) -> None:
        """Read what was sent."""
        FramedSocket(self.pipe.fileno()).receive()

    def take(self) -> None:
        """Take the permit of a delivery, as if its body began."""
        wait_until(lambda: self.permits.take() is not None, what="a permit")

    def answer(self) -> None:
        """Answer what was taken last."""
        FramedSocket(self.pipe.fileno()).send(pack_times(0.0, 1.0) + b"answer")

    def then(self, *steps: Callable[[], object]) -> None:
        """Do *steps* in another thread."""
        self.threads.append(thread := threading.Thread(target=lambda: [step() for step in steps]))
        thread.start()


@pytest.fixture
def deaf() -> Iterator[Deaf]:
    """A process for bodies, and what it has."""
    with ExitStack() as ends:
        here, there = (ends.enter_context(Connection(end.detach())) for end in socket.socketpair())
        near, far = (ends.enter_context(end) for end in socket.socketpair())
        status, told = os.pipe()
        tells = ends.enter_context(Connection(told, readable=False))
        process: Any = SimpleNamespace(
            pid=os.getpid(),
            pipe=here,
            status=ends.enter_context(Connection(status, writable=False)),
            permits=Permits(near, far),
        )
        body = _BodyProcess(process)
        FramedSocket(there.fileno()).send(pickle.dumps(1))
        body.wait_until_ready()
        permits = PermitsOfProcess(os.dup(far.fileno()))
        ends.callback(permits._socket.close)
        yield (deaf := Deaf(body, there, permits, tells, []))
        for thread in deaf.threads:
            thread.join(PATIENCE)
        there.close()
        wait_until(lambda: "queuekit-delivery" not in {one.name for one in threading.enumerate()}, what="the sender")


def test_limit_holds_where_a_large_delivery_is_not_read(deaf: Deaf) -> None:
    """A process that was stopped between two bodies is given up at the hard limit, however large the message is."""
    app = make_app()
    app.task(name="t", time_limit=0.1)(print)
    app.tasks["t"].send(BEYOND_BUFFERS)
    run = prepared(app)

    assert list(deaf.body.call(0, [run])) == [(run, None)]
    assert deaf.body.overran
    app.close()


def test_limit_holds_where_an_answer_stops_half_way(deaf: Deaf) -> None:
    """A process that is stopped while it sends a large outcome is given up at the hard limit."""
    app = make_app()
    app.task(name="t", time_limit=0.1)(print)
    app.tasks["t"].send()
    run = prepared(app)
    os.write(deaf.pipe.fileno(), struct.pack("=Q", 1_000) + b"half")

    assert list(deaf.body.call(0, [run])) == [(run, None)]
    assert deaf.body.overran
    app.close()


def test_an_answer_that_ends_half_way_is_none(deaf: Deaf) -> None:
    """The process was killed while it sent it."""
    app = make_app()
    app.task(name="t")(print)
    app.tasks["t"].send()
    run = prepared(app)
    with socket.socket(fileno=os.dup(deaf.pipe.fileno())) as end:
        end.sendall(struct.pack("=Q", 1_000) + b"half")
        deaf.then(deaf.take, lambda: end.shutdown(socket.SHUT_WR))

        assert list(deaf.body.call(0, [run])) == [(run, None)]
    app.close()


def test_a_body_that_comes_with_the_stop_of_its_worker_goes_back() -> None:
    """Its process has just ended, and there is no fork server any more: nothing is wrong, and nothing is printed."""
    app = make_app()
    app.task(name="t", pool="process")(print)
    app.tasks["t"].send()
    made = Isolation(app.runtime, executor_of(app), ref=AppRef(target="tasks:app"), worker="w-1", always=True)
    made.close(0.5)

    run = prepared(app)

    ((called, outcome),) = made.call(0, [run])

    assert outcome is not None
    assert (called, outcome.status, outcome.settlement) == (run, "returned", Release(run.delivery))
    app.close()


def test_large_delivery_that_was_not_read_has_not_begun(deaf: Deaf) -> None:
    """The process ended while it was idle: nobody is blamed for that."""
    app = make_app()
    app.task(name="t")(print)
    app.tasks["t"].send(BEYOND_BUFFERS)
    deaf.pipe.close()

    with pytest.raises(_NotBegunError):
        list(deaf.body.call(0, [prepared(app)]))
    app.close()


@pytest.fixture
def quick() -> Iterator[list[Run]]:
    """Three runs that go to a process together."""
    app = make_app()
    app.task(name="t")(print)
    app.send_many([Signature("t") for _ in range(3)])
    yield [prepared(app) for _ in range(3)]
    app.close()


def test_takes_back_what_waits_behind_a_slow_body(
    deaf: Deaf, quick: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a moment, while that goes on."""
    monkeypatch.setattr(isolation, "_TOGETHER", PATIENCE)
    calls = deaf.body.call(0, quick)
    deaf.then(deaf.take, deaf.answer, deaf.take, deaf.permits.notify)

    assert next(calls) == (quick[0], b"answer")
    monkeypatch.setattr(isolation, "_TOGETHER", 0.0)
    assert next(calls) == (quick[2], NOT_BEGUN)
    deaf.answer()
    assert list(calls) == [(quick[1], b"answer")]
    assert (quick[1].started, quick[1].ended, deaf.body.ended) == (0.0, 1.0, False)


def test_leaves_a_process_what_it_is_about_to_begin(
    deaf: Deaf, quick: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that got no turn of the processor for a moment may have taken no permit."""
    monkeypatch.setattr(isolation, "_TOGETHER", 0.0)
    calls = deaf.body.call(0, quick)

    assert [next(calls), next(calls)] == [(quick[2], NOT_BEGUN), (quick[1], NOT_BEGUN)]
    deaf.take()
    deaf.answer()  # without a notification
    assert list(calls) == [(quick[0], b"answer")]
    assert deaf.body.current is None


@pytest.mark.parametrize("taken", [1, 2], ids=["between-bodies", "in-a-body"])
def test_a_dead_process_takes_only_what_it_had_begun(
    deaf: Deaf, quick: list[Run], taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has answered counts, and what it has not begun comes back."""
    monkeypatch.setattr(isolation, "_TOGETHER", PATIENCE)
    calls = deaf.body.call(0, quick)
    deaf.then(deaf.read, deaf.take, deaf.answer, *[deaf.take] * (taken - 1), deaf.pipe.close, deaf.tells.close)

    back = [(run, NOT_BEGUN) for run in reversed(quick[taken:])]
    assert list(calls) == [(quick[0], b"answer"), *back, *[(quick[1], None)] * (taken - 1)]
