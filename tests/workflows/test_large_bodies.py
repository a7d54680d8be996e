"""Piles of large messages: no round trip grows with them. Bytes and calls are counted, not timed."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from queuekit import Signature, chain, chord, group
from queuekit.backend import Record
from queuekit.broker import CommitItem, Dead, Retry, Settlement
from queuekit.envelope import Envelope
from queuekit.timelimit import LIMITS
from queuekit.wire.batches import READ_BYTES
from support.calls import Calls, calls_on
from support.waiting import PATIENCE
from support.working import burst, flaky_app, make_app

LARGE = 100_000


class Watched:
    """How many bytes of bodies each call of an app's engines is given."""

    def __init__(self, calls: Calls, patch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.items: list[int] = []
        """How many things each call is given."""
        self.ends: list[float | None] = []
        """When each call had to be over."""
        runtime = calls.app.runtime
        for owner, names in ((runtime.broker, ("send", "settle", "commit")), (runtime.backend, ("put",))):
            for name in names:
                patch.setattr(owner, name, self._watching(getattr(owner, name)))

    def _watching(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(items: Sequence[Any], **options: Any) -> Any:
            self.sizes.append(sum(map(size_of, items)))
            self.items.append(len(items))
            self.ends.append(LIMITS.here.end)
            return call(items, **options)

        return watched


def size_of(item: CommitItem | Envelope | Record | Settlement) -> int:
    """Return the bytes of the bodies of *item*."""
    if isinstance(item, CommitItem):
        parts = [*item.records, *item.sends, *([item.settlement] if item.settlement else [])]
        return sum(map(size_of, parts))
    if isinstance(item, Envelope | Record):
        return len(item.body)
    return len(item.delivery.envelope.body) if isinstance(item, Dead | Retry) else 0


def length(calls: Calls) -> Signature[int]:
    """Return a call that counts the results that it gets."""

    @calls.app.task(name="length")
    def length(values: list[Any]) -> int:
        return len(values)

    return length.s()


@pytest.fixture(params=[make_app, flaky_app], ids=["one-engine", "separate-engines"])
def pair(request: pytest.FixtureRequest) -> Calls:
    """The tasks of an app whose engines commit together, or do not."""
    return calls_on(request.param())


@pytest.mark.each_engine
def test_many_large_messages_are_sent_a_megabyte_at_a_time(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is bounded in bytes as well as in number, on every engine."""
    limits = calls.app.runtime.broker.limits
    watched = Watched(calls, monkeypatch)

    results = calls.app.send_many(calls.echo.s("x" * LARGE, number) for number in range(100))

    assert max(watched.sizes) <= limits.batch_bytes
    assert len(results) == 100
    assert sum(watched.sizes) >= 100 * LARGE


def test_each_batch_has_the_whole_timeout(pair: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is for progress: a pile may take longer than one send."""
    watched = Watched(pair, monkeypatch)

    pair.app.send_many(pair.echo.s("x" * LARGE, number) for number in range(30))
    ends = [end for end in watched.ends if end is not None]

    assert len(set(ends)) >= 3
    assert ends == sorted(ends)


@pytest.mark.parametrize("large", [True, False], ids=["large", "small"])
def test_small_messages_are_bounded_in_number_alone(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """No more round trips than before where bodies are small."""
    calls = calls_on(make_app())
    watched = Watched(calls, monkeypatch)

    calls.app.send_many(calls.echo.s("x" * (LARGE if large else 100), number) for number in range(20))

    assert (len(watched.items) > 1) is large


def test_large_fan_out_is_sent_in_parts(pair: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one outcome sends is bounded as well, although the outcome is one step where it is small."""
    members = group(pair.echo.s(number) for number in range(200))
    result = chain(pair.echo.s("x" * LARGE), members, length(pair)).send()
    watched = Watched(pair, monkeypatch)
    burst(pair.app)

    assert result.get(timeout=PATIENCE) == 200
    assert max(watched.sizes) <= pair.app.runtime.broker.limits.batch_bytes


def test_large_results_of_a_chord_are_read_in_parts(pair: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is known how large they are, no more are read at once than have room."""
    result = chord([pair.echo.s("x" * LARGE, number) for number in range(150)], length(pair)).send()
    backend = pair.app.runtime.need_backend("a test")
    get, counts = backend.get, list[int]()

    def reading(keys: Sequence[str]) -> dict[str, Record]:
        found = get(keys)
        counts.append(sum(len(record.body) > LARGE for record in found.values()))
        return found

    monkeypatch.setattr(backend, "get", reading)
    burst(pair.app)

    assert result.get(timeout=PATIENCE) == 150
    assert [count for count in counts if count] == [100, 40, 10]


def test_large_results_of_a_group_reach_the_caller_in_parts(pair: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that collects the results of a group reads no more at once than have room either."""
    result = group(pair.echo.s("x" * LARGE, number) for number in range(150)).send()
    burst(pair.app)
    backend = pair.app.runtime.need_backend("a test")
    get, counts = backend.get, list[int]()

    def reading(keys: Sequence[str]) -> dict[str, Record]:
        counts.append(len(keys))
        return get(keys)

    monkeypatch.setattr(backend, "get", reading)

    assert len(result.get(timeout=PATIENCE)) == 150
    assert max(counts[1:]) <= READ_BYTES // LARGE
