"""What ignores its result leaves no record, in each pool."""

from datetime import UTC, datetime

import pytest

from queuekit.wire.records import cancel_mark, result_key
from support.fault_tasks import anap, cancel_self, nap
from support.fleet import Fleet

PAST = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("pool", ["thread", "process"])
def test_what_ignores_its_result_leaves_no_record(fleet: Fleet, pool: str) -> None:
    """Done, cancelled by itself, cancelled while it waited, expired: nothing is kept; what does not is recorded."""
    quiet = [
        *(task.options(ignore_result=True).send(0) for task in (nap, anap)),
        *(task.options(ignore_result=True, expires=PAST).send(0) for task in (nap, anap)),
        cancel_self.options(ignore_result=True).send(),
    ]
    cancelled = nap.options(ignore_result=True).send(0)
    loud = cancel_self.send()
    backend = fleet.app.runtime.need_backend("a test")
    backend.put([cancel_mark(cancelled.id, ttl=60)])

    fleet.start_ready(pool=pool)
    fleet.drained()

    found = backend.get([result_key(result.id) for result in [*quiet, cancelled, loud]])
    assert list(found) == [result_key(loud.id)]
