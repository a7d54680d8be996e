"""A registered function: plain to call, checked when it is sent."""

import functools
import http
import re
import signal
import sys
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, ForwardRef, Optional

import pytest

from queuekit import Context, Fixed, Queuekit, Signature, Task, UniqueKey
from queuekit import context as context_module
from queuekit.envelope import Unique
from queuekit.errors import ArgumentsError, EncodeError
from queuekit.ids import InvalidNameError
from queuekit.tasks.callables import DeclarationError, default_name
from queuekit.tasks.task import AsyncTask, TaskOptions
from support.working import burst, make_app, take_one

if TYPE_CHECKING:
    from queuekit import Context as Hidden  # noqa: F401 - named in texts
    from queuekit import context as hidden  # noqa: F401 - named in texts
    from queuekit.failure import Failure as Elsewhere  # noqa: F401 - named in texts


def add(x: int, y: int = 1, *, times: int = 1) -> int:
    """Add and multiply."""
    return (x + y) * times


async def aadd(x: int, y: int) -> int:
    """Add."""
    return x + y


def told(ctx: Context, name: str) -> tuple[str, str]:
    """Return the task's own name and an argument."""
    return ctx.task, name


def quoted(ctx: "context_module.Context", name: str) -> str:
    """Ask for the context in quotes, by its module."""
    return ctx.task + name


def foreign(ctx: "list[int]", name: str) -> str:
    """Ask for something else."""
    return f"{ctx}{name}"


CONTEXTS: list[Any] = [
    Annotated[Context, "mine"],
    Context | None,
    Optional[Context],  # noqa: UP045 - as it is written as well
    Annotated[Context | None, "mine"],
    Optional[Annotated[Context, "mine"]],  # noqa: UP045 - as it is written as well
    ForwardRef("Context"),
    "Annotated[Context, 'mine']",
    "Context | None",
    "None | context_module.Context",
    "Optional[Context]",
    "Union[Context, None]",
    "typing.Optional['Context']",
    "Mine",
    "Hidden",
    "Hidden | None",
    "Annotated[Hidden, 1]",
    "Optional[hidden.Context]",
]
NO_CONTEXTS: list[Any] = [int | None, Context | int, list[Context], "Context | int", "list[Context]", "None", "", "1 +"]
NO_CONTEXTS += [Annotated[int, Context], "Annotated[int, Context]", "Elsewhere | None", "Hidden | str"]
Mine = Annotated[Context, "mine"]
"""An alias."""


def annotated(how: Any) -> Any:
    """Return a function whose first parameter is annotated *how*."""

    def function(ctx: Any) -> None:
        """Do nothing."""

    function.__annotations__["ctx"] = how
    return function


@pytest.fixture
def app() -> Queuekit:
    """Return an app without tasks."""
    return make_app()


def test_a_plain_call_stays_a_plain_call(app: Queuekit) -> None:
    """Decorating changes nothing for those who call the function."""
    task = app.task(add)

    assert (task(1, 2, times=3), task.__doc__, task.__name__) == (9, add.__doc__, "add")


def test_an_async_task_is_awaited(app: Queuekit) -> None:
    """The call returns the coroutine."""
    import asyncio

    task = app.task(aadd)

    assert isinstance(task, AsyncTask)
    assert asyncio.run(task(1, 2)) == 3


def test_a_context_is_not_the_callers_business(app: Queuekit) -> None:
    """A plain call gets an empty one, and the parameter is not among those of the caller."""
    task = app.task(name="told")(told)

    assert task("x") == ("told", "x")
    assert (task.parameters.have_context, task.parameters.names) == (True, ("name",))


@pytest.mark.parametrize(
    ("function", "takes"),
    [
        pytest.param(quoted, True, id="quoted"),
        pytest.param(foreign, False, id="another-type"),
        *[pytest.param(annotated(how), True, id=str(how)) for how in CONTEXTS],
        *[pytest.param(annotated(how), False, id=str(how)) for how in NO_CONTEXTS],
        pytest.param(lambda: None, False, id="no-parameters"),
        pytest.param(lambda ctx: None, False, id="no-annotation"),  # noqa: ARG005 - its name alone means nothing
    ],
)
def test_asks_for_the_context_by_annotation(app: Queuekit, function: Any, *, takes: bool) -> None:
    """The annotation of the first parameter decides, as a class or as text; its name does not."""
    task: Task[..., Any] = app.task(name="t")(function)

    assert task.parameters.have_context is takes


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        pytest.param((), {}, "missing a required argument: 'x'", id="missing"),
        pytest.param((1, 2, 3), {}, "too many positional arguments", id="too-many"),
        pytest.param((1,), {"z": 2}, "unexpected keyword argument 'z'", id="unknown"),
        pytest.param((1,), {"x": 2}, "multiple values for argument 'x'", id="twice"),
    ],
)
def test_checks_arguments_at_the_call(app: Queuekit, args: Any, kwargs: Any, text: str) -> None:
    """Wrong arguments raise where they are sent, naming task and parameter, and nothing is sent."""
    task: Task[..., int] = app.task(name="add")(add)

    with pytest.raises(ArgumentsError, match=text) as caught:
        task.send(*args, **kwargs)

    assert str(caught.value).startswith("add(x: int, y: int = 1, *, times: int = 1)")
    assert app.runtime.broker.counts(["default"])["default"].ready == 0


