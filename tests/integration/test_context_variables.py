"""Context variables in real workers: each run begins with a fresh copy of its process's, in every pool."""

import pytest

from support.fault_tasks import aset_variable, set_variable
from support.fleet import Fleet
from support.waiting import PATIENCE


@pytest.mark.parametrize("pool", ["thread", "process"])
def test_what_a_run_sets_is_gone_with_it(fleet: Fleet, pool: str) -> None:
    """Runs that follow each other in one process see nothing of each other."""
    fleet.start_ready(concurrency=1, pool=pool)

    for task in (set_variable, aset_variable):
        seen = [task.send(value).get(timeout=PATIENCE) for value in ("one", "two", "three")]

        assert [before for before, _ in seen] == ["as it was"] * 3
        assert len({process for _, process in seen}) == 1
