"""Groups that have had an earlier life: expired, and not swept yet."""

import pytest

from queuekit.backend import Join
from queuekit.ids import new_id
from queuekit_mongo.backend import MongoBackend
from queuekit_mongo.groups import CHUNK
from support.waiting import wait_until


@pytest.mark.parametrize("how", ["alone", "together"])
def test_a_large_group_that_begins_anew_counts_nobody_of_before(backend: MongoBackend, how: str) -> None:
    """A group of several documents that has ended is not revived by the next of its name, swept or not."""
    group, size = f"group:{new_id()}", 2 * CHUNK
    backend.join(group, size - 1, size, ttl=0.001)
    ended = (backend.now() or 0.0) + 0.01
    wait_until(lambda: (backend.now() or 0.0) > ended, "the group has ended")

    if how == "alone":
        counts = [backend.join(group, 0, size)[1], backend.join(group, 1, size)[1]]
    else:
        counts = backend.join_many([Join(group=group, member=0, size=size)])
        counts += backend.join_many([Join(group=group, member=1, size=size)])

    assert counts == [1, 2]
