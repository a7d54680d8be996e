"""What a worker reports of itself."""

from collections.abc import Iterable

from queuekit.clock import VirtualClock
from queuekit.execution.outcome import Run
from queuekit.worker.memory import resident_bytes
from queuekit.worker.presence import Report, about_this_process
from support.working import flaky_app, make_app, prepared


def report(runs: Iterable[Run] = (), *, clock: VirtualClock, done: Iterable[int] = (0,), **settings: object) -> Report:
    """Return a report of a worker that holds *runs* and has *done* so many deliveries at each call."""
    counts = iter(done)
    return Report(
        make_app(clock=clock, **settings).runtime,
        runs=lambda: runs,
        done=lambda: next(counts),
        silence=lambda: 0.04,
        ages=dict,
        draining=lambda: True,
        unknown=["new.task"],
    )


def begun(clock: VirtualClock) -> Run:
    """Return a run that begins now."""
    app = make_app(clock=clock)
    app.task(name="t")(print)
    app.tasks["t"].send()
    run = prepared(app)
    run.started = clock.monotonic()
    return run


def test_names_what_runs_longest_first() -> None:
    """Not what waits for a thread, nor what has ended."""
    clock = VirtualClock()
    first = begun(clock)
    clock.advance(5)
    second, waiting, ended = begun(clock), begun(clock), begun(clock)
    waiting.started = None
    ended.claim()
    clock.advance(2)

    rows = report([second, first, waiting, ended], clock=clock)()["runs"]

    assert rows == [(first.message.id, "t", "default", 7.0), (second.message.id, "t", "default", 2.0)]


def test_counts_what_was_done_since_the_last_report() -> None:
    """Per second."""
    clock = VirtualClock()
    facts = report(clock=clock, done=[0, 50, 50])
    rates = []
    for seconds in (0, 10, 10):
        clock.advance(seconds)
        rates.append(facts()["rate"])

    assert rates == [0.0, 5.0, 0.0]


def test_reports_memory_and_state() -> None:
    """As the process is at that moment."""
    facts = report(clock=VirtualClock())()

    assert (facts["draining"], facts["unknown"], facts["silent"]) == (True, ["new.task"], 0.0)
    assert facts["rss"] == resident_bytes() or facts["rss"] > 1_000_000


def test_says_what_the_process_is() -> None:
    """Where it runs, and which versions."""
    facts = about_this_process(flaky_app(app_version="v7", worker={"queues": "a,b", "concurrency": 3}).runtime)

    assert (facts["app_version"], facts["queues"], facts["slots"], facts["pool"]) == ("v7", ["a", "b"], 3, "thread")
    assert facts["host"]
    assert facts["version"]
