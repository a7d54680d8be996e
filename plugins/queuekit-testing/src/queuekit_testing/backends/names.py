"""Keys and names: different names are different records."""

from __future__ import annotations

from queuekit.backend import Backend
from queuekit_testing.backends.kit import BackendKit
from queuekit_testing.kit import needs

__all__ = ["NamesTests"]

ENDS = ("x", "X", "x ", " x", "x/", "x.", "\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}", "e")
"""Ends of keys that some stores confuse."""


class NamesTests(BackendKit):
    """A key is compared by its characters, and records and groups do not share keys."""

    def test_keeps_keys_apart_that_are_much_alike(self, backend: Backend) -> None:
        """Keys that differ only in case, in a space or in how a letter is composed are different."""
        start = self.new_key()
        keys = [f"{start}:{end}" for end in ENDS]
        self._keys += keys
        backend.put([self.record(key=key, body=key.encode()) for key in keys])

        got = backend.get(keys)

        assert {key: record.body for key, record in got.items()} == {key: key.encode() for key in keys}
        assert backend.delete(keys[:1]) == 1
        assert set(backend.get(keys)) == set(keys[1:])

    def test_takes_a_long_key_of_wide_characters(self, backend: Backend) -> None:
        """A key may have 250 characters, even of four bytes each."""
        start = self.new_key().ljust(249, "\N{GRINNING FACE}")
        one, other = start + "a", start + "b"
        self._keys += [one, other]
        backend.put([self.record(key=one)])

        assert set(backend.get([one, other])) == {one}

    @needs("atomic_join")
    def test_keeps_a_group_and_a_record_of_one_name_apart(self, backend: Backend) -> None:
        """A group is not a record: a record of the same name is read and deleted without it, and does not end it."""
        name = self.new_key("group")
        backend.join(name, 0, 3)
        before = backend.get([name])

        backend.put([self.record(key=name)])
        deleted = backend.delete([name, name])

        assert before == {}
        assert deleted == 1
        assert backend.join(name, 1, 3) == (True, 2)
        assert backend.get([name]) == {}

    @needs("atomic_join", "scan")
    def test_lists_no_groups(self, backend: Backend) -> None:
        """A scan returns records, but no groups."""
        name = self.new_key("group")
        backend.join(name, 0, 3)
        backend.join_many([self.arrival(f"{name}:1", 1)])

        assert backend.scan(name).items == ()
