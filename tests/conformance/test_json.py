"""The serializers of core against the suite, imported as anybody's plugin would import it."""

from collections.abc import Callable

from queuekit.serializer import JsonSerializer, PickleSerializer, Serializer
from queuekit.testing import SerializerConformance

pytest_plugins = ["queuekit.testing"]


class TestJsonSerializer(SerializerConformance):
    """JSON that keeps types."""

    KEEPS = ("*",)

    def make_serializer(self, types: Callable[[str], type | None]) -> Serializer:
        """Return one that knows the classes of the suite."""
        return JsonSerializer(types)


class TestPickleSerializer(SerializerConformance):
    """Pickle, which a config must allow by name."""

    KEEPS = ("*",)

    def make_serializer(self, types: Callable[[str], type | None]) -> Serializer:
        """Return it; it finds classes by importing them."""
        return PickleSerializer()
