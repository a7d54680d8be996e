"""What type checkers must say about code that uses queuekit: right where it is right, and red where it is not.

Nothing here runs. ``tox -e types`` checks it with mypy --strict and pyright. Each planted error is marked for both
checkers, and a mark that hides no error is an error itself: so an error that is not found fails the build.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Never, assert_type

from queuekit import (
    Context,
    Delays,
    Failure,
    Queuekit,
    Result,
    Signature,
    Task,
    UniqueKey,
    chain,
    chord,
    cron,
    every,
    group,
)
from queuekit.resources import Resource, Use
from queuekit.schedules.schedule import Schedule
from queuekit.tasks.task import AsyncTask
from queuekit.workflows.results import ChainResult, ChordResult, GroupResult
from queuekit.workflows.workflow import Chain, Chord, Group

app = Queuekit()


@app.task
def add(x: int, y: int) -> int:
    """Be a plain task."""
    return x + y


@app.task(retries=3, timeout="30s", unique=UniqueKey(key="k"), retry_on=(OSError, ValueError), ack="early")
def scale(x: float, *, by: float = 2.0) -> float:
    """Have options, and a parameter by keyword."""
    return x * by


@app.task
async def fetch(url: str) -> bytes:
    """Be a coroutine function."""
    return url.encode()


@app.task(queue="slow")
async def store(data: bytes, name: str = "x") -> None:
    """Be a coroutine function with options."""


@app.resource(scope="worker")
def pool() -> Iterator[list[str]]:
    """Be a generator."""
    yield []


@app.resource
async def session(rows: Annotated[list[str], Use(pool)]) -> int:
    """Use another, and be a coroutine function."""
    return len(rows)


@app.task
def query(x: int, db: Annotated[int, Use(session)] = Use.injected) -> str:
    """Receive what no caller sends."""
    return str(x + db)


def resources() -> None:
    """Resources know what they give, and calls leave them out."""
    assert_type(pool, Resource[list[str]])
    assert_type(session, Resource[int])
    assert_type(query.send(1), Result[str])
    query(1, db=2)
    with app.open(pool) as rows, app.override(session, 3):
        assert_type(rows, list[str])
    query.send("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.resource(scope="request")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    Use(query)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@app.task
def report(ctx: Context, name: str) -> list[str]:
    """Ask for the context, which no caller passes."""
    return [ctx.id, name]


@app.task(retries=3)
def report_again(ctx: Context, name: str) -> list[str]:
    """Ask for the context, with options."""
    return [ctx.id, name]


@app.task
async def watch(ctx: Context, seconds: float) -> bool:
    """Ask for the context in a coroutine function."""
    return ctx.cancelled and seconds > 0


@app.task(track=True)
async def watch_again(ctx: Context, seconds: float) -> bool:
    """Ask for the context in a coroutine function, with options."""
    return ctx.cancelled and seconds > 0


@app.task
def total(numbers: list[int]) -> int:
    """Take the results of a group."""
    return sum(numbers)


@app.task
def measure(data: bytes) -> int:
    """Take what ``fetch`` returns."""
    return len(data)


@app.task
def failed(results: object) -> int:
    """Take whatever comes, failures too."""
    return bool(results)


@app.task
def dump(value: Any) -> str:
    """Take anything first: neither checker can tell whether that is a context, so both let it pass."""
    return str(value)


def decorated_tasks_keep_their_types() -> None:
    """A plain call returns what the function returns, a send a handle on just that."""
    assert_type(add(1, 2), int)
    assert_type(add.send(1, y=2), Result[int])
    assert_type(add.send(1, 2).get(), int)
    assert_type(add.options(queue="low", delay="10m", priority=9).send(1, 2).get(timeout=5), int)
    assert_type(scale(1.5, by=3), float)
    assert_type(scale.send(1.5).get("5s"), float)
    assert_type(dump.send(1).get(), str)


async def coroutine_tasks_keep_their_types() -> None:
    """An async task's result is what it returns when awaited."""
    assert_type(await fetch("https://example.org"), bytes)
    assert_type(fetch.send("https://example.org").get(), bytes)
    assert_type(await fetch.asend("https://example.org"), Result[bytes])
    assert_type(await (await add.asend(1, 2)).aget(timeout=1.5), int)
    assert_type(store.options(id="once").send(b"", name="y"), Result[None])


