"""When a suspect asks again, and how an end is told; the processes themselves are at work in tests/integration."""

import os
import pickle
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import pytest

from queuekit.broker import Delivery, Release
from queuekit.envelope import Envelope
from queuekit.wire.records import read_info
from queuekit.worker.app_ref import AppRef
from queuekit.worker.frames import FramedSocket
from queuekit.worker.isolation import Isolation, _BodyProcess, _NotBegunError, _put_off
from support.waiting import wait_until
from support.working import executor_of, make_app, prepared

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


@pytest.mark.parametrize(
    ("closed", "status", "records"), [(True, "returned", []), (False, "failed", ["FAILURE"])], ids=["stop", "crash"]
)
def test_a_body_acknowledged_early_does_not_run_again(*, closed: bool, status: str, records: list[str]) -> None:
    """Its process ends with the worker or by itself: it runs at most once, and a crash is its failure."""
    app = make_app()
    app.task(name="t", ack="early", pool="process")(print)
    app.tasks["t"].send()
    isolation = Isolation(app.runtime, executor_of(app), ref=AppRef(target="tasks:app"), worker="w-1", always=True)
    isolation._closed = closed
    child: Any = SimpleNamespace(cancelled=False, overran=False, exit_reason=lambda: "exited with code 1")

    outcome = isolation._without_answer(child, prepared(app))

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


@pytest.fixture
def deaf() -> Iterator[tuple[_BodyProcess, Connection]]:
    """A process for bodies that reads nothing, as if it were stopped, and its end of the pipe."""
    with ExitStack() as ends:
        here, there = (ends.enter_context(Connection(end.detach())) for end in socket.socketpair())
        status, tells = os.pipe()
        ends.callback(os.close, tells)
        process: Any = SimpleNamespace(
            pid=os.getpid(), pipe=here, status=ends.enter_context(Connection(status, writable=False))
        )
        body = _BodyProcess(process)
        FramedSocket(there.fileno()).send(pickle.dumps(1))
        body.wait_until_ready()
        yield body, there
        there.close()
        wait_until(lambda: "queuekit-delivery" not in {one.name for one in threading.enumerate()}, what="the sender")


def test_limit_holds_where_a_large_delivery_is_not_read(deaf: tuple[_BodyProcess, Connection]) -> None:
    """A process that was stopped between two bodies is given up at the hard limit, however large the message is."""
    app = make_app()
    app.task(name="t", time_limit=0.1)(print)
    app.tasks["t"].send(BEYOND_BUFFERS)

    assert deaf[0].call(prepared(app)) is None
    assert deaf[0].overran
    app.close()


def test_limit_holds_where_an_answer_stops_half_way(deaf: tuple[_BodyProcess, Connection]) -> None:
    """A process that is stopped while it sends a large outcome is given up at the hard limit."""
    app = make_app()
    app.task(name="t", time_limit=0.1)(print)
    app.tasks["t"].send()
    os.write(deaf[1].fileno(), struct.pack("=Q", 1_000) + b"half")

    assert deaf[0].call(prepared(app)) is None
    assert deaf[0].overran
    app.close()


def test_an_answer_that_ends_half_way_is_none(deaf: tuple[_BodyProcess, Connection]) -> None:
    """The process was killed while it sent it."""
    app = make_app()
    app.task(name="t")(print)
    app.tasks["t"].send()
    with socket.socket(fileno=os.dup(deaf[1].fileno())) as end:
        end.sendall(struct.pack("=Q", 1_000) + b"half")
        end.shutdown(socket.SHUT_WR)

    assert deaf[0].call(prepared(app)) is None
    app.close()


def test_a_body_that_comes_with_the_stop_of_its_worker_goes_back() -> None:
    """Its process has just ended, and there is no fork server any more: nothing is wrong, and nothing is printed."""
    app = make_app()
    app.task(name="t", pool="process")(print)
    app.tasks["t"].send()
    isolation = Isolation(app.runtime, executor_of(app), ref=AppRef(target="tasks:app"), worker="w-1", always=True)
    isolation.close(0.5)

    outcome = isolation.call(0, prepared(app))

    assert (outcome.status, outcome.settlement) == ("returned", Release(outcome.delivery))
    app.close()


def test_large_delivery_that_was_not_read_has_not_begun(deaf: tuple[_BodyProcess, Connection]) -> None:
    """The process ended while it was idle: nobody is blamed for that."""
    app = make_app()
    app.task(name="t")(print)
    app.tasks["t"].send(BEYOND_BUFFERS)
    deaf[1].close()

    with pytest.raises(_NotBegunError):
        deaf[0].call(prepared(app))
    app.close()
