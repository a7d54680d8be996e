"""The suite for serializers."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import pytest

from queuekit.errors import DecodeError, EncodeError
from queuekit.ids import is_name
from queuekit.serializer import Serializer, type_name
from queuekit_testing.kit import Conformance, need_hypothesis
from queuekit_testing.marks import KEPT
from queuekit_testing.values import PLAIN, TYPED, Colour, Figure, Point, anything_plain, anything_typed, is_same

__all__ = ["SerializerConformance"]

_EXAMPLES = 150
"""Values that Hypothesis generates for each of its tests."""
_KNOWN: dict[str, type] = {type_name(kind): kind for kind in (Colour, Point, Figure)}

HOSTILE = {
    "empty": b"",
    "nul": b"\0",
    "half-a-string": b'"abc',
    "half-an-object": b'{"a": [1, 2',
    "trailing": b"1 2",
    "invalid-utf-8": b'"\xff\xfe"',
    "lone-surrogate": b'"\\ud800"',
    "not-a-number": b"NaN",
    "many-digits": b"9" * 100_000,
    "unknown-tag": b'{"$nothing": 1}',
    "tag-of-wrong-type": b'{"$date": {"$date": []}}',
    "class-by-name": b'{"$object": ["os.system", {"command": "true"}]}',
    "class-of-wrong-shape": b'{"$object": 7}',
    "enum-by-name": b'{"$enum": ["builtins.eval", "1"]}',
    "unhashable": b'{"$set": [[1], {}]}',
    "pickle": b"\x80\x04\x95\x15\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "byte-order-mark": b"\xef\xbb\xbf{}",
    "every-byte": bytes(range(256)),
}
BOMBS = {
    "json-lists": b"[" * 200_000,
    "json-objects": b'{"a":' * 200_000,
    "json-closed": b"[" * 5_000 + b"]" * 5_000,
    "json-tags": b'{"$tuple":[' * 50_000,
    "msgpack-lists": b"\x91" * 200_000,
    "cbor-lists": b"\x81" * 200_000,
}


class SerializerConformance(Conformance):
    """What every serializer must do.

    Subclass it and define how to make one::

        class TestJson(SerializerConformance):
            KEEPS = ("tuple", "date")                      # what it promises beyond plain data; or "*" for all

            def make_serializer(self, types):
                return JsonSerializer(types)

    *types* returns a class by its registered name, as an app does.
    """

    KEEPS: ClassVar[Iterable[str]] = ()
    """Names from ``queuekit_testing.values.TYPED`` whose values must come back unchanged. The others may be refused
    with EncodeError, but not changed. The closing lines name those that come back anyway."""
    SAMPLES: ClassVar[Mapping[str, bytes]] = {}
    """More hostile bytes, for your own format: name -> bytes that must be read or raise DecodeError."""

    _told: list[tuple[str, object]] | None = None
    """Properties of the test's report."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._refuse_unknown("KEEPS", "value", ["*", *TYPED])

    def make_serializer(self, types: Callable[[str], type | None]) -> Serializer:
        """Return the serializer. Override this."""
        raise NotImplementedError(f"{type(self).__name__} needs def make_serializer(self, types): return ...")

    @pytest.fixture
    def serializer(self) -> Serializer:
        """Return a serializer that knows the classes of the test."""
        return self.make_serializer(_KNOWN.get)

    @pytest.fixture
    def safe(self, serializer: Serializer) -> Serializer:
        """Return a serializer that can be tested with hostile bytes."""
        if not serializer.safe:
            pytest.skip("safe is False: reading hostile bytes may execute them")
        return serializer

    @pytest.fixture(autouse=True)
    def _tell_what_is_kept(self, request: pytest.FixtureRequest) -> None:
        """Let a test add to its report which values came back although ``KEEPS`` does not name them."""
        self._told = request.node.user_properties

    # -- what it says --------------------------------------------------------------------------------------------

    def test_has_a_content_type(self, serializer: Serializer) -> None:
        """``content_type`` is a short name that is valid on the wire."""
        assert is_name(serializer.content_type)
        assert len(serializer.content_type) <= 30

    def test_says_whether_it_is_safe(self, serializer: Serializer) -> None:
        """``safe`` is a bool: it decides whether a worker reads this format at all."""
        assert type(serializer.safe) is bool

    def test_fits_the_protocol(self, serializer: Serializer) -> None:
        """It has the attributes and methods that core uses."""
        assert isinstance(serializer, Serializer)

    # -- what comes back -----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", PLAIN)
    def test_brings_plain_data_back(self, serializer: Serializer, name: str) -> None:
        """Plain data comes back unchanged, with the same types."""
        data = serializer.dumps(PLAIN[name])

        assert type(data) is bytes
        assert is_same(serializer.loads(data), PLAIN[name])

    @pytest.mark.parametrize("name", TYPED)
    def test_changes_nothing(self, serializer: Serializer, name: str) -> None:
        """Other values come back unchanged or are refused at once; those in ``KEEPS`` come back."""
        value = TYPED[name]
        try:
            data = serializer.dumps(value)
        except EncodeError:
            assert name not in self.KEEPS, f"KEEPS names {name!r}, but dumps refuses it"
            assert "*" not in self.KEEPS, f"KEEPS names all values, but dumps refuses {name!r}"
            return

        assert is_same(serializer.loads(data), value)
        if self._told is not None and not {name, "*"}.intersection(self.KEEPS):
            self._told.append((KEPT, name))

    def test_brings_any_plain_data_back(self, serializer: Serializer) -> None:
        """Any plain data that Hypothesis generates comes back."""
        hypothesis = need_hypothesis()

        def check(value: Any) -> None:
            assert is_same(serializer.loads(serializer.dumps(value)), value)

        _try_many(hypothesis, anything_plain(), check)

    def test_changes_nothing_whatever_it_is(self, serializer: Serializer) -> None:
        """Any value that Hypothesis generates comes back or is refused."""
        hypothesis = need_hypothesis()

        def check(value: Any) -> None:
            try:
                data = serializer.dumps(value)
            except EncodeError:
                return
            assert is_same(serializer.loads(data), value)

        _try_many(hypothesis, anything_typed(), check)

    def test_is_used_by_many_threads(self, serializer: Serializer) -> None:
        """All threads of a worker can use one serializer."""
        values = list(PLAIN.values())

        results = self.all_at_once([lambda: [serializer.loads(serializer.dumps(each)) for each in values]] * 4)

        assert all(is_same(result, values) for result in results)

    # -- what is refused -----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("value", [threading.Lock(), lambda: None, random], ids=["lock", "lambda", "module"])
    def test_refuses_what_it_cannot_write(self, serializer: Serializer, value: object) -> None:
        """A value that cannot be serialized raises EncodeError and nothing else, at any depth."""
        for place in (value, [1, value], {"a": {"b": [value]}}):
            with pytest.raises(EncodeError):
                serializer.dumps(place)

    def test_says_where_it_cannot_write(self, serializer: Serializer) -> None:
        """The error names the path in the value: keys and indexes."""
        with pytest.raises(EncodeError) as caught:
            serializer.dumps({"orders": [{"total": 1}, {"customer": threading.Lock()}]})

        found = str(caught.value)
        assert re.search(r"orders.*1.*customer", found), f"the error has no path like orders[1].customer: {found}"

    def test_refuses_a_cycle(self, serializer: Serializer) -> None:
        """A list that contains itself raises EncodeError, unless the format supports cycles."""
        loop: list[Any] = []
        loop.append(loop)
        try:
            data = serializer.dumps(loop)
        except EncodeError:
            return

        back = serializer.loads(data)
        assert back[0] is back

    @pytest.mark.parametrize("depth", [1_000, 100_000])
    def test_survives_a_deep_value(self, serializer: Serializer, depth: int) -> None:
        """A value nested too deeply raises EncodeError, not RecursionError, and does not crash the interpreter."""
        value: list[Any] = []
        for _ in range(depth):
            value = [value]
        try:
            data = serializer.dumps(value)
        except EncodeError:
            return

        assert isinstance(serializer.loads(data), list)

    # -- hostile bytes -------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", HOSTILE)
    def test_survives_hostile_bytes(self, safe: Serializer, name: str) -> None:
        """Hostile bytes are read or raise DecodeError. No other error is raised, and no class is loaded by its name."""
        self.read_or_refuse(safe, HOSTILE[name])

    def test_survives_its_own_samples(self, safe: Serializer) -> None:
        """The same holds for the bytes in ``SAMPLES``."""
        for data in self.SAMPLES.values():
            self.read_or_refuse(safe, data)

    @pytest.mark.parametrize("name", BOMBS)
    def test_survives_a_depth_bomb(self, safe: Serializer, name: str) -> None:
        """Deeply nested bytes are read or raise DecodeError; they neither raise RecursionError nor crash."""
        self.read_or_refuse(safe, BOMBS[name])

    def test_survives_damaged_bytes(self, safe: Serializer) -> None:
        """Its own bytes, truncated or with one byte changed, are read as some value or raise DecodeError."""
        chance = random.Random(5)  # noqa: S311 - any damage will do
        whole = [safe.dumps(value) for value in (PLAIN["dict"], PLAIN["list"], PLAIN["call"], PLAIN["dollar-keys"])]
        for data in whole:
            for cut in range(len(data)):
                self.read_or_refuse(safe, data[:cut])
            for _ in range(300):
                damaged = bytearray(data)
                damaged[chance.randrange(len(data))] = chance.randrange(256)
                self.read_or_refuse(safe, bytes(damaged))

    def test_survives_any_bytes(self, safe: Serializer) -> None:
        """Any bytes that Hypothesis generates are read or raise DecodeError."""
        hypothesis = need_hypothesis()
        from hypothesis import strategies as st

        _try_many(hypothesis, st.binary(max_size=200), lambda data: self.read_or_refuse(safe, data))

    def read_or_refuse(self, serializer: Serializer, data: bytes) -> None:
        """Read *data*; accept DecodeError, and fail if the value can be called or the error quotes the payload."""
        try:
            value = serializer.loads(data)
        except DecodeError as error:
            said = str(error)
            assert len(said) < 1_000, "the error quotes the payload; name only what is wrong with it"
            return
        assert not callable(value)


def _try_many(hypothesis: Any, strategy: Any, check: Callable[[Any], None]) -> None:
    """Run *check* on many values of *strategy*."""
    settings = hypothesis.settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],  # a busy machine is not the serializer's fault
    )
    settings(hypothesis.given(strategy)(check))()
