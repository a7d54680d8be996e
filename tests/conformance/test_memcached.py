"""``memcache://`` against the suite, on one server and on several."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from queuekit.backend import Backend
from queuekit.testing import BackendConformance
from queuekit.urls import EngineURL
from support.memcached import Memcached, MemcachedBackend, MemcachedOptions, shared, version
from support.waiting import UNHURRIED

pytest_plugins = ["queuekit.testing"]
WAITING = (
    "test_counts_time_from_the_last_write",
    "test_does_not_prolong_what_it_refuses",
    "test_forgets_a_group_joined_in_a_batch",
    "test_forgets_a_group_when_its_time_has_passed",
    "test_forgets_when_its_time_has_passed",
    "test_heeds_no_clock_of_a_client",
    "test_keeps_what_has_no_end",
    "test_takes_an_expired_record_as_absent",
    "test_takes_an_expired_record_as_none",
    "test_tells_what_is_left_of_a_life",
)
"""Tests that wait for Memcached to drop what has expired, for seconds each."""


class OnMemcached(BackendConformance):
    """Clients of one server."""

    OPTIONS = MemcachedOptions(timeout=UNHURRIED, connect_timeout=UNHURRIED)

    @property
    def short(self) -> float:
        """Seconds of a life that is meant to end: the server is busy, but not so busy that it misses a second."""
        return 3.0

    @pytest.fixture
    def server(self) -> None:
        """Start the server, once for all tests."""
        self.url = shared().url

    def against(self) -> Mapping[str, str]:
        """Return the version of the server."""
        return {"Memcached": version()}

    def make_backend(self) -> Backend:
        """Return one more client of the server."""
        return MemcachedBackend(EngineURL.parse(self.url), options=self.OPTIONS)


class TestMemcached(OnMemcached):
    """Records on one server, but for most of the tests that wait for an end: those are in the full run."""


for name in WAITING:
    setattr(TestMemcached, name, None)  # so pytest does not take it for a test


@pytest.mark.full
class TestMemcachedInTime(OnMemcached):
    """All of that, and the ends."""


@pytest.mark.full
class TestSeveralMemcached(OnMemcached):
    """Records on three servers."""

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[None]:
        """Start the servers, anew for each test."""
        folders = [tmp_path / str(number) for number in range(3)]
        for folder in folders:
            folder.mkdir()
        servers = [Memcached(folder) for folder in folders]
        try:
            hosts = ",".join(f"127.0.0.1:{server.start().port}" for server in servers)
            self.url = f"memcache://{hosts}"
            yield
        finally:
            for server in servers:
                server.stop()
