"""What may become a task, and under which name."""

import contextlib
import functools
import importlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from queuekit.ids import InvalidNameError
from queuekit.tasks.callables import DeclarationError
from queuekit.tasks.registry import DuplicateTaskError
from queuekit.tasks.task import AsyncTask
from support.working import burst, make_app


def double(x: int) -> int:
    """Return twice as much."""
    return 2 * x


def generate(x: int) -> Iterator[int]:
    """Yield."""
    yield x


async def agenerate(x: int) -> AsyncIterator[int]:
    """Yield."""
    yield x


async def adouble(x: int) -> int:
    """Return twice as much."""
    return 2 * x


class Doubler:
    """An object that can be called, and has methods."""

    def __call__(self, x: int) -> int:
        """Return twice as much."""
        return 2 * x

    def method(self, x: int) -> int:
        """Return twice as much."""
        return 2 * x

    @classmethod
    def of_class(cls, x: int) -> int:
        """Return twice as much."""
        return 2 * x


class AsyncDoubler:
    """An object whose call is a coroutine."""

    async def __call__(self, x: int) -> int:
        """Return twice as much."""
        return 2 * x


class Generating:
    """An object whose call is a generator."""

    def __call__(self, x: int) -> Iterator[int]:
        """Yield."""
        yield x


RUN: dict[str, Any] = {
    "function": double,
    "coroutine-function": adouble,
    "partial": functools.partial(double),
    "partial-of-coroutine-function": functools.partial(adouble),
    "object": Doubler(),
    "coroutine-object": AsyncDoubler(),
    "partial-of-coroutine-object": functools.partial(AsyncDoubler()),
    "bound-method": Doubler().method,
    "class-method": Doubler.of_class,
    "static-method": staticmethod(double),
    "lambda": lambda x: 2 * x,
    "cached": functools.lru_cache(double),
}


@pytest.mark.parametrize("function", RUN.values(), ids=RUN)
@pytest.mark.parametrize("eager", [False, True], ids=["worker", "eager"])
def test_runs_whatever_can_be_called(function: Callable[..., Any], eager: bool) -> None:  # noqa: FBT001 - of a test
    """With a name of its own each is a task like any other."""
    app = make_app(eager=eager)
    task = app.task(name="double")(function)

    result = task.send(21)
    if not eager:
        burst(app)

    assert result.get(timeout=5) == 42


REFUSED: dict[str, tuple[Any, str]] = {
    "generator": (generate, "generate is a generator function: .*; Return a list instead of using yield"),
    "async-generator": (agenerate, "is a generator function"),
    "partial-of-generator": (functools.partial(generate), "a partial of .*generate is a generator function"),
    "generating-object": (Generating(), "an object of Generating is a generator function"),
    "none": (5, "5 is not a function"),
    "text": ("mail.send", r"'mail\.send' is not a function; To name a task write @app\.task\(name"),
    "property": (property(double), "an object of property is not a function"),
    "class-method-object": (Doubler.__dict__["of_class"], "an object of classmethod is not a function"),
}


@pytest.mark.parametrize("options", [{}, {"ignore_result": True}], ids=["stored", "ignored"])
@pytest.mark.parametrize(("function", "text"), REFUSED.values(), ids=REFUSED)
def test_refuses_what_no_worker_can_run(function: Any, text: str, options: dict[str, Any]) -> None:
    """The decorator says so, in one line with a code and the fix."""
    with pytest.raises(DeclarationError, match=text) as caught:
        make_app().task(name="t", **options)(function)

    assert (caught.value.code, bool(caught.value.fix)) == ("QK217", True)


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(functools.partial(double), id="partial"),
        pytest.param(Doubler(), id="object"),
        pytest.param(lambda x: x, id="lambda"),
    ],
)
def test_asks_for_the_name_of_what_has_none(function: Any) -> None:
    """No raw AttributeError: the fix is to give it one."""
    with pytest.raises(DeclarationError, match=r'has no name of its own; Give it one: @app\.task\(name="\.\.\."\)'):
        make_app().task(function)


