"""An operator at work on SQS, which reports no single messages: answers come from records and workers."""

import secrets
from collections.abc import Iterator

import pytest

from queuekit import Queuekit
from support import operating
from support.aws_servers import AwsServer
from support.reasons import UNTOLD, WAYS, reach
from support.waiting import UNHURRIED


@pytest.fixture
def app(ministack_server: AwsServer) -> Iterator[Queuekit]:
    """Return an app with queues and records of its own."""
    mark = secrets.token_hex(4)
    broker, backend = ministack_server.sqs(mark), ministack_server.dynamodb(mark)
    made = Queuekit(send_timeout=UNHURRIED, broker=broker, backend=backend)
    yield made
    made.close()


def test_looks_at_messages_and_workers(app: Queuekit) -> None:
    """Who runs what, which messages wait where, and why one does not run."""
    operating.look(app)


@pytest.mark.full
def test_kills_a_body(app: Queuekit) -> None:
    """Who did it and when is recorded, also where somebody has cancelled it before."""
    operating.kill_a_body(app)


def test_surveys_what_waits(app: Queuekit) -> None:
    """Which waiting messages the code at hand cannot run, or why that is not known."""
    operating.survey_waiting(app)


@pytest.mark.full
def test_reaches_each_reason(app: Queuekit) -> None:
    """``why`` gives the same answers on each engine, as far as its broker reports messages."""
    answers = reach(app)

    assert answers == {code: code for code in answers}
    assert set(WAYS) - set(answers) <= UNTOLD


def test_sorts_dead_letters(app: Queuekit) -> None:
    """What failed in the same way is one group; a filter chooses what is replayed or deleted."""
    operating.sort_dead_letters(app)


def test_refuses_the_cursor_of_another_list(app: Queuekit) -> None:
    """It is the user's mistake, and no fault of the engine."""
    operating.refuse_a_cursor(app)


@pytest.mark.full
def test_pauses_and_resumes(app: Queuekit) -> None:
    """A queue, and the messages of a task with certain arguments; the worker obeys within seconds, and says so."""
    operating.pause_and_resume(app)


@pytest.mark.full
def test_bounds_dead_letters(app: Queuekit) -> None:
    """By number and age, the oldest first; what was dropped is remembered."""
    operating.bound_dead_letters(app)


@pytest.mark.full
def test_moves_messages(app: Queuekit) -> None:
    """To another queue and back, with their ids and unique keys."""
    operating.move_messages(app)