def test_a_signature_may_lack_its_last_arguments(app: Queuekit) -> None:
    """A parent's result comes later; what cannot be is refused all the same."""
    task: Task[..., int] = app.task(name="aadd")(aadd)

    assert task.s(1).args == (1,)
    with pytest.raises(ArgumentsError, match="too many"):
        task.s(1, 2, 3)


def test_an_immutable_signature(app: Queuekit) -> None:
    """``si`` keeps a parent's result out."""
    task = app.task(add)

    assert (task.si(1).immutable, task.s(1).immutable) == (True, False)


def test_options_and_arguments_share_no_names(app: Queuekit) -> None:
    """A parameter may be called like an option."""

    @app.task(name="t")
    def move(queue: str, delay: int) -> str:
        return f"{queue}{delay}"

    result = move.options(queue="low").send(queue="x", delay=5)
    delivery = take_one(app, queue="low")

    assert delivery.id == result.id


def test_all_options_reach_the_signature(app: Queuekit) -> None:
    """Each option of a call becomes the signature's; those left out stay the task's."""
    options: dict[str, Any] = {
        "id": "id-1",
        "queue": "low",
        "priority": 0,
        "delay": 60.0,
        "eta": datetime(2030, 1, 1, tzinfo=UTC),
        "expires": 90.0,
        "headers": {"a": "b"},
        "retries": 0,
        "retry": Fixed(1),
        "timeout": 5.0,
        "ignore_result": False,
        "unique": UniqueKey(key="k"),
        "on_success": (Signature("s"),),
        "on_error": (Signature("e"),),
    }

    signature = app.task(name="add")(add).options(**options).s(1)

    options["unique"] = Unique(key="k")
    assert {name: getattr(signature, name) for name in options} == options
    assert app.tasks["add"].options().s(1).retries is None


def test_options_are_checked_at_once(app: Queuekit) -> None:
    """A bad value raises where it is written, not at the send."""
    task = app.task(add)

    with pytest.raises(InvalidNameError):
        task.options(queue="no blanks")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"retries": -1}, id="retries"),
        pytest.param({"ack": "never"}, id="ack"),
        pytest.param({"timeout": "soon"}, id="timeout"),
        pytest.param({"time_limit": 0}, id="time-limit"),
        pytest.param({"pool": "processes"}, id="pool"),
        pytest.param({"retrys": 1}, id="unknown"),
    ],
)
def test_options_of_a_task_are_checked_at_once(app: Queuekit, options: Any) -> None:
    """A bad option raises at the decorator."""
    with pytest.raises((ValueError, TypeError)):
        app.task(**options)


def test_option_values_take_their_forms() -> None:
    """One exception or several, seconds or text."""
    options = TaskOptions(retry_on=OSError, dont_retry=[KeyError, ValueError], timeout="1m", expires=5)

    assert (options.retry_on, options.dont_retry) == ((OSError,), (KeyError, ValueError))
    assert (options.timeout, options.expires) == (60.0, 5.0)


def test_shows_name_and_parameters(app: Queuekit) -> None:
    """Its repr is what one wants to see in a shell."""
    assert repr(app.task(name="told")(told)) == "<task told(name: str) -> tuple[str, str]>"


def test_a_task_without_name_of_its_own(app: Queuekit) -> None:
    """A callable that has no ``__name__`` is called as it was registered."""
    task: Task[..., int] = app.task(name="partial")(functools.partial(add, 1))

    assert (task.__name__, task(2)) == ("partial", 3)


def test_is_named_after_module_and_qualified_name() -> None:
    """Local functions lose the ``<locals>`` that no name may hold."""

    def local() -> None:
        """Do nothing."""

    name = default_name(local)

    assert name == f"{__name__}.test_is_named_after_module_and_qualified_name.local"