def test_names_what_text_has_defined() -> None:
    """A function that ``exec`` made in a namespace without a name is called as it is."""
    namespace: dict[str, Any] = {}
    exec("def double(x): return 2 * x", namespace)  # noqa: S102 - the case in question

    assert make_app().task(namespace["double"]).name == "double"


def test_asks_for_another_name_than_one_that_cannot_be() -> None:
    """A function may be called what no task can."""

    def size(x: int) -> int:
        return x

    size.__qualname__ = "gr\u00f6\u00dfe"

    with pytest.raises(InvalidNameError, match=r"Give it another: @app\.task\(name"):
        make_app().task(size)


def test_a_task_is_declared_once() -> None:
    """Options of the inner one would be lost."""
    app = make_app()

    with pytest.raises(DeclarationError, match="double is already a task"):
        app.task(name="again")(app.task(name="double")(double))


def test_two_functions_of_one_name_in_a_module() -> None:
    """The second does not take the place of the first without a word."""
    app = make_app()
    app.task(double)

    def other(x: int) -> int:
        return x

    other.__module__, other.__qualname__ = double.__module__, double.__qualname__

    with pytest.raises(DuplicateTaskError, match=r"double \(line \d+\) and .*double \(line \d+\)") as caught:
        app.task(other)

    assert caught.value.fix == 'Give one a name: @app.task(name="...")'


def test_closures_of_one_function_are_two_tasks() -> None:
    """What a factory makes twice is not one function."""
    app = make_app()

    def declare(factor: int) -> object:
        @app.task
        def times(x: int) -> int:
            return x * factor

        return times

    declare(2)
    with pytest.raises(DuplicateTaskError):
        declare(3)


def test_the_same_function_may_come_again_but_not_otherwise() -> None:
    """Declaring a function twice is no harm, unless the options differ."""
    app = make_app()
    app.task(double)

    assert app.task(double) is app.tasks[next(iter(app.tasks))]
    with pytest.raises(DuplicateTaskError):
        app.task(queue="other")(double)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module with a task, on an app that lives elsewhere; its name."""
    name = "module_that_is_reloaded"
    (tmp_path / f"{name}.py").write_text("from queuekit import Queuekit\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def test_a_reloaded_module_declares_its_tasks_again(module: str, tmp_path: Path) -> None:
    """Also where its lines have moved: the new function takes the place of the old one."""
    app = make_app()
    loaded = importlib.import_module(module)
    loaded.app = app  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    text = "@app.task\ndef f() -> int:\n    return {}\n"
    (tmp_path / f"{module}.py").write_text(text.format(1), encoding="utf-8")
    importlib.reload(loaded)
    (tmp_path / f"{module}.py").write_text("# moved\n\n" + text.format(2 * 100), encoding="utf-8")
    importlib.invalidate_caches()

    with contextlib.suppress(FileNotFoundError):
        importlib.reload(loaded)

    assert app.tasks[f"{module}.f"].function() == 200


@pytest.mark.parametrize("name", ["self", "args", "kwargs", "task", "context", "id", "queue", "function"])
@pytest.mark.parametrize("way", ["send", "s", "si", "call"])
def test_parameters_may_be_called_anything(name: str, way: str) -> None:
    """Options and arguments never share a namespace, not even that of Python's methods."""
    app = make_app(eager=True)
    scope: dict[str, Any] = {}
    exec(f"def f({name}): return {name}", scope)  # noqa: S102 - a name of a parameter for each case
    task = app.task(name="f")(scope["f"])

    called = {"send": task.send, "s": task.s, "si": task.si, "call": task}[way](**{name: 7})

    value = called if way == "call" else called.get(timeout=5) if way == "send" else called.send().get(timeout=5)
    assert value == 7


def test_objects_with_a_coroutine_are_async_tasks() -> None:
    """They run on the loop, not in a thread."""
    assert isinstance(make_app().task(name="a")(AsyncDoubler()), AsyncTask)


def test_a_function_in_c_that_tells_no_parameters() -> None:
    """Nothing is known of its arguments, so none are refused."""
    app = make_app(eager=True)

    assert app.task(name="max")(max).send(3, 4).get(timeout=5) == 4
