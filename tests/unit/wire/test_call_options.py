"""What the options of tasks and calls may be: refused where they are written, with what comes near."""

import enum
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from queuekit import Queuekit, Signature, UniqueKey, chain, every, group
from queuekit.durations import DurationError
from queuekit.envelope import Unique
from queuekit.errors import QueuekitError
from queuekit.ids import InvalidNameError
from queuekit.wire.call_options import OptionError
from support.working import burst, make_app


class Name(str, enum.Enum):  # noqa: UP042 - whose members show themselves otherwise
    """Names as members that show themselves differently from their text."""

    QUEUE = "high"
    TASK = "tasks.add"
    ID = "one-of-ours"
    HEADER = "tenant"


class Level(enum.IntEnum):
    """Priorities."""

    TOP = 9


def add(x: int, y: int = 1) -> int:
    """Add."""
    return x + y


def _by_decorator(options: dict[str, Any]) -> object:
    return make_app().task(name="tasks.add", **options)(add)


def _by_options(options: dict[str, Any]) -> object:
    return make_app().task(name="tasks.add")(add).options(**options)


def _by_signature(options: dict[str, Any]) -> object:
    return Signature("tasks.add", [1], **options)


def _by_copy(options: dict[str, Any]) -> object:
    return Signature("tasks.add", [1]).options(**options)