@pytest.mark.parametrize(
    ("main", "name"),
    [
        pytest.param(SimpleNamespace(__spec__=SimpleNamespace(name="shop.tasks")), "shop.tasks", id="python-m"),
        pytest.param(SimpleNamespace(__spec__=None, __file__="/srv/tasks.py"), "tasks", id="script"),
        pytest.param(SimpleNamespace(), "__main__", id="shell"),
    ],
)
def test_a_scripts_tasks_are_named_as_a_worker_imports_them(
    monkeypatch: pytest.MonkeyPatch, main: Any, name: str
) -> None:
    """What runs as ``__main__`` here has its real name there."""
    monkeypatch.setitem(sys.modules, "__main__", main)
    function = SimpleNamespace(__module__="__main__", __qualname__="add")

    assert default_name(function) == f"{name}.add"  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_calls_run_with_what_was_sent(app: Queuekit) -> None:
    """Positional and keyword arguments arrive as such."""
    task: Task[..., int] = app.task(name="add")(add)

    result = task.send(1, y=2, times=2)
    burst(app)

    assert result.get(timeout=1) == 6


@pytest.mark.parametrize(
    ("how", "sent", "arrives"),
    [
        pytest.param(int, signal.SIGTERM, 15, id="int"),
        pytest.param("int", signal.SIGTERM, 15, id="int-as-text"),
        pytest.param(float, signal.SIGTERM, 15, id="float"),
        pytest.param(str, http.HTTPMethod.GET, "GET", id="str"),
        pytest.param(int | None, signal.SIGTERM, 15, id="or-none"),
        pytest.param(Annotated[int, "a signal"], re.IGNORECASE, int(re.IGNORECASE), id="flag"),
        pytest.param("list[int]", [signal.SIGTERM, 2], [15, 2], id="list"),
        pytest.param(dict[str, tuple[int, ...]], {"a": (1, signal.SIGTERM)}, {"a": (1, 15)}, id="dict-of-tuples"),
        pytest.param(tuple[str, int], (http.HTTPMethod.PUT, signal.SIGINT), ("PUT", 2), id="tuple"),
        pytest.param(signal.Signals, signal.SIGTERM, signal.SIGTERM, id="own-class"),
    ],
)
@pytest.mark.parametrize("by", ["position", "name"])
def test_a_member_that_is_a_number_or_text_arrives_as_that(
    app: Queuekit, how: Any, sent: Any, arrives: Any, by: str
) -> None:
    """What is sent arrives equal: as the plain value that the annotation asks for."""

    def body(value: Any) -> Any:
        return value

    body.__annotations__.update(value=how, **{"return": how})
    result = app.task(name="t")(body).send(*[sent] * (by == "position"), **{"value": sent} if by == "name" else {})
    burst(app)
    got = result.get(timeout=5)

    assert (got, type(got)) == (arrives, type(arrives))


@pytest.mark.parametrize(
    ("how", "sent"),
    [
        pytest.param(Any, signal.SIGTERM, id="no-annotation"),
        pytest.param(str, signal.SIGTERM, id="another"),
        pytest.param(int, [signal.SIGTERM], id="inside-what-is-no-int"),
        pytest.param(list[Any], [signal.SIGTERM], id="inside-anything"),
        pytest.param(bool, signal.SIGTERM, id="bool"),
    ],
)
def test_a_member_of_an_unknown_enum_is_refused_else(app: Queuekit, how: Any, sent: Any) -> None:
    """Where no annotation tells what is meant, it would come back as something else."""

    def body(value: Any) -> None:
        """Do nothing."""

    body.__annotations__["value"] = how

    with pytest.raises(EncodeError, match=r"argument 'value'.* Signals is not known to the app"):
        app.task(name="t")(body).send(sent)


def test_a_result_that_is_a_number_too_is_that_number(app: Queuekit) -> None:
    """The annotation of the result counts as those of arguments do."""

    def body() -> int:
        return signal.SIGTERM

    result = app.task(name="t")(body).send()
    burst(app)

    assert result.get(timeout=5) == signal.SIGTERM


def _second(name: str, ctx: Context) -> None: ...


def _by_name(name: str, *, ctx: "Context | None") -> None: ...


@pytest.mark.parametrize("function", [_second, _by_name])
def test_context_that_is_not_first_is_refused(function: Any) -> None:
    """Where it is declared: no caller could fill it, and each send would say that an argument is missing."""
    with pytest.raises(DeclarationError, match="the context 'ctx' is not the first parameter"):
        Queuekit(broker="memory://").task(function)


def test_context_with_a_default_may_stand_anywhere() -> None:
    """A plain call may pass one on."""

    def helper(name: str, ctx: Context | None = None) -> str:
        return f"{name} {ctx}"

    task = Queuekit(broker="memory://").task(name="helper")(helper)

    assert task.parameters.names == ("name", "ctx")