async def contexts_are_not_passed() -> None:
    """Callers leave the context out, with and without options, in both kinds of function."""
    assert_type(report("x"), list[str])
    assert_type(report.send("x").get(), list[str])
    assert_type(report_again.send(name="x").get(), list[str])
    assert_type(report_again.options(headers={"trace": "1"}).send("x"), Result[list[str]])
    assert_type(await watch(1.0), bool)
    assert_type(watch.send(1).get(), bool)
    assert_type(watch_again.send(seconds=1).get(), bool)


def signatures_know_their_result() -> None:
    """What a signature sends returns its task's type."""
    assert_type(add.si(1, 2), Signature[int, object])
    assert_type(add.si(1, 2).send(), Result[int])
    assert_type(add.options(on_success=[add.s(3)]).send(1, 2), Result[int])
    assert_type(app.send(fetch.s("x")).get(), bytes)
    assert_type(add.s(1).options(queue="low"), Signature[int, int])
    short: Signature[int] = add.s(1, 2)
    assert_type(short.send(), Result[int])
    assert_type(app.send_many([add.s(1, 2), fetch.s("x")]), list[Result[Any]])
    assert_type(app.send(Signature("shop.mail.send", args=["a@b.c"], kwargs={"cc": None})).id, str)
    add.options(retry=Delays([1, 5, 30.5]), on_error=[report.si("x")], eta=datetime.now(UTC), expires="1h").send(1, 2)
    calls: list[Signature[object]] = [add.s(1, 2), fetch.s("x")]
    assert_type(calls[0].send().get(), object)


def workflows_know_their_result() -> None:
    """A chain returns what its last link does, a group the list of its results, a chord what its callback does."""
    assert_type(chain(add.s(1, 2), add.s(3), scale.s(), dump.s()), Chain[str])
    assert_type(chain(add.s(1, 2), fetch.si("x"), measure.s()), Chain[int])
    assert_type(chain(add.s(1, 2), group(add.s(1), add.s(2)), total.s()).send().get(), int)
    assert_type(chain(group(fetch.s("x"), fetch.s("y")), chain(dump.s(), fetch.s()), measure.s()), Chain[int])
    assert_type(group(add.s(1, 2), add.s(3, 4)).send().get(timeout=5), list[int])
    assert_type(group(add.s(i, i) for i in range(3)), Group[list[int]])
    assert_type(group([add.s(1, 2)], policy="continue"), Group[list[int | Failure]])
    assert_type(chord([add.s(1, 2), add.s(3, 4)], total.s()).send(), ChordResult[int])
    assert_type(chord(group(add.s(1, 2), add.s(3, 4)), total.s(), policy="skip").send(), ChordResult[int])
    assert_type(chord([add.s(1, 2)], failed.s(), policy="continue"), Chord[int])
    assert_type(app.send(chain(add.s(1, 2), add.s(3))), ChainResult[int])
    assert_type(add.starmap([(1, 2), (3, 4)], chunk=2).send(), GroupResult[list[int]])


def schedules_keep_what_they_decorate() -> None:
    """A periodic task is the task it was; a periodic call is a schedule."""

    @app.periodic(every("30s"), args=[1])
    @app.task
    def beat(x: int) -> str:
        """Never run."""
        return str(x)

    assert_type(beat.send(1), Result[str])
    assert_type(app.periodic(every("30s"), beat), Schedule)
    assert_type(app.periodic(cron("@daily"), chain(add.s(1, 2), add.s(3)), name="sums"), Schedule)


def planted_schedule_errors() -> None:
    """Each of these is wrong, and both checkers must say so; pyright names one of two rules, by what it read before."""
    app.periodic("30s", add.s(1, 2))  # type: ignore[call-overload]  # pyright: ignore  # noqa: PGH003
    app.periodic(every("30s"), 30)  # type: ignore[call-overload]  # pyright: ignore  # noqa: PGH003
    app.periodic(every("30s"), add.s(1, 2), misfire="never")  # type: ignore[call-overload]  # pyright: ignore  # noqa: PGH003


