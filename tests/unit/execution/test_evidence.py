"""What is known of a dead letter is known for as long as there is one."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from queuekit import Queuekit, State
from queuekit.backend import Record
from queuekit.broker import Place
from queuekit.control import Reject
from queuekit.failure import shortened
from queuekit.operations.admin import Admin
from queuekit.wire.records import result_key
from support.working import burst, make_app

DAY = 86_400.0


@pytest.fixture(params=["memory", "sqlite"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Queuekit:
    """Return an app that keeps results for a second."""
    url: dict[str, Any] = {} if request.param == "memory" else {"broker": f"sqlite:///{tmp_path}/jobs.db"}
    app = make_app(results_expire="1s", **url)
    app.task(name="fail")(fail)
    app.task(name="ignored", ignore_result=True)(fail)
    app.task(name="early", ack="early")(fail)
    app.task(name="rejected")(rejected)
    return app


def fail() -> None:
    """Raise."""
    raise ValueError("why")


def rejected() -> None:
    """Reject the message."""
    raise Reject("not for me")


def record_of(app: Queuekit, id: str) -> Record | None:
    """Return what is stored of a message."""
    return app.runtime.need_backend("test").get([result_key(id)]).get(result_key(id))


@pytest.mark.parametrize("name", ["fail", "ignored", "rejected"])
def test_a_dead_letter_keeps_its_evidence(app: Queuekit, name: str) -> None:
    """State, traceback and times do not expire while the message lies there, also if its task's results are ignored."""
    result = app.tasks[name].send()
    burst(app)

    record, sight = record_of(app, result.id), Admin(app).show(result.id)

    assert record is not None
    assert record.ttl is None
    assert sight.info.state in {State.FAILURE, State.DEAD}
    assert "raise " in sight.info.traceback
    assert sight.info.finished is not None


def test_a_failure_that_leaves_no_letter_expires(app: Queuekit) -> None:
    """What was acknowledged early leaves a result like any other."""
    result = app.tasks["early"].send()
    burst(app)

    record = record_of(app, result.id)

    assert record is None or record.ttl is not None


@pytest.mark.parametrize("act", ["drop", "drop-all", "purge"])
def test_evidence_expires_once_its_letter_is_gone(app: Queuekit, act: str) -> None:
    """Whatever takes the letter away lets the rest expire as other results do."""
    result, admin = app.tasks["fail"].send(), Admin(app)
    burst(app)

    acts: dict[str, Any] = {
        "drop": lambda: admin.drop("default", [result.id]),
        "drop-all": lambda: admin.drop("default"),
        "purge": lambda: admin.purge("default", Place.DEAD),
    }
    acts[act]()

    record = record_of(app, result.id)
    assert list(admin.dead()) == []
    assert record is None or (record.ttl is not None and record.ttl <= 1.0)


@pytest.mark.parametrize(("name", "state"), [("fail", State.PENDING), ("ignored", State.UNKNOWN)])
def test_a_replayed_letter_waits_again(app: Queuekit, name: str, state: State) -> None:
    """Its record says so, and that of a task whose results are ignored is gone."""
    result, admin = app.tasks[name].send(), Admin(app)
    burst(app)

    assert admin.replay("default", [result.id]) == [result.id]

    assert result.state is state


def test_evidence_lives_as_long_as_the_service_keeps_letters() -> None:
    """Where the service itself throws dead letters away, what explains them goes at that time, and not before."""
    app = make_app(results_expire="1s")
    app.task(name="fail")(fail)
    broker = app.runtime.broker
    broker.limits = attrs.evolve(broker.limits, dead_retention=14 * DAY)
    result = app.tasks["fail"].send()
    burst(app)

    record = record_of(app, result.id)

    assert record is not None
    assert record.ttl is not None
    assert 13 * DAY < record.ttl <= 14 * DAY


def test_a_long_traceback_keeps_both_ends() -> None:
    """Of at most 16 KiB the beginning tells where it happened, and the end what."""
    text = "first line\n" + "\N{SNOWMAN}" * 20_000 + "\nlast line"

    short = shortened(text)

    assert len(short.encode()) <= 16_384
    assert short.startswith("first line")
    assert short.endswith("last line")
    assert shortened("short") == "short"
