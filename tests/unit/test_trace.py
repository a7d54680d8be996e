"""Trace context is carried from sends to runs, and from runs to what they send."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from queuekit import Context, Fixed, Middleware, Queuekit, chain, chord, group
from queuekit.ids import new_id
from queuekit.trace import continue_trace, trace_context, trace_headers
from support.working import burst

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-11111111111111111111111111111111-2222222222222222-00"
NEWER = f"cc{PARENT[2:]}-new"
TRACE = {"traceparent": PARENT, "tracestate": "a=1,b=2", "baggage": "user=ann"}

Seen = list[tuple[str, dict[str, str]]]


@pytest.fixture
def seen() -> Seen:
    """Return the headers that tasks saw, by name of the task, in order."""
    return []


@pytest.fixture
def app(seen: Seen) -> Iterator[Queuekit]:
    """Return an app whose tasks note their headers."""
    app = Queuekit(broker=f"memory://{new_id()}", worker={"concurrency": 1})

    def note(name: str, ctx: Context) -> None:
        seen.append((name, dict(ctx.headers)))

    @app.task(name="leaf")
    def _leaf(ctx: Context, *_: Any) -> int:
        note("leaf", ctx)
        return 1

    @app.task(name="parent")
    def _parent(ctx: Context) -> None:
        note("parent", ctx)
        app.send(app.tasks["leaf"].s())

    @app.task(name="aparent")
    async def _aparent(ctx: Context) -> None:
        note("aparent", ctx)
        await app.asend(app.tasks["leaf"].s())

    @app.task(name="starter")
    def _starter(ctx: Context) -> None:
        note("starter", ctx)
        app.send(chord(group(app.tasks["leaf"].s(), app.tasks["leaf"].s()), app.tasks["leaf"].s()))

    @app.task(name="flaky", retries=1, retry=Fixed(0))
    def _flaky(ctx: Context) -> None:
        note("flaky", ctx)
        raise ValueError("no")

    @app.task(name="other")
    def _other(ctx: Context) -> None:
        note("other", ctx)
        with trace_context({"traceparent": OTHER}):
            app.send(app.tasks["leaf"].s())

    yield app
    app.close()


@pytest.mark.parametrize(
    ("send", "runs"),
    [
        pytest.param(lambda t: t("leaf"), ["leaf"], id="send"),
        pytest.param(lambda t: t("parent"), ["parent", "leaf"], id="send-in-a-task"),
        pytest.param(lambda t: t("aparent"), ["aparent", "leaf"], id="asend-in-a-task"),
        pytest.param(lambda t: t("flaky"), ["flaky", "flaky"], id="retry"),
        pytest.param(lambda t: chain(t("leaf"), t("parent")), ["leaf", "parent", "leaf"], id="chain"),
        pytest.param(lambda t: t("starter"), ["starter", "leaf", "leaf", "leaf"], id="chord-in-a-task"),
        pytest.param(lambda t: t("leaf").options(on_success=[t("leaf")]), ["leaf", "leaf"], id="callback"),
    ],
)
def test_is_carried(app: Queuekit, seen: Seen, send: Any, runs: list[str]) -> None:
    """Whatever follows from a send, in a task or by the workflow, has its trace context."""
    with trace_context(TRACE):
        app.send(send(lambda name: app.tasks[name].si()))

    burst(app)

    assert [name for name, _ in seen] == runs
    assert all(headers == TRACE for _, headers in seen)


def test_is_carried_by_sends_of_coroutines(app: Queuekit, seen: Seen) -> None:
    """``asend`` sends in another thread, with the caller's trace context."""

    async def send() -> None:
        with trace_context(TRACE):
            await app.asend(app.tasks["leaf"].s())

    app.send(app.tasks["leaf"].s())  # so that the runtime exists
    asyncio.run(send())
    burst(app)

    assert [headers for _, headers in seen] == [{}, TRACE]


def test_headers_of_the_call_win(app: Queuekit, seen: Seen) -> None:
    """A call that sets a header keeps it, and takes the others."""
    with trace_context(TRACE):
        app.send(app.tasks["leaf"].s().options(headers={"traceparent": OTHER, "mine": "1"}))

    burst(app)

    assert seen == [("leaf", {**TRACE, "traceparent": OTHER, "mine": "1"})]


def test_only_the_trace_context_is_inherited_by_sends(app: Queuekit, seen: Seen) -> None:
    """Other headers of the message belong to its own call."""
    app.send(app.tasks["parent"].s().options(headers={"traceparent": PARENT, "mine": "1"}))

    burst(app)

    assert seen[1] == ("leaf", {"traceparent": PARENT})


def test_a_block_in_a_task_wins_over_its_message(app: Queuekit, seen: Seen) -> None:
    """The innermost says what is in effect."""
    with trace_context(TRACE):
        app.send(app.tasks["other"].s())

    burst(app)

    assert seen[1] == ("leaf", {"traceparent": OTHER})