def planted_workflow_errors() -> None:
    """Each of these is wrong, and both checkers must say so."""
    text: str = chain(add.s(1, 2), add.s(1)).send().get()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    group(add)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    chord([add.s(1, 2)], total)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    chord([add.s(1, 2)], total.s(), policy="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    print(text)  # noqa: T201 - it never runs


def what_links_take() -> None:
    """A signature tells which argument it lacks: the first that is not given, or none."""
    assert_type(fetch.s(), Signature[bytes, str])
    assert_type(add.s(1), Signature[int, int])
    assert_type(add.s(1, 2), Signature[int, Never])
    assert_type(scale.s(), Signature[float, float])
    assert_type(report.s(), Signature[list[str], str])
    assert_type(store.s(b""), Signature[None, str])
    assert_type(dump.s(), Signature[str, Any])
    # By keyword anything may be left to what comes before; and where more than one is missing, nobody knows.
    assert_type(scale.s(by=3.0), Signature[float])
    assert_type(add.s(y=1), Signature[int])
    assert_type(add.s(), Signature[int])


def planted_misfits() -> None:
    """Each of these links takes something else than the one before returns, and both checkers must say so."""
    chain(fetch.s("x"), add.s(1))  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    chain(add.s(1, 2), add.s(1), fetch.s())  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    chain(add.s(1, 2), fetch.s(), on_error=[failed.s()])  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    chain(add.s(1, 2), add.s(3, 4))  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    chain(group(fetch.s("x"), fetch.s("y")), total.s())  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    chain(add.s(1, 2), total.s())  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    chord([fetch.s("x")], total.s())  # type: ignore[misc]  # pyright: ignore[reportArgumentType, reportCallIssue]
    chord(group(fetch.s("x")), total.s())  # type: ignore[misc]  # pyright: ignore[reportArgumentType, reportCallIssue]
    add.options(on_success=[fetch.s()])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    add.options(on_error=[add.s(1)])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    chain(add.s(1, 2), on_error=[add.s(1)])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


def kinds_can_be_named() -> None:
    """A task fits where a task of its parameters and result is asked for."""
    sums: Task[[int, int], int] = add
    loads: AsyncTask[..., bytes] = fetch
    print(sums, loads)  # noqa: T201 - it never runs


def planted_errors() -> None:
    """Each of these is wrong, and both checkers must say so."""
    add.send(1, "2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    add.send(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    add.send(1, 2, 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    add.send(1, z=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    add.si("1", 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    add.send(1, 2, queue="low")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    add.options(queue="low").send("1", 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    add.options(queu="low")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    add.options(priority="high")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fetch.send(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    report.send(Context(id="", task="", queue=""), "x")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    report.send(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    watch_again.send("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    text: str = add.send(1, 2).get()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    wrong: Result[str] = add.send(1, 2)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(text, wrong)  # noqa: T201 - it never runs


def planted_decorator_errors() -> None:
    """An option that does not exist, or of the wrong type, is red at the decorator."""

    @app.task(retrys=3)  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportCallIssue]
    def misspelt() -> None:
        """Never run."""

    @app.task(retries="3")  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportArgumentType]
    def mistyped() -> None:
        """Never run."""

    @app.task(ack="never")  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportArgumentType]
    def mischosen() -> None:
        """Never run."""


def handles() -> None:
    """Ids become handles whose results have types."""
    assert_type(add.result("id"), Result[int])
    assert_type(app.result("id", fetch), Result[bytes])
    assert_type(add.result("id").done, bool)


def planted_handle_errors() -> None:
    """A handle of another result, and what is no id or no task, are red where they are written."""
    number: Result[str] = add.result("id")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    data: Result[int] = app.result("id", fetch)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    add.result(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.result("id", "add")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    text: str = add.result("id").get()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(number, data, text)  # noqa: T201 - it never runs