OF_CALLS = {"options": _by_options, "signature": _by_signature, "copy": _by_copy}
DOORS = {"decorator": _by_decorator, **OF_CALLS}
BOTH: dict[str, tuple[Any, str]] = {
    "retries-text": ({"retries": "3"}, "retries: expected a whole number, 0 or more, got '3'"),
    "retries-float": ({"retries": 2.0}, "retries: expected a whole number"),
    "retries-true": ({"retries": True}, "retries: expected a whole number"),
    "retries-negative": ({"retries": -1}, "retries: expected a whole number"),
    "retry-number": ({"retry": 3}, "retry: expected a policy .* write retries=3"),
    "priority-11": ({"priority": 11}, "priority: expected a whole number from 0 to 9, got 11"),
    "priority-float": ({"priority": 4.5}, "priority: expected a whole number from 0 to 9"),
    "priority-text": ({"priority": "high"}, "priority: expected a whole number from 0 to 9"),
    "queue-blank": ({"queue": "my queue"}, "'my queue' cannot name a queue"),
    "queue-number": ({"queue": 7}, "cannot name a queue"),
    "timeout-endless": ({"timeout": 2e10}, "timeout: expected"),
    "timeout-none-at-all": ({"timeout": 0}, "timeout: expected more than 0"),
    "timeout-text": ({"timeout": "soon"}, "timeout: expected a duration"),
    "expires-negative": ({"expires": -1}, "expires: expected a duration"),
    "ignore-result-number": ({"ignore_result": 0}, "ignore_result: expected True or False, got 0"),
    "unique-number": ({"unique": 5}, "unique: expected True, a key"),
    "unique-empty": ({"unique": ""}, "unique: expected a key that is non-empty text"),
    "unique-until": ({"unique": UniqueKey(key="k", until="end")}, 'until: expected "start", "done" or "ttl"'),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "unique-ttl": ({"unique": UniqueKey(key="k", ttl=0)}, "ttl: expected more than 0"),
    "misspelt": ({"prioritty": 3}, "has no option 'prioritty'; Did you mean 'priority'"),
    "unheard": ({"zzz": 3}, "has no option 'zzz'; Options: "),
}
CALLS: dict[str, tuple[Any, str]] = {
    "header-number": ({"headers": {"user": 42}}, r"headers\['user'\]: expected text, got 42; Write it as text"),
    "header-none": ({"headers": {"user": None}}, r"headers\['user'\]: expected text, got None"),
    "header-name": ({"headers": {1: "a"}}, "headers: expected names that are text, got 1"),
    "headers-text": ({"headers": "user"}, "headers: expected text by name"),
    "id-uuid": ({"id": uuid.UUID(int=7)}, "cannot name a message"),
    "delay-text": ({"delay": "later"}, "delay: expected a duration"),
    "eta-number": ({"eta": 5.0}, "eta must be a datetime, not 5.0; For seconds from now use delay"),
    "on-success-workflow": (
        {"on_success": [chain(Signature("a"))]},
        "on_success and on_error take signatures, not Chain",
    ),
    "on-error-text": ({"on_error": "tasks.tell"}, "on_success and on_error take signatures, not str"),
}
TASKS: dict[str, tuple[Any, str]] = {
    "retry-on-text": ({"retry_on": "ValueError"}, "retry_on: expected exception classes.* Write retry_on=ValueError"),
    "retry-on-texts": ({"retry_on": ["ValueError"]}, "retry_on: expected exception classes"),
    "retry-on-instance": ({"retry_on": (ValueError(),)}, "retry_on: expected .* Name its class, ValueError"),
    "retry-on-class": ({"retry_on": int}, "retry_on: expected exception classes"),
    "dont-retry-text": ({"dont_retry": "KeyError"}, "dont_retry: expected exception classes"),
    "dont-retry-none": ({"dont_retry": None}, "dont_retry: expected exception classes"),
    "track-number": ({"track": 1}, "track: expected True or False"),
    "ack-misspelt": ({"ack": "erly"}, 'ack: expected "late" or "early", got .erly.; Did you mean .early.'),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize(("options", "text"), BOTH.values(), ids=BOTH)
def test_one_check_for_all_doors(door: Callable[[Any], object], options: Any, text: str) -> None:
    """What a message cannot carry is refused where it is written, by the decorator as for one call."""
    with pytest.raises((OptionError, InvalidNameError, DurationError), match=text) as caught:
        door(options)

    assert isinstance(caught.value, QueuekitError)


@pytest.mark.parametrize("door", OF_CALLS.values(), ids=OF_CALLS)
@pytest.mark.parametrize(("options", "text"), CALLS.values(), ids=CALLS)
def test_options_that_only_calls_have(door: Callable[[Any], object], options: Any, text: str) -> None:
    """Headers, ids and moments are checked as early."""
    with pytest.raises((OptionError, InvalidNameError, DurationError), match=text):
        door(options)


@pytest.mark.parametrize(("options", "text"), TASKS.values(), ids=TASKS)
def test_options_that_only_tasks_have(options: Any, text: str) -> None:
    """A wrong class of exceptions would mask the error of the task in which it is first needed."""
    with pytest.raises(OptionError, match=text):
        _by_decorator(options)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        pytest.param(lambda: Signature("t", "abc"), "args: expected a list of arguments, got 'abc'", id="text"),
        pytest.param(lambda: Signature("t", 5), "args: expected a list", id="number"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        pytest.param(lambda: Signature("t", [], {1: 2}), "kwargs: expected names that are text", id="names"),  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
        pytest.param(lambda: Signature("t", [], [1]), "kwargs: expected arguments by name", id="list"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        pytest.param(lambda: group(Signature("t")).options(at_onec=1), "a group has no option 'at_onec'", id="group"),
    ],
)
def test_what_is_not_arguments(make: Callable[[], object], text: str) -> None:
    """A text is not taken for a list of its characters, nor anything else for arguments."""
    with pytest.raises(OptionError, match=text):
        make()


def test_members_of_enums_become_plain_where_they_enter() -> None:
    """No engine and no header sees a member, which would show itself as ``Name.QUEUE`` there."""
    signature = Signature[Any](
        Name.TASK,
        [1],
        {Name.HEADER: 2},
        id=Name.ID,
        queue=Name.QUEUE,
        priority=Level.TOP,
        headers={Name.HEADER: Name.ID},
        unique=UniqueKey(key=Name.ID),
    )
    key = signature.unique

    assert isinstance(key, Unique)
    found = [signature.task, signature.id, signature.queue, key.key, *signature.headers, *signature.kwargs]
    assert {type(value) for value in (*found, *signature.headers.values())} == {str}
    assert (found, type(signature.priority)) == (
        ["tasks.add", "one-of-ours", "high", "one-of-ours", "tenant", "tenant"],
        int,
    )


@pytest.mark.parametrize("eager", [False, True], ids=["worker", "eager"])
def test_a_queue_named_by_a_member_is_that_of_its_text(eager: bool) -> None:  # noqa: FBT001 - a parameter of a test
    """Settings, tasks, calls, workflows and handles take members: the message is found under the text."""
    app = make_app(default_queue=Name.QUEUE, worker={"queues": {Name.QUEUE: 1}}, eager=eager)
    task = app.task(name=Name.TASK, queue=Name.QUEUE)(add)
    result = task.options(id=Name.ID).send(1)
    flow = chain(task.s(1), task.s(2), id=Name.HEADER).send()
    if not eager:
        assert app.runtime.broker.queues() == ["high"]
        burst(app)

    assert (type(result.id), app.result(Name.ID).get(timeout=5), flow.get(timeout=5)) == (str, 2, 4)
    assert list(app.config.worker.queues) == ["high"]


def test_options_may_be_left_out_by_none() -> None:
    """``None`` leaves an option to the task, or to the settings."""
    names = ("queue", "priority", "retries", "retry", "timeout", "expires", "ignore_result", "unique")
    options: dict[str, Any] = dict.fromkeys(names)

    assert isinstance(_by_decorator(options), object)
    assert Signature("t", **options) == Signature("t")


def test_a_call_may_have_one_follow_up_that_is_no_list() -> None:
    """One signature counts as a list of one."""
    one = Signature[Any]("b")

    assert Signature("a", on_success=one).on_success == (one,)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_an_option_that_no_checker_sees() -> None:
    """Type checkers refuse unknown options too, so nothing was given up for the near miss."""
    app = Queuekit(broker="memory://")

    with pytest.raises(OptionError, match="Did you mean 'headers'"):
        app.task(name="t")(add).options(header={})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


untyped: Any = group
"""As who has no type checker may call it."""


@pytest.mark.parametrize(
    ("written", "error"),
    [
        pytest.param(lambda f: untyped(f.s(), policy="continu"), "policy: expected .*Did you mean", id="policy"),
        pytest.param(lambda f: untyped(f.s(), policy=["fail"]), "policy: expected", id="policy-list"),
        pytest.param(
            lambda f: untyped(f.s(), at_once=0), "at_once: expected a whole number, 1 or more", id="none-at-once"
        ),
        pytest.param(lambda f: untyped(f.s(), at_once="2"), "at_once: expected a whole number", id="text-at-once"),
        pytest.param(lambda f: f.app.send(f), "send takes a signature or a workflow, not Task", id="send-a-task"),
        pytest.param(lambda f: f.app.periodic(every("1h"), f.s(), misfire="skp"), "misfire: expected", id="misfire"),
        pytest.param(lambda f: f.app.periodic(every("1h"), f.s(), overlap=1), "overlap: expected", id="overlap"),
        pytest.param(lambda f: f.app.periodic(every("1h"), untyped, name="f"), "cannot be sent", id="periodic-plain"),
    ],
)
def test_workflows_and_schedules_refuse_what_cannot_be(written: Callable[[Any], Any], error: str) -> None:
    """Where it is written, in our words."""
    app = make_app()
    task = app.task(name="f")(uuid.uuid4)

    with pytest.raises(QueuekitError, match=error):
        written(task)
