"""A fetch that does not come back, and descriptors that are gone: what a worker finds out about itself."""

import logging
import os
import threading

import pytest

from queuekit import Queuekit
from queuekit.worker import Worker
from queuekit.worker.stuck import StuckFetch
from queuekit.worker.witness import Witness
from support.waiting import wait_until
from support.working import make_app


class Fetch:
    """A fetch as it is seen."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.idle = False
        self.stuck = StuckFetch(
            worker="w",
            thread=threading.current_thread,
            overtime=lambda: self.seconds,
            idle=lambda: self.idle,
        )


def test_a_fetch_that_comes_back_is_none_of_its_business() -> None:
    """An engine that is slow gives up by itself."""
    fetch = Fetch()
    fetch.idle = True
    fetch.seconds = 30.0

    assert fetch.stuck.check() == ""


def test_a_stuck_fetch_is_told_once_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    """While other messages are in hand it is only told; then the worker cannot go on."""
    fetch = Fetch()
    fetch.seconds = 61.0
    found = []
    with caplog.at_level(logging.ERROR, logger="queuekit.worker"):
        found += [fetch.stuck.check(), fetch.stuck.check()]
        fetch.idle = True
        found.append(fetch.stuck.check())

    assert found == ["", "", "a fetch has not returned for 61 s"]
    assert len(caplog.records) == 1
    assert "test_a_stuck_fetch_is_told_once_with_its_stack" in caplog.text


def test_a_worker_whose_plugin_hangs_in_a_fetch_does_not_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends, so that its supervisor starts another; without one it stops and says that it has failed."""
    monkeypatch.setattr("queuekit.worker.stuck._BOUND", 0.1)
    monkeypatch.setattr("queuekit.worker.watch.LOOK", 0.01)
    monkeypatch.setattr("queuekit.worker.fetcher._LONGEST_WAIT", 0.1)
    app: Queuekit = make_app(worker={"drain": 0.2})
    back = threading.Event()

    def receive(*_args: object, **_options: object) -> list[object]:
        back.wait(60)
        return []

    monkeypatch.setattr(app.runtime.broker, "receive", receive)
    try:
        assert Worker(app).run() == 1
    finally:
        back.set()


def test_a_witness_knows_that_descriptors_are_gone() -> None:
    """Closed, or in the place of another file; and it closes none but its own."""
    witness = Witness()
    before = witness.check()
    witness.open()
    open_, number = witness.check(), witness._descriptor
    os.close(number)
    closed = witness.check()
    other = os.open(os.devnull, os.O_RDONLY)
    os.dup2(other, number)
    replaced = witness.check()
    witness.close()
    for each in {other, number}:
        os.close(each)

    gone = "a task has closed the file descriptors of its worker"
    assert (before, open_, closed, replaced) == ("", "", gone, gone)


def test_a_worker_gives_its_witness_back() -> None:
    """Workers that come and go leave no descriptor behind."""
    app = make_app()
    worker = Worker(app, burst=True)

    assert worker.run() == 0
    wait_until(lambda: worker._witness._identity is None)
