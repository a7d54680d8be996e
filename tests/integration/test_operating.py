"""An operator at work on each engine: look, with workers that run in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from queuekit import Queuekit
from support import operating
from support.engines import ENGINES
from support.reasons import UNTOLD, WAYS, reach
from support.waiting import UNHURRIED

NIGHTLY = {"mongo": pytest.mark.full}
"""Engines for `tox -e full`: what operators do is above the engine, and the suites try what it asks of each."""
OTHERS = [pytest.param(name, marks=NIGHTLY.get(name, ())) for name in ("redis", "mongo")]
"""Engines on which no other test drains a worker or closes a gate."""


@pytest.fixture(params=[pytest.param(name, marks=NIGHTLY.get(name, ())) for name in ENGINES])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Queuekit]:
    """Return an app with queues of its own on an engine."""
    made = Queuekit(send_timeout=UNHURRIED, app_version="v7", **ENGINES[request.param](tmp_path))
    yield made
    made.close()


def test_looks_at_messages_and_workers(app: Queuekit) -> None:
    """Who runs what, which messages wait where, and why one does not run."""
    operating.look(app)


def test_kills_a_body(app: Queuekit) -> None:
    """Who did it and when is recorded, also where somebody has cancelled it before."""
    operating.kill_a_body(app)


def test_surveys_what_waits(app: Queuekit) -> None:
    """Which waiting messages the code at hand cannot run, or why that is not known."""
    operating.survey_waiting(app)


def test_reaches_each_reason(app: Queuekit) -> None:
    """``why`` gives the same answers on each engine, as far as its broker reports messages."""
    answers = reach(app)

    assert answers == {code: code for code in answers}
    assert set(WAYS) - set(answers) <= UNTOLD


def test_sorts_dead_letters(app: Queuekit) -> None:
    """What failed in the same way is one group; a filter chooses what is replayed or deleted."""
    operating.sort_dead_letters(app)


def test_bounds_dead_letters(app: Queuekit) -> None:
    """By number and age, the oldest first; what was dropped is remembered."""
    operating.bound_dead_letters(app)


@pytest.mark.parametrize("app", OTHERS, indirect=True)
def test_drains_a_worker(app: Queuekit) -> None:
    """It finishes what it runs, hands the rest back, and ends."""
    operating.drain_a_worker(app)


@pytest.mark.parametrize("app", OTHERS, indirect=True)
def test_holds_back_by_gate(app: Queuekit) -> None:
    """As long as the app's own function says so."""
    operating.hold_back_by_gate(app)


def test_refuses_the_cursor_of_another_list(app: Queuekit) -> None:
    """It is the user's mistake, and no fault of the engine."""
    operating.refuse_a_cursor(app)


def test_pauses_and_resumes(app: Queuekit) -> None:
    """A queue, and the messages of a task with certain arguments; the worker obeys within seconds, and says so."""
    operating.pause_and_resume(app)


def test_moves_messages(app: Queuekit) -> None:
    """To another queue and back, with their ids and unique keys."""
    operating.move_messages(app)
