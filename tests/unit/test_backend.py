"""What a backend need not bring along is done with what it has."""

from collections.abc import Sequence

import attrs
import pytest

from queuekit.backend import BackendCapabilities, Condition, Record
from queuekit.engines.memory import MemoryBackend
from queuekit.urls import EngineURL
from queuekit_testing.kit import unique_name


class Counted(MemoryBackend):
    """A backend that counts its round trips, and knows ``SAME``."""

    trips = 0

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        """Write, and count."""
        self.trips += 1
        return super().put(records, condition=condition, expect=expect)


class Old(Counted):
    """One of before ``SAME``."""

    capabilities = BackendCapabilities(notify=True)

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        """Write, but under no condition that it cannot know."""
        assert condition is not Condition.SAME
        return super().put(records, condition=condition, expect=expect)


@pytest.mark.parametrize(("kind", "trips"), [(Old, 3), (Counted, 1)], ids=["not-declared", "declared"])
def test_puts_what_is_the_same(kind: type[Counted], trips: int) -> None:
    """In one round trip where the backend can; else one for each record, under conditions that any backend knows."""
    backend = kind(EngineURL.parse(f"memory://{unique_name('same')}"))
    backend.put([Record(key="a", body=b"old"), Record(key="b", body=b"old")])
    versions = {key: found.version for key, found in backend.get(["a", "b"]).items()}
    backend.trips = 0
    batch = [Record(key=key, body=b"new", version=versions.get(key, 0)) for key in ("a", "b", "c")]
    batch[1] = attrs.evolve(batch[1], version=versions["b"] + 1)

    written = backend.put_same(batch)

    assert (written, backend.trips) == ([True, False, True], trips)
    bodies = [found.body for _, found in sorted(backend.get(["a", "b", "c"]).items())]
    assert bodies == [b"new", b"old", b"new"]
