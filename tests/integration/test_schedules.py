"""Schedules under kills: whichever worker leads, no tick is lost and none is run twice."""

import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from queuekit import every
from queuekit.schedules.due import MISFIRES
from support.cron_tasks import app, note
from support.engines import ENGINES
from support.fleet import Fleet, Group, freeze
from support.waiting import wait_until

APP = "support.cron_tasks:app"
LEASE = 1.0
"""Seconds; the lead is held for half of them, so that a test need not wait."""
LEADS = re.compile(r"\S+-(\d+) is now the scheduler leader")


@pytest.fixture(
    params=[pytest.param(name, marks=() if name == "sqlite" else pytest.mark.torture, id=name) for name in ENGINES]
)
def crew(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    """Workers and schedulers of an app that declares schedules."""
    made = Fleet(tmp_path, app, **ENGINES[request.param](tmp_path))
    yield made
    made.close()
    print(made.logs())  # noqa: T201 - pytest shows it where a test has failed


def start(crew: Fleet, **settings: object) -> Group:
    """Start a worker with one process."""
    return crew.start_ready(app=APP, **{"lease": LEASE, "concurrency": 2, **settings})


def ticks(crew: Fleet, word: str = "tick") -> list[str]:
    """Return the times of all messages that were run for ticks, in order; one that ran again is still one."""
    messages = {line.id for line in crew.ledger.lines(word)}
    return sorted(message.partition("/")[0] for message in messages)


def reached(crew: Fleet, count: int, word: str = "tick") -> None:
    """Wait until so many ticks have run."""
    wait_until(lambda: len(ticks(crew, word)) >= count, what=f"{count} ticks\n{crew.logs()}")


def leader(crew: Fleet) -> tuple[Group, int]:
    """Return the worker that leads, and the process in it that does."""

    def found() -> tuple[Group, int] | None:
        for group in crew.groups:
            pids = LEADS.findall(group.read_log())
            if pids and group.alive() and int(pids[-1]) in group.members():
                return group, int(pids[-1])
        return None

    one: tuple[Group, int] = wait_until(found, what="a leader")
    return one


def assert_each_once(crew: Fleet, word: str = "tick", *, step: float = 0.5) -> None:
    """Assert that each tick from the first to the last that ran has run, by one message; they may end out of order."""
    moments = sorted({datetime.fromisoformat(moment) for moment in ticks(crew, word)})
    steps = int((moments[-1] - moments[0]) / timedelta(seconds=step))
    expected = {moments[0] + index * timedelta(seconds=step) for index in range(steps + 1)}
    found: Counter[datetime] = wait_until(
        lambda: (ran := _counted(crew, word)).keys() >= expected and ran, what=f"each {word}\n{crew.logs()}"
    )
    assert {moment: count for moment, count in found.items() if count > 1} == {}
    assert [moment for moment in found if moments[0] <= moment <= moments[-1] and moment not in expected] == []


def _counted(crew: Fleet, word: str) -> Counter[datetime]:
    return Counter(datetime.fromisoformat(moment) for moment in ticks(crew, word))


def test_killed_leaders_lose_no_tick(crew: Fleet) -> None:
    """Five processes, the leading one killed twice: each tick runs once, also those of the gaps."""
    start(crew, processes=5, drain=1)
    for _ in range(2):
        done = len(ticks(crew))
        reached(crew, done + 4)
        _, pid = leader(crew)
        os.kill(pid, signal.SIGKILL)
    done = len(ticks(crew))

    reached(crew, done + 8)
    reached(crew, 1, "first")
    reached(crew, len(ticks(crew, "first")), "pair")

    assert_each_once(crew)
    assert_each_once(crew, "first", step=2.0)
    assert_each_once(crew, "pair", step=2.0)


def test_frozen_leader_sends_nothing_twice(crew: Fleet) -> None:
    """A leader that stands still is replaced; when it goes on, it leads no longer and sends nothing again."""
    start(crew)
    start(crew)
    reached(crew, 2)
    group, pid = leader(crew)
    freeze(pid)
    others = [other for other in crew.groups if other is not group]
    wait_until(lambda: LEADS.search(others[0].read_log()), what="another leader")
    reached(crew, len(ticks(crew)) + 4)

    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: "has lost the scheduler leadership" in group.read_log(), what="the old leader yielding")
    reached(crew, len(ticks(crew)) + 4)

    assert_each_once(crew)


def test_stopped_leader_hands_over_at_once(crew: Fleet) -> None:
    """A deploy does not wait for the end of a lease: who stops gives the lead back, and no tick is lost."""
    start(crew, lease=30)
    reached(crew, 2)
    start(crew, lease=30)
    group, pid = leader(crew)
    group.signal(signal.SIGTERM)
    assert group.wait() == 0
    held = app.runtime.need_backend("a test").get(["leader:crons"]).get("leader:crons")
    done = len(ticks(crew))

    reached(crew, done + 2)

    assert held is None or f"-{pid}.".encode() not in held.body
    assert_each_once(crew)


def test_restart_after_downtime_applies_the_policy(crew: Fleet) -> None:
    """While nobody was there: one tick of ``once``, none of ``skip``, each of ``all``."""
    start(crew)
    reached(crew, 1)
    for misfire in MISFIRES:
        app.schedules.add(misfire, every("500ms"), note.s(misfire), misfire=misfire, grace=0.1)
    wait_until(lambda: all(ticks(crew, word) for word in MISFIRES), what="a tick of each")
    crew.groups[0].kill()
    done = {word: len(ticks(crew, word)) for word in MISFIRES}
    last = datetime.fromisoformat(ticks(crew, "all")[-1])
    wait_until(lambda: datetime.now(last.tzinfo) > last + timedelta(seconds=3), what="some downtime")

    start(crew)
    wait_until(lambda: all(len(ticks(crew, word)) > done[word] for word in MISFIRES), what="ticks again")
    reached(crew, done["all"] + 6, "all")

    assert_each_once(crew, "all")
    for word in ("once", "skip"):
        assert len(set(ticks(crew, word))) == len(ticks(crew, word)) < len(ticks(crew, "all"))
        wait_until(lambda each=word: app.schedules.get(each).progress.missed >= 3, what=f"the account of {word}")


def test_operator_is_obeyed_while_workers_run(crew: Fleet) -> None:
    """Paused it rests, resumed it goes on, removed it is gone; another schedule is not touched by that."""
    start(crew)
    app.schedules.add("extra", every("500ms"), note.s("extra"))
    reached(crew, 2, "extra")

    app.schedules.pause("extra")
    paused = datetime.now().astimezone()
    reached(crew, len(ticks(crew)) + 4)
    before = [tick for tick in ticks(crew, "extra") if datetime.fromisoformat(tick) > paused]
    app.schedules.resume("extra")
    reached(crew, len(ticks(crew, "extra")) + 2, "extra")
    app.schedules.remove("extra")
    removed = datetime.now().astimezone()
    reached(crew, len(ticks(crew)) + 4)

    assert before == []
    assert [tick for tick in ticks(crew, "extra") if datetime.fromisoformat(tick) > removed] == []
    assert_each_once(crew)


def test_scheduler_alone_sends(crew: Fleet) -> None:
    """Workers that may not send ticks run those of ``queuekit scheduler``, which stops when told to."""
    worker = start(crew, schedules=False)
    scheduler = crew.start(app=APP, command="scheduler", lease=LEASE)

    reached(crew, 3)
    scheduler.signal(signal.SIGTERM)

    assert scheduler.wait() == 0
    assert not LEADS.search(worker.read_log())
    assert LEADS.search(scheduler.read_log())
    assert_each_once(crew)
