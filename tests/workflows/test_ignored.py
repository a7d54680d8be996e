"""What ignores its result leaves no record on any engine, whatever becomes of it; see tests/unit/execution as well."""

from datetime import UTC, datetime
from typing import Any

import pytest

from queuekit import Queuekit, Result, Task
from queuekit.control import Cancel
from queuekit.wire.records import cancel_mark, result_key
from support.calls import Calls
from support.working import burst

PAST = datetime(2020, 1, 1, tzinfo=UTC)


def _cancel() -> None:
    raise Cancel("changed my mind")


async def _acancel() -> None:
    raise Cancel("changed my mind")


async def _anothing() -> None: ...


def quiet_ones(calls: Calls, mode: str) -> tuple[Task[..., None], Task[..., None]]:
    """Return a task that does nothing and one that cancels itself; both are tracked, and ignore their results."""
    app = calls.app
    options: Any = {"ignore_result": True, "track": True}
    if mode == "async":
        return app.task(name="quiet", **options)(_anothing), app.task(name="cancels", **options)(_acancel)
    return app.task(name="quiet", **options)(lambda: None), app.task(name="cancels", **options)(_cancel)


def records(app: Queuekit, results: list[Result[None]]) -> dict[str, object]:
    """Return what is recorded of messages."""
    return dict(app.runtime.need_backend("a test").get([result_key(result.id) for result in results]))


@pytest.mark.each_engine
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_what_ignores_its_result_leaves_no_record(calls: Calls, mode: str) -> None:
    """Done, cancelled by itself, cancelled while it waited, expired: nothing is kept, though the task is tracked."""
    quiet, cancels = quiet_ones(calls, mode)
    done, gone, late, cancelled = quiet.send(), cancels.send(), quiet.options(expires=PAST).send(), quiet.send()
    calls.app.runtime.need_backend("a test").put([cancel_mark(cancelled.id, ttl=60)])

    burst(calls.app)

    assert records(calls.app, [done, gone, late, cancelled]) == {}
