"""Connections of a backend: reconnects, cost of waiting, leftovers; and whose clock counts."""

from __future__ import annotations

import time

import pytest

from queuekit.backend import Backend
from queuekit.errors import TooLargeError
from queuekit_testing.backends.kit import BackendKit
from queuekit_testing.brokers.connections import BUSY
from queuekit_testing.connections import Leftovers, a_day_ahead
from queuekit_testing.kit import eventually, in_thread

__all__ = ["BackendConnectionsTests"]

_MAX_BUILT = 64_000_000
"""Longest body that a test builds only to be refused."""


class BackendConnectionsTests(BackendKit):
    """A client reconnects by itself, sleeps while it waits, leaves nothing behind, and trusts the server's clock."""

    def test_works_on_after_its_connections_are_cut(self, backend: Backend) -> None:
        """A client whose connections are cut opens new ones; a call may fail once, and nothing is lost."""
        first, second = self.record(), self.record(final=True)
        backend.put([first])
        self.cut()
        self.insist(lambda: backend.put([second]))
        self.cut()

        found = self.insist(lambda: backend.get([first.key, second.key]))

        assert set(found) == {first.key, second.key}
        self.cut()
        assert set(self.insist(lambda: backend.wait([second.key], timeout=1.0))) == {second.key}

    def test_waits_on_after_its_connections_are_cut(self, backend: Backend) -> None:
        """A ``wait`` whose connection is cut continues or raises; called again, it returns a record put later."""
        client, record = self.connect(), self.record(final=True)
        client.get([record.key])
        waiting = in_thread(lambda: self.insist(lambda: client.wait([record.key], timeout=self.patience)))
        self.let_pass(0.05)
        self.cut()

        self.insist(lambda: backend.put([record]))

        got = self.result(waiting, "a wait survives the loss of its connection")
        assert list(got) == [record.key]

    def test_works_while_one_of_its_threads_waits(self, backend: Backend) -> None:
        """All threads can share a client: while one waits for a result, others read and write."""
        other, last = self.record(), self.record(final=True)
        waiting = in_thread(lambda: backend.wait([last.key], timeout=self.long))
        self.let_pass(0.05)

        def work() -> tuple[object, ...]:
            return backend.put([other]), set(backend.get([other.key])), backend.put([last])

        done = self.result(in_thread(work), "a client works while one of its threads waits")
        assert done == ([True], {other.key}, [True])
        found = self.result(waiting, "a put ends the wait")
        assert list(found) == [last.key]

    def test_leaves_nothing_behind(self, backend: Backend) -> None:
        """Clients that were used and closed leave neither threads nor open files, except shared ones made once."""
        assert Leftovers.of(self.use_and_close, timeout=min(5.0, self.PATIENCE)) == []

    def use_and_close(self) -> None:
        """Use a client in two threads, and close it."""
        client, record = self.make_backend(), self.record(final=True)
        client.put([record])
        waiting = in_thread(lambda: client.wait([record.key], timeout=self.patience))
        assert self.result(waiting, "wait returns the record")
        client.close()

    def test_sleeps_while_it_waits(self, backend: Backend) -> None:
        """A ``wait`` uses almost no CPU while no record arrives."""
        key = self.new_key()
        backend.wait([key], timeout=0)
        seconds = 0.5
        cpu = time.process_time()

        found = backend.wait([key], timeout=seconds)

        spent = time.process_time() - cpu
        assert found == {}
        assert spent < BUSY * seconds, f"used {spent:.2f} s of CPU in a wait of {seconds:g} s"

    def test_refuses_a_body_above_the_limit(self, backend: Backend) -> None:
        """A body one byte above ``limits.max_record`` raises TooLargeError, and nothing of the batch is written."""
        if backend.limits.max_record >= _MAX_BUILT:
            pytest.skip(f"limits.max_record is above {_MAX_BUILT:,} bytes, too large for a test")
        good, bad = self.record(), self.record(body=bytes(backend.limits.max_record + 1))

        with pytest.raises(TooLargeError):
            backend.put([good, bad])

        assert backend.get([good.key, bad.key]) == {}

    def test_heeds_no_clock_of_a_client(self, backend: Backend) -> None:
        """A client whose clock is a day ahead reads live records, and its own expire at the right time (QK11)."""
        if not self.CLOCK_OF_ITS_OWN:
            pytest.skip("CLOCK_OF_ITS_OWN is False: only the clients have a clock")
        living, mine, ending = self.record(), self.record(), self.record(ttl=self.short)
        backend.put([living])

        with a_day_ahead():
            client = self.connect()
            client.put([mine, ending])
            found = set(client.get([living.key, mine.key]))

        assert found == {living.key, mine.key}
        assert set(backend.get([living.key, mine.key])) == found
        eventually(lambda: self.body(backend, ending.key) is None, timeout=self.patience, what="the record is gone")