def test_a_block_around_a_worker_is_not_that_of_its_tasks(app: Queuekit, seen: Seen) -> None:
    """A task has the trace context of its message, or none."""
    app.send(app.tasks["parent"].s())

    with trace_context(TRACE):
        burst(app)

    assert seen == [("parent", {}), ("leaf", {})]


def test_eager_mode_carries_too(seen: Seen) -> None:
    """A task that runs in its sender sends on with its context."""
    app = Queuekit(broker="memory://", eager=True)

    @app.task(name="inner")
    def inner(ctx: Context) -> None:
        seen.append(("inner", dict(ctx.headers)))

    @app.task(name="outer")
    def outer() -> None:
        inner.send()

    outer.options(headers=TRACE).send()

    assert seen == [("inner", TRACE)]


@pytest.mark.parametrize(
    ("given", "carried"),
    [
        pytest.param({"Traceparent": PARENT, "BAGGAGE": "a=1"}, {"traceparent": PARENT, "baggage": "a=1"}, id="case"),
        pytest.param({"cookie": "secret", "host": "example.org"}, {}, id="others"),
        pytest.param({"traceparent": PARENT.upper()}, {}, id="upper-case"),
        pytest.param({"traceparent": PARENT + "-00"}, {}, id="too-long"),
        pytest.param(
            {"traceparent": "cc" + PARENT[2:] + "-new"}, {"traceparent": "cc" + PARENT[2:] + "-new"}, id="newer"
        ),
        pytest.param({"traceparent": "ff" + PARENT[2:]}, {}, id="no-version"),
        pytest.param({"traceparent": PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32)}, {}, id="no-trace"),
        pytest.param({"traceparent": PARENT.replace("b7ad6b7169203331", "0" * 16)}, {}, id="no-span"),
        pytest.param({"traceparent": PARENT + "\n"}, {}, id="line-feed"),
        pytest.param({"tracestate": "a=1"}, {}, id="state-without-parent"),
        pytest.param({"traceparent": PARENT, "tracestate": "a" * 513}, {"traceparent": PARENT}, id="long-state"),
        pytest.param({"baggage": "a=" + "b" * 8_190}, {"baggage": "a=" + "b" * 8_190}, id="longest-baggage"),
        pytest.param({"baggage": "a=" + "b" * 8_191}, {}, id="long-baggage"),
        pytest.param({"baggage": ",".join(["a=1"] * 181)}, {}, id="many-members"),
        pytest.param({"baggage": "a=1\r\nx: y"}, {}, id="injection"),
        pytest.param({"baggage": "a=\u00e9"}, {}, id="not-ascii"),
        pytest.param({"baggage": ""}, {}, id="empty"),
    ],
)
def test_carries_what_the_standard_allows(given: Mapping[str, str], carried: Mapping[str, str]) -> None:
    """Anything else is dropped, and never makes a send fail."""
    with trace_context(given):
        found = trace_headers()

    assert found == carried
    assert trace_headers() == {}


def test_a_message_cannot_pass_on_what_is_too_long(app: Queuekit, seen: Seen) -> None:
    """A stranger's message may hold anything; its task sends on only what the standard allows."""
    app.send(app.tasks["parent"].s().options(headers={"traceparent": "nonsense", "baggage": "x" * 9_000}))

    burst(app)

    assert seen[1] == ("leaf", {})


class TestContinue:
    """What follows a run belongs to the span that a middleware has made of it."""

    @pytest.mark.parametrize(
        ("parent", "state", "expected"),
        [
            (OTHER, "", {"traceparent": OTHER, "baggage": "user=ann"}),
            (OTHER, "c=3", {"traceparent": OTHER, "tracestate": "c=3", "baggage": "user=ann"}),
            (OTHER, "c" * 513, {"traceparent": OTHER, "baggage": "user=ann"}),
            ("no parent", "c=3", TRACE),
        ],
        ids=["parent", "parent and state", "state too long", "no parent"],
    )
    def test_replaces_the_span_only(self, parent: str, state: str, expected: dict[str, str]) -> None:
        """Baggage and other headers stay; a parent that breaks the standard changes nothing."""
        context = Context(id="a", task="t", queue="q")
        context.headers = {**TRACE, "mine": "1"}

        continue_trace(context, parent, state)

        assert context.headers == {**expected, "mine": "1"}

    def test_a_callback_carries_it_and_a_retry_does_not(self) -> None:
        """The callback of a run whose middleware continues the trace has the new span; its retry the old one."""
        seen: list[tuple[str, str]] = []

        class Spans(Middleware):
            def around_run(self, context: Context) -> Iterator[None]:
                seen.append((context.task, context.headers["traceparent"]))
                continue_trace(context, OTHER)
                yield

        app = Queuekit(broker=f"memory://{new_id()}", middlewares=[Spans()])
        app.task(name="after")(lambda _: None)

        @app.task(name="first", retries=1, retry=Fixed(0))
        def first() -> None:
            if len(seen) == 1:
                raise ValueError("no")

        with trace_context(TRACE):
            app.send(first.s().options(on_success=(app.tasks["after"].s(),)))
        burst(app)
        app.close()

        assert seen == [("first", PARENT), ("first", PARENT), ("after", OTHER)]
