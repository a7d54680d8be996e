"""Records: their fields, the conditions of a write, and how long they live."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import attrs
import pytest

from queuekit.backend import Backend, Condition, Record
from queuekit_testing.backends.kit import BackendKit
from queuekit_testing.brokers.payloads import BODIES
from queuekit_testing.kit import NOT_DECLARED, eventually, needs

__all__ = ["RecordsTests"]

_MAX_TRIED = 2_000_000
"""Longest body that a test stores."""
_MANY = 250
"""Records of one call: more than services accept in one request, so that the client must split them."""
KEYS = {
    "colons": "result:0190:x",
    "spaces": "a key with spaces ",
    "slashes": "../../etc/passwd",
    "percent": "100%_like",
    "quotes": "'\"`;--",
    "dollars": "$where.a.b",
    "unicode": "sch\N{LATIN SMALL LETTER O WITH DIAERESIS}n \N{SNOWMAN} \N{GRINNING FACE}",
    "braces": "{slot}[a-z]*?",
}


class RecordsTests(BackendKit):
    """QK5 one outcome: a record is written under its condition, in one atomic step."""

    # -- what is written -----------------------------------------------------------------------------------------

    def test_returns_every_field(self, backend: Backend) -> None:
        """A record comes back as it was put, with a version; ``ttl`` is the remaining time."""
        record = self.record(
            body=b"\0", ttl=600.0, rank=2**53 - 1, final=True, task="shop.mail", state="SUCCESS", at=1_700_000_000.25
        )

        written = backend.put([record])

        got = self.connect().get([record.key])[record.key]
        assert written == [True]
        assert got.version > 0
        assert got.ttl is not None
        assert 500.0 < got.ttl <= 600.0 + self._limits.ttl_granularity
        assert attrs.evolve(got, version=0, ttl=600.0) == record

    def test_returns_unset_fields_as_none(self, backend: Backend) -> None:
        """Unset fields come back as ``None``, not as empty text or zero."""
        record = self.record(error="ValueError: \N{SNOWMAN}\n\0")
        backend.put([record])

        got = backend.get([record.key])[record.key]

        assert (got.task, got.state, got.at, got.rank, got.final) == (None, None, None, 0, False)
        assert got.error is not None
        assert got.error.startswith("ValueError: \N{SNOWMAN}\n")

    @pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
    def test_returns_the_bytes_put(self, backend: Backend, body: bytes) -> None:
        """A body comes back unchanged, whatever bytes it holds."""
        record = self.record(body=body)
        backend.put([record])

        assert self.body(backend, record.key) == body

    @pytest.mark.parametrize("name", KEYS.values(), ids=KEYS.keys())
    def test_takes_any_text_as_key(self, backend: Backend, name: str) -> None:
        """A key is plain text: no character is special to the store."""
        key, near = f"{self.new_key()}:{name}", f"{self.new_key()}:{name}"
        self._keys += [key, near]
        backend.put([self.record(key=key)])

        assert set(backend.get([key, near])) == {key}
        assert backend.delete([near]) == 0
        assert backend.delete([key]) == 1

    def test_takes_a_long_key(self, backend: Backend) -> None:
        """A key may have 250 characters; two keys that differ only in the last one are different."""
        start = self.new_key().ljust(249, "x")
        one, other = start + "a", start + "b"
        self._keys += [one, other]
        backend.put([self.record(key=one)])

        assert set(backend.get([one, other])) == {one}

    def test_returns_a_body_of_the_largest_size(self, backend: Backend) -> None:
        """A body of ``limits.max_record`` bytes, at most of 2 MB, comes back whole."""
        body = random.Random(3).randbytes(min(backend.limits.max_record, _MAX_TRIED))  # noqa: S311 - any bytes will do
        record = self.record(body=body)
        backend.put([record])

        assert self.body(backend, record.key) == body

    def test_gets_many_at_once(self, backend: Backend) -> None:
        """``put``, ``get`` and ``delete`` accept hundreds at once; ``get`` returns each live record once."""
        records = [self.record(body=b"%d" % index) for index in range(_MANY)]
        written = backend.put(records)
        keys = [record.key for record in records]

        got = backend.get([*keys, self.new_key(), keys[0]])

        assert written == [True] * len(records)
        assert {key: record.body for key, record in got.items()} == {record.key: record.body for record in records}
        assert backend.delete([*keys, keys[0]]) == len(keys)
        assert backend.get(keys) == {}

    def test_takes_empty_batches(self, backend: Backend) -> None:
        """Every method accepts an empty batch, and does nothing."""
        assert backend.put([]) == []
        assert backend.get([]) == {}
        assert backend.delete([]) == 0
        assert backend.wait([], timeout=0) == {}

    def test_begins_with_many_at_once(self, backend: Backend) -> None:
        """Clients that make their first call at the same moment, on an unused server, all work."""
        records = [self.record() for _ in range(2)]
        puts: list[Callable[[], object]] = [partial(self.connect().put, [record]) for record in records]
        gets: list[Callable[[], object]] = [partial(self.connect().get, [records[0].key]) for _ in range(6)]

        self.all_at_once([*gets, *puts])

        assert set(backend.get([record.key for record in records])) == {record.key for record in records}

    def test_deletes(self, backend: Backend) -> None:
        """``delete`` returns the number of records deleted; a deleted record can be put again."""
        records = [self.record() for _ in range(3)]
        backend.put(records)
        keys = [record.key for record in records]

        assert backend.delete([*keys[:2], self.new_key()]) == 2
        assert set(backend.get(keys)) == {keys[2]}
        assert backend.delete(keys[:2]) == 0
        assert backend.put(records[:1], condition=Condition.ABSENT) == [True]

    def test_closes_twice(self, backend: Backend) -> None:
        """A client can be closed twice if it was used, and once if it was not."""
        client, unused = self.connect(), self.connect()
        record = self.record()
        client.put([record])

        for closing in (client, client, unused):
            closing.close()

        assert self.body(backend, record.key) == record.body

    # -- conditions ----------------------------------------------------------------------------------------------

    def test_overwrites_always(self, backend: Backend) -> None:
        """``ALWAYS`` replaces any record, even one of a higher rank, with all its fields."""
        first = self.record(rank=9, final=True, state="SUCCESS", error="old")
        backend.put([first])

        assert backend.put([Record(key=first.key, body=b"new", ttl=60.0)]) == [True]

        got = backend.get([first.key])[first.key]
        assert (got.body, got.rank, got.final, got.state, got.error) == (b"new", 0, False, None, None)

    def test_writes_if_absent(self, backend: Backend) -> None:
        """``ABSENT`` writes only if no live record has the key."""
        first = self.record(body=b"first")

        answers = [backend.put([attrs.evolve(first, body=body)], condition=Condition.ABSENT) for body in (b"1", b"2")]

        assert answers == [[True], [False]]
        assert self.body(backend, first.key) == b"1"

    @pytest.mark.parametrize(
        ("rank", "written"),
        [
            pytest.param(4, False, id="older"),
            pytest.param(5, False, id="equal"),
            pytest.param(6, True, id="newer"),
            pytest.param(2**53 - 1, True, id="newest"),
        ],
    )
    def test_writes_if_newer(self, backend: Backend, rank: int, written: bool) -> None:  # noqa: FBT001 - a row
        """``NEWER`` replaces only a record of a lower rank: the first outcome of a rank stays."""
        record = self.record(body=b"first", rank=5)
        first = backend.put([record], condition=Condition.NEWER)

        answer = backend.put([attrs.evolve(record, body=b"second", rank=rank)], condition=Condition.NEWER)

        assert (first, answer) == ([True], [written])
        assert self.body(backend, record.key) == (b"second" if written else b"first")

    def test_compares_large_ranks_exactly(self, backend: Backend) -> None:
        """Ranks up to 2**53 - 1 are compared exactly."""
        record = self.record(rank=2**53 - 2)
        backend.put([record])

        answers = [
            backend.put([attrs.evolve(record, rank=rank)], condition=Condition.NEWER)
            for rank in (2**53 - 3, 2**53 - 2, 2**53 - 1)
        ]

        assert answers == [[False], [False], [True]]

    def test_answers_for_each_record_of_a_batch(self, backend: Backend) -> None:
        """Records of a batch are written or refused one by one; the answers have the same order."""
        old = self.record(rank=5)
        backend.put([old])
        batch = [self.record(), attrs.evolve(old, rank=3), self.record(), attrs.evolve(old, rank=7)]

        assert backend.put(batch, condition=Condition.NEWER) == [True, False, True, True]

    def test_lets_the_later_of_a_batch_see_the_earlier(self, backend: Backend) -> None:
        """If records of a batch have the same key, each is compared with the result of the previous one."""
        record = self.record()
        batch = [attrs.evolve(record, rank=rank, body=b"%d" % rank) for rank in (2, 1, 3, 3)]

        assert backend.put(batch, condition=Condition.NEWER) == [True, False, True, False]
        assert self.body(backend, record.key) == b"3"
        assert backend.put(batch, condition=Condition.ABSENT) == [False] * 4

    def test_raises_the_version_with_each_write(self, backend: Backend) -> None:
        """A version grows with each write of its key, even over a deletion: no version occurs twice."""
        record = self.record()
        versions = []
        for _ in range(3):
            backend.put([record])
            versions.append(backend.get([record.key])[record.key].version)
        backend.delete([record.key])
        backend.put([record])
        versions.append(backend.get([record.key])[record.key].version)

        assert versions == sorted(set(versions))

    def test_writes_what_is_expected(self, backend: Backend) -> None:
        """With ``expect``, a put replaces only that version; 0 means that there is no record."""
        record = self.record(body=b"first")
        absent = [backend.put([record], expect=7)]
        assert backend.get([record.key]) == {}, "a refused write left a record behind"
        absent += [backend.put([record], expect=0), backend.put([record], expect=0)]
        version = backend.get([record.key])[record.key].version
        second = attrs.evolve(record, body=b"second")

        answers = [
            backend.put([second], expect=version + 1),
            backend.put([second], expect=version),
            backend.put([second], expect=version),
        ]

        assert absent == [[False], [True], [False]]
        assert answers == [[False], [True], [False]]
        assert self.body(backend, record.key) == b"second"

    def test_deletes_what_is_expected(self, backend: Backend) -> None:
        """With ``expect``, a delete removes only that version: only its holder can release a lock."""
        record = self.record()
        backend.put([record])
        version = backend.get([record.key])[record.key].version

        answers = [backend.delete([record.key], expect=version + 1), backend.delete([record.key], expect=version)]

        assert answers == [0, 1]
        assert self.body(backend, record.key) is None

    @needs("same")
    def test_compares_each_record_with_its_own_version(self, backend: Backend) -> None:
        """``SAME`` replaces each record of a batch only if its version is the same; 0 means that there is no record."""
        present = [self.record(body=b"old") for _ in range(4)]
        backend.put(present)
        versions = {key: found.version for key, found in backend.get([one.key for one in present]).items()}
        right, stale, taken, other = (attrs.evolve(one, body=b"new") for one in present)
        absent, gone = self.record(body=b"new"), self.record(body=b"new")
        backend.put([attrs.evolve(other, body=b"moved")])
        batch = [
            attrs.evolve(right, version=versions[right.key]),
            attrs.evolve(stale, version=versions[stale.key] + 1),
            attrs.evolve(taken, version=0),
            attrs.evolve(absent, version=0),
            attrs.evolve(gone, version=versions[right.key]),
            attrs.evolve(other, version=versions[other.key]),
        ]

        answers = backend.put(batch, condition=Condition.SAME)

        assert answers == [True, False, False, True, False, False]
        bodies = [self.body(backend, one.key) for one in (right, stale, taken, absent, gone, other)]
        assert bodies == [b"new", b"old", b"old", b"new", None, b"moved"]
        again = backend.get([right.key])[right.key]
        assert again.version > versions[right.key]

    @needs("same")
    def test_writes_once_what_a_batch_names_twice(self, backend: Backend) -> None:
        """If two records of a batch have the same key and version, only the first is written; ``expect`` is ignored."""
        old, new = self.record(), self.record()
        backend.put([old])
        version = backend.get([old.key])[old.key].version
        batch = [attrs.evolve(old, body=body, version=version) for body in (b"1", b"2")]
        batch += [attrs.evolve(new, body=body, version=0) for body in (b"1", b"2")]

        answers = backend.put(batch, condition=Condition.SAME, expect=version + 1)

        assert answers == [True, False, True, False]
        assert [self.body(backend, one.key) for one in (old, new)] == [b"1", b"1"]

    @needs("same")
    def test_takes_an_expired_record_as_none(self, backend: Backend) -> None:
        """An expired record counts as absent: ``SAME`` refuses its version, and accepts 0."""
        record = self.record(ttl=self.short)
        backend.put([record])
        (found,) = backend.get([record.key]).values() or (None,)
        eventually(lambda: self.body(backend, record.key) is None, timeout=self.patience, what="the record is gone")
        version = found.version if found is not None else 1
        batch = [attrs.evolve(record, ttl=60.0, version=number) for number in (version, 0)]

        assert backend.put(batch, condition=Condition.SAME) == [False, True]

    @needs("same")
    def test_lets_one_of_many_write_over_the_same(self, backend: Backend) -> None:
        """If many clients put the same versions at the same moment, exactly one writes each record."""
        clients = [self.connect() for _ in range(6)]
        for _ in range(8):
            records = [self.record() for _ in range(3)]
            backend.put(records[:2])
            found = backend.get([one.key for one in records])
            batch = [attrs.evolve(one, version=found[one.key].version if one.key in found else 0) for one in records]

            answers = self.all_at_once([partial(one.put, batch, condition=Condition.SAME) for one in clients])

            assert [sum(column) for column in zip(*answers, strict=True)] == [1, 1, 1]

    @pytest.mark.parametrize("way", ["absent", "newer", "expect"])
    def test_lets_one_of_many_win(self, backend: Backend, way: str) -> None:
        """If many clients put under one condition at the same moment, exactly one writes."""
        clients = [self.connect() for _ in range(6)]
        for _ in range(8):
            key = self.new_key()
            records = [self.record(key=key, rank=1, body=b"%d" % index) for index in range(len(clients))]
            puts = [partial(client.put, [record]) for client, record in zip(clients, records, strict=True)]
            if way == "expect":
                puts = [partial(put, expect=0) for put in puts]
            else:
                puts = [partial(put, condition=Condition(way)) for put in puts]

            answers = self.all_at_once([*puts])

            winners = [index for index, answer in enumerate(answers) if answer == [True]]
            assert len(winners) == 1
            assert self.body(backend, key) == b"%d" % winners[0]

    # -- time ----------------------------------------------------------------------------------------------------

    def test_forgets_when_its_time_has_passed(self, backend: Backend) -> None:
        """A record lives until its ``ttl`` has passed; then it is absent for every method."""
        spans, other = self.lives(), self.record()
        while True:
            life = next(spans)
            record = self.record(ttl=life.seconds, final=True)
            backend.put([record, other])
            present = self.body(backend, record.key)
            if life.holds():
                break

        eventually(lambda: self.body(backend, record.key) is None, timeout=self.patience, what="the record is gone")

        assert present == record.body
        assert backend.wait([record.key], timeout=0) == {}
        assert backend.delete([record.key]) == 0
        assert self.body(backend, other.key) == other.body

    @pytest.mark.parametrize("way", ["absent", "newer", "expect"])
    def test_takes_an_expired_record_as_absent(self, backend: Backend, way: str) -> None:
        """The key of an expired record is free, whatever its rank was: so a lease can be taken over."""
        record = self.record(ttl=self.short, rank=9)
        backend.put([record])
        eventually(lambda: self.body(backend, record.key) is None, timeout=self.patience, what="the record is gone")
        successor = attrs.evolve(record, ttl=60.0, rank=1, body=b"successor")

        if way == "expect":
            answer = backend.put([successor], expect=0)
        else:
            answer = backend.put([successor], condition=Condition(way))

        assert answer == [True]
        assert self.body(backend, record.key) == b"successor"

    def test_tells_one_time_to_all(self, backend: Backend) -> None:
        """``now`` of all clients agrees within a second, and advances."""
        told = [client.now() for client in (backend, self.connect(), backend)]
        if told[0] is None:
            pytest.skip(f"{NOT_DECLARED}a clock")

        first, second, third = (moment or 0.0 for moment in told)

        assert first <= third
        assert abs(second - first) < 1.0 + (third - first)

    def test_keeps_what_has_no_end(self, backend: Backend) -> None:
        """Without ``ttl`` a record does not expire, and reads back as such; a later put without one removes a TTL."""
        record = self.record(ttl=None)
        ending = self.record(ttl=self.short)
        backend.put([record, ending])
        backend.put([attrs.evolve(ending, ttl=None)])
        self.let_pass(2 * self.short)

        got = backend.get([record.key, ending.key])

        assert {key: found.ttl for key, found in got.items()} == {record.key: None, ending.key: None}

    def test_counts_time_from_the_last_write(self, backend: Backend) -> None:
        """A write restarts the ``ttl``, as workers do for their presence. A refused write does not."""
        spans = self.lives()
        while True:
            life = next(spans)
            renewed, refused = (self.record(ttl=life.seconds, rank=1) for _ in range(2))
            backend.put([renewed, refused])
            answers = [
                backend.put([attrs.evolve(renewed, ttl=600.0)]),
                backend.put([attrs.evolve(refused, ttl=600.0)], condition=Condition.NEWER),
            ]
            if life.holds():
                break

        eventually(lambda: self.body(backend, refused.key) is None, timeout=self.patience, what="the record is gone")
        assert answers == [[True], [False]]
        assert self.body(backend, renewed.key) == renewed.body
