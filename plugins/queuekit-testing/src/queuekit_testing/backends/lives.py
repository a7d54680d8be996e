"""How long a record lives, and how its versions distinguish one life from another."""

from __future__ import annotations

from functools import partial

import attrs
import pytest

from queuekit.backend import Backend, Condition
from queuekit_testing.backends.kit import BackendKit
from queuekit_testing.kit import NOT_DECLARED, assert_time_of_day, eventually

__all__ = ["LivesTests"]

_LONG = 10 * 365 * 86_400.0


class LivesTests(BackendKit):
    """QK11 and the basis of locks: a life ends on time, and the next record of the key has a higher version."""

    def test_raises_the_version_over_an_end(self, backend: Backend) -> None:
        """A version also grows over an expiry: a client whose lock expired does not hold the next one."""
        record = self.record(ttl=self.short)
        backend.put([record])
        before = backend.get([record.key]).get(record.key)
        eventually(lambda: self.body(backend, record.key) is None, timeout=self.patience, what="the record is gone")
        backend.put([attrs.evolve(record, ttl=600.0)], expect=0)

        after = backend.get([record.key])[record.key]

        # On a slow machine the record may expire before it is read.
        assert before is None or before.version < after.version
        assert before is None or backend.put([record], expect=before.version) == [False]

    def test_tells_what_is_left_of_a_life(self, backend: Backend) -> None:
        """``ttl`` is read back as the remaining time, so that a client that rewrites a record can keep its end."""
        record = self.record(ttl=600.0)
        backend.put([record])
        first = backend.get([record.key])[record.key].ttl
        passed = max(self.short, 2 * self._limits.ttl_granularity)
        self.let_pass(passed)

        second = backend.get([record.key])[record.key].ttl

        assert first is not None
        assert second is not None
        assert second <= first - 0.9 * passed + self._limits.ttl_granularity
        assert second > 300.0

    @pytest.mark.parametrize("way", ["absent", "newer", "expect"])
    def test_does_not_prolong_what_it_refuses(self, backend: Backend, way: str) -> None:
        """A refused write does not extend the TTL: a lock expires even while many clients ask for it."""
        record = self.record(ttl=2 * self.short, rank=1)
        backend.put([record])
        longer = attrs.evolve(record, ttl=600.0)
        condition = Condition.ALWAYS if way == "expect" else Condition(way)

        answer = backend.put([longer], condition=condition, expect=0 if way == "expect" else None)

        # On a very slow machine the record may have expired, and then the write is correct.
        if answer == [False]:
            gone = partial(self.body, backend, record.key)
            eventually(lambda: gone() is None, timeout=self.patience, what="the record is gone")

    def test_keeps_what_ends_in_years(self, backend: Backend) -> None:
        """A TTL of ten years is kept: the record is neither expired nor without end."""
        record = self.record(ttl=_LONG)
        backend.put([record])

        got = backend.get([record.key])[record.key]

        assert got.body == record.body
        assert got.ttl == pytest.approx(_LONG, abs=600.0)

    def test_tells_the_time_of_day(self, backend: Backend) -> None:
        """``now`` returns UTC epoch seconds: neither milliseconds nor the time since a start."""
        moment = backend.now()
        if moment is None:
            pytest.skip(f"{NOT_DECLARED}a clock")

        assert_time_of_day("now()", moment)
