"""What operators see of lanes: the place of a message, the lanes of a queue, and the messages of one lane."""

import json
from pathlib import Path

import pytest

from queuekit import Queuekit, Signature
from queuekit.broker import Place
from queuekit.envelope import Lane
from queuekit.limits import arg
from queuekit.operations.admin import Admin
from queuekit.operations.filters import parse_filter
from queuekit.operations.lane_counts import LOOKED_AT as COUNTED
from queuekit.operations.lane_counts import LaneCounts, count_lanes
from queuekit.operations.lane_places import LOOKED_AT
from queuekit.operations.listing import list_messages
from queuekit.operations.why import collect, reasons
from support.commands import queuekit
from support.working import make_app


@pytest.fixture
def app() -> Queuekit:
    """Return an app with three messages of one lane, two of another, and one of a third, whose weight is 2."""
    app = make_app()
    app.task(name="report", fair_by=arg("tenant"))(lambda tenant: tenant)
    for tenant, count in {"a": 3, "b": 2}.items():
        app.send_many([Signature("report", (tenant,), id=f"{tenant}-{number}") for number in range(count)])
    app.send(Signature("report", ("c",), id="c-0", fair_by=Lane("c", 2)))
    return app


def why(app: Queuekit, id: str) -> str:
    """Return the first reason why a message does not run, of those that hold in a queue that a worker serves."""
    found = {reason.code: reason.text for reason in reasons(collect(Admin(app), id))}
    return found["behind"]


@pytest.mark.parametrize(
    ("id", "place"),
    [
        ("c-0", "in the lane 'c' of weight 2, 0 of its lane and 0 of others come before it"),
        ("a-1", "in the lane 'a', 1 of its lane and 2 of others come before it"),
        ("a-2", "in the lane 'a', 2 of its lane and 3 of others come before it"),
    ],
)
def test_why_says_what_comes_before(app: Queuekit, id: str, place: str) -> None:
    """Of the lane, and of others, in the order of turns."""
    assert f"it waits for its turn {place}: " in why(app, id)


def test_lane_is_the_same_at_another_weight(app: Queuekit) -> None:
    """As after a release that changes weights, or a call with a lane of its own."""
    app.send(Signature("report", ("c",), id="c-1"))

    assert "in the lane 'c', 1 of its lane and " in why(app, "c-1")


def test_why_looks_at_the_head_alone(app: Queuekit) -> None:
    """The place of a message that is far back is told at the cost of a page."""
    app.send_many([Signature("report", ("a",)) for _ in range(LOOKED_AT)])
    app.send(Signature("report", ("a",), id="last"))

    assert "at least 197 of its lane and 3 of others come before it" in why(app, "last")


def test_list_shows_and_selects_lanes(app: Queuekit) -> None:
    """In the order of turns; a filter selects the messages of a lane."""
    listing = list_messages(Admin(app), "default", Place.READY)
    chosen = list_messages(Admin(app), "default", Place.READY, wanted=parse_filter(["lane:b"]))

    assert [one.lane for one in listing.messages[:3]] == ["c", "a", "b"]
    assert [one.id for one in chosen.messages] == ["b-0", "b-1"]


APP = """
from queuekit import Queuekit
app = Queuekit(broker="sqlite:///jobs.db")

@app.task(name="report")
def report(tenant): ...
"""


def test_send_into_a_lane_and_list_it(tmp_path: Path) -> None:
    """``send --lane`` sets the lane of a call, and ``ls`` prints it, also as JSON and in the next command."""
    (tmp_path / "shop.py").write_text(APP)
    told = ("--app", "shop:app")

    queuekit(*told, "send", "report", "7", folder=tmp_path)
    plain = queuekit(*told, "ls", "default", folder=tmp_path).stdout
    sent = queuekit(*told, "send", "report", "7", "--lane", "acme", folder=tmp_path)
    listed = queuekit(*told, "ls", "default", folder=tmp_path).stdout.splitlines()
    queuekit(*told, "send", "report", "7", "--lane", "two words", folder=tmp_path)
    queuekit(*told, "send", "report", "7", "--lane", "two words", folder=tmp_path)
    first = queuekit(*told, "ls", "default", "lane:two words", "--limit", "1", folder=tmp_path)
    as_json = json.loads(queuekit(*told, "ls", "default", "lane:acme", "--json", folder=tmp_path).stdout)

    assert sent.returncode == 0, sent.stderr
    assert "LANE" not in plain
    assert listed[0].split()[:4] == ["ID", "TASK", "LANE", "ATTEMPT"]
    assert [line.split()[2] for line in listed[1:3]] == ["-", "acme"]
    assert "ls default 'lane:two words' --state" in first.stderr
    assert [one["lane"] for one in as_json["messages"]] == ["acme"]


def test_lanes_of_a_queue_are_counted(app: Queuekit) -> None:
    """Those in which most messages wait come first; the common lane is one of them."""
    app.send(Signature("report", (None,), id="common"))
    admin = Admin(app)
    (view,) = admin.queues()

    found = count_lanes(admin, view)

    assert found == LaneCounts(waiting={"a": 3, "b": 2, "c": 1, "": 1}, more=0, whole=True)


def test_lanes_are_counted_at_the_cost_of_a_page(app: Queuekit) -> None:
    """Of a long queue with many lanes, the head is looked at, and ten lanes are shown."""
    app.send_many([Signature("report", (f"t-{number % 30}",)) for number in range(2 * COUNTED)])
    admin = Admin(app)
    (view,) = admin.queues()

    found = count_lanes(admin, view)

    assert found is not None
    assert (len(found.waiting), found.more, found.whole) == (10, 23, False)
    assert sum(found.waiting.values()) <= COUNTED


def test_lanes_are_asked_for_where_tasks_have_them_alone() -> None:
    """An app without fair_by pays nothing, and a queue where nothing waits has none."""
    plain, fair = make_app(), make_app()
    plain.task(name="report")(lambda tenant: tenant)
    plain.send(Signature("report", ("a",)))
    fair.task(name="report", fair_by=arg("tenant"))(lambda tenant: tenant)

    for app in (plain, fair):
        admin = Admin(app)
        assert [count_lanes(admin, view) for view in admin.queues()] == [None] * len(admin.queues())


LANES = """
from queuekit import Queuekit
from queuekit.limits import arg

app = Queuekit(broker="sqlite:///jobs.db")


@app.task(fair_by=arg("tenant"))
def report(tenant: str | None) -> None:
    pass
"""


def test_queues_shows_the_lanes(tmp_path: Path) -> None:
    """Below the queues, as text, and with each queue as JSON."""
    (tmp_path / "fairly.py").write_text(LANES)
    app = Queuekit(broker=f"sqlite:///{tmp_path}/jobs.db")
    app.send_many([Signature("report", ("x",), fair_by=Lane(lane), ignore_result=True) for lane in ("a", "b", "b", "")])
    app.close()

    shown = queuekit("--app", "fairly:app", "queues", folder=tmp_path)
    (queue,) = json.loads(queuekit("--app", "fairly:app", "queues", "--json", folder=tmp_path).stdout)

    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.split("LANE", 1)[1].split()[:4] == ["WAITING", "default", "b", "2"]
    assert "(common)" in shown.stdout
    assert queue["lanes"][0] == {"lane": "b", "waiting": 2}
    assert queue["lanes_complete"] is True
