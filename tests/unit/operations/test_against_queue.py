"""Which waiting messages the code at hand cannot run."""

import pytest

from queuekit import Queuekit, Signature, chord, group
from queuekit.envelope import Envelope
from queuekit.errors import CapabilityError
from queuekit.operations.admin import Admin
from queuekit.operations.against_queue import Unfit, survey
from support.working import make_app


def pay(amount: int, currency: str) -> None:
    """Take two arguments."""


def total(numbers: list[int]) -> int:
    """Take the results of a group."""
    return sum(numbers)


def waiting() -> Queuekit:
    """Return an app of the release to come, and a queue with messages of the one before."""
    app = make_app()
    app.task(name="pay")(pay)
    app.task(name="total")(total)
    return app


def test_tells_what_it_cannot_run_and_why() -> None:
    """By task and reason, most first, with one id of each; what waits for later counts as well."""
    app = waiting()
    app.send_many([Signature("pay", (1,), {}, id=f"old-{number}") for number in range(3)])
    app.send(Signature("gone", (), {}, id="gone-1", delay=3600.0))
    app.send(Signature("pay", (1, "EUR"), {}))

    found = survey(Admin(app), app.tasks)

    assert (found.looked, found.complete) == (5, True)
    text = "pay(amount: int, currency: str) -> None: missing a required argument: 'currency'"
    assert found.unfit == (
        Unfit(task="pay", queue="default", code="arguments", text=text, count=3, sample="old-0"),
        Unfit(task="gone", queue="default", code="unknown_task", text="no such task here", count=1, sample="gone-1"),
    )


@pytest.mark.parametrize(
    ("header", "code", "task"),
    [
        ('{"v":2,"id":"id-1","task":"pay","ct":"json"}', "unreadable", "pay"),
        ('{"v":1,"id":"id-1","task":"pay","ct":"avro"}', "unreadable", "pay"),
        ('{"v":1,"id":"another","task":"pay","ct":"json"}', "malformed", "pay"),
        ("no header", "malformed", ""),
    ],
    ids=["newer", "serializer", "id", "bytes"],
)
def test_tells_what_it_cannot_read(header: str, code: str, task: str) -> None:
    """Newer versions and other serializers, and what no release has written."""
    app = waiting()
    app.runtime.broker.send([Envelope(id="id-1", queue="default", body=f"{header}\n{{}}".encode())])

    (unfit,) = survey(Admin(app), app.tasks).unfit

    assert (unfit.code, unfit.task, unfit.sample) == (code, task, "id-1")


def test_counts_the_results_of_a_group_as_an_argument() -> None:
    """A callback gets them when it runs, and what is queuekit's own needs no task."""
    app = waiting()
    app.task(name="one")(lambda: 1)
    chord(group(app.tasks["one"].s(), app.tasks["one"].s()), app.tasks["total"].s()).send()
    app.send(Signature("total", ([1],), {}))

    assert not survey(Admin(app), app.tasks).unfit


def test_stops_at_its_limit() -> None:
    """However long the queue is, and says so."""
    app = waiting()
    app.send_many([Signature("gone") for _ in range(120)])

    found = survey(Admin(app), app.tasks, most=70)

    assert (found.looked, found.complete, found.unfit[0].count) == (70, False, 70)


def test_needs_a_broker_that_reports_its_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one it says what else there is."""
    app = waiting()
    monkeypatch.setattr(Admin, "untold", "SQS")

    with pytest.raises(CapabilityError, match="which SQS does not report"):
        survey(Admin(app), app.tasks)
