"""Waiting for records, scanning them, and joins."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection

import attrs
import pytest

from queuekit.backend import Backend, Condition, Record
from queuekit_testing.backends.kit import BackendKit
from queuekit_testing.kit import eventually, in_thread, needs
from queuekit_testing.processes import Child, run_in_fork

__all__ = ["GroupsTests"]


def _put_when_told(pipe: Connection, make: Callable[[], Backend], record: Record) -> None:
    """Put a record, in a child process, when the parent says so."""
    backend = make()
    pipe.send("started")
    pipe.recv()
    backend.put([record])


class GroupsTests(BackendKit):
    """``wait``, ``scan`` and ``join``, on which results, listings and workflows are built."""

    # -- wait ----------------------------------------------------------------------------------------------------

    def test_does_not_wait_for_what_is_final(self, backend: Backend) -> None:
        """``wait`` returns the final records that exist at once, without waiting for the others."""
        final, open_ = self.record(final=True), self.record()
        backend.put([final, open_])

        waiting = in_thread(lambda: backend.wait([open_.key, final.key, self.new_key()], timeout=self.long))

        got = self.result(waiting, "wait returns at once")
        assert {key: record.body for key, record in got.items()} == {final.key: final.body}

    def test_ends_a_wait_with_nothing(self, backend: Backend) -> None:
        """``wait`` returns an empty dict if its timeout passes without a final record."""
        record = self.record()
        backend.put([record])

        waiting = in_thread(lambda: backend.wait([record.key], timeout=self.short))

        assert self.result(waiting, "wait ends") == {}
        assert backend.wait([record.key], timeout=0) == {}

    def test_ends_a_wait_when_the_record_is_put(self, backend: Backend) -> None:
        """``wait`` returns a final record that another client puts meanwhile; other records do not end it."""
        client = self.connect()
        record = self.record(final=True, body=b"result")
        waiting = in_thread(lambda: client.wait([self.new_key(), record.key], timeout=self.long))
        self.let_pass(0.05)
        backend.put([self.record(key=record.key), self.record(final=True)])
        self.let_pass(0.05)
        early = waiting.done()

        backend.put([record])

        got = self.result(waiting, "a put ends the wait")
        assert not early
        assert {key: found.body for key, found in got.items()} == {record.key: b"result"}

    @needs("notify")
    def test_wakes_all_who_wait(self, backend: Backend) -> None:
        """One put wakes every client that waits for the key."""
        record = self.record(final=True)
        waiting = [in_thread(partial(self.connect().wait, [record.key], timeout=self.long)) for _ in range(5)]
        self.let_pass(0.05)

        backend.put([record])

        found = [self.result(each, "a put wakes all") for each in waiting]
        assert [list(each) for each in found] == [[record.key]] * 5

    # -- scan ----------------------------------------------------------------------------------------------------

    def pages(self, backend: Backend, prefix: str, *, limit: int) -> list[list[str]]:
        """Return the keys of each page of a scan."""
        pages: list[list[str]] = []
        cursor: str | None = None
        for _ in range(200):
            page = backend.scan(prefix, limit=limit, cursor=cursor)
            pages.append([record.key for record in page.items])
            cursor = page.cursor
            if cursor is None:
                return pages
        pytest.fail("a scan of a few records has more than 200 pages")

    @needs("scan")
    @pytest.mark.parametrize("limit", [1, 4, 5, 100])
    def test_scans_all_of_a_prefix(self, backend: Backend, limit: int) -> None:
        """The pages of a scan hold at most *limit* records, and together exactly the records of the prefix."""
        prefix = self.new_key("scan")
        keys = [f"{prefix}:{index}" for index in range(10)]
        self._keys += keys
        backend.put([self.record(key=key) for key in (*keys, f"{prefix[:-1]}-", self.new_key("scan"))])

        pages = self.pages(backend, f"{prefix}:", limit=limit)

        assert max(len(page) for page in pages) <= limit
        assert {key for page in pages for key in page} == set(keys)

    @needs("scan")
    @pytest.mark.parametrize("odd", ["%", "_", "*", "?", "[a]", "\\", ".", "'", "\N{SNOWMAN}"])
    def test_takes_a_prefix_literally(self, backend: Backend, odd: str) -> None:
        """No character of a prefix is a wildcard."""
        start = self.new_key("scan")
        match, others = f"{start}{odd}x", [f"{start}bx", f"{start}x", f"{start}aax"]
        self._keys += [match, *others]
        backend.put([self.record(key=key) for key in (match, *others)])

        assert self.pages(backend, f"{start}{odd}", limit=10) == [[match]]

    @needs("scan")
    def test_scans_whole_live_records(self, backend: Backend) -> None:
        """A scan returns the same records as ``get``, without expired and deleted ones."""
        prefix = self.new_key("scan")
        live, deleted, expired = (
            self.record(key=f"{prefix}:{name}", body=b"\0live", ttl=ttl, rank=3, final=True, state="SUCCESS")
            for name, ttl in (("live", 600.0), ("deleted", 600.0), ("expired", self.short))
        )
        self._keys += [live.key, deleted.key, expired.key]
        backend.put([live, deleted, expired])
        backend.delete([deleted.key])
        eventually(lambda: self.body(backend, expired.key) is None, timeout=self.patience, what="the record is gone")

        (got,) = backend.scan(prefix).items

        assert (got.key, got.body, got.rank, got.final, got.state) == (live.key, b"\0live", 3, True, "SUCCESS")
        assert got.version == backend.get([live.key])[live.key].version

    @needs("scan")
    def test_scans_an_unknown_prefix(self, backend: Backend) -> None:
        """A scan of a prefix without records is one empty page."""
        page = backend.scan(self.new_key("scan"))

        assert (page.items, page.cursor) == ((), None)

    @needs("scan")
    def test_scans_past_what_is_deleted_meanwhile(self, backend: Backend) -> None:
        """A scan continues even if the record at its cursor is gone, and returns every record that lives throughout."""
        prefix = self.new_key("scan")
        keys = [f"{prefix}:{index}" for index in range(8)]
        self._keys += keys
        backend.put([self.record(key=key) for key in keys])
        first = backend.scan(prefix, limit=3)
        returned = [record.key for record in first.items]
        backend.delete(returned)

        cursor = first.cursor
        while cursor is not None:
            page = backend.scan(prefix, limit=3, cursor=cursor)
            returned += [record.key for record in page.items]
            cursor = page.cursor

        assert set(returned) == set(keys)

    # -- join ----------------------------------------------------------------------------------------------------

    @needs("atomic_join")
    def test_counts_each_member_once(self, backend: Backend) -> None:
        """``join`` returns whether the member is new and the number of members; a repeated member changes nothing."""
        group = self.new_key("group")

        answers = [backend.join(group, member, 3) for member in (2, 0, 2, 0, 1, 1)]

        assert answers == [(True, 1), (True, 2), (False, 2), (False, 2), (True, 3), (False, 3)]

    @needs("atomic_join")
    def test_keeps_groups_apart(self, backend: Backend) -> None:
        """Groups are separate, even if the name of one is a prefix of the other's."""
        group = self.new_key("group")
        backend.join(group, 0, 2)

        assert backend.join(f"{group}:1", 0, 2) == (True, 1)
        assert backend.join(group[:-1], 0, 2) == (True, 1)
        assert backend.join(group, 1, 2) == (True, 2)

    @needs("atomic_join")
    def test_joins_many_members(self, backend: Backend) -> None:
        """A group may have hundreds of members, with any index."""
        group, size = self.new_key("group"), 300

        answers = [backend.join(group, member, size) for member in reversed(range(size))]

        assert answers == [(True, count) for count in range(1, size + 1)]

    @needs("atomic_join")
    def test_counts_members_that_come_at_once(self, backend: Backend) -> None:
        """Members that arrive at the same moment, each twice, are counted once; one call sees the group complete."""
        clients = [self.connect() for _ in range(6)]
        for _ in range(5):
            group = self.new_key("group")
            joins = [partial(client.join, group, member % 3, 3) for member, client in enumerate(clients)]

            answers = self.all_at_once([*joins])

            assert sum(first_time for first_time, _ in answers) == 3
            assert max(count for _, count in answers) == 3

    @needs("atomic_join")
    def test_joins_a_batch(self, backend: Backend) -> None:
        """``join_many`` counts each member of each group once, including those that came before."""
        first, second = self.new_key("group"), self.new_key("group")
        backend.join(first, 0, 4)

        counts = backend.join_many([self.arrival(first, 1), self.arrival(second, 0), self.arrival(first, 2)])
        again = backend.join_many([self.arrival(first, 0), self.arrival(first, 1), self.arrival(first, 1)])
        last = backend.join_many([self.arrival(first, 2), self.arrival(first, 3), self.arrival(second, 1)])

        assert (counts[1], max(counts[0], counts[2])) == (1, 3)
        assert again == [3, 3, 3]
        assert (last[1], last[2]) == (4, 2)
        assert backend.join(first, 0, 4) == (False, 4)
        assert backend.join_many([]) == []

    @needs("atomic_join")
    def test_joins_a_large_group_in_batches(self, backend: Backend) -> None:
        """A group of thousands is counted correctly, in batches and in any order."""
        group, size = self.new_key("group"), 5_000
        members = [self.arrival(group, member, size=size) for member in reversed(range(size))]

        counts = [max(backend.join_many(members[start : start + 1_000])) for start in range(0, size, 1_000)]

        assert counts == [1_000, 2_000, 3_000, 4_000, 5_000]
        assert backend.join(group, 7, size) == (False, size)

    @needs("atomic_join")
    def test_counts_batches_that_come_at_once(self, backend: Backend) -> None:
        """Overlapping batches at the same moment are counted correctly; one call sees the group complete."""
        clients = [self.connect() for _ in range(4)]
        for _ in range(5):
            group = self.new_key("group")
            batches = [[self.arrival(group, (2 * at + step) % 8, size=8) for step in range(4)] for at in range(4)]
            joins = [partial(client.join_many, batch) for client, batch in zip(clients, batches, strict=True)]

            answers = self.all_at_once([*joins])

            assert max(count for counts in answers for count in counts) == 8
            assert backend.join(group, 0, 8) == (False, 8)

    @needs("atomic_join")
    def test_forgets_a_group_joined_in_a_batch(self, backend: Backend) -> None:
        """An expired group also starts anew with a batch."""
        group = self.new_key("group")
        backend.join_many([self.arrival(group, member, ttl=self.short) for member in (0, 1)])
        self.let_pass(2 * self.short)

        assert backend.join_many([self.arrival(group, 1), self.arrival(group, 2)])[-1] == 2

    @needs("atomic_join")
    def test_forgets_a_group_when_its_time_has_passed(self, backend: Backend) -> None:
        """A group expires its ``ttl`` after the last arrival, and then starts anew."""
        spans, group = self.lives(), self.new_key("group")
        backend.join(group, 0, 3, ttl=self.short)
        while True:
            life, kept = next(spans), self.new_key("group")
            backend.join(kept, 0, 3, ttl=life.seconds)
            backend.join(kept, 1, 3, ttl=600.0)
            if life.holds():
                break
        self.let_pass(max(2 * self.short, life.rest))

        assert backend.join(group, 1, 3) == (True, 1)
        assert backend.join(kept, 2, 3) == (True, 3)

    # -- processes -----------------------------------------------------------------------------------------------

    @needs("processes")
    def test_ends_a_wait_from_another_process(self, backend: Backend) -> None:
        """``wait`` returns a record that another process puts meanwhile."""
        record = self.record(final=True)
        child = Child(_put_when_told, self.make_backend, record)
        try:
            assert child.hear() == "started"
            waiting = in_thread(lambda: backend.wait([record.key], timeout=self.long))
            self.let_pass(0.05)
            child.pipe.send("put")

            got = self.result(waiting, "a put in another process ends the wait")
        finally:
            child.end()

        assert list(got) == [record.key]

    @needs("processes")
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_survives_a_fork(self, backend: Backend) -> None:
        """A client that was used still works in a forked child and in the parent."""
        first, second = self.record(), self.record()
        backend.put([first])

        def in_child() -> None:
            assert self.body(backend, first.key) == first.body
            backend.put([second])
            backend.close()

        assert run_in_fork(in_child, timeout=self.hangs) == 0
        assert set(backend.get([first.key, second.key])) == {first.key, second.key}

    @needs("processes")
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    @pytest.mark.parametrize("way", ["absent", "newer", "expect"])
    def test_is_not_taken_for_its_fork(self, backend: Backend, way: str) -> None:
        """A client does not mistake a write of its fork for its own: only one of the two gets a lock."""
        backend.put([self.record()])
        mine, theirs = self.record(rank=1, body=b"mine"), self.record(rank=1, body=b"theirs")
        theirs = attrs.evolve(theirs, key=mine.key)
        condition = Condition.ALWAYS if way == "expect" else Condition(way)
        put = partial(backend.put, condition=condition, expect=0 if way == "expect" else None)

        def in_child() -> None:
            assert put([theirs]) == [True]

        assert run_in_fork(in_child, timeout=self.hangs) == 0
        assert put([mine]) == [False]
        assert self.body(backend, mine.key) == b"theirs"
